"""Mean field of the dense CRF on the CPU, with numba.

One iteration (Kraehenbuehl and Koltun 2011, algorithm 1) is a walk over the columns of each of the two lattices
that splats and blurs (`filtering`), then a pass over the pixels that slices both, applies weights and
compatibility, adds the unary term and normalises. Values are rows: the L classes of a pixel or vertex, padded to
`RowShape.width`, in a flat float32 array.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ducseg.crf.filtering import Filter
from ducseg.crf.lattice import Lattice
from ducseg.crf.rows import RowShape, soften
from ducseg.crf.simd import LANES, compiled, constant, element, inner, load, store
from ducseg.crf.workers import Workers

__all__ = ["iterate"]

TILE = 256  # pixels
Floats = npt.NDArray[np.float32]


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
