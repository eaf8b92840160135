"""Decoding only what a window needs gives the bytes of decoding everything, and damage is still seen."""

import io
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ducseg.classes import CAMVID
from ducseg.data.files import png, reading
from ducseg.data.files.reading import open_image, read_image, read_label
from ducseg.data.layouts.camvid import SplitFolders
from ducseg.data.loading import AugmentedDataset
from ducseg.data.sample import Read, Sample, Window
from ducseg.data.transforms import Compose, RandomCrop, RandomMirror, RandomScaleCrop, Transform, transform_unread
from ducseg.errors import UserError


@pytest.fixture(params=["isal", "zlib"])
def unpacker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "isal":
        pytest.importorskip("isal")
    else:
        monkeypatch.setitem(sys.modules, "isal", None)
    png.inflate_module.cache_clear()
    assert (png.inflate_module() is zlib) == (request.param == "zlib")
    yield request.param
    png.inflate_module.cache_clear()


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _png(lines: np.ndarray, *, width: int, colour: int, extra: bytes = b"", stream: bytes | None = None) -> bytes:
    header = struct.pack(">IIBBBBB", width, len(lines), 8, colour, 0, 0, 0)
    packed = zlib.compress(lines.tobytes()) if stream is None else stream
    halves = packed[: len(packed) // 2], packed[len(packed) // 2 :]
    content = b"".join(_chunk(b"IDAT", half) for half in halves)
    return png.PNG_START + _chunk(b"IHDR", header) + extra + content + _chunk(b"IEND", b"")


def _random_lines(height: int, width: int, channels: int, seed: int, kinds: list[int]) -> np.ndarray:
    """Any differences under any filter types are a picture; small ones keep Paeth's three neighbours close."""
    rng = np.random.default_rng(seed)
    lines = rng.integers(-6, 7, (height, 1 + width * channels)).astype(np.uint8)
    lines[rng.random(lines.shape) < 0.1] = rng.integers(0, 256)
    lines[:, 0] = rng.choice(kinds, height)
    return lines


def _by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@given(
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    colour=st.sampled_from([0, 2]),
    seed=st.integers(0, 10_000),
    kinds=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    part=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_every_filter_is_undone_as_pillow_does(
    height: int, width: int, colour: int, seed: int, kinds: list[int], part: tuple[float, float]
) -> None:
    data = _png(_random_lines(height, width, colour + 1, seed, kinds), width=width, colour=colour)
    plain, expected = png.parse(data), _by_pillow(data)
    assert plain is not None
    assert plain.size == (height, width)
    whole = plain.decode()
    assert whole is not None
    np.testing.assert_array_equal(whole, expected)
    rows, columns = (max(1, round(share * side)) for share, side in zip(part, (height, width)))
    first = plain.decode(rows, columns)
    assert first is not None
    assert first.shape == expected.shape
    np.testing.assert_array_equal(first[:rows, :columns], expected[:rows, :columns])


def test_shared_frames_are_what_pillow_reads(shared: Path, unpacker: str) -> None:
    files = sorted((shared / "data" / "cityscapes").rglob("aachen_00000[05]*"))
    for file in [file for file in files if "instanceIds" not in file.name]:
        plain = png.parse(file.read_bytes())
        assert plain is not None
        decoded = plain.decode()
        assert decoded is not None
        np.testing.assert_array_equal(decoded, np.asarray(Image.open(file)))
        read = read_label(file) if plain.channels == 1 else read_image(file)
        np.testing.assert_array_equal(read, decoded)


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA", "I;16", "1"])
def test_other_kinds_of_png_are_left_to_other_decoders(mode: str) -> None:
    buffer = io.BytesIO()
    picture = Image.new("I;16", (8, 6)) if mode == "I;16" else Image.new("RGB", (8, 6)).convert(mode)
    picture.save(buffer, "png")
    assert png.parse(buffer.getvalue()) is None


@pytest.mark.parametrize(
    "extra",
    [
        _chunk(b"tRNS", bytes(6)),
        _chunk(b"eXIf", b"II*\x00"),
        _chunk(b"acTL", bytes(8)),
        _chunk(b"tEXt", b"Raw profile type exif\x00\nexif\n"),
        _chunk(b"gAMA", bytes(4))[:-1] + b"?",
    ],
    ids=["transparency", "EXIF", "animation", "EXIF as text", "checksum"],
)
def test_what_may_change_pixels_is_left_to_other_decoders(extra: bytes) -> None:
    lines = _random_lines(5, 4, 3, 0, [0, 4])
    assert png.parse(_png(lines, width=4, colour=2, extra=_chunk(b"gAMA", bytes(4)))) is not None
    assert png.parse(_png(lines, width=4, colour=2, extra=extra)) is None


def test_damaged_streams_are_seen(unpacker: str) -> None:
    lines = _random_lines(20, 10, 3, 0, [0, 1, 2, 3, 4])
    packed = zlib.compress(lines.tobytes())
    unknown_filter = lines.copy()
    unknown_filter[7, 0] = 5
    streams = {
        "checksum": packed[:-1] + bytes([packed[-1] ^ 1]),
        "cut off": packed[: len(packed) // 2],
        "too long": zlib.compress(lines.tobytes() + b"more"),
        "too short": zlib.compress(lines.tobytes()[:-1]),
        "filter type": zlib.compress(unknown_filter.tobytes()),
        "no stream": b"\xff" * 40,
    }
    for what, stream in streams.items():
        plain = png.parse(_png(lines, width=10, colour=2, stream=stream))
        assert plain is not None
        assert plain.decode() is None, what
    whole = _png(lines, width=10, colour=2)
    assert png.parse(whole[: len(whole) - 20]) is None


@pytest.mark.parametrize("place", [60, 0.3, 0.8])
def test_damage_in_a_large_picture_is_a_user_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: float
) -> None:
    monkeypatch.setattr(reading, "_LARGE", 1)
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "image.png")
    Image.fromarray(noise[..., 0]).save(tmp_path / "label.png")
    for name, read in (("image.png", read_image), ("label.png", read_label)):
        data = bytearray((tmp_path / name).read_bytes())
        data[place if isinstance(place, int) else int(place * len(data))] ^= 0x55
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=name):
            read(tmp_path / name)


