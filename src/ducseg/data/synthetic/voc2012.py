"""Procedural pictures in VOC2012's layout: one to four objects of the 20 classes on a textured ground, from a seed.

Each class has an outline (polygon or star), a hue and stripes of its own, so a network can learn them; masks have VOC's
border of 255 around every object. Sizes vary as VOC's do: pictures lie or stand, and some are smaller.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE, VOC2012
from ducseg.data.files.indexed_png import write_indexed_png
from ducseg.data.layouts.voc2012 import MASKS, image_set_file
from ducseg.data.processes import mapped
from ducseg.data.synthetic.checks import check_numbers, new_data_set
from ducseg.errors import explain
from ducseg.files import write_whole

__all__ = ["MIN_SIDE", "render_picture", "write_voc2012"]

MIN_SIDE = 32
"""Smallest height and width in pixels."""

_YEARS = {"train": 2007, "val": 2008, "test": 2009}
_JPEG_QUALITY = 92


def render_picture(
    height: int, width: int, rng: np.random.Generator, *, first_class: int | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one picture; the same generator state gives the same.

    Args:
        first_class: 1..20, of the first object, so that a set can have all; None: any.

    Returns:
        Image RGB uint8 (H, W, 3), mask uint8 (H, W) with 0..20 and 255 around objects.

    Raises:
        UserError: a side below 32 pixels.
    """
    _check_size(height, width)
    image = _ground(height, width, rng)
    mask = np.zeros((height, width), np.uint8)
    count = int(rng.integers(1, 5))
    classes = rng.integers(1, len(VOC2012), count).tolist()
    if first_class is not None:
        classes[-1] = first_class  # drawn last, so never hidden
    border = max(1, round(min(height, width) / 100))  # 5 pixels wide in VOC's 375x500
    kernel = np.ones((2 * border + 1, 2 * border + 1), np.uint8)
    for label in classes:
        inside = _shape(label, height, width, rng)
        image = np.where(inside[..., None] > 0, _texture(label, height, width, rng), image)
        around = cv2.dilate(inside, kernel) - cv2.erode(inside, kernel)
        mask[inside > 0] = label
        mask[around > 0] = IGNORE
    light = image * float(rng.uniform(0.8, 1.15)) + rng.normal(0, 4, image.shape)
    return np.asarray(np.clip(np.rint(light), 0, 255), np.uint8), mask


def _check_size(height: int, width: int) -> None:
    if min(height, width) < MIN_SIDE:
        raise explain(
            "picture size",
            found=f"{height}x{width} pixels",
            needed=f"at least {MIN_SIDE}x{MIN_SIDE}",
            fix="Height comes first: --size 375 500.",
        )


def _ground(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Soft spots between two dull colours."""
    spots = cv2.resize(rng.random((5, 7)), (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
    dark, bright = rng.uniform(40, 120, 3), rng.uniform(110, 200, 3)
    return np.asarray(dark + np.clip(spots, 0, 1) * (bright - dark), np.float64)


def _shape(label: int, height: int, width: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """1 inside the object, (H, W): the class decides on the outline, chance on place, size and turn."""
    radius = min(height, width) * float(rng.uniform(0.14, 0.3))
    centre = np.array([rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height])
    turn = float(rng.uniform(-0.4, 0.4))
    corners, pointed = 3 + label % 5, 0.45 if label % 2 else 1.0
    angle = turn + np.arange(2 * corners) * np.pi / corners
    reach = radius * np.where(np.arange(2 * corners) % 2 == 0, 1.0, pointed)
    stretch = np.array([1.0 + 0.5 * (label % 3), 1.0])
    outline = centre + np.stack([np.cos(angle), np.sin(angle)], 1) * reach[:, None] * stretch
    inside = np.zeros((height, width), np.uint8)
    cv2.fillPoly(inside, [np.rint(outline).astype(np.int32)], 1)
    return inside


def _texture(label: int, height: int, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Stripes between two colours of the class, at a direction and width of the class."""
    hue = np.array([[[label * 180 // len(VOC2012), 200, 220]]], np.uint8)
    colour = cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float64)
    y, x = np.mgrid[:height, :width]
    direction, period = label * np.pi / 7, 4.0 + label % 4 * 2
    wave = np.sin((x * np.cos(direction) + y * np.sin(direction)) * 2 * np.pi / period + rng.uniform(0, 6))
    return np.asarray(colour * (0.8 + 0.2 * wave[..., None]), np.float64)


class _Key(NamedTuple):
    split: str
    number: int

    @property
    def name(self) -> str:
        return f"{_YEARS[self.split]}_{self.number:06d}"


def write_voc2012(
    root: Path,
    *,
    num_train: int,
    num_val: int,
    num_test: int = 0,
    height: int = 375,
    width: int = 500,
    seed: int = 0,
    num_workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write pictures as VOC2012's archive unpacks: JPEGImages, SegmentationClass, ImageSets/Segmentation.

    Args:
        root: folder to make (VOC2012 itself); the same arguments give the same bytes, whatever the number of workers.
        num_train, num_val, num_test: pictures in train.txt, val.txt (both in trainval.txt) and test.txt; those of test
            have no masks. From 20 pictures on, a split has every class.
        height, width: of the largest, in pixels; every third picture is upright, every fifth smaller.
        num_workers: processes.
        progress: called with (done, total).

    Raises:
        UserError: root is a file or holds such folders already; a side below 32; a negative number of pictures or none
            at all; a negative seed; no worker.
    """
    _check_size(height, width)
    counts = {"train": num_train, "val": num_val, "test": num_test}
    check_numbers(seed, "pictures", list(counts.values()))
    keys = [_Key(split, number) for split, count in counts.items() for number in range(count)]
    with new_data_set(root, ("JPEGImages", MASKS, "ImageSets")) as made:
        list(mapped(partial(_write_picture, made, height, width, seed), keys, num_workers, progress))
        sets = {split: [key.name for key in keys if key.split == split] for split, count in counts.items() if count}
        sets["trainval"] = [key.name for key in keys if key.split != "test"]
        for split, names in sets.items():
            write_whole(image_set_file(made, split), ("\n".join(names) + "\n").encode())


def _write_picture(root: Path, height: int, width: int, seed: int, key: _Key) -> None:
    rng = np.random.default_rng([seed, _YEARS[key.split], key.number])
    if key.number % 5 == 4:
        height = max(MIN_SIDE, height * 7 // 8)
    if key.number % 3 == 2:
        height, width = width, height
    image, mask = render_picture(height, width, rng, first_class=1 + key.number % (len(VOC2012) - 1))
    encoded, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    assert encoded, key
    write_whole(root / "JPEGImages" / f"{key.name}.jpg", data.tobytes())
    if key.split != "test":
        write_indexed_png(root / MASKS / f"{key.name}.png", mask)
