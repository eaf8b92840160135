"""The one resampling behind all joint transforms: a window of a resized picture, padded where it leaves it.

Legend: sizes and offsets are (H, W) and (top, left) in pixels. Pixel centres lie at half integers, for image (bilinear)
and label (nearest) alike.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE
from ducseg.data.sample import Sample

__all__ = ["Fill", "Size", "by_channels", "window_of"]

Size = tuple[int, int]
Fill = tuple[float, ...]
"""A pixel for what lies outside the picture: a value a channel."""
Image = NDArray[Any]


def window_of(
    sample: Sample, scaled: Size, offset: Size, size: Size, mean_colour: Fill, *, reflect: bool = False
) -> Sample:
    """The window of `size` that begins at `offset` (top, left) of the picture resized to `scaled`.

    What it shows outside is the mean colour and 255, or with `reflect` the mirrored part that lies inside.
    """
    rows, columns = (_overlap(start, length, full) for start, length, full in zip(offset, size, scaled))
    image = _resized_part(sample.image, scaled, offset, rows, columns)
    label = None if sample.label is None else _nearest_part(sample.label, scaled, offset, rows, columns)
    if (rows[1] - rows[0], columns[1] - columns[0]) != size:
        image = _placed(image, None if reflect else mean_colour, size, rows, columns)
        if label is not None:
            label = _placed(label, None if reflect else IGNORE, size, rows, columns)
    return replace(sample, image=image, label=label)


def by_channels(warp: Callable[[Image, Fill], Any], image: Image, fill: Fill = ()) -> Image:
    """A warp of OpenCV on any number of channels: its border values are four.

    It takes 1, 3 or 4 at once: of those it interpolates at the very place, of 2 or more at the nearest 1/32 pixel.
    """
    channels = image.shape[2]
    if channels in (3, 4):
        return np.asarray(warp(image, fill))
    sizes = [4] * (channels // 4) + ([1, 1] if channels % 4 == 2 else [channels % 4] if channels % 4 else [])
    ends = list(accumulate(sizes))
    parts = [
        np.asarray(warp(np.ascontiguousarray(image[..., end - size : end]), fill[end - size : end]))
        for size, end in zip(sizes, ends)
    ]
    return np.dstack(parts)


def _overlap(start: int, length: int, full: int) -> tuple[int, int]:
    """First and last + 1 position of a window whose pixel `start + position` lies in 0..full-1."""
    return max(0, -start), min(length, full - start)


def _placed(part: Image, fill: Fill | int | None, size: Size, rows: Size, columns: Size) -> Image:
    """The part at these rows and columns of a picture of `size`; None mirrors it at its borders."""
    if fill is None:
        border = rows[0], size[0] - rows[1], columns[0], size[1] - columns[1]
        mirrored = cv2.copyMakeBorder(part, *border, cv2.BORDER_REFLECT_101)
        return np.asarray(mirrored).reshape(*size, *part.shape[2:])
    canvas = np.empty((*size, *part.shape[2:]), dtype=part.dtype)
    canvas[...] = fill
    canvas[rows[0] : rows[1], columns[0] : columns[1]] = part
    return canvas


def _resized_part(image: Image, scaled: Size, offset: Size, rows: Size, columns: Size) -> Image:
    """Window positions rows x columns of the bilinearly resized image."""
    top, left = offset[0] + rows[0], offset[1] + columns[0]
    height, width = rows[1] - rows[0], columns[1] - columns[0]
    if scaled == image.shape[:2]:
        return np.ascontiguousarray(image[top : top + height, left : left + width])
    step_y, step_x = image.shape[0] / scaled[0], image.shape[1] / scaled[1]
    y, x = (top + 0.5) * step_y - 0.5, (left + 0.5) * step_x - 0.5  # pixel centres at half integers, as cv2.resize
    above, before = max(0, int(y) - 2), max(0, int(x) - 2)  # what lies further out is not looked at
    image = np.ascontiguousarray(image[above : int(y + height * step_y) + 3, before : int(x + width * step_x) + 3])
    to_source = np.array([[step_x, 0.0, x - before], [0.0, step_y, y - above]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP

    def warped(part: Image, _fill: Fill) -> Image:
        return cv2.warpAffine(part, to_source, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)

    return by_channels(warped, image)


def _nearest_part(label: Image, scaled: Size, offset: Size, rows: Size, columns: Size) -> Image:
    """Window positions rows x columns of the label resized to nearest: source = floor((position + 1/2) * step)."""
    picked = []
    for axis, span in enumerate((rows, columns)):
        positions = np.arange(span[0] + offset[axis], span[1] + offset[axis])
        # integers: (2 p + 1) * full / (2 * scaled), exact where floating point would fall on either side of a tie
        picked.append((2 * positions + 1) * label.shape[axis] // (2 * scaled[axis]))
    down, across = picked
    within = label[down[0] : down[-1] + 1, across[0] : across[-1] + 1]
    return np.asarray(within[down - down[0]].take(across - across[0], axis=1))
