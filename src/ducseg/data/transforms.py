"""Joint transforms of a picture and its label, on uint8, each a callable (Sample, numpy Generator) -> Sample.

Legend: H, W pixels; sizes are (H, W). Images are RGB uint8 (H, W, 3), labels uint8 (H, W). Pixel centres lie at half
integers, for image (bilinear) and label (nearest) alike. What is outside the picture gets the mean colour and label 255
(paper section 4.1).
All randomness comes from the Generator, so a sample depends on (seed, epoch, index) alone.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE, Colour
from ducseg.data.sample import Sample
from ducseg.errors import explain

__all__ = [
    "IMAGENET_MEAN_COLOUR",
    "ColourJitter",
    "Compose",
    "Pad",
    "RandomCrop",
    "RandomMirror",
    "RandomScale",
    "RandomScaleCrop",
    "Transform",
]

IMAGENET_MEAN_COLOUR: Colour = (124, 116, 104)
"""ImageNet's mean colour, rounded: what normalisation turns into about 0."""

Size = tuple[int, int]
Image = NDArray[np.uint8]


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
class RandomScale:
    """Resize by a factor uniform in `scale`: image bilinear, label nearest; each side is rounded to whole pixels."""

    scale: tuple[float, float] = (0.5, 2.0)

    def __post_init__(self) -> None:
        _check_scale(self.scale)

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample:
        scaled = _scaled_size(sample, self.scale, rng)
        return _window(sample, scaled, (0, 0), scaled, IMAGENET_MEAN_COLOUR)


@dataclass(frozen=True)
class RandomCrop:
    """A random window of `size` (H, W); a smaller picture lies at a random place of the window."""

    size: Size
    mean_colour: Colour = IMAGENET_MEAN_COLOUR

    def __post_init__(self) -> None:
        _check_size("crop size", self.size)

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample:
        full = _size(sample)
        return _window(sample, full, _random_offset(full, self.size, rng), self.size, self.mean_colour)


@dataclass(frozen=True)
class RandomScaleCrop:
    """`RandomScale`, then `RandomCrop`, but only the window is computed, from the same draws.

    Labels equal those of the two steps; image values agree up to the rounding of OpenCV's affine warp (1 of 255 with
    OpenCV 5, a few with OpenCV 4, whose warp moves in steps of 1/32 pixel).
    """

    size: Size
    scale: tuple[float, float] = (0.5, 2.0)
    mean_colour: Colour = IMAGENET_MEAN_COLOUR

    def __post_init__(self) -> None:
        _check_size("crop size", self.size)
        _check_scale(self.scale)

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample:
        scaled = _scaled_size(sample, self.scale, rng)
        return _window(sample, scaled, _random_offset(scaled, self.size, rng), self.size, self.mean_colour)


@dataclass(frozen=True)
class RandomMirror:
    """Left and right swapped with probability `probability`."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise explain(
                "mirror probability", found=self.probability, needed="0 to 1", fix="0.5 mirrors every second."
            )

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample:
        if rng.random() >= self.probability:
            return sample
        label = None if sample.label is None else np.asarray(cv2.flip(sample.label, 1), dtype=np.uint8)
        return replace(sample, image=np.asarray(cv2.flip(sample.image, 1), dtype=np.uint8), label=label)


@dataclass(frozen=True)
class ColourJitter:
    """Random brightness, contrast, saturation and hue, as one linear map of RGB rounded and clipped once; labels stay.

    Brightness, contrast and saturation are factors f from 1 +- the strength (at most 1): v -> f v; v -> m + f (v - m)
    with the picture's mean grey m; v -> g + f (v - g) with the pixel's grey g. Hue turns YIQ's chroma plane by at most
    +- the strength in full turns (at most 0.5). Applied in this order; 0 leaves that property alone.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        for name, largest in (("brightness", 1.0), ("contrast", 1.0), ("saturation", 1.0), ("hue", 0.5)):
            if not 0 <= getattr(self, name) <= largest:
                raise explain(
                    f"colour jitter: {name}",
                    found=getattr(self, name),
                    needed=f"0 to {largest}",
                    fix="0.2 is a mild jitter, 0 none.",
                )

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample:
        brightness, contrast, saturation = (
            1.0 + strength * rng.uniform(-1.0, 1.0) for strength in (self.brightness, self.contrast, self.saturation)
        )
        turn = 2.0 * np.pi * self.hue * rng.uniform(-1.0, 1.0)
        mean_grey = float(_GREY @ cv2.mean(sample.image)[:3])
        colour = contrast * brightness * (_hue_matrix(turn) @ _saturation_matrix(saturation))
        offset = np.full((3, 1), (1.0 - contrast) * brightness * mean_grey)
        jittered = cv2.transform(sample.image, np.hstack([colour, offset]))
        return replace(sample, image=np.asarray(jittered, dtype=np.uint8))


