"""Which pictures a file is compared and calibrated on, read as they are needed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.data.files.channels import RGB, Pixels
from ducseg.data.files.rasters import read_finite
from ducseg.data.paired import SegmentationDataset
from ducseg.data.sample import Sample, as_type
from ducseg.data.synthetic.cityscapes import SyntheticStreets
from ducseg.export.parity import with_odd_sizes
from ducseg.inference.read_ahead import read_ahead
from ducseg.inference.sources import find_pictures, some_pictures
from ducseg.inference.taken import pixels_taken
from ducseg.models.preprocessing import IMAGENET, Preprocessing

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


def given_pictures(inputs: Sequence[str | Path], pixels: Pixels = RGB) -> ComparedOn:
    """Files, folders and globs; raises UserError as `find_pictures`, later where one does not read or holds others."""
    files = [file for file, _ in find_pictures(inputs)]
    return ComparedOn(
        f"{len(files)} pictures of {' '.join(Path(given).name for given in inputs)}",
        files,
        partial(_unlabelled, pixels=pixels),
    )


def labelled_split(dataset: SegmentationDataset, split: str) -> ComparedOn:
    """All of a data set's split, with its labels."""
    return ComparedOn(f"the split {split}, {len(dataset)} pictures", range(len(dataset)), dataset.__getitem__)


def drawn_scenes(preprocessing: Preprocessing = IMAGENET) -> ComparedOn:
    """What there is without pictures: street scenes drawn by ducseg.

    Of other channels than R, G, B of 8 bits theirs, over and over, with the mean and deviation that training measured.
    """
    scenes = SyntheticStreets(3, height=256, width=512, split="val")

    def unlabelled(index: int) -> Sample:  # their classes need not be the network's
        scene = replace(scenes[index], label=None)
        return scene if preprocessing.is_rgb else replace(scene, image=_in_channels(scene.image, preprocessing))

    recast = "" if preprocessing.is_rgb else f" and made {pixels_taken(preprocessing)}"
    about = f"{len(scenes)} street scenes drawn by ducseg{recast}, as no pictures were given"
    return ComparedOn(about, range(len(scenes)), unlabelled)


def _in_channels(image: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[Any]:
    standard = (image - image.mean((0, 1))) / image.std((0, 1))
    channels = standard[..., np.arange(preprocessing.num_channels) % 3]
    return as_type(np.array(preprocessing.mean) + preprocessing.std * channels, np.dtype(preprocessing.dtype))


def calibration_pictures(inputs: Sequence[str | Path], pixels: Pixels = RGB) -> list[NDArray[Any]]:
    """Up to 32 pictures, spread evenly over files, folders and globs; raises UserError as `some_pictures`."""
    return [picture for _, picture in some_pictures(inputs, pixels, most=_MOST_TO_CALIBRATE)]


def _unlabelled(file: Path, pixels: Pixels) -> Sample:
    image = read_finite(file, pixels)
    return Sample(image=image, label=None, id=file.stem, original_size=(image.shape[0], image.shape[1]))
