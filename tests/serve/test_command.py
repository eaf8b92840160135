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
from small_server import Running, picture, png, small_predictor

import ducseg
from ducseg.cli import main
from ducseg.inference.predictor import load_predictor
from ducseg.weights.checkpoint import save_segmenter


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("orchards") / "best"
    save_segmenter(folder, small_predictor().model)
    return folder


@contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], Running]]:
    """The command, once it listens."""
    environment = {"PYTHONPATH": str(Path(ducseg.__file__).parents[1]), "PATH": "/usr/bin", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ducseg", "serve", *arguments]
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


def test_it_answers_as_the_library_and_ends_well_on_sigterm(checkpoint: Path) -> None:
    with process(str(checkpoint), "--port", "0") as (running, server):
        assert server.ask("GET", "/model").json["name"] == checkpoint.parent.name
        assert np.array_equal(server.predict(png(picture())).picture, load_predictor(checkpoint)(picture()))
        with socket.create_connection(("127.0.0.1", server.port)) as idle:
            running.send_signal(signal.SIGTERM)
            out, error = running.communicate(timeout=20)
            assert not idle.recv(1)
    assert (running.returncode, out, error) == (0, "", "")


def test_sigterm_waits_for_what_is_in_hand(checkpoint: Path) -> None:
    large = png(picture(1200, 1600))
    found: list[int] = []
    with process(str(checkpoint), "--port", "0") as (running, server):
        one = threading.Thread(target=lambda: found.append(server.predict(large).status))
        one.start()
        while not server.metric("ducseg_requests_in_hand"):
            pass
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
        one.join()
    assert found == [200]


def test_ctrl_c_stops_it(checkpoint: Path) -> None:
    with process(str(checkpoint), "--port", "0") as (running, _):
        running.send_signal(signal.SIGINT)
        assert running.communicate(timeout=20)[1] == "stopped\n"
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
