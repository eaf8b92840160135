"""On a terminal of 80 columns, without colour and in a pipe: help, lists, errors; and what a shell completes."""

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import pytest

import ducseg
from ducseg.cli import COMMANDS, main
from ducseg.cli.ablate import _fitted
from ducseg.experiments import EXPERIMENTS

_SOURCE = str(Path(ducseg.__file__).parents[1])
PAGES = [(), ("score",), ("data",), *(tuple(name.split()) for name in COMMANDS), ("train", "camvid-resnet18-duc")]


def printed(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    try:
        main(arguments)
    except SystemExit as ended:
        assert ended.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [80, 60])
def test_help_is_no_wider_than_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for page in PAGES if columns == 80 else [(), ("score",), ("data",)]:
        text = printed([*page, "--help"], capsys)
        assert text and max(map(len, text.splitlines())) <= columns, page
    assert max(map(len, printed(["experiments"], capsys).splitlines())) <= columns


def on_a_terminal(*arguments: str, **environment: str) -> tuple[int, str]:
    """Exit status and what a terminal of 80 columns shows."""
    ours, theirs = pty.openpty()
    given = {"PATH": os.environ["PATH"], "PYTHONPATH": _SOURCE, "COLUMNS": "80", **environment}
    command = [sys.executable, "-m", "ducseg", *arguments]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=given) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:  # the other end is closed
            pass
        os.close(ours)
    return process.returncode, shown.decode().replace("\r\n", "\n")


def test_an_error_is_folded_on_a_terminal_and_one_line_in_a_pipe() -> None:
    arguments = ("train", "camvid-resnet18-du")
    status, shown = on_a_terminal(*arguments, TERM="xterm")
    assert status == 2 and shown.count("\n") > 3
    assert max(map(len, shown.splitlines())) <= 80
    pipe = subprocess.run(
        [sys.executable, "-m", "ducseg", *arguments], capture_output=True, text=True, env={"PYTHONPATH": _SOURCE}
    )
    assert pipe.stderr.count("\n") == 1 and pipe.stderr.split() == shown.split()


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TERM": "xterm-256color", "NO_COLOR": "1"}])
def test_without_colour_no_escape_is_written(environment: dict[str, str]) -> None:
    status, shown = on_a_terminal("eval", "--help", **environment)
    assert status == 0 and "CHECKPOINT" in shown and "\x1b" not in shown


@pytest.fixture(scope="module", params=["bash", "zsh"])
def script(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    shell = shutil.which(request.param)
    if shell is None:
        pytest.skip(f"no {request.param} here")
    file: Path = tmp_path_factory.mktemp("completion") / "ducseg"
    with file.open("w") as written, redirect_stdout(written):
        assert main(["completion", request.param]) == 0
    return shell, file


def completed(script: tuple[str, Path], *words: str) -> set[str]:
    """What the last of the words may become."""
    shell, file = script
    first = "autoload -U compinit && compinit -u -D; emulate ksh;" if shell.endswith("zsh") else ""
    given = " ".join(f"'{word}'" for word in words)
    code = f"{first} source {file}; COMP_WORDS=({given}); COMP_CWORD={len(words) - 1}; _ducseg; echo ${{COMPREPLY[@]}}"
    run = subprocess.run(
        [shell, "-f" if first else "--norc", "-c", code], capture_output=True, text=True, cwd=file.parent
    )
    assert run.returncode == 0 and not run.stderr, run.stderr
    return set(run.stdout.split())


def test_a_shell_completes_commands_and_options(script: tuple[str, Path]) -> None:
    assert completed(script, "ducseg", "") == {*(name.split()[0] for name in COMMANDS), "--help", "--version"}
    assert completed(script, "ducseg", "score", "") == {"cityscapes", "kitti-road", "voc2012", "folder"}
    assert completed(script, "ducseg", "score", "cityscapes", "--p") == {"--pred"}
    assert completed(script, "ducseg", "eval", "RUN", "--t") == {"--thin", "--tolerances"}
    assert completed(script, "ducseg", "train", "camvid-resnet18-duc", "--data.r") == {"--data.root"}
    assert completed(script, "ducseg", "train", "kitti") == {name for name in EXPERIMENTS if name.startswith("kitti")}
    assert not completed(script, "ducseg", "predict", "photos/")


def test_version_names_what_a_report_needs(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    import torch

    assert main(["version"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines()[2:])) <= 80
    assert main(["version", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["ducseg"], found["torch"]) == (ducseg.__version__, torch.__version__)
    assert found["device"][0].startswith("cpu") and found["torch"] in shown
    assert {"export", "geo", "serve"} <= found["extras"].keys() and "dev" not in found["extras"]


def test_version_says_which_package_of_an_extra_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from importlib.metadata import PackageNotFoundError

    from ducseg.cli import version

    def shown_without(*absent: str) -> list[str]:
        def found(name: str) -> str:
            if name in absent:
                raise PackageNotFoundError(name)
            return "1.0"

        monkeypatch.setattr(version, "version", found)
        main(["version"])
        shown = capsys.readouterr().out.splitlines()
        assert max(map(len, shown[2:])) <= 80
        return shown

    assert "extra    export   pip install 'ducseg[export]' (without onnx)" in shown_without("onnx")
    server = ("fastapi", "starlette", "uvicorn", "python-multipart", "prometheus-client")
    assert "extra    serve    pip install 'ducseg[serve]'" in shown_without(*server)
    assert "without fastapi, starlette, uvicorn" in " ".join(" ".join(shown_without(*server[:-1])).split())


def test_the_table_of_times_fits_80_columns() -> None:
    """The widest that it usually holds."""
    import io

    from rich.console import Console

    from ducseg.cli import bench

    row = {
        "network": "runs/streets", "backend": "onnxruntime", "dtype": "bfloat16", "batch": 1, "size": "1024x2048",
        "median_ms": 12345.6, "p95_ms": 12345.6, "pictures_per_second": 0.0812, "peak_mb": 12345.0, "flops": 1.2e12,
        "parameters": 65.3e6, "failed": None,
    }  # fmt: skip
    out = io.StringIO()
    Console(file=out, width=80).print(bench._table([row]))
    (line,) = (line for line in out.getvalue().splitlines() if "streets" in line)
    shown = ("streets", "onnxruntime", "bf16", "1x1024x2048", "12346", "12346", "0.0812", "12345", "1200", "65.3")
    assert tuple(line.split()) == shown
    assert "…" not in out.getvalue() and max(map(len, out.getvalue().splitlines())) <= 80


def test_what_ablate_prints_fits_and_keeps_the_first_columns() -> None:
    page = "# heads: which?\n\n" + "word " * 40 + "\n\n| row | what | ours | thin   |\n|-----|------|------|--------|\n"
    wide, narrow = _fitted(page, 200), _fitted(page, 24)
    assert "| row | what | ours | thin   |" in wide and "| row | ours | thin   |" in narrow
    assert "| row | ours |" in _fitted(page, 17).splitlines() and "| row |" in _fitted(page, 3).splitlines()
    assert all(len(line) <= 80 for line in wide.splitlines())
