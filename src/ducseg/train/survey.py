"""A look at one's own pictures before training: sizes, classes, their shares and how wide their objects are."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE
from ducseg.data.files.channels import Pixels
from ducseg.data.paired import SegmentationDataset
from ducseg.data.statistics import pixels_of
from ducseg.metrics.widths import WidthHistogram, local_widths

__all__ = ["ClassFindings", "Survey", "survey"]

_MOST_PICTURES = 64
_LADDER = (*range(1, 9), 10, 12, 16, 24, 32, 48, 64)
"""Widths to choose from, in pixels; the last stands for all that is wider."""
_MOST_MEASURED = 1 << 24
_FEWEST_MEASURED = 4
"""Of large pictures fewer are measured: about so many pixels, so many pictures at least."""
_WINDOW = 1024
"""Of pictures too large even for that, windows of this side: what a picture costs does not grow with it."""
_SCALE = 1e9
"""What a picture's widths add up to, whatever its size: one of a hundred times the pixels is one among the others."""


@dataclass(frozen=True, kw_only=True)
class ClassFindings:
    """One class in the training pictures that were looked at.

    Attributes:
        share: of the labelled pixels, 0 to 1.
        median_width: half of its pixels lie in objects at most this wide, in pixels, 64 for more, where each picture
            counts alike; None without a pixel.
        seen: in so many of the windows of a crop's side, of those that cover the pictures, it has a pixel, 0 to 1.
    """

    name: str
    share: float
    median_width: float | None
    seen: float


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What was found in the training pictures.

    Attributes:
        pictures: in the training split.
        pixels: what they hold.
        looked_at: how many of them were read, spread evenly.
        smallest, median: height and width in pixels; of the median picture by area.
        classes: one entry each, in the order of the train ids.
        unevenness: how differently the classes lie in the upper and the lower half, 0 (alike) to 1 (nothing shared):
            near 0 for pictures from above, of surfaces or through a microscope, high for street scenes.
    """

    pictures: int
    pixels: Pixels
    looked_at: int
    smallest: tuple[int, int]
    median: tuple[int, int]
    classes: tuple[ClassFindings, ...]
    unevenness: float

    def to_json(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {**vars(self), "pixels": str(self.pixels), "classes": [vars(one) for one in self.classes]}


def survey(dataset: SegmentationDataset, side: int = 256) -> Survey:
    """Look at up to 64 training pictures, spread evenly, the same ones every time.

    Args:
        side: of a crop, in pixels.

    Raises:
        UserError: a file that does not read.
    """
    number = min(len(dataset), _MOST_PICTURES)
    sizes = []
    halves = np.zeros((2, len(dataset.classes)), dtype=np.int64)
    widths = np.zeros((len(dataset.classes), _LADDER[-1] + 1))
    seen, crops, every = np.zeros(len(dataset.classes), np.int64), 0, 1
    for position in range(number):
        label = dataset[(2 * position + 1) * len(dataset) // (2 * number)].label
        assert label is not None, "a training split has labels"
        sizes.append((label.shape[0], label.shape[1]))
        if position == 0:
            pixels = _WINDOW**2 if _is_large(label) else max(1, label.size)
            every = -(-number // max(_FEWEST_MEASURED, _MOST_MEASURED // pixels))
        middle = label.shape[0] // 2
        halves += [_counts(half, len(widths)) for half in (label[:middle], label[label.shape[0] - middle :])]
        for crop in _crops(label, side):
            seen += _counts(crop, len(seen)) > 0
            crops += 1
        for part in _windows(label, widths, number) if position % every == 0 else ():
            shown = part < len(widths)
            found = np.zeros(widths.shape, np.int64)
            np.add.at(found, (part[shown], local_widths(part, _LADDER)[shown]), 1)
            widths += found * (_SCALE / max(1, part.size))
    by_area = sorted(sizes, key=lambda size: size[0] * size[1])
    shares = halves.sum(0) / max(1, halves.sum())
    distributions = halves / np.maximum(1, halves.sum(1, keepdims=True))
    return Survey(
        pictures=len(dataset),
        pixels=pixels_of(dataset),
        looked_at=number,
        smallest=(min(height for height, _ in sizes), min(width for _, width in sizes)),
        median=by_area[len(by_area) // 2],
        classes=tuple(
            ClassFindings(
                name=name,
                share=float(share),
                seen=float(shown / crops),
                median_width=WidthHistogram(width).median if width.any() else None,
            )
            for name, share, shown, width in zip(dataset.classes.names, shares, seen, np.ceil(widths).astype(np.int64))
        ),
        unevenness=float(np.abs(distributions[0] - distributions[1]).sum() / 2),
    )


def _is_large(label: NDArray[np.uint8]) -> bool:
    return label.size * _FEWEST_MEASURED > _MOST_MEASURED


def _crops(label: NDArray[np.uint8], side: int) -> Iterator[NDArray[np.uint8]]:
    """Windows of this side, or the picture's where that is less, which cover it: the last ones end at its border."""
    tops, lefts = (
        [*range(0, length - side, side), max(0, length - side)] for length in (label.shape[0], label.shape[1])
    )
    yield from (label[top : top + side, left : left + side] for top in tops for left in lefts)


def _windows(label: NDArray[np.uint8], widths: NDArray[np.float64], number: int) -> Iterator[NDArray[np.uint8]]:
    """The label, or of a large one windows, each about a pixel of the class that was measured least so far.

    The pixels lie evenly among those of their class, so that its objects are met as often as they have pixels.
    """
    if not _is_large(label):
        yield label
        return
    counts = _counts(label, len(widths))
    shown = np.flatnonzero(counts)
    most = min(len(shown), max(1, _MOST_MEASURED // _WINDOW**2 // number))
    for window in range(most):
        least = shown[np.lexsort((counts[shown], widths[shown].sum(1)))[0]]
        places = np.flatnonzero(label == least)
        y, x = divmod(int(places[(2 * window + 1) * len(places) // (2 * most)]), label.shape[1])
        top, left = (max(0, min(at - _WINDOW // 2, side - _WINDOW)) for at, side in zip((y, x), label.shape))
        yield label[top : top + _WINDOW, left : left + _WINDOW]


def _counts(label: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    return np.bincount(label.ravel(), minlength=IGNORE + 1)[:classes].astype(np.int64)
