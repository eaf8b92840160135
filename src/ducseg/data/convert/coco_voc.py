"""COCO as masks of VOC's classes, for pretraining (paper, section 4.3): from the instances JSON, once.

The rule: the 20 of COCO's 80 categories that VOC has, the others are background. Objects are painted from the largest
to the smallest (pixels of their own mask; of two equal the later one in the file lies on top), over crowd regions of
those categories, which are 255. A picture is kept if more than 1000 pixels are labelled 1..20 (the usual rule).
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE, VOC2012
from ducseg.data.convert.coco import CocoPicture, decode, read_instances
from ducseg.data.files.indexed_png import write_indexed_png
from ducseg.data.files.reading import PICTURE_SUFFIXES
from ducseg.data.paired import PairedFiles, no_such_data
from ducseg.data.processes import mapped
from ducseg.errors import explain, listed
from ducseg.files import files_below, visible, whole_folder

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
        masks = {file.stem: file for file in visible(root / "masks", "*.png")}
        if not masks or not (root / "images").is_dir():
            missing = "no folder images" if masks else "no masks/*.png"
            raise no_such_data("COCO", root, missing=missing, layout=_LAYOUT)
        images = _pictures_below(root / "images")
        without = [name for name in masks if name not in images]
        if without:
            raise explain(
                f"COCO in {root}",
                found=f"{len(without)} masks without a picture in images/: {listed(without)}",
                needed="the picture of each mask",
                fix="Put (or link) the pictures of the same year and split there.",
            )
        super().__init__(VOC2012, {name: (images[name], mask) for name, mask in masks.items()})


def _pictures_below(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in files_below(folder, follow=True):
        if path.suffix.lower() in PICTURE_SUFFIXES and (other := found.setdefault(path.stem, path)) != path:
            raise explain(
                f"COCO in {folder.parent}",
                found=f"two pictures of one name, {other} and {path}",
                needed="one a name",
                fix="Leave the pictures of one year and split there.",
            )
    return found


def write_coco_masks(
    instances: Path,
    root: Path,
    *,
    num_workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write root/masks/NAME.png, palette PNGs, for the pictures of an instances file that the rule above keeps.

    Args:
        instances: instances_train2017.json, or of another year and split.
        root: gets masks/, which appears when it is complete; an interrupted run begins again.
        num_workers: processes.
        progress: called with (done, total) pictures.

    Returns:
        How many pictures were kept.

    Raises:
        UserError: as `read_instances`; no category of VOC's, two pictures of one name, masks/ that is there already.
    """
    with whole_folder(root / "masks") as folder:
        labels, pictures = _pictures_of(instances)
        return sum(mapped(partial(_write_mask, folder, labels), pictures, num_workers, progress))


def _pictures_of(instances: Path) -> tuple[dict[int, int], list[CocoPicture]]:
    """Category id -> label, and the pictures that have an annotation of VOC's classes."""
    categories, pictures = read_instances(instances, wanted=COCO_TO_VOC.__contains__)
    labels = {
        category["id"]: VOC2012.names.index(COCO_TO_VOC[category["name"]])
        for category in categories
        if category["name"] in COCO_TO_VOC
    }
    found = [picture for picture in pictures if picture.objects]
    if not found:
        raise explain(
            f"file {instances}", found="no annotation of VOC's classes", needed="some", fix="Use instances_*.json."
        )
    names: dict[str, str] = {}
    for picture in found:
        other = names.setdefault(Path(picture.file_name).stem, picture.file_name)
        if other != picture.file_name:
            raise explain(
                f"file {instances}",
                found=f"two pictures of one name, {other} and {picture.file_name}",
                needed="one a name, for masks/ has no folders",
                fix="Rename one of them, in the file too.",
            )
    return labels, found


def _write_mask(folder: Path, labels: dict[int, int], picture: CocoPicture) -> bool:
    mask = paint(picture, labels)
    kept = np.count_nonzero((mask > 0) & (mask < IGNORE)) > MIN_LABELLED
    if kept:
        write_indexed_png(folder / f"{Path(picture.file_name).stem}.png", mask)
    return bool(kept)


def paint(picture: CocoPicture, labels: Mapping[int, int]) -> NDArray[np.uint8]:
    """The label map (H, W) of a picture by the rule above; `labels`: category id -> label."""
    height, width = picture.height, picture.width
    canvas = np.zeros((height, width), np.uint8)
    for found in sorted(picture.objects, key=lambda one: (not one.crowd, -one.area)):
        canvas[decode(found.counts, height, width)] = IGNORE if found.crowd else labels[found.category]
    return canvas
