"""Precision over recall of KITTI road, one curve a category, with the point of the best F-measure."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ducseg.errors import explain
from ducseg.figures.plots import save_figure
from ducseg.metrics.kitti_road import RoadCounts, pooled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_precision_recall"]


def draw_precision_recall(counts: Mapping[str, RoadCounts], path: Path) -> Path:
    """Draw the curves of all categories and of "urban_road", which pools the roads; grey lines are of equal F-measure.

    Args:
        counts: by category, as `count_kitti_road` and `evaluate_kitti_road` give them. Those without a road pixel have
            no curve.
        path: a file with a suffix that matplotlib writes (.png, .svg, .pdf); replaced.

    Raises:
        UserError: no category with a road pixel.
    """
    from matplotlib.figure import Figure

    shown = {name: part for name, part in pooled(counts).items() if part.road.any()}
    if not shown:
        raise explain(
            "precision-recall figure",
            found="no category with a road pixel",
            needed="at least one",
            fix="Check the ground truth.",
        )
    figure = Figure(figsize=(6, 5.2), layout="constrained", dpi=150)
    axes = figure.subplots()
    lowest = 1.0
    for index, (name, part) in enumerate(shown.items()):
        curve, scores = part.curve(), part.scores()
        is_urban = name == "urban_road"
        colour = "black" if is_urban else f"C{index}"
        text = f"{name}: MaxF {100 * scores['MaxF']:.2f}, AP {100 * scores['AP']:.2f}"
        axes.plot(100 * curve.recall, 100 * curve.precision, color=colour, linewidth=2 if is_urban else 1.2, label=text)
        axes.plot(100 * scores["REC"], 100 * scores["PRE"], color=colour, marker="o", markersize=6)
        lowest = min(lowest, scores["REC"], scores["PRE"])
    # from a tenth below the best points on: what happens at useless thresholds is not worth the room
    start = max(0.0, 10 * np.floor(10 * lowest - 1))
    axes.set(xlim=(start, 100.5), ylim=(start, 100.5), xlabel="recall, %", ylabel="precision, %")
    _draw_equal_f(axes, start)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", fontsize=9)
    return save_figure(figure, path)


def _draw_equal_f(axes: "Axes", start: float) -> None:
    sides = np.linspace(max(start, 1), 100, 200)
    recall, precision = np.meshgrid(sides, sides)
    f_measure = 2 * precision * recall / (precision + recall)
    lines = axes.contour(recall, precision, f_measure, levels=range(10, 100, 5), colors="0.75", linewidths=0.6)
    axes.clabel(lines, fontsize=7, fmt="F %d")
