"""TIFFs by rows: what GDAL's own tools see of them, and the same pixels as whole pictures have."""

import errno
import os
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ducseg.data.files import header
from ducseg.data.files.channels import RGB, Pixels, read_channels
from ducseg.data.files.header import UnreadableError, tiff_header
from ducseg.data.files.raster_writing import write_raster
from ducseg.data.files.rasters import check_same_place, is_placed, is_raster, open_placed, open_raster, without_data
from ducseg.data.files.reading import read_image, read_label
from ducseg.errors import UserError

rasterio = pytest.importorskip("rasterio")
UTM = {"crs": "EPSG:32633", "transform": rasterio.Affine(2, 0, 500_000, 0, -2, 4_000_000)}
WORLD_FILE = "0.5\n0\n0\n-0.5\n400000.25\n5999999.75\n"


def write(path: Path, pixels: Any, **options: Any) -> Path:
    """Pixels (bands, H, W) as a TIFF."""
    count, height, width = pixels.shape
    how = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": pixels.dtype.name, **options}
    palette = how.pop("palette", None)
    with warnings.catch_warnings(action="ignore"), rasterio.open(path, "w", **how) as target:
        if palette is not None:
            target.write_colormap(1, palette)
        target.write(pixels)
    return path


def noise(bands: int, height: int = 70, width: int = 53) -> Any:
    return np.random.default_rng(0).integers(1, 256, (bands, height, width), np.uint8)


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("tiled", [False, True])
def test_rows_are_the_whole_pictures(tmp_path: Path, bands: int, tiled: bool) -> None:
    layout = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"} if tiled else {}
    path = write(tmp_path / "x.tif", noise(bands), **UTM, **layout)
    whole = read_image(path)
    with open_raster(path) as raster:
        assert raster.size == (70, 53)
        assert (raster.place.name, tuple(raster.place.transform)[:6]) == ("EPSG:32633", (2, 0, 5e5, 0, -2, 4e6))
        assert raster.known(0, 70) is None
        for begin, end in ((0, 70), (0, 1), (15, 33), (69, 70)):
            assert np.array_equal(raster.rows(begin, end), whole[begin:end])


@pytest.mark.parametrize("placed", [False, True])
def test_grey_whose_zero_is_white_is_no_negative(tmp_path: Path, placed: bool) -> None:
    stored = noise(1)
    path = write(tmp_path / "x.tif", stored, photometric="MINISWHITE", **(UTM if placed else {}))
    shown = 255 - stored[0]
    assert np.array_equal(read_image(path)[..., 0], shown)
    assert np.array_equal(read_channels(path)[..., 0], shown)
    for pixels in (RGB, Pixels(1, "uint8")):
        with open_raster(path, pixels) as raster:
            assert np.array_equal(raster.rows(3, 70)[..., 0], shown[3:])
            assert np.array_equal(raster.reduced(1)[..., 0], shown)


def test_nodata_alpha_and_masks_say_where_nothing_is_known(tmp_path: Path) -> None:
    pixels = noise(3)
    pixels[:, :20] = 0
    with open_raster(write(tmp_path / "nodata.tif", pixels, nodata=0, **UTM)) as raster:
        assert np.array_equal(raster.known(10, 30), np.repeat(np.arange(10, 30)[:, None] >= 20, 53, 1))
    alpha = np.concatenate([noise(3), np.full((1, 70, 53), 255, np.uint8)])
    alpha[3, :, 50:] = 0
    path = write(tmp_path / "alpha.tif", alpha, photometric="RGB", ALPHA="YES", **UTM)
    with open_raster(path) as raster:
        known = raster.known(0, 70)
        assert known is not None
        assert known[:, :50].all() > known[:, 50:].any()
        assert np.array_equal(raster.rows(0, 70), np.moveaxis(alpha[:3], 0, 2)), "three bands, not four"


def test_palettes_are_expanded(tmp_path: Path) -> None:
    indices = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    palette = {value: (value, 255 - value, 7) for value in range(256)}
    path = write(tmp_path / "x.tif", indices, palette=palette, **UTM)
    with open_raster(path) as raster:
        assert raster.rows(1, 2).tolist() == [[[value, 255 - value, 7] for value in range(4, 8)]]
        assert np.array_equal(raster.rows(0, 3), read_image(path))


