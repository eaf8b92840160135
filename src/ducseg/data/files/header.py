"""What a picture file says of itself before a pixel is decoded: size, channels, depth, pages, EXIF orientation.

So what cannot be read rightly is refused for its real reason, and what would not fit in memory before it takes any.
Legend: H, W pixels as stored, before EXIF's turn.
"""

import io
import mmap
import os
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from ducseg.data.files import png
from ducseg.data.files.overlapping import quiet, unbounded
from ducseg.errors import UserError, explain

__all__ = [
    "JPEG_START", "PILLOW_ERRORS", "Header", "UnreadableError", "check_header", "max_pixels", "open_pillow",
    "read_header", "tiff_header", "undecodable", "unreadable", "upright",
]  # fmt: skip

JPEG_START = b"\xff\xd8\xff"
PILLOW_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, Image.DecompressionBombError)

_BY_PILLOW = ("BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_MAX_PIXELS = 178_956_970  # Pillow's own limit: half a gigabyte of RGB
_EXIF_ORIENTATION = 0x0112
_TURNED = range(5, 9)  # height and width change places
_MOST_PAGES = 10_000
_AS_TIFF = "--co TILED=YES --co BLOCKXSIZE=512 --co BLOCKYSIZE=512 --co COMPRESS=LZW --co BIGTIFF=IF_SAFER"
_JPEG_AS_TIFF = " --co PHOTOMETRIC=RGB"  # else it would be JPEG's, which only JPEG compression takes


class UnreadableError(UserError):
    """A file that the system does not let be read, so that nobody knows what it is."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """A picture file's header.

    Attributes:
        size: (H, W) as stored.
        channels: values a pixel, without alpha.
        alpha: whether there is an alpha channel beside them.
        dtype: "uint8" also for fewer bits, "uint16", "float32", ...
        bits: of grey in a PNG, of a channel in a TIFF, where these are fewer than 8; else 8.
        pages: pictures in the file, an animation's frames too; smaller copies of the first do not count.
        orientation: EXIF's 1 to 8; 1: as stored.
        placed: whether a TIFF says where on earth it lies, or which value stands for no data.
        nodata: the value that stands for no data in a TIFF, as GDAL writes it; None: none is named.
        inverted: whether a TIFF's grey of up to 8 bits stands for white at 0, as scanners write it.
        cmyk: whether a TIFF has CMYK, which decoders turn into RGB.
        compression: a TIFF's, by its number; 1: none.
    """

    size: tuple[int, int]
    channels: int
    alpha: bool = False
    dtype: str = "uint8"
    bits: int = 8
    pages: int = 1
    orientation: int = 1
    placed: bool = False
    nodata: str | None = None
    inverted: bool = False
    cmyk: bool = False
    compression: int = 1

    @property
    def shown_size(self) -> tuple[int, int]:
        """(H, W) as a viewer shows it."""
        return self.size[::-1] if self.orientation in _TURNED else self.size


def read_header(data: bytes, path: Path) -> Header:
    """The header of a PNG, JPEG, TIFF or whatever Pillow knows; `path` is named in the error of what is no picture."""
    header = png.png_header(data)
    if header is not None:
        dtype = "uint16" if header.depth == 16 else "uint8"
        channels = 1 if header.colour in (0, 4) else 3  # a palette shows colours
        orientation = _orientation(data) if png.may_have_exif(data) else 1
        return Header(
            size=header.size, channels=channels, dtype=dtype, bits=min(header.depth, 8) if channels == 1 else 8,
            pages=png.frames(data), orientation=orientation,
        )  # fmt: skip
    if data.startswith(JPEG_START):
        try:
            height, width, space, _ = simplejpeg.decode_jpeg_header(data, strict=False)
        except (ValueError, KeyError) as error:
            raise undecodable(path, data, str(error)) from None
        orientation = _orientation(data) if b"Exif\0\0" in data[: 1 << 17] else 1
        channels = 1 if space == "Gray" else 3
        return Header(size=(int(height), int(width)), channels=channels, orientation=orientation)
    if data[:4] in _TIFF_STARTS:
        return _tiff_of(data, path)
    return _by_pillow(data, path)


def tiff_header(path: Path) -> Header | None:
    """The header of a TIFF of any size, of which only the directories are read; None: another file, or none.

    Raises:
        UnreadableError: a file that is there and cannot be read, so that nobody knows what it is.
        UserError: a damaged directory.
    """
    try:
        with path.open("rb") as file:
            if file.read(4) not in _TIFF_STARTS:
                return None
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _tiff_of(data, path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
    except OSError as error:
        raise unreadable(path, error) from None


def _tiff_of(data: bytes | mmap.mmap, path: Path) -> Header:
    try:
        return _tiff(data)
    except (struct.error, KeyError, IndexError, ValueError):
        raise undecodable(path, b"", "its directory is cut off or damaged") from None


def check_header(header: Header, path: Path, *, any_size: bool = False) -> None:
    """Refuse a picture too large for memory, unless it is not read into it; a stack of pages.

    Raises:
        UserError: with the size found and the limit.
    """
    height, width = header.size
    if not height * width:
        raise undecodable(path, b"", f"{height} x {width} pixels")
    if height * width > max_pixels() and not any_size:
        raise explain(
            f"file {path}",
            found=f"{height} x {width} pixels (H x W), {height * width / 1e6:.0f} megapixels",
            needed=f"1 pixel to {max_pixels() / 1e6:.0f} megapixels",
            fix=f"{_way_out(path)} For training cut it into tiles, or set DUCSEG_MAX_PIXELS={height * width} where "
            "memory allows (3 bytes each).",
        )
    if header.pages > 1:
        raise explain(
            f"file {path}",
            found=f"a stack of {header.pages} pages",
            needed="one picture a file",
            fix="ducseg data convert stack DIR --out OUT writes a picture and a mask a page of TIFFs; pictures alone: "
            "magick FILE page-%03d.png, of an animated PNG ffmpeg -f apng -i FILE page-%03d.png.",
        )


def _way_out(path: Path) -> str:
    options = _AS_TIFF + (_JPEG_AS_TIFF if path.suffix.lower() in (".jpg", ".jpeg") else "")
    command = f"rio convert IN OUT.tif {options} (pip install 'ducseg[geo]' brings rio)"
    return f"`ducseg predict` reads TIFFs of any size by windows: {command}."


def max_pixels() -> int:
    """The most pixels that a picture may have: DUCSEG_MAX_PIXELS of the environment, else 178,956,970.

    Raises:
        UserError: the variable is no positive whole number.
    """
    text = os.environ.get("DUCSEG_MAX_PIXELS", str(_MAX_PIXELS))
    if not text.isdecimal() or int(text) == 0:
        raise explain(
            "DUCSEG_MAX_PIXELS", found=repr(text), needed="a positive whole number", fix="Correct or unset it."
        )
    return int(text)


def upright(picture: NDArray[np.generic], orientation: int) -> NDArray[np.generic]:
    """A picture (H, W, ...) as stored, turned and mirrored as EXIF's orientation says a viewer shall show it."""
    if orientation in _TURNED:
        picture = picture.swapaxes(0, 1)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return np.ascontiguousarray(picture[rows, columns])


def undecodable(path: Path, data: bytes, reason: str = "the decoder refused it") -> UserError:
    """The error of a file that does not decode: what it is where its first bytes tell, else that it is damaged."""
    for known, (what, fix) in _OTHER_FILES.items():
        if known(data):
            return explain(f"file {path}", found=what, needed="a PNG, JPEG, BMP, TIFF or WebP picture", fix=fix)
    reason = re.sub(r" <_io.*>", "", reason)  # the object that Pillow was given
    return explain(
        f"file {path}",
        found=f"damaged, truncated or no picture ({reason})",
        needed="a whole PNG, JPEG, BMP, TIFF or WebP",
        fix="Copy or download it again, or take it out of the data set; if a viewer shows it right, save it anew.",
    )


def unreadable(path: Path, error: OSError) -> UnreadableError:
    """The error of a file that the system does not let be read."""
    found, fix = error.strerror or str(error), "Check the path."
    if path.is_symlink():
        found, fix = f"a link to {path.readlink()} ({found})", "Fetch what it leads to (git annex get, dvc pull)."
    return UnreadableError(*explain(f"file {path}", found=found, needed="a readable picture", fix=fix).args)


def open_pillow(source: bytes | Path) -> Image.Image:
    """`Image.open` of formats that decoders read: of others Pillow starts programs (Ghostscript, of an EPS)."""
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_BY_PILLOW)


