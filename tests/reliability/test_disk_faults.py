"""Disks that fill up, fail or refuse at any moment: one line says so, files are whole, the same command goes on."""

import errno
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import WORK, Trial, complaints
from moments import FILLER, Moment
from runs import Run, broken

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT)


def a_fault(draw: random.Random, ticks: dict[str, int]) -> Moment:
    """A call that is refused."""
    clock = draw.choice(("write", "write", "read"))
    vanished = (errno.ENOENT, errno.EIO, errno.EACCES) if clock == "read" else ERRORS
    return Moment(clock, draw.randint(1, ticks[clock]), error=draw.choice(vanished))


@pytest.mark.slow
@pytest.mark.parametrize("work", WORK)
def test_a_call_that_fails_is_said_and_the_same_command_goes_on(
    work: str, tmp_path: Path, draw: random.Random, campaign: bool, book: Any
) -> None:
    trial, wrong, faults = Trial(work, tmp_path), [], 20 if campaign else 3
    for _ in range(faults):
        wrong += trial.after(a_fault(draw, trial.ticks))
    book.add(f"a failing call: {work}", tried=faults, lost=len(wrong))
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_a_call_that_fails_loses_no_checkpoint(
    tiny_camvid: Path, tmp_path: Path, draw: random.Random, campaign: bool, book: Any
) -> None:
    run, whole = (Run(tmp_path / name, tiny_camvid, "") for name in ("run", "whole"))
    undisturbed = whole.undisturbed()
    wrong, faults = [], 60 if campaign else 3
    for _ in range(faults):
        wrong += run.after(a_fault(draw, undisturbed.ticks), whole)
    book.add("a failing call: train", tried=faults, lost=len(wrong))
    assert not wrong, "\n".join(wrong)


def every_write(draw: random.Random, ticks: dict[str, int], campaign: bool) -> list[Moment]:
    """No room at the first, the second, ... call that writes; of a short draw two of them."""
    numbers = range(1, ticks["write"] + 1)
    return [Moment("write", n, error=errno.ENOSPC) for n in (numbers if campaign else draw.sample(numbers, 2))]


@pytest.mark.slow
@pytest.mark.parametrize("work", WORK)
def test_no_room_at_every_single_write(
    work: str, tmp_path: Path, draw: random.Random, campaign: bool, book: Any
) -> None:
    trial = Trial(work, tmp_path)
    faults = every_write(draw, trial.ticks, campaign)
    wrong = [line for fault in faults for line in trial.after(fault)]
    book.add(f"no room at every write: {work}", tried=len(faults), lost=len(wrong))
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_no_room_at_every_single_write_of_training(
    tiny_camvid: Path, tmp_path: Path, draw: random.Random, campaign: bool, book: Any
) -> None:
    run, whole = (Run(tmp_path / name, tiny_camvid, "--optimizer.epochs 1") for name in ("run", "whole"))
    undisturbed = whole.undisturbed()
    faults = every_write(draw, undisturbed.ticks, campaign)
    wrong = [line for fault in faults for line in run.after(fault, whole)]
    book.add("no room at every write: train", tried=len(faults), lost=len(wrong))
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Of 24 MiB, in memory; skipped where none may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no right to mount a file system")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("work", WORK)
def test_a_disk_that_fills_up_at_any_moment(
    work: str, tmp_path: Path, small_disk: Path, draw: random.Random, campaign: bool, book: Any
) -> None:
    trial, wrong, faults = Trial(work, tmp_path, small_disk), [], 12 if campaign else 2
    for _ in range(faults):
        fault = Moment("write", draw.randint(1, trial.ticks["write"]), fill=str(small_disk))
        wrong += trial.after(fault, then=lambda: (small_disk / FILLER).unlink(missing_ok=True))
    book.add(f"a full disk: {work}", tried=faults, lost=len(wrong))
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_a_disk_that_fills_up_loses_no_checkpoint(
    tiny_camvid: Path, tmp_path: Path, small_disk: Path, draw: random.Random, campaign: bool, book: Any
) -> None:
    run, whole = (Run(base, tiny_camvid, "") for base in (small_disk, tmp_path / "whole"))
    undisturbed = whole.undisturbed()
    wrong, faults = [], 60 if campaign else 3
    for _ in range(faults):
        shutil.rmtree(run.out, ignore_errors=True)
        fault = Moment("write", draw.randint(1, undisturbed.ticks["write"]), fill=str(small_disk))
        (child,) = run.start(moment=fault)
        child.wait()
        (small_disk / FILLER).unlink(missing_ok=True)
        found = complaints(child) + broken(run, [child])
        wrong += [f"{fault}: {line}" for line in found + run.goes_on(whole)]
    book.add("a full disk: train", tried=faults, lost=len(wrong))
    assert not wrong, "\n".join(wrong)
