"""Vectors over rasters as masks: what `predict` wrote comes back, nothing thin is lost, everything left out is said."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from ducseg.classes import ClassSet
from ducseg.cli import main
from ducseg.data.config import DataConfig
from ducseg.data.convert.rasterizing import Drawing
from ducseg.data.convert.vector_files import Part
from ducseg.data.convert.vectors import convert
from ducseg.data.files.overlapping import quiet
from ducseg.data.files.raster_places import Place
from ducseg.data.files.rasters import open_placed
from ducseg.data.files.reading import read_label
from ducseg.data.layouts.opening import open_dataset
from ducseg.errors import UserError
from ducseg.inference.polygons import write_geojson

rasterio = pytest.importorskip("rasterio")

SIZE = (40, 60)
UTM = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000)}
DEGREES = {"crs": "EPSG:4326", "transform": rasterio.Affine(2e-6, 0, 15.5, 0, -1e-6, 60.1)}
WEB_MERCATOR = {"crs": "EPSG:3857", "transform": rasterio.Affine(0.5, 0, 1_600_000, 0, -0.5, 8_399_738)}  # 60 N
CLASSES = ClassSet(("background", "wire", "post", "roof"), ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 9)))


def raster(path: Path, size: tuple[int, int] = SIZE, *, empty: Any = None, **options: Any) -> Path:
    """A TIFF of RGB; what is `empty` has no data."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((3, *size), 7, np.uint8)
    if empty is not None:
        pixels[0][empty] = pixels[1][empty] = pixels[2][empty] = 0
        options["nodata"] = 0
    how = {"driver": "GTiff", "count": 3, "height": size[0], "width": size[1], "dtype": "uint8", **options}
    with quiet, rasterio.open(path, "w", **how) as target:
        target.write(pixels)
    return path


def feature(kind: str, coordinates: Any, /, **properties: Any) -> dict[str, Any]:
    return {
        "type": "Feature", "properties": properties, "geometry": {"type": kind, "coordinates": coordinates},
    }  # fmt: skip


def collection(path: Path, *features: Any, crs: str | None = "urn:ogc:def:crs:EPSG::32633") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    named = {} if crs is None else {"crs": {"type": "name", "properties": {"name": crs}}}
    path.write_text(json.dumps({"type": "FeatureCollection", **named, "features": features}))
    return path


def at(*pixels: tuple[float, float]) -> list[list[float]]:
    """(column, row) in the coordinates of `UTM`."""
    return [[500_000 + 0.5 * x, 4_000_000 - 0.5 * y] for x, y in pixels]


def box(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    return at((left, top), (right, top), (right, bottom), (left, bottom), (left, top))


def mask(out: Path, name: str = "x") -> NDArray[np.uint8]:
    return read_label(next((out / "masks").glob(f"{name}.*")))


def area(left: int, top: int, right: int, bottom: int) -> tuple[slice, slice]:
    return slice(top, bottom), slice(left, right)


def pieces(found: NDArray[Any]) -> int:
    """Connected over edges and corners."""
    return cv2.connectedComponents(found.astype(np.uint8), connectivity=8)[0] - 1


# -- the pixels --------------------------------------------------------------------------------------------------------

PLACES: dict[str, dict[str, Any]] = {
    "metres": UTM,
    "degrees": DEGREES,
    "no system": {"transform": rasterio.Affine(0.3, 0.1, 70, 0.1, -0.3, 900)},
    "no place": {},
}


@pytest.mark.parametrize("where", PLACES)
@settings(max_examples=8)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 5))
def test_what_predict_wrote_comes_back(
    tmp_path_factory: pytest.TempPathFactory, where: str, seed: int, size: int
) -> None:
    folder, rng, place = tmp_path_factory.mktemp("x"), np.random.default_rng(seed), PLACES[where]
    labels = np.kron(rng.choice([0, 0, 1, 2, 3], (9, 11)), np.ones((size, size))).astype(np.uint8)
    empty = rng.random(labels.shape) < 0.02
    if where == "no place":
        Image.fromarray(np.zeros((*labels.shape, 3), np.uint8)).save(folder / "x.png")
        crs = transform = None
    else:
        raster(folder / "x.tif", labels.shape, empty=empty, **place)
        labels[empty] = 255
        crs, transform = place.get("crs"), tuple(place["transform"])[:6]
    write_geojson(folder / "x_polygons.geojson", labels, CLASSES, transform=transform, crs=crs)
    CLASSES.write(folder / "classes.json")
    report = convert(folder, folder / "out")
    np.testing.assert_array_equal(mask(folder / "out"), labels)
    assert report.classes == CLASSES
    assert report.overlaps == 0


