"""Which pictures a file is compared and calibrated on, read as they are needed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.data.files.reading import read_image
from ducseg.data.paired import SegmentationDataset
from ducseg.data.sample import Sample
from ducseg.data.synthetic.cityscapes import SyntheticStreets
from ducseg.export.parity import with_odd_sizes
from ducseg.inference.read_ahead import read_ahead
from ducseg.inference.sources import find_pictures

__all__ = ["ComparedOn", "calibration_pictures", "drawn_scenes", "given_pictures", "labelled_split"]

_MOST_TO_CALIBRATE = 32


@dataclass(frozen=True)
class ComparedOn:
    """Samples to go through as often as wanted, with parts of the first one in odd sizes at the end.

    Attributes:
        about: what they are, in words.
        items: what `read` makes a sample of.
    """

    about: str
    items: Sequence[Any]
    read: Callable[[Any], Sample]

    def __len__(self) -> int:
        """Without the parts of the first one."""
        return len(self.items)

    def __iter__(self) -> Iterator[Sample]:
        return with_odd_sizes(sample() for _, sample in read_ahead(self.read, self.items))


def given_pictures(inputs: Sequence[str | Path]) -> ComparedOn:
    """Files, folders and globs; raises UserError as `find_pictures`, later where one does not read."""
    files = [file for file, _ in find_pictures(inputs)]
    return ComparedOn(f"{len(files)} pictures of {' '.join(Path(given).name for given in inputs)}", files, _unlabelled)


def labelled_split(dataset: SegmentationDataset, split: str) -> ComparedOn:
    """All of a data set's split, with its labels."""
    return ComparedOn(f"the split {split}, {len(dataset)} pictures", range(len(dataset)), dataset.__getitem__)


def drawn_scenes() -> ComparedOn:
    """What there is without pictures: street scenes drawn by ducseg."""
    scenes = SyntheticStreets(3, height=256, width=512, split="val")

    def unlabelled(index: int) -> Sample:  # their classes need not be the network's
        return replace(scenes[index], label=None)

    return ComparedOn(f"{len(scenes)} street scenes drawn by ducseg, as no pictures were given", range(3), unlabelled)


def calibration_pictures(inputs: Sequence[str | Path]) -> list[NDArray[np.uint8]]:
    """Up to 32 pictures, spread evenly over files, folders and globs; raises UserError where one does not read."""
    files = [file for file, _ in find_pictures(inputs)]
    count = min(len(files), _MOST_TO_CALIBRATE)
    return [read_image(files[(2 * place + 1) * len(files) // (2 * count)]) for place in range(count)]


def _unlabelled(file: Path) -> Sample:
    image = read_image(file)
    return Sample(image=image, label=None, id=file.stem, original_size=(image.shape[0], image.shape[1]))
