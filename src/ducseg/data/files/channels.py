"""Pictures of 1 to 16 channels of 8, 16 or 32 bits, as they are: multispectral rasters, depth, microscopy.

`read_image` gives RGB of 8 bits; this gives what the file holds. Legend: H, W pixels as a viewer shows it, C channels.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.data.files import png
from ducseg.data.files.header import JPEG_START, Header, check_header, read_header, tiff_header, undecodable, upright
from ducseg.data.files.overlapping import quiet, silent_opencv
from ducseg.data.files.reading import decode_image, read_image
from ducseg.errors import UserError, explain, package

__all__ = [
    "MOST_CHANNELS",
    "RGB",
    "Pixels",
    "as_taken",
    "check_pixels",
    "decode_channels",
    "decode_pixels",
    "fill_undefined",
    "read_channels",
    "read_pixels",
    "stored_pixels",
    "taken_as",
]

MOST_CHANNELS = 16
_DTYPES = ("uint8", "uint16", "float32")
_TO_FLOAT = ("int8", "int16", "int32", "uint32", "float16", "float64")  # of TIFFs: heights, CT, other instruments
_START = 1 << 12  # bytes that tell a PNG's kind, and that of most JPEGs


@dataclass(frozen=True, order=True)
class Pixels:
    """What a picture's pixels are: C channels of a type.

    Attributes:
        dtype: "uint8", "uint16" or "float32".
    """

    channels: int
    dtype: str

    def __str__(self) -> str:
        return f"{self.channels} channel{'s' if self.channels > 1 else ''} of {self.dtype}"


RGB = Pixels(3, "uint8")
"""Ordinary pictures, grey ones made three equal channels: what `read_image` gives."""

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_channels(path: Path) -> NDArray[Any]:
    """Read a picture as (H, W, C): uint8, uint16 or float32, its channels in the file's order, RGB for colours.

    A TIFF's signed, wider and double numbers become float32 (`taken_as`), those beyond its 24 bits rounded.

    An alpha channel is dropped, a palette expanded, an EXIF orientation applied, as in `read_image`. TIFFs are read
    by rasterio (`pip install 'ducseg[geo]'`), which knows any number of bands and every compression.

    Raises:
        UserError: missing, empty, truncated or undecodable file, other types, more than 16 channels, several pages,
            more than `header.max_pixels()`; rasterio not installed.
    """
    data = path.read_bytes() if path.is_file() else b""
    return decode_channels(data, path) if data else read_image(path)  # which says what is wrong


def decode_channels(data: bytes, path: Path) -> NDArray[Any]:
    """As `read_channels`, of a file's bytes; `path` names it in errors."""
    header = read_header(data, path)
    check_header(header, path)
    check_pixels(_pixels(header, data), path)
    if header.cmyk:
        return decode_image(data, path)  # GDAL's RGB of it would be upright already
    if data[:4] in _TIFF:
        bands = upright(_bands(data, path, header.channels), header.orientation)
        return np.subtract(2**header.bits - 1, bands, dtype=np.uint8) if header.inverted else bands
    if header.dtype == "uint8":
        rgb = decode_image(data, path)
        return rgb if header.channels == 3 else rgb[..., :1].copy()
    assert not data.startswith(JPEG_START)
    with silent_opencv:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    if decoded is None:
        raise undecodable(path, data)
    if decoded.ndim == 3 and header.channels == 1:  # grey with alpha
        decoded = decoded[..., 0]
    return np.ascontiguousarray(decoded[..., ::-1] if decoded.ndim == 3 else decoded[..., None])


def check_pixels(pixels: Pixels, path: Path) -> None:
    """Raise `UserError` unless `read_channels` gives such pictures."""
    if pixels.dtype not in _DTYPES or not 1 <= pixels.channels <= MOST_CHANNELS:
        options = [f"-b {band}" for band in (1, 2, 3) if pixels.channels > MOST_CHANNELS]
        options += ["-ot Float32"] if pixels.dtype not in _DTYPES else []
        raise explain(
            f"picture {path}",
            found=pixels,
            needed=f"1 to {MOST_CHANNELS} of {', '.join(_DTYPES)}",
            fix=f"{'Choose bands' if options[0].startswith('-b') else 'Convert'}: "
            f"gdal_translate {' '.join(options)} IN OUT.",
        )