def _is_video(data: bytes) -> bool:
    starts = (b"\x1aE\xdf\xa3", b"FLV\x01", b"\0\0\x01\xba", b"\0\0\x01\xb3", b"OggS")
    riff = data.startswith(b"RIFF") and data[8:12] == b"AVI "
    return data.startswith(starts) or riff or (data[4:8] == b"ftyp" and not _is_heif(data))


def _is_heif(data: bytes) -> bool:
    return data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis")


_OTHER_FILES: dict[Callable[[bytes], bool], tuple[str, str]] = {
    _is_heif: ("a HEIC or AVIF photo", "Convert it: magick photo.heic photo.jpg."),
    _is_video: ("a video", "ducseg predict takes videos; for training write its frames: ffmpeg -i FILE %06d.png."),
    lambda data: data.startswith(b"\x93NUMPY"): ("a numpy array", "Save it as PNG or TIFF."),
    lambda data: data[128:132] == b"DICM": ("a DICOM file", "Write its pixels as 8-bit PNG."),
    lambda data: data.startswith(b"%PDF"): ("a PDF", "Write its pages as PNG: pdftoppm -png."),
    lambda data: data.startswith((b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf")): ("an archive", "Unpack it."),
    lambda data: data.startswith(b"version https://git-lfs"): ("a Git LFS pointer, not the file", "git lfs pull."),
}  # fmt: skip


def _orientation(data: bytes) -> int:
    try:
        with quiet, unbounded, open_pillow(data) as picture:
            found = picture.getexif().get(_EXIF_ORIENTATION, 1)
    except PILLOW_ERRORS:
        return 1
    return found if found in range(1, 9) else 1


def _by_pillow(data: bytes, path: Path) -> Header:
    try:
        with quiet, unbounded, open_pillow(data) as picture:
            width, height = picture.size
            pages = int(getattr(picture, "n_frames", 1))
            mode, orientation = picture.mode, picture.getexif().get(_EXIF_ORIENTATION, 1)
    except PILLOW_ERRORS as error:
        raise undecodable(path, data, str(error)) from None
    dtype = "uint16" if mode.startswith("I;16") else {"F": "float32", "I": "int32"}.get(mode, "uint8")
    channels = 1 if mode in ("1", "L", "LA", "F", "I") or mode.startswith("I;16") else 3
    return Header(
        size=(height, width), channels=channels, dtype=dtype, pages=pages,
        orientation=orientation if orientation in range(1, 9) else 1,
    )  # fmt: skip


# TIFF 6.0: a file is directories of tags, each with the place of the next; BigTIFF has 8 bytes where TIFF has 4
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _EXTRA, _FORMAT = 256, 257, 258, 259, 262, 277, 338, 339
_SUBFILE, _SMALLER_OR_MASK = 254, 0b101
_WHITE_IS_ZERO, _CMYK = 0, 5
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NODATA = 42113  # GDAL's
_PLACES = {33550, 33922, 34264, 34735, _NODATA}  # GeoTIFF's scale, tie points, transformation, keys
_ASKED = _PLACES | {
    _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _EXTRA, _FORMAT, _SUBFILE, _EXIF_ORIENTATION,
}  # fmt: skip
_TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 16: "Q"}
_FORMATS = {1: "uint", 2: "int", 3: "float", 6: "complex"}


def _tiff(data: bytes | mmap.mmap) -> Header:
    pages = [tags for tags in _directories(data) if not tags.get(_SUBFILE, [0])[0] & _SMALLER_OR_MASK]
    first = pages[0]
    bits, alpha = max(first.get(_BITS, [1])), any(kind in (1, 2) for kind in first.get(_EXTRA, ()))
    samples = first.get(_SAMPLES, [1])[0]
    cmyk = first.get(_PHOTOMETRIC) == [_CMYK] and samples == 4
    if cmyk:
        samples = 3
    kind = _FORMATS[first.get(_FORMAT, [1])[0]]
    return Header(
        size=(first[_HEIGHT][0], first[_WIDTH][0]),
        channels=samples - alpha,
        alpha=alpha,
        dtype="uint8" if bits <= 8 and kind == "uint" else f"{kind}{bits}",
        bits=min(bits, 8),
        pages=len(pages),
        orientation=max(1, min(8, first.get(_EXIF_ORIENTATION, [1])[0])),
        placed=not _PLACES.isdisjoint(first),
        inverted=bits <= 8 and kind == "uint" and samples - alpha == 1 and first.get(_PHOTOMETRIC) == [_WHITE_IS_ZERO],
        cmyk=cmyk,
        compression=first.get(_COMPRESSION, [1])[0],
        nodata=bytes(first[_NODATA]).split(b"\0")[0].decode("ascii", "replace").strip() if _NODATA in first else None,
    )


def _directories(data: bytes | mmap.mmap) -> Iterator[dict[int, list[int]]]:
    """What is asked of their tags. A tag twice is refused, as decoders differ in which of them counts."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    word, entry, count_of = ("Q", 20, "Q") if big else ("I", 12, "H")
    (place,) = struct.unpack_from(order + word, data, 8 if big else 4)
    seen, left = set[int](), len(data)
    while place and place not in seen and len(seen) < _MOST_PAGES:
        seen.add(place)
        (count,) = struct.unpack_from(order + count_of, data, place)
        start = place + struct.calcsize(order + count_of)
        left -= count * entry
        if left < 0:
            raise ValueError("directories that lie over one another")
        tags: dict[int, list[int]] = {}
        rows = struct.iter_unpack(f"{order}HH{word}{struct.calcsize(word)}s", data[start : start + count * entry])
        for number, kind, length, value in rows:
            if number in tags:
                raise ValueError("a tag twice")
            if number in _ASKED:
                tags[number] = _values(data, kind, length, value, order + word)
        yield tags
        (place,) = struct.unpack_from(order + word, data, start + count * entry)


def _values(data: bytes | mmap.mmap, kind: int, count: int, value: bytes, word: str) -> list[int]:
    """Of a tag: in its entry, or where that leads to."""
    if kind not in _TYPES or count > 1 << 10:
        return [0]
    form = f"{word[0]}{count}{_TYPES[kind]}"
    if struct.calcsize(form) <= len(value):
        return list(struct.unpack_from(form, value))
    return list(struct.unpack_from(form, data, struct.unpack(word, value)[0]))
