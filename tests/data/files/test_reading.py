"""Decoding pictures and labels: what is kept, what is refused, and that damage never passes for data."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ducseg.classes import ClassSet
from ducseg.data.files.reading import check_label, check_same_size, read_image, read_label
from ducseg.errors import UserError

CLASSES = ClassSet(names=("red", "green", "blue"), palette=((200, 0, 0), (0, 200, 0), (0, 0, 200)))


def _smooth(height: int = 40, width: int = 60) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height))


def _label(height: int = 12, width: int = 17) -> np.ndarray:
    values = np.random.default_rng(1).integers(0, 3, (height, width)).astype(np.uint8)
    values[0, :3] = 255
    return values


# -- images ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_lossless_picture_is_read_as_rgb(tmp_path: Path, suffix: str) -> None:
    pixels = _smooth()
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}")
    read = read_image(tmp_path / f"a{suffix}")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, pixels)


def test_jpeg_is_read_as_rgb(tmp_path: Path) -> None:
    pixels = np.zeros((32, 32, 3), dtype=np.uint8)
    pixels[..., 0] = 220  # red: swapped channels would be blue
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - pixels).max() <= 3


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    grey = _smooth()[..., 0]
    Image.fromarray(grey).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.repeat(grey[..., None], 3, axis=2))


def test_alpha_is_dropped_and_palettes_are_expanded(tmp_path: Path) -> None:
    pixels = _smooth()
    alpha = np.random.default_rng(2).integers(0, 256, pixels.shape[:2], dtype=np.uint8)
    Image.fromarray(np.dstack([pixels, alpha])).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), pixels)
    Image.fromarray(pixels).quantize(16).save(tmp_path / "palette.png")
    with Image.open(tmp_path / "palette.png") as picture:
        expanded = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), expanded)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    Image.fromarray(_smooth(40, 60)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (60, 40, 3)


def test_paths_may_hold_any_letters(tmp_path: Path) -> None:
    folder = tmp_path / "Straße 東京 été"
    folder.mkdir()
    Image.fromarray(_smooth()).save(folder / "bild ä.png")
    Image.fromarray(_label()).save(folder / "maske ö.png")
    np.testing.assert_array_equal(read_image(folder / "bild ä.png"), _smooth())
    np.testing.assert_array_equal(read_label(folder / "maske ö.png"), _label())


def test_16_bit_images_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), (_smooth().astype(np.uint16) * 16))
    with pytest.raises(UserError, match=r"a\.png: found uint16 channels; needed 8 bits"):
        read_image(tmp_path / "a.png")


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.95, 0.995])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "progressive.jpg", "a.bmp", "a.tif"])
def test_truncated_files_are_refused(tmp_path: Path, name: str, kept: float) -> None:
    path = tmp_path / name
    options = {"progressive": True} if name.startswith("prog") else {}
    Image.fromarray(_smooth(120, 200)).save(path, **options)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(UserError, match=name):
        read_image(path)
    with pytest.raises(UserError, match=name):
        read_label(path)


@pytest.mark.parametrize("tail", [b"\x00" * 20, b"maker notes" * 50])
def test_bytes_after_the_end_do_no_harm(tmp_path: Path, tail: bytes) -> None:
    Image.fromarray(_smooth()).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(_smooth()).save(tmp_path / "a.png")
    for path in (tmp_path / "a.jpg", tmp_path / "a.png"):
        expected = read_image(path)
        path.write_bytes(path.read_bytes() + tail)
        np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize("read", [read_image, read_label])
def test_missing_empty_and_foreign_files_are_named(tmp_path: Path, read: object) -> None:
    assert callable(read)
    with pytest.raises(UserError, match=r"none\.png: found No such file"):
        read(tmp_path / "none.png")
    (tmp_path / "empty.png").touch()
    with pytest.raises(UserError, match=r"empty\.png: found 0 bytes"):
        read(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("<html>404</html>")
    with pytest.raises(UserError, match=r"text\.png: found damaged, truncated or no picture"):
        read(tmp_path / "text.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match=r"folder\.png"):
        read(tmp_path / "folder.png")


@settings(max_examples=50)
@given(
    suffix=st.sampled_from(["png", "jpg", "bmp", "tif", "webp"]),
    edits=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.floats(0.01, 1.0),
)
def test_damage_is_a_user_error_or_a_picture(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, edits: list[tuple[float, int]], cut: float
) -> None:
    path = tmp_path_factory.mktemp("damage") / f"a.{suffix}"
    Image.fromarray(_smooth(20, 30)).save(path)
    data = bytearray(path.read_bytes())
    for place, value in edits:
        data[int(place * len(data))] = value
    path.write_bytes(data[: int(len(data) * cut)])
    for read in (read_image, read_label):
        try:
            assert read(path).dtype == np.uint8
        except UserError as error:
            assert str(path) in str(error)


# -- labels ------------------------------------------------------------------------------------------------------------


def _save_palette(path: Path, values: np.ndarray, palette: list[tuple[int, int, int]]) -> None:
    picture = Image.fromarray(values).convert("L")
    picture.putpalette([channel for colour in palette for channel in colour])
    picture.save(path)
    with Image.open(path) as written:
        assert written.mode == "P"


def test_grey_and_palette_labels_keep_their_values(tmp_path: Path) -> None:
    label = _label()
    Image.fromarray(label).save(tmp_path / "grey.png")
    _save_palette(tmp_path / "palette.png", label, [(i, 255 - i, 7) for i in range(256)])
    _save_palette(tmp_path / "few.png", label % 3, [(9, 9, 9), (3, 3, 3), (7, 0, 0)])  # Pillow writes 2 bits a pixel
    np.testing.assert_array_equal(read_label(tmp_path / "grey.png"), label)
    np.testing.assert_array_equal(read_label(tmp_path / "palette.png"), label)
    np.testing.assert_array_equal(read_label(tmp_path / "few.png"), label % 3)


def test_shared_voc_masks_are_their_indices(shared: Path) -> None:
    values = np.unique(read_label(next((shared / "data" / "voc2012" / "masks").glob("2007_000032*"))))
    assert values.tolist() == [0, 1, 15, 255]  # aeroplane, person, border


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_low_bit_grey_labels_are_not_stretched(tmp_path: Path, depth: int) -> None:
    label = np.arange(8 * 16).reshape(8, 16).astype(np.uint8) % (2**depth)
    bits = np.unpackbits(label[..., None], axis=2)[..., 8 - depth :].reshape(8, -1)
    (tmp_path / "a.png").write_bytes(_grey_png(np.packbits(bits, axis=1), width=16, depth=depth))
    np.testing.assert_array_equal(read_label(tmp_path / "a.png"), label)


def _grey_png(rows: np.ndarray, *, width: int, depth: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, len(rows), depth, 0, 0, 0, 0)
    lines = b"".join(b"\x00" + row.tobytes() for row in rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def test_16_bit_labels_pass_only_where_they_fit_8_bits(tmp_path: Path) -> None:
    label = _label().astype(np.uint16)
    cv2.imwrite(str(tmp_path / "fits.png"), label)
    np.testing.assert_array_equal(read_label(tmp_path / "fits.png"), label)
    label[3, :4] = 26001
    cv2.imwrite(str(tmp_path / "instances.png"), label)
    with pytest.raises(
        UserError, match=r"instances\.png: found 16-bit values up to 26001 \(4 pixels outside 0\.\.255\)"
    ):
        read_label(tmp_path / "instances.png")


def test_colour_and_jpeg_labels_are_refused_with_the_way_on(tmp_path: Path) -> None:
    Image.fromarray(_smooth()).save(tmp_path / "rgb.png")
    with pytest.raises(
        UserError, match=r"rgb\.png: found RGB pixels; .*Export index masks, or read it as a colour mask"
    ):
        read_label(tmp_path / "rgb.png")
    Image.fromarray(_label()).save(tmp_path / "a.jpg")
    with pytest.raises(UserError, match=r"a\.jpg: found a JPEG; .*Export masks as PNG"):
        read_label(tmp_path / "a.jpg")


# -- checks ------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 255), st.lists(st.integers(0, 255), min_size=1, max_size=40))
def test_check_label_accepts_exactly_the_classes_and_255(num_classes: int, values: list[int]) -> None:
    label = np.array([values], dtype=np.uint8)
    if all(value < num_classes or value == 255 for value in values):
        check_label(label, num_classes, "x")
    else:
        with pytest.raises(UserError, match="label of x"):
            check_label(label, num_classes, "x")


def test_check_label_names_file_value_and_pixels() -> None:
    label = _label()
    label[2, :6], label[3, 0] = 19, 77
    with pytest.raises(
        UserError, match=r"frame \(dir.f\.png\): found value 19 in 6 pixels, value 77 in 1 pixels; needed 0\.\.18"
    ):
        check_label(label, 19, "frame", path=Path("dir/f.png"))


def test_sizes_must_agree() -> None:
    with pytest.raises(
        UserError, match=r"label b\.png: found 12 x 17 pixels \(H x W\); needed 40 x 60, the size of a\.png"
    ):
        check_same_size((40, 60), _label(), Path("a.png"), Path("b.png"))
