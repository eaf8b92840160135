"""Transforms, batches and statistics of pictures of any channels and type: as those of each channel alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ducseg.classes import ClassSet
from ducseg.data.augmentations import (
    RandomBlur,
    RandomElastic,
    RandomGamma,
    RandomNoise,
    RandomQuarterTurns,
    RandomRotation,
    RandomVerticalFlip,
)
from ducseg.data.files.channels import fill_undefined
from ducseg.data.loading import collate
from ducseg.data.sample import Sample
from ducseg.data.statistics import channel_statistics
from ducseg.data.transforms import ColourJitter, RandomCrop, RandomMirror, RandomScaleCrop, Transform
from ducseg.errors import UserError

CLASSES = ClassSet(("a", "b"), ((0, 0, 0), (255, 0, 0)))
KINDS = [(channels, dtype) for channels in (1, 2, 5, 16) for dtype in ("uint8", "uint16", "float32")]


def sample(channels: int, dtype: str, size: tuple[int, int] = (40, 56)) -> Sample:
    rng = np.random.default_rng(channels)
    top = {"uint8": 250, "uint16": 60000, "float32": 1.0}[dtype]
    image = (rng.random((*size, channels)) * top).astype(dtype)
    label = rng.integers(0, 2, size).astype(np.uint8)
    return Sample(image=image, label=label, id="x", original_size=size)


def channel(of: Sample, index: int) -> Sample:
    return replace(of, image=np.ascontiguousarray(of.image[..., index : index + 1]))


def fill(channels: int) -> tuple[float, ...]:
    return tuple(float(index + 1) for index in range(channels))


GEOMETRIC: dict[str, Any] = {
    "crop": lambda c: RandomCrop((24, 70), fill(c)),
    "reflected crop": lambda c: RandomCrop((24, 70), fill(c), reflect=True),
    "scaled crop": lambda c: RandomScaleCrop((50, 50), (0.5, 1.5), fill(c)),
    "mirror": lambda _: RandomMirror(1.0),
    "vertical flip": lambda _: RandomVerticalFlip(1.0),
    "turns": lambda _: RandomQuarterTurns(),
    "rotation": lambda c: RandomRotation(45, mean_colour=fill(c)),
    "elastic": lambda c: RandomElastic(mean_colour=fill(c)),
    "blur": lambda _: RandomBlur(),
}
ONE_BY_ONE: dict[str, Transform] = {"jitter": ColourJitter(0.3, 0.3, 0.3), "gamma": RandomGamma()}


@pytest.mark.parametrize(("channels", "dtype"), KINDS)
@pytest.mark.parametrize("name", [*GEOMETRIC, *ONE_BY_ONE])
def test_channels_are_changed_as_each_would_be_alone(name: str, channels: int, dtype: str) -> None:
    whole = sample(channels, dtype)
    for seed in range(3):
        step: Transform = ONE_BY_ONE[name] if name in ONE_BY_ONE else GEOMETRIC[name](channels)
        found = step(whole, np.random.default_rng(seed))
        assert found.image.dtype == dtype and found.image.shape[2] == channels
        assert found.label is not None and found.image.shape[:2] == found.label.shape
        for index in range(channels):
            if name not in ONE_BY_ONE and hasattr(step, "mean_colour"):
                step = replace(GEOMETRIC[name](1), mean_colour=(float(index + 1),))  # type: ignore[type-var]
            alone = step(channel(whole, index), np.random.default_rng(seed))
            np.testing.assert_allclose(found.image[..., index], alone.image[..., 0], rtol=1e-6)
            np.testing.assert_array_equal(found.label, alone.label)


def test_what_lies_outside_is_each_channels_own_value() -> None:
    whole = sample(6, "uint16", (4, 4))
    found = RandomCrop((40, 40), fill(6))(whole, np.random.default_rng(0))
    assert found.label is not None
    np.testing.assert_array_equal(found.image[found.label == 255], np.tile(fill(6), (40 * 40 - 16, 1)))


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_gamma_stays_within_each_channels_range(dtype: str) -> None:
    whole = sample(3, dtype)
    found = RandomGamma((1.39, 1.4))(whole, np.random.default_rng(0)).image
    np.testing.assert_allclose(found.min((0, 1)), whole.image.min((0, 1)))
    np.testing.assert_allclose(found.max((0, 1)), whole.image.max((0, 1)), rtol=1e-6)
    assert (found.mean((0, 1)) < 0.95 * whole.image.mean((0, 1))).all(), "an exponent above 1 darkens"
    flat = replace(whole, image=np.full((8, 8, 3), 7, dtype))
    np.testing.assert_array_equal(RandomGamma()(flat, np.random.default_rng(0)).image, flat.image)


def test_noise_goes_by_each_channels_range() -> None:
    image = np.zeros((200, 200, 2), np.float32)
    image[0, 0] = (1, 1000)
    found = RandomNoise((10, 10))(replace(sample(2, "float32"), image=image), np.random.default_rng(0)).image - image
    np.testing.assert_allclose(found.std((0, 1)), [10 / 255, 1000 * 10 / 255], rtol=0.05)


def test_whole_numbers_are_clipped_to_what_their_type_holds() -> None:
    image = np.full((8, 8, 2), 65000, np.uint16)
    image[0] = 0
    for seed in range(5):
        found = ColourJitter(1.0, 1.0)(replace(sample(2, "uint16"), image=image), np.random.default_rng(seed)).image
        assert (np.diff(found[:2, 0].astype(int), axis=0) >= 0).all(), "none wraps around"


@pytest.mark.parametrize(("channels", "dtype"), KINDS)
def test_batches_have_the_pictures_type(channels: int, dtype: str) -> None:
    first, second = sample(channels, dtype), sample(channels, dtype)
    batch = collate([first, second])["image"]
    assert batch.shape == (2, channels, 40, 56) and batch.dtype == getattr(torch, dtype)
    np.testing.assert_array_equal(batch[1].numpy(), np.moveaxis(second.image, 2, 0))


class Pictures:
    """A data set in memory."""

    classes = CLASSES

    def __init__(self, samples: list[Sample]) -> None:
        self.samples, self.ids = samples, tuple(map(str, range(len(samples))))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int, /) -> Sample:
        return self.samples[index]


@pytest.mark.parametrize(("channels", "dtype"), KINDS)
def test_statistics_are_numpys_over_labelled_pixels(channels: int, dtype: str) -> None:
    samples = [sample(channels, dtype), sample(channels, dtype, (30, 20))]
    void = np.zeros((40, 56), np.uint8)
    void[:20] = 255
    samples[0] = replace(samples[0], label=void)
    pixels = np.concatenate([samples[0].image[20:].reshape(-1, channels), samples[1].image.reshape(-1, channels)])
    found = channel_statistics(Pictures(samples))
    np.testing.assert_allclose(found.mean, pixels.mean(0, dtype=np.float64), rtol=1e-9)
    np.testing.assert_allclose(found.std, pixels.std(0, dtype=np.float64), rtol=1e-9)
    assert found.looked_at == 2


def test_statistics_of_large_values_close_together_and_of_a_constant_channel() -> None:
    rng = np.random.default_rng(0)
    image = np.stack([3e7 + 100 * rng.integers(0, 2, (20, 20)), np.full((20, 20), 5.0)], -1).astype(np.float32)
    found = channel_statistics(Pictures([replace(sample(2, "float32", (20, 20)), image=image)]))
    assert found.mean[0] == pytest.approx(image[..., 0].mean(dtype=np.float64)) and 45 < found.std[0] < 55
    assert (found.mean[1], found.std[1]) == (5, 1)


def test_values_that_are_no_numbers_get_their_channels_mean() -> None:
    picture: NDArray[np.float32] = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    assert fill_undefined(picture.copy(), "x") is None and fill_undefined(picture.astype(np.uint16), "x") is None
    broken = picture.copy()
    broken[0, 0, 1], broken[1, 3, 1] = np.nan, -np.inf
    undefined = fill_undefined(broken, "x")
    assert undefined is not None and np.argwhere(undefined).tolist() == [[0, 0], [1, 3]]
    others = picture[..., 1].ravel()[1:-1].mean()
    assert broken[0, 0, 1] == broken[1, 3, 1] == others
    np.testing.assert_array_equal(broken[..., [0, 2]], picture[..., [0, 2]])
    with pytest.raises(UserError, match=r"picture x: found no finite number in channel 3"):
        fill_undefined(np.full((2, 2, 3), (1, 2, np.nan), np.float32), "x")
