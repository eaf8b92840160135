import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ducseg.errors import UserError
from ducseg.figures.curves import Curves, curve_pictures, draw_curves


def write_log(path: Path, lines: list[dict[str, Any]], rest: str = "") -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + rest)
    return path


def step(number: int, **more: Any) -> dict[str, Any]:
    return {"kind": "step", "step": number, "loss": 3 / number, "learning_rate": 0.1 / number, **more}


def evaluation(number: int, mean_iou: float | None) -> dict[str, Any]:
    return {"kind": "evaluation", "step": number, "mean_iou": mean_iou}


def test_a_log_is_read_without_what_is_not_there(tmp_path: Path) -> None:
    lines = [step(1, valid_pixels=5.0), step(2, valid_pixels=0.0), evaluation(2, None), step(3), evaluation(3, 0.25)]
    run = Curves.read(write_log(tmp_path / "log.jsonl", lines, rest='{"kind": "st'))
    assert run.step.tolist() == [1, 3], "step 2 had no valid pixel"
    assert run.loss.tolist() == [3, 1]
    assert run.learning_rate.tolist() == [0.1, 0.1 / 3]
    assert (run.scored_step.tolist(), run.mean_iou.tolist()) == ([3], [0.25])


def test_every_run_is_drawn(tmp_path: Path) -> None:
    lines = [step(number) for number in range(1, 50)] + [evaluation(10, 0.1), evaluation(40, 0.4)]
    log = write_log(tmp_path / "log.jsonl", lines)
    read = Curves.read(log)
    other = Curves(
        step=read.step,
        loss=read.loss / 2,
        learning_rate=read.learning_rate,
        scored_step=read.scored_step,
        mean_iou=read.mean_iou * 2,
    )
    drawn = cv2.imread(str(draw_curves({"bilinear": log, "DUC": other}, tmp_path / "curves.png"))).astype(int)
    for axes in (drawn[:, :600], drawn[:, 700:1300], drawn[:, 1450:]):
        for colour in ((178, 114, 0), (0, 140, 230)):  # blue and orange, BGR
            assert (np.abs(axes - colour).max(2) < 10).sum() > 50
    assert sorted(file.name for file in tmp_path.iterdir()) == ["curves.png", "log.jsonl"]


def test_each_curve_has_a_picture_of_its_own(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl", [step(1), step(2), evaluation(2, 0.5)])
    pictures = curve_pictures({"a": log, "b": Curves.read(log)})
    assert [picture.shape[2] for picture in pictures] == [3, 3, 3]
    assert all((np.abs(p.astype(int) - (0, 114, 178)).max(2) < 10).any() for p in pictures)


def test_a_run_that_was_not_scored_yet_is_drawn(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl", [step(1)])
    assert draw_curves({"young": log}, tmp_path / "curves.png").is_file()


def test_no_run_and_empty_logs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    for name in ("empty.jsonl", "missing.jsonl"):
        with pytest.raises(UserError, match="no training step"):
            draw_curves({"run": tmp_path / name}, tmp_path / "none.png")
    with pytest.raises(UserError, match="no run"):
        draw_curves({}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
