"""A picture whose pixels are moved, computed where it is looked at.

Legend: H, W pixels; a place (y, x) is in pixels from the centre of the first one.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE
from ducseg.data.resampling import Fill, by_channels

__all__ = ["Map", "Moved", "Places"]

Map = NDArray[np.float32]
Places = Callable[[NDArray[np.int64], NDArray[np.int64]], tuple[Map, Map]]
"""Rows (h,) and columns (w,) of a window -> the places x and y (h, w) that its pixels show."""


_BLOCK = 4096
"""Pixels of a side that are computed at once: OpenCV moves to and from pictures of less than 32,767."""


class Moved:
    """A picture (H, W, C), bilinear, or a label (H, W), nearest, each of whose pixels shows another place of `source`.

    A window of it, `moved[top:bottom, left:right]`, is an array, the same as that part of `moved[:, :]`, and costs what
    the window does: of the source only what it shows is read.

    Args:
        source: an array, or another `Moved`.
        reflect: what lies outside the source is its mirrored self; else `fill`, 255 in a label.
    """

    def __init__(self, source: "NDArray[Any] | Moved", places: Places, *, reflect: bool, fill: Fill) -> None:
        self.source, self.places, self.reflect, self.fill = source, places, reflect, fill
        self.shape: tuple[int, ...] = source.shape

    def __getitem__(self, window: tuple[slice, slice]) -> NDArray[Any]:
        rows, columns = (np.arange(side)[part] for side, part in zip(self.shape, window))
        blocks = [[self._block(some, others) for others in _parts(columns)] for some in _parts(rows)]
        return blocks[0][0] if len(blocks) == len(blocks[0]) == 1 else np.vstack([np.hstack(row) for row in blocks])

    def _block(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[Any]:
        x, y = self.places(rows, columns)
        (top, bottom), (left, right) = (
            _shown(float(place.min()), float(place.max()), side, self.reflect)
            for place, side in zip((y, x), self.shape)
        )
        part = np.ascontiguousarray(self.source[top:bottom, left:right])
        x, y = x - np.float32(left), y - np.float32(top)  # exact: never away from zero
        border = cv2.BORDER_REFLECT_101 if self.reflect else cv2.BORDER_CONSTANT
        if part.ndim == 2:
            moved = cv2.remap(part, x, y, cv2.INTER_NEAREST, borderMode=border, borderValue=IGNORE)
            return np.asarray(moved, dtype=part.dtype)

        def warped(channels: NDArray[Any], fill: Fill) -> NDArray[Any]:
            return np.asarray(cv2.remap(channels, x, y, cv2.INTER_LINEAR, borderMode=border, borderValue=fill))

        return by_channels(warped, part, self.fill)


def _parts(places: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return np.split(places, range(_BLOCK, len(places), _BLOCK))


def _shown(first: float, last: float, side: int, reflect: bool) -> tuple[int, int]:
    """Begin and end of what is seen of 0..side-1 by places from `first` to `last`, at least one pixel."""
    begin, end = int(np.floor(first)) - 1, int(np.ceil(last)) + 2
    if reflect and (begin <= -side or end >= 2 * side):  # mirrored more than once
        return 0, side
    if reflect:  # what lies outside shows what lies as far inside
        begin, end = min(begin, 2 * side - 2 - end) if end > side else begin, max(end, 2 - begin) if begin < 0 else end
    return max(0, min(begin, side - 1)), min(side, max(end, 1))
