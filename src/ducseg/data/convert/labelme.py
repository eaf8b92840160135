"""`data convert labelme`: LabelMe's JSON files, one a picture, to the folder layout.

Shapes are drawn as labelme.utils.shape_to_mask draws them (outline included, lines 10 pixels wide, points of radius 5)
and in the file's order, a later one on top. `__ignore__` becomes 255, `_background_` is class 0. Classes are those of a
labels.txt beside the files, else the names in use, sorted. Pictures without a JSON are not annotated and left out; a
JSON without shapes is a picture of background.
"""

import base64
import binascii
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ducseg.data.convert.coco import Mask
from ducseg.data.convert.writing import Annotated, Export, Shape, find_picture, no_such_source
from ducseg.data.files.reading import PICTURE_SUFFIXES, decode_picture
from ducseg.errors import as_number, as_text, as_whole, explain, taken_apart
from ducseg.files import files_below, parse_json

__all__ = ["draw", "read"]

_IGNORE = "__ignore__"
_LINE_WIDTH, _POINT_RADIUS = 10, 5
_POINTS = {"circle": 2, "rectangle": 2, "line": 2, "linestrip": 2, "point": 1, "points": 1, "polygon": 3, "mask": 2}
"""The least number of points of each kind of shape."""
_ALSO = {"circle": 2, "rectangle": 4}
"""Kinds of no more points than that, or else of so many: a rectangle's four corners, as X-AnyLabeling writes them."""


def read(source: Path, images: Path | None = None) -> Export:
    """Read a folder of LabelMe's files, those in its sub-folders too.

    Args:
        images: the pictures' folder; None: where each file says, beside it.

    Raises:
        UserError: no such file, one that does not read.
    """
    below = files_below(source) if source.is_dir() else []
    files = [file for file in below if file.suffix == ".json"]
    if not files:
        raise no_such_source("LabelMe", source, "a folder with LabelMe's JSON files")
    pictures, degenerate = [], 0
    for file in files:
        needed, fix = "shapes with label and points", "Save it again in LabelMe, or take it out."
        with taken_apart(f"file {file}", found="no LabelMe annotation", needed=needed, fix=fix):
            picture, few = _annotated(file, source, images)
            pictures.append(picture)
            degenerate += few
    names = {_IGNORE if shape.name is None else shape.name for picture in pictures for shape in picture.shapes}
    annotated = {picture.file.resolve() for picture in pictures}
    there = [file for file in below if file.suffix.lower() in PICTURE_SUFFIXES]
    without = sum(file.resolve() not in annotated for file in there)
    notes = [f"{without} pictures without a JSON file are not annotated and left out"] if without else []
    notes += [f"{degenerate} shapes of too few points are left out"] if degenerate else []
    ordered = [name for name in _listed(source, names) if name != _IGNORE]
    return Export(pictures=pictures, names=ordered, notes=notes)


def _annotated(file: Path, source: Path, images: Path | None) -> tuple[Annotated, int]:
    """A file's picture, and how many shapes of too few points are left out."""
    content, shapes = parse_json(file.read_text(encoding="utf-8-sig")), []
    for shape in content["shapes"]:
        kind = shape.get("shape_type") or "polygon"
        if kind not in _POINTS:
            raise explain(f"file {file}", found=f"a shape {kind!r}", needed=", ".join(_POINTS), fix="Redraw it.")
        name, points = as_text(shape["label"]), [(as_number(x), as_number(y)) for x, y in shape["points"]]
        if len(points) > _POINTS[kind] and len(points) != _ALSO.get(kind, len(points)):
            raise explain(
                f"file {file}", found=f"a {kind} of {len(points)} points",
                needed=" or ".join(map(str, sorted({_POINTS[kind], _ALSO[kind]}))), fix="Redraw it.",
            )  # fmt: skip
        if len(points) >= _POINTS[kind]:
            shapes.append(Shape(None if name == _IGNORE else name, partial(draw, kind, points, shape.get("mask"))))
    given = as_text(content.get("imagePath") or f"{file.stem}.jpg")
    size = content.get("imageHeight"), content.get("imageWidth")
    picture = Annotated(
        file=find_picture(given, [file.parent] if images is None else [images, images / file.parent.name]),
        name=(file.relative_to(source).parent / given.replace("\\", "/")).as_posix(),
        shapes=tuple(shapes),
        size=None if size[0] is None or size[1] is None else (as_whole(size[0]), as_whole(size[1])),
    )
    return picture, len(content["shapes"]) - len(shapes)


def _listed(source: Path, names: set[str]) -> list[str]:
    file = source / "labels.txt"
    if not file.is_file():
        return sorted(names)
    listed = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    strange = sorted(names - set(listed))
    if strange:
        raise explain(f"class list {file}", found=f"no {strange[0]!r}", needed="every label in use", fix="Add it.")
    return listed


def draw(kind: str, points: Sequence[tuple[float, float]], packed: str | None, height: int, width: int) -> Mask:
    """One shape's mask (H, W), as labelme.utils.shape_to_mask.

    Args:
        kind: "polygon", "rectangle" (two opposite corners, or all four), "circle", "line", "linestrip", "point",
            "points" or "mask".
        points: (x, y) in pixels.
        packed: of a "mask": its part between the two points as a PNG in base64.
    """
    canvas = Image.new("1", (width, height))
    pen = ImageDraw.Draw(canvas)
    if kind == "circle":
        (x, y), (other_x, other_y) = points
        radius = math.hypot(x - other_x, y - other_y)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=1, fill=1)
    elif kind == "rectangle" and len(points) == 2:
        (left, right), (top, bottom) = (sorted(values) for values in zip(*points))
        pen.rectangle((left, top, right, bottom), outline=1, fill=1)
    elif kind in ("line", "linestrip"):
        pen.line(list(points), fill=1, width=_LINE_WIDTH)
    elif kind in ("point", "points"):
        for x, y in points:
            box = (x - _POINT_RADIUS, y - _POINT_RADIUS, x + _POINT_RADIUS, y + _POINT_RADIUS)
            pen.ellipse(box, outline=1, fill=1)
    elif kind == "mask":
        return _placed(points, packed, height, width)
    else:
        pen.polygon(list(points), outline=1, fill=1)
    return np.asarray(canvas, np.bool_)


def _placed(points: Sequence[tuple[float, float]], packed: str | None, height: int, width: int) -> Mask:
    try:
        data = base64.b64decode(packed or "", validate=True)
    except (binascii.Error, TypeError) as error:
        raise explain("mask shape", found=str(error), needed="a PNG in base64", fix="Redraw it.") from None
    part = np.asarray(decode_picture(data, Path("mask of a shape")), np.bool_)
    if part.ndim != 2:
        raise explain("mask shape", found="a picture of colours", needed="one value a pixel", fix="Redraw it.")
    left, top = (int(value) for value in points[0])
    mask = np.zeros((height, width), np.bool_)
    rows, columns = (slice(max(0, low), max(0, low + size)) for low, size in zip((top, left), part.shape))
    inside = mask[rows, columns]
    above, before = max(0, -top), max(0, -left)
    inside[:] = part[above : above + inside.shape[0], before : before + inside.shape[1]]
    return mask
