"""Polygons against the label maps they are drawn from: filled again, they give every pixel back."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ducseg.classes import CAMVID, VOC2012, ClassSet
from ducseg.errors import UserError
from ducseg.inference.polygons import feature_collection, polygon_features, write_geojson
from ducseg.inference.ring_simplifying import points_kept

LIFTED = (2.0, 0.0, 500_000.0, 0.0, -2.0, 4_000_000.0)
"""Pixels of 2 m, north up, as a raster in UTM has them."""


def area(ring: Any) -> float:
    """Of a closed ring, positive where it runs counter-clockwise in its numbers."""
    x, y = np.asarray(ring, np.float64).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


def filled(features: list[Any], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Labels of the pixels whose centres lie inside; each in one polygon at most."""
    labels, times = np.full(size, 255, np.uint8), np.zeros(size, int)
    for feature in features:
        crossings = np.zeros(size, int)
        for ring in feature["geometry"]["coordinates"]:
            for (x0, y0), (x1, y1) in pairwise(ring):
                if x0 == x1:  # a vertical edge flips everything right of it
                    crossings[min(y0, y1) : max(y0, y1), x0:] += 1
        inside = crossings % 2 == 1
        times += inside
        labels[inside] = feature["properties"]["label"]
        assert inside.sum() == feature["properties"]["pixels"]
    assert times.max(initial=0) <= 1
    return labels


def blobs(height: int, width: int, seed: int, classes: int = 4, size: int = 1) -> NDArray[np.uint8]:
    random = np.random.default_rng(seed).integers(0, classes, (-(-height // size), -(-width // size)))
    return np.kron(random, np.ones((size, size), int)).astype(np.uint8)[:height, :width]


MAPS = {
    "one pixel": np.zeros((1, 1), np.uint8),
    "a row": np.array([[0, 0, 1, 2, 2]], np.uint8),
    "a column": np.array([[0], [1], [1]], np.uint8),
    "chessboard": np.indices((5, 6)).sum(0).astype(np.uint8) % 2,
    "ring in ring": np.maximum(*np.abs(np.indices((7, 7)) - 3)).astype(np.uint8) % 2,
    "hole at a corner": np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]], np.uint8),
    "two holes that touch": np.array([[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]], np.uint8),
    "nothing known inside": np.array([[0, 0, 0], [0, 255, 0], [0, 0, 0]], np.uint8),
    "noise of 2": blobs(31, 37, 0, classes=2),
    "noise of 4": blobs(40, 23, 1),
    "blobs": blobs(64, 80, 2, size=7),
}


@pytest.mark.parametrize("labels", MAPS.values(), ids=MAPS)
def test_filled_again_they_are_the_label_map(labels: NDArray[np.uint8]) -> None:
    features = list(polygon_features(labels, CAMVID))
    assert np.array_equal(filled(features, labels.shape), labels)
    for feature in features:
        outer, *holes = feature["geometry"]["coordinates"]
        assert area(outer) > 0 > max(map(area, holes), default=-1)
        assert sum(map(area, (outer, *holes))) == feature["properties"]["pixels"]
        for ring in (outer, *holes):
            assert ring[0] == ring[-1]
            assert max(Counter(map(tuple, ring[:-1])).values()) == 1, "simple: no corner twice"
            turns = np.diff(np.asarray(ring + ring[1:2]), axis=0)
            assert (turns[:-1] * turns[1:]).sum(1).max() == 0, "only where it turns"


def test_regions_are_connected_by_edges_and_holes_belong_to_theirs() -> None:
    features = list(polygon_features(MAPS["chessboard"], CAMVID))
    assert len(features) == 30
    outermost, middle, ring, centre = polygon_features(MAPS["ring in ring"], CAMVID)
    assert [len(one["geometry"]["coordinates"]) for one in (outermost, middle, ring, centre)] == [2, 2, 2, 1]
    touching = [
        one for one in polygon_features(MAPS["two holes that touch"], CAMVID) if one["properties"]["label"] == 0
    ]
    assert [len(one["geometry"]["coordinates"]) for one in touching] == [3]
    corner = [one for one in polygon_features(MAPS["hole at a corner"], CAMVID) if one["properties"]["label"] == 0]
    assert [len(one["geometry"]["coordinates"]) for one in corner] == [2], "the hole is a ring of its own"


