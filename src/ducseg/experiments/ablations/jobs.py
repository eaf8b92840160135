"""From the rows of a table to trainings: one a configuration and seed, shared by the rows that it serves."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ducseg.experiments.ablations.identity import identity, key_of
from ducseg.experiments.ablations.results import Results, same
from ducseg.experiments.ablations.rows import Row, Table
from ducseg.experiments.ablations.small import Setting, configure
from ducseg.train.config import Config

__all__ = ["Job", "make_jobs"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training, and the rows that are scored by it.

    Attributes:
        made_by: its `identity`.
        first: the training that it starts from.
    """

    table: Table
    setting: Setting
    rows: tuple[Row, ...]
    config: Config
    made_by: dict[str, Any]
    first: "Job | None" = None

    @property
    def seed(self) -> int:
        """Of the weights that start fresh and the order of the pictures."""
        return self.config.run.seed

    @property
    def key(self) -> str:
        """A short name of all that decides its numbers."""
        return key_of(self.made_by)

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.table.name} {', '.join(row.name for row in self.rows)}, seed {self.seed}"

    @property
    def folder(self) -> str:
        """Name of its run folder, the same in every table."""
        model = self.config.model
        head = f"{model.head}-stride{model.output_stride}-{model.dilation.replace('/', '-')}"
        return f"{model.encoder.replace(':', '-')}-{head}-seed{self.seed}-{self.key}"

    def without_result(self, results: Results, kind: str = "row") -> list[Row]:
        """The rows that have no line of a kind yet."""
        lines = results.lines(kind)
        return [
            row
            for row in self.rows
            if not any(same(line, self.made_by, self.seed, row.scoring.to_json()) for line in lines)
        ]


def make_jobs(
    table: Table,
    rows: Sequence[Row],
    setting: Setting,
    seeds: Iterable[int],
    override: Callable[[Config], Config],
    runs: Path,
) -> tuple[list[Job], dict[str, str]]:
    """The trainings of rows, all rows of a seed before the next seed; and why a row has none, by its name.

    Args:
        override: what the user changes of each configuration.
        runs: the folder of run folders, where a training finds the one that it starts from.

    Raises:
        UserError: data that does not open; a configuration that conflicts.
    """
    made: dict[str, list[Config]] = {}
    reasons: dict[str, str] = {}
    for row in rows:
        before = () if setting.small and not row.before_small else row.before
        configs = [configure(table, replace(row, config=one), setting) for one in (*before, row.config)]
        if isinstance(last := configs[-1], str):
            reasons[row.name] = last
            continue
        made[row.name] = [override(one) for one in configs if isinstance(one, Config)]
        for config in made[row.name]:
            config.check()
    jobs: dict[str, Job] = {}
    for seed in seeds:
        for row in rows:
            if row.name in made:
                job = _job(table, row, setting, made[row.name], seed, runs)
                earlier = jobs.get(job.key)
                jobs[job.key] = job if earlier is None else replace(earlier, rows=(*earlier.rows, row))
    return list(jobs.values()), reasons


def _job(table: Table, row: Row, setting: Setting, stages: Sequence[Config], seed: int, runs: Path) -> Job:
    """The last of several trainings, each from the one before."""
    config = replace(stages[-1], run=replace(stages[-1].run, seed=seed))
    if len(stages) == 1:
        return Job(table=table, setting=setting, rows=(row,), config=config, made_by=identity(config))
    first = _job(table, row, setting, stages[:-1], seed, runs)
    weights = str(runs / first.folder / "last")
    model = replace(config.model, weights=weights, weights_scope="all", recalibrate_batches=0)
    config = replace(config, model=model, data=replace(config.data, coco_root=None))
    made_by = identity(config, start=first.key)
    return Job(table=table, setting=setting, rows=(row,), config=config, made_by=made_by, first=first)
