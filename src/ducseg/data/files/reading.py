"""Decode picture and label files to arrays, or say which file is bad, why, and how to go on.

Legend: H, W pixels of the file. Large plain PNGs are decoded by `data.png`. OpenCV decodes the others (fast, keeps 16
bit apart); Pillow reads what OpenCV changes (palette indices, grey below 8 bit) and any file whose end looks cut off:
OpenCV before 5 fills the rest of a truncated JPEG with grey and says nothing.
"""

import io
import struct
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ducseg.classes import IGNORE, ClassSet, Colour
from ducseg.data.files import png
from ducseg.data.files.colour_masks import decode_colours
from ducseg.errors import UserError, explain

__all__ = [
    "PICTURE_SUFFIXES",
    "check_label",
    "check_same_size",
    "colours_in_use",
    "decode_colours",
    "picture_size",
    "read_image",
    "read_instance_ids",
    "read_label",
    "read_picture",
]

PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Names (lower case) of the files that are taken for pictures when a folder is listed."""

_PNG_END = b"IEND\xaeB`\x82"
_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_EXIF_ORIENTATION, _TURNED = 0x0112, range(5, 9)  # height and width change places
_MOST_NAMED = 5
_LARGE = 1 << 18  # pixels; below, the import of numba takes longer than it saves in a first few hundred pictures
_PILLOW_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, Image.DecompressionBombError)


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a picture as RGB uint8 (H, W, 3).

    Grey becomes three equal channels, alpha is dropped, palettes are expanded, an EXIF orientation is applied (what a
    viewer shows). More than 8 bits a channel are refused: nobody knows here which of them count.

    Raises:
        UserError: missing, empty, truncated or undecodable file, or more than 8 bits a channel.
    """
    data = _whole_file(path)
    plain = _large_plain_png(data, channels=3)
    decoded = None if plain is None else plain.decode()
    return _decode_image(data, path) if decoded is None else decoded


def picture_size(path: Path) -> tuple[int, int]:
    """(H, W) that `read_image` will give, from the file's header.

    Raises:
        UserError: missing, empty or undecodable file.
    """
    try:
        with Image.open(path) as picture:
            turned = picture.getexif().get(_EXIF_ORIENTATION, 1) in _TURNED
            return picture.size if turned else picture.size[::-1]
    except _PILLOW_ERRORS as error:
        raise _undecodable(path, str(error)) from None


def _decode_image(data: bytes, path: Path) -> NDArray[np.uint8]:
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH  # ANYDEPTH: 16 bit stays 16 bit and is seen below
    decoded = _opencv(data, flags, path)
    if decoded.dtype != np.uint8:
        raise explain(
            f"image {path}",
            found=f"{decoded.dtype} channels",
            needed="8 bits a channel",
            fix="Convert it to 8 bits with the mapping that suits the camera.",
        )
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB, dst=decoded), dtype=np.uint8)


def _large_plain_png(data: bytes, *, channels: int) -> png.PlainPng | None:
    plain = png.parse(data)
    if plain is None or plain.channels != channels or plain.size[0] * plain.size[1] < _LARGE:
        return None
    return plain


def read_label(
    path: Path, palette: ClassSet | None = None, *, ignore_colours: tuple[Colour, ...] = ()
) -> NDArray[np.uint8]:
    """Read a label file as uint8 (H, W).

    Args:
        path: PNG (also BMP or TIFF) with one value a pixel; a palette's indices are taken as they are.
        palette: for colour masks: the classes whose colours stand in the file; the result is train ids.
        ignore_colours: for colour masks: colours that become 255.

    Raises:
        UserError: missing, empty, truncated or undecodable file, JPEG (its colours are not exact), a colour mask where
            values were expected or the reverse, values above 255, colours that no class has.
    """
    data = _whole_file(path)
    if data.startswith(_JPEG_START):
        raise explain(
            f"label {path}",
            found="a JPEG",
            needed="a lossless file",
            fix="Export masks as PNG: JPEG changes values.",
        )
    if palette is not None:
        return decode_colours(_colours(data, path), palette, ignore_colours=ignore_colours, path=path)
    plain = _large_plain_png(data, channels=1)
    decoded = None if plain is None else plain.decode()
    if decoded is not None:
        return decoded
    header = png.png_header(data)
    if header is not None and header.pixels == "8-bit grey":
        return np.asarray(_opencv(data, cv2.IMREAD_UNCHANGED, path), dtype=np.uint8)
    return _values(data, path)


def read_picture(path: Path) -> Image.Image:
    """A picture as Pillow decodes it, in its own mode.

    Raises:
        UserError: missing, empty, truncated or undecodable file.
    """
    return _pillow(_whole_file(path), path)


def read_instance_ids(path: Path) -> NDArray[np.uint16]:
    """Read a map of instance ids, a PNG of 8- or 16-bit grey, as uint16 (H, W).

    Raises:
        UserError: missing, empty, truncated or undecodable file, colours.
    """
    decoded = _opencv(_whole_file(path), cv2.IMREAD_UNCHANGED, path)
    if decoded.ndim != 2 or decoded.dtype not in (np.uint8, np.uint16):
        raise explain(
            f"instance map {path}",
            found=f"shape {decoded.shape}, type {decoded.dtype}",
            needed="one 16-bit value a pixel",
            fix="Take the file that the data set ships, *_instanceIds.png.",
        )
    return np.asarray(decoded, dtype=np.uint16)