def test_reduced_is_the_mean_of_what_each_pixel_stands_for(tmp_path: Path) -> None:
    pixels = noise(3, 1300, 60)
    with open_raster(write(tmp_path / "x.tif", pixels, **UTM)) as raster:
        expected = pixels.reshape(3, 325, 4, 15, 4).mean((2, 4))
        assert np.abs(np.moveaxis(raster.reduced(4).astype(float), 2, 0) - expected).max() <= 1
        assert raster.reduced(7).shape == (186, 9, 3)
        assert np.array_equal(raster.reduced(1), raster.rows(0, 1300))


def test_what_is_a_raster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = write(tmp_path / "plain.tif", noise(3))
    placed = write(tmp_path / "placed.tif", noise(3), **UTM)
    nodata = write(tmp_path / "nodata.tif", noise(3), nodata=0)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "x.png")
    (tmp_path / "damaged.tif").write_bytes(b"II*\0nothing")
    (tmp_path / "empty.tif").touch()
    files = (plain, placed, nodata, tmp_path / "x.png", tmp_path / "damaged.tif", tmp_path / "empty.tif", tmp_path)
    assert [is_raster(file) for file in files] == [False, True, True, False, False, False, False]
    monkeypatch.setenv("DUCSEG_MAX_PIXELS", "3000")
    assert is_raster(plain), "70 x 53 pixels"
    with pytest.raises(
        UserError, match=r"rio convert IN OUT.tif --co TILED=YES.*BIGTIFF=IF_SAFER \(pip install 'ducseg\[geo\]'"
    ):
        read_image(plain)