def test_without_a_list_classes_have_the_order_and_colours_of_predictions(tmp_path: Path) -> None:
    labels = np.array([[3, 0, 1], [3, 2, 2]], np.uint8)
    raster(tmp_path / "x.tif", (2, 3), **UTM)
    transform = tuple(UTM["transform"])[:6]
    write_geojson(tmp_path / "x_polygons.geojson", labels, CLASSES, transform=transform, crs="EPSG:32633")
    assert convert(tmp_path, tmp_path / "out").classes == CLASSES
    np.testing.assert_array_equal(mask(tmp_path / "out"), labels)


def distances(points: NDArray[Any], height: int, width: int, scale: tuple[float, float]) -> NDArray[Any]:
    """Of pixel centres from a line of pixels, in units of so many a pixel."""
    rows, columns = np.indices((height, width)) + 0.5
    centres = np.stack([columns, rows], 2) * scale
    found = []
    for begin, end in zip(points[:-1] * scale, points[1:] * scale):
        along = np.clip((centres - begin) @ (end - begin) / ((end - begin) @ (end - begin)), 0, 1)
        found.append(np.hypot(*np.moveaxis(centres - begin - along[..., None] * (end - begin), 2, 0)))
    return np.min(found, 0)


@pytest.mark.parametrize(
    ("place", "metres"),
    [(UTM, (0.5, 0.5)), (DEGREES, (2e-6 * 55_491, 1e-6 * 111_320)), (WEB_MERCATOR, (0.25, 0.25))],
)
def test_a_line_is_what_lies_within_half_its_width(tmp_path: Path, place: Any, metres: tuple[float, float]) -> None:
    points = np.array([[4, 5], [50, 20], [45, 35]], float)
    raster(tmp_path / "x.tif", **place)
    there = [place["transform"] @ tuple(point) for point in points]
    collection(tmp_path / "wires.geojson", feature("LineString", there), crs=place["crs"])
    width = 6 * metres[1]
    report = convert(tmp_path, tmp_path / "out", line_width=width)
    away = distances(points, *SIZE, metres)
    sure = np.abs(away - width / 2) > 0.05 * width  # ends and bends have sixteen corners
    np.testing.assert_array_equal(mask(tmp_path / "out")[sure], (away < width / 2)[sure])
    assert any("pixels wide" in line for line in report.lines())


COORDINATE = st.tuples(st.integers(-80, 1040).map(lambda n: n / 16), st.integers(-80, 720).map(lambda n: n / 16))


@example(points=[(0, 0), (0, 0.25)], pixels=1.0)
@example(points=[(0, 0), (0.25, 0.25)], pixels=1.4)
@given(points=st.lists(COORDINATE, min_size=2, max_size=5, unique=True), pixels=st.floats(0.01, 3))
def test_lines_have_no_gaps_however_thin(points: Sequence[tuple[float, float]], pixels: float) -> None:
    place = Place(None, rasterio.Affine.identity(), ((), None))
    big = Drawing([Part(0, "a", (np.array(points) + 10,), True)], [1], place, (60, 80), pixels)
    found = big.rows(0, 60)
    assert pieces(found) == 1
    away = distances(np.array(points) + 10, 60, 80, (1, 1))
    assert found[away < pixels / 2 * 0.95 if pixels >= 1 else away < 1e-9].all()
    assert away[found > 0].max() <= max(pixels / 2, 1.5)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 30))
