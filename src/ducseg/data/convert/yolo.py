"""`data convert yolo`: a YOLO segmentation data set (data.yaml, images/, labels/*.txt) to the folder layout.

A line of a label file is a class and an outline x1 y1 x2 y2 ... in parts of width and height, filled as Ultralytics
does (cv2.fillPoly of whole pixels, cut off); of two objects the smaller lies on top. A picture with an empty label file
or none is background, as it is for YOLO. Boxes alone (five numbers a line) are a detection data set: refused.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ducseg.data.convert.coco import Mask
from ducseg.data.convert.writing import Annotated, Export, Shape, no_such_source
from ducseg.data.files.reading import PICTURE_SUFFIXES
from ducseg.errors import as_whole, explain, taken_apart
from ducseg.files import as_spelled, files_below, is_listed, is_there, visible

__all__ = ["read"]

_SPLITS = ("train", "val", "test")


def read(source: Path, images: Path | None = None) -> Export:
    """Read data.yaml or the folder that holds it.

    Args:
        images: the folder that data.yaml's paths are in; None: as it says.

    Raises:
        UserError: no data.yaml, label files that do not read, boxes in place of outlines.
    """
    files = [source] if source.is_file() else visible(source, "*.yaml", "*.yml")
    if len(files) != 1 or files[0].suffix.lower() not in (".yaml", ".yml"):
        raise no_such_source("YOLO", source, "data.yaml, or the folder that holds it alone")
    content = _read(files[0])
    names = content["names"]
    root = images or files[0].parent / content["path"]
    roots = [root, files[0].parent, files[0].parent / "datasets"]
    pictures = [
        _annotated(file, split, names) for split in _SPLITS for file in _pictures(content[split], roots, files[0])
    ]
    return Export(pictures=pictures, names=list(dict.fromkeys(names.values())))


def _read(file: Path) -> dict[str, Any]:
    needed, fix = "train, val and names", "Take the data.yaml that the export has."
    with taken_apart(f"file {file}", found="no YOLO data set", needed=needed, fix=fix):
        content = dict(_parsed(file))
        names = content["names"]
        pairs = names.items() if isinstance(names, dict) else enumerate(names)
        content["names"] = {
            int(number) if isinstance(number, str) else as_whole(number): _word(name) for number, name in pairs
        }
        for split in _SPLITS:
            entries = content.get(split) or []
            content[split] = [_word(entry) for entry in (entries if isinstance(entries, list) else [entries])]
        content["path"] = _word(content.get("path") or "")
    return content


def _parsed(file: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _word(value: Any) -> str:
    """As text; lists are none, which a few aliases make longer than any memory, nor YAML's no, which is false."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise TypeError(f"a {type(value).__name__} for a name, which quotes make a text")
    return str(value)


def _pictures(entries: Sequence[str], roots: Sequence[Path], file: Path) -> Iterator[Path]:
    """The pictures of a split: folders, or lists of pictures in .txt files."""
    for entry in entries:
        # Roboflow writes ../train/images for train/images beside the file
        entry = entry.replace("\\", "/")
        tries = [root / part for part in (entry, entry.removeprefix("../")) for root in roots]
        place = next((path for path in tries if is_there(path)), None)
        if place is None:
            raise explain(f"file {file}", found=f"no {entry[:200]}", needed="that folder", fix="Give --images.")
        if place.is_dir():
            yield from (one for one in files_below(place) if one.suffix.lower() in PICTURE_SUFFIXES)
        else:
            lines = _text(place).split("\n")
            listed = (line.strip().replace("\\", "/") for line in lines)
            yield from (as_spelled(place.parent / line) for line in listed if line)


def _annotated(picture: Path, split: str, names: Mapping[int, str]) -> Annotated:
    parts = list(picture.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"  # the last one
    labels = as_spelled(Path(*parts).with_suffix(".txt"))
    shapes = []
    lines = _text(labels).splitlines() if is_listed(labels) else []
    for number, line in enumerate(lines, 1):
        words = line.split()
        try:
            name, outline = names[as_whole(float(words[0]))], [float(word) for word in words[1:]] if words else []
        except (ValueError, LookupError, OverflowError, TypeError):
            if not words:
                continue
            raise _no_outline(labels, number, line, "a class of data.yaml and numbers") from None
        if len(outline) == 4:
            raise _no_outline(labels, number, line, "an outline; these are boxes, a detection data set")
        if len(outline) < 6 or len(outline) % 2 or not all(-1 <= value <= 2 for value in outline):
            raise _no_outline(labels, number, line, "x y of three points or more, in parts of width and height")
        shapes.append((_area(outline), Shape(name, partial(_draw, outline))))
    shapes.sort(key=lambda one: -one[0])
    return Annotated(
        file=picture, name="/".join(picture.parts[-3:]), shapes=tuple(shape for _, shape in shapes), split=split
    )


def _text(file: Path) -> str:
    with taken_apart(f"file {file}", found="no text", needed="lines of text", fix="Export it again."):
        return file.read_text(encoding="utf-8-sig")


def _no_outline(labels: Path, number: int, line: str, needed: str) -> Exception:
    return explain(f"{labels}, line {number}", found=repr(line[:60]), needed=needed, fix="Export for segmentation.")


def _area(outline: Sequence[float]) -> float:
    x, y = np.array(outline).reshape(-1, 2).T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2


def _draw(outline: Sequence[float], height: int, width: int) -> Mask:
    points = (np.array(outline).reshape(-1, 2) * (width, height)).astype(np.int32)
    canvas = np.zeros((height, width), np.uint8)
    cv2.fillPoly(canvas, [points], 1)
    return np.asarray(canvas, np.bool_)
