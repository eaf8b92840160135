"""More joint transforms, as those of `transforms`: turns and bends of picture and label, flaws of the camera.

Turns, rotations and bends move the label's pixels with the picture's (image bilinear, label nearest); what comes from
outside is the mean colour and 255, or with `reflect` the mirrored picture and label. Blur, noise, gamma and JPEG change
the picture alone; where a picture is not RGB of 8 bits, gamma and noise go by the range of each channel in it, and
JPEG is refused. `Sometimes` applies any transform with a probability, `MovedCrop` moves only what a crop shows.
Legend: H, W pixels; sizes are (H, W).
"""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from ducseg.data.moved import Map, Moved, Places
from ducseg.data.resampling import Fill, Size
from ducseg.data.sample import Sample, as_type, is_rgb
from ducseg.data.transforms import (
    IMAGENET_MEAN_COLOUR,
    RandomCrop,
    RandomScaleCrop,
    Transform,
    check_probability,
    check_range,
)
from ducseg.errors import explain

__all__ = [
    "Move",
    "MovedCrop",
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
        return _whole(_moved(sample, self, rng))

    def places(self, size: Size, rng: np.random.Generator) -> Places:
        """What the pixels of a picture of this size show."""
        turn = np.deg2rad(rng.uniform(-self.degrees, self.degrees))
        cos, sin = np.cos(turn), np.sin(turn)
        middle_y, middle_x = ((side - 1) / 2 for side in size)

        def places(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> tuple[Map, Map]:
            across, down = columns - middle_x, (rows - middle_y)[:, None]
            x, y = cos * across - sin * down + middle_x, sin * across + cos * down + middle_y
            return x.astype(np.float32), y.astype(np.float32)

        return places


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
        return _whole(_moved(sample, self, rng))

    def places(self, size: Size, rng: np.random.Generator) -> Places:
        """What the pixels of a picture of this size show."""
        points = tuple(max(2, round(side / self.spacing) + 1) for side in size)
        coarse = (self.pixels * rng.standard_normal((2, *points))).astype(np.float32)

        def places(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> tuple[Map, Map]:
            weights = [_cubic(*axis) for axis in zip((rows, columns), size, points)]
            down, across = (weights[0] @ coarse @ weights[1].T).astype(np.float32)
            return columns.astype(np.float32) + across, rows.astype(np.float32)[:, None] + down

        return places


class Move(Protocol):
    """Moves a picture's pixels, and its label's with them."""

    @property
    def reflect(self) -> bool:
        """Whether what comes from outside is the mirrored picture and label."""

    @property
    def mean_colour(self) -> Fill:
        """What comes from outside else."""

    def places(self, size: Size, rng: np.random.Generator) -> Places:
        """What the pixels of a picture of this size show."""


@dataclass(frozen=True)
class MovedCrop:
    """`crop` after `moves`, the same as one after the other, of which only what the crop shows is computed.

    Where the crop looks for rare classes the label is moved whole.
    """

    moves: tuple[Move, ...]
    crop: RandomCrop | RandomScaleCrop

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample:
        for move in self.moves:
            sample = _moved(sample, move, rng)
        if self.crop.rare and sample.label is not None:
            sample = replace(sample, label=sample.label[:, :])
        return self.crop(sample, rng)


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


def _moved(sample: Sample, move: Move, rng: np.random.Generator) -> Sample:
    """The sample with a `Moved` picture and label, which are no arrays: what `_whole` and crops take."""
    places = move.places(sample.size, rng)

    def moved(part: NDArray[Any]) -> Any:
        return Moved(part, places, reflect=move.reflect, fill=move.mean_colour)

    return replace(sample, image=moved(sample.image), label=None if sample.label is None else moved(sample.label))


def _whole(sample: Sample) -> Sample:
    return replace(sample, image=sample.image[:, :], label=None if sample.label is None else sample.label[:, :])


def _cubic(positions: NDArray[np.int64], full: int, points: int) -> NDArray[np.float64]:
    """(positions, points): what each of `points` values weighs at these of `full` pixels, as in cv2.INTER_CUBIC."""
    place = (positions[:, None] + 0.5) * points / full - 0.5
    taps = np.floor(place).astype(np.int64) + np.arange(-1, 3)
    d = np.abs(place - taps)
    near, far = (1.25 * d - 2.25) * d * d + 1, ((-0.75 * d + 3.75) * d - 6) * d + 3
    weights = np.zeros((len(positions), points))
    np.add.at(weights, (np.arange(len(positions))[:, None], taps.clip(0, points - 1)), np.where(d <= 1, near, far))
    return weights


def _range(image: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The lowest and the highest value of each channel."""
    return image.min((0, 1)).astype(np.float64), image.max((0, 1)).astype(np.float64)
