"""Pictures, masks, rasters."""

import io
import pickle
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from hostile_parts import Evil, noise, saved
from hostile_workers import Target
from PIL import Image

__all__ = ["TARGETS"]

TARGETS: dict[str, Target] = {}


def _exif() -> Any:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def _pngs(_folder: Path) -> Sequence[bytes]:
    rgb, large = Image.fromarray(noise()), Image.fromarray(cv2.resize(noise(), (520, 510)))
    palette = rgb.convert("P")
    return [
        saved(rgb, "png"), saved(rgb.convert("L"), "png"), saved(rgb.convert("RGBA"), "png"), saved(palette, "png"),
        saved(rgb.convert("LA"), "png"), saved(rgb.convert("1"), "png"), saved(rgb, "png", exif=_exif()),
        saved(Image.fromarray(noise(channels=1, dtype=np.uint16)), "png"), saved(large, "png"),
        saved(large.convert("L"), "png"), saved(palette, "png", transparency=3), saved(rgb, "png", dpi=(300, 300)),
    ]  # fmt: skip


def _photos(_folder: Path) -> Sequence[bytes]:
    rgb = Image.fromarray(noise(40, 56))
    return [
        saved(rgb, "jpeg"), saved(rgb, "jpeg", progressive=True), saved(rgb, "jpeg", exif=_exif()),
        saved(rgb.convert("L"), "jpeg"), saved(rgb.convert("CMYK"), "jpeg"), saved(rgb, "webp"),
        saved(rgb, "webp", lossless=True), saved(rgb, "bmp"), saved(rgb.convert("L"), "bmp"),
        saved(rgb.convert("P"), "gif"), saved(rgb, "ppm"), saved(rgb.convert("P"), "bmp"),
        saved(rgb.convert("RGBA"), "webp"), saved(rgb, "jpeg", restart_marker_blocks=1),
    ]  # fmt: skip


def _tiffs(folder: Path) -> Sequence[bytes]:
    import rasterio

    rgb = Image.fromarray(noise(40, 56))
    made = [
        saved(rgb, "tiff", **({"compression": how} if how else {}))
        for how in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    ]
    made.append(saved(rgb, "tiff", save_all=True, append_images=[rgb]))
    folder.mkdir(exist_ok=True)
    for number, (bands, dtype, tiled, kind) in enumerate(
        [
            (3, "uint8", False, "lzw"),
            (1, "uint8", True, "deflate"),
            (5, "uint16", False, "none"),
            (4, "float32", True, "lzw"),
            (3, "uint8", True, "jpeg"),
        ]
    ):
        path = folder / f"{number}.tif"
        blocks = {"tiled": True, "blockxsize": 16, "blockysize": 16} if tiled else {}
        profile = {
            "driver": "GTiff",
            "height": 40,
            "width": 48,
            "count": bands,
            "dtype": dtype,
            "crs": "EPSG:32633",
            **blocks,
        }
        where = rasterio.Affine(1, 0, 5e5, 0, -1, 5e6)
        nodata = {} if bands == 4 else {"nodata": 0}
        with rasterio.open(path, "w", transform=where, compress=kind, **profile, **nodata) as file:
            file.write(np.moveaxis(noise(40, 48, bands, dtype).reshape(40, 48, bands), 2, 0))
        made.append(path.read_bytes())
    return made


def _read_image(_context: Any, file: Path) -> None:
    from ducseg.data.files.reading import picture_size, read_image

    found = read_image(file)
    assert found.dtype == np.uint8 and found.shape == (*picture_size(file), 3), (found.dtype, found.shape)


def _read_label(_context: Any, file: Path) -> None:
    from ducseg.data.files.reading import colours_in_use, picture_size, read_label

    found = read_label(file)
    assert found.dtype == np.uint8 and found.shape == picture_size(file), (found.dtype, found.shape)
    colours_in_use(file)


def _read_channels(_context: Any, file: Path) -> None:
    from ducseg.data.files.channels import read_channels, stored_pixels

    found = read_channels(file)
    assert (found.shape[2], str(found.dtype)) == (stored_pixels(file).channels, stored_pixels(file).dtype)


def _read_raster(_context: Any, file: Path) -> None:
    from ducseg.data.files.rasters import is_raster, open_raster

    is_raster(file)
    with open_raster(file) as raster:
        height, width = raster.size
        if height * width > 1 << 24:
            return
        for begin in range(0, height, 16):
            end = min(begin + 16, height)
            assert raster.rows(begin, end).shape == (end - begin, width, 3)
            raster.known(begin, end)
        raster.reduced(7)


