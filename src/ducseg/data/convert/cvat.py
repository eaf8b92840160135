"""`data convert cvat`: "CVAT for images 1.1" (annotations.xml) to the folder layout.

Polygons are filled as CVAT's own mask export does (pycocotools); masks are its run-length codes, which may have holes;
boxes and ellipses are filled too. A higher z_order lies on top, of equal ones the later. Labels keep their order and
colour, subsets become splits. Polylines, points, cuboids and skeletons have no area: left out, and counted.
"""

import math
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ducseg.classes import Colour
from ducseg.data.convert.coco import Mask
from ducseg.data.convert.writing import Annotated, Export, Shape, fill_polygons, find_picture, no_such_source
from ducseg.errors import explain, taken_apart

__all__ = ["read"]

_WITHOUT_AREA = frozenset({"polyline", "points", "cuboid", "skeleton"})
_SPLITS = {"train": "train", "validation": "val", "val": "val", "valid": "val", "test": "test", "default": ""}


def read(source: Path, images: Path | None = None) -> Export:
    """Read annotations.xml or the folder that holds it.

    Args:
        images: the pictures' folder; None: images/ beside the file, or its folder.

    Raises:
        UserError: no such file, one that does not read, a video's ("CVAT for video").
    """
    file = source / "annotations.xml" if source.is_dir() else source
    if not file.is_file() or file.suffix.lower() != ".xml":
        raise no_such_source("CVAT", source, 'annotations.xml ("CVAT for images 1.1") or its folder')
    skipped: Counter[str] = Counter()
    with taken_apart(
        f"file {file}", found="no CVAT annotation", needed='"CVAT for images 1.1"', fix="Export it again."
    ):
        root = _parsed(file)
        names, colours = _labels(root)
        pictures = [_picture(image, file, images, skipped) for image in root.iter("image")]
    if root.find("track") is not None:
        raise explain(f"file {file}", found="a video's tracks", needed='"CVAT for images 1.1"', fix="Export as images.")
    notes = [f"{count} {kind} shapes have no area and are left out" for kind, count in sorted(skipped.items())]
    return Export(pictures=pictures, names=names, colours=colours, notes=notes)


def _parsed(file: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(file).getroot()
    except ElementTree.ParseError as error:  # a SyntaxError
        raise ValueError(str(error)) from None


def _labels(root: ElementTree.Element) -> tuple[list[str], dict[str, Colour]]:
    names: list[str] = []
    colours: dict[str, Colour] = {}
    for label in root.iterfind("meta//labels/label"):
        name = label.findtext("name") or ""
        if label.findtext("parent") or name in names:  # a skeleton's points
            continue
        names.append(name)
        code = (label.findtext("color") or "").lstrip("#")
        if len(code) == 6:
            red, green, blue = bytes.fromhex(code)
            colours[name] = (red, green, blue)
    for shape in (shape for image in root.iter("image") for shape in image if shape.get("label")):
        if shape.tag not in _WITHOUT_AREA and shape.attrib["label"] not in names:
            names.append(shape.attrib["label"])
    return names, colours


def _picture(image: ElementTree.Element, file: Path, images: Path | None, skipped: Counter[str]) -> Annotated:
    subset = image.get("subset") or "default"
    shapes: list[Shape] = []
    for element in sorted(image, key=lambda one: int(one.get("z_order", 0))):
        if element.tag in _WITHOUT_AREA:
            skipped[element.tag] += 1
        elif element.get("label") is not None:  # a tag of the whole picture has one too, but no shape
            shapes.extend(_shape(element))
    roots = [file.parent / "images", file.parent] if images is None else [images]
    return Annotated(
        file=find_picture(image.attrib["name"], [folder for root in roots for folder in (root / subset, root)]),
        name=image.attrib["name"],
        shapes=tuple(shapes),
        size=(int(image.attrib["height"]), int(image.attrib["width"])),
        split=_SPLITS.get(subset.lower(), subset),
    )


def _shape(element: ElementTree.Element) -> Iterator[Shape]:
    name, value = element.attrib["label"], element.attrib
    if element.tag == "polygon":
        points = [float(number) for pair in value["points"].split(";") for number in pair.split(",")]
        yield Shape(name, partial(fill_polygons, [points]))
    elif element.tag == "box":
        box = [float(value[key]) for key in ("xtl", "ytl", "xbr", "ybr")]
        corners = rotated_box(box[0], box[1], box[2], box[3], float(value.get("rotation", 0)))
        yield Shape(name, partial(fill_polygons, [corners]))
    elif element.tag == "ellipse":
        x, y, rx, ry, turn = (float(value.get(key, 0)) for key in ("cx", "cy", "rx", "ry", "rotation"))
        yield Shape(name, partial(fill_ellipse, x, y, rx, ry, turn))
    elif element.tag == "mask":
        runs = [int(number) for number in value["rle"].split(",")]
        left, top, width, height = (int(float(value[key])) for key in ("left", "top", "width", "height"))
        yield Shape(name, partial(_fill_runs, runs, (top, left), (height, width)))


def rotated_box(left: float, top: float, right: float, bottom: float, degrees: float) -> list[float]:
    """The corners [x1, y1, ...] of a box turned clockwise about its centre."""
    x, y = (left + right) / 2, (top + bottom) / 2
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    turned = ((x + cos * (u - x) - sin * (v - y), y + sin * (u - x) + cos * (v - y)) for u, v in corners)
    return [number for corner in turned for number in corner]


def fill_ellipse(x: float, y: float, rx: float, ry: float, degrees: float, height: int, width: int) -> Mask:
    """The pixels (H, W) whose centres lie inside an ellipse turned clockwise about its centre."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    along, across = cos * (columns - x) + sin * (rows - y), cos * (rows - y) - sin * (columns - x)
    return np.asarray((along * ry) ** 2 + (across * rx) ** 2 <= (rx * ry) ** 2, np.bool_)


def _fill_runs(runs: list[int], origin: tuple[int, int], size: tuple[int, int], height: int, width: int) -> Mask:
    """CVAT's code counts along the rows of the mask's box, first pixels outside the object."""
    (top, left), (rows, columns) = origin, size
    inside = min(origin) >= 0 and top + rows <= height and left + columns <= width
    if min(runs) < 0 or sum(runs) != rows * columns or not inside:
        raise explain(
            "mask", found=f"{sum(runs)} pixels in a box of {rows} x {columns} at ({top}, {left})",
            needed=f"a box inside {height} x {width}, filled", fix="Export it again.",
        )  # fmt: skip
    mask = np.zeros((height, width), np.bool_)
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    mask[top : top + rows, left : left + columns] = values.reshape(rows, columns)
    return mask