def test_properties_and_pixel_coordinates_written_out() -> None:
    labels = np.array([[3, 3, 255], [3, 0, 0]], np.uint8)
    assert list(polygon_features(labels, CAMVID)) == [
        {
            "type": "Feature",
            "properties": {"class": "road", "label": 3, "color": "#804080", "pixels": 3},
            "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [2, 0], [2, 1], [1, 1], [1, 2], [0, 2], [0, 0]]]},
        },
        {
            "type": "Feature",
            "properties": {"class": "sky", "label": 0, "color": "#808080", "pixels": 2},
            "geometry": {"type": "Polygon", "coordinates": [[[1, 1], [3, 1], [3, 2], [1, 2], [1, 1]]]},
        },
    ]


def test_regions_below_the_least_area_have_none() -> None:
    labels = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0], [2, 2, 0, 1]], np.uint8)
    for least, expected in ((0, [3, 2, 1]), (1, [3, 2, 1]), (2, [3, 2]), (3, [3]), (4, [])):
        found = feature_collection(labels, VOC2012, least_pixels=least)["features"]
        assert [one["properties"]["pixels"] for one in found] == expected
    with pytest.raises(UserError, match="least area: found -1"):
        feature_collection(labels, VOC2012, least_pixels=-1)


@pytest.mark.parametrize("tolerance", [0.0, 1.0])
def test_the_background_that_overlays_leave_clear_has_no_polygon(tolerance: float) -> None:
    labels = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0], [2, 255, 0, 0]], np.uint8)
    found = feature_collection(labels, VOC2012, tolerance=tolerance)["features"]
    assert [one["properties"]["class"] for one in found] == ["aeroplane", "bicycle"]
    assert [one["properties"]["pixels"] for one in found] == [3, 1]
    of_one = ClassSet(("road",), ((0, 0, 0),))
    assert len(list(polygon_features(np.zeros((2, 2), np.uint8), of_one))) == 1, "no background: there is one class"


def test_in_a_rasters_coordinates_outer_rings_still_run_counter_clockwise() -> None:
    labels = MAPS["ring in ring"]
    for plain, placed in zip(polygon_features(labels, CAMVID), polygon_features(labels, CAMVID, transform=LIFTED)):
        for ring, there in zip(plain["geometry"]["coordinates"], placed["geometry"]["coordinates"]):
            assert area(there) == 4 * area(ring)
            assert sorted(map(tuple, there)) == sorted((500_000 + 2 * x, 4_000_000 - 2 * y) for x, y in ring)
    turned = (0.0, 2.0, 10.0, 3.0, 0.0, 20.0)  # x and y change places: it mirrors
    (square,) = polygon_features(np.zeros((1, 2), np.uint8), CAMVID, transform=turned)
    assert sorted(map(tuple, square["geometry"]["coordinates"][0][1:])) == [(10, 20), (10, 26), (12, 20), (12, 26)]
    assert area(square["geometry"]["coordinates"][0]) == 12


def test_coordinates_are_a_thousandth_of_a_pixel_and_no_longer() -> None:
    fine = (0.1, 0.0, 500_000.0, 0.0, -0.1, 4_000_000.0)
    (square,) = polygon_features(np.zeros((7, 3), np.uint8), CAMVID, transform=fine)
    assert json.dumps(square["geometry"]["coordinates"][0][1]) == "[500000.0, 3999999.3]"
    degrees = (1e-6, 0.0, 15.0000003, 0.0, -1e-6, 36.0)
    (square,) = polygon_features(np.zeros((7, 3), np.uint8), CAMVID, transform=degrees)
    assert json.dumps(square["geometry"]["coordinates"][0][2]) == "[15.0000033, 35.999993]"


