"""Label maps as pictures and files: PNGs of class indices, of class colours, overlays on the picture with a legend.

Legend: H, W pixels of the picture; labels are uint8 (H, W), indices into a `ClassSet`, 255 where nothing is known.
Every file is whole or not there: written under a temporary name in its folder, then renamed.
"""

import io
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE, ClassSet, Colour
from ducseg.errors import explain
from ducseg.files import write_whole

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

__all__ = [
    "as_rgb",
    "colourise",
    "font",
    "legend",
    "overlay",
    "present_classes",
    "stack",
    "text_size",
    "tint",
    "write_array",
    "write_png",
    "write_whole",
]

_OPACITY = 0.55
_PAPER: Colour = (255, 255, 255)
_INK: Colour = (30, 30, 30)


def write_png(path: Path, picture: NDArray[np.uint8], *, option: str = "--out") -> None:
    """Write grey (H, W) or RGB (H, W, 3) uint8 as a PNG; its folder is made if need be.

    Raises:
        UserError: the folder is not writable or the disk is full.
    """
    bgr = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    encoded, data = cv2.imencode(".png", bgr)
    assert encoded, (picture.shape, picture.dtype)
    write_whole(path, data.tobytes(), option=option)


def write_array(path: Path, values: NDArray[np.generic]) -> None:
    """Write an array as .npy; its folder is made if need be. Raises UserError as `write_png`."""
    buffer = io.BytesIO()
    np.save(buffer, values)
    write_whole(path, buffer.getvalue())


def as_rgb(image: NDArray[Any]) -> NDArray[np.uint8]:
    """A picture of any channels (H, W, C) and type, for looking at: RGB uint8 (H, W, 3).

    RGB uint8 is taken as it is. Of others the first three channels, or the first as grey, each stretched from its first
    to its 99th percentile.
    """
    if image.dtype == np.uint8 and image.shape[2] == 3:
        return image
    shown = image[..., :3] if image.shape[2] >= 3 else image[..., [0, 0, 0]]
    low, high = np.percentile(shown.astype(np.float64), (1, 99), axis=(0, 1))
    stretched = (shown - low) / np.where(high > low, high - low, 1)
    return np.asarray(np.rint(255 * np.clip(stretched, 0, 1)), np.uint8)


def colourise(labels: NDArray[np.uint8], classes: ClassSet) -> NDArray[np.uint8]:
    """Labels (H, W) in the colours of their classes, RGB (H, W, 3); 255 is black.

    Raises:
        UserError: a label that is no class and not 255.
    """
    present_classes(labels, classes)  # checks the values
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(classes)] = classes.palette
    return table[labels]


def present_classes(labels: NDArray[np.uint8], classes: ClassSet) -> list[int]:
    """The classes that occur in labels (H, W), ascending; `UserError` for a value that is no class and not 255."""
    values = np.flatnonzero(np.bincount(labels.ravel(), minlength=IGNORE + 1)[:IGNORE])
    if values.size and values[-1] >= len(classes):
        raise explain(
            "labels",
            found=f"value {values[-1]}",
            needed=f"0..{len(classes) - 1}, or {IGNORE} where nothing is known",
            fix="Use the class list that the labels were made with.",
        )
    return [int(value) for value in values]


def overlay(image: NDArray[np.uint8], labels: NDArray[np.uint8], classes: ClassSet) -> NDArray[np.uint8]:
    """The picture tinted with its classes' colours, above a legend of the classes present.

    Args:
        image: RGB uint8 (H, W, 3), or another that `as_rgb` takes.
        labels: (H, W); 255 and the background (`ClassSet.background`) are left untinted.

    Returns:
        RGB uint8 (H + legend, max(W, narrowest legend), 3); the picture is at the top left, unscaled.
    """
    tinted = tint(image, labels, classes)
    present = [index for index in present_classes(labels, classes) if index != classes.background]
    entries = [(classes.names[index], classes.palette[index]) for index in present]
    return stack([tinted, legend(entries, labels.shape[1])])


def tint(image: NDArray[np.uint8], labels: NDArray[np.uint8], classes: ClassSet) -> NDArray[np.uint8]:
    """As `overlay`, without the legend: RGB uint8 (H, W, 3)."""
    image = as_rgb(image)
    assert image.shape == (*labels.shape, 3), (image.shape, labels.shape)
    tinted = cv2.addWeighted(image, 1 - _OPACITY, colourise(labels, classes), _OPACITY, 0)
    clear = labels == IGNORE
    if classes.background is not None:
        clear |= labels == classes.background
    return np.asarray(np.where(clear[..., None], image, tinted), dtype=np.uint8)


def legend(entries: Sequence[tuple[str, Colour]], width: int) -> NDArray[np.uint8]:
    """Swatches with names, in rows, RGB (h, w, 3).

    Args:
        entries: names and colours, in order; none gives h = 0.
        width: w in pixels, more where the longest name needs it. The letters grow with it, from 12 to 28 pixels.
    """
    from PIL import Image, ImageDraw

    if not entries:
        return np.zeros((0, width, 3), dtype=np.uint8)
    size = text_size(width)
    letters, pad = font(size), size // 2
    column = max(round(letters.getlength(name)) for name, _ in entries) + size + 3 * pad
    per_row = max(1, min(len(entries), (width - pad) // column))
    rows = -(-len(entries) // per_row)
    per_row = -(-len(entries) // rows)  # even rows
    row_height = size + pad
    strip = Image.new("RGB", (max(width, pad + column), rows * row_height + pad), _PAPER)
    draw = ImageDraw.Draw(strip)
    for index, (name, colour) in enumerate(entries):
        left, top = pad + index % per_row * column, pad + index // per_row * row_height
        draw.rectangle((left, top, left + size - 1, top + size - 1), fill=colour, outline=_INK)
        draw.text((left + size + pad, top + size / 2), name, fill=_INK, font=letters, anchor="lm")
    return np.asarray(strip, dtype=np.uint8)


def text_size(width: int) -> int:
    """Height in pixels of letters that read well in a picture of that width."""
    return min(max(width // 60, 12), 28)


@lru_cache(maxsize=8)
def font(size: int) -> "FreeTypeFont":
    """DejaVu Sans, which matplotlib brings along: Latin with accents, Greek, Cyrillic; `size` in pixels."""
    from PIL import ImageFont

    return ImageFont.truetype(str(_fonts() / "DejaVuSans.ttf"), size)


def _fonts() -> Path:
    """matplotlib's; it is imported only where its data lie elsewhere, as in Debian's package."""
    spec, below = find_spec("matplotlib"), Path("fonts") / "ttf"
    assert spec is not None and spec.origin is not None, "it is required"
    beside = Path(spec.origin).with_name("mpl-data") / below
    if beside.is_dir():
        return beside
    import matplotlib

    return Path(matplotlib.get_data_path()) / below


def stack(parts: Sequence[NDArray[Any]]) -> NDArray[np.uint8]:
    """RGB pictures one below the other, left-aligned on white."""
    width = max(part.shape[1] for part in parts)
    padded = [np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0)), constant_values=255) for part in parts]
    return np.concatenate(padded)
