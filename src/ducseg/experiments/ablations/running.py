"""Runs the rows of a table: trains what no result is there for, one process a training, and records the scores.

Any number of processes may run the same command on the same folder. Each takes the next training that has no result
and that no other holds; one that was killed is taken up from its last checkpoint by whoever comes next.
"""

import json
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console

from ducseg.errors import UserError
from ducseg.experiments.ablations.jobs import Job
from ducseg.experiments.ablations.results import Results, claimed
from ducseg.experiments.ablations.rows import Row
from ducseg.experiments.ablations.scoring import result_line, row_scores, widths_line, write_submission
from ducseg.files import remove_folder, write_whole
from ducseg.train.checkpoint import CheckpointFolder
from ducseg.train.loop import train

__all__ = ["Ran", "Running", "run_jobs", "score_widths"]

_TRAINED = "trained.json"
"""In a run folder that came to its end: how long it took."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """How jobs are run.

    Attributes:
        say: shows a line.
        command: recorded with each checkpoint.
        discard: delete a run's checkpoints once its scores are recorded.
        submissions: where files for a benchmark's server are written; None: nowhere.
    """

    say: Callable[[str], None]
    command: str = ""
    discard: bool = False
    submissions: Path | None = None


@dataclass(kw_only=True)
class Ran:
    """What came of running a table.

    Attributes:
        failed: why, by row and seed.
        busy: rows and seeds that other processes are at.
        stopped_by: the signal after which all was saved; None: it ran to its end.
    """

    failed: dict[str, str] = field(default_factory=dict)
    busy: list[str] = field(default_factory=list)
    stopped_by: signal.Signals | None = None


def run_jobs(jobs: Sequence[Job], results: Results, how: Running) -> Ran:
    """Run every job that has a row without a result and that no other process is at; a failure ends its job alone.

    Jobs that others were at are looked at again at the end, for the other may have been killed.
    """
    ran, out = Ran(), results.out
    again = True
    while again and ran.stopped_by is None:
        again, ran.busy = False, []
        for job in jobs:
            if job.name in ran.failed or not (job.without_result(results) or (how.discard and _kept(job, out))):
                continue
            with claimed(out, job.key) as mine:
                if not mine:
                    ran.busy.append(job.name)
                    continue
                if not (wanted := job.without_result(results)):  # another process was faster, or one was killed here
                    _discard(job, out, how)
                    continue
                again = True
                try:
                    ran.stopped_by = _run(job, wanted, results, how)
                except (UserError, torch.OutOfMemoryError) as error:
                    ran.failed[job.name] = " ".join(str(error).split())
                    how.say(f"{job.name} failed: {ran.failed[job.name]}")
            if ran.stopped_by is not None:
                how.say(f"stopped in {job.name}, which is saved: the same command goes on")
                break
            if torch.cuda.is_available():
                torch.cuda.empty_cache()  # the others need it
    return ran


def score_widths(jobs: Sequence[Job], results: Results, how: Running) -> None:
    """Score trained rows by the width of objects, from the checkpoints that are there; processes share the work."""
    for job in jobs:
        checkpoint = CheckpointFolder(results.out / "runs" / job.folder, keep_last=1).last()
        untrained = job.without_result(results)
        for row in job.without_result(results, "widths") if checkpoint is not None else ():
            with claimed(results.out, job.key) as mine:
                if mine and row not in untrained and row in job.without_result(results, "widths"):
                    assert checkpoint is not None
                    results.add(widths_line(job, row, checkpoint))
                    how.say(f"{job.name}: {row.name} is scored by width")


def _run(job: Job, wanted: Sequence[Row], results: Results, how: Running) -> signal.Signals | None:
    """Train and score; the signal that ended it early."""
    run = results.out / "runs" / job.folder
    if (stopped_by := _train(job, run, how)) is not None:
        return stopped_by
    checkpoints = CheckpointFolder(run, keep_last=1)
    checkpoint, seconds = checkpoints.last(), json.loads((run / _TRAINED).read_text(encoding="utf-8"))["seconds"]
    assert checkpoint is not None
    for row in wanted:
        found = row_scores(job.config, checkpoint, row.scoring)
        results.add(result_line(job, row, found, checkpoint, seconds=seconds, run=run))
        how.say(f"{job.name}: {row.name} has mean IoU {100 * found['mean_iou']:.2f}, {seconds:.0f} s of training")
        if how.submissions is not None and (written := write_submission(job, row, checkpoint, how.submissions)):
            how.say(f"{job.name}: {written}")
    _discard(job, results.out, how)
    return None


def _train(job: Job, run: Path, how: Running) -> signal.Signals | None:
    """Train what it starts from, then itself, unless they came to their end before; the signal that ended it early."""
    checkpoints = CheckpointFolder(run, keep_last=1)
    if (run / _TRAINED).is_file() and (last := checkpoints.last()) is not None:
        _end(last)
        return None
    if job.first is not None and (stopped_by := _train(job.first, run.with_name(job.first.folder), how)) is not None:
        return stopped_by
    how.say(f"{job.name}: training, see {run / 'output.txt'}")
    run.mkdir(parents=True, exist_ok=True)
    with (run / "output.txt").open("a", encoding="utf-8") as output:
        console = Console(file=output, width=120)
        outcome = train(job.config, run, resume=True, command=how.command, console=console)
    if outcome.finished:
        assert outcome.checkpoint is not None
        write_whole(run / _TRAINED, json.dumps({"seconds": outcome.seconds}).encode())
        _end(outcome.checkpoint)
    return outcome.stopped_by


def _end(checkpoint: Path) -> None:
    """Once it is on record that a run is done: it does not go on."""
    with suppress(OSError):
        (checkpoint / "train_state.pt").unlink()


_DISCARDED = ".discarded"


def _kept(job: Job, out: Path) -> list[Path]:
    """The folders of its checkpoints that are there; first what a kill left of one that was being deleted."""
    run = out / "runs" / job.folder
    return [path for name in (_DISCARDED, "checkpoints") if (path := run / name).is_dir()]


def _discard(job: Job, out: Path, how: Running) -> None:
    """Its checkpoints last, after those that it starts from; half of one is never there under its name."""
    if not how.discard:
        return
    if job.first is not None:
        _discard(job.first, out, how)
    for kept in _kept(job, out):
        for link in ("last", "best"):
            (kept.parent / link).unlink(missing_ok=True)
        remove_folder(kept.rename(kept.with_name(_DISCARDED)))
