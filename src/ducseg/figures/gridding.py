"""The paper's Figure 2 for any rates: which pixels contribute to the centre, layer by layer."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ducseg.figures.plots import save_figure
from ducseg.ops.coverage import check

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_gridding"]

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


def _draw_panel(panel: "Axes", rates: Sequence[int], kernel_size: int, side: int) -> None:
    reached = _reached(rates, kernel_size)
    margin = (side - len(reached)) // 2
    shown = np.zeros((side, side), bool)
    shown[margin : margin + len(reached), margin : margin + len(reached)] = np.outer(reached, reached)
    picture = np.where(shown[..., None], _BLUE, _EMPTY)
    picture[side // 2, side // 2] = _RED
    panel.imshow(picture, interpolation="nearest", extent=(0, side, 0, side))
    edges = np.arange(side + 1)
    thin = min(0.6, 20 / side)
    panel.vlines(edges, 0, side, color="0.8", linewidth=thin)
    panel.hlines(edges, 0, side, color="0.8", linewidth=thin)
    panel.set_xticks([])
    panel.set_yticks([])
    covered = float(reached.mean()) ** 2
    panel.set_title(f"+ rate {rates[-1]}: {len(reached)} x {len(reached)}, {covered:.0%}", fontsize=9)


def _reached(rates: Sequence[int], kernel_size: int) -> NDArray[np.bool_]:
    """Along one dimension, which offsets the layers reach: (RF,)."""
    reached = np.ones(1, bool)
    for rate in rates:
        kernel = np.zeros(1 + (kernel_size - 1) * rate, bool)
        kernel[::rate] = True
        reached = np.convolve(reached, kernel)
    return reached
