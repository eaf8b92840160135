"""Recall by the width of objects as bars, one small figure a class, readable on a telephone."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.figures.plots import RUN_COLOURS, as_pixels

__all__ = ["draw_width_bars"]


def draw_width_bars(title: str, runs: Mapping[str, Mapping[str, Any]]) -> NDArray[np.uint8]:
    """Bars for recall and dots for precision over the ranges of width, RGB (H, W, 3).

    Args:
        runs: name -> one class's "by_width" of `ducseg.metrics.thin.ThinCounts.scores`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6, 2.5), layout="constrained", dpi=180)
    axes = figure.subplots()
    names = list(next(iter(runs.values())))
    places, width = np.arange(len(names)), 0.8 / len(runs)
    for index, (run, by_width) in enumerate(runs.items()):
        recall, precision = ([_percent(by_width[name][key]) for name in names] for key in ("recall", "precision"))
        shifted = places + (index - (len(runs) - 1) / 2) * width
        hatch = ("", "//", "..", "xx", "\\\\", "++")[index % 6]
        axes.bar(
            shifted, recall, 0.92 * width, color=RUN_COLOURS[index % 6], hatch=hatch, edgecolor="white",
            label="recall" if len(runs) == 1 else run,
        )  # fmt: skip
        axes.plot(shifted, precision, "D", color="black", markersize=4, label="precision" if index == 0 else None)
    axes.set_title(title, fontsize=10)
    axes.set_xticks(places, names)
    axes.set_xlabel("width of the object, px", fontsize=9)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_ylim(0, 105)
    axes.set_ylabel("%", fontsize=9)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    figure.legend(fontsize=7.5, loc="outside lower center", ncols=3, frameon=False)
    return as_pixels(figure)


def _percent(value: float | None) -> float:
    return float("nan") if value is None else 100 * value
