"""`data convert label-studio`: Label Studio's JSON export to the folder layout.

Polygons, rectangles and ellipses are in per cent of the picture and filled as pycocotools fills them; brush masks are
Label Studio's own code and may have holes. A later region lies on top. Of a task the first annotation that was not
cancelled counts; tasks without one are not annotated and left out. The export holds no pictures: --images.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
from numpy.typing import NDArray

from ducseg.data.convert.coco import Mask
from ducseg.data.convert.cvat import fill_ellipse, rotated_box
from ducseg.data.convert.writing import Annotated, Export, Shape, fill_polygons, find_picture, no_such_source
from ducseg.errors import as_number, as_text, as_whole, explain, taken_apart
from ducseg.files import is_there, parse_json

__all__ = ["decode_brush", "read"]

_KINDS = ("polygonlabels", "rectanglelabels", "ellipselabels", "brushlabels")
_UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-")


def read(source: Path, images: Path | None = None) -> Export:
    """Read the file that "Export, JSON" gives.

    Args:
        images: the pictures' folder; None: beside the file, or images/ there.

    Raises:
        UserError: no such file, one that does not read, regions of no known kind.
    """
    if not source.is_file():
        raise no_such_source("Label Studio", source, "the file of Export, JSON")
    folders = [source.parent, source.parent / "images"] if images is None else [images]
    names: set[str] = set()
    pictures, without = [], 0
    needed = "the file of Export, JSON (not JSON-MIN)"
    with taken_apart(f"file {source}", found="no Label Studio export", needed=needed, fix="Export it again."):
        for task in parse_json(source.read_text(encoding="utf-8-sig")):
            regions = next((one["result"] for one in task["annotations"] if not one.get("was_cancelled")), None)
            if regions is None:
                without += 1
                continue
            shapes = tuple(_shapes(regions))
            names.update(shape.name for shape in shapes if shape.name is not None)
            pictures.append(_annotated(task["data"], regions, shapes, folders))
    notes = [f"{without} tasks without an annotation are left out"] if without else []
    return Export(pictures=pictures, names=sorted(names), notes=notes)


def _annotated(
    data: dict[str, Any], regions: list[dict[str, Any]], shapes: tuple[Shape, ...], folders: Sequence[Path]
) -> Annotated:
    address = next((value for value in (data.get("image"), *data.values()) if isinstance(value, str)), "")
    path = urlparse(address)
    name = unquote(path.query.removeprefix("d=") if path.path.endswith("/local-files/") else path.path).lstrip("/")
    file = find_picture(name, folders)
    stem = PurePosixPath(name).name
    if not is_there(file) and _UPLOAD_PREFIX.match(stem):  # uploads get a prefix that the original has not
        file = find_picture(stem[9:], folders)
    sizes = [
        (as_whole(one["original_height"]), as_whole(one["original_width"]))
        for one in regions
        if "original_height" in one
    ]
    return Annotated(file=file, name=name, shapes=shapes, size=sizes[0] if sizes else None)


def _shapes(regions: list[dict[str, Any]]) -> Iterator[Shape]:
    for region in regions:
        kind, value = region["type"], region["value"]
        if kind not in _KINDS:
            if "labels" in kind:
                raise explain("Label Studio region", found=kind, needed=", ".join(_KINDS), fix="Redraw it as one.")
            continue  # a choice or text about the whole picture
        if not value.get(kind):
            continue
        name = as_text(value[kind][0])
        if kind == "polygonlabels":
            yield Shape(name, partial(_polygon, [as_number(number) for point in value["points"] for number in point]))
        elif kind == "brushlabels":
            yield Shape(name, partial(_brush, [as_whole(byte) & 255 for byte in value["rle"]]))
        else:
            keys = ("x", "y", "width", "height") if kind == "rectanglelabels" else ("x", "y", "radiusX", "radiusY")
            numbers = [as_number(value[key]) for key in keys]
            draw = _rectangle if kind == "rectanglelabels" else _ellipse
            yield Shape(name, partial(draw, numbers, as_number(value.get("rotation") or 0)))


def _polygon(numbers: list[float], height: int, width: int) -> Mask:
    scaled = (np.array(numbers).reshape(-1, 2) * (width / 100, height / 100)).ravel()
    return fill_polygons([scaled.tolist()], height, width)


def _rectangle(numbers: list[float], degrees: float, height: int, width: int) -> Mask:
    left, top, across, down = np.array(numbers) * (width / 100, height / 100, width / 100, height / 100)
    corners = np.array(rotated_box(0, 0, across, down, 0)).reshape(-1, 2)
    turn = np.deg2rad(degrees)  # about the top left corner
    corners = corners @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + (left, top)
    return fill_polygons([corners.ravel().tolist()], height, width)


def _ellipse(numbers: list[float], degrees: float, height: int, width: int) -> Mask:
    x, y, rx, ry = np.array(numbers) * (width / 100, height / 100, width / 100, height / 100)
    return fill_ellipse(x, y, rx, ry, degrees, height, width)


def _brush(code: list[int], height: int, width: int) -> Mask:
    values = decode_brush(code, 4 * height * width)
    return np.asarray(values.reshape(height, width, 4)[..., 3] > 0, np.bool_)


def decode_brush(code: Sequence[int], count: int) -> NDArray[np.uint8]:
    """The RGBA values, flat, of a brush mask's bytes (thi.ng's rle-pack, as label_studio_converter.brush reads it).

    32 bits: how many values; 5 bits: bits a value, less one; 4 times 4 bits: bits of a run's length, less one; then
    runs: 1 bit: repeated or not; 2 bits: which of the four lengths; the length, less one; one value or so many.

    Args:
        count: of the values, by the picture's size.

    Raises:
        UserError: another count, a code that is cut off.
    """
    bits = "".join(format(byte, "08b") for byte in code)
    place = 0

    def read(count: int) -> int:
        nonlocal place
        place += count
        if place > len(bits):
            raise explain("brush mask", found="a code that is cut off", needed="all of it", fix="Export it again.")
        return int(bits[place - count : place], 2)

    total, size = read(32), read(5) + 1
    if total != count or size > 8:
        needed = f"{count} of 8: red, green, blue, alpha"
        raise explain("brush mask", found=f"{total} values of {size} bits", needed=needed, fix="Export it again.")
    lengths = [read(4) + 1 for _ in range(4)]
    values = np.zeros(total, np.uint8)
    at = 0
    while at < total:
        repeated = read(1)
        stop = min(total, at + 1 + read(lengths[read(2)]))
        values[at:stop] = read(size) if repeated else [read(size) for _ in range(stop - at)]
        at = stop
    return values
