"""How many training pixels each class has, before a run: for its class weights, and to stop where a class has none."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE, ClassSet
from ducseg.cores import available_cores
from ducseg.data.concat import Concatenated
from ducseg.data.config import OWN_CLASSES, DataConfig
from ducseg.data.paired import PairedFiles, SegmentationDataset
from ducseg.data.patches import Patches
from ducseg.errors import explain, listed

__all__ = ["PixelCounts", "check_classes_seen", "classes_shown", "count_pixels", "unvalidated_note"]


@dataclass(frozen=True, kw_only=True)
class PixelCounts:
    """Of L classes in a set of pictures.

    Attributes:
        pixels: int64 (L,) of each class.
        pictures: int64 (L,) that show it.
        ignored: pixels of 255.
    """

    classes: ClassSet
    pixels: NDArray[np.int64]
    pictures: NDArray[np.int64]
    ignored: int

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of the classes without a pixel."""
        return tuple(name for name, pixels in zip(self.classes.names, self.pixels) if not pixels)


def count_pixels(dataset: SegmentationDataset) -> PixelCounts:
    """Count the pixels of each class: labels alone are read, in threads, and masks that were looked at not again.

    Patches are counted as their frames. A data set of other kinds is read sample by sample.

    Raises:
        UserError: a label that does not read or holds what no class has.
    """
    number = len(dataset.classes)
    pixels, pictures, ignored = np.zeros(number, np.int64), np.zeros(number, np.int64), 0
    for histogram in _histograms(dataset):
        pixels += histogram[:number]
        pictures += histogram[:number] > 0
        ignored += int(histogram[IGNORE])
    return PixelCounts(classes=dataset.classes, pixels=pixels, pictures=pictures, ignored=ignored)


def classes_shown(dataset: SegmentationDataset) -> list[NDArray[np.bool_]]:
    """Of each picture, whether it has a pixel of each class (L,); reads, and raises `UserError`, as `count_pixels`."""
    return [histogram[: len(dataset.classes)] > 0 for histogram in _histograms(dataset)]


def check_classes_seen(
    config: DataConfig, dataset: SegmentationDataset, validation: SegmentationDataset | None = None
) -> None:
    """Count the pixels of a training set with the user's own classes; a benchmark's own are taken to be there.

    Args:
        validation: where a class that is not there may be.

    Raises:
        UserError: nothing but ignored pixels, a class without one unless `allow_absent`.
    """
    if config.dataset not in OWN_CLASSES:
        return
    counts = count_pixels(dataset)
    if not counts.pixels.any():
        raise explain(
            "training pictures",
            found=f"no labelled pixel ({counts.ignored} are ignored)",
            needed="pixels of classes",
            fix="Look at the masks: ducseg data check says how they are read.",
        )
    if counts.absent and not config.allow_absent:
        held = [] if validation is None else _showing(validation, counts.absent)
        found, fix = "", "Add pictures of it, take it out of classes.json, say what the masks hold with --data.values"
        if held:
            found = f", but in the validation pictures {listed(held, 3)}"
            fix = (
                f"Validate on others: write their names into {config.root}/val.txt, one a line, and add "
                "--data.val-split val.txt (of folders of splits: move files); or add pictures of it"
            )
            if config.folds is not None:
                fix = "Take another --data.fold or fewer --data.folds; or add pictures of it"
        raise explain(
            "training pictures",
            found=f"no pixel of {', '.join(counts.absent)}{found}",
            needed="some of every class",
            fix=f"{fix}, or train without it: --data.allow-absent.",
        )


def unvalidated_note(config: DataConfig, validation: SegmentationDataset) -> str | None:
    """A line that names the user's own classes of which no validation picture has a pixel, None where there is none.

    Raises:
        UserError: as `count_pixels`.
    """
    absent = count_pixels(validation).absent if config.dataset in OWN_CLASSES else ()
    if not absent:
        return None
    other = "--data.val-split" if config.folds is None else "--data.fold"
    return (
        f"no pixel of {', '.join(absent)} in validation ({config.val_split}): their IoU there is 0 where one is "
        f"predicted, else missing, and 0 enters the mean; {other} chooses other pictures"
    )


def _showing(dataset: SegmentationDataset, classes: Sequence[str]) -> list[str]:
    """Names of the pictures that show a pixel of one of these classes."""
    numbers = [dataset.classes.names.index(name) for name in classes]
    return [name for name, shown in zip(dataset.ids, classes_shown(dataset)) if shown[numbers].any()]


def _histograms(dataset: SegmentationDataset) -> Iterator[NDArray[np.int64]]:
    if isinstance(dataset, Concatenated):
        for part in dataset.datasets:
            yield from _histograms(part)
    elif isinstance(dataset, Patches):
        yield from _histograms(dataset.frames)
    elif isinstance(dataset, PairedFiles):
        with ThreadPoolExecutor(min(8, available_cores())) as pool:
            yield from pool.map(dataset.histogram, range(len(dataset)))
    else:
        for index in range(len(dataset)):
            label = dataset[index].label
            assert label is not None, "a training set has labels"
            yield np.bincount(label.ravel(), minlength=256)
