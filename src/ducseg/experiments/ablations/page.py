"""A table as people read it: the paper's number with its tag, ours with seeds and spread, or "not run"."""

import statistics
from collections.abc import Sequence

from ducseg.experiments.ablations.jobs import Job
from ducseg.experiments.ablations.ours import Ours, mean_and_spread
from ducseg.experiments.ablations.rows import Table
from ducseg.experiments.ablations.small import Setting, recipe_of
from ducseg.experiments.ablations.timing import how
from ducseg.metrics.thin import WIDTH_BINS
from ducseg.train.config import Config
from ducseg.train.sections import in_minutes

__all__ = ["described", "markdown", "spread"]

_TAGS = "P: the paper's text; D: arithmetic on it; C: the authors' code or page; 2: a secondary source"
_OURS = "Ours: mean ± standard deviation over seeds (their number), of the last step."
_HEAD = ("row", "what", "paper, mIoU", "ours, mIoU", "ours, thin", "ms a picture", "MB", "M parameters", "s", "steps")


def markdown(table: Table, setting: Setting, jobs: Sequence[Job], found: Sequence[Ours], *, command: str) -> str:
    """The whole page: what it is, the table, IoU by class, how it was made."""
    lines = [f"# {table.name}: {table.title}", "", f"    {command}", ""]
    for line in described(table, setting, jobs):
        lines += [line, ""]
    lines += [*_aligned(_summary(table, found)), "", f"{_TAGS}. {_OURS}", *_timed(found), "", *_notes(found)]
    if classes := _classes(found):
        lines += ["IoU by class, mean over seeds, thin ones first:", "", *_aligned(classes), ""]
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
    lines = [f"{setting.data}, scored on {jobs[0].config.data.val_split}: {_common(jobs)}"]
    if staged := list(dict.fromkeys(row.name for job in jobs if job.first is not None for row in job.rows)):
        lines.append(f"Trained in stages, each from the one before: {', '.join(staged)}.")
    if setting.small:
        lines.append(
            "SMALL SCALE: what is studied is the paper's (head, stride, cell, ASPP, rates, which patch size), the rest "
            f"is shrunk ({_shrunk(table, setting, jobs)}, few epochs; batch norm learns). The paper's numbers are of "
            "its own data and scale: compare differences between rows, not numbers."
        )
    else:
        lines.append("FULL SCALE: each row is the paper's own configuration, or its authors' (ducseg experiments).")
    return lines


def _common(jobs: Sequence[Job]) -> str:
    """Encoders and where they start, crops, and how is trained; each in all the ways that there are."""
    configs = [job.config for job in jobs]
    starts = ["the training before" if job.first is not None else job.config.model.weights or "scratch" for job in jobs]
    widths = ["" if one.model.width == 64 else f" of width {one.model.width}" for one in configs]
    encoders = [f"{one.model.encoder}{width} from {start}" for one, width, start in zip(configs, widths, starts)]
    crops = ["{}x{}".format(*one.augment.crop_size) for one in configs]
    optimizers = [f"{one.optimizer.name} at {one.optimizer.learning_rate:g}" for one in configs]
    lengths = [_length(one) for one in configs]
    batches = [str(one.optimizer.batch_size) for one in configs]
    parts = (("", encoders), ("crops of ", crops), ("batch ", batches), ("", optimizers), ("", lengths))
    return ", ".join(name + _each(found) for name, found in parts)


def _length(config: Config) -> str:
    optimizer, run = config.optimizer, config.run
    if optimizer.steps is not None:
        return f"{optimizer.steps} steps"
    if optimizer.epochs is not None:
        return f"{optimizer.epochs} epochs"
    return f"{in_minutes(run.minutes)}{' of training' if run.minutes_of == 'training' else ''}"


def _each(found: Sequence[str]) -> str:
    return " or ".join(dict.fromkeys(found))


def _shrunk(table: Table, setting: Setting, jobs: Sequence[Job]) -> str:
    recipe, used = recipe_of(table, setting), {job.config.model.encoder for job in jobs}
    shrunk = [f"{small} for {large}" for large, small in recipe.encoders.items() if small in used]
    if table.data == "cityscapes":
        sizes = ((recipe.patch, "544x544"), (recipe.bigger, "880x880"))
        shrunk += ["crops {}x{} for {}".format(*small, paper) for small, paper in sizes]
    return ", ".join(shrunk)


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
        ms, peak = (None, None) if one.time is None else (one.time["ms"], one.time["peak_mb"])
        cost = ["-" if value is None else f"{value:.3g}" for value in (ms, peak)]
        rows.append([one.row.name, one.row.title, paper, spread(one.values()), thin, *cost, *made])
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
    categories = sorted(run[0].lines[0]["scores"]["road"], key=lambda name: name != "urban_road")  # all of them first
    columns = [(category, score) for category in categories for score in ("MaxF", "AP")]
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
