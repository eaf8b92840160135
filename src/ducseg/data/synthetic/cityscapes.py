"""Procedural street scenes in Cityscapes' layout: what DUC and HDC are about, at any size, from a seed.

Poles are one to four pixels wide at any resolution, signs and far persons a few more, buses and trams fill much of the
picture; ground is textured, light and haze change, colours overlap between classes. All 19 classes occur, and ignored
ones.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.classes import CITYSCAPES, ClassSet
from ducseg.data.files.png import encode_png
from ducseg.data.layouts.cityscapes import LABEL_ID_TO_TRAIN_ID
from ducseg.data.paired import table
from ducseg.data.processes import mapped
from ducseg.data.sample import Sample
from ducseg.data.synthetic.checks import check_numbers, new_data_set
from ducseg.data.synthetic.scenes.canvas import Camera, Canvas, Polygon
from ducseg.data.synthetic.scenes.objects import draw_ego_vehicle, draw_objects
from ducseg.data.synthetic.scenes.street import Street, draw_street, random_light
from ducseg.errors import explain
from ducseg.files import write_whole

__all__ = [
    "MIN_SIZE",
    "Scene",
    "SyntheticStreets",
    "check_size",
    "develop",
    "render_scene",
    "write_cityscapes",
]

MIN_SIZE = (48, 64)
"""Smallest height and width in pixels."""

_CITY = "synthetic"
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One street scene.

    Attributes:
        image: RGB uint8 (H, W, 3).
        label_ids: uint8 (H, W), Cityscapes' label ids (not train ids).
        instance_ids: int32 (H, W), label id * 1000 + k for classes with instances, the label id elsewhere.
        polygons: in painting order; filling them in order gives `label_ids`.
    """

    image: NDArray[np.uint8]
    label_ids: NDArray[np.uint8]
    instance_ids: NDArray[np.int32]
    polygons: list[Polygon]


def render_scene(height: int, width: int, rng: np.random.Generator) -> Scene:
    """Draw one scene of height x width pixels; the same generator state gives the same scene.

    Raises:
        UserError: a size below 48 x 64.
    """
    check_size(height, width)
    camera = Camera(height=height, width=width, horizon=height * float(rng.uniform(0.36, 0.46)))
    canvas = Canvas(camera, random_light(rng), rng)
    street = Street(rng)
    draw_street(canvas, street)
    draw_objects(canvas, street)
    if rng.random() < 0.7:
        draw_ego_vehicle(canvas)
    return Scene(
        image=develop(canvas), label_ids=canvas.label_ids, instance_ids=canvas.instance_ids, polygons=canvas.polygons
    )


def check_size(height: int, width: int) -> None:
    """Raise `UserError` below 48 x 64 pixels."""
    if height < MIN_SIZE[0] or width < MIN_SIZE[1]:
        raise explain(
            "scene size",
            found=f"{height}x{width} pixels",
            needed=f"at least {MIN_SIZE[0]}x{MIN_SIZE[1]}",
            fix="Height comes first: --size 512 1024.",
        )


def develop(canvas: Canvas) -> NDArray[np.uint8]:
    """What the camera makes of the light: blur of the lens, uneven exposure, noise of the sensor."""
    rng = canvas.rng
    image = cv2.GaussianBlur(canvas.image, (0, 0), float(rng.uniform(0.35, 0.7)))
    height, width = canvas.label_ids.shape
    across = np.linspace(-1, 1, width, dtype=np.float32)[None]
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    exposure = 1 - 0.12 * (across**2 + down**2) + float(rng.uniform(-0.06, 0.06)) * across
    image = image * (exposure * float(rng.uniform(0.85, 1.1))).astype(np.float32)[..., None]
    # one table of noise read from a random place: as good as fresh noise and ten times as fast
    table = rng.normal(0, 1, 65_536 + 3).astype(np.float32) * float(rng.uniform(2, 6))
    start = rng.integers(0, 65_536, height)
    rows = (start[:, None] + np.arange(width * 3)[None] * 7) % 65_536
    image = image + table[rows].reshape(height, width, 3)
    return np.asarray(np.clip(image + 0.5, 0, 255), np.uint8)


