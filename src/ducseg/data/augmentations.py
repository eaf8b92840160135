"""More joint transforms, as those of `transforms`: turns and bends of picture and label, flaws of the camera.

Turns, rotations and bends move the label's pixels with the picture's (image bilinear, label nearest); what comes from
outside is the mean colour and 255, or with `reflect` the mirrored picture and label. Blur, noise, gamma and JPEG change
the picture alone; where a picture is not RGB of 8 bits, gamma and noise go by the range of each channel in it, and
JPEG is refused. `Sometimes` applies any transform with a probability. Legend: H, W pixels; sizes are (H, W).
"""

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from ducseg.classes import IGNORE
from ducseg.data.resampling import Fill, by_channels
from ducseg.data.sample import Sample, as_type, is_rgb
from ducseg.data.transforms import IMAGENET_MEAN_COLOUR, Transform, check_probability, check_range
from ducseg.errors import explain

__all__ = [
    "RandomBlur",
    "RandomElastic",
    "RandomGamma",
    "RandomJpeg",
    "RandomNoise",
    "RandomQuarterTurns",
    "RandomRotation",
    "RandomVerticalFlip",
    "Sometimes",
]

_Map = NDArray[np.float32]


@dataclass(frozen=True)
class Sometimes:
    """`step` with probability `probability`, else the sample as it is."""

    step: Transform
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_probability("augmentation", self.probability)

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample:
        return self.step(sample, rng) if rng.random() < self.probability else sample


@dataclass(frozen=True)
class RandomVerticalFlip:
    """Top and bottom swapped with probability `probability`."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        check_probability("vertical flip", self.probability)

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample:
        if rng.random() >= self.probability:
            return sample
        label = None if sample.label is None else np.ascontiguousarray(sample.label[::-1])
        return replace(sample, image=np.ascontiguousarray(sample.image[::-1]), label=label)


@dataclass(frozen=True)
class RandomQuarterTurns:
    """None, one, two or three quarter turns, each as likely; height and width change places with one and three.

    The arrays are views: what a crop leaves out of a large picture is never turned.
    """

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample:
        turns = int(rng.integers(4))
        label = None if sample.label is None else np.rot90(sample.label, turns)
        return replace(sample, image=np.rot90(sample.image, turns), label=label)


@dataclass(frozen=True)
class RandomRotation:
    """Rotation about the centre by an angle uniform in -degrees..degrees; the size stays."""

    degrees: float = 180.0
    reflect: bool = False
    mean_colour: Fill = IMAGENET_MEAN_COLOUR

    def __post_init__(self) -> None:
        if not 0 < self.degrees <= 180:
            raise explain("rotation", found=self.degrees, needed="above 0 to 180 degrees", fix="10 is a mild one.")

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample:
        height, width = sample.size
        turn = np.deg2rad(rng.uniform(-self.degrees, self.degrees))
        cos, sin = np.cos(turn), np.sin(turn)
        across, down = np.arange(width) - (width - 1) / 2, (np.arange(height) - (height - 1) / 2)[:, None]
        x, y = cos * across - sin * down + (width - 1) / 2, sin * across + cos * down + (height - 1) / 2
        return _moved(sample, x.astype(np.float32), y.astype(np.float32), self.reflect, self.mean_colour)


@dataclass(frozen=True)
class RandomElastic:
    """Every pixel moved by a smooth random field: normal with deviation `pixels` at points `spacing` pixels apart.

    Between the points it is interpolated (cubic), so nothing tears as long as `pixels` is well below `spacing`.
    """

    pixels: float = 4.0
    spacing: float = 48.0
    reflect: bool = False
    mean_colour: Fill = IMAGENET_MEAN_COLOUR

    def __post_init__(self) -> None:
        if not 0 < self.pixels <= self.spacing / 4:
            found = f"pixels={self.pixels}, spacing={self.spacing}"
            needed = "pixels above 0 and at most a quarter of spacing"
            raise explain("elastic", found=found, needed=needed, fix="4 pixels at a spacing of 48 are mild.")

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample:
        height, width = sample.size
        points = (2, *(max(2, round(side / self.spacing) + 1) for side in (height, width)))
        coarse = (self.pixels * rng.standard_normal(points)).astype(np.float32)
        down, across = (cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC) for field in coarse)
        x = np.arange(width, dtype=np.float32) + across
        y = np.arange(height, dtype=np.float32)[:, None] + down
        return _moved(sample, x, y, self.reflect, self.mean_colour)


@dataclass(frozen=True)
class RandomBlur:
    """Gaussian blur with a deviation uniform in `sigma`, in pixels."""

    sigma: tuple[float, float] = (0.3, 1.5)

    def __post_init__(self) -> None:
        check_range("blur: sigma", self.sigma)

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample:
        blurred = cv2.GaussianBlur(sample.image, (0, 0), rng.uniform(*self.sigma))
        return replace(sample, image=np.asarray(blurred).reshape(sample.image.shape))


@dataclass(frozen=True)
class RandomNoise:
    """Gaussian noise on every value, its deviation uniform in `sigma`, of 255, or of the channel's range."""

    sigma: tuple[float, float] = (2.0, 10.0)

    def __post_init__(self) -> None:
        check_range("noise: sigma", self.sigma)

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample:
        noise = rng.uniform(*self.sigma) * rng.standard_normal(sample.image.shape, dtype=np.float32)
        if not is_rgb(sample.image):
            low, high = _range(sample.image)
            return replace(sample, image=as_type(sample.image + noise * ((high - low) / 255), sample.image.dtype))
        return replace(sample, image=np.clip(np.rint(sample.image + noise), 0, 255).astype(np.uint8))


