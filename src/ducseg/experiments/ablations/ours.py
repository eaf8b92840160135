"""What our runs of a row came to: the results that count for it, by seed, and what follows from them."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ducseg.experiments.ablations.identity import differing
from ducseg.experiments.ablations.jobs import Job
from ducseg.experiments.ablations.results import same
from ducseg.experiments.ablations.rows import Row

__all__ = ["THIN_CLASSES", "Ours", "mean_and_spread", "ours"]

THIN_CLASSES = (
    "pole", "traffic light", "traffic sign", "sign symbol", "fence", "person", "pedestrian", "rider", "bicyclist",
    "bicycle", "motorcycle", "vessel", "crack",
)  # fmt: skip
"""Names of classes that are a few pixels wide (paper section 4.1: poles, traffic lights, traffic signs)."""
_TELLING = {"pole", "vessel", "crack"}


@dataclass(frozen=True, kw_only=True)
class Ours:
    """What our runs of one row came to, a line of results for each seed.

    Attributes:
        other: how many results of other settings there are, which are not counted.
        otherwise: what differs in the last of these.
        time: the "time" line of its network; None: not timed.
        widths: the "widths" lines of its runs, for each seed that has one.
        reason: why it was not run.
    """

    row: Row
    lines: tuple[dict[str, Any], ...]
    other: int = 0
    otherwise: tuple[str, ...] = ()
    time: dict[str, Any] | None = None
    widths: tuple[dict[str, Any], ...] = ()
    reason: str = ""

    def values(self, *names: str) -> list[float]:
        """Mean IoU in per cent for each seed; of some classes alone, those that are defined."""
        found = []
        for line in self.lines:
            classes = line["scores"]["classes"]
            defined = [one["iou"] for name, one in classes.items() if name in (names or classes)]
            defined = [iou for iou in defined if iou is not None]
            found += [100 * statistics.fmean(defined)] if defined else []
        return found

    @property
    def classes(self) -> list[str]:
        """Of its data set, the thin ones first."""
        names = list(self.lines[0]["scores"]["classes"]) if self.lines else []
        return sorted(names, key=lambda name: name not in self.thin_classes)

    @property
    def thin_classes(self) -> list[str]:
        """Those of its data set, if that is of streets, vessels or cracks: a bicycle of VOC2012 fills its picture."""
        names = list(self.lines[0]["scores"]["classes"]) if self.lines else []
        return [name for name in names if name in THIN_CLASSES] if _TELLING & set(names) else []

    @property
    def thin(self) -> list[float]:
        """Mean IoU of the thin classes in per cent for each seed; [] where the data set has none."""
        return self.values(*self.thin_classes) if self.thin_classes else []

    def recall_at(self, width: str) -> list[float]:
        """Recall in per cent of the thin classes' pixels whose object is so wide, pooled, for each seed."""
        found = []
        for line in self.widths:
            classes = line["thin"]["classes"]
            bins = [classes[name]["by_width"][width] for name in self.thin_classes]
            pixels = sum(one["pixels"] for one in bins)
            right = sum(one["pixels"] * one["recall"] for one in bins if one["pixels"])
            found += [100 * right / pixels] if pixels else []
        return found

    def mean_cldice(self) -> list[float]:
        """Mean clDice of the thin classes in per cent, for each seed."""
        found = []
        for line in self.widths:
            values = [line["thin"]["classes"][name]["cldice"] for name in self.thin_classes]
            values = [value for value in values if value is not None]
            found += [100 * statistics.fmean(values)] if values else []
        return found

    @property
    def scored(self) -> dict[str, list[float]]:
        """What is drawn of it, in per cent for each seed."""
        return {"mean IoU": self.values(), "mean IoU of thin classes": self.thin}


def ours(
    rows: Sequence[Row],
    jobs: Sequence[Job],
    reasons: Mapping[str, str],
    lines: Sequence[dict[str, Any]],
    times: Mapping[str, dict[str, Any]],
    widths: Sequence[dict[str, Any]] = (),
) -> list[Ours]:
    """Each row with those results that were made by its very settings.

    Args:
        reasons: why a row has no job, by its name.
        lines, widths: the "row" and "widths" lines that there are.
        times: "time" lines by row's name.
    """
    found = []
    for row in rows:
        mine = [job for job in jobs if row in job.rows]
        lines_of_row, others, otherwise = _of_row(row, mine, lines)
        found.append(
            Ours(
                row=row,
                lines=lines_of_row,
                other=others,
                otherwise=otherwise,
                time=times.get(row.name),
                widths=_of_row(row, mine, widths)[0],
                reason=reasons.get(row.name, ""),
            )
        )
    return found


def _of_row(
    row: Row, jobs: Sequence[Job], lines: Sequence[dict[str, Any]]
) -> tuple[tuple[dict[str, Any], ...], int, tuple[str, ...]]:
    """Its results by seed; how many there are of other settings, and what differs in the last of those."""
    scoring, seeds = row.scoring.to_json(), [job.seed for job in jobs]
    by_seed: dict[int, dict[str, Any]] = {}
    others = []
    for line in lines:
        if any(same(line, job.made_by, job.seed, scoring) for job in jobs):
            by_seed[line["seed"]] = line
        elif jobs and line["seed"] in seeds and line["scoring"] == scoring:
            meant = (jobs[0].table.name, row.name, jobs[0].setting.data)
            others += [line] if (line["table"], line["row"], line["data"]) == meant else []
    otherwise = differing(jobs[0].made_by, others[-1]["made_by"]) if others else []
    return (
        tuple(by_seed[seed] for seed in sorted(by_seed)),
        len(others),
        tuple(one for one in otherwise if "--run.seed" not in one),
    )


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard deviation; None of a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