def edges(features: list[Any]) -> Counter[frozenset[tuple[int, int]]]:
    return Counter(
        frozenset((tuple(one), tuple(other)))
        for feature in features
        for ring in feature["geometry"]["coordinates"]
        for one, other in pairwise(ring)
    )


@pytest.mark.slow
def test_simplified_neighbours_still_meet() -> None:
    ys, xs = np.indices((90, 120))
    labels = ((xs * 0.7 + 20 * np.sin(ys / 9) > 40) + 2 * ((xs - 60) ** 2 + (ys - 45) ** 2 < 900)).astype(np.uint8)
    exact = list(polygon_features(labels, CAMVID))
    rough = list(polygon_features(labels, CAMVID, tolerance=1.0))
    points = [sum(len(ring) for one in found for ring in one["geometry"]["coordinates"]) for found in (exact, rough)]
    assert points[1] < points[0] / 4
    inner = {edge for edge in edges(rough) if not _on_border(edge, labels.shape)}
    assert inner
    assert {edges(rough)[edge] for edge in inner} == {2}, "each border is two regions' own"
    whole = sum(area(ring) for one in rough for ring in one["geometry"]["coordinates"])
    assert whole == labels.size, "no gap, no overlap"
    assert [one["properties"] for one in rough] == [one["properties"] for one in exact]


@pytest.mark.parametrize("side", [1000, 60_000, 100_000])
def test_corners_of_regions_as_large_as_a_raster_stay(side: int) -> None:
    corners = np.array([[0, 0], [side, 0], [side, side // 2], [side, side], [0, side]], np.int32)
    kept = points_kept(corners, np.zeros(5, np.bool_), np.array([0, 5]), 2.0)
    assert kept.tolist() == [True, True, False, True, True], "but for the one on a straight line"


def _on_border(edge: frozenset[tuple[int, int]], size: tuple[int, int]) -> bool:
    xs, ys = zip(*edge)
    return any(len(set(values)) == 1 and values[0] in (0, most) for values, most in ((xs, size[1]), (ys, size[0])))


def test_a_region_that_would_vanish_stays_exact() -> None:
    labels = np.zeros((9, 9), np.uint8)
    labels[4, 4] = 1
    outer, dot = polygon_features(labels, CAMVID, tolerance=3)
    assert len(dot["geometry"]["coordinates"][0]) == 5
    assert sorted(map(tuple, outer["geometry"]["coordinates"][1])) == sorted(
        map(tuple, [*dot["geometry"]["coordinates"][0][:-1], outer["geometry"]["coordinates"][1][0]])
    )


def test_the_file_is_the_collection(tmp_path: Path) -> None:
    labels = MAPS["blobs"]
    write_geojson(tmp_path / "x.geojson", labels, CAMVID, transform=LIFTED, crs="EPSG:32633")
    found = json.loads((tmp_path / "x.geojson").read_text())
    assert found == feature_collection(labels, CAMVID, transform=LIFTED, crs="EPSG:32633")
    assert found["crs"] == {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    write_geojson(tmp_path / "none.geojson", np.full((4, 4), 255, np.uint8), CAMVID)
    assert json.loads((tmp_path / "none.geojson").read_text()) == {"type": "FeatureCollection", "features": []}


def test_what_is_no_label_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"value 11; needed 0\.\.10, or 255"):
        write_geojson(tmp_path / "x.geojson", np.full((2, 2), 11, np.uint8), CAMVID)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"uint8 \(2, 2, 3\)"):
        feature_collection(np.zeros((2, 2, 3), np.uint8), CAMVID)
    with pytest.raises(UserError, match="9 numbers; needed six"):
        feature_collection(np.zeros((2, 2), np.uint8), CAMVID, transform=(1.0, 0, 0, 0, 1, 0, 0, 0, 1))
    with pytest.raises(UserError, match="tolerance"):
        feature_collection(np.zeros((2, 2), np.uint8), CAMVID, tolerance=-1)
