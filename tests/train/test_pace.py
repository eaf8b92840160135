"""Runs that end by the clock, by patience, evaluate by steps and choose by a class."""

import dataclasses
import io
import json
import multiprocessing
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from ducseg.errors import UserError
from ducseg.train import pace, validate
from ducseg.train.config import Config, RunConfig
from ducseg.train.loop import train
from ducseg.train.pace import Pace
from ducseg.train.run_folder import said_if_over

QUIET = Console(quiet=True)


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(pace.time, "monotonic", lambda: self.now)


def test_without_a_limit_the_epochs_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    run = Pace(most=40, minutes=None, began=100.0, spent=0.0, steps_between_evaluations=10)
    for step in range(1, 10):
        clock.now += 1000
        run.note_step(1000)
        assert run.fitted(step) == 40


@pytest.mark.parametrize(("minutes", "steps"), [(1, 50), (2, 50), (5, 125), (1000, 999)])
def test_a_session_that_goes_on_starts_at_the_pace_of_those_before(
    monkeypatch: pytest.MonkeyPatch, minutes: float, steps: int
) -> None:
    Clock(monkeypatch)
    run = Pace(most=999, minutes=minutes, began=100.0, spent=120.0, done=50, steps_between_evaluations=10)
    assert run.num_steps == steps  # so the schedule is where it would be, and no step is done where the time is spent


def test_minutes_of_training_are_apart_from_the_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    run = Pace(most=999, minutes=1, began=100.0, spent=0.0, steps_between_evaluations=10, evaluations_too=False)
    for step in range(1, 21):
        clock.now += 2
        run.note_step(2)
        assert not run.wants_estimate and run.fitted(step) == (999 if step <= 3 else 30)
        if step % 10 == 0:
            clock.now += 500
            run.note_evaluation(500)
    assert (run.left, run.counted, run.elapsed) == (20, 40, 1040)
    assert RunConfig(minutes_of="training").conflicts() == ["--run.minutes-of training is for --run.minutes"]
    assert RunConfig(minutes_of="training", minutes=1).conflicts() == []


@pytest.mark.parametrize("spent", [0.0, 30.0])
def test_steps_are_fitted_to_what_is_left_beside_the_evaluations(monkeypatch: pytest.MonkeyPatch, spent: float) -> None:
    clock = Clock(monkeypatch)
    run = Pace(most=1000, minutes=2, began=100.0, spent=spent, steps_between_evaluations=1000)
    estimates = []
    for step in range(1, 6):
        clock.now += 10 if step == 1 else 1  # the first is slow, and not counted
        run.note_step(10 if step == 1 else 1)
        if run.wants_estimate:
            estimates.append(step)
            run.evaluation_seconds = 50.0
        fitted = run.fitted(step)
    assert estimates == [3]
    # 120 s - spent - 14 - 50 for the last evaluation, at 1 s and a thousandth of 50 s a step
    assert fitted == 5 + int((56 - spent) / 1.05)


def test_an_evaluation_that_is_due_is_the_last_where_no_second_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    run = Pace(most=1000, minutes=1, began=100.0, spent=0.0, steps_between_evaluations=10)
    for _ in range(10):
        run.note_step(1)
    run.evaluation_seconds = 10.0
    clock.now += 41
    assert run.fitted(10) == 10
    assert run.fitted(11) == 11 + int(9 / 2)
    clock.now += 10
    assert run.fitted(11) == 11


def test_half_of_the_time_is_for_steps_however_long_an_evaluation_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    run = Pace(most=1000, minutes=1, began=100.0, spent=0.0, steps_between_evaluations=1000)
    run.evaluation_seconds = 500.0
    assert run.evaluation_is_too_long
    for step in range(1, 100):
        clock.now += 1
        run.note_step(1)
        if run.fitted(step) <= step:
            break
    assert 25 < step <= 30


