"""What the plots share: colours of runs beside each other, and a figure as pixels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["RUN_COLOURS", "as_pixels"]

RUN_COLOURS = ("#0072b2", "#e68c00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
"""Okabe and Ito's, which the colour-blind tell apart."""


def as_pixels(figure: Any) -> NDArray[np.uint8]:
    """A matplotlib figure as RGB (H, W, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba(), np.uint8)[..., :3])
