"""Polygons of a label map as GeoJSON: one feature for each connected region of a class, exact along pixel edges.

Legend: H, W pixels; x to the right and y down from the outer corner of the first pixel, so that the pixel of row i and
column j is the square from (j, i) to (j + 1, i + 1). Pixels that share an edge are connected, those that share only a
corner are not. Every ring is simple; holes are rings of their own and may touch others in single points, which both
OGC and RFC 7946 allow. Rings run as RFC 7946 wants them: the outer one counter-clockwise in the coordinates' numbers.
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE, ClassSet
from ducseg.errors import explain, real, whole
from ducseg.files import whole_file
from ducseg.inference.ring_simplifying import points_kept
from ducseg.inference.ring_tracing import rings_of

__all__ = ["feature_collection", "polygon_features", "write_geojson"]

Transform = Sequence[float]

_ROWS = 1024  # looked at together


def polygon_features(
    labels: NDArray[np.uint8],
    classes: ClassSet,
    *,
    transform: Transform | None = None,
    tolerance: float = 0.0,
    least_pixels: int = 0,
) -> Iterator[dict[str, Any]]:
    """The regions of labels (H, W) as GeoJSON features, in the order of their first pixels, row by row.

    Labels of 255 and of the background (`ClassSet.background`), which overlays leave clear, have none.

    Properties: "class", "label", "color" (#rrggbb) and "pixels", the exact count.

    Args:
        labels: uint8, may be a memory map; it is read several times. Beside it this takes a byte a pixel and about 40
            bytes for each run of equal pixels in a row.
        transform: (a, b, c, d, e, f) of x' = a x + b y + c, y' = d x + e y + f, in rasterio's order; rounded to a
            thousandth of a pixel or less. None: pixels.
        tolerance: a simplified border lies within so many pixels of the exact one. Borders between two regions are
            simplified once, so neighbours still meet; where that would leave nothing of a region, its ring stays exact.
        least_pixels: regions of fewer have no feature; the holes that they leave in others stay.

    Raises:
        UserError: a label that is no class and not 255, another shape or type, a tolerance or least area below 0, a
            transform that is not six numbers.
    """
    _check(labels, classes, transform)
    tolerance = real("tolerance", tolerance, fix="0 is exact.")
    least_pixels = whole("least area", least_pixels, fix="0 keeps all.")
    points, junctions, first, region, pixels = rings_of(labels, with_junctions=tolerance > 0)
    starts = points[first[:-1]]
    if tolerance:
        keep = points_kept(points, junctions, first, tolerance)
        points, first = points[keep], np.append(0, np.cumsum(keep))[first]
    order = np.argsort(region, kind="stable")  # the first ring of a region is its outer one
    begin = 0
    for end in (np.flatnonzero(np.diff(region[order], append=-1)) + 1).tolist():
        rings = order[begin:end].tolist()
        begin = end
        x, y = starts[rings[0]]
        label = int(labels[y, x])
        if label == classes.background or pixels[region[rings[0]]] < least_pixels:
            continue
        coordinates = [_placed(points[first[ring] : first[ring + 1]], transform) for ring in rings]
        properties = {
            "class": classes.names[label],
            "label": label,
            "color": f"#{bytes(classes.palette[label]).hex()}",
            "pixels": int(pixels[region[rings[0]]]),
        }
        geometry = {"type": "Polygon", "coordinates": coordinates}
        yield {"type": "Feature", "properties": properties, "geometry": geometry}


def feature_collection(
    labels: NDArray[np.uint8],
    classes: ClassSet,
    *,
    transform: Transform | None = None,
    crs: str | None = None,
    tolerance: float = 0.0,
    least_pixels: int = 0,
) -> dict[str, Any]:
    """The features of `polygon_features` as one JSON-able GeoJSON object.

    Args:
        crs: of the transformed coordinates, as "EPSG:32633"; named in the "crs" member that GDAL and QGIS read.
    """
    features = list(
        polygon_features(labels, classes, transform=transform, tolerance=tolerance, least_pixels=least_pixels)
    )
    return {"type": "FeatureCollection", **_crs(crs), "features": features}


def write_geojson(
    path: Path,
    labels: NDArray[np.uint8],
    classes: ClassSet,
    *,
    transform: Transform | None = None,
    crs: str | None = None,
    tolerance: float = 0.0,
    least_pixels: int = 0,
) -> None:
    """Write `feature_collection`, a feature a line, whole or not at all.

    Raises:
        UserError: as `polygon_features`; a folder or disk that refuses the file.
    """
    start = json.dumps({"type": "FeatureCollection", **_crs(crs)})[:-1]
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(f'{start}, "features": [')
        separator = "\n"
        for feature in polygon_features(
            labels, classes, transform=transform, tolerance=tolerance, least_pixels=least_pixels
        ):
            file.write(separator + json.dumps(feature, ensure_ascii=False, separators=(",", ":")))
            separator = ",\n"
        file.write("\n]}\n")


def _crs(crs: str | None) -> dict[str, Any]:
    if crs is None:
        return {}
    authority, _, code = crs.partition(":")
    name = f"urn:ogc:def:crs:{authority}::{code}" if code.isdecimal() else crs
    return {"crs": {"type": "name", "properties": {"name": name}}}


def _placed(points: NDArray[np.int32], transform: Transform | None) -> list[list[float]]:
    """A closed ring of points (n, 2), transformed; turned round where the transform mirrors."""
    corners: list[list[float]] = [*points.tolist(), points[0].tolist()]
    if transform is not None:
        a, b, c, d, e, f = map(float, transform)
        digits = 3 - math.floor(math.log10(abs(a * e - b * d) ** 0.5 or 1))  # a thousandth of a pixel
        corners = [[round(a * x + b * y + c, digits), round(d * x + e * y + f, digits)] for x, y in corners]
        if a * e - b * d < 0:
            corners.reverse()
    return corners


def _check(labels: NDArray[np.uint8], classes: ClassSet, transform: Transform | None) -> None:
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise explain("labels", found=f"{labels.dtype} {labels.shape}", needed="uint8 (H, W)", fix="One value a pixel.")
    if transform is not None and len(transform) != 6:
        found = f"{len(transform)} numbers"
        raise explain("transform", found=found, needed="six: a, b, c, d, e, f", fix="Leave out the last row.")
    blocks = (labels[row : row + _ROWS] + np.uint8(1) for row in range(0, len(labels), _ROWS))  # 255 becomes 0
    largest = max((int(block.max(initial=0)) for block in blocks), default=0) - 1
    if largest >= len(classes):
        raise explain(
            "labels",
            found=f"value {largest}",
            needed=f"0..{len(classes) - 1}, or {IGNORE} where nothing is known",
            fix="Use the class list that the labels were made with.",
        )
