"""A look at one's own pictures before training: sizes, classes, their shares and how wide their objects are."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE, ClassSet
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
_SCALE = 1e9
"""What a picture's widths add up to, whatever its size: one of a hundred times the pixels is one among the others."""


@dataclass(frozen=True, kw_only=True)
class ClassFindings:
    """One class in the training pictures that were looked at.

    Attributes:
        share: of the labelled pixels, 0 to 1.
        median_width: half of its pixels lie in objects at most this wide, in pixels, 64 for more, where each picture
            counts alike; None without a pixel.
    """

    name: str
    share: float
    median_width: float | None


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


def survey(dataset: SegmentationDataset) -> Survey:
    """Look at up to 64 training pictures, spread evenly, the same ones every time.

    Raises:
        UserError: a file that does not read.
    """
    number = min(len(dataset), _MOST_PICTURES)
    sizes = []
    halves = np.zeros((2, len(dataset.classes)), dtype=np.int64)
    widths = np.zeros((len(dataset.classes), _LADDER[-1] + 1))
    every = 1
    for position in range(number):
        label = dataset[(2 * position + 1) * len(dataset) // (2 * number)].label
        assert label is not None, "a training split has labels"
        sizes.append((label.shape[0], label.shape[1]))
        if position == 0:
            every = -(-number // max(_FEWEST_MEASURED, _MOST_MEASURED // max(1, label.size)))
        middle = label.shape[0] // 2
        halves += [_counts(label[:middle], dataset.classes), _counts(label[label.shape[0] - middle :], dataset.classes)]
        if position % every:
            continue
        shown = label < len(dataset.classes)
        found = np.zeros(widths.shape, np.int64)
        np.add.at(found, (label[shown], local_widths(label, _LADDER)[shown]), 1)
        widths += found * (_SCALE / max(1, label.size))
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
                name=name, share=float(share), median_width=WidthHistogram(width).median if width.any() else None
            )
            for name, share, width in zip(dataset.classes.names, shares, np.ceil(widths).astype(np.int64))
        ),
        unevenness=float(np.abs(distributions[0] - distributions[1]).sum() / 2),
    )


def _counts(label: NDArray[np.uint8], classes: ClassSet) -> NDArray[np.int64]:
    return np.bincount(label.ravel(), minlength=IGNORE + 1)[: len(classes)].astype(np.int64)
