"""What rasters say they know nothing of, and where they lie: one rule for training, prediction and scores."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ducseg.classes import ClassSet
from ducseg.data.check.report import check_and_print
from ducseg.data.config import DataConfig
from ducseg.data.files.channels import RGB, Pixels
from ducseg.data.files.raster_writing import write_raster
from ducseg.data.files.rasters import open_raster, read_finite
from ducseg.data.layouts.opening import data_notes, open_dataset, open_training_set
from ducseg.errors import Said, UserError
from ducseg.metrics.folder import score_folder

rasterio = pytest.importorskip("rasterio")


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("nothing", [{"nodata": 0}, {"nodata": 7}, {"alpha": True}])
def test_what_a_raster_has_no_data_of_is_void_in_training_prediction_and_scores(
    tmp_path: Path, dtype: str, nothing: dict[str, Any]
) -> None:
    size, rng = (40, 50), np.random.default_rng(0)
    empty = np.zeros(size, bool)
    empty[:9], empty[20:30, 3:] = True, True
    truth = rng.integers(0, 2, size).astype(np.uint8)
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    bands = rng.integers(8, 200, (3, *size)).astype(dtype)
    bands[:, empty] = nothing.get("nodata", 0)
    options: dict[str, Any] = {"nodata": nothing["nodata"]} if "nodata" in nothing else {"photometric": "RGB"}
    if "alpha" in nothing:
        opaque = np.where(empty, 0, np.iinfo(dtype).max).astype(dtype)
        bands, options["alpha"] = np.concatenate([bands, opaque[None]]), "YES"
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(1, 0, 30, 0, -1, 60)}
    how = {"driver": "GTiff", "height": size[0], "width": size[1], "count": len(bands), "dtype": dtype}
    for number in range(2):
        with rasterio.open(tmp_path / f"images/{number}.tif", "w", **how, **place, **options) as target:
            target.write(bands)
        Image.fromarray(truth).save(tmp_path / f"masks/{number}.png")
    data = open_dataset(DataConfig(dataset="folder", root=str(tmp_path)), "train")
    assert np.array_equal(data[0].label, np.where(empty, 255, truth))
    found = rng.integers(0, 2, size).astype(np.uint8)
    known = open_raster(tmp_path / "images/0.tif", Pixels(3, dtype) if dtype == "uint16" else RGB)
    with known as raster:
        labels = np.where(raster.known(0, size[0]), found, np.uint8(255))
        write_raster(
            tmp_path / "found" / "0_labels.tif", size, raster.place, lambda begin, end: labels[begin:end],
            nodata=255, palette={0: (0, 0, 0), 1: (255, 0, 0)},
        )  # fmt: skip
    classes = ClassSet(("background", "road"), ((0, 0, 0), (255, 0, 0)))
    with pytest.warns(Said, match="left out: 1 of 2 without a prediction: 1"):
        scored = score_folder(tmp_path / "found", tmp_path / "masks", classes, subset=True)
    assert (scored["num_pixels"], scored["no_data"]) == ((~empty).sum(), empty.sum())
    assert scored["pixel_accuracy"] == pytest.approx((found == truth)[~empty].mean())


def test_values_for_no_data_are_said_in_masks_too(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    how = {"driver": "GTiff", "height": 8, "width": 9, "count": 1, "dtype": "uint8", "crs": "EPSG:32633"}
    how["transform"] = rasterio.Affine(1, 0, 30, 0, -1, 60)
    for number in range(4):
        Image.fromarray(np.full((8, 9, 3), number, np.uint8)).save(tmp_path / f"images/{number}.png")
        with rasterio.open(tmp_path / f"masks/{number}.tif", "w", nodata=9, **how) as target:
            target.write(np.random.default_rng(number).choice(np.array([0, 1, 9], np.uint8), (1, 8, 9)))
    for ignored, said in ((None, True), (9, False)):
        data = DataConfig(dataset="folder", root=str(tmp_path), ignore_value=ignored)
        notes = data_notes(data, open_training_set(data, (0, 0, 0)), open_dataset(data, "val"))
        assert any("--data.ignore-value 9 leaves it out" in note for note in notes) == said


@pytest.mark.parametrize(("dtype", "nothing"), [("float32", -9999), ("float32", np.finfo("f4").min), ("uint16", 65535)])
def test_no_network_sees_the_value_for_no_data(tmp_path: Path, dtype: str, nothing: float) -> None:
    size, rng = (40, 50), np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    how = {"driver": "GTiff", "height": size[0], "width": size[1], "count": 2, "dtype": dtype, "nodata": nothing}
    how |= {"crs": "EPSG:32633", "transform": rasterio.Affine(1, 0, 30, 0, -1, 60)}
    for number, rows in enumerate((9, 40)):  # the second knows nothing at all
        bands = rng.integers(8, 200, (2, *size)).astype(dtype)
        bands[:, :rows] = nothing
        with rasterio.open(tmp_path / f"images/{number}.tif", "w", **how) as target:
            target.write(bands)
        Image.fromarray(rng.integers(0, 2, size).astype(np.uint8)).save(tmp_path / f"masks/{number}.png")
    sample, void = (open_dataset(DataConfig(dataset="folder", root=str(tmp_path)), "all")[index] for index in (0, 1))
    mean = sample.image[9:].mean((0, 1), dtype=np.float64).astype(dtype)
    assert (sample.image[:9] == mean).all() and sample.image[9:].max() < 200
    assert (void.image == 0).all() and void.label is not None and (void.label == 255).all()
    with open_raster(tmp_path / "images/0.tif", Pixels(2, dtype)) as raster:
        assert np.array_equal(raster.rows(0, 40), sample.image)
        assert raster.rows(0, 9).max() == 0 and raster.reduced(4).max() < 200
    assert np.array_equal(read_finite(tmp_path / "images/0.tif", Pixels(2, dtype)), sample.image)


def test_masks_that_lie_elsewhere_stop_training_checks_and_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how = {"driver": "GTiff", "height": 8, "width": 9, "count": 1, "dtype": "uint8", "crs": "EPSG:32633"}
    for folder, west in (("images", 30), ("masks", 34)):
        (tmp_path / folder).mkdir()
        for number in range(2):
            place = rasterio.Affine(1, 0, west, 0, -1, 60)
            with rasterio.open(tmp_path / folder / f"{number}.tif", "w", transform=place, **how) as target:
                target.write(np.random.default_rng(number).integers(0, 2, (1, 8, 9), np.uint8))
    data, said = DataConfig(dataset="folder", root=str(tmp_path)), r"found a place 4\.0 pixels from"
    with pytest.raises(UserError, match=said):
        open_dataset(data, "all")[0]
    with pytest.raises(UserError, match=said):
        score_folder(tmp_path / "images", tmp_path / "masks", ClassSet(("a", "b"), ((0, 0, 0), (255, 0, 0))))
    assert check_and_print(data) == 1
    assert "error: places differ: label" in capsys.readouterr().out
