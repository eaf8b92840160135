"""What stands in mask files: one whole number a pixel (a value or a 24-bit colour), and which occur how often.

A mask of one channel holds values, one of equal red, green and blue too; palettes hold indices that also have a
colour. Of a picture whose colour is the same everywhere the alpha channel counts, if that varies. A GIF's palette is in
an order of the program that wrote it, so it holds colours.

Legend: H, W pixels; a colour's code is red << 16 | green << 8 | blue, `BEYOND` that of grey beyond 8 bits, of any.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ducseg.classes import Colour
from ducseg.cores import available_cores
from ducseg.data.files.header import tiff_header
from ducseg.data.files.png import read_png_header, unstretched
from ducseg.data.files.reading import read_label, read_picture, read_sixteen_bits
from ducseg.errors import UserError, explain

__all__ = [
    "BEYOND", "MaskFile", "MaskLook", "are_shades", "code_of", "colour_of", "lies_nowhere_flat", "look_at", "read_mask",
    "values_in",
]  # fmt: skip

_MOST_LOOKED_AT = 4000
_GREY = 0x010101
BEYOND = 256 * _GREY
"""More than the code of any colour."""

Kind = Literal["values", "palette", "colours"]


@dataclass(frozen=True)
class MaskFile:
    """A mask as it stands in its file.

    Attributes:
        kind: what `pixels` are.
        pixels: (H, W) values (uint8 to int32), indices (uint8) or codes of colours (int32).
        colours: of a palette: index -> code.
        was: how it reads otherwise, for messages: "JPEG", "RGB with equal channels", "alpha"; None: nothing to say.
    """

    kind: Kind
    pixels: NDArray[np.integer]
    colours: Mapping[int, int] = field(default_factory=dict)
    was: Literal["JPEG", "RGB", "alpha"] | None = None

    def codes(self) -> NDArray[np.integer]:
        """(H, W) codes of the colours that the pixels show."""
        if self.kind == "palette":
            codes: NDArray[np.integer] = np.array([self.colours[index] for index in range(256)], np.int32)[self.pixels]
            return codes
        return np.minimum(self.pixels.astype(np.int32), 256) * _GREY if self.kind == "values" else self.pixels


@dataclass(frozen=True)
class MaskLook:
    """What occurs in one mask: value, index or code -> pixels; `shown`: index -> code of its colour; `size`: (H, W)."""

    path: Path
    kind: Kind
    counts: Mapping[int, int]
    shown: Mapping[int, int]
    was: str | None
    size: tuple[int, int]

    def codes(self, as_colours: bool) -> frozenset[int]:
        """What occurs, as values and indices or as codes of colours."""
        return frozenset(self.counted(as_colours))

    def counted(self, as_colours: bool) -> Counter[int]:
        """Value and index, or code of its colour -> pixels."""
        if not as_colours:
            return Counter(self.counts)
        found: Counter[int] = Counter()
        for value, pixels in self.counts.items():
            found[self.code(value)] += pixels
        return found

    def code(self, value: int) -> int:
        """Of the colour that a value, index or code shows."""
        if self.kind == "values":
            return min(value, 256) * _GREY
        return self.shown[value] if self.kind == "palette" else value


def code_of(colour: Colour) -> int:
    """(R, G, B) as one number."""
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def colour_of(code: int) -> Colour:
    """The inverse of `code_of`."""
    return code >> 16, (code >> 8) & 255, code & 255


def read_mask(path: Path) -> MaskFile:
    """Read a mask of any kind.

    Raises:
        UserError: missing, empty, truncated or undecodable file; numbers that are no whole ones.
    """
    header = read_png_header(path)
    if header is not None and header.pixels == "8-bit grey":
        return MaskFile("values", read_label(path))
    if (sixteen := read_sixteen_bits(path)) is not None:
        return _sixteen(sixteen, path)
    picture = read_picture(path)
    lossy = picture.format == "JPEG"
    if picture.mode == "P" and picture.format != "GIF":
        palette = [*(picture.getpalette("RGB") or []), *[0] * 768]
        colours = zip(palette[:768:3], palette[1:768:3], palette[2:768:3])
        return MaskFile("palette", np.asarray(picture), dict(enumerate(map(code_of, colours))))
    if picture.mode in {"1", "L"} or picture.mode.startswith(("I", "F")):
        tiff = tiff_header(path)
        bits = header.depth if header else tiff.bits if tiff else 8
        return MaskFile("values", _values(picture, bits, path), was="JPEG" if lossy else None)
    return _coloured(picture, lossy)


def are_shades(pixels: NDArray[Any]) -> bool:
    """Whether what lies between the smallest and the largest value of a mask (H, W) lies nowhere flat."""
    if pixels.dtype != np.uint8:
        return False
    return lies_nowhere_flat(pixels, (pixels > pixels.min()) & (pixels < pixels.max()))


def lies_nowhere_flat(pixels: NDArray[Any], where: NDArray[np.bool_]) -> bool:
    """Whether almost none of the values or codes (H, W) there are those of all pixels around."""
    around, values = np.ones((3, 3), np.uint8), pixels.astype(np.float32)  # 24 bits are exact
    flat = cv2.erode(values, around) == cv2.dilate(values, around)
    return bool((flat & where).sum() <= 0.02 * where.sum())


def _values(picture: Image.Image, bits: int, path: Path) -> NDArray[np.integer]:
    values = np.asarray(picture)
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    if values.dtype == np.uint8:
        return unstretched(values, bits)
    whole = values.astype(np.int32)
    if (whole != values).any() or whole.min(initial=0) < 0 or whole.max(initial=0) > 65535:
        raise explain(
            f"mask {path}",
            found=f"numbers from {values.min()} to {values.max()} that are no whole ones from 0 to 65535",
            needed="one value a class",
            fix="Is it a map of probabilities or of depth? Export the class of each pixel.",
        )
    return whole


def _sixteen(channels: NDArray[np.uint16], path: Path) -> MaskFile:
    """Values of three equal channels; 16-bit colours are none that a class has."""
    values = channels[..., 0]
    if not all(np.array_equal(values, channels[..., other]) for other in range(min(3, channels.shape[2]))):
        raise explain(
            f"mask {path}",
            found="colours of 16 bits a channel",
            needed="8 bits, or one value a pixel",
            fix="Export it with 8 bits a channel.",
        )
    return MaskFile("values", values.astype(np.int32), was="RGB")


def _coloured(picture: Image.Image, lossy: bool) -> MaskFile:
    was: Literal["JPEG", "RGB", "alpha"] | None = "JPEG" if lossy else "RGB"
    if picture.mode in {"RGBA", "LA", "PA"}:
        rgba = np.asarray(picture.convert("RGBA"))
        low, high = rgba.min(axis=(0, 1)), rgba.max(axis=(0, 1))
        if (low[:3] == high[:3]).all() and low[3] != high[3]:
            return MaskFile("values", rgba[..., 3], was="alpha")
        rgb = _parted_at_half(rgba)
    else:
        rgb = np.asarray(picture.convert("RGB"))
    red, green, blue = (np.ascontiguousarray(rgb[..., channel]) for channel in range(3))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return MaskFile("values", red, was=was)
    codes = red.astype(np.int32) << 16 | green.astype(np.int32) << 8 | blue
    return MaskFile("colours", codes, was="JPEG" if lossy else None)


def _parted_at_half(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The colours; edges that were drawn smoothly on a clear ground are the ground's below half of their alpha."""
    alpha, ground = rgba[..., 3], rgba[rgba[..., 3] == 0][:, :3]
    if not len(ground) or (ground != ground[0]).any() or not are_shades(alpha):
        return rgba[..., :3]
    return np.where((alpha < alpha.max() / 2)[..., None], ground[0], rgba[..., :3])


