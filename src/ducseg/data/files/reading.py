"""Decode picture and label files to arrays, or say which file is bad, why, and how to go on.

Legend: H, W pixels of the file. The header comes first: what is too large, a stack, or of more channels or bits than
asked for is refused by it. Large plain PNGs are decoded by `data.files.png`, JPEGs by simplejpeg, because libjpeg's
warnings of corrupt data are errors there and lost elsewhere. OpenCV decodes the others; Pillow reads what OpenCV
changes (palette indices, grey below 8 bit) and any file whose end looks cut off.

EXIF orientation, one rule everywhere: a picture is read as a viewer shows it, and so is a mask; a mask without the tag
is taken to be drawn on the picture as it is shown.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ducseg.classes import IGNORE, Colour
from ducseg.data.files import png
from ducseg.data.files.compressed import unpacked
from ducseg.data.files.header import (
    JPEG_START,
    PILLOW_ERRORS,
    Header,
    check_header,
    open_pillow,
    read_header,
    undecodable,
    unreadable,
    upright,
)
from ducseg.data.files.overlapping import quiet, silent_opencv, unbounded
from ducseg.errors import explain, listed, typed

__all__ = [
    "PICTURE_SUFFIXES",
    "check_channels",
    "check_label",
    "check_same_size",
    "colours_in_use",
    "decode_image",
    "decode_picture",
    "may_hide_a_turn",
    "picture_size",
    "read_image",
    "read_instance_ids",
    "read_label",
    "read_picture",
    "read_sixteen_bits",
    "read_turned",
]

PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Names (lower case) of the files that are taken for pictures when a folder is listed."""