def test_rows_are_those_of_the_whole(seed: int, rows: int) -> None:
    rng, place = np.random.default_rng(seed), Place(None, rasterio.Affine.identity(), ((), None))
    parts = []
    for number in range(6):
        points = rng.uniform(-10, 60, (rng.integers(3, 7), 2))
        line = bool(rng.integers(2))
        parts.append(Part(number, "a", (points if line else np.concatenate([points, points[:1]]),), line))
    width = float(rng.uniform(0.2, 4))
    one, other = (Drawing(parts, range(1, 7), place, SIZE, width) for _ in range(2))
    whole = one.rows(0, SIZE[0])
    strips = [other.rows(begin, min(begin + rows, SIZE[0])) for begin in range(0, SIZE[0], rows)]
    np.testing.assert_array_equal(np.concatenate(strips), whole)
    assert (one.shown, one.overlaps) == (other.shown, other.overlaps)


def test_polygons_thinner_than_a_pixel_stay_whole_and_neighbours_share_no_pixel(tmp_path: Path) -> None:
    raster(tmp_path / "x.tif", **UTM)
    sliver = at((3, 3.1), (50, 20.1), (50, 20.4), (3, 3.4), (3, 3.1))
    beside = [feature("Polygon", [box(left, 25, left + 10.5, 35)], kind=str(left)) for left in (10.0, 20.5)]
    collection(tmp_path / "a.geojson", feature("Polygon", [sliver], kind="sliver"), *beside)
    report = convert(tmp_path, tmp_path / "out", by="kind")
    names, found = report.classes.names, mask(tmp_path / "out")
    assert pieces(found == names.index("sliver")) == 1
    assert report.overlaps == 0
    assert (found[25:35] > 0).sum() == 10 * 21
    assert "1 polygons are narrower than a pixel: of these each pixel that they touch" in report.lines()


def test_a_ring_that_is_not_closed_is(tmp_path: Path) -> None:
    raster(tmp_path / "x.tif", **UTM)
    collection(tmp_path / "a.geojson", feature("Polygon", [box(3, 4, 9, 6)[:-1]]))
    report = convert(tmp_path, tmp_path / "out")
    assert (mask(tmp_path / "out")[area(3, 4, 9, 6)].sum(), mask(tmp_path / "out").sum()) == (12, 12)
    assert not any("narrower" in line for line in report.lines())


def test_holes_collections_and_smaller_ones_on_top(tmp_path: Path) -> None:
    raster(tmp_path / "x.tif", **UTM)
    road = feature("MultiPolygon", [[box(0, 0, 40, 20), box(10, 5, 20, 10)], [box(50, 30, 60, 40)]], kind="road")
    inside = [{"type": "Polygon", "coordinates": [box(2, 2, 6, 6)]}, {"type": "Point", "coordinates": at((1, 1))[0]}]
    both = {
        "type": "Feature",
        "properties": {"kind": "lid"},
        "geometry": {"type": "GeometryCollection", "geometries": inside},
    }
    expected = np.zeros(SIZE, np.uint8)
    expected[area(0, 0, 40, 20)], expected[area(50, 30, 60, 40)] = 2, 2
    expected[area(10, 5, 20, 10)], expected[area(2, 2, 6, 6)] = 0, 1
    for number, features in enumerate([(road, both), (both, road)]):
        collection(tmp_path / "a.geojson", *features)
        report = convert(tmp_path, tmp_path / f"out{number}", by="kind")
        np.testing.assert_array_equal(mask(tmp_path / f"out{number}"), expected)
        assert (report.classes.names, report.objects, report.overlaps) == (("background", "lid", "road"), 2, 16)
        assert "1 points are left out" in report.lines()


# -- places ------------------------------------------------------------------------------------------------------------


