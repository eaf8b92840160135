"""How far scores would move with other pictures: percentile intervals of the bootstrap over pictures.

As often as asked for, as many pictures as there are are drawn from them, with repetition, their counts pooled and
scored (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). Pictures count as independent: of
frames of one clip, or tiles of one picture, the true intervals are wider. What training another network would change,
seeds tell, not these.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import ClassSet
from ducseg.metrics.confusion import percent

__all__ = ["difference_intervals", "in_resamples", "interval_line", "intervals", "overlap"]

_AT_ONCE = 1 << 22  # numbers of a block of resamples


def overlap(matrix: NDArray[np.int64]) -> NDArray[np.int64]:
    """(3, L) of a picture's confusion matrix (L, L): the pixels of each class that are right, true, and predicted."""
    return np.stack([matrix.diagonal(), matrix.sum(1), matrix.sum(0)])


def intervals(
    pictures: Sequence[NDArray[np.int64]], classes: ClassSet, *, resamples: int = 1000, level: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Intervals of the scores of `ducseg.metrics.confusion.scores`.

    Args:
        pictures: `overlap` of each, at least two.

    Returns:
        {"level", "resamples", "pictures": how many there are, "mean_iou": [low, high], "pixel_accuracy": [low, high],
        "classes": {name: [low, high]}}; fractions, NaN where no resample has a pixel of the class.
    """
    return _between(_resampled(pictures, resamples, seed), classes, level, len(pictures))


def difference_intervals(
    first: Sequence[NDArray[np.int64]], other: Sequence[NDArray[np.int64]], classes: ClassSet, *, resamples: int = 1000,
    level: float = 0.95, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Intervals of the scores of `other` minus those of `first`, both of the same pictures in the same order.

    Each resample draws the same pictures for both: what makes a picture hard for both cancels, so these are narrower
    than two intervals side by side. As `intervals` otherwise.
    """
    assert len(first) == len(other), (len(first), len(other))
    one, two = (_resampled(pictures, resamples, seed) for pictures in (first, other))
    less = _Resampled(two.iou - one.iou, two.mean_iou - one.mean_iou, two.accuracy - one.accuracy)
    return _between(less, classes, level, len(first))


@dataclass(frozen=True)
class _Resampled:
    """Scores of R resamples: IoU of each class (R, L), mean IoU (R,), pixel accuracy (R,)."""

    iou: NDArray[np.float64]
    mean_iou: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def _resampled(pictures: Sequence[NDArray[np.int64]], resamples: int, seed: int) -> _Resampled:
    """Which pictures are drawn depends on the seed and on how many there are alone."""
    counts = np.stack(pictures).astype(np.float64)  # exact below 2^53
    draw, size = np.random.default_rng(seed), len(counts)
    block = max(1, _AT_ONCE // counts.size)
    parts = []
    for begin in range(0, resamples, block):
        times = draw.multinomial(size, [1 / size] * size, size=min(block, resamples - begin))
        parts.append(np.tensordot(times.astype(np.float64), counts, 1))
    right, true, predicted = np.moveaxis(np.concatenate(parts), 1, 0)
    union = true + predicted - right
    iou = np.full(union.shape, np.nan)
    np.divide(right, union, out=iou, where=union > 0)
    pixels = true.sum(1)
    mean = np.array([row[np.isfinite(row)].mean() if np.isfinite(row).any() else np.nan for row in iou])
    return _Resampled(iou, mean, np.divide(right.sum(1), pixels, out=np.full(len(pixels), np.nan), where=pixels > 0))


def _between(found: _Resampled, classes: ClassSet, level: float, num_pictures: int) -> dict[str, Any]:
    def between(values: NDArray[np.float64]) -> list[float]:
        values = values[np.isfinite(values)]
        return np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist() if values.size else [np.nan, np.nan]

    return {
        "level": level,
        "resamples": len(found.mean_iou),
        "pictures": num_pictures,
        "mean_iou": between(found.mean_iou),
        "pixel_accuracy": between(found.accuracy),
        "classes": {name: between(found.iou[:, number]) for number, name in enumerate(classes.names)},
    }


def interval_line(found: dict[str, Any]) -> str:
    """Mean IoU 74.10 to 79.30 in 95 % of 1000 resamples of the 12 pictures."""
    low, high = map(percent, found["mean_iou"])
    return f"mean IoU {low} to {high} in {in_resamples(found)}"


def in_resamples(found: dict[str, Any]) -> str:
    """95 % of 1000 resamples of the 12 pictures."""
    return f"{100 * found['level']:g} % of {found['resamples']} resamples of the {found['pictures']} pictures"
