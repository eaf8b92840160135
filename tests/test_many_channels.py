"""Pictures of other channels and bits through the whole road: found, trained, saved, predicted, scored, reported.

In each folder only one channel tells the class; the others are noise.
"""

import json
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import ducseg
from ducseg.cli import main
from ducseg.data.files.channels import read_channels, read_pixels, stored_pixels
from ducseg.data.files.reading import read_image, read_label
from ducseg.errors import UserError

SIZE = (48, 64)
TINY = """--model.encoder resnet18 --model.width 8 --model.weights None --optimizer.epochs 30
--optimizer.learning-rate 0.01 --optimizer.warmup-steps 0 --optimizer.batch-size 4 --augment.crop-size 32 32
--run.eval-every-steps 30 --data.workers 0 --run.threads 1 --run.no-tensorboard --run.no-bf16 --run.no-eval-bf16
--run.device cpu --run.minutes None""".split()  # noqa: SIM905


def band_pictures(channels: int, telling: int, dtype: str, count: int = 10) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Pictures (H, W, C) and masks of 0 and 255: blocks that are brighter in channel `telling` alone."""
    rng = np.random.default_rng(0)
    scale = {"uint8": (90.0, 12.0, 60.0), "uint16": (3000.0, 300.0, 1500.0), "float32": (-0.5, 0.02, 0.1)}[dtype]
    made = []
    for _ in range(count):
        mask = np.zeros(SIZE, np.uint8)
        for _ in range(3):
            top, left = rng.integers(0, SIZE[0] - 12), rng.integers(0, SIZE[1] - 16)
            mask[top : top + 12, left : left + 16] = 255
        image = scale[0] + scale[1] * rng.standard_normal((*SIZE, channels))
        image[..., telling] += scale[2] * (mask > 0)
        made.append((image.astype(dtype), mask))
    return made


def write_tiff(path: Path, image: NDArray[Any], *, placed: bool = False, **how: Any) -> None:
    rasterio = pytest.importorskip("rasterio")
    height, width, channels = image.shape
    how |= {"height": height, "width": width, "count": channels, "dtype": image.dtype}
    if placed:
        how |= {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500000, 0, -10, 5000000)}
    with warnings.catch_warnings(action="ignore"), rasterio.open(path, "w", "GTiff", **how) as raster:
        raster.write(np.moveaxis(image, 2, 0))


def write_folder(root: Path, made: list[tuple[NDArray[Any], NDArray[Any]]], suffix: str = "tif") -> Path:
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for index, (image, mask) in enumerate(made):
        path = root / "images" / f"{index}.{suffix}"
        if suffix == "tif":
            write_tiff(path, image)
        else:
            assert cv2.imwrite(str(path), image)
        assert cv2.imwrite(str(root / "masks" / f"{index}.png"), mask)
    return root


@pytest.fixture(scope="module")
def bands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `data` of 5 bands of 16 bits and the run on it."""
    place = tmp_path_factory.mktemp("bands")
    write_folder(place / "data", band_pictures(5, 4, "uint16"))
    assert main(["train", str(place / "data"), "--out", str(place / "run"), *TINY]) == 0
    return place


def test_five_bands_of_sixteen_bits_are_learned(bands: Path) -> None:
    scores = json.loads((bands / "run" / "evaluation" / "val" / "scores.json").read_text())["scores"]
    assert scores["mean_iou"] > 0.9
    plan = (bands / "run" / "plan.txt").read_text()
    assert "channels: 5 channels of uint16 in every picture" in plan
    assert "brightness, contrast and gamma of each channel" in plan
    described = json.loads((bands / "run" / "best" / "model.json").read_text())
    assert described["architecture"]["num_channels"] == 5 and described["preprocessing"]["dtype"] == "uint16"
    mean, std = (np.array(described["preprocessing"][key]) for key in ("mean", "std"))
    np.testing.assert_allclose(mean[:4], 3000, atol=30)
    np.testing.assert_allclose(std[:4], 300, atol=15)
    assert 3150 < mean[4] < 3900 and std[4] > 450
    assert "data:image" in (bands / "run" / "report.html").read_text()