def test_coordinates_are_transformed_and_masks_lie_where_the_pictures_do(tmp_path: Path) -> None:
    from rasterio.warp import transform_geom

    square = {"type": "Polygon", "coordinates": [box(10, 10, 30, 20)]}
    for name, crs in (("web", "EPSG:3857"), ("degrees", None)):
        there = transform_geom("EPSG:32633", crs or "OGC:CRS84", square)
        collection(tmp_path / f"{name}.geojson", feature("Polygon", there["coordinates"], name="roof"), crs=crs)
        raster(tmp_path / name / "x.tif", empty=area(0, 0, 60, 4), **UTM)
        raster(
            tmp_path / name / "y.tif", **{**UTM, "transform": UTM["transform"] @ rasterio.Affine.translation(200, 0)}
        )
        report = convert(tmp_path / f"{name}.geojson", tmp_path / f"out-{name}", images=tmp_path / name)
        expected = np.zeros(SIZE, np.uint8)
        expected[area(10, 10, 30, 20)], expected[:4] = 1, 255
        np.testing.assert_array_equal(mask(tmp_path / f"out-{name}"), expected)
        assert (report.pictures, report.empty, report.objects) == ({"": 2}, 1, 1)
        assert "240 pixels without data are 255" in report.lines()
        with open_placed(tmp_path / f"out-{name}" / "masks" / "x.tif") as written:
            assert (written.place.name, written.place.transform) == ("EPSG:32633", UTM["transform"])
    assert any("(a GeoJSON that names no system), transformed to EPSG:32633" in line for line in report.lines())


def test_it_trains_as_it_is(tmp_path: Path) -> None:
    for name in ("a", "b"):
        raster(tmp_path / "in" / "train" / f"{name}.tif", **UTM)
        raster(tmp_path / "in" / "val" / f"{name}.tif", **UTM)
    collection(tmp_path / "in" / "wires.geojson", feature("LineString", at((0, 5), (60, 5))))
    convert(tmp_path / "in", tmp_path / "out", line_width=1)
    data = open_dataset(DataConfig(dataset="folder", root=str(tmp_path / "out")), "val")
    assert (data.classes.names, len(data)) == (("background", "wires"), 2)
    np.testing.assert_array_equal(np.flatnonzero(data[0].label.any(1)), [4, 5])


def test_a_file_of_a_pictures_name_is_of_it_alone(tmp_path: Path) -> None:
    for name in ("x", "y", "z"):
        raster(tmp_path / f"{name}.tif", **UTM)
    collection(tmp_path / "x.geojson", feature("Polygon", [box(0, 0, 9, 9)]))
    collection(tmp_path / "y_polygons.geojson")
    report = convert(tmp_path, tmp_path / "out")
    assert report.classes.names == ("background", "object")
    assert mask(tmp_path / "out", "x").sum() == 81
    assert not mask(tmp_path / "out", "y").any()
    assert not (tmp_path / "out" / "images" / "z.tif").exists()
    assert any(line.startswith("1 pictures that no file is of are left out") for line in report.lines())


def test_pictures_without_a_place_take_pixels_down_or_up(tmp_path: Path) -> None:
    square = np.array(((3, 4), (9, 4), (9, 6), (3, 6), (3, 4)))
    for name, sign in (("x", 1), ("y", -1)):
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / f"{name}.png")
        collection(tmp_path / f"{name}.geojson", feature("Polygon", [(square * (1, sign)).tolist()]), crs=None)
    report = convert(tmp_path, tmp_path / "out")
    expected = np.zeros(SIZE, np.uint8)
    expected[area(3, 4, 9, 6)] = 1
    for name in ("x", "y"):
        np.testing.assert_array_equal(mask(tmp_path / "out", name), expected)
    assert "coordinates: pixels, y up, from 0 to -H (1 pictures)" in report.lines()


