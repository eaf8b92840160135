"""Pictures beside label maps for a paper, as its Figures 3 to 7: panels in rows, letters and hatches as vectors.

(`ducseg.figures.panels` makes one PNG of pixels, for a screen.)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE, ClassSet
from ducseg.errors import explain
from ducseg.figures.confusable import hatches
from ducseg.figures.label_maps import as_rgb, colourise, present_classes
from ducseg.figures.plots import as_letters, in_print, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_sheet"]

_DPI = 300
_GAP, _TITLE, _LEGEND = 0.03, 0.16, 0.15  # inches


def draw_sheet(
    path: Path,
    rows: Sequence[Sequence[NDArray[Any]]],
    classes: ClassSet,
    *,
    titles: Sequence[str] = (),
    names: Sequence[str] = (),
    width: float = 7.2,
) -> Path:
    """Write one panel for each picture or label map, above a legend of the classes that occur.

    Args:
        path: its suffix is a format that matplotlib writes (pdf, png, svg).
        rows: pictures (H, W, C), taken by `as_rgb`, or label maps uint8 (H, W), 255 black; in each row as many, of one
            size.
        titles: above the columns.
        names: left of the rows.
        width: of the figure, in inches; 7.2 is a page of two columns.

    Raises:
        UserError: no row, rows of several lengths; as `save_figure`.
    """
    lengths = {len(row) for row in rows}
    if len(lengths) != 1 or lengths == {0}:
        raise explain("figure", found=f"{len(rows)} rows", needed="rows of as many panels", fix="Check the pictures.")
    from matplotlib.figure import Figure

    maps = [panel for row in rows for panel in row if panel.ndim == 2]
    present = sorted({index for panel in maps for index in present_classes(panel, classes)})
    hatch_of = dict(zip(present, hatches([classes.palette[index] for index in present])))
    left, count = 0.16 if names else 0.0, lengths.pop()
    side = (width - left - _GAP * (count - 1)) / count
    heights = [side * row[0].shape[0] / row[0].shape[1] for row in rows]
    top = _TITLE if titles else 0.0
    with in_print():
        columns = max(1, int(width / (0.45 + 0.055 * max((len(classes.names[index]) for index in present), default=1))))
        legend = _LEGEND * -(-(len(present) + any((panel == IGNORE).any() for panel in maps)) // columns)
        height = top + sum(heights) + _GAP * len(rows) + (legend + 0.06 if maps else 0)
        figure = Figure(figsize=(width, height), dpi=_DPI)
        above = height - top
        for index, (row, tall) in enumerate(zip(rows, heights)):
            above -= tall
            for column, panel in enumerate(row):
                box = (left + column * (side + _GAP), above, side, tall)
                axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
                _draw(axes, panel, classes, hatch_of, round(side * _DPI))
                if titles and index == 0:
                    axes.set_title(as_letters(titles[column]), pad=2)
                if names and column == 0:
                    axes.set_ylabel(as_letters(names[index]), labelpad=2)
            above -= _GAP
        if maps:
            _draw_legend(figure, classes, hatch_of, columns, any((panel == IGNORE).any() for panel in maps))
        return save_figure(figure, path, option="--out")


def _draw(axes: "Axes", panel: NDArray[Any], classes: ClassSet, hatch_of: dict[int, str], width: int) -> None:
    colours = colourise(panel, classes) if panel.ndim == 2 else as_rgb(panel)
    height = max(1, round(width * panel.shape[0] / panel.shape[1]))
    if width < panel.shape[1]:  # thin objects fade in place of vanishing
        colours = np.asarray(cv2.resize(colours, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    axes.imshow(colours, interpolation="nearest", extent=(0, panel.shape[1], panel.shape[0], 0), aspect="auto")
    if panel.ndim == 2:
        places = np.arange(panel.shape[1]) + 0.5, np.arange(panel.shape[0]) + 0.5
        for index, hatch in hatch_of.items():
            inside = panel == index
            if hatch and inside.any():
                drawn = axes.contourf(*places, inside, levels=[0.5, 1.5], colors="none", hatches=[hatch])
                drawn.set_edgecolor(_ink(classes.palette[index]))
                drawn.set_linewidth(0)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_linewidth(0.3)


def _in_shares(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    red, green, blue = (value / 255 for value in colour)
    return red, green, blue


def _ink(colour: tuple[int, int, int]) -> str:
    """Black or white, whichever shows on a colour."""
    return "black" if np.dot(colour, (0.3, 0.6, 0.1)) > 110 else "white"


def _draw_legend(
    figure: "Figure", classes: ClassSet, hatch_of: dict[int, str], columns: int, ignored: bool
) -> None:  # fmt: skip
    from matplotlib.patches import Patch

    handles = [
        Patch(
            facecolor=_in_shares(classes.palette[index]),
            edgecolor=_ink(classes.palette[index]),
            hatch=2 * hatch if hatch else None,
            linewidth=0,
            label=as_letters(classes.names[index]),
        )
        for index, hatch in hatch_of.items()
    ]
    if ignored:
        handles.append(Patch(facecolor="black", label="ignored"))
    figure.legend(
        handles=handles, loc="lower center", ncols=columns, frameon=False, borderpad=0, borderaxespad=0.3,
        handlelength=1.6, handleheight=0.9, columnspacing=1.2, handletextpad=0.4, labelspacing=0.35,
    )  # fmt: skip
