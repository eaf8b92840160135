"""Recall by the width of objects as bars, one small figure a class, readable on a telephone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.errors import explain
from ducseg.figures.label_maps import write_png
from ducseg.figures.plots import RUN_COLOURS, as_letters, as_pixels

__all__ = ["draw_width_bars", "draw_width_figure"]


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
            label="recall" if len(runs) == 1 else as_letters(run),
        )  # fmt: skip
        axes.plot(shifted, precision, "D", color="black", markersize=4, label="precision" if index == 0 else None)
    axes.set_title(as_letters(title), fontsize=10)
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


def draw_width_figure(thin: Mapping[str, Any], path: Path) -> Path:
    """Write a PNG with the bars of every class that occurs, three in a row.

    Args:
        thin: the result of `ducseg.metrics.thin.ThinCounts.scores`.
        path: replaced.

    Raises:
        UserError: no class occurs, an output that cannot be written.
    """
    widths = {name: score["by_width"] for name, score in thin["classes"].items()}
    there = {name: one for name, one in widths.items() if any(e["pixels"] or e["predicted"] for e in one.values())}
    if not there:
        raise explain(f"figure {path}", found="no class in any picture", needed="one", fix="Score pictures with masks.")
    bars = [draw_width_bars(name, {"": by_width}) for name, by_width in there.items()]
    bars += [np.full_like(bars[0], 255)] * (-len(bars) % 3 if len(bars) > 3 else 0)
    write_png(path, np.concatenate([np.concatenate(bars[at : at + 3], axis=1) for at in range(0, len(bars), 3)]))
    return path


def _percent(value: float | None) -> float:
    return float("nan") if value is None else 100 * value
