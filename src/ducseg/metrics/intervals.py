"""How far scores would move with other pictures: percentile intervals of the bootstrap over pictures.

As often as asked for, as many pictures as there are are drawn from them, with repetition, their counts pooled and
scored (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). Pictures count as independent but
where groups of them are known (patients, clips), which are drawn whole (Davison and Hinkley, Bootstrap Methods and
Their Application, 1997, section 3.8): of pictures that are alike and not known to be, the true intervals are wider.
What training another network would change, seeds tell, not these.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from ducseg.classes import ClassSet
from ducseg.metrics.confusion import percent

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["differences", "format_differences", "in_resamples", "interval_line", "intervals", "overlap"]

_AT_ONCE = 1 << 22  # numbers of a block of resamples


def overlap(matrix: NDArray[np.int64]) -> NDArray[np.int64]:
    """(3, L) of a picture's confusion matrix (L, L): the pixels of each class that are right, true, and predicted."""
    return np.stack([matrix.diagonal(), matrix.sum(1), matrix.sum(0)])


def intervals(
    pictures: Mapping[str, NDArray[np.int64]], classes: ClassSet, *, group: Callable[[str], str] = str,
    resamples: int = 1000, level: float = 0.95, seed: int = 0,
) -> dict[str, Any] | None:  # fmt: skip
    """Intervals of the scores of `ducseg.metrics.confusion.scores`.

    Args:
        pictures: name of each -> its `overlap`.
        group: name -> the group that is drawn whole; default: each by itself.

    Returns:
        {"level", "resamples", "pictures": how many there are, "groups": of how many, where these are fewer, "mean_iou":
        [low, high], "pixel_accuracy": [low, high], "classes": {name: [low, high]}}; fractions, NaN where no resample
        has a pixel of the class. None: of one picture or group nothing is known.
    """
    counts = _pooled(pictures, group)
    if len(counts) < 2:
        return None
    return _between(_resampled(counts, resamples, seed), classes, (len(pictures), len(counts)), level)


def differences(
    pictures: Mapping[str, NDArray[np.int64]], others: Mapping[str, NDArray[np.int64]], classes: ClassSet, *,
    group: Callable[[str], str] = str, resamples: int = 1000, level: float = 0.95, seed: int = 0,
) -> dict[str, Any] | None:  # fmt: skip
    """Intervals of one network's scores minus another's on the same pictures.

    Both are scored on each resample: that some pictures are harder than others for both leaves no doubt of which of
    them is better, so these are mostly far narrower than the two networks' own.

    Args:
        pictures, others: name of each picture -> its `overlap`, with the one network and with the other.
        group: name -> the group that is drawn whole; default: each by itself.

    Returns:
        As `intervals`.
    """
    assert pictures.keys() == others.keys(), "they are not the same pictures"
    counts = [_pooled({name: one[name] for name in pictures}, group) for one in (pictures, others)]
    if len(counts[0]) < 2:
        return None
    own, other = (_resampled(one, resamples, seed) for one in counts)
    return _between([a - b for a, b in zip(own, other)], classes, (len(pictures), len(counts[0])), level)


def _pooled(pictures: Mapping[str, NDArray[np.int64]], group: Callable[[str], str]) -> list[NDArray[np.int64]]:
    """The counts of each group."""
    groups = dict[str, NDArray[np.int64]]()
    for name, counts in pictures.items():
        key = group(name)
        groups[key] = groups[key] + counts if key in groups else counts
    return [*groups.values()]


def _resampled(pictures: Sequence[NDArray[np.int64]], resamples: int, seed: int) -> list[NDArray[np.float64]]:
    """Mean IoU (R,), pixel accuracy (R,), IoU (R, L) of resamples: the same ones of as many pictures and classes."""
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
    return [mean, np.divide(right.sum(1), pixels, out=np.full(len(pixels), np.nan), where=pixels > 0), iou]


def _between(
    values: Sequence[NDArray[np.float64]], classes: ClassSet, sizes: tuple[int, int], level: float
) -> dict[str, Any]:
    pictures, groups = sizes

    def bounds(values: NDArray[np.float64]) -> list[float]:
        values = values[np.isfinite(values)]
        return np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist() if values.size else [np.nan, np.nan]

    mean, accuracy, iou = values
    return {
        "level": level,
        "resamples": len(mean),
        "pictures": pictures,
        **({"groups": groups} if groups < pictures else {}),
        "mean_iou": bounds(mean),
        "pixel_accuracy": bounds(accuracy),
        "classes": {name: bounds(iou[:, number]) for number, name in enumerate(classes.names)},
    }


def interval_line(found: dict[str, Any]) -> str:
    """Mean IoU 74.10 to 79.30 in 95 % of 1000 resamples of the 12 pictures."""
    low, high = map(percent, found["mean_iou"])
    return f"mean IoU {low} to {high} in {in_resamples(found)}"


def in_resamples(found: dict[str, Any]) -> str:
    """95 % of 1000 resamples of the 12 pictures."""
    groups = f"{found['groups']} groups of " if "groups" in found else ""
    return f"{100 * found['level']:g} % of {found['resamples']} resamples of the {groups}{found['pictures']} pictures"


def format_differences(found: dict[str, Any], other: dict[str, Any], between: dict[str, Any] | None) -> "Table":
    """Two networks' `scores` and their `differences` (None: of one picture there are none) as a table, in per cent."""
    from rich.table import Table

    table = Table()
    table.add_column("IoU %")
    for heading in ("this", "other", "difference"):
        table.add_column(heading, justify="right")
    if between is not None:
        table.add_column(f"in {100 * between['level']:g} % of {between['resamples']} resamples", justify="right")

    def add(name: str, one: float, another: float, interval: Sequence[float]) -> None:
        low_high = [] if between is None else [" to ".join(map(_signed, interval))]
        table.add_row(Text(name), percent(one), percent(another), _signed(one - another), *low_high)

    known = between or {"classes": {}}
    for name, score in found["classes"].items():
        add(name, score["iou"], other["classes"][name]["iou"], known["classes"].get(name, ()))
    table.add_section()
    for key, name in (("mean_iou", "mean IoU"), ("pixel_accuracy", "pixel accuracy")):
        add(name, found[key], other[key], known.get(key, ()))
    return table


def _signed(fraction: float) -> str:
    return "-" if np.isnan(fraction) else f"{100 * fraction:+.2f}"
