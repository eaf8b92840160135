"""Pictures side by side with label maps in their classes' colours, as in the paper's Figures 3 and 4."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE, ClassSet
from ducseg.errors import explain
from ducseg.figures.label_maps import colourise, font, legend, present_classes, stack, text_size, write_png

__all__ = ["draw_panels"]

_GAP = 4
_NARROWEST, _WIDEST = 320, 640


def draw_panels(
    rows: Sequence[Sequence[NDArray[np.uint8]]],
    path: Path,
    titles: Sequence[str],
    classes: ClassSet,
    *,
    panel_width: int | None = None,
) -> Path:
    """Write a PNG with one row a picture and one column a title, above a legend of the classes that occur.

    Args:
        rows: pictures RGB uint8 (H, W, 3) or label maps uint8 (H, W); one a title, of one size in each row. Label 255
            is black, as in the paper's figures.
        path: replaced.
        titles: of the columns, from left to right.
        panel_width: of a column, in pixels; None: the widest picture's own, a multiple of it that is at least 320, or
            640. Shrunk label maps average their colours, so that thin objects fade instead of vanishing.

    Raises:
        UserError: no row, a row with another number of panels than titles, or a label that is no class.
    """
    wrong = [len(row) for row in rows if len(row) != len(titles)]
    if not rows or wrong:
        raise explain(
            "panels",
            found=f"a row of {wrong[0]}" if wrong else "no row",
            needed=f"rows of {len(titles)}, one panel a title",
            fix="Give each row as many pictures as there are titles.",
        )
    panels = [panel for row in rows for panel in row]
    width = panel_width or _readable(max(panel.shape[1] for panel in panels))
    lines = [_titles(titles, width), *(_row([_panel(picture, classes, width) for picture in row]) for row in rows)]
    maps = [panel for panel in panels if panel.ndim == 2]
    present = sorted({index for panel in maps for index in present_classes(panel, classes)})
    entries = [(classes.names[index], classes.palette[index]) for index in present]
    if any((panel == IGNORE).any() for panel in maps):
        entries.append(("ignored", (0, 0, 0)))
    write_png(path, stack([*lines, legend(entries, lines[0].shape[1])]), option="--panels")
    return path


def _readable(width: int) -> int:
    return min(-(-_NARROWEST // width) * width, _WIDEST) if width < _NARROWEST else min(width, _WIDEST)


def _panel(picture: NDArray[np.uint8], classes: ClassSet, width: int) -> NDArray[np.uint8]:
    height = max(1, round(width * picture.shape[0] / picture.shape[1]))
    is_map = picture.ndim == 2
    colours = colourise(picture, classes) if is_map else picture
    if width == picture.shape[1]:
        return colours
    grown = cv2.INTER_NEAREST if is_map else cv2.INTER_LINEAR
    way = cv2.INTER_AREA if width < picture.shape[1] else grown
    return np.asarray(cv2.resize(colours, (width, height), interpolation=way), np.uint8)


def _row(panels: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    parts = [np.pad(panel, ((0, _GAP), (0, _GAP), (0, 0)), constant_values=255) for panel in panels]
    return np.concatenate(parts, axis=1)


def _titles(titles: Sequence[str], width: int) -> NDArray[np.uint8]:
    from PIL import Image, ImageDraw

    size = text_size(len(titles) * width)
    widest = max(font(size).getlength(title) for title in titles)
    letters = font(max(8, min(size, int(size * 0.95 * width / max(widest, 1)))))
    strip = Image.new("RGB", (len(titles) * (width + _GAP), 2 * size), (255, 255, 255))
    draw = ImageDraw.Draw(strip)
    for index, title in enumerate(titles):
        middle = index * (width + _GAP) + width / 2
        draw.text((middle, strip.height / 2), title, fill=(20, 20, 20), font=letters, anchor="mm")
    return np.asarray(strip, np.uint8)