@pytest.mark.parametrize("error", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_what_cannot_be_read_is_not_said_to_be_no_raster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    placed = write(tmp_path / "placed.tif", noise(3), **UTM)

    def refuse(*_given: Any, **_options: Any) -> Any:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(header.mmap, "mmap", refuse)
    for ask in (tiff_header, is_raster, is_placed, without_data):
        with pytest.raises(UnreadableError, match=rf"placed.tif: found {os.strerror(error)}; needed a readable"):
            ask(placed)
    missing = tmp_path / "none.tif"
    assert (tiff_header(missing), is_raster(missing), is_raster(tmp_path)) == (None, False, False)


@pytest.mark.parametrize("suffix", [".tfw", ".TFW", ".tifw", ".wld"])
def test_a_world_file_is_a_place(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / "a.tif", noise(3))
    assert not is_raster(tmp_path / "a.tif")
    (tmp_path / f"a{suffix}").write_text(WORLD_FILE)
    assert is_raster(tmp_path / "a.tif")
    with open_raster(tmp_path / "a.tif") as raster:
        assert raster.place.is_known
        assert (raster.place.transform.c, raster.place.transform.f) == (400000, 6000000)


@pytest.mark.parametrize("world", ["jgw", "jpgw", "JGW", "wld"])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_with_a_world_file_is_read_as_without(tmp_path: Path, world: str, mode: str) -> None:
    """GDAL's decoder gives other colours where these are subsampled."""
    path = tmp_path / "x.jpg"
    Image.fromarray(noise(3, 90, 61).transpose(1, 2, 0)).convert(mode).save(path, quality=60)
    plain = read_image(path)
    assert not is_raster(path)
    path.with_suffix(f".{world}").write_text(WORLD_FILE)
    with open_raster(path) as raster:
        assert np.array_equal(raster.rows(0, 90), plain) and np.array_equal(raster.rows(40, 90), plain[40:])
        assert (raster.place.transform.c, raster.place.transform.f) == (400000, 6000000)
        assert raster.reduced(2).shape == (45, 31, 3)
        assert raster.known(0, 90) is None


def test_pictures_with_world_files(tmp_path: Path) -> None:
    values = noise(4, 12, 9).transpose(1, 2, 0)
    values[2:5, :, 3] = 0
    Image.fromarray(values).save(tmp_path / "x.png")
    Image.fromarray(values[..., :3]).save(tmp_path / "x.bmp")
    Image.fromarray(values[..., :3]).save(
        tmp_path / "turned.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    )
    for name in ("x.pgw", "x.bpw", "turned.jgw"):
        (tmp_path / name).write_text(WORLD_FILE)
    nothing = without_data(tmp_path / "x.png")
    assert nothing is not None and np.array_equal(nothing, values[..., 3] == 0)
    assert without_data(tmp_path / "x.bmp") is None
    with open_raster(tmp_path / "x.bmp") as raster:
        assert np.array_equal(raster.rows(0, 12), values[..., :3])
        assert raster.files == (tmp_path / "x.bmp", tmp_path / "x.bpw")
    assert not is_raster(tmp_path / "turned.jpg"), "it is not shown as it lies"
    assert read_image(tmp_path / "turned.jpg").shape == (9, 12, 3)
    (tmp_path / "x.png").write_bytes(b"no picture")
    assert not is_raster(tmp_path / "x.png"), "reading says what is wrong"


def test_the_header_of_a_huge_file_is_read_without_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "huge.tif"
    sparse = {"tiled": True, "SPARSE_OK": True, "BIGTIFF": "YES"}
    with rasterio.open(
        path, "w", driver="GTiff", width=200_000, height=300_000, count=3, dtype="uint8", **sparse, **UTM
    ):
        pass
    header = tiff_header(path)
    assert header is not None
    assert (header.size, header.channels, header.placed) == ((300_000, 200_000), 3, True)
    with open_raster(path) as raster:
        assert raster.rows(299_990, 300_000).shape == (10, 200_000, 3)


@pytest.mark.parametrize(
    ("bands", "dtype", "message"),
    [(2, np.uint8, "2 bands"), (5, np.uint8, "5 bands"), (3, np.uint16, "uint16"), (1, np.float32, "float32")],
)
def test_other_bands_are_refused_with_the_way_out(tmp_path: Path, bands: int, dtype: Any, message: str) -> None:
    path = write(tmp_path / "x.tif", noise(bands).astype(dtype), **UTM)
    with pytest.raises(UserError, match=message), open_raster(path):
        pass


def test_a_raster_cut_off_is_said_where_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", noise(3, 2000, 300), tiled=True, blockxsize=16, blockysize=16, **UTM)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"file .*x\.tif: found damaged"), open_raster(path) as raster:
        raster.rows(0, 2000)


def test_without_rasterio_a_place_is_not_kept_and_a_huge_file_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "x.tif", noise(3), **UTM)
    monkeypatch.setitem(__import__("sys").modules, "rasterio", None)
    with pytest.raises(UserError, match=r"rasterio is not installed.*pip install 'ducseg\[geo\]'"), open_raster(path):
        pass


def test_written_files_keep_the_place_and_are_tiled_lzw(tmp_path: Path) -> None:
    source = write(tmp_path / "x.tif", noise(3), **UTM)
    labels = np.random.default_rng(1).integers(0, 5, (70, 53)).astype(np.uint8)
    with open_raster(source) as raster:
        asked = []

        def rows(begin: int, end: int) -> Any:
            asked.append((begin, end))
            return labels[begin:end]

        write_raster(
            tmp_path / "new" / "labels.tif", raster.size, raster.place, rows, nodata=255,
            palette={3: (9, 8, 7)}, tags={"CLASSES": "a"},
        )  # fmt: skip
    assert asked == [(0, 70)]
    with rasterio.open(tmp_path / "new" / "labels.tif") as found:
        assert (found.crs.to_string(), found.transform) == ("EPSG:32633", UTM["transform"])
        assert (found.nodata, found.colormap(1)[3][:3], found.tags()["CLASSES"]) == (255, (9, 8, 7), "a")
        assert (found.profile["compress"], found.profile["tiled"]) == ("lzw", True)
        assert np.array_equal(found.read(1), labels)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["labels.tif"]


def test_a_large_file_is_written_as_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the options alone: GDAL is given them for a file with holes that would be 10 GB."""
    really = rasterio.open

    def large(path: Path, mode: str = "r", **how: Any) -> Any:
        sides = {"height": 100_000, "width": 100_000, "SPARSE_OK": True} if mode == "w" and how["count"] == 1 else {}
        return really(path, mode, **{**how, **sides})

    monkeypatch.setattr(rasterio, "open", large)
    with open_raster(write(tmp_path / "place.tif", noise(3), **UTM)) as raster:
        for bands, magic in ((3, b"II*\0"), (1, b"II+\0")):
            rows = np.ones((512, 512, 3)[: 2 if bands == 1 else 3], np.uint8)
            write_raster(
                tmp_path / "x.tif", (512, 512), raster.place, partial(lambda found, *_: found, rows), bands=bands
            )
            assert (tmp_path / "x.tif").read_bytes()[:4] == magic


def test_a_disk_that_is_full_leaves_nothing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    source = write(tmp_path / "x.tif", noise(3, 600, 600), **UTM)
    random = np.random.default_rng(1).integers(0, 255, (600, 600), np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_raster(source) as raster:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        try:
            with pytest.raises(UserError, match=r"output .*labels\.tif"):
                write_raster(tmp_path / "labels.tif", raster.size, raster.place, lambda a, b: random[a:b])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [file.name for file in tmp_path.iterdir()] == ["x.tif"]


@pytest.mark.parametrize("compress", ["ZSTD", "LZMA", "LERC", "JPEG"])
def test_compressions_of_gdal_are_read_whole_as_by_rows(tmp_path: Path, compress: str) -> None:
    smooth = np.kron(noise(3, 6, 5), np.ones((8, 8), np.uint8))
    layout = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": compress}
    colours = {"photometric": "YCBCR", "interleave": "pixel"} if compress == "JPEG" else {"photometric": "RGB"}
    path = write(tmp_path / "x.tif", smooth, **UTM, **layout, **colours)
    with open_raster(path) as raster:
        assert np.array_equal(read_image(path), raster.rows(0, 48))
    if compress != "JPEG":
        assert np.array_equal(read_image(path), np.moveaxis(smooth, 0, 2))
        palette = {value: (value, 255 - value, 7, 255) for value in range(256)}
        mask = write(tmp_path / "y.tif", smooth[:1], palette=palette, **layout)
        assert np.array_equal(read_label(mask), smooth[0])
        assert np.array_equal(read_image(mask)[..., 1], 255 - smooth[0])
        path.write_bytes(path.read_bytes()[:-300])
        with pytest.raises(UserError, match=r"x\.tif: found damaged, truncated or no picture"):
            read_image(path)


def test_compressions_of_gdal_are_named_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zstd, jpeg = (
        write(tmp_path / f"{compress}.tif", noise(3, 16, 16), compress=compress, photometric="RGB", **UTM)
        for compress in ("ZSTD", "JPEG")
    )
    monkeypatch.setattr("ducseg.data.files.compressed.find_spec", lambda _name: None)
    assert read_image(jpeg).shape == (16, 16, 3)
    with pytest.raises(UserError, match=r"found a TIFF in ZSTD; .*LZW or deflate, or pip install 'ducseg\[geo\]'"):
        read_image(zstd)


def test_a_mask_that_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    turned = UTM["transform"] @ rasterio.Affine.rotation(20)
    image = write(tmp_path / "x.tif", noise(3), crs=UTM["crs"], transform=turned)
    away = {"shifted": (3, 0), "near": (0.3, 0.3)}
    moved = {name: turned @ rasterio.Affine.translation(*by) for name, by in away.items()}
    places: dict[str, Any] = {
        "flipped": {"crs": UTM["crs"], "transform": turned @ rasterio.Affine(1, 0, 0, 0, -1, 70)},
        "plain": {}, "same": {"transform": turned}, "alike": {"crs": "EPSG:25833", "transform": turned},
        "zone": {"crs": "EPSG:32632", "transform": turned},
    }  # fmt: skip
    places |= {name: {"crs": UTM["crs"], "transform": transform} for name, transform in moved.items()}
    masks = {name: write(tmp_path / f"{name}.tif", noise(1), **place) for name, place in places.items()}
    for name in ("same", "alike", "near", "plain"):
        check_same_place(image, masks[name])
    for name, pixels in {"shifted": r"3\.0", "flipped": r"70\.0", "zone": r"\d+\.\d"}.items():
        message = (
            rf"{name}\.tif: found a place {pixels} pixels from that of .*x\.tif; .*rio warp .* --resampling nearest"
        )
        with pytest.raises(UserError, match=message):
            check_same_place(image, masks[name])


def test_reading_and_writing_by_rows_keep_the_cache_small(tmp_path: Path) -> None:
    """GDAL's own cache is a twentieth of the machine's memory."""
    seen = list[object]()

    def rows(begin: int, end: int) -> NDArray[np.uint8]:
        seen.append(rasterio.env.getenv()["GDAL_CACHEMAX"])
        return np.zeros((end - begin, 53), np.uint8)

    source = write(tmp_path / "x.tif", noise(3), **UTM)
    with open_placed(source) as raster:
        seen.append(rasterio.env.getenv()["GDAL_CACHEMAX"])
        write_raster(tmp_path / "out.tif", (70, 53), raster.place, rows)
    write_raster(tmp_path / "again.tif", (70, 53), raster.place, rows)
    assert seen == [128 << 20] * 3
