"""COCO's instances JSON: its pictures, categories and segmentations, pixel for pixel as COCO's own maskApi draws them.

The file is parsed as a stream; of an annotation its run-length code is kept (about 100 bytes). What maskApi itself does
not check (it reads and writes outside its memory) is checked first. Legend: H, W pixels. Run-length codes count along
the columns, from the top left, first pixels outside the object.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.data.files.header import max_pixels
from ducseg.data.files.shallow_json import Shallow
from ducseg.errors import UserError, as_text, as_whole, explain, package, taken_apart

__all__ = ["CocoObject", "CocoPicture", "Mask", "counts_of", "decode", "draw_polygons", "encode", "read_instances"]

Mask = NDArray[np.bool_]
_Runs = NDArray[np.int64]


@dataclass(frozen=True)
class CocoObject:
    """One annotation.

    Attributes:
        category: its category's id.
        crowd: a region of many objects.
        area: pixels of its mask.
        counts: its compressed run-length code.
    """

    category: int
    crowd: bool
    area: int
    counts: bytes


@dataclass(frozen=True)
class CocoPicture:
    """One picture with its annotations in the order of the file."""

    file_name: str
    height: int
    width: int
    objects: list[CocoObject] = field(default_factory=list)


def read_instances(
    path: Path, wanted: Callable[[str], bool] = lambda _name: True
) -> tuple[list[dict[str, Any]], list[CocoPicture]]:
    """Categories, and pictures with their annotations of the `wanted` categories' names, as the file has them.

    Raises:
        UserError: a file that does not read, is cut off or no instances file; a segmentation that does not decode, an
            annotation of no picture or category.
    """
    needed, fix = "COCO's instances_*.json", "Captions and keypoints are other files of the same archive."
    with taken_apart(f"file {path}", found="an entry that does not read", needed=needed, fix=fix):
        try:
            categories = list(_items(path, "categories"))
            known = {category["id"] for category in categories}
            labels = {category["id"] for category in categories if wanted(as_text(category["name"]))}
            pictures = {
                image["id"]: CocoPicture(as_text(image["file_name"]), *_size(path, image))
                for image in _items(path, "images")
            }
            annotated = outlined = False
            for annotation in _items(path, "annotations"):
                annotated = True
                outlined |= bool(annotation.get("segmentation"))
                category, picture = annotation["category_id"], pictures.get(annotation["image_id"])
                if picture is None:
                    found = f"annotations of picture {annotation['image_id']}, which is not among its images"
                    raise _no_instances(path, found)
                if category not in known:
                    raise _no_instances(path, f"annotations of category {category}, which is not among its categories")
                if category in labels:
                    picture.objects.append(_object(annotation, picture))
        except KeyError as error:
            raise _no_instances(path, f"an entry without {error}") from None
    if not categories or not pictures or not annotated:
        raise _no_instances(path, "no images, annotations or categories")
    if not outlined:
        raise explain(
            f"file {path}",
            found="boxes alone: the segmentation of every annotation is empty",
            needed="polygons or run-length codes, which say which pixels are the object",
            fix="Export segmentations from the tool, or draw outlines in it.",
        )
    return categories, list(pictures.values())


def _size(path: Path, image: dict[str, Any]) -> tuple[int, int]:
    """(H, W), checked before anything is drawn: maskApi takes memory for it, whatever it is."""
    height, width = as_whole(image["height"]), as_whole(image["width"])
    if min(height, width) < 1 or height * width > max_pixels():
        raise _no_instances(path, f"a picture of {height} x {width} pixels (H x W)")
    return height, width


def _items(path: Path, member: str) -> Iterator[Any]:
    ijson = package("ijson", what="COCO's annotations", install="ijson")
    try:
        with path.open("rb") as file:
            yield from ijson.items(Shallow(file), f"{member}.item", use_float=True)
    except OSError as error:
        raise explain(
            f"file {path}", found=error.strerror or str(error), needed="a JSON file", fix="Check the path."
        ) from None
    except (ijson.JSONError, UnicodeDecodeError) as error:
        found = f"no whole JSON ({' '.join(str(error).split())[:80]})"
        raise explain(
            f"file {path}", found=found, needed="COCO's instances_*.json", fix="Unpack or download it again."
        ) from None


def _object(annotation: dict[str, Any], picture: CocoPicture) -> CocoObject:
    try:
        code = encode(annotation["segmentation"], picture.height, picture.width)
    except UserError as error:
        raise UserError(f"annotation {annotation.get('id')}: {error}") from None
    area = int(_maskapi().area(code))
    return CocoObject(annotation["category_id"], bool(annotation.get("iscrowd")), area, code["counts"])


def encode(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """maskApi's compressed run-length code of a "segmentation": a list of polygons (their union), or a run-length code.

    Raises:
        UserError: another form, a run-length code of another size, a polygon that is none.
    """
    if isinstance(segmentation, list):
        return draw_polygons(segmentation, height, width)
    try:
        size, counts = tuple(segmentation["size"]), segmentation["counts"]
    except (KeyError, TypeError):
        raise _no_segmentation(f"{str(segmentation)[:60]!r}") from None
    if size != (height, width):
        raise _no_segmentation(f"a run-length code of size {size} in a picture of {height} x {width}")
    runs = counts_of(counts) if isinstance(counts, str) else _whole_numbers(counts)
    if (runs < 0).any() or runs.sum() != height * width:
        raise _no_segmentation(f"a run-length code of {runs.sum()} pixels in a picture of {height} x {width}")
    code: dict[str, Any] = _maskapi().frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)
    return code


def _whole_numbers(counts: Any) -> _Runs:
    try:
        return np.array(counts, np.int64)
    except (ValueError, TypeError, OverflowError):
        raise _no_segmentation("a run-length code that is no list of whole numbers") from None


def decode(counts: bytes, height: int, width: int) -> Mask:
    """The mask (H, W) of a compressed code that `encode` gave."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools beside numpy 2
        mask = _maskapi().decode({"size": [height, width], "counts": counts})
    return np.asarray(mask, np.bool_)


