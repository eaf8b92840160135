"""Large pictures from file to files: the same labels as in memory, killed and gone on, in bounded memory."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from ducseg.classes import CAMVID
from ducseg.data.files import header, rasters
from ducseg.devices import available_memory
from ducseg.errors import UserError, explain
from ducseg.inference import windowed
from ducseg.inference.memory import memory_needed
from ducseg.inference.predict_files import predict_files
from ducseg.inference.predictor import Predictor
from ducseg.inference.tiles import Tiling
from ducseg.inference.writers import KINDS
from ducseg.models import build

rasterio = pytest.importorskip("rasterio")
UTM = {"crs": "EPSG:32633", "transform": rasterio.Affine(2, 0, 500_000, 0, -2, 4_000_000)}


class Slices:
    """Class by brightness, ten times as probable as the others; notes what it is asked."""

    record: Mapping[str, Any] = {}
    classes = CAMVID

    def __init__(self) -> None:
        self.asked: list[tuple[int, ...]] = []

    def __call__(self, image: Any, /) -> Any:
        return self.probabilities(image).argmax(0).astype(np.uint8)

    def probabilities(self, image: Any, /) -> Any:
        self.asked.append(image.shape[:2])
        labels = image[..., 0].astype(int) * 11 // 256
        return np.float32(0.05) + np.float32(0.45) * (np.arange(11)[:, None, None] == labels)


def picture(height: int, width: int, seed: int = 0) -> Any:
    grey = np.random.default_rng(seed).integers(0, 256, (height // 16 + 2, width // 16 + 2, 1), np.uint8)
    return np.repeat(cv2.resize(grey, (width, height), interpolation=cv2.INTER_CUBIC)[..., None], 3, 2)


def write_raster(path: Path, image: Any, **options: Any) -> Path:
    height, width, count = image.shape
    how = {"tiled": True, "blockxsize": 64, "blockysize": 64, **UTM, **options}
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=count, dtype="uint8", **how
    ) as file:
        file.write(np.moveaxis(image, 2, 0))
    return path


def grey(path: Path) -> Any:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_every_kind_of_a_picture_by_windows(tmp_path: Path) -> None:
    image = picture(150, 210)
    assert cv2.imwrite(str(tmp_path / "x.png"), image)
    report = predict_files(Slices(), [tmp_path / "x.png"], tmp_path / "out", kinds=KINDS, tiling=Tiling(96, 32))
    assert report.failed == ()
    predict_files(Slices(), [tmp_path / "x.png"], tmp_path / "whole", kinds=KINDS)
    names = ["color.png", "confidence.png", "labels.png", "overlay.png", "polygons.geojson", "probabilities.npy"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [f"x_{name}" for name in names]
    for name in names[:5]:
        found, expected = ((tmp_path / folder / f"x_{name}").read_bytes() for folder in ("out", "whole"))
        assert found == expected, name
    found, expected = (np.load(tmp_path / folder / "x_probabilities.npy") for folder in ("out", "whole"))
    assert (found.dtype, found.shape) == (np.float16, (11, 150, 210))
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert (grey(tmp_path / "out" / "x_confidence.png") == round(0.5 * 255)).all()


def test_a_raster_keeps_its_place_and_what_it_knows_nothing_of(tmp_path: Path) -> None:
    image = np.maximum(picture(300, 421), 1)
    image[100:200, 50:400] = 0
    source = write_raster(tmp_path / "x.tif", image, nodata=0)
    labeller = Slices()
    report = predict_files(labeller, [source], tmp_path / "out", kinds=KINDS, tiling=Tiling(96, 32))
    assert report.failed == ()
    assert set(labeller.asked) == {(96, 96), (128, 128)}, "windows, and the middle once"
    expected = Slices()(image)
    expected[100:200, 50:400] = 255
    with rasterio.open(tmp_path / "out" / "x_labels.tif") as labels:
        assert np.array_equal(labels.read(1), expected)
        assert (labels.crs.to_epsg(), labels.transform, labels.nodata) == (32633, UTM["transform"], 255)
        assert labels.colormap(1)[3][:3] == CAMVID.palette[3]
        assert json.loads(labels.tags()["CLASSES"]) == list(CAMVID.names)
    with rasterio.open(tmp_path / "out" / "x_color.tif") as colours:
        table = np.zeros((256, 3), np.uint8)
        table[:11] = CAMVID.palette
        assert np.array_equal(np.moveaxis(colours.read(), 0, 2), table[expected])
    with rasterio.open(tmp_path / "out" / "x_confidence.tif") as confidence:
        assert np.array_equal(confidence.read(1), np.where(expected == 255, 0, 128))
        assert confidence.crs.to_epsg() == 32633
    polygons = json.loads((tmp_path / "out" / "x_polygons.geojson").read_text())
    assert polygons["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633"
    assert sum(one["properties"]["pixels"] for one in polygons["features"]) == (expected != 255).sum()
    corners = np.array([corner for one in polygons["features"] for corner in one["geometry"]["coordinates"][0]])
    assert corners.min(0).tolist() == [500_000, 4_000_000 - 600]
    assert corners.max(0).tolist() == [500_000 + 842, 4_000_000]
    assert grey(tmp_path / "out" / "x_overlay.png").shape[1] == 421
    assert np.load(tmp_path / "out" / "x_probabilities.npy", mmap_mode="r").shape == (11, 300, 421)


@pytest.mark.parametrize("size", [(90, 110), (1, 300), (70, 1)])
@pytest.mark.parametrize("tiling", [None, Tiling(512)])
def test_a_raster_that_fits_is_whole_and_stays_a_raster(tmp_path: Path, size: tuple[int, int], tiling: Any) -> None:
    image, labeller, source = picture(*size), Slices(), tmp_path / "x.tif"
    write_raster(source, image)
    report = predict_files(labeller, [source], tmp_path / "out", kinds=("labels", "overlay"), tiling=tiling)
    assert (report.failed, report.notes) == ((), ())
    assert labeller.asked[-1] == size
    with rasterio.open(tmp_path / "out" / "x_labels.tif") as labels:
        assert np.array_equal(labels.read(1), Slices()(image))


class LabelsAlone(Slices):
    """As an exported file that gives no probabilities."""

    gives_probabilities = False

    def __call__(self, image: Any, /) -> Any:
        return super().probabilities(image).argmax(0).astype(np.uint8)

    def probabilities(self, image: Any, /) -> Any:
        raise explain("file", found="labels alone", needed="probabilities", fix="Export it again.")


def test_labels_alone_do_for_a_raster_that_is_one_window(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "x.tif", picture(90, 110), nodata=0)
    for labeller in (Slices(), LabelsAlone()):
        done = predict_files(labeller, [path], tmp_path / type(labeller).__name__)
        assert not done.failed
    assert files_of(tmp_path / "LabelsAlone") == files_of(tmp_path / "Slices")
    done = predict_files(LabelsAlone(), [path], tmp_path / "cut", tiling=Tiling(64))
    assert [message for _, message in done.failed] == [
        "file: found labels alone; needed probabilities. Export it again."
    ]
    assert not [*(tmp_path / "cut").iterdir()]


def test_the_overlay_of_a_large_raster_is_smaller_and_says_how_much(tmp_path: Path) -> None:
    source = write_raster(tmp_path / "x.tif", np.repeat(picture(40, 8300)[:, :, :1], 3, 2))
    report = predict_files(Slices(), [source], tmp_path / "out", kinds=("overlay",), tiling=Tiling(512))
    assert report.notes == ((source, "the overlay is 1/3 of its width and height"),)
    assert grey(tmp_path / "out" / "x_overlay.png").shape[1] == 2767


def test_a_world_file_places_the_results_of_a_png(tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "x.png"), picture(60, 80))
    kinds = ("labels", "polygons")
    assert not predict_files(Slices(), [tmp_path / "x.png"], tmp_path / "plain", kinds=kinds).failed
    (tmp_path / "x.pgw").write_text("0.5\n0\n0\n-0.5\n400000.25\n5999999.75\n")
    assert not predict_files(Slices(), [tmp_path / "x.png"], tmp_path / "placed", kinds=kinds).failed
    assert files_of(tmp_path / "placed").keys() == {"x_labels.tif", "x_polygons.geojson"}
    with rasterio.open(tmp_path / "placed" / "x_labels.tif") as labels:
        assert np.array_equal(labels.read(1), grey(tmp_path / "plain" / "x_labels.png"))
        assert labels.transform == rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 6_000_000)
    first = json.loads(files_of(tmp_path / "plain")["x_polygons.geojson"])["features"][0]["geometry"]["coordinates"]
    moved = json.loads(files_of(tmp_path / "placed")["x_polygons.geojson"])["features"][0]["geometry"]["coordinates"]
    assert moved[0][0] == [400_000 + first[0][0][0] / 2, 6_000_000 - first[0][0][1] / 2]


def test_a_place_that_is_lost_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_raster(tmp_path / "x.tif", picture(40, 50))
    monkeypatch.setattr(rasters, "find_spec", lambda _name: None)
    report = predict_files(Slices(), [source], tmp_path / "out", kinds=("labels",))
    assert report.notes == ((source, "where it lies is not kept without rasterio (pip install 'ducseg[geo]')"),)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["x_labels.png"]


def test_a_raster_that_cannot_be_looked_at_does_not_become_a_plain_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails once, when the pictures are looked through: this one fails, and the same again labels it."""
    sources = [write_raster(tmp_path / name, picture(40, 50)) for name in ("x.tif", "y.tif")]
    look, fails = rasters.tiff_header, [sources[0]]

    def fails_once(path: Path) -> Any:
        if path in fails:
            fails.remove(path)
            raise header.unreadable(path, OSError(errno.EIO, "Input/output error"))
        return look(path)

    monkeypatch.setattr(rasters, "tiff_header", fails_once)
    report = predict_files(Slices(), sources, tmp_path / "out", kinds=("labels",))
    assert report.written == (sources[1],)
    assert [file for file, _ in report.failed] == [sources[0]]
    assert "could not be read when all were looked through" in report.failed[0][1]
    assert not predict_files(Slices(), sources, tmp_path / "out", kinds=("labels",)).failed
    assert files_of(tmp_path / "out").keys() == {"x_labels.tif", "y_labels.tif"}


