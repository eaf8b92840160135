"""What the plots share: colours of runs beside each other, a matplotlib figure as pixels and as a file."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ducseg.errors import explain
from ducseg.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["RUN_COLOURS", "as_letters", "as_pixels", "in_print", "save_figure"]

RUN_COLOURS = ("#0072b2", "#e68c00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
"""Okabe and Ito's, which the colour-blind tell apart."""

_PRINT: Any = {
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.linewidth": 0.5,
    "hatch.linewidth": 0.5,
    "pdf.fonttype": 42,  # letters stay letters
    "svg.fonttype": "none",
}


def as_letters(name: str) -> str:
    """A name of others' for matplotlib: $ is no mathematics, and a first _ does not keep it out of a legend."""
    return ("\N{ZERO WIDTH SPACE}" if name.startswith("_") else "") + name.replace("$", r"\$")


def in_print() -> AbstractContextManager[None]:
    """matplotlib's settings for figures of a paper: letters that read at their printed size, and stay text."""
    from matplotlib import rc_context

    return rc_context(_PRINT)


def as_pixels(figure: Any) -> NDArray[np.uint8]:
    """A matplotlib figure as RGB (H, W, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba(), np.uint8)[..., :3])


def save_figure(figure: "Figure", path: Path, *, dpi: float | None = None, option: str = "--figure") -> Path:
    """Write a figure in the format that the suffix of `path` names (none: PNG); its folder is made if need be.

    Raises:
        UserError: a suffix that matplotlib does not write; a folder or disk that refuses the file.
    """
    known, kind = figure.canvas.get_supported_filetypes(), path.suffix[1:].lower() or "png"
    if kind not in known:
        raise explain(
            f"{option} {path}", found=f"the suffix {path.suffix}", needed=f"one of {', '.join(known)}", fix="Rename it."
        )
    with whole_file(path, option=option) as temporary:
        figure.savefig(temporary, format=kind, dpi=dpi or "figure")
    return path
