"""A perspective camera over a ground plane, and a canvas that paints picture, label ids and instance ids alike.

Metres: X to the right, Y up, Z ahead; the camera stands at X = Z = 0, `CAMERA_HEIGHT` above the ground, looking at Z.
Everything that has a label is a polygon of whole pixels, painted in order, later ones in front: filling the recorded
polygons in order gives the label map again, exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["CAMERA_HEIGHT", "LABEL_IDS", "Camera", "Canvas", "Colour", "Light", "Polygon"]

CAMERA_HEIGHT = 1.5
Colour = NDArray[np.float64]
Points = NDArray[np.float64]

LABEL_IDS = {
    "ego vehicle": 1, "static": 4, "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17,
    "traffic light": 19, "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25,
    "car": 26, "truck": 27, "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
}  # fmt: skip
"""Label ids of what is drawn (cityscapesScripts, helpers/labels.py)."""


@dataclass(frozen=True)
class Polygon:
    """A label's outline in whole pixels, as Cityscapes' polygons.json has them."""

    label: str
    points: NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Camera:
    """Projects metres to pixels."""

    height: int
    width: int
    horizon: float

    @property
    def focal(self) -> float:
        """Focal length in pixels: a horizontal field of view of 58 degrees."""
        return 0.9 * self.width

    def project(self, points: Points | Sequence[Sequence[float]]) -> Points:
        """(n, 3) metres, Z > 0, to (n, 2) pixels (u, v)."""
        x, y, z = np.asarray(points, float).T
        u = self.width / 2 + self.focal * x / z
        v = self.horizon + self.focal * (CAMERA_HEIGHT - y) / z
        return np.stack([u, v], 1)

    def ground(self) -> tuple[NDArray[np.float32], NDArray[np.float32], int]:
        """X and Z in metres of each pixel below the horizon, (rows, W) and (rows, 1), and the first such row."""
        first = min(int(self.horizon) + 1, self.height - 1)
        v = np.arange(first, self.height, dtype=np.float32)[:, None] + 0.5
        z = self.focal * CAMERA_HEIGHT / (v - self.horizon)
        u = np.arange(self.width, dtype=np.float32)[None] + 0.5
        return ((u - self.width / 2) * z / self.focal).astype(np.float32), z.astype(np.float32), first


@dataclass(frozen=True, kw_only=True)
class Light:
    """Time of day: what it does to a surface's colour at a distance."""

    tint: Colour
    haze: Colour
    haze_distance: float
    sun_from_left: bool

    def on(self, colour: Colour | Sequence[float], distance: float, shade: float = 1.0) -> Colour:
        """The colour (RGB, 0..255) of a surface `distance` metres away, `shade` times as bright as in full light."""
        clear = float(np.exp(-distance / self.haze_distance))
        lit: Colour = np.asarray(colour, float) * self.tint * shade * clear + self.haze * (1 - clear)
        return lit

    def side(self, *, left: bool) -> float:
        """Brightness of a vertical face that looks to the left or to the right."""
        return 1.0 if left == self.sun_from_left else 0.72


@dataclass
class Canvas:
    """Picture (float32 RGB), label ids (uint8), instance ids (int32), and the polygons that made them."""

    camera: Camera
    light: Light
    rng: np.random.Generator
    polygons: list[Polygon] = field(default_factory=list)

    def __post_init__(self) -> None:
        shape = (self.camera.height, self.camera.width)
        self.image = np.zeros((*shape, 3), np.float32)
        self.label_ids = np.zeros(shape, np.uint8)
        self.instance_ids = np.zeros(shape, np.int32)
        self._instances: dict[str, int] = {}

    def new_instance(self, label: str) -> int:
        """The next instance id of a label: label id * 1000 + k, as in instanceIds files."""
        self._instances[label] = self._instances.get(label, -1) + 1
        return LABEL_IDS[label] * 1000 + self._instances[label]

    def fill(
        self, label: str, outline: Points, colour: Colour | None, *, instance: int | None = None, grain: float = 0.0
    ) -> None:
        """Paint a labelled polygon.

        Args:
            outline: (n, 2) pixels; rounded to whole ones.
            colour: RGB as it is seen (after the light); None leaves the picture to `paint`.
            instance: from `new_instance`; None for labels without instances.
            grain: strength of blotches on the surface, in grey values.
        """
        points = self._whole(outline)
        self.polygons.append(Polygon(label, points))
        identifier = LABEL_IDS[label]
        cv2.fillPoly(self.label_ids, [points], identifier)
        cv2.fillPoly(self.instance_ids, [points], identifier if instance is None else instance)
        if colour is not None:
            self._colour(points, colour, grain)

    def paint(self, outline: Points, colour: Colour, *, grain: float = 0.0) -> None:
        """Paint the picture only: windows, clothes, shadows' opposite."""
        self._colour(self._whole(outline), colour, grain)

    def darken(self, outline: Points, factor: float) -> None:
        """Multiply the picture inside an outline: shadows."""
        points = self._whole(outline)
        window, mask = self._mask(points)
        if mask is not None:
            self.image[window] *= np.where(mask[..., None] > 0, np.float32(factor), np.float32(1))

    def _whole(self, outline: Points) -> NDArray[np.int32]:
        points = np.rint(outline).astype(np.int32)
        assert np.abs(points).max() < 2**20, "nothing is drawn so near the camera"
        return points

    def _colour(self, points: NDArray[np.int32], colour: Colour, grain: float) -> None:
        if grain <= 0:
            cv2.fillPoly(self.image, [points], [float(value) for value in colour])
            return
        window, mask = self._mask(points)
        if mask is None:
            return
        height, width = mask.shape
        blotches = noise(self.rng, height, width, max(2, min(height, width) // 12)) * grain
        textured = np.asarray(colour, np.float32) + blotches[..., None]
        np.copyto(self.image[window], textured, where=mask[..., None] > 0)

    def _mask(self, points: NDArray[np.int32]) -> tuple[tuple[slice, slice], NDArray[np.uint8] | None]:
        """The window of the picture around a polygon, and the polygon in it; None where it lies outside."""
        left, top = np.maximum(points.min(0), 0)
        right, bottom = np.minimum(points.max(0) + 1, (self.camera.width, self.camera.height))
        window = (slice(top, bottom), slice(left, right))
        if left >= right or top >= bottom:
            return window, None
        mask = np.zeros((bottom - top, right - left), np.uint8)
        cv2.fillPoly(mask, [points - (left, top)], 1)
        return window, mask


def noise(rng: np.random.Generator, height: int, width: int, cell: int) -> NDArray[np.float32]:
    """Smooth blotches about `cell` pixels wide with fine grain on top, mean 0, about -1..1: (height, width)."""
    coarse = rng.uniform(-1, 1, (height // cell + 2, width // cell + 2)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(smooth + 0.4 * rng.uniform(-1, 1, (height, width)).astype(np.float32), np.float32)
