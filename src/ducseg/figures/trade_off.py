"""Accuracy against time a picture: a line a kind of network, a point a variant of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ducseg.errors import explain
from ducseg.figures.plots import RUN_COLOURS, save_figure

__all__ = ["Point", "draw_trade_off"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One network.

    Attributes:
        series: the kind it belongs to.
        label: what is written beside it, such as its stride.
        ms: a picture, in milliseconds.
        scores: name of a score -> its mean and standard deviation in per cent; None: of a single run.
    """

    series: str
    label: str
    ms: float
    scores: dict[str, tuple[float, float | None]]


def draw_trade_off(points: Sequence[Point], path: Path, *, title: str, time: str) -> Path:
    """Draw each score of the points against their time, logarithmic, in one panel a score.

    Points of a series are joined in their order; bars are one standard deviation. Series differ in colour,
    marker and dash.

    Args:
        title: above all.
        time: of which device and size the times are.
        path: its suffix is a format that matplotlib writes (.png, .pdf, .svg).

    Raises:
        UserError: no point; a path that cannot be written.
    """
    from matplotlib.figure import Figure

    if not points:
        raise explain(
            f"--figure {path}", found="no row with scores and a time", needed="some", fix="Run rows, and --time them."
        )
    names = list(dict.fromkeys(name for point in points for name in point.scores))
    figure = Figure(figsize=(5.4 * len(names) + 0.4, 4.6), layout="constrained", dpi=150)
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    series = list(dict.fromkeys(point.series for point in points))
    for axes, name in zip(panels, names):
        for index, one in enumerate(series):
            mine = [point for point in points if point.series == one and name in point.scores]
            _draw(axes, mine, name, one, index)
        axes.set_xscale("log")
        axes.margins(x=0.12)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("{x:g}")
        axes.tick_params(axis="x", which="both", labelsize=8)
        axes.set_xlabel(f"ms a picture ({time})", fontsize=9)
        axes.set_ylabel(f"{name}, %", fontsize=10)
        axes.grid(alpha=0.3, which="both")
    figure.suptitle(title, fontsize=11)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(series), frameon=False, fontsize=9)
    return save_figure(figure, path)


def _draw(axes: Any, points: Sequence[Point], name: str, series: str, index: int) -> None:
    if not points:
        return
    means = [point.scores[name][0] for point in points]
    spreads = [point.scores[name][1] or 0.0 for point in points]
    axes.errorbar(
        [point.ms for point in points], means, yerr=spreads, label=series, color=RUN_COLOURS[index % len(RUN_COLOURS)],
        marker="osD^vP"[index % 6], linestyle=("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))[index % 6],
        markersize=6, linewidth=1.4, capsize=2.5, elinewidth=0.9,
    )  # fmt: skip
    for point, mean in zip(points, means):
        axes.annotate(
            point.label, (point.ms, mean), xytext=(5, 5), textcoords="offset points", fontsize=8,
            color=RUN_COLOURS[index % len(RUN_COLOURS)],
        )  # fmt: skip
