"""Directories of TIFFs that say two things, lie over one another, or lead to more than the file: refused at once."""

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ducseg.data.files.header import read_header
from ducseg.data.files.reading import decode_image
from ducseg.errors import UserError

NAME = Path("x.tif")


def _grey(height: int, width: int, before: dict[int, int], after: dict[int, int]) -> bytes:
    """An uncompressed TIFF of grey with more tags before or after its own."""
    own = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: height, 279: height * width}
    tags = [*before.items(), *own.items(), *after.items()]
    place = 8 + 2 + 12 * len(tags) + 4
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, place if tag == 273 else value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    return head + rows + bytes(4) + bytes(height * width)


@given(
    tag=st.sampled_from([256, 257, 258, 277]), value=st.integers(1, 9), first=st.booleans(), height=st.integers(10, 40)
)
def test_a_size_that_is_said_twice_is_refused(tag: int, value: int, first: bool, height: int) -> None:
    """Decoders differ in which of them counts: one would be compared with a limit, the other decoded."""
    decode_image(_grey(height, 20, {}, {}), NAME)
    more = {tag: value}
    with pytest.raises(UserError, match="directory"):
        decode_image(_grey(height, 20, more if first else {}, {} if first else more), NAME)


def test_directories_over_one_another_are_refused() -> None:
    """1 MB that would else be 10,000 directories of 60,000 tags."""
    pages, entries = 10_000, 60_000
    data = bytearray(8 + 28 * pages + 12 * entries + 10)
    data[:8] = b"II*\0" + struct.pack("<I", 8)
    for page in range(pages):
        place = 8 + 14 * page
        struct.pack_into("<H", data, place, entries)
        struct.pack_into("<I", data, place + 2 + 12 * entries, place + 14 if page + 1 < pages else 0)
    with pytest.raises(UserError, match="directory"):
        read_header(bytes(data), NAME)


def test_what_nobody_asks_for_is_not_read() -> None:
    """20,000 tags of 1024 numbers each, all at one place of a file of 240 kB."""
    tags = [(256, 4, 1, 8), (257, 4, 1, 8), *((1000 + n, 4, 1024, 10) for n in range(20_000))]
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", *one) for one in tags) + bytes(4)
    tracemalloc.start()
    try:
        assert read_header(data, NAME).size == (8, 8)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(data)
    finally:
        tracemalloc.stop()


def test_a_list_of_other_files_is_no_picture(tmp_path: Path) -> None:
    """GDAL would open what a VRT names, whatever it is called: files elsewhere, addresses."""
    rasterio = pytest.importorskip("rasterio")
    from ducseg.data.files.rasters import open_placed

    other = tmp_path / "other.tif"
    place = rasterio.Affine(1, 0, 500, 0, -1, 900)
    with rasterio.open(other, "w", driver="GTiff", height=8, width=8, count=1, dtype="uint8", transform=place) as file:
        file.write(np.full((1, 8, 8), 77, np.uint8))
    band = f"<SimpleSource><SourceFilename>{other}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>"
    band = f'<VRTRasterBand dataType="Byte" band="1">{band}</VRTRasterBand>'
    for suffix in ("png", "jpg", "tif"):
        picture = tmp_path / f"picture.{suffix}"
        picture.write_text(f'<VRTDataset rasterXSize="8" rasterYSize="8">{band}</VRTDataset>')
        with pytest.raises(UserError, match="picture"), open_placed(picture):
            pass
    with open_placed(other) as raster:
        assert raster.size == (8, 8)
