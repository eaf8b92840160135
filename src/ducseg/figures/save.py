"""matplotlib's figures as files that are whole or not there."""

from pathlib import Path
from typing import TYPE_CHECKING

from ducseg.errors import explain
from ducseg.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["save_figure"]


def save_figure(figure: "Figure", path: Path, *, dpi: float | None = None) -> Path:
    """Write a figure in the format that the suffix of `path` names (none: PNG); its folder is made if need be.

    Raises:
        UserError: a suffix that matplotlib does not write; a folder or disk that refuses the file.
    """
    known, kind = figure.canvas.get_supported_filetypes(), path.suffix[1:].lower() or "png"
    if kind not in known:
        raise explain(
            f"--figure {path}", found=f"the suffix {path.suffix}", needed=f"one of {', '.join(known)}", fix="Rename it."
        )
    with whole_file(path, option="--figure") as temporary:
        figure.savefig(temporary, format=kind, dpi=dpi or "figure")
    return path