def values_in(masks: Sequence[Path]) -> tuple[list[MaskLook], list[UserError]]:
    """What occurs in masks (of more than 4,000, so many spread over the list), and why others do not read.

    A file that did not change is read once in a process.
    """
    step = max(1, len(masks) // _MOST_LOOKED_AT)
    with ThreadPoolExecutor(min(8, available_cores())) as pool:
        found = list(pool.map(look_at, masks[::step]))
    return [one for one in found if isinstance(one, MaskLook)], [one for one in found if isinstance(one, UserError)]


def look_at(path: Path) -> MaskLook | UserError:
    """What occurs in one mask, or why it does not read."""
    try:
        status = path.stat()
    except OSError:
        return _look(path, (0, 0))
    return _look(path, (status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=1 << 16)
def _look(path: Path, _state: tuple[int, int]) -> MaskLook | UserError:
    try:
        mask = read_mask(path)
    except UserError as error:
        return error
    if mask.pixels.dtype == np.uint8:
        histogram = np.bincount(mask.pixels.ravel(), minlength=256)
        counts = {int(value): int(histogram[value]) for value in np.flatnonzero(histogram)}
    else:
        values, numbers = np.unique(mask.pixels, return_counts=True)
        counts = dict(zip(values.tolist(), numbers.tolist()))
    shown = {value: mask.colours[value] for value in counts} if mask.kind == "palette" else {}
    height, width = mask.pixels.shape
    return MaskLook(path, mask.kind, counts, shown, mask.was, (height, width))
