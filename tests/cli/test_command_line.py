"""What the command line promises: its option list, fast help, one clear line on bad input."""

import io
import os
import subprocess
import sys
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest

from ducseg.cli import COMMANDS, main
from ducseg.models import build
from ducseg.weights.checkpoint import save_segmenter

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "demo.png"

SNAPSHOT = Path(__file__).parent / "help_snapshot.txt"


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60)


def help_of(*command: str) -> str:
    # frames are drawn only where the encoding has their letters
    page = io.TextIOWrapper(written := io.BytesIO(), encoding="utf-8", write_through=True)
    with pytest.MonkeyPatch.context() as environment, redirect_stdout(page):
        for name, value in {"COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"}.items():
            environment.setenv(name, value)
        assert ended_with(*command, "--help") == 0
    return "\n".join(line.rstrip() for line in written.getvalue().decode().splitlines())


def ended_with(*command: str) -> int | str | None:
    """What the process would end with."""
    try:
        return main(list(command))
    except SystemExit as end:
        return end.code or 0


def test_the_option_list_is_a_decision() -> None:
    """Write the snapshot anew with `python tests/cli/test_command_line.py` after deciding on a new flag."""
    assert current_help() == SNAPSHOT.read_text(encoding="utf-8")


def current_help() -> str:
    pages = [(), ("score",), ("data",), *(tuple(name.split()) for name in COMMANDS), ("train", "camvid-resnet18-duc")]
    return "".join(f"$ ducseg {' '.join([*page, '--help'])}\n{help_of(*page)}\n\n" for page in pages)


def test_importing_ducseg_leaves_the_heavy_packages_alone() -> None:
    code = (
        "import ducseg, sys; "
        "print([m for m in ('torch', 'torchvision', 'matplotlib', 'numba', 'tensorboard', 'timm') if m in sys.modules])"
    )
    assert python("-c", code).stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("head", ["duc", "pyramid"])
def test_predict_imports_no_more_than_it_uses(head: str, tmp_path: Path) -> None:
    """What it waited for before it looked at the first picture: seconds."""
    save_segmenter(tmp_path / "run", build("resnet18", head, 3, aspp=0, width=4, output_stride=16))
    assert cv2.imwrite(str(tmp_path / "x.png"), np.zeros((40, 50, 3), np.uint8))
    code = (
        "import sys; from ducseg.cli import main; "
        f"assert main(['predict', {str(tmp_path / 'run')!r}, {str(tmp_path / 'x.png')!r}, '--out', "
        f"{str(tmp_path / 'out')!r}, '--device', 'cpu']) == 0; "
        "print([m for m in ('matplotlib', 'numba', 'scipy', 'sympy', 'rasterio', 'av', 'fsspec') if m in sys.modules])"
    )
    assert python("-c", code).stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("page", [(), ("eval",), ("crf-tune",), ("demo",), ("score", "cityscapes")])
def test_help_does_not_wait_for_torch(page: tuple[str, ...]) -> None:
    loaded = python("-X", "importtime", "-m", "ducseg", *page, "--help").stderr
    assert "tyro" in loaded
    assert not {"torch", "matplotlib", "numba", "cv2"} & set(loaded.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_line_of_the_table_has_its_module(name: str) -> None:
    module = import_module(f"ducseg.cli.{name.replace(' ', '_').replace('-', '_')}")
    assert module.__all__ == ["Options", *(["parse"] if hasattr(module, "parse") else []), "run"]
    assert module.Options.__doc__, "its help"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], ["trian", "Did you mean train?"]),
        (["train"], ["needed a folder or a name"]),
        (["train", "camvid-resnet18-du"], ["Did you mean camvid-resnet18-duc"]),
        (["train", "camvid-resnet18-duc"], ["--data.root is needed"]),
        (
            ["train", "camvid-resnet101-duc-hdc", "--data.root", "/nowhere", "--out", "{tmp}"],
            ["/nowhere", "images/val"],
        ),
        (["eval", "/nowhere"], ["/nowhere", "no such folder"]),
        (["predict", "{tmp}", str(PICTURE), "--out", "{tmp}/out"], ["no model.json there"]),
        (["predict", "/nowhere", "x.png", "--out", "{tmp}/out"], ["input x.png", "no such file"]),
        (["hdc", "0", "1"], ["rate"]),
        (["hdc", "99999999999999999999"], ["rate", "at most 1,000,000"]),
        (["data", "sinth"], ["Did you mean synth?"]),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument.replace("{tmp}", str(tmp_path)) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    for word in words:
        assert word in error


def test_version() -> None:
    assert python("-m", "ducseg", "--version").stdout.startswith("ducseg 0.")


@pytest.mark.parametrize(("given", "wanted"), [(None, "1"), ("0", "0")])
def test_torch_asks_for_large_pages_unless_told_otherwise(
    given: str | None, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", given or "")
    if given is None:
        monkeypatch.delenv("THP_MEM_ALLOC_ENABLE")
    assert main(["experiments"]) == 0
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == wanted


@pytest.mark.parametrize(
    ("given", "processors", "wanted"),
    [({}, 2, "1000"), ({}, 64, None), ({"GOMP_SPINCOUNT": "7"}, 2, "7"), ({"OMP_WAIT_POLICY": "active"}, 2, None)],
)
def test_threads_that_wait_leave_their_processor_where_there_are_few(
    given: dict[str, str], processors: int, wanted: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, given.get(name, ""))
        if name not in given:
            monkeypatch.delenv(name)
    monkeypatch.setattr("ducseg.cli.available_cores", lambda: processors)
    assert main(["experiments"]) == 0
    assert os.environ.get("GOMP_SPINCOUNT") == wanted


def test_experiments_are_listed_with_their_command(capsys: pytest.CaptureFixture[str]) -> None:
    from ducseg.experiments import EXPERIMENTS

    assert main(["experiments"]) == 0
    listed = capsys.readouterr().out
    for name in EXPERIMENTS:
        assert f"ducseg train {name}" in listed


if __name__ == "__main__":
    SNAPSHOT.write_text(current_help(), encoding="utf-8")
    print(f"written: {SNAPSHOT}")
