"""Ray: the same bytes as one process, also where a worker is killed; each run is a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ducseg.cli import main
from ducseg.inference.manifest import file_digest
from ducseg.models import build
from ducseg.weights.checkpoint import save_segmenter

pytest.importorskip("ray")

SCRIPT = """
import os, signal, sys
from functools import partial
from pathlib import Path

from ducseg.inference.opening import open_labeller
from ducseg.inference.ray_engine import predict_ray

checkpoint, inputs, out, mark = sys.argv[1:]


class Killed:
    # As `kill -9` of a worker, once, in the middle of its work.
    def __init__(self, labeller):
        self.labeller, self.classes, self.record, self.asked = labeller, labeller.classes, labeller.record, 0

    def __call__(self, image):
        self.asked += 1
        if self.asked == 3 and not os.path.exists(mark):
            Path(mark).touch()
            Path(out, "a").mkdir(exist_ok=True)
            Path(out, "a", f".0_labels.png.{os.getpid()}.tmp.png").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.labeller(image)


if __name__ == "__main__":
    done = predict_ray(
        lambda: Killed(open_labeller(checkpoint)), [inputs], out, kinds=("labels",), settings="s", workers=2,
        progress=False,
    )
    print(len(done.report.written), len(done.report.failed))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("network") / "checkpoint"
    save_segmenter(folder, build("resnet18", "duc", 3, aspp=0, width=4))
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(24):
        noise = np.random.default_rng(number).integers(0, 256, (9, 13, 3), np.uint8)
        place = folder / "ab"[number % 2] / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        assert cv2.imwrite(str(place), cv2.resize(noise, (104, 72), interpolation=cv2.INTER_CUBIC))
    return folder


def tree(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".jsonl")
    return {file.relative_to(folder).as_posix(): file_digest(file) for file in files}


def command(*arguments: Any) -> subprocess.CompletedProcess[str]:
    run = [sys.executable, *map(str, arguments)]
    return subprocess.run(run, capture_output=True, text=True, timeout=900)


@pytest.mark.slow
def test_the_command_with_workers_is_the_command_without(checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / "broken.png").write_bytes(b"nothing")
    one, many = tmp_path / "one", tmp_path / "many"
    whole = [str(checkpoint), str(pictures), "--device", "cpu", "--out"]
    assert main(["predict", *whole, str(one)]) == 1
    ray = ["-m", "ducseg", "predict", *whole, many, "--engine", "ray", "--workers", "2"]
    done = command(*ray)
    assert done.returncode == 1, done.stderr
    assert "24 of 25 pictures predicted" in done.stdout and "broken.png" in done.stdout
    assert "Dataset" not in done.stderr and "core_worker" not in done.stderr, "nothing of Ray's own plans"
    assert tree(many) == tree(one)
    rows = [json.loads(line) for line in (many / "manifest-00000-of-00001.jsonl").read_text().splitlines()]
    assert len(rows) == 25
    for row in rows:
        assert row["sha256"] == {kind: file_digest(many / name) for kind, name in row["outputs"].items()}
    (pictures / "broken.png").unlink()
    done = command(*ray, "--resume")
    assert "24 pictures were done and whole" in done.stdout and done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_killed_worker_is_replaced(checkpoint: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    assert main(["predict", *map(str, (checkpoint, pictures, "--out", tmp_path / "one", "--kinds", "labels"))]) == 0
    done = command(tmp_path / "script.py", checkpoint, pictures, tmp_path / "out", tmp_path / "mark")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "24 0", done.stdout
    assert (tmp_path / "mark").exists(), "a worker was killed"
    assert tree(tmp_path / "out") == tree(tmp_path / "one")


def test_what_ray_needs_is_said(
    checkpoint: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    whole = ["predict", str(checkpoint), str(pictures), "--out", str(tmp_path / "out")]
    assert main([*whole, "--workers", "2"]) == 2
    assert "--address and --workers: found no --engine" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main([*whole, "--engine", "ray"]) == 2
    assert "pip install 'ducseg[ray]'" in capsys.readouterr().err
