"""Where on a picture the shapes of files of vectors lie.

The coordinates of a file are transformed to the picture's system; where one of the two has none, they are taken as the
picture's own. In a picture without a place they are pixels, x to the right and y down as `predict` writes them, or y up
from 0 down to -H as QGIS shows such pictures. Legend: H, W pixels.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ducseg.data.convert.rasterizing import metres_per_unit, moved
from ducseg.data.convert.vector_files import Layer, Part
from ducseg.data.convert.writing import Annotated, Shape
from ducseg.data.files.raster_places import Place
from ducseg.data.files.rasters import is_raster, open_placed
from ducseg.data.files.reading import picture_size
from ducseg.errors import explain

__all__ = ["Picture", "box_of", "extent_of", "opened", "parts_of", "with_layers"]

Box = tuple[float, float, float, float]
"""Least x and y, most x and y."""


@dataclass(frozen=True, kw_only=True)
class Picture(Annotated):
    """A picture of vectors.

    Attributes:
        place: where it lies; pixels: (H, W).
        layers: of the files that are of it, with the parts that may touch it.
        how: what their coordinates are.
    """

    shapes: tuple[Shape, ...] = ()
    place: Place
    pixels: tuple[int, int]
    layers: tuple[Layer, ...] = ()
    how: tuple[str, ...] = ()


def opened(file: Path, name: str, split: str) -> Picture:
    """A picture file with its place; raises UserError as `open_placed`."""
    with open_placed(file) as raster:
        place, size = raster.place, raster.size
    if not place.is_known and not is_raster(file):
        size = picture_size(file)  # as EXIF turns it
    return Picture(file=file, name=name, split=split, place=place, pixels=size)


def with_layers(picture: Picture, layers: Sequence[Layer], owners: Mapping[Path, Path], width: float) -> Picture:
    """With the layers that are of it, and of these the parts that may touch it; and how their coordinates are meant."""
    all_of = picture.file if picture.place.is_known else None
    of_it = [one for one in layers if owners.get(one.file, all_of) == picture.file]
    placed = [_placed(picture, one, width, alone=one.file in owners) for one in of_it]
    return replace(picture, layers=tuple(one for one, _ in placed), how=tuple(dict.fromkeys(how for _, how in placed)))


def _placed(picture: Picture, layer: Layer, width: float, *, alone: bool) -> tuple[Layer, str]:
    place, box = picture.place, box_of(picture, width)
    if not place.is_known or (alone and _are_pixels(layer, picture, box)):
        return _from_pixels(layer, place)
    if layer.crs is None or place.crs is None:
        systems = f"picture: {place.name or 'none'}, file: {layer.crs or 'none'}"
        return layer.within(box, crs=None), f"taken as the picture's own (coordinate system of the {systems})"
    if layer.is_implied:
        _check_degrees(layer)
    crs = _crs(layer)
    if crs == place.crs:
        return layer.within(box, crs=None), f"{place.name}, the picture's own"
    implied = " (a GeoJSON that names no system)" if layer.is_implied else ""
    with _explained(layer, place):
        around = _around(box, place.crs, crs)
    return layer.within(around), f"{layer.crs}{implied}, transformed to {place.name}"


def box_of(picture: Picture, width: float = 0.0) -> Box:
    """Of a picture in its coordinates, with room for half a line and a pixel."""
    (height, across), transform = picture.pixels, picture.place.transform
    corners = moved(np.array([(0, 0), (across, 0), (0, height), (across, height)]), transform)
    pixel = max(map(abs, (transform.a, transform.b, transform.d, transform.e)))
    room = pixel + width / 2 / float(metres_per_unit(picture.place, picture.pixels).min())
    low, high = corners.min(0) - room, corners.max(0) + room
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _are_pixels(layer: Layer, picture: Picture, box: Box) -> bool:
    """Whether a file holds pixels, as `predict` writes them where only a world file knows the place."""
    if not layer.is_implied or is_raster(picture.file) or not layer.parts or layer.within(box).parts:
        return False
    height, width = picture.pixels
    return bool((layer.bounds >= 0).all() and (layer.bounds <= (width, height, width, height)).all())


def _from_pixels(layer: Layer, place: Place) -> tuple[Layer, str]:
    up = bool(len(layer.parts)) and bool((layer.bounds[:, 3] <= 0).all() and (layer.bounds[:, 1] < 0).any())
    turned = np.array([1, -1 if up else 1])
    parts = [
        replace(part, rings=tuple(moved(ring * turned, place.transform) for ring in part.rings)) for part in layer.parts
    ]
    return replace(layer, parts=tuple(parts), crs=None), f"pixels, y {'up, from 0 to -H' if up else 'down'}"


def _check_degrees(layer: Layer) -> None:
    if (np.abs(layer.bounds) > (180, 90, 180, 90)).any():
        west, south, east, north = (f"{value:.10g}" for value in extent_of(layer))
        raise explain(
            f"file {layer.file}",
            found=f"no crs, and x from {west} to {east}, y from {south} to {north}",
            needed="degrees (WGS 84, RFC 7946), or the name of the coordinate system in the member crs",
            fix="Export it again, in QGIS with RFC7946 NO.",
        )


def extent_of(layer: Layer) -> Box:
    """Of all parts of a layer, in its own coordinates."""
    low, high = layer.bounds[:, :2].min(0), layer.bounds[:, 2:].max(0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _crs(layer: Layer) -> Any:
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        return CRS.from_user_input(layer.crs)
    except CRSError as error:
        needed, fix = "a coordinate system that PROJ knows, as EPSG:32633", "Save it again with another."
        raise explain(f"file {layer.file}", found=f"{layer.crs!r:.200} ({error})", needed=needed, fix=fix) from None


def _around(box: Box, crs: Any, other: Any) -> Box:
    """The same in another system."""
    from rasterio.warp import transform_bounds

    west, south, east, north = transform_bounds(crs, other, *box)
    return (-180.0, south, 180.0, north) if west > east else (west, south, east, north)


def parts_of(picture: Picture) -> list[Part]:
    """The parts in the picture's coordinates; raises UserError where these do not reach so far."""
    return [part for layer in picture.layers for part in _parts_in(layer, picture.place)]


def _parts_in(layer: Layer, place: Place) -> list[Part]:
    from rasterio.warp import transform

    if layer.crs is None or not layer.parts:
        return list(layer.parts)
    rings = [ring for part in layer.parts for ring in part.rings]
    with _explained(layer, place):
        found = np.transpose(transform(_crs(layer), place.crs, *np.concatenate(rings).T)[:2])
    if not np.isfinite(found).all():
        needed, fix = "coordinates there too", "Clip them to the pictures."
        raise explain(f"file {layer.file}", found=f"shapes that reach out of {place.name}", needed=needed, fix=fix)
    moved_rings = iter(np.split(found, np.cumsum([len(ring) for ring in rings])[:-1]))
    return [replace(part, rings=tuple(next(moved_rings) for _ in part.rings)) for part in layer.parts]


@contextmanager
def _explained(layer: Layer, place: Place) -> Iterator[None]:
    """What PROJ and GDAL say of coordinates that they cannot transform."""
    from rasterio import Env
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError

    try:
        with Env():  # else GDAL prints it too
            yield
    except (RasterioError, CPLE_BaseError) as error:
        found = f"{layer.crs:.100}, which does not become {place.name:.100} ({error!s:.100})"
        fix = "Give the raster its coordinate system (gdal_edit.py -a_srs), or save the file in the raster's."
        raise explain(f"file {layer.file}", found=found, needed="systems that go together", fix=fix) from None