def _picture_bombs(_folder: Path) -> dict[str, bytes]:
    """Few bytes that say they are much, or are something else."""
    made: dict[str, bytes] = {}

    def framed(*chunks: bytes) -> bytes:
        parts = [struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in chunks]
        return b"\x89PNG\r\n\x1a\n" + b"".join(parts)

    zeros = zlib.compress(bytes(1 << 24), 9)
    for height, width in (
        (0, 1),
        (1, 0),
        (2**31 - 1, 2**31 - 1),
        (2**32 - 1, 1),
        (1, 2**32 - 1),
        (60_000, 60_000),
        (13_000, 13_000),
        (4, 4),
    ):
        for depth, colour in ((8, 2), (8, 3), (16, 6), (1, 0), (5, 7)):
            head = b"IHDR" + struct.pack(">IIBBBBB", height % 2**32, width % 2**32, depth, colour, 0, 0, 0)
            made[f"png-{height}x{width}-{depth}-{colour}"] = framed(head, b"IDAT" + zeros[:20_000], b"IEND")
    made["png-text-bomb"] = framed(
        b"IHDR" + struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0), b"zTXtx\0\0" + zeros, b"iCCPx\0\0" + zeros,
        b"IDAT" + zlib.compress(b"\0ab\0cd"), b"IEND",
    )  # fmt: skip
    for name, (height, width) in {
        "bmp-huge": (2**31 - 1, 2**31 - 1),
        "bmp-wide": (1, 2**30),
        "bmp-negative": (-20_000, 20_000),
    }.items():
        head = (
            b"BM"
            + struct.pack("<IHHI", 54, 0, 0, 54)
            + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
        )
        made[name] = head + bytes(100)
    for order, mark in (("<", b"II*\0"), (">", b"MM\0*")):
        entries = ((256, 4, 1, 2**31), (257, 4, 1, 2**31), (258, 3, 1, 8), (277, 3, 1, 1))
        tags = [struct.pack(order + "HHII", *entry) for entry in entries]
        directory = struct.pack(order + "H", len(tags)) + b"".join(tags)
        made[f"tiff-huge{order}"] = mark + struct.pack(order + "I", 8) + directory + struct.pack(order + "I", 0)
        made[f"tiff-circle{order}"] = mark + struct.pack(order + "I", 8) + directory + struct.pack(order + "I", 8)
        made[f"tiff-itself{order}"] = mark + struct.pack(order + "I", 4)
        made[f"tiff-many{order}"] = mark + struct.pack(order + "I", 8) + struct.pack(order + "H", 65535) + bytes(12)
        made[f"tiff-end{order}"] = mark + struct.pack(order + "I", 2**32 - 1)
    made["gif-huge"] = (
        b"GIF89a"
        + struct.pack("<HH", 65535, 65535)
        + b"\x80\0\0"
        + bytes(6)
        + b","
        + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0)
        + b"\x08\x01\0\0;"
    )
    made["webp-huge"] = (
        b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\x10\0\0\0" + b"\xff" * 6 + bytes(8)
    )
    for name, data in {
        "empty": b"", "one": b"\x89", "text": b"hello\n",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>',
        "html": b"<html>", "pdf": b"%PDF-1.7\n", "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "elf": b"\x7fELF" + bytes(60),
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) (r) file\n",
        "psd": b"8BPS\0\1" + bytes(40),
        "pickle": pickle.dumps(Evil()), "zip": b"PK\x03\x04" + bytes(60), "gzip": b"\x1f\x8b\x08" + bytes(60),
        "jp2": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60),
        "exr": b"v/1\x01" + bytes(60), "hdr": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 60000 +X 60000\n",
        "ppm": b"P6 60000 60000 255\n", "pfm": b"PF\n60000 60000\n-1.0\n",
        "pbm": b"P1 99999 99999\n", "ico": b"\0\0\1\0\xff\xff" + bytes(60), "jpeg-start": b"\xff\xd8\xff",
        "jpeg-huge": b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03\1\x22\0\2\x11\1\3\x11\1",
        "avif": b"\0\0\0\x1cftypavif" + bytes(60), "sun": b"\x59\xa6\x6a\x95" + b"\x7f" * 40,
        "xpm": b'/* XPM */\nstatic char*x[]={"60000 60000 1 1","  c red",',
        "fits": b"SIMPLE  =                    T" + b" " * 100,
    }.items():  # fmt: skip
        made[name] = data
    return made


TARGETS["picture, PNG"] = Target(_pngs, _read_image, ".png", "png", made=_picture_bombs)
TARGETS["picture, JPEG WebP BMP GIF"] = Target(_photos, _read_image, ".jpg")
TARGETS["picture, TIFF"] = Target(_tiffs, _read_image, ".tif")
TARGETS["picture of channels"] = Target(
    lambda folder: [*_tiffs(folder), *_pngs(folder)], _read_channels, ".tif", made=_picture_bombs
)
TARGETS["GeoTIFF by rows"] = Target(_tiffs, _read_raster, ".tif", made=_picture_bombs)
TARGETS["mask"] = Target(
    lambda folder: [*_pngs(folder), *_tiffs(folder)[:6]], _read_label, ".png", "png", made=_picture_bombs
)


def _matlab(_folder: Path) -> Sequence[bytes]:
    import scipy.io

    made = []
    truth = {"Segmentation": np.arange(35, dtype=np.uint8).reshape(5, 7) % 21, "Boundaries": np.zeros((20, 1), object)}
    for packed in (False, True):
        file = io.BytesIO()
        scipy.io.savemat(file, {"GTcls": truth}, do_compression=packed)
        made.append(file.getvalue())
    return made


def _read_matlab(_context: Any, file: Path) -> None:
    from ducseg.data.convert.voc_sbd import read_sbd_mask

    found = read_sbd_mask(file)
    assert found.dtype == np.uint8 and found.ndim == 2 and found.max(initial=0) < 256


TARGETS["SBD's mask, .mat"] = Target(_matlab, _read_matlab, ".mat")
