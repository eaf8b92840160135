"""Joint transforms of a picture and its label, each a callable (Sample, numpy Generator) -> Sample.

Legend: H, W pixels; sizes are (H, W). Images (H, W, C) keep their type, RGB uint8 mostly (`Sample`); labels are uint8
(H, W). Pixel centres lie at half integers, for image (bilinear) and label (nearest) alike. What is outside the picture
gets the mean colour and label 255 (paper section 4.1), or the mirrored picture and label.
All randomness comes from the Generator, so a sample depends on (seed, epoch, index) alone.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.classes import Colour
from ducseg.data.resampling import Fill, Size, window_of
from ducseg.data.sample import Sample, as_type, is_rgb
from ducseg.errors import explain

__all__ = [
    "IMAGENET_MEAN_COLOUR",
    "ColourJitter",
    "Compose",
    "RandomCrop",
    "RandomMirror",
    "RandomScaleCrop",
    "Transform",
    "check_probability",
    "check_range",
]

IMAGENET_MEAN_COLOUR: Colour = (124, 116, 104)
"""ImageNet's mean colour, rounded: what normalisation turns into about 0."""


class Transform(Protocol):
    """Changes image and label alike; the same generator state gives the same result."""

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample: ...


@dataclass(frozen=True)
class Compose:
    """The transforms one after the other."""

    steps: tuple[Transform, ...]

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample:
        for step in self.steps:
            sample = step(sample, rng)
        return sample


@dataclass(frozen=True)
class RandomCrop:
    """A random window of `size` (H, W); a smaller picture lies at a random place of the window.

    Attributes:
        mean_colour: of what lies outside the picture, where the label is 255.
        rare: train ids; a window holds one of their pixels with probability `share` at least, wherever the picture has
            one: a class among those it has, then one of its pixels, then a window around it, each as likely.
        reflect: what lies outside is the mirrored picture and label instead.
    """

    size: Size
    mean_colour: Fill = IMAGENET_MEAN_COLOUR
    rare: tuple[int, ...] = ()
    share: float = 0.5
    reflect: bool = False

    def __post_init__(self) -> None:
        _check_size("crop size", self.size)
        check_probability("share of crops with a rare class", self.share)

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample:
        offset = _offset(sample, sample.size, self, rng)
        return window_of(sample, sample.size, offset, self.size, self.mean_colour, reflect=self.reflect)


@dataclass(frozen=True)
class RandomScaleCrop:
    """Resize by a factor uniform in `scale`, then `RandomCrop`; only the window is computed.

    Each side is rounded to whole pixels; the width is multiplied by one more factor, uniform in `aspect`. Image
    bilinear, up to the rounding of OpenCV's affine warp (1 of 255), label nearest. `mean_colour`, `rare`, `share` and
    `reflect` are those of `RandomCrop`.
    """

    size: Size
    scale: tuple[float, float] = (0.5, 2.0)
    mean_colour: Fill = IMAGENET_MEAN_COLOUR
    aspect: tuple[float, float] = (1.0, 1.0)
    rare: tuple[int, ...] = ()
    share: float = 0.5
    reflect: bool = False

    def __post_init__(self) -> None:
        _check_size("crop size", self.size)
        check_range("scale", self.scale)
        check_range("aspect", self.aspect)
        check_probability("share of crops with a rare class", self.share)

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample:
        scaled = _scaled_size(sample.size, self.scale, self.aspect, rng)
        offset = _offset(sample, scaled, self, rng)
        return window_of(sample, scaled, offset, self.size, self.mean_colour, reflect=self.reflect)


@dataclass(frozen=True)
class RandomMirror:
    """Left and right swapped with probability `probability`."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        check_probability("mirror", self.probability)

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample:
        if rng.random() >= self.probability:
            return sample
        label = None if sample.label is None else np.asarray(cv2.flip(sample.label, 1), dtype=np.uint8)
        return replace(sample, image=cv2.flip(sample.image, 1).reshape(sample.image.shape), label=label)


@dataclass(frozen=True)
class ColourJitter:
    """Random brightness, contrast and saturation, as one linear map of RGB rounded and clipped once; labels stay.

    Each is a factor f from 1 +- its strength (at most 1), applied in this order: v -> f v; v -> m + f (v - m) with the
    picture's mean grey m; v -> g + f (v - g) with the pixel's grey g. 0 leaves that property alone. Pictures that are
    not RGB of 8 bits have no saturation, and m is each channel's own mean.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __post_init__(self) -> None:
        for name, strength in vars(self).items():
            if not 0 <= strength <= 1:
                raise explain(
                    f"colour jitter: {name}", found=strength, needed="0 to 1", fix="0.2 is a mild jitter, 0 none."
                )

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample:
        brightness, contrast, saturation = (
            1.0 + strength * rng.uniform(-1.0, 1.0) for strength in (self.brightness, self.contrast, self.saturation)
        )
        if not is_rgb(sample.image):
            means = sample.image.mean((0, 1), dtype=np.float64)
            values = contrast * brightness * sample.image + (1.0 - contrast) * brightness * means
            return replace(sample, image=as_type(values, sample.image.dtype))
        mean_grey = float(_GREY @ cv2.mean(sample.image)[:3])
        colour = contrast * brightness * _saturation_matrix(saturation)
        offset = np.full((3, 1), (1.0 - contrast) * brightness * mean_grey)
        jittered = cv2.transform(sample.image, np.hstack([colour, offset]))
        return replace(sample, image=np.asarray(jittered, dtype=np.uint8))