@dataclass(frozen=True)
class Pad:
    """Pad at the right and bottom to a multiple of `multiple`, or to at least `size` (H, W); give one of the two."""

    multiple: int | None = None
    size: Size | None = None
    mean_colour: Colour = IMAGENET_MEAN_COLOUR

    def __post_init__(self) -> None:
        if (self.multiple is None) == (self.size is None):
            raise explain(
                "padding",
                found=f"multiple={self.multiple}, size={self.size}",
                needed="one of them",
                fix="Set the other to None.",
            )
        if self.size is not None:
            _check_size("padded size", self.size)
        if self.multiple is not None and self.multiple < 1:
            raise explain("padding: multiple", found=self.multiple, needed="at least 1", fix="Use the output stride.")

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample:
        height, width = _size(sample)
        if self.size is not None:
            padded = max(height, self.size[0]), max(width, self.size[1])
        else:
            assert self.multiple is not None
            padded = -(-height // self.multiple) * self.multiple, -(-width // self.multiple) * self.multiple
        return _window(sample, (height, width), (0, 0), padded, self.mean_colour)


_GREY = np.array([0.299, 0.587, 0.114])
_RGB_TO_YIQ = np.array([_GREY, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])


def _saturation_matrix(factor: float) -> NDArray[np.float64]:
    return factor * np.eye(3) + (1.0 - factor) * np.tile(_GREY, (3, 1))


def _hue_matrix(turn: float) -> NDArray[np.float64]:
    cos, sin = np.cos(turn), np.sin(turn)
    rotation = np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
    return np.asarray(np.linalg.inv(_RGB_TO_YIQ) @ rotation @ _RGB_TO_YIQ)


def _check_size(what: str, size: Size) -> None:
    if len(size) != 2 or min(size) < 1:
        raise explain(
            what, found=size, needed="(height, width), both at least 1 pixel", fix="Give two positive numbers."
        )


def _check_scale(scale: tuple[float, float]) -> None:
    low, high = scale
    if not 0 < low <= high < float("inf"):
        raise explain("scale range", found=scale, needed="0 < low <= high", fix="The usual range is (0.5, 2.0).")


def _size(sample: Sample) -> Size:
    height, width = sample.image.shape[:2]
    return height, width


def _scaled_size(sample: Sample, scale: tuple[float, float], rng: np.random.Generator) -> Size:
    factor = rng.uniform(*scale)
    height, width = _size(sample)
    return max(1, round(height * factor)), max(1, round(width * factor))


def _random_offset(full: Size, window: Size, rng: np.random.Generator) -> Size:
    """Where a window begins in the picture: 0..surplus, or -lack..0 where the picture is smaller than the window."""
    surplus = full[0] - window[0], full[1] - window[1]
    top, left = (int(rng.integers(min(0, s), max(0, s), endpoint=True)) for s in surplus)
    return top, left


def _window(sample: Sample, scaled: Size, offset: Size, size: Size, mean_colour: Colour) -> Sample:
    """The window of `size` that begins at `offset` (top, left) of the picture resized to `scaled`."""
    rows, columns = (_overlap(start, length, full) for start, length, full in zip(offset, size, scaled))
    image = _resized_part(sample.image, scaled, offset, rows, columns)
    label = None if sample.label is None else _nearest_part(sample.label, scaled, offset, rows, columns)
    if (rows[1] - rows[0], columns[1] - columns[0]) != size:
        image = _placed(image, np.array(mean_colour, dtype=np.uint8), size, rows, columns)
        if label is not None:
            label = _placed(label, np.array(IGNORE, dtype=np.uint8), size, rows, columns)
    return replace(sample, image=image, label=label)


def _overlap(start: int, length: int, full: int) -> tuple[int, int]:
    """First and last + 1 position of a window whose pixel `start + position` lies in 0..full-1."""
    return max(0, -start), min(length, full - start)


def _placed(part: Image, fill: NDArray[np.uint8], size: Size, rows: Size, columns: Size) -> Image:
    canvas = np.empty((*size, *part.shape[2:]), dtype=np.uint8)
    canvas[...] = fill
    canvas[rows[0] : rows[1], columns[0] : columns[1]] = part
    return canvas


def _resized_part(image: Image, scaled: Size, offset: Size, rows: Size, columns: Size) -> Image:
    """Window positions rows x columns of the bilinearly resized image."""
    top, left = offset[0] + rows[0], offset[1] + columns[0]
    height, width = rows[1] - rows[0], columns[1] - columns[0]
    if scaled == image.shape[:2]:
        return np.ascontiguousarray(image[top : top + height, left : left + width])
    step_y, step_x = image.shape[0] / scaled[0], image.shape[1] / scaled[1]
    to_source = np.array(
        [[step_x, 0.0, (left + 0.5) * step_x - 0.5], [0.0, step_y, (top + 0.5) * step_y - 0.5]]
    )  # pixel centres at half integers, as cv2.resize
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    part = cv2.warpAffine(image, to_source, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(part, dtype=np.uint8)


def _nearest_part(label: Image, scaled: Size, offset: Size, rows: Size, columns: Size) -> Image:
    """Window positions rows x columns of the label resized to nearest: source = floor((position + 1/2) * step)."""
    picked = []
    for axis, span in enumerate((rows, columns)):
        positions = np.arange(span[0] + offset[axis], span[1] + offset[axis])
        # integers: (2 p + 1) * full / (2 * scaled), exact where floating point would fall on either side of a tie
        picked.append((2 * positions + 1) * label.shape[axis] // (2 * scaled[axis]))
    return np.asarray(label[picked[0]].take(picked[1], axis=1))