@dataclass(frozen=True)
class RandomGamma:
    """v -> 255 (v / 255)^gamma, the logarithm of gamma uniform between those of `gamma`.

    Of pictures that are not RGB of 8 bits, v -> low + (high - low) ((v - low) / (high - low))^gamma, with the lowest
    and the highest value of the channel in the picture: 16 bits are rarely all in use.
    """

    gamma: tuple[float, float] = (0.7, 1.4)

    def __post_init__(self) -> None:
        check_range("gamma", self.gamma)

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample:
        gamma = np.exp(rng.uniform(*np.log(self.gamma)))
        if not is_rgb(sample.image):
            low, high = _range(sample.image)
            span = np.where(high > low, high - low, 1)
            values = low + span * ((sample.image - low) / span) ** gamma
            return replace(sample, image=as_type(values, sample.image.dtype))
        curve = np.rint(255 * np.linspace(0, 1, 256) ** gamma).astype(np.uint8)
        return replace(sample, image=curve[sample.image])


@dataclass(frozen=True)
class RandomJpeg:
    """Compressed as JPEG and back, the quality a whole number uniform in `quality`; of RGB of 8 bits alone."""

    quality: tuple[int, int] = (40, 95)

    def __post_init__(self) -> None:
        low, high = self.quality
        if not 1 <= low <= high <= 100:
            raise explain(
                "JPEG quality", found=self.quality, needed="1 <= low <= high <= 100", fix="(40, 95) is usual."
            )

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample:
        quality = int(rng.integers(*self.quality, endpoint=True))
        packed = simplejpeg.encode_jpeg(np.ascontiguousarray(sample.image), quality=quality, colorsubsampling="420")
        return replace(sample, image=np.asarray(simplejpeg.decode_jpeg(packed), dtype=np.uint8))


def _moved(sample: Sample, x: _Map, y: _Map, reflect: bool, mean_colour: Fill) -> Sample:
    """The sample whose pixel (i, j) shows its place (y, x)[i, j], in pixels from the first one's centre."""
    border = cv2.BORDER_REFLECT_101 if reflect else cv2.BORDER_CONSTANT

    def moved_part(part: NDArray[Any], fill: Fill) -> NDArray[Any]:
        return np.asarray(cv2.remap(part, x, y, cv2.INTER_LINEAR, borderMode=border, borderValue=fill))

    label = sample.label
    if label is not None:
        moved = cv2.remap(label, x, y, cv2.INTER_NEAREST, borderMode=border, borderValue=IGNORE)
        label = np.asarray(moved, dtype=np.uint8)
    return replace(sample, image=by_channels(moved_part, sample.image, mean_colour), label=label)


def _range(image: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The lowest and the highest value of each channel."""
    return image.min((0, 1)).astype(np.float64), image.max((0, 1)).astype(np.float64)