_GREY = np.array([0.299, 0.587, 0.114])


def _saturation_matrix(factor: float) -> NDArray[np.float64]:
    return factor * np.eye(3) + (1.0 - factor) * np.tile(_GREY, (3, 1))


def _check_size(what: str, size: Size) -> None:
    if len(size) != 2 or min(size) < 1:
        raise explain(
            what, found=size, needed="(height, width), both at least 1 pixel", fix="Give two positive numbers."
        )


def check_probability(what: str, probability: float) -> None:
    """Raise `UserError` unless it is 0 to 1."""
    if not 0 <= probability <= 1:
        raise explain(f"{what}: probability", found=probability, needed="0 to 1", fix="0.5 is every second.")


def check_range(name: str, bounds: tuple[float, float]) -> None:
    """Raise `UserError` unless 0 < low <= high."""
    low, high = bounds
    if not 0 < low <= high < float("inf"):
        raise explain(f"{name} range", found=bounds, needed="0 < low <= high", fix="For example (0.5, 2.0).")


def _scaled_size(size: Size, scale: tuple[float, float], aspect: tuple[float, float], rng: np.random.Generator) -> Size:
    factor = rng.uniform(*scale)
    wider = 1.0 if aspect == (1.0, 1.0) else rng.uniform(*aspect)
    height, width = size
    return max(1, round(height * factor)), max(1, round(width * factor * wider))


def _offset(
    sample: Sample, scaled: Size, crop: "RandomCrop | RandomScaleCrop", rng: np.random.Generator
) -> tuple[int, int]:
    """Where the window begins in the picture resized to `scaled`."""
    if crop.rare and sample.label is not None and rng.random() < crop.share:
        place = _rare_pixel(sample.label, scaled, crop.rare, rng)
        if place is not None:
            top, left = (
                int(rng.integers(*_around(position, full, window), endpoint=True))
                for position, full, window in zip(place, scaled, crop.size)
            )
            return top, left
    return _random_offset(scaled, crop.size, rng)


def _around(position: int, full: int, window: int) -> tuple[int, int]:
    """First and last start of a window that holds `position` and, where it fits, lies inside 0..full-1."""
    surplus = full - window
    if surplus <= 0:
        return surplus, 0
    return max(0, position - window + 1), min(position, surplus)


def _rare_pixel(
    label: NDArray[np.uint8], scaled: Size, rare: tuple[int, ...], rng: np.random.Generator
) -> tuple[int, int] | None:
    """A pixel of one of these classes that resizing to nearest keeps, in the resized picture; None: there is none."""
    rows, columns = (
        (2 * np.arange(to) + 1) * full // (2 * to) for to, full in zip(scaled, label.shape)
    )  # as `resampling` takes them
    kept = label if scaled == label.shape else label[np.unique(rows)[:, None], np.unique(columns)]
    wanted = np.zeros(256, np.bool_)
    wanted[list(rare)] = True
    places = np.flatnonzero(wanted[kept])
    if not len(places):
        return None
    values = kept.ravel()[places]
    places = places[values == rng.choice(np.unique(values))]
    y, x = divmod(int(rng.choice(places)), kept.shape[1])
    return int(np.searchsorted(rows, np.unique(rows)[y])), int(np.searchsorted(columns, np.unique(columns)[x]))


def _random_offset(full: Size, window: Size, rng: np.random.Generator) -> Size:
    """Where a window begins in the picture: 0..surplus, or -lack..0 where the picture is smaller than the window."""
    surplus = full[0] - window[0], full[1] - window[1]
    top, left = (int(rng.integers(min(0, s), max(0, s), endpoint=True)) for s in surplus)
    return top, left
