"""`ducseg serve` as a process: it says where it listens, ends well on signals, and refuses in one line."""

import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from small_server import Running, picture, png, small_predictor, until

import ducseg
from ducseg.cli import main
from ducseg.inference.opening import open_labeller
from ducseg.inference.predictor import load_predictor
from ducseg.weights.checkpoint import save_segmenter


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("orchards") / "best"
    save_segmenter(folder, small_predictor().model)
    return folder


_AS_FROM_A_TERMINAL = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # who starts tests in the background may have Ctrl-C ignored
runpy.run_module("ducseg", run_name="__main__", alter_sys=True)
"""


@contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], Running]]:
    """The command, once it listens."""
    environment = {"PYTHONPATH": str(Path(ducseg.__file__).parents[1]), "PATH": "/usr/bin", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _AS_FROM_A_TERMINAL, "serve", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as running:
        try:
            assert running.stdout is not None
            line = running.stdout.readline()
            found = re.search(r"serving \S+ at http://127\.0\.0\.1:(\d+)/", line)
            assert found, line + running.communicate()[1]
            yield running, Running(int(found[1]))
        finally:
            running.kill()


@pytest.mark.slow
def test_it_answers_as_the_library_and_sigterm_waits_for_what_is_in_hand(checkpoint: Path) -> None:
    found: list[int] = []
    with process(str(checkpoint), "--port", "0") as (running, server):
        assert server.ask("GET", "/model").json["name"] == checkpoint.parent.name
        assert np.array_equal(server.predict(png(picture())).picture, load_predictor(checkpoint)(picture()))
        large = png(picture(600, 800))
        one = threading.Thread(target=lambda: found.append(server.predict(large).status))
        with socket.create_connection(("127.0.0.1", server.port)) as idle:
            one.start()
            until(lambda: server.metric("ducseg_requests_in_hand"))
            running.send_signal(signal.SIGTERM)
            out, error = running.communicate(timeout=60)
            one.join()
            assert not idle.recv(1)
    assert (found, running.returncode, out, error) == ([200], 0, "", "")


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("exported")
    (folder / "street.png").write_bytes(png(picture(64, 96)))
    file = folder / "orchards.onnx"
    assert main(["export", str(checkpoint), "--out", str(file), "--check", str(folder / "street.png")]) == 0
    return file


@pytest.mark.slow
def test_an_exported_file_is_served_until_ctrl_c(exported: Path) -> None:
    with process(str(exported), "--port", "0") as (running, server):
        found = server.ask("GET", "/model").json
        assert (found["name"], found["confidence"]) == ("orchards.onnx", False)
        assert np.array_equal(server.predict(png(picture())).picture, open_labeller(exported)(picture()))
        refusal = server.predict(png(picture()), "?answer=confidence")
        assert refusal.status == 422
        assert "probabilities" in refusal.json["error"]
        running.send_signal(signal.SIGINT)
        assert running.communicate(timeout=60)[1] == "stopped\n"
    assert running.returncode == 130


@pytest.mark.parametrize("options", [["--port", "99999"], ["--host", "192.0.2.1"], ["--host", "no.such.host.invalid"]])
def test_addresses_that_are_none(options: list[str], checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(checkpoint), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --host")
    assert error.count("\n") == 1


def test_a_port_in_use_is_said_before_the_network_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", "/nowhere", "--port", str(port)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --host 127.0.0.1 --port {port}: found address already in use; needed")
    assert error.count("\n") == 1


def test_no_network_and_no_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(tmp_path), "--port", "0"]) == 2
    assert "no model.json there" in capsys.readouterr().err
    assert main(["serve", str(tmp_path), "--queue", "0"]) == 2
    assert "--queue" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["fastapi", "uvicorn", "python_multipart", "prometheus_client"])
def test_the_missing_extra(module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["serve", "/nowhere"]) == 2
    assert capsys.readouterr().err == (
        f"error: ducseg serve: found {module} is not installed; needed a web server. pip install 'ducseg[serve]'\n"
    )
