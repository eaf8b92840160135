"""Mean field of the dense CRF on the CPU, with numba.

One iteration (Kraehenbuehl and Koltun 2011, algorithm 1) is a walk over the columns of each of the two lattices
that splats and blurs (`Filter`), then a pass over the pixels that slices both, applies weights and
compatibility, adds the unary term and normalises. Values are rows: the L classes of a pixel or vertex, padded to
`RowShape.width`, in a flat float32 array.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ducseg.crf.lattice import Lattice
from ducseg.crf.rows import RowShape, soften
from ducseg.crf.simd import LANES, compiled, constant, element, inner, load, store
from ducseg.crf.workers import Workers

__all__ = ["Filter", "iterate"]

TILE = 256  # pixels
Floats = npt.NDArray[np.float32]


@inner
def _splat(
    first: int, last: int, starts: Any, sources: Any, weights: Any, q: Any, width: int, out: Any, kind: Any
) -> None:
    """Gather rows first..last from the pixels, to the front of `out`."""
    for row in range(first, last):
        for block in range(0, width, LANES * len(kind)):
            value = constant(np.float32(0), kind)
            for entry in range(element(starts, row), element(starts, row + 1)):
                source = np.int64(element(sources, entry))
                value = value + load(q, source * width + block, kind) * element(weights, entry)
            store(out, (row - first) * width + block, value)


@inner
def _blur(
    first: int, last: int, neighbours: Any, here: Any, shift: int, after: Any, before: Any, width: int, out: Any,
    out_shift: int, kind: Any,
) -> None:  # fmt: skip
    """out[r - out_shift] = here[r - shift] + (after[next] + before[previous]) / 2 along one axis."""
    for row in range(first, last):
        following = np.int64(element(neighbours, 2 * row)) * width
        preceding = np.int64(element(neighbours, 2 * row + 1)) * width
        for block in range(0, width, LANES * len(kind)):
            around = load(after, following + block, kind) + load(before, preceding + block, kind)
            value = load(here, (row - shift) * width + block, kind) + around * np.float32(0.5)
            store(out, (row - out_shift) * width + block, value)


@compiled
def _filter(
    first: int, last: int, columns: Any, chunks: Any, first_chunks: Any, starts: Any, sources: Any, weights: Any,
    neighbours: Any, q: Any, width: int, splatted: Any, blurred: Any, scratch: Any, out: Any, kind: Any,
) -> None:  # fmt: skip
    """Splat and blur columns first..last in one walk: splat, axis 0 one column behind, the other axes two behind.

    Three columns at each stage stay in the cache (`splatted`, `blurred`); two columns on either side are done twice, by
    this range and its neighbour, so that ranges need not wait for each other.
    """
    for column in range(first - 2, last + 2):
        if 0 <= column < len(columns) - 1:
            begin, end = np.int64(columns[column]), np.int64(columns[column + 1])
            _splat(begin, end, starts, sources, weights, q, width, splatted[column % 3], kind)
        here = column - 1
        if column >= first and here < len(columns) - 1:
            begin, end = np.int64(columns[here]), np.int64(columns[here + 1])
            _blur(begin, end, neighbours[0], splatted[here % 3], begin, splatted[(here + 1) % 3],
                  splatted[(here - 1) % 3], width, blurred[here % 3], begin, kind)  # fmt: skip
        if column >= first + 2:
            _blur_rest(column - 2, columns, chunks, first_chunks, neighbours, blurred, width, scratch, out, kind)


@inner
def _blur_rest(
    column: int, columns: Any, chunks: Any, first_chunks: Any, neighbours: Any, blurred: Any, width: int, scratch: Any,
    out: Any, kind: Any,
) -> None:  # fmt: skip
    """Blur one column along axis 1, then, one chunk behind, along axis 2 and, within the chunk, the others."""
    base, axes, whole = np.int64(columns[column]), len(neighbours), scratch[2]
    begin = end = base
    for chunk in range(first_chunks[column], first_chunks[column + 1] + 1):
        behind, begin, end = begin, end, np.int64(chunks[min(chunk + 1, first_chunks[column + 1])])
        # stage 1 is axis 1 of this chunk, of which there is none left in the last turn; the others are of the one
        # behind
        for axis in range(1 if begin < end else 2, axes if behind < begin else 2):
            source, shift = (blurred[column % 3], base) if axis == 1 else (whole, base)
            first, last, target, target_shift = begin, end, whole, base
            after, before = blurred[(column - 1) % 3], blurred[(column + 1) % 3]
            if axis > 1:
                if axis > 2:
                    source, shift = scratch[(axis - 1) % 2], behind - 1
                first, last, after, before = behind, begin, source, source
                target, target_shift = (out, np.int64(0)) if axis == axes - 1 else (scratch[axis % 2], behind - 1)
            _blur(first, last, neighbours[axis], source, shift, after, before, width, target, target_shift, kind)


class Filter:
    """Splat and blur on one lattice, with the buffers it needs."""

    def __init__(self, lattice: Lattice, shape: RowShape, workers: Workers) -> None:
        self.lattice, self.shape = lattice, shape
        self.values = np.zeros(lattice.num_rows * shape.width, np.float32)
        # one range of columns per thread, of about equal numbers of rows; the empty columns at the ends stay outside
        targets = np.linspace(0, lattice.num_rows, workers.threads + 1)
        cuts = np.clip(np.searchsorted(lattice.columns, targets), 1, len(lattice.columns) - 2)
        self.ranges = [(int(a), int(b)) for a, b in pairwise(cuts) if a < b]
        longest = int(np.diff(lattice.columns).max()) + 1  # a chunk's buffer begins with a row of zeros
        self.buffers = np.zeros((len(self.ranges), 3, 3, longest * shape.width), np.float32)

    def run(self, part: int, q: Floats) -> None:
        """Filter one range: (N*width) pixels to the range's rows of `values`, (R*width) blurred vertices."""
        lattice = self.lattice
        _filter(
            *self.ranges[part], lattice.columns, lattice.chunks, lattice.first_chunks, lattice.starts, lattice.sources,
            lattice.source_weights, lattice.neighbours, q, self.shape.width, *self.buffers[part], self.values,
            self.shape.kind,
        )  # fmt: skip


