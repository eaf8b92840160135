"""Files of vectors, as QGIS and `ducseg predict --kinds polygons` write them: their shapes and classes.

GeoJSON is read by itself; GeoPackage and Shapefile by pyogrio (`pip install 'ducseg[vectors]'`). A GeoJSON's
coordinates are those of its "crs" member (GeoJSON 2008), else WGS 84 (RFC 7946). Legend: n points of a ring or line, x
and y each.
"""

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import Colour
from ducseg.errors import explain, listed, package, taken_apart
from ducseg.files import parse_json

__all__ = ["VECTOR_SUFFIXES", "Layer", "Part", "Vectors", "read_vectors"]

VECTOR_SUFFIXES = frozenset({".geojson", ".gpkg", ".shp"})
"""Of files that are taken in folders: a .json there may be anything, STAC's outlines of the pictures too."""

_STARTS = {".gpkg": b"SQLite format 3\0", ".shp": b"\0\0\x27\x0a"}
"""GDAL would take other files of these names for lists of files and addresses to open."""
_INSTALL = "'ducseg[vectors]'"
_FIELDS = ("class", "label", "category", "name")
_OWN_CLASS = "object"
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_WGS84 = "OGC:CRS84"  # longitude first, as RFC 7946 has it
_LEFT_OUT = ("Point", "MultiPoint")


@dataclass(frozen=True)
class Part:
    """A polygon or a line; features have one or several.

    Attributes:
        feature: number of its feature among all that were read; name: its class, None: to be ignored.
        rings: float64 (n, 2) each: a polygon's outer ring and its holes, closed; of a line its points alone.
    """

    feature: int
    name: str | None
    rings: tuple[NDArray[np.float64], ...]
    is_line: bool


@dataclass(frozen=True)
class Layer:
    """The parts of a file, or of one layer of it.

    Attributes:
        file: where it lies.
        crs: of the coordinates, as rasterio's `CRS.from_user_input` takes it; None: not known.
        is_implied: whether a GeoJSON means WGS 84 by naming none.
    """

    file: Path
    crs: str | None
    parts: tuple[Part, ...]
    is_implied: bool = False

    @cached_property
    def bounds(self) -> NDArray[np.float64]:
        """Of each part (n, 4): least x and y, most x and y."""
        outer = [part.rings[0] for part in self.parts]
        return np.array([[*ring.min(0), *ring.max(0)] for ring in outer], np.float64).reshape(-1, 4)

    def within(self, box: tuple[float, float, float, float], **changes: Any) -> "Layer":
        """With those parts alone whose bounds meet a box; other fields changed."""
        meet = (self.bounds[:, :2] <= box[2:]).all(1) & (self.bounds[:, 2:] >= box[:2]).all(1)
        return replace(self, parts=tuple(self.parts[index] for index in np.flatnonzero(meet)), **changes)


@dataclass(frozen=True)
class Vectors:
    """What was read.

    Attributes:
        num_features: those with a polygon or a line.
        names: their classes, in the order of predictions' labels, else of the alphabet; colours: of some of them.
        notes: how classes were found; left_out: what has no class or no area; one line each.
    """

    layers: tuple[Layer, ...]
    num_features: int
    names: tuple[str, ...]
    colours: Mapping[str, Colour]
    notes: tuple[str, ...]
    left_out: tuple[str, ...]


def read_vectors(
    files: Sequence[Path], *, by: str | None = None, of_pictures: frozenset[Path] = frozenset()
) -> Vectors:
    """Read files of vectors.

    Args:
        by: the field that holds a feature's class; None: of each file the only one called class, label, category or
            name (of several the only one that holds text), else all of a file is one class of its name.
        of_pictures: files that are called like a picture, which is no class's name; theirs is "object".

    Raises:
        UserError: a file that does not read, several fields or none that could be meant, a system that is not known.
    """
    read = _Reading(by)
    layers = [read.layer(*one, of_pictures) for file in files for one in _layers_of(file)]
    notes = [f"classes: {how} ({listed(names)})" for how, names in read.fields.items()]
    counts = {
        "points are left out": read.points,
        "features without a geometry are left out": read.empty,
        "features without a class are 255": read.unnamed,
    }
    left_out = [f"{count} {what}" for what, count in counts.items() if count]
    names = sorted(read.names, key=lambda name: (read.labels.get(name, 255), name))
    return Vectors(tuple(layers), read.features, tuple(names), read.colours, tuple(notes), tuple(left_out))


