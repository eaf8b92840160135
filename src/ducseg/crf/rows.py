"""Between maps (L, H, W) and rows: flat float32, `RowShape.width` values per pixel, in strip order (see `simplex`)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ducseg.crf.simd import LANES, MOST_FOURS, compiled, constant, exp, highest, inner, load, maximum, store, total
from ducseg.crf.simplex import STRIP, place
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
def _take(first: int, last: int, values: Any, width: int, rows: Any) -> None:
    """Copy (L, H, W) to pixel rows; the padding gets the first class's value."""
    classes, height, columns = values.shape
    n = first
    while n < last:
        y, x = place(n, height, columns)
        beside = min(STRIP - x % STRIP, columns - x, last - n)
        for c in range(width):
            for i in range(beside):
                rows[(n + i) * width + c] = values[c if c < classes else 0, y, x + i]
        n += beside


@compiled
def _extremes(first: int, last: int, classes: int, width: int, rows: Any, kind: Any) -> Any:
    """The least value, the greatest and the largest |sum - 1| of a pixel."""
    least, greatest, worst = np.float32(np.inf), np.float32(-np.inf), np.float32(0)
    zero = constant(np.float32(0), kind)
    for n in range(first, last):
        mass = rows[n * width] * np.float32(classes - width)
        for block in range(n * width, (n + 1) * width, LANES * len(kind)):
            row = load(rows, block, kind)
            least, greatest = min(least, -highest(zero - row)), max(greatest, highest(row))
            mass += total(row)
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

    With `floor` the values are probabilities and the scores log(clip(values, floor, 1)); without, they are the scores,
    of which the extremes are not sought.
    """
    classes, height, columns = values.shape
    shape, count = RowShape(classes), height * columns
    scores, q = np.empty(count * shape.width, np.float32), np.empty(count * shape.width, np.float32)

    def convert(first: int, last: int) -> tuple[float, float, float]:
        extremes = (0.0, 1.0, 0.0)
        _take(first, last, values, shape.width, scores)
        if floor is not None:
            extremes = _extremes(first, last, classes, shape.width, scores, shape.kind)
            part = scores[first * shape.width : last * shape.width]
            np.log(np.clip(part, floor, 1, out=part), out=part)
        _begin(first, last, classes, shape.width, scores, q, shape.kind)
        return extremes

    least, greatest, worst = zip(*workers.ranges(convert, count))
    return scores, q, (min(least), max(greatest), float(np.max(worst)))


@compiled
def _give(first: int, last: int, q: Any, width: int, out: Any) -> None:
    classes, height, columns = out.shape
    n = first
    while n < last:
        y, x = place(n, height, columns)
        beside = min(STRIP - x % STRIP, columns - x, last - n)
        for c in range(classes):
            for i in range(beside):
                out[c, y, x + i] = q[(n + i) * width + c]
        n += beside


def store_rows(
    q: Floats, classes: int, height: int, columns: int, workers: Workers, spare: Floats | None = None
) -> Floats:
    """Marginals as rows back to (L, H, W); in the memory of `spare`, an array as long as q, where there is one."""
    pixels, width = height * columns, RowShape(classes).width
    flat = np.empty(classes * pixels, np.float32) if spare is None else spare[: classes * pixels]
    out = flat.reshape(classes, height, columns)
    workers.ranges(_give, pixels, q, width, out)
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
