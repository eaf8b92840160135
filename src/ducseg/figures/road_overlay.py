"""Pictures with the road in red, as in the paper's Figure 6."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.errors import explain
from ducseg.figures.label_maps import write_png

__all__ = ["draw_roads", "road_in_red"]

_RED = np.array([255.0, 0.0, 0.0])
_OPACITY = 0.5
_GAP = 4
_COLUMNS = 2


def road_in_red(image: NDArray[np.uint8], road: NDArray[np.bool_], *, edge: int = 0) -> NDArray[np.uint8]:
    """The picture RGB uint8 (H, W, 3) with the pixels where `road` (H, W) is true half red.

    Args:
        edge: pixels of its border, inside, that are white.
    """
    assert image.shape == (*road.shape, 3), (image.shape, road.shape)
    shown = image.copy()
    shown[road] = np.rint((1 - _OPACITY) * image[road] + _OPACITY * _RED).astype(np.uint8)
    if edge:
        within = cv2.erode(road.astype(np.uint8), np.ones((2 * edge + 1,) * 2, np.uint8), borderValue=1)
        shown[road & (within == 0)] = 255
    return shown


def draw_roads(
    pictures: Sequence[tuple[NDArray[np.uint8], NDArray[np.bool_]]], path: Path, *, width: int = 640
) -> Path:
    """Write a PNG of pictures with the road in red, two in a row, in reading order.

    Args:
        pictures: image RGB uint8 (H, W, 3) and where the road is, bool (H, W); bird's-eye views will do too.
        path: replaced.
        width: of each, in pixels; the heights follow, cut or filled with white to the first picture's.

    Raises:
        UserError: no picture; a folder that is not writable.
    """
    if not pictures:
        raise explain("road figure", found="no picture", needed="at least one", fix="Check the inputs.")
    first = pictures[0][0]
    height = max(1, round(first.shape[0] * width / first.shape[1]))
    sheet = np.full(((height + _GAP) * -(-len(pictures) // _COLUMNS), (width + _GAP) * _COLUMNS, 3), 255, np.uint8)
    for index, (image, road) in enumerate(pictures):
        top, left = index // _COLUMNS * (height + _GAP), index % _COLUMNS * (width + _GAP)
        own_height = max(1, round(image.shape[0] * width / image.shape[1]))
        way = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_LINEAR
        panel = cv2.resize(road_in_red(image, road), (width, own_height), interpolation=way)[:height]
        sheet[top : top + len(panel), left : left + width] = panel
    write_png(path, sheet[:-_GAP, :-_GAP], option="--figure")
    return path
