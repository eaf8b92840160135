"""The parts of a report that are scores: per class, by width, and which class is taken for which."""

from functools import partial
from typing import Any

import numpy as np

from ducseg.data.layouts.grouping import group_function
from ducseg.figures.evaluation_folder import Evaluated
from ducseg.figures.page import Section, details, gallery, paragraph, picture, shaded_table, table
from ducseg.figures.run_results import RunResults, as_percent
from ducseg.figures.width_bars import draw_width_bars
from ducseg.metrics.intervals import differences, in_resamples

__all__ = ["class_section", "confusion_section", "width_section"]

_MOST_BARS = 8
_MOST_CONFUSED = 5
_THIN = ("1-2", "3-4", "5-8")


def class_section(named: dict[str, RunResults]) -> Section:
    """A row a class: one run's scores, or the IoU of each run and how it differs from the first one's."""
    scored = {name: run for name, run in named.items() if run.scores}
    if not scored:
        return Section("Classes", ())
    return Section("Classes", (_one(next(iter(scored.values())).scores) if len(scored) == 1 else _several(scored),))


def _one(scores: dict[str, Any]) -> str:
    thin = scores.get("thin", {}).get("classes", {})
    total = sum(score["pixels"] for score in scores["classes"].values()) or 1
    tolerances = [t for t in next(iter(thin.values()))["within"] if float(t)] if thin else []
    header = ["class", "IoU %"]
    if thin:
        edge = f"boundary IoU {scores['thin']['boundary_width']} px"
        header += ["precision", "recall", "clDice", edge, *(f"F1 within {t} px" for t in tolerances)]
    rows = []
    for name, score in scores["classes"].items():
        cells = [(as_percent(score["iou"]), _shade(score["iou"]))]
        if thin:
            one = thin[name]
            values = [one[key] for key in ("precision", "recall", "cldice", "boundary_iou")]
            values += [one["within"][t]["f1"] for t in tolerances]
            cells += [(as_percent(value), _shade(value)) for value in values]
        rows.append((name, [*cells, (f"{100 * score['pixels'] / total:.2f}", float("nan"))]))
    return shaded_table([*header, "share of pixels"], rows) + _ranking(thin)


def _ranking(thin: dict[str, Any]) -> str:
    """What another threshold would give, where two classes have probabilities."""
    ranked = {name: score for name, score in thin.items() if score.get("auc") is not None}
    if not ranked:
        return ""
    name = list(ranked)[-1]
    one = ranked[name]
    return paragraph(
        f"{name}: area under the ROC curve {one['auc']:.4f}, average precision {one['average_precision']:.3f}. Taking "
        f"a pixel for {name} from a probability of {one['best_threshold']:.3f} on would give the best Dice, "
        f"{as_percent(one['best_dice'])} %; now it is {as_percent(one['dice'])} %."
    )


def _several(runs: dict[str, RunResults]) -> str:
    scored = {name: run.scores for name, run in runs.items()}
    base, *others = scored
    header = ["IoU %", base, *(cell for name in others for cell in (name, "±"))]
    reasons = {name: _not_comparable(scored[base], scored[name]) for name in others}
    compared = partial(_compared, [not reason for reason in reasons.values()])
    names = list(dict.fromkeys(name for scores in scored.values() for name in scores["classes"]))
    rows = [
        compared(name, [scores["classes"].get(name, {}).get("iou") for scores in scored.values()]) for name in names
    ]
    rows.append(compared("mean IoU", [scores["mean_iou"] for scores in scored.values()]))
    strong = [len(rows) - 1]
    thin = {name: scores["thin"]["classes"] for name, scores in scored.items() if "thin" in scores}
    if len(thin) == len(scored):
        widths = {scores["thin"]["boundary_width"] for scores in scored.values()}
        titles = {"cldice": "clDice"}
        if len(widths) == 1:
            titles["boundary_iou"] = f"boundary IoU {widths.pop()} px"
        for key, title in titles.items():
            rows += [
                compared(f"{title} of {name}", [one[name][key] if name in one else None for one in thin.values()])
                for name in names
            ]
    said = [paragraph(f"{name}: no difference to {base}, {reason}.") for name, reason in reasons.items() if reason]
    said += [_in_doubt(base, runs[base], name, runs[name].stored) for name, reason in reasons.items() if not reason]
    return "".join(said) + table(header, rows, strong=strong)


def _in_doubt(base: str, run: RunResults, name: str, other: Evaluated | None) -> str:
    """Between what the differences lie with other pictures; "" where their pictures are not known to be the same."""
    first = run.stored
    if first is None or other is None or first.overlaps.keys() != other.overlaps.keys():
        return ""
    group = group_function((run.config.get("data") or {}).get("group_by"))
    found = differences(other.overlaps, first.overlaps, first.classes, group=group)
    if found is None:
        return ""
    said = [f"{name} beside {base}: mean IoU {_bounds(found['mean_iou'])} in {in_resamples(found)}, the same for both"]
    for word, sign in (("better", 1), ("worse", -1)):
        sure = {one: bounds for one, bounds in found["classes"].items() if min(sign * bound for bound in bounds) > 0}
        if sure:
            said.append(f"{word}: {', '.join(f'{one} {_bounds(bounds)}' for one, bounds in sure.items())}")
    return paragraph(f"{'; '.join(said)}.")


