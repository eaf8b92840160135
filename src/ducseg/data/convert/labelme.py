"""`data convert labelme`: LabelMe's JSON files, one a picture, to the folder layout.

Shapes are drawn as labelme.utils.shape_to_mask draws them (outline included, lines 10 pixels wide, points of radius 5)
and in the file's order, a later one on top. `__ignore__` becomes 255, `_background_` is class 0. Classes are those of a
labels.txt beside the files, else the names in use, sorted. Pictures without a JSON are not annotated and left out; a
JSON without shapes is a picture of background.
"""

import base64
import binascii
import io
import json
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ducseg.data.convert.coco import Mask
from ducseg.data.convert.writing import Annotated, Export, Shape, find_picture, no_such_source
from ducseg.data.files.reading import PICTURE_SUFFIXES
from ducseg.errors import explain

__all__ = ["draw", "read"]

_IGNORE = "__ignore__"
_LINE_WIDTH, _POINT_RADIUS = 10, 5
_POINTS = {"circle": 2, "rectangle": 2, "line": 2, "linestrip": 2, "point": 1, "points": 1, "polygon": 3, "mask": 2}
"""The least number of points of each kind of shape."""


def read(source: Path, images: Path | None = None) -> Export:
    """Read a folder of LabelMe's files, those in its sub-folders too.

    Args:
        images: the pictures' folder; None: where each file says, beside it.

    Raises:
        UserError: no such file, one that does not read.
    """
    files = sorted(source.rglob("*.json")) if source.is_dir() else []
    if not files:
        raise no_such_source("LabelMe", source, "a folder with LabelMe's JSON files")
    pictures, names, degenerate = [], set(), 0
    for file in files:
        content = _read(file)
        shapes = []
        for shape in content["shapes"]:
            kind = shape.get("shape_type") or "polygon"
            if kind not in _POINTS:
                raise explain(f"file {file}", found=f"a shape {kind!r}", needed=", ".join(_POINTS), fix="Redraw it.")
            if len(shape["points"]) < _POINTS[kind]:
                degenerate += 1
                continue
            name = str(shape["label"])
            names.add(name)
            points = [(float(x), float(y)) for x, y in shape["points"]]
            shapes.append(Shape(None if name == _IGNORE else name, partial(draw, kind, points, shape.get("mask"))))
        given = str(content.get("imagePath") or f"{file.stem}.jpg")
        relative = (file.relative_to(source).parent / given.replace("\\", "/")).as_posix()
        found = find_picture(given, [file.parent] if images is None else [images, images / file.parent.name])
        size = content.get("imageHeight"), content.get("imageWidth")
        pictures.append(
            Annotated(
                file=found,
                name=relative,
                shapes=tuple(shapes),
                size=None if size[0] is None or size[1] is None else (int(size[0]), int(size[1])),
            )
        )
    annotated = {picture.file.resolve() for picture in pictures}
    there = [file for file in source.rglob("*") if file.suffix.lower() in PICTURE_SUFFIXES]
    without = sum(file.resolve() not in annotated for file in there)
    notes = [f"{without} pictures without a JSON file are not annotated and left out"] if without else []
    notes += [f"{degenerate} shapes of too few points are left out"] if degenerate else []
    ordered = [name for name in _listed(source, names) if name != _IGNORE]
    return Export(pictures=pictures, names=ordered, notes=notes)


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
        for shape in content["shapes"]:
            [(float(x), float(y)) for x, y in shape["points"]]
            str(shape["label"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise explain(
            f"file {file}", found=f"no LabelMe annotation ({type(error).__name__}: {error})",
            needed="shapes with label and points", fix="Save it again in LabelMe, or take it out.",
        ) from None  # fmt: skip
    assert isinstance(content, dict)
    return content


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
        kind: "polygon", "rectangle", "circle", "line", "linestrip", "point", "points" or "mask".
        points: (x, y) in pixels.
        packed: of a "mask": its part between the two points as a PNG in base64.
    """
    canvas = Image.new("1", (width, height))
    pen = ImageDraw.Draw(canvas)
    if kind == "circle":
        (x, y), (other_x, other_y) = points[:2]
        radius = math.hypot(x - other_x, y - other_y)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=1, fill=1)
    elif kind == "rectangle":
        (left, right), (top, bottom) = (sorted(values) for values in zip(*points[:2]))
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
        part = np.asarray(Image.open(io.BytesIO(base64.b64decode(packed or "", validate=True))), np.bool_)
    except (binascii.Error, OSError) as error:
        raise explain("mask shape", found=str(error), needed="a PNG in base64", fix="Redraw it.") from None
    left, top = (int(value) for value in points[0])
    mask = np.zeros((height, width), np.bool_)
    rows, columns = min(part.shape[0], height - top), min(part.shape[1], width - left)
    mask[max(0, top) : top + rows, max(0, left) : left + columns] = part[max(0, -top) : rows, max(0, -left) : columns]
    return mask
