"""Polygons and lines as the pixels of a raster, by rows, so that nothing thin is lost and nothing wide grows.

The rule, by rasterio (GDAL):

- A polygon holds the pixels whose centres lie in it: neighbours that share a border share no pixel, and polygons that
  `predict` wrote along pixel edges are the same pixels again. In one narrower than a pixel (twice its area over its
  perimeter) gaps would open between the centres: it holds each pixel that it touches.
- A line holds the pixels whose centres lie within half its width, ends and bends round. One narrower than a pixel is a
  chain of pixels without a gap, as Bresenham draws it; up to a pixel's diagonal, where a short one may lie between all
  centres, it is both.
- Smaller polygons and lines lie on top of larger ones, whatever files and order they come in: a crack on a road, a
  road's marking on both.

Legend: H, W pixels; x and y in the raster's coordinates; pixels as (column, row) from the outer corner of the first.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ducseg.data.convert.vector_files import Part
from ducseg.data.files.raster_places import Place

__all__ = ["Drawing", "metres_per_unit", "moved"]

Points = NDArray[np.float64]

_DIAGONAL = math.sqrt(2)
_DEGREE = 111_320.0  # metres, along a meridian and along the equator
_MERCATOR = 'PROJECTION["Mercator_'  # Web Mercator too; not the transverse one
_ROUND = np.exp(2j * np.pi * np.arange(17) / 16)  # an end or a bend, closed


def metres_per_unit(place: Place, size: tuple[int, int]) -> Points:
    """Of a raster's x and y (2), in the middle of it; 1, 1 where it has no coordinate system on earth.

    Of projected systems those that say so are taken at their word but Mercator's, whose metre is cos(latitude) long.
    """
    if place.crs is None or not (place.crs.is_geographic or place.crs.is_projected):
        return np.ones(2)
    middle = moved(np.array([[size[1] / 2, size[0] / 2]]), place.transform)[0]
    if place.crs.is_geographic:
        return np.array([_DEGREE * math.cos(math.radians(middle[1])), _DEGREE])
    unit = float(place.crs.linear_units_factor[1])
    if _MERCATOR in place.crs.to_wkt():
        from rasterio.warp import transform

        unit *= math.cos(math.radians(transform(place.crs, "EPSG:4326", *middle[:, None])[1][0]))
    return np.full(2, unit)


class _Drawn(NamedTuple):
    """A part, its label, area in pixels, whether each pixel that it touches is its, its first and last row."""

    part: Part
    value: int
    area: float
    touches: bool
    first: float
    last: float


class Drawing:
    """Parts on one raster.

    Args:
        parts: with points in the raster's coordinates.
        values: label of each part.
        line_width: of lines in metres, or in the units of a raster without a coordinate system.

    Attributes:
        line_pixels: width of lines; None: there are none.
        thin: features with a polygon narrower than a pixel.
        shown: features that show in the rows that were asked for.
        overlaps: their pixels in parts of two labels.
    """

    def __init__(
        self, parts: Sequence[Part], values: Sequence[int], place: Place, size: tuple[int, int], line_width: float
    ) -> None:
        self._width, self._metres, self._to_pixels = size[1], metres_per_unit(place, size), ~place.transform
        a, b, _, d, e, _ = tuple(place.transform)[:6]
        pixel = float(np.hypot(*(np.array([[a, b], [d, e]]) * self._metres[:, None])).max())
        self._line_width, self._line_pixels = line_width, line_width / pixel
        self.line_pixels = self._line_pixels if any(part.is_line for part in parts) else None
        drawn = [self._drawn(part, value) for part, value in zip(parts, values)]
        self._drawn_parts = sorted(drawn, key=lambda one: -one.area)
        self._values = np.array([0, *(one.value for one in self._drawn_parts)], np.uint8)
        self.thin = {one.part.feature for one in drawn if one.touches}
        self.shown: set[int] = set()
        self.overlaps = 0

    def rows(self, begin: int, end: int) -> NDArray[np.uint8]:
        """Labels (end - begin, W), 0 where there is no part."""
        size = end - begin, self._width
        near = [index for index, one in enumerate(self._drawn_parts) if one.first <= end and one.last >= begin]
        if not near:
            return np.zeros(size, np.uint8)
        top, bottom = self._burnt(near, begin, size), self._burnt(near[::-1], begin, size)
        self.shown |= {
            self._drawn_parts[number - 1].part.feature for number in {*np.unique(top), *np.unique(bottom)} - {0}
        }
        labels = self._values[top]
        self.overlaps += int(np.count_nonzero(labels != self._values[bottom]))
        return labels

    def _burnt(self, order: Sequence[int], begin: int, size: tuple[int, int]) -> NDArray[np.int32]:
        """The last part's number, from 1 on, at each pixel."""
        from rasterio import Affine
        from rasterio.features import rasterize

        canvas = np.zeros(size, np.int32)
        for touches, indices in groupby(order, key=lambda index: self._drawn_parts[index].touches):
            shapes = [(shape, index + 1) for index in indices for shape in self._shapes(self._drawn_parts[index].part)]
            rasterize(shapes, out=canvas, transform=Affine.translation(0, begin), all_touched=touches)
        return canvas

    def _drawn(self, part: Part, value: int) -> _Drawn:
        rings = [moved(ring, self._to_pixels) for ring in part.rings]
        rows, room, touches = rings[0][:, 1], 1.0, False
        if part.is_line:
            area = _length(rings[0]) * max(1.0, self._line_pixels)
            down = abs(self._to_pixels.d) / self._metres[0] + abs(self._to_pixels.e) / self._metres[1]
            room += self._line_width / 2 * float(down)
        else:
            areas = [abs(_area(ring)) for ring in rings]
            area = areas[0] - sum(areas[1:])
            touches = 2 * area < sum(map(_length, rings))
        return _Drawn(part, value, area, touches, float(rows.min()) - room, float(rows.max()) + room)

    def _shapes(self, part: Part) -> Iterator[dict[str, Any]]:
        """GeoJSON's geometries of a part in pixels, made when they are drawn: those of a wide line are many."""
        if part.is_line and self._line_pixels >= 1:
            for ring in _band(part.rings[0] * self._metres, self._line_width):
                yield _polygon([moved(ring / self._metres, self._to_pixels)])
        if part.is_line and self._line_pixels <= _DIAGONAL:
            yield {"type": "LineString", "coordinates": moved(part.rings[0], self._to_pixels).tolist()}
        if not part.is_line:
            yield _polygon([moved(ring, self._to_pixels) for ring in part.rings])