class _Reading:
    """What is gathered while files are read."""

    def __init__(self, by: str | None) -> None:
        self.by = by
        self.features = self.points = self.empty = self.unnamed = 0
        self.names: set[str] = set()
        self.labels: dict[str, int] = {}
        self.colours: dict[str, Colour] = {}
        self.fields: dict[str, list[str]] = {}

    def layer(
        self, file: Path, name: str, features: Sequence[Any], crs: str | None, is_implied: bool, own: frozenset[Path]
    ) -> Layer:
        """One layer's parts."""
        what, fix = f"file {file}", "Save it again, as polygons and lines."
        parts: list[Part] = []
        with taken_apart(what, found="a feature that does not read", needed="GeoJSON's", fix=fix):
            properties = [dict(feature.get("properties") or {}) for feature in features]
            field = _field(f"{what}{f', layer {name}' if name != file.stem else ''}", properties, self.by)
            named = _OWN_CLASS if file in own else name
            how = f"all one, {named!r}" if field is None and file in own else "the name of the file or layer"
            self.fields.setdefault(how if field is None else f"the field {field!r}", []).append(name)
            for feature, values in zip(features, properties):
                polygons_and_lines = list(self._parts(feature["geometry"]))
                if not polygons_and_lines:
                    continue
                found = named if field is None else _word(values.get(field))
                self._note(found, values)
                parts += [Part(self.features, found, rings, line) for rings, line in polygons_and_lines]
                self.features += 1
        return Layer(file, crs, tuple(parts), is_implied)

    def _note(self, name: str | None, values: Mapping[str, Any]) -> None:
        if name is None:
            self.unnamed += 1
            return
        self.names.add(name)
        label, colour = values.get("label"), values.get("color")
        if isinstance(label, int) and isinstance(colour, str) and _COLOUR.fullmatch(colour):  # as `predict` writes them
            red, green, blue = bytes.fromhex(colour[1:])
            self.labels[name], self.colours[name] = label, (red, green, blue)

    def _parts(self, geometry: Any) -> Iterator[tuple[tuple[NDArray[np.float64], ...], bool]]:
        """Rings, and whether they are a line; points are counted."""
        if geometry is None:
            self.empty += 1
            return
        kind, inside = geometry["type"], geometry.get("coordinates", geometry.get("geometries"))
        if kind in _LEFT_OUT:
            self.points += 1
        elif not inside:
            self.empty += 1
        elif kind == "GeometryCollection":
            for one in inside:
                yield from self._parts(one)
        elif kind in ("Polygon", "MultiPolygon"):
            for polygon in inside if kind == "MultiPolygon" else [inside]:
                yield tuple(_points(ring, 4) for ring in polygon), False
        elif kind in ("LineString", "MultiLineString"):
            for line in inside if kind == "MultiLineString" else [inside]:
                yield (_points(line, 2),), True
        else:
            raise ValueError(f"a geometry {kind!r}")


def _points(given: Any, least: int) -> NDArray[np.float64]:
    """x and y (n, 2) of positions that may have a height too; a ring, which has 4 or more, closed where it is not."""
    points = np.array([[float(x), float(y)] for x, y, *_ in given], np.float64).reshape(-1, 2)
    if len(points) < least or not np.isfinite(points).all():
        raise ValueError(f"a ring or line of {len(points)} points, needed {least} or more, of finite numbers")
    return np.concatenate([points, points[:1]]) if least == 4 and (points[0] != points[-1]).any() else points


def _word(value: Any) -> str | None:
    """A class's name; None of a feature that has none."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, dict | list):
        raise TypeError(f"a {type(value).__name__} for a class")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _field(what: str, properties: Sequence[Mapping[str, Any]], by: str | None) -> str | None:
    """The field that holds the classes; None: there is none."""
    fields = list(dict.fromkeys(key for values in properties for key in values))
    if by is not None:
        if by not in fields and properties:
            found = f"in {what} {listed(fields, 20) or 'no field'}"
            raise explain(f"--by {by}", found=found, needed="a field of each file", fix="Correct or leave it out.")
        return by
    likely = [field for field in fields if field.lower() in _FIELDS]
    if len(likely) > 1:
        likely = [one for one in likely if any(isinstance(values.get(one), str) for values in properties)] or likely
    if len(likely) > 1:
        needed, fix = "the one that holds the classes", f"Say which: --by {likely[0]}."
        raise explain(what, found=f"fields {' and '.join(likely)}", needed=needed, fix=fix)
    return likely[0] if likely else None


# -- files -------------------------------------------------------------------------------------------------------------


def _layers_of(file: Path) -> Iterator[tuple[Path, str, Sequence[Any], str | None, bool]]:
    """File, name, features, system, and whether it is implied, of each layer."""
    if file.suffix.lower() in (".geojson", ".json"):
        yield _geojson(file.read_bytes, file)
    else:
        yield from _by_pyogrio(file)


def _geojson(read: Callable[[], bytes], file: Path) -> tuple[Path, str, Sequence[Any], str | None, bool]:
    fix = "Export it as GeoJSON."
    with taken_apart(f"file {file}", found="no GeoJSON", needed="a FeatureCollection", fix=fix):
        content = parse_json(read().decode("utf-8-sig"))
        if content["type"] != "FeatureCollection":
            raise ValueError(f"a {content['type']}")
        named = "crs" in content
        crs = None if named and content["crs"] is None else content["crs"]["properties"]["name"] if named else _WGS84
        return file, file.stem, list(content["features"]), crs, not named


def _by_pyogrio(file: Path) -> Iterator[tuple[Path, str, Sequence[Any], str | None, bool]]:
    """Through GeoJSON, in memory."""
    pyogrio = package("pyogrio", what=f"file {file}", install=f"{_INSTALL}, or save it as GeoJSON")
    from pyogrio import raw

    needed, fix = "a GeoPackage or Shapefile with polygons and lines", "Save it again, or as GeoJSON."
    with taken_apart(f"file {file}", found="none that reads", needed=needed, fix=fix), _as_value_error():
        with file.open("rb") as opened:
            if not opened.read(16).startswith(_STARTS.get(file.suffix.lower(), b"")):
                raise ValueError(f"no {file.suffix[1:]}, by its first bytes")
        for name, kind in pyogrio.list_layers(file):
            if kind is None:
                continue  # a table
            meta, _, geometry, fields = raw.read(file, layer=name, force_2d=True)
            data = io.BytesIO()
            raw.write(
                data, geometry, fields, meta["fields"], driver="GeoJSON", geometry_type=meta["geometry_type"],
                crs=meta["crs"], COORDINATE_PRECISION=9,
            )  # fmt: skip
            yield file, str(name), _geojson(data.getvalue, file)[2], meta["crs"], False


@contextmanager
def _as_value_error() -> Iterator[None]:
    """pyogrio's errors are RuntimeErrors."""
    try:
        yield
    except RuntimeError as error:
        raise ValueError(str(error)) from None
