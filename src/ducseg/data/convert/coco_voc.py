"""COCO as masks of VOC's classes, for pretraining (paper, section 4.3): from the instances JSON, once.

The rule: the 20 of COCO's 80 categories that VOC has, the others are background. Objects are painted from the largest
to the smallest (pixels of their own mask; of two equal the later one in the file lies on top), over crowd regions of
those categories, which are 255. A picture is kept if more than 1000 pixels are labelled 1..20 (the usual rule).
"""

import os
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE, VOC2012
from ducseg.data.convert.coco_masks import decode_segmentation
from ducseg.data.convert.json_stream import elements, read_element
from ducseg.data.files.indexed_png import write_indexed_png
from ducseg.data.files.reading import PICTURE_SUFFIXES
from ducseg.data.paired import PairedFiles, no_such_data
from ducseg.data.processes import mapped
from ducseg.errors import UserError, explain

__all__ = ["COCO_TO_VOC", "MIN_LABELLED", "CocoVoc", "paint", "write_coco_masks"]

COCO_TO_VOC = {name: name for name in VOC2012.names[1:]} | {
    "airplane": "aeroplane",
    "couch": "sofa",
    "dining table": "diningtable",
    "motorcycle": "motorbike",
    "potted plant": "pottedplant",
    "tv": "tvmonitor",
}
"""COCO's category name -> VOC's class name; VOC's own names are taken too."""

MIN_LABELLED = 1000
"""Pictures with no more labelled pixels than this are left out."""

_LAYOUT = "images/ (COCO's pictures, in sub-folders or not) and masks/*.png of ducseg data coco-masks"


class CocoVoc(PairedFiles):
    """The pictures that have a mask in masks/, with VOC's 21 classes; ids are COCO's file names without suffix.

    Args:
        root: the folder that holds images/ and masks/.

    Raises:
        UserError: no such folders, no mask, masks without a picture.
    """

    def __init__(self, root: Path | str) -> None:
        root = Path(root)
        masks = {file.stem: file for file in sorted((root / "masks").glob("*.png"))}
        if not masks or not (root / "images").is_dir():
            missing = "no folder images" if masks else "no masks/*.png"
            raise no_such_data("COCO", root, missing=missing, layout=_LAYOUT)
        images = _pictures_below(root / "images")
        without = [name for name in masks if name not in images]
        if without:
            more = f" and {len(without) - 5} more" if len(without) > 5 else ""
            raise explain(
                f"COCO in {root}",
                found=f"{len(without)} masks without a picture in images/: {', '.join(without[:5])}{more}",
                needed="the picture of each mask",
                fix="Put (or link) the pictures of the same year and split there.",
            )
        super().__init__(VOC2012, {name: (images[name], mask) for name, mask in masks.items()})


def _pictures_below(folder: Path) -> dict[str, Path]:
    return {
        Path(name).stem: Path(parent, name)
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if Path(name).suffix.lower() in PICTURE_SUFFIXES
    }


class _Place(NamedTuple):
    """Where an annotation stands in its file, and its class."""

    offset: int
    length: int
    label: int


class _Picture(NamedTuple):
    name: str
    height: int
    width: int
    annotations: tuple[_Place, ...]


def write_coco_masks(
    instances: Path,
    root: Path,
    *,
    num_workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write root/masks/NAME.png, palette PNGs, for the pictures of an instances file that the rule above keeps.

    The file is read as a stream and its annotations again where they are needed, so memory does not grow with their
    polygons.

    Args:
        instances: instances_train2017.json, or of another year and split.
        root: gets masks/, which appears when it is complete; an interrupted run begins again.
        num_workers: processes.
        progress: called with (done, total) pictures.

    Returns:
        How many pictures were kept.

    Raises:
        UserError: a file that does not read or is no instances file, annotations that do not decode, masks/ that is
            there already.
    """
    target = root / "masks"
    if target.exists():
        raise explain(f"folder {target}", found="one already", needed="none yet", fix="Use it, or move it away first.")
    pictures = _pictures_of(instances)
    unfinished = root / ".masks.unfinished"
    unfinished.mkdir(parents=True, exist_ok=True)
    kept = 0
    for done, was_kept in enumerate(mapped(partial(_write_mask, instances, unfinished), pictures, num_workers), 1):
        kept += was_kept
        if progress is not None:
            progress(done, len(pictures))
    unfinished.rename(target)
    return kept


def _pictures_of(instances: Path) -> list[_Picture]:
    """The pictures that have an annotation of VOC's classes."""
    voc = {name: label for label, name in enumerate(VOC2012.names)}
    labels: dict[int, int] = {}
    sizes: dict[int, tuple[str, int, int]] = {}
    places: dict[int, array[int]] = {}  # offset, length, category of each annotation, flat: there are 860,000
    try:
        for member, offset, length, value in elements(instances):
            if member == "categories" and value["name"] in COCO_TO_VOC:
                labels[value["id"]] = voc[COCO_TO_VOC[value["name"]]]
            elif member == "images":
                sizes[value["id"]] = Path(value["file_name"]).stem, value["height"], value["width"]
            elif member == "annotations":
                places.setdefault(value["image_id"], array("q")).extend((offset, length, value["category_id"]))
    except (KeyError, TypeError) as error:
        raise _no_instances(instances, f"an entry without {error}") from None
    if not labels or not sizes or not places:
        raise _no_instances(instances, "no images, annotations or categories of VOC's classes")
    lost = [image for image in places if image not in sizes]
    if lost:
        raise _no_instances(instances, f"annotations of picture {lost[0]}, which is not among its images")
    found = []
    for image, annotations in places.items():
        rows = zip(annotations[::3], annotations[1::3], annotations[2::3])
        kept = tuple(_Place(at, length, labels[category]) for at, length, category in rows if category in labels)
        if kept:
            found.append(_Picture(*sizes[image], kept))
    return found


def _no_instances(path: Path, found: str) -> UserError:
    return explain(
        f"file {path}",
        found=found,
        needed="COCO's instances_*.json with images, annotations and categories",
        fix="Captions and keypoints are other files of the same archive.",
    )


def _write_mask(instances: Path, folder: Path, picture: _Picture) -> bool:
    mask = paint(
        [(place.label, read_element(instances, place.offset, place.length)) for place in picture.annotations],
        picture.height,
        picture.width,
    )
    kept = np.count_nonzero((mask > 0) & (mask < IGNORE)) > MIN_LABELLED
    if kept:
        write_indexed_png(folder / f"{picture.name}.png", mask)
    return bool(kept)


def paint(annotations: Sequence[tuple[int, dict[str, Any]]], height: int, width: int) -> NDArray[np.uint8]:
    """The label map (H, W) of a picture by the rule above, from (label, annotation) pairs.

    Raises:
        UserError: a segmentation that does not decode, with the annotation's id.
    """
    canvas = np.zeros((height, width), np.uint8)
    objects = []
    for label, annotation in annotations:
        try:
            mask = decode_segmentation(annotation["segmentation"], height, width)
        except UserError as error:
            raise UserError(f"annotation {annotation.get('id')}: {error}") from None
        if annotation.get("iscrowd"):
            canvas[mask] = IGNORE
        else:
            objects.append((np.count_nonzero(mask), label, mask))
    for _, label, mask in sorted(objects, key=lambda found: -found[0]):
        canvas[mask] = label
    return canvas