def test_world_files_are_places_and_go_with_their_pictures(tmp_path: Path) -> None:
    for name in ("x", "y"):
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.pgw").write_text("0.5\n0\n0\n-0.5\n500000.25\n3999999.75\n")
    collection(tmp_path / "roofs.geojson", feature("Polygon", [box(3, 4, 9, 6)]))
    collection(
        tmp_path / "y_polygons.geojson", feature("Polygon", [[[3, 4], [9, 4], [9, 6], [3, 6], [3, 4]]]), crs=None
    )
    report = convert(tmp_path, tmp_path / "out")
    assert mask(tmp_path / "out", "x")[area(3, 4, 9, 6)].all()
    assert mask(tmp_path / "out", "y")[area(3, 4, 9, 6)].all(), "pixels, as predict writes them of such a picture"
    assert (tmp_path / "out" / "images" / "x.pgw").exists()
    assert any("picture: none, file: urn:ogc:def:crs:EPSG::32633" in line for line in report.lines())


# -- classes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("properties", "by", "names"),
    [
        ({"Class": "roof", "id": 7}, None, ("roof",)),
        ({"class": "roof", "label": 3}, None, ("roof",)),
        ({"kind": 2.0, "class": "roof"}, "kind", ("2",)),
        ({"id": 7}, None, ("a",)),
    ],
)
def test_where_the_class_is_found(tmp_path: Path, properties: Any, by: str | None, names: tuple[str, ...]) -> None:
    raster(tmp_path / "x.tif", **UTM)
    collection(tmp_path / "a.geojson", feature("Polygon", [box(0, 0, 9, 9)], **properties))
    assert convert(tmp_path, tmp_path / "out", by=by).classes.names == ("background", *names)


def test_features_without_a_class_and_ignored_ones_are_void(tmp_path: Path) -> None:
    raster(tmp_path / "x.tif", **UTM)
    values = {0: "roof", 10: None, 20: "tree", 30: " "}
    collection(
        tmp_path / "a.geojson",
        *(feature("Polygon", [box(left, 0, left + 10, 40)], category=value) for left, value in values.items()),
        {"type": "Feature", "properties": None, "geometry": None},
    )  # fmt: skip
    report = convert(tmp_path, tmp_path / "out", ignore=("tree",))
    assert mask(tmp_path / "out")[0, ::10].tolist() == [1, 255, 255, 255, 0, 0]
    assert {"2 features without a class are 255", "1 features without a geometry are left out"} <= set(report.lines())


POLYGON, LINE = feature("Polygon", [box(0, 0, 9, 9)], kind="a"), feature("LineString", at((0, 0), (9, 9)))


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        ([LINE], {}, r"found 1 lines; needed how wide they are. Give it in metres: --line-width 0\.1"),
        ([POLYGON], {"line_width": 1.0}, "--line-width: found no line"),
        ([LINE], {"line_width": 0.0}, "--line-width: found 0.0; needed a positive number"),
        ([feature("Point", at((1, 1))[0])], {}, "found 1 points are left out; needed polygons or lines"),
        ([POLYGON], {"by": "class"}, r"--by class: found in file .*a\.geojson kind; needed"),
        ([feature("Polygon", [box(0, 0, 9, 9)], Class="a", name="b")], {}, "fields Class and name.*--by Class"),
        ([feature("Polygon", [box(900, 0, 990, 9)])], {}, r"no feature in any picture \(a.geojson: x 500450 to 500495"),
        ([feature("Polygon", [box(0, 0, 9, 9)[:3]])], {}, "a ring or line of 3 points, needed 4"),
        ([feature("Curve", [1])], {}, "a geometry 'Curve'"),
        ([7], {}, "a feature that does not read"),
        ([POLYGON], {"ignore": ("b",)}, "--ignore: found b; needed one of a"),
    ],
)  # fmt: skip
def test_what_does_not_go_is_said(tmp_path: Path, features: Any, options: dict[str, Any], message: str) -> None:
    raster(tmp_path / "x.tif", **UTM)
    collection(tmp_path / "a.geojson", *features)
    with pytest.raises(UserError, match=message):
        convert(tmp_path, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("crs", "message"),
    [
        (None, "found no crs, and x from 500000 to 500004.5.*needed degrees"),
        ("EPSG:1", "'EPSG:1' .*needed a coordinate"),
    ],
)
def test_other_systems_are_said(tmp_path: Path, crs: str | None, message: str) -> None:
    raster(tmp_path / "x.tif", **UTM)
    collection(tmp_path / "a.geojson", POLYGON, crs=crs)
    with pytest.raises(UserError, match=message):
        convert(tmp_path, tmp_path / "out")


