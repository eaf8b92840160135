"""Where a pixel lies in the permutohedral lattice: the corners of its simplex and its share of each.

Pixels are taken in strip order: columns of `STRIP` pixels, top to bottom, left to right, so that pixels near each
other in the image are near each other in memory.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ducseg.crf.simd import compiled
from ducseg.errors import explain

__all__ = ["STRIP", "KeyLayout", "elevation", "embed", "place"]

STRIP = 8


class KeyLayout:
    """How a vertex's coordinates k0..kd become one integer, most significant first: column, row, k2, ..., k(d-1).

    Undoing the elevation, the first feature (x) is proportional to k0 - k1 and the second (y) to k0 + k1 - 2 k2;
    both are multiples of d + 1, and the quotients are the *column* and *row* of the vertex's place in the image. A
    step along axis 0 changes the column by 1, along axis 1 by -1, along no other; axes 3 and up leave the row too.
    Coordinates that are multiples of d + 1, c * (d + 1), have the integer origin + sum(c * unit); going one step
    along axis j (-1 in all coordinates, +d in the j-th) adds step[j]. Features run from 0 to `largest`; the room
    left around what they reach keeps a neighbour's integer from meeting another vertex's. Raises UserError when 62
    bits do not suffice.
    """

    def __init__(self, largest: Sequence[float], sigmas: Sequence[float]) -> None:
        d, room = len(sigmas), 3 * (len(sigmas) + 1)
        reach = [top / sigma * float(scale) for top, sigma, scale in zip(largest, sigmas, elevation(d))]
        ranges = [(0.0, 2 * reach[0] / (d + 1)), (0.0, 6 * reach[1] / (d + 1))]
        ranges += [(-i * reach[i - 1], sum(reach[i:])) for i in range(2, d)]
        lower = [int(np.floor(low)) - room for low, _ in ranges]
        spans = [int(np.ceil(high)) + room - low + 1 for low, (_, high) in zip(lower, ranges)]
        stride = [math.prod(spans[i + 1 :]) for i in range(d)]
        self.span = math.prod(spans)
        # beyond 2**22 float32 rounds coordinates so coarsely that a point's corners are no longer a simplex
        if self.span >= 2**62 or max((i + 1) * far for i, far in enumerate(reach)) >= 2**22:
            raise explain(
                "the CRF's lattice for this image is too fine",
                found=f"standard deviations {', '.join(f'{s:g}' for s in sigmas)} for x, y" + ", r, g, b" * (d > 2),
                needed=f"coordinates below 2**22, in 62 bits together (these take {math.log2(self.span):.0f})",
                fix="Use wider standard deviations: far below one pixel or one grey level the term does nothing.",
            )
        self.column_stride, self.row_stride = stride[:2]
        self.origin = -sum(low * s for low, s in zip(lower, stride))
        unit = [(d + 1) * s for s in stride] + [0]
        unit[0], unit[1] = stride[0] + stride[1], stride[1] - stride[0]
        unit[2] = (unit[2] if d > 2 else 0) - 2 * stride[1]
        self.unit = np.array(unit, np.int64)
        self.step = self.unit - sum(stride[2:])

    def simplex_of_zero(self) -> npt.NDArray[np.int64]:
        """The d + 1 corners of the simplex in which `embed` puts the point 0."""
        return self.origin - np.concatenate([[0], np.cumsum(self.step[:0:-1])])


def elevation(d: int) -> npt.NDArray[np.float32]:
    """The diagonal of Adams et al.'s E (page 5), scaled so that a blur's standard deviation is one feature unit."""
    deviation = float(np.float32(np.sqrt(2.0 / 3.0) * (d + 1)))
    return np.array([1.0 / np.sqrt((i + 2) * (i + 1)) * deviation for i in range(d)], np.float32)


@compiled
def place(n: int, height: int, width: int) -> tuple[int, int]:
    """Row and column of the n-th pixel in strip order."""
    left = n // (height * STRIP) * STRIP
    here = min(STRIP, width - left)
    rest = n - left * height
    return rest // here, left + rest % here


@compiled
def embed(
    first: int,
    last: int,
    image: Any,
    sigmas: Any,
    scale: Any,
    origin: int,
    unit: Any,
    step: Any,
    keys: Any,
    weights: Any,
    axes: Any,
) -> None:
    """Find the d + 1 corners (as keys) and barycentric weights of pixels first..last (Adams et al., pages 5 to 10).

    `axes` is a tuple of length d + 1: so d is known when this is compiled, and the short loops become straight lines.
    """
    height, width, _ = image.shape
    d = len(axes) - 1
    up, down = np.float32(d + 1), np.float32(1.0) / np.float32(d + 1)
    point = np.empty(d + 1, np.float32)
    corner, rank, order = np.empty(d + 1, np.int64), np.empty(d + 1, np.int64), np.empty(d + 1, np.int64)
    for n in range(first, last):
        y, x = place(n, height, width)
        running = np.float32(0)
        for j in range(d, 0, -1):
            if j == 1:
                feature = np.float32(x)
            elif j == 2:
                feature = np.float32(y)
            else:
                feature = np.float32(image[y, x, j - 3])
            part = feature / sigmas[j - 1] * scale[j - 1]
            point[j] = running - np.float32(j) * part
            running += part
        point[0] = running

        # the nearest vertex whose coordinates are all multiples of d + 1, if they happen to sum to zero
        excess = 0
        for i in range(d + 1):
            nearest = np.rint(down * point[i])
            corner[i] = int(nearest)
            excess += corner[i]
            point[i] -= nearest * up
            rank[i] = 0
        for i in range(d):
            for j in range(i + 1, d + 1):
                less = int(point[i] < point[j])  # no branch: the processor could not guess it
                rank[i] += less
                rank[j] += 1 - less
        # if they do not, the coordinates furthest off move by d + 1
        key = origin
        for i in range(d + 1):
            moved = rank[i] + excess
            turn = int(moved < 0) - int(moved > d)
            corner[i] += turn
            point[i] -= np.float32(turn) * up
            order[moved + turn * (d + 1)] = i
            key += corner[i] * unit[i]

        for k in range(d + 1):
            keys[n, k] = key
            falls = order[d - k]
            key -= step[falls]
            if k == 0:
                weights[n, 0] = point[falls] * down + (np.float32(1) - point[order[0]] * down)
            else:
                weights[n, k] = point[falls] * down - point[order[d - k + 1]] * down
