"""The paper's Figure 2 for any rates, and for built networks: which places contribute to the centre, layer by layer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ducseg.errors import explain
from ducseg.figures.plots import in_print, save_figure
from ducseg.ops.coverage import check
from ducseg.ops.network_coverage import NetworkCoverage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_block_coverage", "draw_gridding"]

_EMPTY, _BLUE, _RED = (1.0, 1.0, 1.0), (0.16, 0.38, 0.76), (0.85, 0.11, 0.14)


def draw_gridding(rates: Sequence[int], path: Path, *, kernel_size: int = 3) -> Path:
    """Draw one panel a layer, left to right as in Figure 2: blue pixels contribute to the red one.

    The first panel shows what the top layer sees of the layer below it, the last what the centre gets from the input.

    Args:
        rates: from the first layer (nearest the input) to the last.
        path: a file with a suffix that matplotlib writes (png, pdf, svg); replaced.

    Raises:
        UserError: as `ducseg.ops.hdc.check`.
    """
    found = check(rates, kernel_size)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.1 * len(rates), 3.9), layout="constrained", dpi=150)
    seen = list(reversed(rates))
    axes = figure.subplots(1, len(rates), squeeze=False)[0]
    for index, panel in enumerate(axes):
        _draw_panel(panel, seen[: index + 1], kernel_size, found.receptive_field)
    verdict = "no holes" if found.ok else f"gridding: {found.holes} of {found.receptive_field**2} pixels are holes"
    gap = f", $M_2$ = {found.gaps[1]}" if len(rates) > 1 else ""
    figure.suptitle(
        f"rates {', '.join(map(str, rates))}{gap}: covers {found.covered_fraction:.0%} of "
        f"{found.receptive_field} x {found.receptive_field}, {verdict}",
        fontsize=11 if len(rates) > 2 else 7,
    )
    return save_figure(figure, path)


def draw_block_coverage(path: Path, networks: Mapping[str, Sequence[NetworkCoverage]], *, width: float = 7.2) -> Path:
    """The same of networks as they are built: a row a network, a panel a block from which on the rest is seen.

    Args:
        path: as for `draw_gridding`.
        width: of the figure, in inches.
        networks: by name, from the first block of the dilated part to the last.

    Raises:
        UserError: none of them has a dilated part; as `save_figure`.
    """
    if not any(networks.values()):
        raise explain(
            "figure", found="no dilated part in these networks", needed="one to look at", fix="Take another checkpoint."
        )
    from matplotlib.figure import Figure

    columns = max(map(len, networks.values()))
    with in_print():
        figure = Figure(figsize=(width, (width / columns + 0.35) * len(networks)), layout="constrained", dpi=300)
        for axes, (name, coverages) in zip(figure.subplots(len(networks), columns, squeeze=False), networks.items()):
            for panel, coverage in zip(axes, reversed(coverages)):
                _draw_reached(panel, coverage.paths > 0, max(map(len, (one.paths for one in coverages))))
                side, covered = len(coverage.paths), coverage.covered_fraction
                panel.set_title(f"after {coverage.after}:\n{side} x {side}, {covered:.0%}")
            for panel in axes[len(coverages) :]:
                panel.axis("off")
            axes[0].set_ylabel(name)
        return save_figure(figure, path, option="--out")


def _draw_panel(panel: "Axes", rates: Sequence[int], kernel_size: int, side: int) -> None:
    reached = _reached(rates, kernel_size)
    _draw_reached(panel, np.outer(reached, reached), side)
    covered = float(reached.mean()) ** 2
    panel.set_title(f"+ rate {rates[-1]}: {len(reached)} x {len(reached)}, {covered:.0%}", fontsize=9)


def _draw_reached(panel: "Axes", reached: NDArray[np.bool_], side: int) -> None:
    """A field (n, n) in the middle of a square of that side."""
    top, left = ((side - length) // 2 for length in reached.shape)
    picture = np.full((side, side, 3), _EMPTY)
    picture[top : top + reached.shape[0], left : left + reached.shape[1]][reached] = _BLUE
    picture[side // 2, side // 2] = _RED
    panel.imshow(picture, interpolation="nearest", extent=(0, side, 0, side))
    edges = np.arange(side + 1)
    thin = min(0.6, 20 / side)
    panel.vlines(edges, 0, side, color="0.8", linewidth=thin)
    panel.hlines(edges, 0, side, color="0.8", linewidth=thin)
    panel.set_xticks([])
    panel.set_yticks([])


def _reached(rates: Sequence[int], kernel_size: int) -> NDArray[np.bool_]:
    """Along one dimension, which offsets the layers reach: (RF,)."""
    reached = np.ones(1, bool)
    for rate in rates:
        kernel = np.zeros(1 + (kernel_size - 1) * rate, bool)
        kernel[::rate] = True
        reached = np.convolve(reached, kernel)
    return reached