def draw_polygons(polygons: list[Any], height: int, width: int) -> dict[str, Any]:
    """The run-length code of the union of outlines [x1, y1, x2, y2, ...] in pixels (maskApi, rleFrPoly).

    Raises:
        UserError: not at least three points, no numbers, a point far outside.
    """
    maskapi = _maskapi()
    if not polygons:
        return dict(maskapi.frPyObjects({"size": [height, width], "counts": [height * width]}, height, width))
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            numbers = f"{len(polygon)} numbers" if isinstance(polygon, list) else f"{polygon!r}"
            raise _no_segmentation(f"a polygon of {numbers}")
        try:
            points = np.array(polygon, np.float64).reshape(-1, 2)
        except (ValueError, TypeError):
            raise _no_segmentation("a polygon with something that is no number") from None
        far = ~(np.abs(points - (width / 2, height / 2)) <= 2 * max(height, width) + 100)
        if far.any():
            x, y = points[far.any(1)][0]
            raise _no_segmentation(f"a polygon's point ({x:g}, {y:g}) far outside of a picture of {height} x {width}")
    code: dict[str, Any] = maskapi.merge(maskapi.frPyObjects(polygons, height, width))
    return code


def counts_of(text: str) -> _Runs:
    """The runs of a compressed code (maskApi, rleFrString): 5 bits a character, from the fourth run on differences.

    Raises:
        UserError: a character that is none of them, a code that is cut off.
    """
    bits = np.frombuffer(text.encode("latin-1", "replace"), np.uint8).astype(np.int64) - 48
    strange = np.flatnonzero((bits < 0) | (bits >= 64))
    if len(strange):
        raise _no_segmentation(f"the character {text[strange[0]]!r} in a run-length code")
    last = bits < 32
    if not len(bits) or not last[-1]:
        raise _no_segmentation("a run-length code that is cut off")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 7:
        raise _no_segmentation("a run-length code with a run beyond 32 bits")
    shifts = 5 * (np.arange(len(bits)) - np.repeat(starts, lengths))
    values = np.add.reduceat((bits & 31) << shifts, starts)
    values[bits[ends] & 16 > 0] -= 1 << 5 * lengths[bits[ends] & 16 > 0]
    values[1::2], values[2::2] = np.cumsum(values[1::2]), np.cumsum(values[2::2])
    return np.asarray(values, np.int64)


def _maskapi() -> Any:
    return package("pycocotools.mask", what="COCO's annotations", install="pycocotools")


def _no_instances(path: Path, found: str) -> UserError:
    return explain(
        f"file {path}",
        found=found,
        needed="COCO's instances_*.json with images, annotations and categories",
        fix="Captions and keypoints are other files of the same archive.",
    )


def _no_segmentation(found: str) -> UserError:
    return explain(
        "segmentation",
        found=found,
        needed='polygons [[x1, y1, x2, y2, x3, y3, ...], ...] or {"size": [H, W], "counts": ...}',
        fix="Use COCO's instances_*.json.",
    )
