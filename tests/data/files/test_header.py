"""A file's header decides: refused for its real reason, before memory is taken; turned as a viewer turns it."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ducseg.classes import ClassSet
from ducseg.data import paired
from ducseg.data.check.files import Examiner, Pair
from ducseg.data.files.channels import Pixels, fill_undefined, read_channels, stored_pixels
from ducseg.data.files.header import read_header
from ducseg.data.files.rasters import open_raster
from ducseg.data.files.reading import picture_size, read_image, read_label
from ducseg.data.layouts.layout import LabelRules
from ducseg.data.layouts.mask_files import read_mask
from ducseg.data.paired import PairedFiles
from ducseg.errors import UserError

CLASSES = ClassSet(names=("a", "b"), palette=((0, 0, 0), (9, 9, 9)))
SHAPES = {
    np.dtype(kind): "uif".index(np.dtype(kind).kind) + 1
    for kind in (
        np.uint8,
        np.uint16,
        np.uint32,
        np.int8,
        np.int16,
        np.int32,
        np.int64,
        np.float16,
        np.float32,
        np.float64,
    )
}


SHOWN = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored),
}
"""EXIF 2.3, Orientation: which side of the scene the stored first row and column are."""


def _smooth(height: int = 24, width: int = 40) -> np.ndarray:
    return cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8), (width, height))


def _tiff(pages: list[np.ndarray], *, order: str = "<", big: bool = False, extra: int = 0, copies: int = 0) -> bytes:
    """An uncompressed TIFF of pages (H, W, C), the last `copies` marked as smaller ones of the first.

    `extra` says what samples beyond the first or third are: 0 anything, 2 alpha.
    """
    word, room = ("Q", 8) if big else ("I", 4)
    data = bytearray(b"II" if order == "<" else b"MM")
    data += struct.pack(f"{order}HHH", 43, 8, 0) if big else struct.pack(f"{order}H", 42)
    link = len(data)
    data += bytes(room)
    for number, page in enumerate(pages):
        height, width, samples = page.shape
        colours = 3 if samples >= 3 else 1
        tags = {254: [int(number >= len(pages) - copies)], 256: [width], 257: [height]}
        tags |= {258: [8 * page.itemsize] * samples}
        tags |= {259: [1], 262: [2 if colours == 3 else 1], 273: [len(data)], 277: [samples], 278: [height]}
        tags |= {279: [page.nbytes], 339: [SHAPES[page.dtype]] * samples}
        tags |= {338: [extra] * (samples - colours)} if samples > colours else {}
        data += page.astype(page.dtype.newbyteorder(order)).tobytes()
        entries = b""
        for tag, values in sorted(tags.items()):
            packed = struct.pack(f"{order}{len(values)}H", *values) if tag in (258, 338, 339) else b""
            packed = packed or struct.pack(f"{order}{len(values)}I", *values)
            kind = 3 if tag in (258, 338, 339) else 4
            if len(packed) > room:
                place, data = len(data), data + packed
                packed = struct.pack(order + word, place)
            entries += struct.pack(f"{order}HH{word}", tag, kind, len(values)) + packed.ljust(room, b"\0")
        struct.pack_into(order + word, data, link, len(data))
        data += struct.pack(order + ("Q" if big else "H"), len(tags)) + entries
        link = len(data)
        data += bytes(room)
    return bytes(data)


# -- JPEG damage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["baseline", "progressive", "grey", "CMYK"])
@pytest.mark.parametrize("damage", ["zeros", "ones", "noise", "end"])
def test_a_corrupt_stretch_of_a_jpeg_is_refused(tmp_path: Path, kind: str, damage: str) -> None:
    rng = np.random.default_rng(1)
    picture = Image.fromarray(cv2.resize(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8), (400, 300)))
    picture = picture.convert({"grey": "L", "CMYK": "CMYK"}.get(kind, "RGB"))
    picture.save(tmp_path / "a.jpg", quality=90, progressive=kind == "progressive")
    read_image(tmp_path / "a.jpg")
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    start, stop = len(data) // 2, len(data) * 6 // 10
    noise = rng.integers(0, 256, stop - start, dtype=np.uint8).tobytes()
    data[start:stop] = {"zeros": bytes(stop - start), "ones": b"\xff" * (stop - start), "noise": noise}.get(damage, b"")
    (tmp_path / "a.jpg").write_bytes(data[:start] + b"\xff\xd9" if damage == "end" else data)
    with pytest.raises(UserError, match=r"a\.jpg: found damaged, truncated or no picture \(.*; needed a whole"):
        read_image(tmp_path / "a.jpg")


def test_jpegs_are_what_opencv_and_pillow_read(tmp_path: Path, shared: Path) -> None:
    files = sorted((shared / "data" / "voc2012").rglob("*.jpg"))[:5] + sorted((shared / "data").rglob("*.jpg"))[::900]
    for file in files:
        read = read_image(file)
        np.testing.assert_array_equal(read, cv2.imread(str(file))[..., ::-1])
        np.testing.assert_array_equal(read, np.asarray(Image.open(file).convert("RGB")))


def test_cmyk_is_read_as_a_viewer_shows_it(tmp_path: Path) -> None:
    Image.new("CMYK", (30, 20), (10, 200, 3, 0)).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg")[5, 5].astype(int) - (245, 55, 252)).max() <= 4


# -- EXIF --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_pictures_and_masks_are_read_as_a_viewer_shows_them(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    for pixels, read in ((_smooth(), read_image), (_smooth()[..., 0], read_label)):
        if read is read_label and suffix in ("jpg", "webp"):
            continue
        Image.fromarray(pixels).save(path, exif=exif, **options)
        if suffix == "jpg":
            pixels = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        expected = SHOWN[orientation](pixels)
        np.testing.assert_array_equal(read(path), expected)
        assert picture_size(path) == expected.shape[:2]


@pytest.mark.parametrize(
    ("orientation", "size", "says"),
    [(1, (8, 8), False), (2, (24, 40), True), (3, (24, 40), True), (6, (24, 40), False), (8, (24, 24), True)],
)
def test_a_turned_picture_whose_mask_may_be_otherwise_is_said_once(
    tmp_path: Path, orientation: int, size: tuple[int, int], says: bool
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(_smooth(*size)).save(tmp_path / "a.jpg", exif=exif)
    mask = np.zeros(size[::-1] if orientation > 4 else size, np.uint8)
    Image.fromarray(mask).save(tmp_path / "a.png")
    dataset = PairedFiles(CLASSES, dict.fromkeys("xy", (tmp_path / "a.jpg", tmp_path / "a.png")))
    paired._say_turned.cache_clear()
    if says:
        with pytest.warns(UserWarning, match="read as a viewer shows them, .*masks must be drawn that way"):
            dataset[0]
    dataset[1]  # warnings are errors here
    pair = Pair(split="", id="a", image=tmp_path / "a.jpg", label=tmp_path / "a.png")
    assert [one.kind for one in Examiner(LabelRules(classes=CLASSES))(pair).problems] == ["unusual mode"] * says
    if size[0] != size[1] and orientation > 4:
        Image.fromarray(mask.T.copy()).save(tmp_path / "a.png")
        (problem,) = Examiner(LabelRules(classes=CLASSES))(pair).problems
        assert "Is the picture shown turned (EXIF)" in problem.message and "resize" not in problem.message


# -- TIFF --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
def test_tiffs_of_one_page_are_read(tmp_path: Path, order: str, big: bool) -> None:
    for pixels in (_smooth(), _smooth()[..., :1]):
        (tmp_path / "a.tif").write_bytes(_tiff([pixels], order=order, big=big))
        header = read_header((tmp_path / "a.tif").read_bytes(), tmp_path)
        assert (header.size, header.channels, header.dtype, header.pages) == ((24, 40), pixels.shape[2], "uint8", 1)
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), np.broadcast_to(pixels, (24, 40, 3)))
    np.testing.assert_array_equal(read_label(tmp_path / "a.tif"), pixels[..., 0])


@pytest.mark.parametrize("bands", [2, 4, 5, 12])
def test_other_numbers_of_bands_are_refused_unless_the_last_is_alpha(tmp_path: Path, bands: int) -> None:
    pixels = np.dstack([_smooth()] * 4)[..., :bands]
    (tmp_path / "a.tif").write_bytes(_tiff([pixels]))
    with pytest.raises(UserError, match=rf"a\.tif: found {bands} bands; needed 1 \(grey\) or 3 .*Choose three"):
        read_image(tmp_path / "a.tif")
    if bands == 4:
        (tmp_path / "a.tif").write_bytes(_tiff([pixels], extra=2))
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), _smooth())


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32])
@pytest.mark.parametrize("bands", [1, 3, 7])
def test_more_than_8_bits_are_named(tmp_path: Path, dtype: type, bands: int) -> None:
    (tmp_path / "a.tif").write_bytes(_tiff([np.ones((6, 8, bands), dtype)]))
    with pytest.raises(UserError, match=rf"a\.tif: found {np.dtype(dtype)} channels; needed 8 bits"):
        read_image(tmp_path / "a.tif")


def test_float_masks_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(_tiff([np.ones((6, 8, 1), np.float32)]))
    with pytest.raises(UserError, match=r"label .*a\.tif: found float32 values; needed whole numbers"):
        read_label(tmp_path / "a.tif")


def test_animations_are_refused_as_stacks_are(tmp_path: Path) -> None:
    """Whatever the format; a PNG of one frame, and one cut off before its pixels, are what they were."""
    frames = [Image.fromarray(_smooth() + np.uint8(80 * turn)) for turn in range(3)]
    for suffix in ("png", "webp", "gif", "tif"):
        frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
        for read in (read_image, read_label, read_channels, read_mask):
            with pytest.raises(UserError, match=rf"a\.{suffix}: found a stack of 3 pages; needed one picture a file"):
                read(tmp_path / f"a.{suffix}")
    frames[0].save(tmp_path / "one.png", save_all=True)
    np.testing.assert_array_equal(read_image(tmp_path / "one.png"), _smooth())
    data = (tmp_path / "a.png").read_bytes()
    for length in range(26, 60):
        assert read_header(data[:length], tmp_path / "a.png").pages in (1, 3)


@pytest.mark.parametrize("photometric", ["MINISBLACK", "MINISWHITE", "PALETTE"])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_tiffs_of_few_bits_are_read_whole_and_by_windows(tmp_path: Path, bits: int, photometric: str) -> None:
    rasterio = pytest.importorskip("rasterio")
    file, stored = tmp_path / "a.tif", np.random.default_rng(bits).integers(0, 2**bits, (20, 24), np.uint8)
    how = {"driver": "GTiff", "height": 20, "width": 24, "count": 1, "dtype": "uint8", "nbits": bits}
    with rasterio.open(
        file, "w", photometric=photometric, transform=rasterio.Affine(2, 0, 5, 0, -2, 9), **how
    ) as target:
        target.write(stored, 1)
        if photometric == "PALETTE":
            target.write_colormap(1, {value: (7 * value, 13 * value, 15 * value, 255) for value in range(2**bits)})
    values = 2**bits - 1 - stored if photometric == "MINISWHITE" else stored
    colours = (7, 13, 15) if photometric == "PALETTE" else (255 // (2**bits - 1),) * 3
    expected = values[..., None] * np.array(colours, np.uint8)
    np.testing.assert_array_equal(read_image(file), expected)
    np.testing.assert_array_equal(read_label(file), values)
    np.testing.assert_array_equal(read_mask(file).pixels, values)
    with open_raster(file) as raster:
        np.testing.assert_array_equal(np.concatenate([raster.rows(0, 7), raster.rows(7, 20)]), expected)
    with open_raster(file, Pixels(1, "uint8")) as raster:
        np.testing.assert_array_equal(raster.rows(0, 20), read_channels(file))
        np.testing.assert_array_equal(raster.rows(0, 20)[..., 0], values)


@pytest.mark.parametrize(("bits", "bands"), [(5, 1), (4, 3), (1, 3)])
def test_other_numbers_of_bits_are_named(tmp_path: Path, bits: int, bands: int) -> None:
    rasterio = pytest.importorskip("rasterio")
    how = {"driver": "GTiff", "height": 6, "width": 8, "count": bands, "dtype": "uint8", "nbits": bits}
    with rasterio.open(tmp_path / "a.tif", "w", transform=rasterio.Affine(2, 0, 5, 0, -2, 9), **how) as target:
        target.write(np.ones((bands, 6, 8), np.uint8))
    for read in (read_image, read_label, read_mask, lambda path: open_raster(path).__enter__()):
        with pytest.raises(UserError, match=f"found {bands} channels of {bits} bits; .*gdal_translate -ot Byte"):
            read(tmp_path / "a.tif")


def test_stacks_are_refused_and_smaller_copies_are_not(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(_tiff([_smooth(), _smooth(), _smooth()]))
    Image.new("L", (5, 4)).save(tmp_path / "a.gif", save_all=True, append_images=[Image.new("L", (5, 4), 9)])
    for name, pages in (("a.tif", 3), ("a.gif", 2)):
        for read in (read_image, read_label):
            with pytest.raises(UserError, match=rf"{name}: found a stack of {pages} pages; needed one picture a file"):
                read(tmp_path / name)
    (tmp_path / "a.tif").write_bytes(_tiff([_smooth(), _smooth()[::2, ::2]], copies=1))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), _smooth())


# -- bounds ------------------------------------------------------------------------------------------------------------


def _empty_png(height: int, width: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 + width)) for _ in range(min(height, 2000))) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(40_000, 30_000), (178_956_971, 1), (1 << 30, 1 << 30)])
def test_a_small_file_of_a_huge_picture_takes_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    (tmp_path / "a.png").write_bytes(_empty_png(size[0], min(size[1], 1000)) if size[1] < 2 else _huge(size))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    for read in (read_image, read_label):
        with pytest.raises(UserError, match=rf"found {size[0]} x {size[1]} pixels .* needed 1 pixel to 179 megapixels"):
            read(tmp_path / "a.png")


def _huge(size: tuple[int, int]) -> bytes:
    data = bytearray(_empty_png(10, 10))
    data[16:24] = struct.pack(">II", size[1], size[0])
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp", "gif"])
def test_the_limit_holds_for_every_kind_and_can_be_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    Image.fromarray(_smooth()).save(tmp_path / f"a.{suffix}")
    monkeypatch.setenv("DUCSEG_MAX_PIXELS", "959")
    with pytest.raises(UserError, match=r"found 24 x 40 pixels .*set DUCSEG_MAX_PIXELS=960"):
        read_image(tmp_path / f"a.{suffix}")
    monkeypatch.setenv("DUCSEG_MAX_PIXELS", "960")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's own limit is not in the way, and stays as it was
    assert read_image(tmp_path / f"a.{suffix}").shape == (24, 40, 3)
    assert Image.MAX_IMAGE_PIXELS == 10
    monkeypatch.setenv("DUCSEG_MAX_PIXELS", "many")
    with pytest.raises(UserError, match="DUCSEG_MAX_PIXELS: found 'many'; needed a positive whole number"):
        read_image(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2", "a video; .*ducseg predict takes videos"),
        (b"RIFF\x24\0\0\0AVI LIST", "a video"),
        (b"\x1aE\xdf\xa3\x01\0\0\0", "a video"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC or AVIF photo; .*Convert it"),
        (b"\x93NUMPY\x01\0", "a numpy array"),
        (b"\0" * 128 + b"DICM", "a DICOM file"),
        (b"%PDF-1.7", "a PDF"),
        (b"PK\x03\x04", "an archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
    ],
)
def test_files_that_are_no_pictures_are_called_what_they_are(tmp_path: Path, start: bytes, what: str) -> None:
    (tmp_path / "a.png").write_bytes(start + bytes(200))
    for read in (read_image, read_label, picture_size):
        with pytest.raises(UserError, match=rf"a\.png: found {what}"):
            read(tmp_path / "a.png")


# -- channels as they are ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 12, 16])
@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), (">", True)])
def test_channels_are_read_as_they_are(tmp_path: Path, dtype: type, channels: int, order: str, big: bool) -> None:
    pytest.importorskip("rasterio")
    pixels = (np.random.default_rng(0).random((9, 13, channels)) * 250).astype(dtype)
    (tmp_path / "a.tif").write_bytes(_tiff([pixels], order=order, big=big))
    read = read_channels(tmp_path / "a.tif")
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.uint32, np.float16, np.float64])
@pytest.mark.parametrize("channels", [1, 5])
def test_signed_wide_and_double_numbers_become_float32(tmp_path: Path, dtype: type, channels: int) -> None:
    pytest.importorskip("rasterio")
    least = 0 if dtype is np.uint32 else -100
    pixels = (np.random.default_rng(0).random((9, 13, channels)) * 200 + least).astype(dtype)
    if dtype is np.float64:
        pixels[0, 0] = -np.finfo(np.float64).max  # as "no data" is written
    path = tmp_path / "a.tif"
    path.write_bytes(_tiff([pixels]))
    assert stored_pixels(path) == Pixels(channels, "float32")
    read = read_channels(path)
    assert (read.dtype == np.float32 and read.min() < 0) or dtype is np.uint32
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(read, pixels.astype(np.float32))
    with open_raster(path, Pixels(channels, "float32")) as raster:
        filled = read.copy()
        fill_undefined(filled, path)
        np.testing.assert_array_equal(raster.rows(0, 9), filled)


def test_channels_of_other_kinds_and_without_alpha(tmp_path: Path) -> None:
    pytest.importorskip("rasterio")
    rgb16 = np.random.default_rng(0).integers(0, 65536, (9, 13, 3)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), rgb16[..., ::-1])
    np.testing.assert_array_equal(read_channels(tmp_path / "a.png"), rgb16)
    cv2.imwrite(str(tmp_path / "grey.png"), rgb16[..., 0])
    np.testing.assert_array_equal(read_channels(tmp_path / "grey.png"), rgb16[..., :1])
    for suffix in ("png", "jpg", "bmp", "webp"):
        Image.fromarray(_smooth()).save(tmp_path / f"b.{suffix}")
        np.testing.assert_array_equal(read_channels(tmp_path / f"b.{suffix}"), read_image(tmp_path / f"b.{suffix}"))
    Image.fromarray(_smooth()[..., 0]).save(tmp_path / "b.jpg")
    assert read_channels(tmp_path / "b.jpg").shape == (24, 40, 1)
    four = np.dstack([_smooth(), _smooth()[..., :1]])
    (tmp_path / "alpha.tif").write_bytes(_tiff([four], extra=2))
    np.testing.assert_array_equal(read_channels(tmp_path / "alpha.tif"), _smooth())
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(_smooth()).save(tmp_path / "turned.tif", exif=exif)
    np.testing.assert_array_equal(read_channels(tmp_path / "turned.tif"), np.rot90(_smooth(), -1))


def test_channels_that_are_not_taken(tmp_path: Path) -> None:
    pytest.importorskip("rasterio")
    path = tmp_path / "a.tif"
    path.write_bytes(_tiff([np.ones((6, 8, 17), np.uint8)]))
    with pytest.raises(UserError, match="found 17 channels of uint8; needed 1 to 16 of uint8, uint16, float32"):
        read_channels(path)
    path.write_bytes(_tiff([np.ones((6, 8, 2), np.int64)]))
    with pytest.raises(UserError, match="found 2 channels of int64"):
        read_channels(path)
    whole = _tiff([np.ones((60, 80, 5), np.float32)])
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"a\.tif"):
        read_channels(path)
    with pytest.raises(UserError, match="No such file"):
        read_channels(tmp_path / "none.tif")
