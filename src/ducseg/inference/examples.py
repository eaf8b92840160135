"""Pictures to look at, with their truth where there is one, and what networks make of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.data.paired import SegmentationDataset
from ducseg.errors import explain, whole
from ducseg.inference.labeller import Labeller, pixels_of
from ducseg.inference.sources import some_pictures

__all__ = ["Example", "examples_of", "most_different"]


@dataclass(frozen=True, kw_only=True)
class Example:
    """A picture (H, W, C), its truth (H, W) or None, and the labels (H, W) of each network by name."""

    name: str
    image: NDArray[Any]
    truth: NDArray[np.uint8] | None
    labels: dict[str, NDArray[np.uint8]]


def examples_of(
    labellers: Mapping[str, Labeller],
    source: SegmentationDataset | tuple[str, ...],
    *,
    count: int,
    names: Sequence[str] = (),
) -> list[Example]:
    """Predict pictures spread evenly over a data set, or over files, folders and globs.

    Args:
        labellers: with one list of classes.
        source: a data set's pictures come with their truth.
        count: at most so many.
        names: of a data set, these in place of the spread.

    Raises:
        UserError: networks that tell different classes apart, a name that is not there, a number below 1; as `labeller`
            and as reading.
    """
    lists = {labeller.classes.names for labeller in labellers.values()}
    if len(lists) > 1:
        raise explain(
            "networks", found="different classes", needed="one list of classes", fix="Draw them in a figure each."
        )
    shown: list[tuple[str, NDArray[Any], NDArray[np.uint8] | None]]
    if isinstance(source, tuple):
        pixels = pixels_of(next(iter(labellers.values())))
        shown = [(name, picture, None) for name, picture in some_pictures(source, pixels, most=count)]
    else:
        samples = [source[index] for index in _chosen(source, count, names)]
        shown = [(sample.id, sample.image, sample.label) for sample in samples]
    return [
        Example(
            name=name, image=image, truth=truth, labels={key: labeller(image) for key, labeller in labellers.items()}
        )
        for name, image, truth in shown
    ]


def _chosen(dataset: SegmentationDataset, count: int, names: Sequence[str]) -> list[int]:
    missing = [name for name in names if name not in dataset.ids]
    if missing:
        raise explain(
            "--names", found=missing[0], needed=f"one of {', '.join(dataset.ids[:4])}, ...", fix="Correct it."
        )
    if names:
        return [dataset.ids.index(name) for name in names]
    number = min(whole("--count", count, least=1, fix="3 fill a page."), len(dataset))
    return [(2 * place + 1) * len(dataset) // (2 * number) for place in range(number)]


def most_different(example: Example, side: int) -> tuple[int, int]:
    """Top and left of the square of that side, or less in a smaller picture, in which the networks differ most.

    Of one network: in which its labels change most from pixel to pixel.
    """
    maps = list(example.labels.values())
    differing = maps[0] != maps[-1]
    if len(maps) == 1:
        differing[1:] = maps[0][1:] != maps[0][:-1]
        differing[:, 1:] |= maps[0][:, 1:] != maps[0][:, :-1]
    sums = np.pad(differing, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    rows, columns = (min(side, length) for length in differing.shape)
    inside = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns] + sums[:-rows, :-columns]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(top), int(left)