def test_they_are_predicted_from_files_and_in_python(bands: Path, tmp_path: Path) -> None:
    assert main(["predict", str(bands / "run"), str(bands / "data" / "images"), "--out", str(tmp_path)]) == 0
    image, mask = band_pictures(5, 4, "uint16")[3]
    predictor = ducseg.load(bands / "run")
    labels = predictor(image)
    assert (labels == (mask > 0)).mean() > 0.95
    np.testing.assert_array_equal(read_label(tmp_path / "3_labels.png"), labels)
    assert read_image(tmp_path / "3_overlay.png").shape[1] >= SIZE[1]
    several = ducseg.load(bands / "run", scales=(1.0, 1.5), flip=True)
    assert (several(image) == (mask > 0)).mean() > 0.9


def test_rasters_with_a_place_and_windows(bands: Path, tmp_path: Path) -> None:
    image, _ = band_pictures(5, 4, "uint16")[1]
    predictor = ducseg.load(bands / "run")
    write_tiff(tmp_path / "field.tif", image, placed=True)
    assert main(["predict", str(bands / "run"), str(tmp_path / "field.tif"), "--out", str(tmp_path / "found")]) == 0
    found = sorted(path.name for path in (tmp_path / "found").iterdir())
    assert found == ["field_color.tif", "field_labels.tif", "field_overlay.png"]
    np.testing.assert_array_equal(read_channels(tmp_path / "found" / "field_labels.tif")[..., 0], predictor(image))
    write_tiff(tmp_path / "four.tif", image[..., :4], placed=True)
    assert main(["predict", str(bands / "run"), str(tmp_path / "four.tif"), "--out", str(tmp_path / "found")]) == 1
    wide = np.tile(image, (1, 4, 1))
    windows = ducseg.load(bands / "run", tile=96, overlap=64)
    assert (windows(wide) == predictor(wide)).mean() > 0.99


def test_they_are_scored_and_checked(bands: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(bands / "run"), "--scales", "1", "0.75"]) == 0
    capsys.readouterr()
    assert main(["data", "check", "folder", str(bands / "data")]) == 0
    said = capsys.readouterr().out
    assert "pictures hold 5 channels of uint16, and are read as stored" in said and "0 errors" in said