_PNG_END = b"IEND\xaeB`\x82"
_GREY_WITH_ALPHA = 4
_FEW_BITS = (1, 2, 4)
"""Of grey and of palettes, that decoders read."""
_LARGE = 1 << 18  # pixels; below, the import of numba takes longer than it saves in a first few hundred pictures


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a picture as RGB uint8 (H, W, 3).

    Grey becomes three equal channels, alpha is dropped, palettes are expanded, an EXIF orientation is applied (what a
    viewer shows). More than 8 bits a channel are refused: nobody knows here which of them count. So are other numbers
    of bands and stacks of pages: nobody knows which to take.

    Raises:
        UserError: missing, empty, truncated, corrupt or undecodable file, more than 8 bits a channel, 2 or more than 3
            channels beside alpha, several pages, more than `header.max_pixels()`.
    """
    return read_turned(path)[0]


def may_hide_a_turn(orientation: int, size: tuple[int, int]) -> bool:
    """Whether a mask drawn on the pixels as stored has the size of the picture as shown: else sizes tell it."""
    return orientation in (2, 3, 4) or (orientation > 1 and size[0] == size[1])


def read_turned(path: Path) -> tuple[NDArray[np.uint8], int]:
    """As `read_image`, and the EXIF orientation, 1 to 8, that was applied."""
    return _decode_turned(_file(path), path)


def decode_image(data: bytes, name: Path) -> NDArray[np.uint8]:
    """As `read_image`, of a file that is in memory already; `name` is what errors call it."""
    return _decode_turned(data, name)[0]


def _decode_turned(data: bytes, path: Path) -> tuple[NDArray[np.uint8], int]:
    header = read_header(data, path)
    check_header(header, path)
    check_channels(header, path)
    data = unpacked(data, header, path)
    if not _ends_as_it_should(data):
        _pillow(data, path)
    return _decode_image(data, header, path), header.orientation


def _decode_image(data: bytes, header: Header, path: Path) -> NDArray[np.uint8]:
    plain = _large_plain_png(data, channels=3)
    decoded = None if plain is None else plain.decode()
    if decoded is not None:
        return decoded
    if data.startswith(JPEG_START):
        return _decode_jpeg(data, header, path)
    if header.alpha or header.bits < 8:  # OpenCV's TIFF would multiply the colours by alpha, and knows 1 and 8 bits
        return np.asarray(_pillow(data, path).convert("RGBA"), dtype=np.uint8)[..., :3].copy()
    bgr = _opencv(data, cv2.IMREAD_COLOR, path)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr), dtype=np.uint8)


def decode_picture(data: bytes, name: Path) -> Image.Image:
    """As `read_picture`, of a file that is in memory already; `name` is what errors call it."""
    return _pillow(data, name)


def picture_size(path: Path) -> tuple[int, int]:
    """(H, W) that `read_image` will give, from the file's header.

    Raises:
        UserError: missing, empty or undecodable file.
    """
    return read_header(_file(path), path).shown_size


def check_channels(header: Header, path: Path) -> None:
    """Refuse what is neither grey nor RGB of 8 bits, beside alpha, with a `UserError`."""
    if header.dtype != "uint8":
        raise explain(
            f"image {path}",
            found=f"{header.dtype} channels",
            needed="8 bits a channel",
            fix="Convert it to 8 bits with the mapping that suits the camera.",
        )
    _check_bits(header, path)
    if header.channels not in (1, 3):
        raise explain(
            f"image {path}",
            found=f"{header.channels} bands",
            needed="1 (grey) or 3 (RGB), beside one that is marked as alpha",
            fix="Choose three of them, for example: gdal_translate -b 1 -b 2 -b 3 IN OUT.",
        )


def _check_bits(header: Header, path: Path) -> None:
    if header.bits < 8 and (header.channels != 1 or header.bits not in _FEW_BITS):
        raise explain(
            f"file {path}",
            found=f"{header.channels} channels of {header.bits} bits",
            needed="8 bits a channel, or grey of 1, 2 or 4",
            fix=f"gdal_translate -ot Byte -co NBITS=8 -scale 0 {2**header.bits - 1} 0 255 IN OUT.",
        )


def _decode_jpeg(data: bytes, header: Header, path: Path) -> NDArray[np.uint8]:
    try:
        if simplejpeg.decode_jpeg_header(data)[2] in ("CMYK", "YCCK"):
            simplejpeg.decode_jpeg(data, "CMYK")  # only to see damage: the RGB of CMYK is OpenCV's
            return np.asarray(_opencv(data, cv2.IMREAD_COLOR_RGB, path), np.uint8)
        pixels = simplejpeg.decode_jpeg(data, "RGB")
    except (ValueError, KeyError) as error:
        raise undecodable(path, data, str(error)) from None
    return np.asarray(pixels if header.orientation == 1 else upright(pixels, header.orientation), np.uint8)


def _large_plain_png(data: bytes, *, channels: int) -> png.PlainPng | None:
    plain = png.parse(data)
    if plain is None or plain.channels != channels or plain.size[0] * plain.size[1] < _LARGE:
        return None
    return plain


def read_label(path: Path) -> NDArray[np.uint8]:
    """Read a label file as uint8 (H, W): PNG (also BMP or TIFF) with one value a pixel, of a palette its indices.

    Raises:
        UserError: missing, empty, truncated or undecodable file, JPEG (its colours are not exact), a colour mask,
            values above 255.
    """
    data = _file(path)
    if data.startswith(JPEG_START):
        raise explain(
            f"label {path}",
            found="a JPEG",
            needed="a lossless file",
            fix="Export masks as PNG: JPEG changes values.",
        )
    header = read_header(data, path)
    check_header(header, path)
    if header.dtype.startswith(("float", "complex")):
        raise explain(
            f"label {path}",
            found=f"{header.dtype} values",
            needed="whole numbers, one byte a pixel",
            fix="Save it as 8-bit: gdal_translate -ot Byte IN OUT.",
        )
    data = unpacked(data, header, path)
    if not _ends_as_it_should(data):
        _pillow(data, path)
    plain = _large_plain_png(data, channels=1)
    decoded = None if plain is None else plain.decode()
    if decoded is not None:
        return decoded
    return _values(data, path)


def read_picture(path: Path) -> Image.Image:
    """A picture as Pillow decodes it, in its own mode.

    Raises:
        UserError: missing, empty, truncated or undecodable file.
    """
    return _pillow(_whole_file(path), path)


def read_sixteen_bits(path: Path) -> NDArray[np.uint16] | None:
    """(H, W, channels) of a file of several 16-bit channels, which Pillow would cut to 8; None for any other.

    Raises:
        UserError: missing, empty, truncated or undecodable file.
    """
    data = _file(path)
    header = read_header(data, path)
    check_header(header, path)
    plain = png.png_header(data)
    several = header.channels > 1 or header.alpha or (plain is not None and plain.colour == _GREY_WITH_ALPHA)
    if header.dtype != "uint16" or not several:
        return None
    decoded = _opencv(unpacked(data, header, path), cv2.IMREAD_UNCHANGED, path)
    return decoded if decoded.ndim == 3 and decoded.dtype == np.uint16 else None


def read_instance_ids(path: Path) -> NDArray[np.uint16]:
    """Read a map of instance ids, a PNG of 8- or 16-bit grey, as uint16 (H, W).

    Raises:
        UserError: missing, empty, truncated or undecodable file, colours.
    """
    data = _whole_file(path)
    check_header(read_header(data, path), path)
    decoded = _opencv(data, cv2.IMREAD_UNCHANGED, path)
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
    raise explain(
        f"label of {name}" + ("" if path is None else f" ({path})"),
        found=listed([f"value {value} in {pixels} pixels" for value, pixels in zip(values, counts)]),
        needed=f"0..{num_classes - 1}, or {IGNORE} for ignored pixels",
        fix="Correct the file, or check that the class list belongs to this data.",
    )


def check_same_size(size: tuple[int, int], label: NDArray[np.uint8], image_path: Path, label_path: Path) -> None:
    """Raise `UserError` unless the label (H, W) has the image's size (H, W)."""
    if size != label.shape:
        (height, width), (label_height, label_width) = size, label.shape
        fix = "Pair it with its own image, or resize the mask by nearest neighbour."
        if label.shape == size[::-1]:
            fix = "Is the picture shown turned (EXIF), and the mask drawn on its pixels as stored? "
            fix += f"exiftool -Orientation= {typed(image_path)}"
        raise explain(
            f"label {label_path}",
            found=f"{label_height} x {label_width} pixels (H x W)",
            needed=f"{height} x {width}, the size of {image_path}",
            fix=fix,
        )


