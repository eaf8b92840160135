"""`ducseg predict` on large pictures, as a user meets it: checkpoints and ONNX files, rasters, what it says."""

import json
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from ducseg.classes import CITYSCAPES, ClassSet
from ducseg.cli import main
from ducseg.export.onnx import description, exported_graph, with_description
from ducseg.models import build
from ducseg.weights.checkpoint import load_segmenter, save_segmenter

rasterio = pytest.importorskip("rasterio")
main_group = pytest.importorskip("rasterio.rio.main").main_group
CLASSES = ClassSet(("field", "путь", "water"), ((0, 120, 0), (200, 200, 0), (0, 0, 200)))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, its ONNX file with probabilities, a GeoTIFF and a PNG of the same pixels."""
    folder = tmp_path_factory.mktemp("large")
    torch.manual_seed(0)
    network = build("resnet18", num_classes=3, classes=CLASSES, width=8, aspp=0).eval()
    with torch.no_grad():
        for parameter in network.head.parameters():
            parameter.mul_(30)
    save_segmenter(folder / "run", network)
    read = load_segmenter(folder / "run")
    graph = exported_graph(read, "probabilities")
    (folder / "run.onnx").write_bytes(with_description(graph, description(read, "probabilities")))
    noise = np.random.default_rng(0).integers(1, 256, (20, 30, 3), np.uint8)
    image = np.maximum(cv2.resize(noise, (330, 210), interpolation=cv2.INTER_CUBIC), 1)
    assert cv2.imwrite(str(folder / "x.png"), image[..., ::-1])
    image[:50] = 0
    where = {"crs": "EPSG:4326", "transform": rasterio.Affine(1e-5, 0, 15, 0, -1e-5, 36), "nodata": 0}
    with rasterio.open(
        folder / "x.tif", "w", driver="GTiff", height=210, width=330, count=3, dtype="uint8", **where
    ) as file:
        file.write(np.moveaxis(image, 2, 0))
    return folder


def predict(*arguments: object) -> int:
    return main(["predict", *map(str, arguments)])


@pytest.mark.slow
def test_an_onnx_file_labels_by_windows_as_its_checkpoint(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("run", "run.onnx"):
        options = (
            "--tile",
            128,
            "--overlap",
            64,
            "--scales",
            0.5,
            1,
            "--flip",
            "--kinds",
            "labels",
            "confidence",
            "polygons",
        )
        assert predict(place / name, place / "x.tif", "--out", tmp_path / name, *options) == 0
        assert "1 of 1 pictures predicted" in capsys.readouterr().out
    found = []
    for name in ("run", "run.onnx"):
        with rasterio.open(tmp_path / name / "x_labels.tif") as labels:
            assert (labels.crs.to_epsg(), labels.nodata) == (4326, 255)
            found.append(labels.read(1))
        assert (found[-1][:50] == 255).all()
        assert set(np.unique(found[-1][50:])) <= {0, 1, 2}
    assert np.mean(found[0] == found[1]) > 0.999
    polygons = json.loads((tmp_path / "run" / "x_polygons.geojson").read_text(encoding="utf-8"))
    assert {one["properties"]["class"] for one in polygons["features"]} <= set(CLASSES.names)
    assert all(15 <= x <= 15.0033 for one in polygons["features"] for x, _ in one["geometry"]["coordinates"][0])


def test_the_crf_goes_by_windows_too(place: Path, tmp_path: Path) -> None:
    options = ("--tile", 128, "--kinds", "labels", "--crf")
    assert predict(place / "run", place / "x.png", "--out", tmp_path, *options) == 0
    assert cv2.imread(str(tmp_path / "x_labels.png"), cv2.IMREAD_UNCHANGED).shape == (210, 330)


def test_shards_and_resume_know_rasters(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--out", tmp_path, "--tile", 128, "--resume", "--kinds", "labels")
    assert predict(place / "run", place / "x.tif", *options) == 0
    before = (tmp_path / "x_labels.tif").stat().st_mtime_ns
    assert predict(place / "run", place / "x.tif", *options) == 0
    assert "1 pictures were done and whole" in capsys.readouterr().out
    assert (tmp_path / "x_labels.tif").stat().st_mtime_ns == before
    assert predict(place / "run", place / "x.tif", *options[:2], "--tile", 96, *options[4:]) == 0
    assert "other settings" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tile", 64, "--overlap", 64), "--overlap 64: found not less than the tile, 64"),
        (("--tile", 0), "--tile: found 0"),
        (("--tile", 64, "--format", "cityscapes"), "--tile"),
        (("--overlap", 64, "--format", "cityscapes"), "--overlap"),
    ],
)
def test_what_cannot_be_is_one_line(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[object, ...], message: str
) -> None:
    assert predict(place / "run", place / "x.png", "--out", tmp_path, *options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_picture_beyond_the_limit_says_the_way_out_and_that_is_one(
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
) -> None:
    image = tmp_path / f"x{suffix}"
    assert cv2.imwrite(str(image), cv2.imread(str(place / "x.png")))
    monkeypatch.setenv("DUCSEG_MAX_PIXELS", "10000")
    assert predict(place / "run", image, "--out", tmp_path) == 1
    out = capsys.readouterr().out
    assert "found 210 x 330 pixels" in out
    assert "(pip install 'ducseg[geo]' brings rio)" in out
    told = out.partition("rio ")[2].partition(" (pip")[0].split()
    assert told[:3] == ["convert", "IN", "OUT.tif"]
    with warnings.catch_warnings(action="ignore"):
        made = CliRunner().invoke(main_group, ["convert", str(image), str(tmp_path / "big.tif"), *told[3:]])
        assert made.exit_code == 0, made.exception
    assert predict(place / "run", tmp_path / "big.tif", "--out", tmp_path / "out", "--kinds", "labels") == 0
    with warnings.catch_warnings(action="ignore"), rasterio.open(tmp_path / "out" / "big_labels.tif") as labels:
        assert labels.shape == (210, 330)
        assert labels.crs is None


def test_the_crf_command_names_no_classes_that_it_does_not_know(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(CITYSCAPES) != 3
    assert predict(place / "run", place / "x.png", "--out", tmp_path, "--kinds", "probabilities") == 0
    arguments = ["crf", str(tmp_path), str(place / "x.png"), "--out", str(tmp_path / "o"), "--kinds", "polygons"]
    assert main(arguments) == 2
    assert "needed classes to colour and name" in capsys.readouterr().err