@inner
def _slice(
    first: int, last: int, base: Any, offsets: Any, corner_weights: Any, values: Any, weight: float, width: int,
    out: Any, kind: Any,
) -> None:  # fmt: skip
    """out = base + weight * K q for pixels first..last; `base` may be `out`."""
    corners = offsets.shape[1]
    for n in range(first, last):
        for block in range(0, width, LANES * len(kind)):
            value = constant(np.float32(0), kind)
            for corner in range(n * corners, (n + 1) * corners):
                row = np.int64(element(offsets, corner))
                value = value + load(values, row * width + block, kind) * element(corner_weights, corner)
            store(out, n * width + block, load(base, n * width + block, kind) + value * np.float32(weight))


@compiled
def _update(
    first: int, last: int, scores: Any, o1: Any, b1: Any, v1: Any, w1: float, o2: Any, b2: Any, v2: Any, w2: float,
    compatibility: Any, width: int, q: Any, kind: Any,
) -> None:  # fmt: skip
    """Slice both lattices and normalise: q = softmax(scores - compatibility (w1 K1 q + w2 K2 q)), Potts if it is empty.

    A few hundred pixels at a time stay in the nearest cache; one loop per step keeps many loads in flight, where
    one loop for all steps would wait for each pixel's exponentials.
    """
    message = np.empty(width, np.float32)
    for begin in range(first, last, TILE):
        end = min(begin + TILE, last)
        base = scores
        if len(compatibility) > 0:
            base = q
            for i in range(begin * width, end * width):
                q[i] = 0
        _slice(begin, end, base, o1, b1, v1, w1, width, q, kind)
        _slice(begin, end, q, o2, b2, v2, w2, width, q, kind)
        if len(compatibility) > 0:
            _mix(begin, end, scores, compatibility, message, width, q, kind)
        soften(begin, end, width, q, kind)


@inner
def _mix(first: int, last: int, scores: Any, compatibility: Any, message: Any, width: int, q: Any, kind: Any) -> None:
    """q = scores - compatibility @ q for pixels first..last; the matrix transposed, as (L*width) rows."""
    for n in range(first, last):
        for c in range(width):
            message[c] = q[n * width + c]
        for block in range(0, width, LANES * len(kind)):
            score = load(scores, n * width + block, kind)
            for c in range(len(compatibility) // width):
                score = score - load(compatibility, c * width + block, kind) * message[c]
            store(q, n * width + block, score)


def iterate(
    scores: Floats, q: Floats, shape: RowShape, lattices: tuple[Lattice, Lattice], weights: tuple[float, float],
    compatibility: Floats, iterations: int, workers: Workers,
) -> None:  # fmt: skip
    """Run the iterations in place on the marginals q (N*width).

    `compatibility` is the (L, L) matrix mu(l, l') transposed, each row padded to the width, flat; or empty for Potts.
    """
    one, two = lattices
    first, second = Filter(one, shape, workers), Filter(two, shape, workers)
    tasks = [(lattice, part) for lattice in (first, second) for part in range(len(lattice.ranges))]
    for _ in range(iterations):
        workers.each(lambda i: tasks[i][0].run(tasks[i][1], q), len(tasks))
        workers.ranges(
            _update, len(q) // shape.width, scores, one.offsets, one.weights, first.values, weights[0],
            two.offsets, two.weights, second.values, weights[1], compatibility, shape.width, q, shape.kind,
        )  # fmt: skip