def colours_in_use(path: Path) -> tuple[str, dict[int, Colour]]:
    """Pillow's mode of a picture, and for a palette picture ("P") the colours of the indices in use."""
    picture = read_picture(path)
    if picture.mode != "P":
        return picture.mode, {}
    palette = [*(picture.getpalette("RGB") or []), *[0] * 768]
    used = [index for _, index in picture.getcolors() or () if isinstance(index, int)]
    return "P", {index: (palette[3 * index], palette[3 * index + 1], palette[3 * index + 2]) for index in used}


def check_label(label: NDArray[np.uint8], num_classes: int, name: object, *, path: Path | None = None) -> None:
    """Raise `UserError` unless each value of `label` is below `num_classes` or 255; `name`, `path` say whose it is."""
    largest = int((label + np.uint8(1)).max(initial=0)) - 1  # uint8 wraps: 255 becomes 0, so ignored pixels drop out
    if largest < num_classes:
        return
    values, counts = np.unique(label[(label >= num_classes) & (label != IGNORE)], return_counts=True)
    named = ", ".join(f"value {v} in {n} pixels" for v, n in zip(values[:_MOST_NAMED], counts[:_MOST_NAMED]))
    more = f" and {len(values) - _MOST_NAMED} more values" if len(values) > _MOST_NAMED else ""
    raise explain(
        f"label of {name}" + ("" if path is None else f" ({path})"),
        found=named + more,
        needed=f"0..{num_classes - 1}, or {IGNORE} for ignored pixels",
        fix="Correct the file, or check that the class list belongs to this data.",
    )


def check_same_size(size: tuple[int, int], label: NDArray[np.uint8], image_path: Path, label_path: Path) -> None:
    """Raise `UserError` unless the label (H, W) has the image's size (H, W)."""
    if size != label.shape:
        (height, width), (label_height, label_width) = size, label.shape
        raise explain(
            f"label {label_path}",
            found=f"{label_height} x {label_width} pixels (H x W)",
            needed=f"{height} x {width}, the size of {image_path}",
            fix="Pair it with its own image, or resize the mask by nearest neighbour (EXIF rotation swaps sizes too).",
        )


def _whole_file(path: Path) -> bytes:
    """The bytes of a file that is not empty and not cut off."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise explain(
            f"file {path}", found=error.strerror or str(error), needed="a readable picture", fix="Check the path."
        ) from None
    if not data:
        raise explain(f"file {path}", found="0 bytes", needed="a picture", fix="Copy or download it again.")
    if not _ends_as_it_should(data):
        _pillow(data, path)
    return data


def _ends_as_it_should(data: bytes) -> bool:
    """Whether the format's end mark closes the file; False (also for other formats) means: let Pillow decide."""
    if data.startswith(png.PNG_START):
        return _PNG_END in data[-64:]
    return data.startswith(_JPEG_START) and data[-64:].rstrip(b"\x00").endswith(_JPEG_END)


def _undecodable(path: Path, reason: str = "the decoder refused it") -> UserError:
    return explain(
        f"file {path}",
        found=f"damaged, truncated or no picture ({reason})",
        needed="a whole PNG, JPEG, BMP, TIFF or WebP",
        fix="Copy or download it again, or take it out of the data set.",
    )


def _opencv(data: bytes, flags: int, path: Path) -> NDArray[Any]:
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise _undecodable(path, error.err) from None
    if decoded is None:
        raise _undecodable(path)
    return np.asarray(decoded)


def _pillow(data: bytes, path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow also warns about what it then raises, and about large mosaics
            picture = Image.open(io.BytesIO(data))
            picture.load()
    except _PILLOW_ERRORS as error:
        raise _undecodable(path, str(error)) from None
    return picture


def _values(data: bytes, path: Path) -> NDArray[np.uint8]:
    picture = _pillow(data, path)
    if picture.mode not in {"1", "L", "P"} and not picture.mode.startswith("I"):
        raise explain(
            f"label {path}",
            found=f"{picture.mode} pixels",
            needed="one 8-bit value a pixel, the class index",
            fix="Export index masks, or read it as a colour mask with the classes' colours.",
        )
    values = np.asarray(picture)
    if values.dtype.itemsize > 1 and (values.min(initial=0) < 0 or values.max(initial=0) > IGNORE):
        bad = (values < 0) | (values > IGNORE)
        raise explain(
            f"label {path}",
            found=f"16-bit values up to {values.max()} ({int(bad.sum())} pixels outside 0..255)",
            needed="0..255",
            fix="Is it an instance or depth map? Take the class label file.",
        )
    header = png.png_header(data)
    if picture.mode == "L" and header is not None and header.depth < 8:
        values = values // (255 // (2**header.depth - 1))  # Pillow stretches 2- and 4-bit grey to 0..255
    return values.astype(np.uint8)


def _colours(data: bytes, path: Path) -> NDArray[np.uint8]:
    picture = _pillow(data, path)
    if picture.mode not in {"P", "RGB", "RGBA"}:
        raise explain(
            f"mask {path}",
            found=f"no colours (mode {picture.mode})",
            needed="an RGB or palette picture with the classes' colours",
            fix="Read it as an index mask.",
        )
    return np.asarray(picture.convert("RGB"), dtype=np.uint8)