def _bounds(bounds: list[float]) -> str:
    return " to ".join(f"{100 * bound:+.1f}" for bound in bounds)


def _not_comparable(first: dict[str, Any], other: dict[str, Any]) -> str:
    """Why a difference of two runs says nothing; "" where their truths have the same classes and pixels of each."""
    one, two = ({name: score["pixels"] for name, score in scores["classes"].items()} for scores in (first, other))
    if one.keys() != two.keys():
        return "for their classes are not the same"
    return "" if one == two else "for they were scored on different data"


def _compared(comparable: list[bool], name: str, values: list[float | None]) -> tuple[str, ...]:
    first = values[0]
    cells = [name, as_percent(first)]
    for value, is_comparable in zip(values[1:], comparable):
        difference = "" if value is None or first is None or not is_comparable else f"{100 * (value - first):+.1f}"
        cells += [as_percent(value), difference]
    return tuple(cells)


def width_section(named: dict[str, RunResults]) -> Section:
    """Recall and precision by the width of objects, of the classes with the largest share of thin pixels."""
    thin = {name: run.scores["thin"]["classes"] for name, run in named.items() if "thin" in run.scores}
    if not thin:
        return Section("By width", ())
    first = next(iter(thin.values()))
    classes = sorted(
        (name for name, score in first.items() if _pixels(score)), key=lambda name: -_thin_share(first[name])
    )
    classes = classes[:_MOST_BARS]
    bars = [
        picture(
            draw_width_bars(name, {run: one[name]["by_width"] for run, one in thin.items() if name in one}),
            _shares(first[name]),
        )
        for name in classes
    ]
    text = (
        "How much of the truth was found where its object is so wide (recall, bars), and how much of what was "
        "predicted is right where the predicted object is so wide (precision, dots). The width of a pixel is the "
        "diameter of the largest disk inside its object that covers it."
    )
    left_out = sum(1 for score in first.values() if _pixels(score)) - len(classes)
    more = [paragraph(f"The {len(classes)} classes with the largest share of thin pixels; {left_out} more are below.")]
    tables = [details("The same in numbers", *(_width_table(run, one) for run, one in thin.items()))]
    return Section("By width", (paragraph(text), gallery(bars), *(more if left_out > 0 else []), *tables))


def _width_table(run: str, classes: dict[str, Any]) -> str:
    """Recall / precision of one run, all classes by width."""
    header = [f"{run}: recall / precision, %", *next(iter(classes.values()))["by_width"]]
    rows = []
    for name, score in classes.items():
        entries = score["by_width"].values()
        texts = [f"{as_percent(entry['recall'])} / {as_percent(entry['precision'])}" for entry in entries]
        rows.append((name, list(zip(texts, (_shade(entry["recall"]) for entry in entries)))))
    return shaded_table(header, rows)


def _pixels(score: dict[str, Any]) -> int:
    return sum(int(entry["pixels"]) for entry in score["by_width"].values())


def _thin_share(score: dict[str, Any]) -> float:
    return sum(int(score["by_width"][name]["pixels"]) for name in _THIN) / _pixels(score)


def _shares(score: dict[str, Any]) -> str:
    total = _pixels(score)
    shares = (
        f"{100 * entry['pixels'] / total:.0f} % {name}" for name, entry in score["by_width"].items() if entry["pixels"]
    )
    return f"Of its true pixels: {', '.join(shares)} px."


def confusion_section(name: str, run: RunResults) -> Section:
    """What each class's pixels were taken for, and the costliest mistakes in words."""
    parts: list[str] = []
    for split, found in run.evaluations.items():
        names, matrix = found.classes.names, found.matrix
        rows = matrix.sum(1)
        present = [index for index in range(len(names)) if rows[index] or matrix[:, index].sum()]
        shares = matrix / np.maximum(rows, 1)[:, None]
        wrong = [(shares[i, j], i, j) for i in present for j in present if i != j and matrix[i, j]]
        worst = sorted(wrong, reverse=True)[:_MOST_CONFUSED]
        said = "; ".join(f"{100 * share:.0f} % of {names[i]} was taken for {names[j]}" for share, i, j in worst)
        body = [
            (names[i], [(f"{100 * shares[i, j]:.1f}" if matrix[i, j] else "", float(shares[i, j])) for j in present])
            for i in present
        ]
        parts += [
            paragraph(f"Per cent of each class's true pixels (rows) by what was predicted (columns), {split}."),
            *([paragraph(f"{said}.")] if said else []),
            shaded_table(["true \\ predicted", *(names[j] for j in present)], body, is_matrix=len(present) > 4),
        ]
    return Section(f"Confusion, {name}", tuple(parts))


def _shade(value: float | None) -> float:
    return float("nan") if value is None else value
