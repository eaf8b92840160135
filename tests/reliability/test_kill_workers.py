"""Kill -9 of what works for a command: processes that read pictures, Ray's workers; and of the command that Ray serves.

Training, `data patches`, `data convert` and `data synth` say in a line that a process of theirs was ended, and the same
command goes on. Ray starts a worker anew; where the command itself is killed, its cluster ends with it.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import children
import pytest
from commands import Trial, complaints
from moments import Moment
from runs import Run, broken, differing

READING = ("data patches", "data convert coco", "data synth cityscapes")


def a_worker(draw: random.Random, ticks: dict[str, int]) -> Moment:
    """The first process of the command's own that is there at a moment or later."""
    return Moment("call", draw.randint(1, ticks["call"]), of_worker=True)


@pytest.mark.slow
@pytest.mark.parametrize("work", READING)
def test_a_killed_worker_is_said_and_the_same_command_goes_on(
    work: str, tmp_path: Path, draw: random.Random, campaign: bool, book: Any
) -> None:
    trial, wrong, kills = Trial(work, tmp_path, more=["--workers", "2"]), [], 12 if campaign else 2
    for _ in range(kills):
        wrong += trial.after(a_worker(draw, trial.ticks))
    book.add(f"a worker killed: {work}", tried=kills, lost=len(wrong))
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_a_killed_worker_loses_no_checkpoint(
    tiny_camvid: Path, tmp_path: Path, draw: random.Random, campaign: bool, book: Any
) -> None:
    run, whole = (Run(tmp_path / name, tiny_camvid, "--data.workers 2") for name in ("run", "whole"))
    undisturbed = whole.undisturbed()
    wrong, kills = [], 40 if campaign else 2
    for _ in range(kills):
        shutil.rmtree(run.out, ignore_errors=True)
        moment = a_worker(draw, undisturbed.ticks)
        (child,) = run.start(moment=moment)
        child.wait()
        found = complaints(child, (0, 2)) + broken(run, [child])
        found = [line for line in found if "Exception ignored in thread" not in line]  # Python's, of a thread of torch
        wrong += [f"{moment}: {line}" for line in found + run.goes_on(whole)]
    book.add("a worker killed: train", tried=kills, lost=len(wrong))
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_a_rank_that_torchrun_starts_again_goes_on_bit_for_bit(
    tiny_camvid: Path, tmp_path: Path, draw: random.Random, campaign: bool, book: Any
) -> None:
    """Killed once so many steps are saved; torchrun ends the other, starts both, and they end as two undisturbed."""
    run, whole = (Run(tmp_path / name, tiny_camvid, "", ranks=2) for name in ("run", "whole"))
    assert [child.wait() for child in whole.start()] == [0, 0]
    wrong, kills = [], 8 if campaign else 1
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
    for _ in range(kills):
        shutil.rmtree(run.out, ignore_errors=True)
        saved = draw.randrange(len(whole.result()["log"]) // 2)
        with (tmp_path / "said.txt").open("wb") as said:
            arguments = [*launcher, "-m", "ducseg", *map(str, run.arguments)]
            process = subprocess.Popen([sys.executable, *arguments], stdout=said, stderr=said)
            while process.poll() is None and (max(run.steps(), default=0) < saved or not _children(process.pid)):
                time.sleep(0.01)
            for rank in draw.sample(_children(process.pid), 1):
                os.kill(rank, signal.SIGKILL)
            status = process.wait(children.HANGS_AFTER)
        said_at_last = (tmp_path / "said.txt").read_text()[-600:]
        found = [] if status == 0 else [f"ends with {status}: {said_at_last}"]
        wrong += [f"after step {saved}: {line}" for line in found or differing(run.result(), whole.result())]
    book.add("a rank killed, started again by torchrun", tried=kills, lost=len(wrong))
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["a worker", "the command"])
def test_a_kill_among_rays_processes(whom: str, tmp_path: Path, draw: random.Random, campaign: bool, book: Any) -> None:
    """Once so many files are there; all ends with those of the command without Ray, and none of its workers stays."""
    pytest.importorskip("ray")
    trial, wrong, kills = Trial("predict --resume", tmp_path), [], 12 if campaign else 1
    trial.given = [*trial.given, "--engine", "ray", "--workers", "2"]
    for _ in range(kills):
        trial.clear()
        files = draw.randint(1, sum(content is not None for content in trial.expected.values()) - 2)
        child = trial.start()
        while child.process.exitcode is None and len(list(trial.out.glob("*/**/[!.]*.*"))) < files:
            time.sleep(0.01)
        assert child.process.pid is not None
        cluster = _below(child.process.pid)
        at_work = [process for process in cluster if _title(process).startswith("ray::Map")]
        for process in [child.process.pid] if whom == "the command" else draw.sample(at_work, min(1, len(at_work))):
            os.kill(process, signal.SIGKILL)
        status = child.wait()
        found = [f"left running: {_title(process)}" for process in _left(at_work)] + trial.unlike(whole=False)
        if whom == "a worker" and (status != 0 or trial.unlike(whole=True)):
            found += [f"ends with {status}: {child.said()[-600:]}", *trial.unlike(whole=True)]
        wrong += [f"{files} files: {line}" for line in found + trial.goes_on()]
    book.add(f"kill: predict --engine ray, {whom}", tried=kills, lost=len(wrong))
    assert not wrong, "\n".join(wrong)


def _children(process: int) -> list[int]:
    try:
        found = [path.read_text().split() for path in Path(f"/proc/{process}/task").glob("*/children")]
    except OSError:
        return []
    return [int(child) for children in found for child in children]


def _below(process: int) -> list[int]:
    return [one for child in _children(process) for one in (child, *_below(child))]


def _title(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _left(processes: Sequence[int], seconds: float = 60) -> list[int]:
    """Those that are still there after so long; a dead one has no title."""
    until = time.monotonic() + seconds
    while (left := [process for process in processes if _title(process)]) and time.monotonic() < until:
        time.sleep(0.1)
    return left
