"""Skeletons of all classes of a label map at once: Zhang and Suen's thinning (Communications of the ACM, 1984).

Each class's mask is thinned by itself, pixel for pixel as scikit-image's `skeletonize` (its default in two dimensions)
thins it, which departs from the paper at 25 of the 256 neighbourhoods. A pixel is looked at again only while its
neighbours change, so that wide objects cost no more than their area.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE
from ducseg.files import compiled
from ducseg.metrics.confusion import as_label_map

__all__ = ["skeletons"]

_compiled = compiled(nogil=True)
_MOST_OF_INT32 = 2**31 - 1


def skeletons(label: NDArray[Any]) -> NDArray[np.bool_]:
    """Where the skeleton of its own class holds the pixel, bool (H, W); never where the label is 255.

    Args:
        label: classes (H, W), any integer type; 255 is no class.

    Raises:
        UserError: not a label map.
    """
    # np.pad keeps Fortran's order, of which reshape would thin a copy
    padded = np.pad(np.ascontiguousarray(as_label_map(label, "label")), 1, constant_values=IGNORE)
    of_pixels = np.int32 if padded.size <= _MOST_OF_INT32 else np.int64
    queues = np.empty((3, int(np.count_nonzero(padded != IGNORE))), of_pixels)
    _thin(padded.reshape(-1), _ROWS * padded.shape[1] + _COLUMNS, _REMOVABLE, queues)
    return np.asarray(padded[1:-1, 1:-1] != IGNORE)


_ROWS = np.array([-1, -1, -1, 0, 1, 1, 1, 0])
_COLUMNS = np.array([-1, 0, 1, 1, 1, 0, -1, -1])
"""The eight neighbours, clockwise from the north-west: bit k of a code says that neighbour k is there."""

_ONLY_FIRST = (3, 6, 11, 12, 14, 131, 134, 161, 194, 198)
_ONLY_SECOND = (24, 26, 56, 96, 104, 108, 176, 192, 224)
_BOTH = (10, 40, 130, 160)
_NEITHER = (48, 129)
"""Codes at which scikit-image's table departs from the paper: staircases lose their corners, lines two wide stay."""


def _removable() -> NDArray[np.bool_]:
    """(2, 256): whether each half of an iteration removes a pixel whose neighbours have this code."""
    there = (np.arange(256)[:, None] >> np.arange(8) & 1).astype(bool)
    starts = (~there & np.roll(there, -1, axis=1)).sum(1)  # the paper's A(P1): changes from 0 to 1 around the pixel
    border = (there.sum(1) >= 2) & (there.sum(1) <= 6) & (starts == 1)
    north, east, south, west = there[:, 1::2].T
    first = border & ~(north & east & south) & ~(east & south & west)
    second = border & ~(north & east & west) & ~(north & south & west)
    table = np.stack([first, second])
    for codes, halves in ((_ONLY_FIRST, (1, 0)), (_ONLY_SECOND, (0, 1)), (_BOTH, (1, 1)), (_NEITHER, (0, 0))):
        table[:, codes] = np.array(halves, bool)[:, None]
    return table


_REMOVABLE = _removable()


@_compiled
def _thin(
    label: NDArray[np.uint8], around: NDArray[np.int64], removable: NDArray[np.bool_], queues: NDArray[np.integer[Any]]
) -> None:
    """Set to 255 what is no skeleton in `label` (N,), lines one after the other, with a border of 255.

    Args:
        queues: (3, pixels that are not 255), of a type that numbers all N.
    """
    changed_at = np.full(len(label), -2, np.int32)  # the half iteration that last changed a neighbour
    latest, before, removed = queues[0], queues[1], queues[2]
    of_removed = np.empty(len(removed), np.uint8)
    num_latest, num_before = 0, 0
    for pixel in range(len(label)):
        if label[pixel] != IGNORE:
            for offset in around:
                if label[pixel + offset] != label[pixel]:
                    changed_at[pixel] = -1
                    latest[num_latest] = pixel
                    num_latest += 1
                    break
    half = 0
    while num_latest + num_before:
        num_removed = 0
        for index in range(num_latest + num_before):
            pixel = latest[index] if index < num_latest else before[index - num_latest]
            value = label[pixel]
            if value == IGNORE or (index >= num_latest and changed_at[pixel] != half - 2):
                continue
            code = 0
            for k in range(8):
                code |= (label[pixel + around[k]] == value) << k
            if removable[half & 1, code]:
                removed[num_removed] = pixel
                of_removed[num_removed] = value
                num_removed += 1
        for index in range(num_removed):
            label[removed[index]] = IGNORE
        before, latest, num_before, num_latest = latest, before, num_latest, 0
        for index in range(num_removed):
            for offset in around:
                other = removed[index] + offset
                if changed_at[other] != half and label[other] == of_removed[index]:
                    changed_at[other] = half
                    latest[num_latest] = other
                    num_latest += 1
        half += 1
