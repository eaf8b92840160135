"""Tiles together are the pictures that they were cut of, and lie where these lay."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
import rasterio.transform
from numpy.typing import NDArray
from PIL import Image
from rasterio.control import GroundControlPoint

from ducseg.cli import main
from ducseg.data.config import DataConfig
from ducseg.data.convert.tiles import convert
from ducseg.data.files.channels import read_channels
from ducseg.data.layouts.opening import open_dataset
from ducseg.errors import UserError

PLACE = rasterio.Affine(0.5, 0, 5e5, 0, -0.5, 4e6)
SIZE = (70, 150)


def save(path: Path, pixels: NDArray[Any], **options: Any) -> NDArray[Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix != ".tif":
        Image.fromarray(pixels).save(path, **options)
        return pixels
    bands = np.moveaxis(pixels.reshape(*pixels.shape[:2], -1), 2, 0)
    how = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype.name, **options}
    with rasterio.open(path, "w", "GTiff", crs="EPSG:32633", transform=PLACE, **how) as target:
        target.write(bands)
    return pixels


def noise(*shape: int, dtype: type = np.uint8, most: int = 256) -> NDArray[Any]:
    return np.random.default_rng(len(shape)).integers(0, most, shape).astype(dtype)


def together(folder: Path, name: str, size: tuple[int, int] = SIZE) -> NDArray[Any]:
    """What the tiles of a picture show, put side by side by the numbers in their names."""
    found = {tuple(map(int, path.stem.rsplit("_", 2)[1:])): path for path in folder.rglob(f"{name}_*")}
    rows, columns = (max(at) + 1 for at in zip(*found))
    parts = [[_read(found[row, column]) for column in range(columns)] for row in range(rows)]
    assert len(found) == rows * columns
    joined = np.concatenate([np.concatenate(row, axis=1) for row in parts])
    assert joined.shape[:2] == size
    return joined


def _read(path: Path) -> NDArray[Any]:
    if path.suffix == ".tif":
        return read_channels(path)
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize(
    ("dtype", "bands", "nodata"), [(np.uint8, 3, None), (np.uint16, 5, 0), (np.int16, 1, -32768), (np.float32, 2, None)]
)
def test_a_large_geotiff_gives_tiles_in_their_places_and_an_area_to_validate_on(
    tmp_path: Path, dtype: type, bands: int, nodata: float | None
) -> None:
    image = save(tmp_path / "in/images/ortho.tif", noise(*SIZE, bands, dtype=dtype) + dtype(1), nodata=nodata)
    mask = save(tmp_path / "in/masks/ortho.tif", noise(*SIZE, most=2))
    made = convert(tmp_path / "in", tmp_path / "out", side=40)
    assert (made.tiles, made.parted) == ({"train": 6, "val": 2}, "an area of each picture validates")
    assert np.array_equal(together(tmp_path / "out/images", "ortho"), image)
    assert np.array_equal(together(tmp_path / "out/masks", "ortho")[..., 0], mask)
    for path in (tmp_path / "out").rglob("*.tif"):
        row, column = map(int, path.stem.rsplit("_", 2)[1:])
        with rasterio.open(path) as tile:
            assert tile.crs == rasterio.CRS.from_epsg(32633)
            assert tuple(tile.transform)[:6] == (0.5, 0, 5e5 + 0.5 * round(37.5 * column), 0, -0.5, 4e6 - 17.5 * row)
            assert tile.dtypes[0] == (np.dtype(dtype).name if "images" in path.parts else "uint8")
            assert tile.nodata == (nodata if "images" in path.parts else None)
        assert (path.parent.name == "val") == (column == 3)
    parts = [
        open_dataset(DataConfig(dataset="folder", root=str(tmp_path / "out")), split) for split in ("train", "val")
    ]
    labels = [sample.label for part in parts for sample in map(part.__getitem__, range(len(part)))]
    assert sum(label.size for label in labels if label is not None) == mask.size


def test_tiles_without_data_are_left_out(tmp_path: Path) -> None:
    pixels = noise(*SIZE, 3) // 2 + np.uint8(1)
    pixels[:, :80] = 0
    save(tmp_path / "in/images/ortho.tif", pixels, nodata=0)
    save(tmp_path / "in/masks/ortho.tif", noise(*SIZE, most=2))
    made = convert(tmp_path / "in", tmp_path / "out", side=40)
    assert made.tiles == {"train": 2, "val": 2}
    assert made.lines()[1:] == ["left out: 4 tiles in which the picture has no data"]


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "I;16", "1", "RGBA"])
def test_pixels_of_pngs_and_their_masks_stay_as_they_are(tmp_path: Path, mode: str) -> None:
    for number in range(6):
        pixels = noise(*SIZE, *([] if mode not in ("RGB", "RGBA") else [len(mode)]), dtype=np.uint8)
        picture = Image.fromarray(noise(*SIZE, dtype=np.uint16, most=65536)) if mode == "I;16" else None
        picture = picture or Image.fromarray(pixels).convert(mode)
        (tmp_path / "in/images").mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / f"in/images/p{number}.png")
        paletted = Image.fromarray(noise(*SIZE, most=3)).convert("P")
        paletted.putpalette([0, 0, 0, 9, 9, 9, 200, 0, 0])
        save(tmp_path / f"in/masks/p{number}_mask.png", np.zeros(SIZE, np.uint8))
        paletted.save(tmp_path / f"in/masks/p{number}_mask.png")
    assert (
        main(
            ["data", "convert", "tiles", f"{tmp_path}/in", "--out", f"{tmp_path}/out", "--side", "64", "--workers", "1"]
        )
        == 0
    )
    for number in range(6):
        assert np.array_equal(together(tmp_path / "out/images", f"p{number}"), np.asarray(picture))
        assert np.array_equal(together(tmp_path / "out/masks", f"p{number}"), np.asarray(paletted))
        assert len({path.parent for path in (tmp_path / "out/images").rglob(f"p{number}_*")}) == 1, "whole pictures"
    with Image.open(next((tmp_path / "out/masks").rglob("*.png"))) as tile:
        assert tile.mode == "P" and tile.getpalette()[:9] == paletted.getpalette()[:9]


@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_16_bits_stay_as_they_are(tmp_path: Path, channels: int) -> None:
    bgr = noise(*SIZE, channels, dtype=np.uint16, most=65536)
    save(tmp_path / "in/masks/a.png", noise(*SIZE, most=2))
    (tmp_path / "in/images").mkdir()
    cv2.imwrite(str(tmp_path / "in/images/a.png"), bgr)
    convert(tmp_path / "in", tmp_path / "out", side=80)
    found = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted((tmp_path / "out/images").rglob("a_*"))]
    assert np.array_equal(np.concatenate(found, axis=1), bgr)


def test_splits_stay_as_they_are_and_the_class_list_goes_along(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        save(tmp_path / f"in/images/{split}/seq/{split}.png", noise(*SIZE, 3))
        if split != "test":
            save(tmp_path / f"in/masks/{split}/seq/{split}.png", noise(*SIZE, most=2))
    (tmp_path / "in/classes.json").write_text('["ground", "road"]')
    made = convert(tmp_path / "in", tmp_path / "out", side=200)
    assert made.tiles == {"train": 1, "val": 1}
    assert (tmp_path / "out/images/val/seq/val_00_00.png").is_file()
    assert (tmp_path / "out/classes.json").read_text() == '["ground", "road"]'


def test_what_cannot_be_cut(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no picture"):
        convert(tmp_path, tmp_path / "out")
    save(tmp_path / "in/images/a.png", noise(*SIZE, 3))
    save(tmp_path / "in/masks/a.png", noise(*SIZE, most=2))
    with pytest.raises(
        UserError, match=r"found 1, none of which gives two tiles; needed larger ones than --side 200, or"
    ):
        convert(tmp_path / "in", tmp_path / "out", side=200)
    with pytest.raises(UserError, match="--side: found 8; needed a whole number not below 32"):
        convert(tmp_path / "in", tmp_path / "out", side=8)
    save(tmp_path / "in/masks/a.png", noise(70, 149, most=2))
    with pytest.raises(UserError, match=r"mask .*a\.png: found 70 x 149 .*; needed 70 x 150, the size of"):
        convert(tmp_path / "in", tmp_path / "out", side=40)
    assert not (tmp_path / "out").exists()


def test_a_mask_that_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "in/images/ortho.tif", noise(*SIZE, 3))
    save(tmp_path / "in/masks/ortho.tif", noise(*SIZE, most=2))
    with rasterio.open(tmp_path / "in/masks/ortho.tif", "r+") as mask:
        mask.transform = rasterio.Affine(0.5, 0, 5e5 + 3, 0, -0.5, 4e6)
    with pytest.raises(UserError, match=r"label .*ortho.tif: found a place 6.0 pixels from that of"):
        convert(tmp_path / "in", tmp_path / "out", side=40)
    assert not (tmp_path / "out").exists()


def test_control_points_go_with_their_tiles(tmp_path: Path) -> None:
    save(tmp_path / "in/images/scan.tif", noise(*SIZE, 3))
    save(tmp_path / "in/masks/scan.png", noise(*SIZE, most=2))
    rows, columns = np.array([0, 0, 70, 70]), np.array([0, 150, 0, 150])
    with rasterio.open(tmp_path / "in/images/scan.tif") as source:
        bands = source.read()
    points = [
        GroundControlPoint(int(row), int(column), 5e5 + 0.5 * column, 4e6 - 0.5 * row)
        for row, column in zip(rows, columns)
    ]
    how = {"count": 3, "height": 70, "width": 150, "dtype": "uint8", "gcps": points, "crs": "EPSG:32633"}
    with rasterio.open(tmp_path / "in/images/scan.tif", "w", "GTiff", **how) as target:
        target.write(bands)
    convert(tmp_path / "in", tmp_path / "out", side=40)
    tiles = sorted((tmp_path / "out/images").rglob("*.tif"))
    assert len(tiles) == 8
    for path in tiles:
        with rasterio.open(path) as tile:
            found, crs = tile.gcps
            assert crs == rasterio.CRS.from_epsg(32633) and len(found) == 4
            place = rasterio.transform.from_gcps(found)
        row, column = map(int, path.stem.rsplit("_", 2)[1:])
        assert place.c == pytest.approx(5e5 + 0.5 * round(37.5 * column)) and place.f == pytest.approx(4e6 - 17.5 * row)
