"""Mean and standard deviation of each channel of a data set's pictures."""

from dataclasses import dataclass

import numpy as np

from ducseg.classes import IGNORE
from ducseg.data.files.channels import RGB, Pixels
from ducseg.data.paired import PairedFiles, SegmentationDataset

__all__ = ["ChannelStatistics", "channel_statistics", "pixels_of"]

_MOST_PICTURES = 256


@dataclass(frozen=True, kw_only=True)
class ChannelStatistics:
    """Of C channels, on the pictures' own scale.

    Attributes:
        std: 1 where a channel is the same everywhere.
        looked_at: how many pictures were read.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    looked_at: int


def channel_statistics(dataset: SegmentationDataset) -> ChannelStatistics:
    """Over the pixels that are labelled in up to 256 pictures, spread evenly, the same ones every time.

    Raises:
        UserError: a file that does not read.
    """
    number = min(len(dataset), _MOST_PICTURES)
    pixels, sums, squares = 0, np.zeros(0), np.zeros(0)
    shift = None  # a first picture's mean: squares of large values far apart from 0 would lose their digits
    for position in range(number):
        sample = dataset[(2 * position + 1) * len(dataset) // (2 * number)]
        values = sample.image.reshape(-1, sample.image.shape[2]).astype(np.float64)
        if sample.label is not None:
            values = values[sample.label.ravel() != IGNORE]
        if not len(values):
            continue
        if shift is None:
            shift = values.mean(0)
            sums, squares = np.zeros_like(shift), np.zeros_like(shift)
        values -= shift
        pixels, sums, squares = pixels + len(values), sums + values.sum(0), squares + (values**2).sum(0)
    if shift is None:
        channels = dataset[0].image.shape[2]
        return ChannelStatistics(mean=(0.0,) * channels, std=(1.0,) * channels, looked_at=number)
    mean, variance = sums / pixels, squares / pixels - (sums / pixels) ** 2
    std = np.sqrt(np.maximum(variance, 0))
    return ChannelStatistics(
        mean=tuple((shift + mean).tolist()),
        std=tuple(np.where(std > 1e-6 * np.maximum(1, np.abs(shift)), std, 1.0).tolist()),
        looked_at=number,
    )


def pixels_of(dataset: SegmentationDataset) -> Pixels:
    """What the pictures hold; of data sets that are not files in pairs, RGB."""
    return dataset.pixels if isinstance(dataset, PairedFiles) else RGB
