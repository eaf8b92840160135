"""A table as people read it: the paper's number with its tag, ours with seeds and spread, or "not run"."""

import statistics
from collections.abc import Sequence

from ducseg.experiments.ablations.jobs import Job
from ducseg.experiments.ablations.ours import Ours, mean_and_spread
from ducseg.experiments.ablations.rows import Table
from ducseg.experiments.ablations.small import Setting, recipe_of
from ducseg.experiments.ablations.timing import how
from ducseg.metrics.thin import WIDTH_BINS

__all__ = ["described", "markdown", "spread"]

_TAGS = "P: the paper's text; D: arithmetic on it; C: the authors' code or page; 2: a secondary source"
_OURS = "Ours: mean ± standard deviation over seeds (their number), of the last step."
_HEAD = ("row", "what", "paper, mIoU", "ours, mIoU", "ours, thin", "ms a picture", "M parameters", "s", "steps")


def markdown(table: Table, setting: Setting, jobs: Sequence[Job], found: Sequence[Ours], *, command: str) -> str:
    """The whole page: what it is, the table, IoU by class, how it was made."""
    lines = [f"# {table.name}: {table.title}", "", f"    {command}", ""]
    for line in described(table, setting, jobs):
        lines += [line, ""]
    lines += [*_aligned(_summary(table, found)), "", f"{_TAGS}. {_OURS}", *_timed(found), "", *_notes(found)]
    if classes := _classes(found):
        lines += ["IoU by class, mean over seeds, thin classes first:", "", *_aligned(classes), ""]
    if by_width := _by_width(found):
        lines += ["Thin classes: recall of pixels by the width of their object, pooled, and mean clDice:", ""]
        lines += [*_aligned(by_width), ""]
    if roads := _roads(found):
        lines += ["KITTI road's scores in the bird's-eye view:", "", *_aligned(roads), ""]
    return "\n".join([*lines, *_provenance(found)]) + "\n"


def described(table: Table, setting: Setting, jobs: Sequence[Job]) -> list[str]:
    """What the rows have in common, and at small scale what was shrunk, in lines for people."""
    if not jobs:
        return []
    config = jobs[0].config
    model, optimizer = config.model, config.optimizer
    crops = dict.fromkeys("{}x{}".format(*job.config.augment.crop_size) for job in jobs)
    length = f"{config.run.minutes:g} minutes" if optimizer.epochs is None else f"{optimizer.epochs} epochs"
    start = model.weights or "scratch"
    if jobs[0].first is not None:
        start = "the training before"
    lines = [
        f"{setting.data}, scored on {config.data.val_split}: {model.encoder}"
        + (f" of width {model.width}" if model.width != 64 else "")
        + f" from {start}, crops of {' and '.join(crops)}, batch {optimizer.batch_size}, "
        f"{optimizer.name} at {optimizer.learning_rate:g}, {length}"
    ]
    if staged := list(dict.fromkeys(row.name for job in jobs if job.first is not None for row in job.rows)):
        lines.append(f"Trained in stages, each from the one before: {', '.join(staged)}.")
    if setting.small:
        recipe = recipe_of(table, setting)
        shrunk = [f"{small} for {large}" for large, small in recipe.encoders.items()]
        shrunk[-1] += ", a quarter as wide and from scratch"
        if table.data == "cityscapes":
            sizes = ((recipe.patch, "544x544"), (recipe.bigger, "880x880"))
            shrunk += ["crops {}x{} for {}".format(*small, paper) for small, paper in sizes]
        lines.append(
            "SMALL SCALE: what is studied is the paper's (head, stride, cell, ASPP, rates, which patch size), the rest "
            f"is shrunk ({', '.join(shrunk)}, few epochs; batch norm learns). The paper's numbers are of its own data "
            "and scale: compare differences between rows, not numbers."
        )
    return lines


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation (number); "not run" without any."""
    if not values:
        return "not run"
    mean, deviation = mean_and_spread(values)
    return f"{mean:.1f}{'' if deviation is None else f' ± {deviation:.1f}'} ({len(values)})"


def _summary(table: Table, found: Sequence[Ours]) -> list[list[str]]:
    rows = [list(_HEAD)]
    for one in found:
        paper = str(one.row.paper) if one.row.paper else "not recovered" if table.of_paper else "-"
        made = ["-"] * 3
        if one.lines:
            made = [f"{one.lines[0]['parameters'] / 1e6:.1f}", _mean(one, "seconds"), _mean(one, "steps")]
        thin = spread(one.thin) if one.thin else "-"
        ms = "-" if one.time is None else f"{one.time['ms']:.3g}"
        rows.append([one.row.name, one.row.title, paper, spread(one.values()), thin, ms, *made])
    return rows


def _timed(found: Sequence[Ours]) -> list[str]:
    return list(dict.fromkeys(f"Time: {how(one.time)}." for one in found if one.time is not None))


def _mean(one: Ours, name: str) -> str:
    return f"{statistics.fmean(line[name] for line in one.lines):.0f}"


def _classes(found: Sequence[Ours]) -> list[list[str]]:
    run = [one for one in found if one.lines]
    names = run[0].classes if run else []
    rows = [["row", *names]]
    for one in run:
        means = [one.values(name) for name in names]
        rows.append([one.row.name, *("-" if not values else f"{statistics.fmean(values):.1f}" for values in means)])
    return rows if run else []


def _by_width(found: Sequence[Ours]) -> list[list[str]]:
    run = [one for one in found if one.widths and one.thin_classes]
    rows = [["row", *(f"{width} px" for width in WIDTH_BINS), "clDice"]]
    for one in run:
        rows.append([one.row.name, *(spread(one.recall_at(width)) for width in WIDTH_BINS), spread(one.mean_cldice())])
    return rows if run else []


def _roads(found: Sequence[Ours]) -> list[list[str]]:
    run = [one for one in found if one.lines and "road" in one.lines[0]["scores"]]
    if not run:
        return []
    columns = [(category, score) for category in run[0].lines[0]["scores"]["road"] for score in ("MaxF", "AP")]
    rows = [["row", *(f"{category} {score}" for category, score in columns)]]
    for one in run:
        roads = [line["scores"]["road"] for line in one.lines]
        rows.append([one.row.name, *(spread([100 * road[place][score] for road in roads]) for place, score in columns)])
    return rows


def _notes(found: Sequence[Ours]) -> list[str]:
    lines = [f"- {one.row.name}: not run, {one.reason}." for one in found if one.reason]
    for one in found:
        if one.other:
            what = "; ".join(one.otherwise[:4])
            lines.append(f"- {one.row.name}: {one.other} results of other settings are there and not counted ({what}).")
    return [*lines, ""] if lines else []


def _provenance(found: Sequence[Ours]) -> list[str]:
    """Commits, machines and devices of all that is counted."""
    lines = [line for one in found for line in one.lines]
    if not lines:
        return []
    said = [
        f"{name} {', '.join(sorted({str(line[name]) for line in lines if name in line}) or ['unknown'])}"
        for name in ("commit", "device", "machine", "torch", "ducseg")
    ]
    days = sorted({line["finished"][:10] for line in lines})
    return [f"Made by {'; '.join(said)}; {' to '.join(dict.fromkeys((days[0], days[-1])))}."]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table that also reads well as text."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