def moved(points: Points, transform: Any) -> Points:
    """Points (n, 2) by rasterio's `Affine`."""
    a, b, c, d, e, f = tuple(transform)[:6]
    return np.asarray(points @ np.array([[a, d], [b, e]]) + (c, f))


def _area(ring: Points) -> float:
    x, y = (ring - ring[0]).T
    return float(x[:-1] @ y[1:] - y[:-1] @ x[1:]) / 2


def _length(points: Points) -> float:
    return float(np.hypot(*np.diff(points, axis=0).T).sum())


def _band(points: Points, width: float) -> list[Points]:
    """What lies within half the width of a line, as rings that overlap: one a segment, one about each point."""
    begins, steps = points[:-1], np.diff(points, axis=0)
    lengths = np.hypot(*steps.T)[:, None]
    begins, steps, lengths = (one[lengths[:, 0] > 0] for one in (begins, steps, lengths))
    aside = steps[:, ::-1] * (-1, 1) / lengths * (width / 2)
    ends = begins + steps
    corners = (begins + aside, ends + aside, ends - aside, begins - aside, begins + aside)
    round_about = np.stack([_ROUND.real, _ROUND.imag], 1) * (width / 2)
    return [*np.stack(corners, 1), *(points[:, None] + round_about)]


def _polygon(rings: Sequence[Points]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [ring.tolist() for ring in rings]}