def test_a_resumed_run_sees_that_the_pictures_are_others(bands: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "rgb", band_pictures(3, 0, "uint8"))
    assert main(["train", "--resume", str(bands / "run"), "--data.root", str(tmp_path / "rgb")]) == 2


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((8, 8, 3), np.uint16), r"found uint16 \(8, 8, 3\); needed uint16 \(H, W, 5\).*all channels"),
        (np.zeros((8, 8, 5), np.uint8), r"found uint8 \(8, 8, 5\); needed uint16.*as the files of training hold them"),
        (np.zeros((5, 8, 8), np.uint16), "channels first"),
        (np.zeros((1, 8, 8, 5), np.uint16), "a batch"),
        (np.zeros((8, 8), np.uint16), "needed uint16"),
    ],
)
def test_pictures_of_another_kind_are_refused_in_python(bands: Path, image: NDArray[Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        ducseg.load(bands / "run")(image)


def test_files_of_another_kind_are_reported_and_the_others_done(
    bands: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    image, _ = band_pictures(5, 4, "uint16", 1)[0]
    write_tiff(tmp_path / "in" / "good.tif", image)
    write_tiff(tmp_path / "in" / "four.tif", image[..., :4])
    cv2.imwrite(str(tmp_path / "in" / "rgb.png"), np.zeros((*SIZE, 3), np.uint8))
    assert main(["predict", str(bands / "run"), str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    assert "found 4 channels of uint16; needed 5 channels of uint16" in said.out + said.err
    assert "found 3 channels of uint8; needed 5 channels of uint16" in said.out + said.err
    assert (tmp_path / "out" / "good_labels.png").is_file()


@pytest.mark.slow
def test_grey_of_eight_bits_is_rgb_or_as_stored_one_channel(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "grey", band_pictures(1, 0, "uint8"), "png")
    assert main(["train", str(root), "--out", str(tmp_path / "one"), *TINY, "--data.as-stored"]) == 0
    predictor = ducseg.load(tmp_path / "one")
    image, mask = band_pictures(1, 0, "uint8")[2]
    assert predictor.model.preprocessing.num_channels == 1
    assert (predictor(image) == (mask > 0)).mean() > 0.95
    np.testing.assert_array_equal(predictor(image[..., 0]), predictor(image))
    assert main(["predict", str(tmp_path / "one"), str(root / "images"), "--out", str(tmp_path / "found")]) == 0
    short = [*TINY, "--optimizer.epochs", "1"]
    assert main(["train", str(root), "--out", str(tmp_path / "three"), *short]) == 0
    assert ducseg.load(tmp_path / "three").model.preprocessing.is_rgb


@pytest.mark.slow
def test_grey_of_sixteen_bits_with_alpha_is_one_channel(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 1 << 16, (4, 5, 2))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in stored)
    parts = {b"IHDR": struct.pack(">IIBBBBB", 5, 4, 16, 4, 0, 0, 0), b"IDAT": zlib.compress(rows), b"IEND": b""}
    data = b"\x89PNG\r\n\x1a\n"
    for name, part in parts.items():
        data += struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part))
    (tmp_path / "x.png").write_bytes(data)
    assert np.array_equal(read_pixels(tmp_path / "x.png", stored_pixels(tmp_path / "x.png")), stored[..., :1])


@pytest.mark.parametrize("orientation", [1, 2, 6])
def test_the_colours_of_a_turned_cmyk_file(tmp_path: Path, orientation: int) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 7, 4), np.uint8), "CMYK")
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "x.tif", exif=exif)
    assert np.array_equal(read_channels(tmp_path / "x.tif"), read_image(tmp_path / "x.tif"))


@pytest.mark.slow
def test_float_values_that_are_no_numbers_are_void(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = band_pictures(2, 1, "float32")
    for image, mask in made:  # what lies outside of the field, called an object
        image[:6, :, 1], mask[:6] = np.nan, 255
        image[-2:, :, 0] = np.inf
    root = write_folder(tmp_path / "field", made)
    assert main(["train", str(root), "--out", str(tmp_path / "run"), *TINY, "--optimizer.epochs", "45"]) == 0
    scores = json.loads((tmp_path / "run" / "evaluation" / "val" / "scores.json").read_text())["scores"]
    assert scores["mean_iou"] > 0.9
    predictor = ducseg.load(tmp_path / "run")
    mean = predictor.model.preprocessing.mean
    assert -0.51 < mean[0] < -0.49 and -0.5 < mean[1] < -0.4
    image, mask = made[0]
    labels = predictor(image)
    assert (labels == (mask > 0))[6:].mean() > 0.95 and np.isnan(image).any(), "the caller's array stays"
    assert main(["predict", str(tmp_path / "run"), str(root / "images"), "--out", str(tmp_path / "found")]) == 0
    np.testing.assert_array_equal(read_label(tmp_path / "found" / "0_labels.png"), labels)
    write_tiff(tmp_path / "placed.tif", image, placed=True)
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "placed.tif"), "--out", str(tmp_path / "found")]) == 0
    placed = read_channels(tmp_path / "found" / "placed_labels.tif")[..., 0]
    assert (placed[:6] == 255).all() and (placed[-2:] == 255).all()
    np.testing.assert_array_equal(placed[6:-2], labels[6:-2])
    image[..., 1] = np.nan
    with pytest.raises(UserError, match="no finite number in channel 2"):
        predictor(image)