def _generator(seed: int, split: str, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, _SPLITS.index(split), index])


class SyntheticStreets:
    """Scenes drawn as they are asked for, as a data set with Cityscapes' 19 classes.

    Args:
        count: number of scenes.
        height, width: in pixels.
        split: "train", "val" or "test"; scene k of a split depends on (seed, split, k) alone.

    Raises:
        UserError: another split, no scenes, a negative seed, a size below 48 x 64.
    """

    def __init__(self, count: int, *, height: int, width: int, split: str = "train", seed: int = 0) -> None:
        if split not in _SPLITS:
            raise explain("split", found=repr(split), needed=f"one of {', '.join(_SPLITS)}", fix="Correct it.")
        check_size(height, width)
        check_numbers(seed, "scenes", [count])
        self.classes: ClassSet = CITYSCAPES
        self.ids = tuple(_frame(split, index) for index in range(count))
        self._size, self._split, self._seed = (height, width), split, seed
        self._train_ids = table(LABEL_ID_TO_TRAIN_ID)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self.ids):
            raise IndexError(index)
        scene = render_scene(*self._size, _generator(self._seed, self._split, index))
        label = self._train_ids[scene.label_ids]
        return Sample(image=scene.image, label=label, id=self.ids[index], original_size=self._size)


def _frame(split: str, index: int) -> str:
    """CITY_SEQUENCE_FRAME, as Cityscapes' files are named."""
    return f"{_CITY}_{_SPLITS.index(split):06d}_{index:06d}"


def write_cityscapes(
    root: Path,
    *,
    num_train: int,
    num_val: int,
    height: int = 512,
    width: int = 1024,
    seed: int = 0,
    num_workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write scenes as Cityscapes' zip files unpack: leftImg8bit and gtFine with labelIds, instanceIds and polygons.

    Args:
        root: folder to make; the same arguments give the same bytes, whatever the number of workers.
        num_train, num_val: scenes a split; scene k is the one that `SyntheticStreets` draws.
        height, width: in pixels.
        num_workers: processes.
        progress: called with (done, total).

    An instance of several parts (a car's body and wheels) is one id in instanceIds and several objects in polygons.

    Raises:
        UserError: root is a file or holds a leftImg8bit or gtFine already; a size below 48 x 64; a negative number of
            scenes or none at all; a negative seed; no worker.
    """
    root = Path(root)
    check_size(height, width)
    check_numbers(seed, "scenes", [num_train, num_val])
    keys = [("train", index) for index in range(num_train)] + [("val", index) for index in range(num_val)]
    with new_data_set(root, ("leftImg8bit", "gtFine")) as made:
        list(mapped(partial(_write_scene, made, height, width, seed), keys, num_workers, progress))


def _write_scene(root: Path, height: int, width: int, seed: int, key: tuple[str, int]) -> None:
    split, index = key
    scene, frame = render_scene(height, width, _generator(seed, split, index)), _frame(split, index)
    image, truth = root / "leftImg8bit" / split / _CITY, root / "gtFine" / split / _CITY
    write_whole(image / f"{frame}_leftImg8bit.png", encode_png(scene.image))
    write_whole(truth / f"{frame}_gtFine_labelIds.png", encode_png(scene.label_ids))
    write_whole(truth / f"{frame}_gtFine_instanceIds.png", encode_png(scene.instance_ids.astype(np.uint16)))
    objects = [{"label": polygon.label, "polygon": polygon.points.tolist()} for polygon in scene.polygons]
    outlines = {"imgHeight": height, "imgWidth": width, "objects": objects}
    write_whole(truth / f"{frame}_gtFine_polygons.json", json.dumps(outlines).encode())
