"""Runs the rows of a table: trains what no result is there for, one process a training, and records the scores.

Any number of processes may run the same command on the same folder. Each takes the next training that has no result
and that no other holds; one that was killed is taken up from its last checkpoint by whoever comes next.
"""

import shutil
import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ducseg.data.layouts.kitti_road import KittiRoad
from ducseg.data.layouts.opening import open_dataset
from ducseg.devices import pick_device
from ducseg.errors import UserError
from ducseg.experiments.ablations.identity import differing, identity, key_of
from ducseg.experiments.ablations.results import Results, claimed, same
from ducseg.experiments.ablations.rows import Row, Scoring, Table
from ducseg.experiments.ablations.small import Setting, configure
from ducseg.inference.bench import parameters
from ducseg.inference.evaluate import evaluate
from ducseg.inference.predictor import Predictor
from ducseg.inference.refine import CrfLabeller
from ducseg.inference.road import RoadEvaluation
from ducseg.metrics.confusion import scores
from ducseg.metrics.kitti_road import road_scores
from ducseg.models.architecture import Architecture
from ducseg.train.checkpoint import CheckpointFolder
from ducseg.train.config import Config
from ducseg.train.loop import train
from ducseg.train.run_log import versions
from ducseg.weights.checkpoint import load_segmenter, read_model_json
from ducseg.weights.structure import sketch