def test_kinds_that_differ_are_counted_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "mixed", band_pictures(3, 0, "uint8"))
    write_tiff(root / "images" / "7.tif", np.zeros((*SIZE, 5), np.uint8))
    write_tiff(root / "images" / "8.tif", np.zeros((*SIZE, 3), np.uint16))
    options = ["--data.train-split", "all", "--out", str(tmp_path / "run")]
    assert main(["train", str(root), *options]) == 2
    said = capsys.readouterr().err
    assert "7.tif and 1 more: found 5 channels of uint8; needed 3 channels of uint8" in said
    assert not (tmp_path / "run").exists()
    assert main(["data", "check", "folder", str(root)]) == 1
    assert "2 errors, 0 warnings" in capsys.readouterr().out
    for number, path in enumerate(sorted((root / "images").iterdir())):
        write_tiff(path, np.full((*SIZE, 17), number, np.uint8))
    assert main(["train", str(root), *options]) == 2
    assert "found 17 channels of uint8; needed 1 to 16" in capsys.readouterr().err


def test_jpeg_is_refused_for_them(bands: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jpeg = [*TINY, "--out", str(tmp_path / "run"), "--augment.jpeg-quality", "60"]
    assert main(["train", str(bands / "data"), *jpeg]) == 2
    assert "--augment.jpeg-quality 60: found pictures of 5 x uint16" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def file(bands: Path) -> Path:
    """Their ONNX file, of labels."""
    pytest.importorskip("onnxruntime")
    given = ["--out", str(bands / "labels.onnx"), "--check", str(bands / "data" / "images" / "[0-1].tif")]
    assert main(["export", str(bands / "run"), *given]) == 0
    return bands / "labels.onnx"


def predicted(network: Path, pictures: Path, out: Path) -> dict[str, NDArray[Any]]:
    """The pictures that `predict` writes, by name."""
    assert main(["predict", str(network), str(pictures), "--out", str(out), "--device", "cpu"]) == 0
    return {path.name: read_channels(path) for path in out.iterdir()}


def test_an_exported_file_predicts_and_scores_as_its_checkpoint(bands: Path, file: Path, tmp_path: Path) -> None:
    image, _ = band_pictures(5, 4, "uint16")[1]
    image[:10] = 0
    write_tiff(tmp_path / "field.tif", image, placed=True, nodata=0)
    for pictures, count in ((bands / "data" / "images", 30), (tmp_path / "field.tif", 3)):
        wanted, found = (predicted(one, pictures, tmp_path / pictures.stem / one.name) for one in (bands / "run", file))
        assert wanted.keys() == found.keys() and len(found) == count
        assert all((found[name] == wanted[name]).mean() > 0.999 for name in wanted)
    assert (found["field_labels.tif"][:10] == 255).all()
    scored = ["--data-root", str(bands / "data"), "--device", "cpu", "--json", str(tmp_path / "scores.json")]
    assert main(["eval", str(file), *scored]) == 0
    trained = json.loads((bands / "run" / "evaluation" / "val" / "scores.json").read_text())["scores"]
    assert json.loads((tmp_path / "scores.json").read_text())["mean_iou"] == pytest.approx(
        trained["mean_iou"], abs=1e-3
    )


def test_export_says_what_it_takes_and_refuses_other_pictures(
    bands: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "rgb.png"), np.zeros((*SIZE, 3), np.uint8))
    wrong = "rgb.png: found 3 channels of uint8; needed 5 channels of uint16"
    export = ["export", str(bands / "run"), "--out", str(tmp_path / "x.onnx")]
    for option in ("--check", "--int8"):
        assert main([*export, option, str(tmp_path / "in")]) == 2
        assert wrong in capsys.readouterr().err
    assert main(["predict", str(file), str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 1
    assert wrong in capsys.readouterr().out
    images = str(bands / "data" / "images" / "[0-1].tif")
    assert main([*export, "--int8", images, "--int8-bound", "0.5"]) == 0
    said = capsys.readouterr().out
    assert "takes pictures of 5 channels of uint16, as stored" in said and "compared on 2 pictures of [0-1].tif" in said
