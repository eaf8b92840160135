"""Heat-maps of a grid search: the best score for each pair of values, over all values of the other axes."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ducseg.figures.plots import save_figure

__all__ = ["best_over_others", "draw_heatmap"]


def best_over_others(
    axes: Mapping[str, Sequence[float]], points: Sequence[Mapping[str, float]], scores: Sequence[float]
) -> dict[tuple[str, str], NDArray[np.float64]]:
    """For each pair of axes (rows, columns) that vary: the best score over the others, (len(rows), len(columns))."""
    varying = [name for name, values in axes.items() if len(values) > 1]
    found = {}
    for rows, columns in itertools.combinations(varying, 2):
        best = np.full((len(axes[rows]), len(axes[columns])), -np.inf)
        for point, score in zip(points, scores):
            here = (axes[rows].index(point[rows]), axes[columns].index(point[columns]))
            best[here] = max(best[here], score)
        found[rows, columns] = best
    return found


def draw_heatmap(
    path: Path,
    axes: Mapping[str, Sequence[float]],
    points: Sequence[Mapping[str, float]],
    scores: Sequence[float],
    *,
    title: str,
) -> bool:
    """Draw a heat-map for each pair of axes that vary; scores are fractions, shown in per cent.

    Returns:
        Whether there was anything to draw: fewer than two axes vary otherwise.
    """
    pairs = best_over_others(axes, points, scores)
    if not pairs:
        return False
    from matplotlib.figure import Figure

    columns = min(len(pairs), 4)
    lines = -(-len(pairs) // columns)
    figure = Figure(figsize=(3.1 * columns, 2.7 * lines + 0.6), layout="constrained")
    low, high = min(map(np.min, pairs.values())), max(map(np.max, pairs.values()))
    plots = figure.subplots(lines, columns, squeeze=False).ravel()
    for plot in plots[len(pairs) :]:
        plot.axis("off")
    for plot, ((rows, across), values) in zip(plots, pairs.items()):
        picture = plot.imshow(100 * values, cmap="viridis", vmin=100 * low, vmax=100 * high, aspect="auto")
        plot.set_xticks(range(len(axes[across])), [f"{value:g}" for value in axes[across]])
        plot.set_yticks(range(len(axes[rows])), [f"{value:g}" for value in axes[rows]])
        plot.set_xlabel(across)
        plot.set_ylabel(rows)
        for (row, column), value in np.ndenumerate(values):
            dark = value < (low + high) / 2
            colour = "white" if dark else "black"
            plot.text(column, row, f"{100 * value:.1f}", ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(picture, ax=plots.tolist(), label="%")
    figure.suptitle(title)
    save_figure(figure, path, dpi=120)
    return True
