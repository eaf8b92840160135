"""Undo PNG's line filters (PNG specification 9.2) with numba: pixel = difference + prediction from the neighbours.

Legend: C channels; `line` (1 + W * C,) uint8, a line's filter type and its differences; a, b, c: the values to the
left, above, and above left (0 outside the picture).
"""

from typing import Any

import numpy as np
from numba import int32, njit, uint8
from numpy.typing import NDArray

from ducseg.files import compiled

__all__ = ["restore"]

_NONE, _SUB, _UP, _AVERAGE, _PAETH = range(5)
_compiled = compiled(nogil=True, error_model="numpy")
_inline: Any = njit(inline="always")


@_inline  # type: ignore[untyped-decorator]
def _nearest(a: Any, b: Any, c: Any) -> Any:
    """Of a, b, c the one nearest to a + b - c, ties in this order; found by order instead of three distances."""
    threshold = c * int32(3) - (a + b)
    low, high = min(a, b), max(a, b)
    other = low if high <= threshold else c
    return high if threshold <= low else other


@_inline  # type: ignore[untyped-decorator]
def _restore_paeth_grey(line: Any, above: Any, pixels: Any) -> None:
    a = c = int32(0)
    for x in range(len(pixels)):
        b = int32(above[x])
        a = (_nearest(a, b, c) + int32(line[1 + x])) & int32(255)
        c = b
        pixels[x] = uint8(a)


@_inline  # type: ignore[untyped-decorator]
def _restore_paeth_rgb(line: Any, above: Any, pixels: Any) -> None:
    """Three channels at once: each waits for its left neighbour alone, so they take no longer than one."""
    a0 = a1 = a2 = c0 = c1 = c2 = int32(0)
    for column in range(len(pixels) // 3):
        x = 3 * column
        b0, b1, b2 = int32(above[x]), int32(above[x + 1]), int32(above[x + 2])
        a0 = (_nearest(a0, b0, c0) + int32(line[1 + x])) & int32(255)
        a1 = (_nearest(a1, b1, c1) + int32(line[2 + x])) & int32(255)
        a2 = (_nearest(a2, b2, c2) + int32(line[3 + x])) & int32(255)
        c0, c1, c2 = b0, b1, b2
        pixels[x], pixels[x + 1], pixels[x + 2] = uint8(a0), uint8(a1), uint8(a2)


@_compiled
def restore(lines: NDArray[np.uint8], pixels: NDArray[np.uint8], channels: int) -> bool:
    """Fill `pixels` (H, W * C) from `lines` (H, 1 + W * C); C is 1 or 3.

    Returns:
        False where a filter type is none of the five; the rest is then undefined.
    """
    count = pixels.shape[1]
    nothing = np.zeros(count, np.uint8)
    for y in range(len(lines)):
        line, row = lines[y], pixels[y]
        above = pixels[y - 1] if y > 0 else nothing
        kind = line[0]
        if kind == _NONE:
            row[:] = line[1:]
        elif kind == _SUB:
            for x in range(count):
                row[x] = line[1 + x] + (row[x - channels] if x >= channels else uint8(0))
        elif kind == _UP:
            for x in range(count):
                row[x] = line[1 + x] + above[x]
        elif kind == _AVERAGE:
            for x in range(count):
                left = int32(row[x - channels]) if x >= channels else int32(0)
                row[x] = uint8(int32(line[1 + x]) + ((left + int32(above[x])) >> 1))
        elif kind == _PAETH and channels == 3:
            _restore_paeth_rgb(line, above, row)
        elif kind == _PAETH:
            _restore_paeth_grey(line, above, row)
        else:
            return False
    return True
