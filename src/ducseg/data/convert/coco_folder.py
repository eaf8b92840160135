"""`data convert coco`: COCO's instances JSON (COCO, CVAT, Roboflow, Label Studio, ... write it) to the folder layout.

An object's polygons are one area (COCO has no holes in polygons; run-length codes have). Larger objects lie under
smaller ones; crowd regions are 255 where no object lies. One file gives flat folders; a folder with several, such as
Roboflow's train/ and valid/ or annotations/instances_SPLIT.json, one split each. Categories keep their order and, where
they have one, their colour.
"""

import re
from functools import partial
from pathlib import Path
from typing import Any

from ducseg.classes import Colour
from ducseg.data.convert.coco import CocoObject, CocoPicture, Mask, decode, read_instances
from ducseg.data.convert.writing import Annotated, Export, Shape, find_picture, no_such_source
from ducseg.errors import as_whole, explain, taken_apart
from ducseg.files import files_below

__all__ = ["read"]

_SPLIT = re.compile(r"(?:instances_)?(train|val|valid|validation|test)\d*")


def read(source: Path, images: Path | None = None) -> Export:
    """Read an instances JSON, or from a folder with some.

    Args:
        images: the pictures' folder; None: beside the JSON, or images/ there or above.

    Raises:
        UserError: as `read_instances`; no JSON, files whose categories differ.
    """
    files = _files(source)
    if not files:
        raise no_such_source("COCO", source, "instances_*.json, or a folder with such files")
    pictures: list[Annotated] = []
    categories: list[dict[str, Any]] = []
    for file in files:
        found, of_file = read_instances(file)
        if categories and [_key(one) for one in found] != [_key(one) for one in categories]:
            raise explain(
                f"COCO export {source}",
                found=f"other categories in {file.name} than in {files[0].name}",
                needed="the same in all files",
                fix="Convert them one by one.",
            )
        categories = found
        split = "" if len(files) == 1 else _split(file)
        names = {category["id"]: category["name"] for category in found}
        folders = _folders(file, images)
        pictures.extend(_annotated(picture, names, folders, split) for picture in of_file)
    colours: dict[str, Colour] = {}
    needed, fix = "name, and color as [R, G, B] or none", "Correct its categories."
    with taken_apart(f"COCO export {source}", found="a category that does not read", needed=needed, fix=fix):
        for category in categories:
            if isinstance(category.get("color"), list) and len(category["color"]) == 3:
                red, green, blue = category["color"]
                colours[category["name"]] = (as_whole(red), as_whole(green), as_whole(blue))
    return Export(pictures=pictures, names=[category["name"] for category in categories], colours=colours)


def _key(category: dict[str, Any]) -> tuple[Any, Any]:
    return category["id"], category["name"]


def _files(source: Path) -> list[Path]:
    if source.is_file() and source.suffix.lower() == ".json":
        return [source]
    found = [file for file in files_below(source) if file.suffix == ".json"] if source.is_dir() else []
    instances = [file for file in found if file.name.startswith(("instances", "_annotations"))]
    return instances or found


def _split(file: Path) -> str:
    """Of annotations/instances_val2017.json or valid/_annotations.coco.json: val."""
    for name in (file.stem, file.parent.name):
        match = _SPLIT.fullmatch(name)
        if match:
            return "val" if match[1].startswith("val") else match[1]
    return file.stem if file.stem != "_annotations.coco" else file.parent.name


def _folders(file: Path, images: Path | None) -> list[Path]:
    roots = [file.parent, file.parent.parent] if images is None else [images]
    name = file.stem.removeprefix("instances_")
    return [folder for root in roots for folder in (root, root / "images", root / "images" / name, root / name)]


def _annotated(picture: CocoPicture, names: dict[int, str], folders: list[Path], split: str) -> Annotated:
    shapes = [
        Shape(None if one.crowd else names[one.category], partial(_draw, one))
        for one in sorted(picture.objects, key=lambda one: (not one.crowd, -one.area))
    ]
    return Annotated(
        file=find_picture(picture.file_name, folders),
        name=picture.file_name,
        shapes=tuple(shapes),
        size=(picture.height, picture.width),
        split=split,
    )


def _draw(found: CocoObject, height: int, width: int) -> Mask:
    return decode(found.counts, height, width)