def test_pictures_of_other_kinds_open_with_their_size(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(pixels).save(tmp_path / "small.png")
    assert open_image(tmp_path / "turned.jpg").size == (40, 30)
    assert open_image(tmp_path / "small.png").size == (30, 40)
    np.testing.assert_array_equal(open_image(tmp_path / "small.png").read(3, 3), pixels)


# -- transforms --------------------------------------------------------------------------------------------------------


@dataclass
class _Poisoned:
    """An `Unread` that gives noise outside the window it was asked for."""

    sample: Sample

    @property
    def size(self) -> tuple[int, int]:
        return Read(self.sample).size

    def read(self, window: Window) -> Sample:
        inside = np.zeros(self.size, bool)
        inside[window.top : window.bottom, window.left : window.right] = True
        noise = np.random.default_rng(9).integers(0, 256, (*self.size, 3)).astype(np.uint8)
        image = np.where(inside[..., None], self.sample.image, noise)
        assert self.sample.label is not None
        label = np.where(inside, self.sample.label, noise[..., 0]).astype(np.uint8)
        return Sample(image=image, label=label, id=self.sample.id, original_size=self.sample.original_size)


def _scene(height: int, width: int) -> Sample:
    rng = np.random.default_rng(height * 1000 + width)
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    label = rng.integers(0, 11, (height, width)).astype(np.uint8)
    return Sample(image=image, label=label, id="scene", original_size=(height, width))


sizes = st.tuples(st.integers(1, 60), st.integers(1, 60))


@given(full=sizes, window=sizes, scale=st.floats(0.2, 3.0), seed=st.integers(0, 10_000), crop_only=st.booleans())
def test_a_crop_needs_no_more_than_it_asks_for(
    full: tuple[int, int], window: tuple[int, int], scale: float, seed: int, crop_only: bool
) -> None:
    first: Transform = RandomCrop(window) if crop_only else RandomScaleCrop(window, (scale, 1.3 * scale))
    transform = Compose((first, RandomMirror()))
    expected = transform(_scene(*full), np.random.default_rng(seed))
    partly = transform_unread(transform, _Poisoned(_scene(*full)), np.random.default_rng(seed))
    np.testing.assert_array_equal(partly.image, expected.image)
    assert partly.label is not None
    assert expected.label is not None
    np.testing.assert_array_equal(partly.label, expected.label)


def test_other_transforms_get_the_whole_sample() -> None:
    for transform in (RandomMirror(1.0), Compose(()), Compose((RandomMirror(1.0), RandomCrop((8, 8))))):
        expected = transform(_scene(20, 30), np.random.default_rng(1))
        partly = transform_unread(transform, _Poisoned(_scene(20, 30)), np.random.default_rng(1))
        np.testing.assert_array_equal(partly.image, expected.image)


@settings(max_examples=10)
@given(seed=st.integers(0, 1000))
def test_training_samples_are_those_of_whole_frames(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    root = tmp_path_factory.mktemp("data")
    scene = _scene(300, 900)  # large enough to be decoded in part
    for folder, pixels in (("images", scene.image), ("labels", scene.label)):
        (root / folder / "train").mkdir(parents=True)
        assert pixels is not None
        Image.fromarray(pixels).save(root / folder / "train" / "a.png")
    dataset = SplitFolders(root, "train", CAMVID)
    transform = Compose((RandomScaleCrop((64, 96), (0.7, 1.4)), RandomMirror()))
    sample = AugmentedDataset(dataset, transform, seed)[(3, 0)]
    expected = transform(dataset[0], np.random.default_rng([seed, 3, 0]))
    np.testing.assert_array_equal(sample.image, expected.image)
    assert sample.label is not None
    assert expected.label is not None
    np.testing.assert_array_equal(sample.label, expected.label)
    assert sample.original_size == (300, 900)