def test_a_system_that_is_not_on_earth_is_said(tmp_path: Path) -> None:
    local = 'LOCAL_CS["site",LOCAL_DATUM["none",0],UNIT["metre",1],AXIS["X",EAST],AXIS["Y",NORTH]]'
    raster(tmp_path / "x.tif", **{**UTM, "crs": local})
    collection(tmp_path / "a.geojson", feature("Polygon", [[[5, 5], [6, 5], [6, 6], [5, 5]]]), crs=None)
    with pytest.raises(UserError, match=r"which does not become LOCAL_CS.*Give the raster its coordinate system"):
        convert(tmp_path, tmp_path / "out")


def test_files_that_do_not_fit_are_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found no such file or folder"):
        convert(tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(UserError, match=r"needed a file of vectors or a folder with some \(\.geojson"):
        convert(tmp_path, tmp_path / "out")
    file = collection(tmp_path / "a.geojson", POLYGON)
    with pytest.raises(UserError, match=r"found none; needed those that were drawn on\. Give their folder: --images"):
        convert(tmp_path, tmp_path / "out")
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "x.png")
    with pytest.raises(UserError, match="found none with a place on earth"):
        convert(tmp_path, tmp_path / "out")
    (tmp_path / "x.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"file .*x.png: found damaged"):
        convert(tmp_path, tmp_path / "out")
    raster(tmp_path / "x.png", **UTM)
    for text in ("", "[]", '{"type": "Topology"}', '{"type": "FeatureCollection", "features": 3}'):
        file.write_text(text)
        with pytest.raises(UserError, match=r"file .*a.geojson: found no GeoJSON"):
            convert(tmp_path, tmp_path / "out")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raster(tmp_path / "x.tif", **UTM)
    file = collection(tmp_path / "wires.geojson", LINE)
    words = ["data", "convert", "vectors", str(file), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main([*words, "--line-width", "0.1"]) == 0
    assert "lines are 0.2 pixels wide; narrower than a pixel they are drawn one wide" in capsys.readouterr().out
    assert main(["data", "convert", "coco", str(file), "--out", str(tmp_path / "o"), "--by", "a"]) == 2
    assert "--by: found coco; needed vectors" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a.gpkg", "a.shp"])
def test_geopackage_and_shapefile(tmp_path: Path, name: str) -> None:
    raw = pytest.importorskip("pyogrio.raw")
    raster(tmp_path / "x.tif", **UTM)
    meta, _, geometry, fields = raw.read(collection(tmp_path / "a.geojson", POLYGON))
    how = {"geometry_type": meta["geometry_type"], "crs": meta["crs"]}
    raw.write(tmp_path / name, geometry, fields, meta["fields"], **how)
    report = convert(tmp_path / name, tmp_path / "out", by="kind")
    assert report.classes.names == ("background", "a")
    assert mask(tmp_path / "out").sum() == 81
    (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(UserError, match=rf"file .*{name}: found none that reads"):
        convert(tmp_path / name, tmp_path / "out2")


def test_without_pyogrio_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyogrio", None)
    raster(tmp_path / "x.tif", **UTM)
    (tmp_path / "a.gpkg").touch()
    with pytest.raises(
        UserError, match=r"pyogrio is not installed.*pip install 'ducseg\[vectors\]', or save it as GeoJSON"
    ):
        convert(tmp_path, tmp_path / "out")