def _file(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None
    if not data:
        raise explain(f"file {path}", found="0 bytes", needed="a picture", fix="Copy or download it again.")
    return data


def _whole_file(path: Path) -> bytes:
    """The bytes of a file that is not empty and not cut off."""
    data = _file(path)
    if not _ends_as_it_should(data):
        _pillow(data, path)
    return data


def _ends_as_it_should(data: bytes) -> bool:
    """Whether the format's end mark closes the file; False (also for other formats) means: let Pillow decide."""
    return data.startswith(JPEG_START) or (data.startswith(png.PNG_START) and _PNG_END in data[-64:])


def _opencv(data: bytes, flags: int, path: Path) -> NDArray[Any]:
    try:
        with silent_opencv:
            decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise undecodable(path, data, error.err) from None
    if decoded is None:
        raise undecodable(path, data)
    return np.asarray(decoded)


def _pillow(data: bytes, path: Path) -> Image.Image:
    """The first page, upright."""
    header = read_header(data, path)
    check_header(header, path)
    _check_bits(header, path)
    data = unpacked(data, header, path)
    try:
        with quiet, unbounded:
            picture = open_pillow(data)
            picture.load()
            ImageOps.exif_transpose(picture, in_place=True)
    except PILLOW_ERRORS as error:
        raise undecodable(path, data, str(error)) from None
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
    if picture.mode == "L":
        values = png.unstretched(values, read_header(data, path).bits)
    return values.astype(np.uint8)