def test_what_would_not_fit_is_cut_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("a.png", (1100, 1300)), ("b.png", (200, 200))):
        assert cv2.imwrite(str(tmp_path / name), picture(*size))
    assert memory_needed(Slices(), (1100, 1300)) == 1100 * 1300 * (600 + 12 * 11)
    for free, windows in ((2e9, {(1100, 1300)}), (1e9, {(1024, 1024), (128, 128)})):
        monkeypatch.setattr(windowed, "available_memory", lambda _device, free=free: free)
        labeller = Slices()
        files = [tmp_path / "a.png", tmp_path / "b.png"]
        report = predict_files(labeller, files, tmp_path / "out", kinds=("labels",))
        assert set(labeller.asked) == windows | {(200, 200)}
        if (1100, 1300) in windows:
            assert report.notes == ()
            continue
        ((file, note),) = report.notes
        assert file.name == "a.png"
        assert note.startswith("1100 x 1300 pixels in windows of 1024, overlapping by 256 (--tile, --overlap)")
        assert note.endswith("whole it takes about 1.0 GB of memory, of which 1.0 are free")
        assert np.array_equal(grey(tmp_path / "out" / "a_labels.png"), Slices()(picture(1100, 1300)))


def test_free_memory_is_said_in_bytes() -> None:
    free = available_memory()
    assert 1 << 20 < free < 1 << 50
    network = build("resnet18", num_classes=3, aspp=0, width=8)
    assert memory_needed(Predictor(network, scales=(0.5, 2.0)), (10, 10)) == 400 * (600 + 36)


