"""The fast decoder of plain PNGs gives the bytes of Pillow's, leaves the others alone and sees damage."""

import io
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ducseg.data.files import png, reading
from ducseg.data.files.reading import picture_size, read_image, read_label
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
)
def test_every_filter_is_undone_as_pillow_does(
    height: int, width: int, colour: int, seed: int, kinds: list[int]
) -> None:
    data = _png(_random_lines(height, width, colour + 1, seed, kinds), width=width, colour=colour)
    plain, expected = png.parse(data), _by_pillow(data)
    assert plain is not None
    assert plain.size == (height, width)
    whole = plain.decode()
    assert whole is not None
    np.testing.assert_array_equal(whole, expected)


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


def test_the_header_says_the_size_that_reading_gives(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(pixels).save(tmp_path / "small.png")
    for name, size in (("turned.jpg", (40, 30)), ("small.png", (30, 40))):
        assert picture_size(tmp_path / name) == size == read_image(tmp_path / name).shape[:2]
    (tmp_path / "none.png").write_bytes(b"none")
    with pytest.raises(UserError, match=r"none\.png"):
        picture_size(tmp_path / "none.png")


@pytest.mark.parametrize("channels", [None, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_is_encoded_reads_again(dtype: type, channels: int | None) -> None:
    shape = (5, 7) if channels is None else (5, 7, channels)
    picture = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    found = cv2.imdecode(np.frombuffer(png.encode_png(picture), np.uint8), cv2.IMREAD_UNCHANGED)
    order = slice(None) if channels is None else [2, 1, 0, 3][:channels]
    assert np.array_equal(found if channels is None else found[..., order], picture)
