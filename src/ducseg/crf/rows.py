"""Between maps (L, H, W) and rows: flat float32, `RowShape.width` values per pixel, in strip order (see `simplex`)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ducseg.crf.simd import LANES, MOST_FOURS, compiled, constant, exp, highest, inner, load, maximum, store, total
from ducseg.crf.simplex import place
from ducseg.crf.workers import Workers

__all__ = ["RowShape", "load_rows", "soften", "store_rows"]

NO_CLASS = -1e30  # score of the padding: no message brings it back
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RowShape:
    """L classes as `width` floats, padded to whole groups of `LANES * len(kind)`, which the kernels take at once.

    Wide groups have fewer steps, narrow ones less padding: 19 classes are one group of 20, 150 are five of 32.
    """

    classes: int

    @property
    def fours(self) -> int:
        needed = -(-self.classes // LANES)
        return min(range(MOST_FOURS, 0, -1), key=lambda fours: -(-needed // fours) * (fours + 1))

    @property
    def width(self) -> int:
        group = self.fours * LANES
        return -(-self.classes // group) * group

    @property
    def kind(self) -> tuple[int, ...]:
        """What tells the kernels, by its length, how many fours to take at once."""
        return (0,) * self.fours


@compiled
def _take(first: int, last: int, values: Any, width: int, rows: Any) -> Any:
    """Copy (L, H, W) to pixel rows; returns the least value, the greatest and the largest |sum - 1| of a pixel."""
    classes, height, columns = values.shape
    least, greatest, worst = np.float32(np.inf), np.float32(-np.inf), np.float32(0)
    for n in range(first, last):
        y, x = place(n, height, columns)
        mass = np.float32(0)
        for c in range(classes):
            value = values[c, y, x]
            mass += value
            least = min(least, value)
            greatest = max(greatest, value)
            rows[n * width + c] = value
        for c in range(classes, width):
            rows[n * width + c] = np.float32(1)
        off = abs(mass - np.float32(1))
        if off > worst or off != off:  # a NaN stays
            worst = off
    return least, greatest, worst


@compiled
def _begin(first: int, last: int, classes: int, width: int, scores: Any, q: Any, kind: Any) -> None:
    """Take the padding out of play; the first marginals are the softmax of the scores."""
    for n in range(first, last):
        for c in range(width):
            if c >= classes:
                scores[n * width + c] = NO_CLASS
            q[n * width + c] = scores[n * width + c]
    soften(first, last, width, q, kind)


def load_rows(
    values: Floats, *, floor: float | None, workers: Workers
) -> tuple[Floats, Floats, tuple[float, float, float]]:
    """(L, H, W) float32 to rows: (scores, first marginals, (least value, greatest, largest |sum - 1|)).

    With `floor` the values are probabilities and the scores log(clip(values, floor, 1)); without, they are the scores.
    """
    classes, height, columns = values.shape
    shape, count = RowShape(classes), height * columns
    scores, q = np.empty(count * shape.width, np.float32), np.empty(count * shape.width, np.float32)

    def convert(first: int, last: int) -> tuple[float, float, float]:
        extremes: tuple[float, float, float] = _take(first, last, values, shape.width, scores)
        if floor is not None:
            part = scores[first * shape.width : last * shape.width]
            np.log(np.clip(part, floor, 1, out=part), out=part)
        _begin(first, last, classes, shape.width, scores, q, shape.kind)
        return extremes

    least, greatest, worst = zip(*workers.ranges(convert, count))
    return scores, q, (min(least), max(greatest), float(np.max(worst)))


@compiled
def _give(first: int, last: int, q: Any, width: int, out: Any) -> None:
    classes, height, columns = out.shape
    for n in range(first, last):
        y, x = place(n, height, columns)
        for c in range(classes):
            out[c, y, x] = q[n * width + c]


def store_rows(q: Floats, classes: int, height: int, columns: int, workers: Workers) -> Floats:
    """Marginals as rows back to (L, H, W)."""
    out = np.empty((classes, height, columns), np.float32)
    workers.ranges(_give, height * columns, q, RowShape(classes).width, out)
    return out


@inner
def soften(first: int, last: int, width: int, q: Any, kind: Any) -> None:
    """Softmax of rows first..last in place."""
    for n in range(first, last):
        row = n * width
        top = load(q, row, kind)
        for block in range(LANES * len(kind), width, LANES * len(kind)):
            top = maximum(top, load(q, row + block, kind))
        peak, mass = highest(top), constant(np.float32(0), kind)
        for block in range(0, width, LANES * len(kind)):
            value = exp(load(q, row + block, kind) - peak, kind)
            mass = mass + value
            store(q, row + block, value)
        share = np.float32(1) / total(mass)
        for block in range(0, width, LANES * len(kind)):
            store(q, row + block, load(q, row + block, kind) * share)
