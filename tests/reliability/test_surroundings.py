"""Signals at any moment, and surroundings as they are not on a developer's machine."""

import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hooks
import pytest
from commands import WORK, Trial, complaints
from moments import Moment
from runs import Run, broken

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TRIED = ("predict, pictures", "predict --resume", "data patches", "data convert coco", "crf-tune")


@pytest.mark.slow
@pytest.mark.parametrize("work", WORK)
def test_a_signal_at_any_moment(work: str, tmp_path: Path, draw: random.Random, campaign: bool, book: Any) -> None:
    trial, wrong, count = Trial(work, tmp_path), [], 12 if campaign else 2
    for _ in range(count):
        trial.clear()
        moment = Moment("call", draw.randint(1, trial.ticks["call"]), signal=draw.choice(SIGNALS))
        ended = trial.run(moment=moment)
        found = complaints(ended, (0, 130, -moment.signal)) + trial.unlike(whole=False)
        wrong += [f"{moment}: {line}" for line in found + trial.goes_on()]
    book.add(f"a signal: {work}", tried=count, lost=len(wrong))
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_a_signal_at_any_moment_of_training(
    tiny_camvid: Path, tmp_path: Path, draw: random.Random, campaign: bool, book: Any
) -> None:
    """Saved and left with its status; SIGHUP, and what comes before the first step, ends it at once."""
    run, whole = (Run(tmp_path / name, tiny_camvid, "") for name in ("run", "whole"))
    (undisturbed,) = whole.start()
    assert undisturbed.wait() == 0, undisturbed.said()
    wrong, count = [], 60 if campaign else 3
    for _ in range(count):
        shutil.rmtree(run.out, ignore_errors=True)
        moment = Moment("call", draw.randint(1, undisturbed.ticks["call"]), signal=draw.choice(SIGNALS))
        (child,) = run.start(moment=moment)
        child.wait()
        found = complaints(child, (0, 75, 130, -moment.signal)) + broken(run, [child])
        wrong += [f"{moment}: {line}" for line in found + run.goes_on(whole)]
    book.add("a signal: train", tried=count, lost=len(wrong))
    assert not wrong, "\n".join(wrong)


SURROUNDINGS: dict[str, tuple[Callable[[], None] | None, dict[str, str]]] = {
    "a clock that goes back": (hooks.clock_goes_back, {}),
    "no links": (hooks.no_links, {}),
    "a slow disk": (hooks.slow_disk, {}),
    "no home": (None, {"HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none", "MPLCONFIGDIR": "", "TMPDIR": "/dev/shm"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("surrounding", SURROUNDINGS)
def test_surroundings_change_nothing(surrounding: str, tiny_camvid: Path, tmp_path: Path, book: Any) -> None:
    before, environment = SURROUNDINGS[surrounding]
    run, whole = (Run(tmp_path / name, tiny_camvid, "--run.tensorboard") for name in ("run", "whole"))
    (undisturbed,) = whole.start()
    assert undisturbed.wait() == 0, undisturbed.said()
    wrong = []
    (child,) = run.start(before=before, environment=environment)
    child.wait()
    wrong += complaints(child, (0,)) + run.goes_on(whole)
    for work in TRIED:
        trial = Trial(work, tmp_path / work)
        wrong += complaints(trial.run(before=before, environment=environment, clocked=False), (0,))
        wrong += trial.unlike(whole=True)
    book.add(f"surroundings: {surrounding}", tried=1 + len(TRIED), lost=len(wrong))
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("work", ["train", *TRIED])
def test_too_little_memory_is_said(
    work: str, tiny_camvid: Path, tmp_path: Path, draw: random.Random, campaign: bool, book: Any
) -> None:
    wrong, count = [], 8 if campaign else 2
    if work == "train":
        run, whole = (Run(tmp_path / name, tiny_camvid, "") for name in ("run", "whole"))
        assert whole.start()[0].wait() == 0
    else:
        trial = Trial(work, tmp_path)
    for _ in range(count):
        memory = int(2 ** draw.uniform(20, 28))
        before = hooks.little_memory(memory)
        if work == "train":
            shutil.rmtree(run.out, ignore_errors=True)
            (child,) = run.start(before=before)
            child.wait()
        else:
            trial.clear()
            child = trial.run(before=before, clocked=False)
        # what a library allocates in a thread of its own, it cannot tell us that it did not get
        aborted = child.process.exitcode == -signal.SIGABRT and "bad_alloc" in child.said()
        found = [] if aborted else complaints(child)
        if work == "train":
            found += broken(run, [child]) + run.goes_on(whole)
        else:
            found += trial.unlike(whole=False) + trial.goes_on()
        wrong += [f"{memory >> 20} MiB: {line}" for line in found]
    book.add(f"little memory: {work}", tried=count, lost=len(wrong))
    assert not wrong, "\n".join(wrong)