class Stops(Slices):
    """Raises after some windows."""

    def __init__(self, after: int, error: BaseException) -> None:
        super().__init__()
        self.after, self.error = after, error

    def probabilities(self, image: Any, /) -> Any:
        if len(self.asked) == self.after:
            raise self.error
        return super().probabilities(image)


def test_a_disk_that_fails_once_does_not_take_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_raster(tmp_path / "x.tif", picture(400, 200))
    options: Any = {"kinds": ("labels",), "tiling": Tiling(96, 32), "progress": False}
    with pytest.raises(KeyboardInterrupt):
        predict_files(Stops(14, KeyboardInterrupt()), [source], tmp_path / "out", **options)
    load = windowed.np.load
    monkeypatch.setattr(windowed.np, "load", fails_once(load))
    with pytest.raises(UserError, match=r"found Input/output error; .*what is done is kept"):
        predict_files(Slices(), [source], tmp_path / "out", **options)
    whole, goes_on = Slices(), Slices()
    predict_files(goes_on, [source], tmp_path / "out", **options)
    predict_files(whole, [source], tmp_path / "whole", **options)
    assert len(goes_on.asked) < len(whole.asked) - 6
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def fails_once(function: Any) -> Any:
    """A function that the disk fails at its first call."""
    first = [OSError(errno.EIO, "Input/output error")]

    def failing(*given: Any, **options: Any) -> Any:
        if first:
            raise first.pop()
        return function(*given, **options)

    return failing


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    source, kinds = write_raster(tmp_path / "x.tif", picture(400, 200)), ("labels", "confidence", "probabilities")
    options: Any = {"kinds": kinds, "tiling": Tiling(96, 32), "progress": False}
    whole, goes_on = Slices(), Slices()
    predict_files(whole, [source], tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        predict_files(Stops(14, KeyboardInterrupt()), [source], tmp_path / "out", **options)
    assert [file.name for file in (tmp_path / "out").iterdir()] == [".x.windows"]
    predict_files(goes_on, [source], tmp_path / "out", **options)
    assert len(goes_on.asked) < len(whole.asked) - 6
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


@pytest.mark.parametrize("change", ["tile", "kinds", "picture", "network", "state", "array"])
def test_what_is_not_the_same_starts_anew(tmp_path: Path, change: str) -> None:
    source = write_raster(tmp_path / "x.tif", picture(400, 200))
    options: Any = {"kinds": ("labels",), "tiling": Tiling(96, 32), "progress": False}
    with pytest.raises(KeyboardInterrupt):
        predict_files(Stops(14, KeyboardInterrupt()), [source], tmp_path / "out", **options)
    labeller = Slices()
    unfinished = tmp_path / "out" / ".x.windows"
    if change == "tile":
        options["tiling"] = Tiling(128, 32)
    elif change == "kinds":
        options["kinds"] = ("labels", "confidence")
    elif change == "picture":
        write_raster(source, picture(400, 200, seed=1))
    elif change == "network":
        labeller.probabilities = lambda image: Slices().probabilities(255 - image)  # type: ignore[method-assign]
    elif change == "state":
        (unfinished / "state.json").write_text('{"rows":')
    else:
        (unfinished / "labels.npy").write_bytes(b"")
    predict_files(labeller, [source], tmp_path / "out", **options)
    fresh = Slices()
    if change == "network":
        fresh.probabilities = labeller.probabilities  # type: ignore[method-assign]
    predict_files(fresh, [source], tmp_path / "whole", **options)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")
    assert len(labeller.asked) == len(fresh.asked)


def test_a_picture_that_fails_leaves_nothing_and_the_others_are_done(tmp_path: Path) -> None:
    sources = [write_raster(tmp_path / f"{name}.tif", picture(300, 200)) for name in "ab"]
    data = sources[0].read_bytes()
    sources[0].write_bytes(data[: len(data) * 2 // 3])
    options: Any = {"kinds": ("labels",), "tiling": Tiling(96, 32)}
    report = predict_files(Slices(), sources, tmp_path / "out", **options)
    ((file, message),) = report.failed
    assert file == sources[0]
    assert "found damaged, truncated or no picture" in message
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["b_labels.tif"]
    little = Stops(5, explain("not enough memory", found="little", needed="more", fix="--tile 64"))
    assert len(predict_files(little, sources[1:], tmp_path / "other", **options).failed) == 1
    assert not list((tmp_path / "other").iterdir())


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_moved_or_deleted_while_it_is_mapped(
    tmp_path: Path, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows refuses both, and the whole array would stay beside the results."""
    maps: list[tuple[Path, weakref.ref[Any]]] = []
    open_memmap, replace, rmtree = np.lib.format.open_memmap, Path.replace, shutil.rmtree

    def mapped(path: Path, **how: Any) -> Any:
        array = open_memmap(path, **how)
        maps.append((path, weakref.ref(array)))
        return array

    def check(place: Path) -> None:
        assert [path.name for path, array in maps if array() is not None and path.is_relative_to(place)] == []

    monkeypatch.setattr(np.lib.format, "open_memmap", mapped)
    monkeypatch.setattr(Path, "replace", lambda path, target: (check(path), replace(path, target))[1])
    monkeypatch.setattr(shutil, "rmtree", lambda path, **how: (check(path), rmtree(path, **how)))
    labeller = Stops(5, explain("not enough memory", found="little", needed="more", fix="")) if fails else Slices()
    source = write_raster(tmp_path / "x.tif", picture(150, 210))
    options: Any = {"kinds": ("labels", "probabilities"), "tiling": Tiling(96, 32)}
    assert len(predict_files(labeller, [source], tmp_path / "out", **options).failed) == fails
    assert maps


def test_a_full_disk_stops_the_run_in_words_and_what_is_done_stays(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    source = write_raster(tmp_path / "x.tif", picture(300, 200))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"unfinished results .*\.x\.windows: found File too large.*Make room"):
            predict_files(Slices(), [source], tmp_path / "out", kinds=("probabilities",), tiling=Tiling(96))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not [file.name for file in (tmp_path / "out").iterdir() if not file.name.startswith(".")]
    assert predict_files(Slices(), [source], tmp_path / "out", kinds=("labels",)).failed == ()
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["x_labels.tif"]


def test_the_same_answer_as_the_predictors_own_windows(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, image = build("resnet18", num_classes=5, aspp=0, width=8, head="duc").eval(), picture(150, 260)
    own = Predictor(network, tile=96, overlap=32)
    source = write_raster(tmp_path / "x.tif", image)
    predict_files(Predictor(network), [source], tmp_path / "a", kinds=("labels",), tiling=Tiling(96, 32))
    predict_files(own, [source], tmp_path / "b", kinds=("labels",), batch_size=2)
    for folder in "ab":
        with rasterio.open(tmp_path / folder / "x_labels.tif") as labels:
            assert np.mean(labels.read(1) == own(image)) > 0.999


def child(code: str, *arguments: object) -> "subprocess.Popen[str]":
    """A process of its own that has the names of this module."""
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom test_windowed import *\n{code}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


SLOWLY = """
class Slow(Slices):
    def probabilities(self, image):
        time.sleep(0.05)
        return super().probabilities(image)
predict_files(Slow(), [Path(sys.argv[1])], Path(sys.argv[2]), kinds=("labels",), tiling=Tiling(96, 32))
"""


@pytest.mark.slow
def test_killed_at_any_time_it_loses_nothing_that_was_done(tmp_path: Path) -> None:
    source, state = write_raster(tmp_path / "x.tif", picture(500, 200)), tmp_path / "out" / ".x.windows" / "state.json"
    process = child(SLOWLY, source, tmp_path / "out")
    for _ in range(600):
        time.sleep(0.05)
        if state.is_file() and json.loads(state.read_text())["rows"] > 100:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert [file.name for file in (tmp_path / "out").iterdir()] == [".x.windows"]
    goes_on, whole = Slices(), Slices()
    options: Any = {"kinds": ("labels",), "tiling": Tiling(96, 32)}
    predict_files(goes_on, [source], tmp_path / "out", **options)
    predict_files(whole, [source], tmp_path / "whole", **options)
    assert len(goes_on.asked) < len(whole.asked)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


PEAK = """
import resource
from ducseg.classes import CITYSCAPES
class Stub:
    record, classes = {}, CITYSCAPES
    def probabilities(self, image):
        found = np.zeros((19, *image.shape[:2]), np.float32)
        found[7] = 1
        return found
kinds = sys.argv[4].split(",")
tiling = Tiling(int(sys.argv[3]))
report = predict_files(Stub(), [Path(sys.argv[1])], Path(sys.argv[2]), kinds=kinds, tiling=tiling)
assert not report.failed, report.failed
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def peak(tmp_path: Path, size: tuple[int, int], kinds: str, tile: int = 1024) -> int:
    """Bytes that a process takes at most to label a GeoTIFF of that size with 19 classes."""
    how = {"tiled": True, "blockxsize": 512, "blockysize": 512, "SPARSE_OK": True, "BIGTIFF": "IF_SAFER", **UTM}
    source = tmp_path / f"{size[0]}.tif"
    shape = {"height": size[0], "width": size[1], "count": 3, "dtype": "uint8"}
    with warnings.catch_warnings(action="ignore"), rasterio.open(source, "w", driver="GTiff", **shape, **how):
        pass
    process = child(PEAK, source, tmp_path / "out", tile, kinds)
    out, _ = process.communicate()
    assert process.returncode == 0
    return int(out.splitlines()[-1])


@pytest.mark.slow
def test_memory_does_not_grow_with_the_height(tmp_path: Path) -> None:
    peaks = [peak(tmp_path, (height, 600), "labels,color,confidence", tile=256) for height in (600, 3000)]
    assert peaks[1] - peaks[0] < 20e6, "5 times the pixels"


@pytest.mark.slow
def test_20_000_by_20_000_pixels_of_19_classes_within_3_gb(tmp_path: Path) -> None:
    taken = peak(tmp_path, (20_000, 20_000), "labels,color,confidence,overlay,polygons")
    print(f"{taken / 1e9:.2f} GB")
    assert taken < 3e9
    with rasterio.open(tmp_path / "out" / "20000_labels.tif") as labels:
        assert labels.shape == (20_000, 20_000)
        assert (labels.read(1, window=((19_000, 20_000), (0, 20_000))) == 7).all()