class SlowAtFirst:
    """A predictor whose first picture takes a minute, as on a GPU whose kernels are yet to be built."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.seconds = clock, iter((60.0, 0.5))

    def __call__(self, *_arguments: object, **_options: object) -> "SlowAtFirst":
        self.clock.now += next(self.seconds) if _arguments and not _options else 0
        return self


def test_what_a_first_picture_costs_alone_is_no_part_of_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    monkeypatch.setattr(validate, "Predictor", SlowAtFirst(clock))
    pictures = [SimpleNamespace(image=np.zeros((40, 60, 3), np.uint8))] * 100
    ranks = SimpleNamespace(is_main=True, device="cpu", world_size=1)
    assert validate.estimate_seconds(None, pictures, ranks, bf16=False) == pytest.approx(60)  # type: ignore[arg-type]


def test_an_estimate_looks_at_no_more_than_a_part_of_a_large_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, seen = Clock(monkeypatch), list[int]()

    def label(image: NDArray[np.uint8]) -> None:
        seen.append(image.size // 3)
        clock.now += seen[-1] * 1e-6

    monkeypatch.setattr(validate, "Predictor", lambda *_arguments, **_options: label)
    pictures = [SimpleNamespace(image=np.broadcast_to(np.uint8(0), (9000, 12000, 3)))] * 5
    ranks = SimpleNamespace(is_main=True, device="cpu", world_size=1)
    assert validate.estimate_seconds(None, pictures, ranks, bf16=False) == pytest.approx(2 * 108 * 5)  # type: ignore[arg-type]
    assert sum(seen) <= 2 * 1024**2


@pytest.fixture
def config(tiny_config: Config) -> Config:
    return changed(tiny_config, "model", width=8)


def changed(config: Config, section: str, **values: Any) -> Config:
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **values)})


def lines(run: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


def test_the_minutes_for_more_steps_count_the_start_and_the_evaluations_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    pace = Pace(most=1000, minutes=1, began=clock.now, spent=0.0, steps_between_evaluations=100)
    clock.now += 20  # pictures are looked at
    for seconds in (8, 2, 3, 1, 2):
        clock.now += seconds
        pace.note_step(seconds)
        if seconds == 2:
            clock.now += 12
            pace.note_evaluation(12)
        if seconds == 3:
            assert pace.minutes_for(300) == pytest.approx((20 + 8 + 2 + 12 + 3 + 300 * 2) / 60)
    assert pace.minutes_for(300) == pytest.approx((20 + 16 + 2 * 12 + 300 * 1.5) / 60)


def test_a_run_whose_time_ends_in_the_warm_up_says_so(config: Config, tmp_path: Path) -> None:
    optimizer = changed(config, "optimizer", epochs=10000, warmup_steps=10**6)
    printed = io.StringIO()
    train(changed(optimizer, "run", minutes=0.01), tmp_path / "run", console=Console(file=printed, width=300))
    assert re.search(
        r"warning: the time was over while the rate still rose, for 1000000 steps: .* give it \d+ minutes",
        printed.getvalue(),
    )


@pytest.mark.slow
def test_a_run_with_minutes_ends_in_time_scored_and_with_its_schedule_done(config: Config, tmp_path: Path) -> None:
    limited = changed(changed(config, "optimizer", epochs=10000), "run", minutes=0.1, eval_every_epochs=1000)
    printed = io.StringIO()
    began = time.monotonic()
    outcome = train(limited, tmp_path / "run", console=Console(file=printed, width=300))
    assert time.monotonic() - began < 30, "6 seconds, and what a busy machine adds; its epochs would take an hour"
    steps = lines(tmp_path / "run", "step")
    assert outcome.finished and 10 < len(steps) < 20000
    assert steps[-1]["learning_rate"] < 0.2 * steps[0]["learning_rate"]
    assert [line["step"] for line in lines(tmp_path / "run", "evaluation")] == [len(steps)]
    assert f"reached step {len(steps)}, {len(steps) / 2:.1f} of 10000 epochs" in printed.getvalue()
    again = train(limited, tmp_path / "run", resume=True, console=QUIET)  # its time is spent: at most a step more
    assert again.finished and len(lines(tmp_path / "run", "step")) <= len(steps) + 1


@pytest.mark.slow
def test_a_run_that_ends_before_its_epochs_leaves_no_process(config: Config, tmp_path: Path) -> None:
    """Workers that read ahead would keep the program from ending."""
    limited = changed(changed(config, "optimizer", epochs=None), "run", minutes=0.05)
    before = set(multiprocessing.active_children())
    assert train(changed(limited, "data", workers=1), tmp_path / "run", console=QUIET).finished
    assert set(multiprocessing.active_children()) <= before


def test_epochs_end_a_run_before_its_minutes_and_one_that_is_over_is_left_as_it_is(
    config: Config, tmp_path: Path
) -> None:
    run, printed = tmp_path / "my run", io.StringIO()
    limited = changed(config, "run", minutes=60.0)
    first = train(limited, run, console=QUIET)
    assert first.finished
    assert first.went_on
    assert len(lines(run, "step")) == 4
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name[0] != "."}
    again = train(limited, run, resume=True, console=Console(file=printed, width=300))
    assert again.finished
    assert not again.went_on
    more = f"for more in all: ducseg train --resume '{run}' --run.minutes 120 --optimizer.epochs 4\n"
    assert again.best_score == first.best_score
    assert again.seconds == pytest.approx(first.seconds, abs=1)
    assert printed.getvalue().endswith(f"within its 60 minutes, and left as it is; {more}")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    last = run / "last"
    for longer in (changed(limited, "run", minutes=61.0), changed(limited, "optimizer", epochs=3)):
        assert said_if_over(longer, last, limited.to_json()) is None


def test_patience_ends_a_run_and_a_resumed_one(config: Config, tmp_path: Path) -> None:
    still = changed(
        changed(config, "model", freeze_batch_norm_from_epoch=0), "optimizer", learning_rate=1e-12, epochs=9
    )
    still = changed(still, "run", patience=2)
    for resume in (False, True):
        printed = io.StringIO()
        assert train(still, tmp_path / "run", resume=resume, console=Console(file=printed, width=200)).finished
        assert [line["step"] for line in lines(tmp_path / "run", "evaluation")] == [2, 4, 6]
        assert "stopped early: 2 evaluations without a better mean_iou" in printed.getvalue()
    assert (tmp_path / "run" / "best").resolve().name == "step-00000002"


def test_evaluations_by_steps_and_the_best_by_a_class(config: Config, tmp_path: Path) -> None:
    by_class = changed(config, "run", eval_every_steps=1, eval_every_epochs=3, best_by="road", keep_last=1)
    outcome = train(changed(by_class, "optimizer", learning_rate=0.05), tmp_path / "run", console=QUIET)
    evaluations = lines(tmp_path / "run", "evaluation")
    assert [line["step"] for line in evaluations] == [1, 2, 3, 4]
    ious = [line["classes"]["road"]["iou"] for line in evaluations]
    assert outcome.best_score == max(ious)
    assert (tmp_path / "run" / "best").resolve().name == f"step-{ious.index(max(ious)) + 1:08d}"


def test_a_score_that_is_none_is_said(config: Config, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--run.best-by: found wire; needed mean_iou or one of sky"):
        train(changed(config, "run", best_by="wire"), tmp_path / "run", console=QUIET)
