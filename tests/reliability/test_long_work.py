"""Long work takes no more memory than short work; the slope is reported."""

from pathlib import Path
from typing import Any

import children
import pytest
from memory import Watched
from runs import Run
from small_inputs import write_checkpoint, write_pictures

MOST = 1.0
"""MiB that a thousand steps or pictures may add: of a leak of one tensor, array or handle each they would add more."""


@pytest.mark.slow
@pytest.mark.parametrize("options", ["", "--data.workers 2", "--optimizer.ema-decay 0.9 --run.bf16 --run.tensorboard"])
def test_training_for_long(options: str, tiny_camvid: Path, tmp_path: Path, campaign: bool, book: Any) -> None:
    steps = (10_000 if not options else 3000) if campaign else 400
    run = Run(tmp_path, tiny_camvid, options)
    at_evaluations = [
        "--run.eval-every-epochs",
        1,
        "--run.eval-every-steps",
        steps // 5,
        "--run.save-every-steps",
        steps,
    ]
    (child,) = run.start("--optimizer.epochs", str(steps // 2), *map(str, at_evaluations), clocked=False)

    def done() -> int:
        log = run.out / "log.jsonl"
        return log.read_bytes().count(b"\n") if log.exists() else 0

    watched = Watched(child.process.pid or 0, done, lambda: child.process.exitcode is None)
    assert child.wait(2400) == 0, child.said()
    assert run.logged() == steps
    slope = watched.growth_per_thousand()
    book.add(f"long: {steps} steps of training{' ' * bool(options)}{options}", tried=1, MiB_per_1000=round(slope, 3))
    assert not slope > (MOST if campaign else 20), watched.points


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--resume", "--batch-size", "4", "--kinds", "labels", "polygons")])
def test_predicting_for_long(options: tuple[str, ...], tmp_path: Path, campaign: bool, book: Any) -> None:
    count = 5000 if campaign else 300
    pictures, network = write_pictures(tmp_path / "in", count), write_checkpoint(tmp_path / "network")
    out = tmp_path / "out"
    arguments = ["predict", network, pictures, "--out", out, "--device", "cpu", *options]
    child = children.start(arguments, tmp_path / "said.txt", clocked=False)

    def done() -> int:
        return sum(1 for _ in out.rglob("*_labels.png")) if out.exists() else 0

    watched = Watched(child.process.pid or 0, done, lambda: child.process.exitcode is None)
    assert child.wait(2400) == 0, child.said()
    assert done() == count
    slope = watched.growth_per_thousand()
    book.add(f"long: {count} predictions {' '.join(options)}", tried=1, MiB_per_1000=round(slope, 3))
    assert not slope > (MOST if campaign else 20), watched.points