__all__ = ["Job", "Ran", "make_jobs", "run_jobs"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training, and the rows that are scored by it.

    Attributes:
        made_by: its `identity`.
    """

    table: Table
    setting: Setting
    rows: tuple[Row, ...]
    config: Config
    made_by: dict[str, Any]

    @property
    def seed(self) -> int:
        """Of the weights that start fresh and the order of the pictures."""
        return self.config.run.seed

    @property
    def key(self) -> str:
        """A short name of all that decides its numbers."""
        return key_of(self.made_by)

    @property
    def folder(self) -> str:
        """Name of its run folder, the same in every table."""
        model = self.config.model
        head = f"{model.head}-stride{model.output_stride}-{model.dilation}"
        return f"{model.encoder.replace(':', '-')}-{head}-seed{self.seed}-{self.key}"

    def without_result(self, results: Results) -> list[Row]:
        """The rows that have no result yet."""
        lines = results.lines()
        return [
            row
            for row in self.rows
            if not any(same(line, self.made_by, self.seed, row.scoring.to_json()) for line in lines)
        ]


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


def make_jobs(
    table: Table, rows: Sequence[Row], setting: Setting, seeds: Iterable[int], override: Callable[[Config], Config]
) -> tuple[list[Job], dict[str, str]]:
    """The trainings of rows, all rows of a seed before the next seed; and why a row has none, by its name.

    Args:
        override: what the user changes of each configuration.

    Raises:
        UserError: data that does not open; a configuration that conflicts.
    """
    configs: dict[str, Config] = {}
    reasons: dict[str, str] = {}
    for row in rows:
        made = configure(table, row, setting)
        if isinstance(made, str):
            reasons[row.name] = made
            continue
        configs[row.name] = override(made)
        configs[row.name].check()
    jobs: dict[str, Job] = {}
    for seed in seeds:
        for row in rows:
            if row.name not in configs:
                continue
            run = replace(configs[row.name].run, seed=seed)
            config = replace(configs[row.name], run=run)
            job = Job(table=table, setting=setting, rows=(row,), config=config, made_by=identity(config))
            earlier = jobs.get(job.key)
            jobs[job.key] = job if earlier is None else replace(earlier, rows=(*earlier.rows, row))
    return list(jobs.values()), reasons


def run_jobs(
    jobs: Sequence[Job], results: Results, *, command: str, say: Callable[[str], None], discard: bool = False
) -> Ran:
    """Run every job that has a row without a result and that no other process is at; a failure ends its job alone.

    Jobs that others were at are looked at again at the end, for the other may have been killed.

    Args:
        command: recorded with each checkpoint.
        say: shows a line.
        discard: delete a run's checkpoints once its scores are recorded.
    """
    ran = Ran()
    again = True
    while again and ran.stopped_by is None:
        again, ran.busy = False, []
        for job in jobs:
            name = f"{job.table.name} {', '.join(row.name for row in job.rows)}, seed {job.seed}"
            if name in ran.failed or not job.without_result(results):
                continue
            with claimed(results.out, job.key) as mine:
                if not mine:
                    ran.busy.append(name)
                    continue
                if not (wanted := job.without_result(results)):  # another process was faster
                    continue
                again = True
                try:
                    ran.stopped_by = _run(job, wanted, results, name=name, command=command, say=say, discard=discard)
                except (UserError, torch.OutOfMemoryError) as error:
                    ran.failed[name] = " ".join(str(error).split())
                    say(f"{name} failed: {ran.failed[name]}")
            if ran.stopped_by is not None:
                say(f"stopped in {name}, which is saved: the same command goes on")
                break
            if torch.cuda.is_available():
                torch.cuda.empty_cache()  # the others need it
    return ran


def _run(
    job: Job,
    wanted: Sequence[Row],
    results: Results,
    *,
    name: str,
    command: str,
    say: Callable[[str], None],
    discard: bool,
) -> signal.Signals | None:
    """Train and score; the signal that ended it early."""
    run = results.out / "runs" / job.folder
    checkpoints = CheckpointFolder(run, keep_last=1)
    lines = (line for line in results.lines() if line["seed"] == job.seed)
    before = next((line for line in lines if not differing(job.made_by, line["made_by"])), None)
    checkpoint = checkpoints.last()
    if before is not None and checkpoint is not None:
        steps, seconds = before["steps"], before["seconds"]
    else:
        say(f"{name}: training, see {run / 'output.txt'}")
        run.mkdir(parents=True, exist_ok=True)
        with (run / "output.txt").open("a", encoding="utf-8") as output:
            outcome = train(job.config, run, resume=True, command=command, console=Console(file=output, width=120))
        if outcome.stopped_by is not None:
            return outcome.stopped_by
        checkpoint, seconds = outcome.checkpoint, outcome.seconds
        assert checkpoint is not None
        steps = read_model_json(checkpoint)["extra"]["step"]
    for row in wanted:
        found = _scores(job.config, checkpoint, row.scoring)
        results.add(_line(job, row, found, checkpoint, steps=steps, seconds=seconds, run=run))
        say(f"{name}: {row.name} has mean IoU {100 * found['mean_iou']:.2f}, {seconds:.0f} s of training")
    with suppress(OSError):
        (checkpoint / "train_state.pt").unlink()  # a finished run does not go on
    if discard:
        shutil.rmtree(checkpoints.folder, ignore_errors=True)
        for link in ("last", "best"):
            (run / link).unlink(missing_ok=True)
    return None


def _scores(config: Config, checkpoint: Path, scoring: Scoring) -> dict[str, Any]:
    """Of the last step: what training's own evaluation found, or of a pass of its own."""
    if scoring.plain and config.data.dataset != "kitti-road":
        noted: dict[str, Any] = read_model_json(checkpoint)["metrics"]
        return noted
    predictor = Predictor(
        load_segmenter(checkpoint), pick_device(config.run.device), scales=scoring.scales, flip=scoring.flip,
        bf16=config.run.eval_bf16,
    )  # fmt: skip
    labeller = CrfLabeller(predictor) if scoring.crf else predictor
    dataset = open_dataset(config.data, config.data.val_split)
    road = RoadEvaluation(labeller.classes, dataset) if isinstance(dataset, KittiRoad) else None
    found = scores(evaluate(labeller, dataset, road=road).matrix, dataset.classes)
    return found if road is None else found | {"road": road_scores(road.counts)}


def _line(
    job: Job, row: Row, found: dict[str, Any], checkpoint: Path, *, steps: int, seconds: float, run: Path
) -> dict[str, Any]:
    architecture = Architecture.from_json(read_model_json(checkpoint)["architecture"])
    device = pick_device(job.config.run.device)
    return {
        "kind": "row",
        "table": job.table.name,
        "row": row.name,
        "data": job.setting.data,
        "scale": "small" if job.setting.small else "full",
        "split": job.config.data.val_split,
        "seed": job.seed,
        "scoring": row.scoring.to_json(),
        "key": job.key,
        "scores": found,
        "parameters": parameters(sketch(architecture)),
        "steps": steps,
        "seconds": round(seconds, 1),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "run": run.name,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        **versions(),
        "made_by": job.made_by,
    }