def stored_pixels(path: Path) -> Pixels:
    """What a file holds, from its header, whether or not it can be read.

    Raises:
        OSError: no such file.
        UserError: an empty or undecodable one.
    """
    with path.open("rb") as file:
        start = file.read(_START)
    plain = png.png_header(start)
    if plain is not None:
        return Pixels(1 if plain.colour in (0, 4) else 3, "uint16" if plain.depth == 16 else "uint8")
    header = _jpeg_header(start, path) or tiff_header(path) or read_header(path.read_bytes(), path)
    return _pixels(header, start)


def taken_as(dtype: str) -> str:
    """The type in which a TIFF's numbers are given: its own, or float32 for signed, wider and double ones."""
    return "float32" if dtype in _TO_FLOAT else dtype


def _pixels(header: Header, start: bytes) -> Pixels:
    return Pixels(header.channels, taken_as(header.dtype) if start[:4] in _TIFF else header.dtype)


def _jpeg_header(start: bytes, path: Path) -> Header | None:
    """Of a JPEG with a short head; None: another file."""
    try:
        return read_header(start, path) if start.startswith(JPEG_START) else None
    except UserError:
        return None


def read_pixels(path: Path, wanted: Pixels) -> NDArray[Any]:
    """Read a picture (H, W, C) of the wanted kind; values that are no numbers are left as they are.

    Raises:
        UserError: as `read_channels`, for `RGB` as `read_image`; another kind.
    """
    return read_image(path) if wanted == RGB else _checked(read_channels(path), path, wanted)


def decode_pixels(data: bytes, path: Path, wanted: Pixels) -> NDArray[Any]:
    """As `read_pixels`, of a file's bytes; `path` names it in errors."""
    return decode_image(data, path) if wanted == RGB else _checked(decode_channels(data, path), path, wanted)


def _checked(picture: NDArray[Any], path: Path, wanted: Pixels) -> NDArray[Any]:
    found = Pixels(picture.shape[2], str(picture.dtype))
    if found != wanted:
        raise explain(
            f"picture {path}", found=found, needed=wanted, fix="Take it out, or convert it (gdal_translate -b, -ot)."
        )
    return picture


def fill_undefined(
    picture: NDArray[Any], name: object, unknown: NDArray[np.bool_] | None = None, *, or_zero: bool = False
) -> NDArray[np.bool_] | None:
    """Give values that are no finite numbers, in place, the mean of their channel's others in the picture.

    Args:
        name: of the picture, for the message.
        unknown: (H, W), pixels without data, whose values (-9999, ...) are taken for none too; None: there are none.
        or_zero: whether a channel without a finite number becomes 0, as in a picture of which nothing is known.

    Returns:
        (H, W), where a channel had one; None: nowhere, as in all pictures of whole numbers with data.

    Raises:
        UserError: a channel without a finite number.
    """
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        finite = picture.dtype.kind != "f" or bool(np.isfinite(picture.sum(dtype=np.float64)))
    if finite and (unknown is None or not unknown.any()):
        return None
    undefined = ~np.isfinite(picture)
    if unknown is not None:
        undefined |= unknown[..., None]
        or_zero = or_zero or bool(unknown.all())
    for channel in np.flatnonzero(undefined.any((0, 1))):
        values, void = picture[..., channel], undefined[..., channel]
        if void.all() and not or_zero:
            found = f"no finite number in channel {channel + 1}"
            raise explain(f"picture {name}", found=found, needed="some in every channel", fix="Take it out.")
        values[void] = 0 if void.all() else values[~void].mean(dtype=np.float64)
    return np.asarray(undefined.any(2))


def _bands(data: bytes, path: Path, channels: int) -> NDArray[Any]:
    rasterio = package("rasterio", what="channels of TIFFs", install="'ducseg[geo]'")
    try:
        with quiet, rasterio.MemoryFile(data) as file, file.open() as raster:  # no coordinates: none needed
            bands = raster.read(list(range(1, channels + 1)))
    except (rasterio.errors.RasterioError, OSError) as error:
        raise undecodable(path, data, re.sub(r"'?/vsimem/\S*?'? ", "it ", str(error))) from None
    return as_taken(np.ascontiguousarray(np.moveaxis(bands, 0, 2)))


def as_taken(values: NDArray[Any]) -> NDArray[Any]:
    """A TIFF's numbers as `taken_as` has their type; double ones beyond float32 are infinite."""
    with np.errstate(over="ignore"):
        return values.astype(taken_as(str(values.dtype)), copy=False)
