"""A network's gridding on one page: a picture, its score map, coverage, effective field, and the lattice's scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ducseg.figures.label_maps import as_rgb
from ducseg.figures.plots import RUN_COLOURS, as_letters, in_print, save_figure
from ducseg.metrics.gridding import GRIDS, PeriodScore
from ducseg.ops.network_coverage import NetworkCoverage
from ducseg.ops.receptive_field import side_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_gridding_report"]


def draw_gridding_report(
    path: Path,
    *,
    picture: NDArray[Any],
    score: NDArray[np.floating],
    name: str,
    coverage: NetworkCoverage | None,
    field: NDArray[np.float64],
    periods: Sequence[PeriodScore],
) -> Path:
    """Draw it two columns of a page wide, in the format of the suffix.

    Args:
        picture, score, name: (H, W, C), and (H, W) of the class of that name.
        coverage: None: nothing to count, and its panel says so.
        field: (H, W) effective receptive field around the middle.

    Raises:
        UserError: as `save_figure`.
    """
    from matplotlib.figure import Figure

    with in_print():
        figure = Figure(figsize=(7.2, 4.6), layout="constrained", dpi=200)
        above, below = figure.subfigures(2, 1, height_ratios=(1, 1.05), squeeze=False)[:, 0]
        shown, scores = above.subplots(1, 2)
        shown.imshow(as_rgb(picture), interpolation="antialiased")
        shown.set_title("picture")
        largest = float(np.percentile(np.abs(score), 99)) or 1.0
        drawn = scores.imshow(score, cmap="PuOr", vmin=-largest, vmax=largest, interpolation="antialiased")
        scores.set_title(f"score of {as_letters(name)}, above the mean of all classes")
        above.colorbar(drawn, ax=scores, shrink=0.9)
        paths, effective, bars = below.subplots(1, 3, width_ratios=(1, 1, 1.5))
        _draw_coverage(paths, coverage)
        _draw_field(effective, field)
        for panel in (shown, scores, paths, effective):
            panel.set_xticks([])
            panel.set_yticks([])
        _draw_periods(bars, periods)
        return save_figure(figure, path)


def _draw_coverage(panel: "Axes", coverage: NetworkCoverage | None) -> None:
    if coverage is None:
        panel.text(0.5, 0.5, "finer maps lead\npast every layer", ha="center", va="center", transform=panel.transAxes)
        panel.set_title("coverage")
        return
    shares = np.where(coverage.paths > 0, coverage.paths, np.nan)
    logs = np.log10(shares)
    panel.set_facecolor("white")
    panel.imshow(logs, cmap="viridis_r", vmin=float(np.nanmax(logs)) - 8, interpolation="nearest")
    side = " x ".join(map(str, coverage.paths.shape))
    panel.set_title(f"coverage {coverage.covered_fraction:.0%}\nof {side} places of {coverage.stride} px")


def _draw_field(panel: "Axes", field: NDArray[np.float64]) -> None:
    side, (row, column) = side_of(field), (length // 2 for length in field.shape)
    half = min(side // 2 + 8, row, column)
    near = field[row - half : row + half + 1, column - half : column + half + 1]
    panel.imshow(np.sqrt(near), cmap="cividis", interpolation="antialiased")
    panel.set_title(f"effective receptive field\n95 % in {side} x {side} px")


def _draw_periods(panel: "Axes", periods: Sequence[PeriodScore]) -> None:
    looked_at = [period for period in periods if period.trained is not None]
    places = np.arange(len(looked_at))
    kinds = {
        "trained": ([period.trained for period in looked_at], ""),
        "random weights": ([period.fresh for period in looked_at], "///"),
        "pictures": ([period.pictures for period in looked_at], "..."),
    }
    for index, ((kind, values), colour) in enumerate(zip(kinds.items(), RUN_COLOURS)):
        heights = [np.nan if value is None else value for value in values[0]]
        panel.bar(
            places + 0.27 * (index - 1), heights, 0.25, color=colour, hatch=values[1], edgecolor="white", label=kind
        )  # fmt: skip
    panel.axhline(GRIDS, color="black", linewidth=0.8, linestyle="--")
    panel.text(1, GRIDS, " grids", transform=panel.get_yaxis_transform(), va="center")
    panel.axhline(0, color="0.5", linewidth=0.5)
    low, high = panel.get_ylim()
    low, high = max(low, -6), max(high, GRIDS + 2)
    panel.set_ylim(low, high + 0.25 * (high - low))
    panel.set_xticks(places, [f"{period.pixels}" for period in looked_at])
    panel.set_xlabel("period, pixels")
    panel.set_title("lattice in the scores, dB")
    panel.legend(loc="upper left", frameon=False, ncols=3, columnspacing=1, handlelength=1.4)
