"""Where each data set's files lie and how its labels read, for `ducseg data check`: one function a layout.

A layout only lists: it raises for a root that holds nothing of it, and leaves what is missing, empty or damaged to the
check, which reports everything at once. A further data set is one more entry in `LAYOUTS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import CAMVID, CITYSCAPES, KITTI_ROAD, VOC2012, ClassSet, Colour
from ducseg.data.files.reading import read_label
from ducseg.data.layouts.cityscapes import LABEL_ID_TO_TRAIN_ID, NUM_LABEL_IDS, Annotation, frames_in
from ducseg.data.layouts.folder import find_mask_kind
from ducseg.data.layouts.kitti_road import decode_ground_truth, read_ground_truth
from ducseg.data.layouts.voc2012 import AUGMENTED_MASKS, MASKS, find_voc2012, image_set_file, read_image_set
from ducseg.data.paired import no_such_data, pictures_in, table
from ducseg.errors import explain

__all__ = ["LAYOUTS", "LabelRules", "Layout", "SplitFiles"]


@dataclass(frozen=True, kw_only=True)
class SplitFiles:
    """The files of a split by id; `labels` is None where the split has none (a test set)."""

    name: str
    images: Mapping[str, Path]
    labels: Mapping[str, Path] | None


@dataclass(frozen=True, kw_only=True)
class LabelRules:
    """What label files hold.

    Attributes:
        classes: of the train ids.
        read: label file -> values (H, W); raises `UserError` for a file that it does not take.
        num_values: values are 0..num_values-1 or 255.
        train_ids: (256,) value -> train id or 255; None: values are train ids.
        are_label_ids: values are Cityscapes' label ids, for which train ids may be mistaken.
        are_colours: files are colour pictures.
        palette: that the files must carry; None: any, or none.
    """

    classes: ClassSet
    read: Callable[[Path], NDArray[np.uint8]]
    num_values: int
    train_ids: NDArray[np.uint8] | None = None
    are_label_ids: bool = False
    are_colours: bool = False
    palette: tuple[Colour, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A data set as it lies on the disk.

    Attributes:
        splits: that are there, in whole or in part; no picture belongs to two of them.
        rules: of the labels.
        sequence: id -> the drive that it is from, which no two splits may share; None: splits share drives by design.
    """

    splits: tuple[SplitFiles, ...]
    rules: LabelRules
    sequence: Callable[[str], str] | None = None


def _cityscapes(root: Path, classes: ClassSet | None) -> Layout:
    _refuse_classes("cityscapes", classes)
    splits = []
    for split in ("train", "val", "test", "train_extra"):
        annotation: Annotation = "coarse" if split == "train_extra" else "fine"
        if (root / "leftImg8bit" / split).is_dir() or (root / f"gt{annotation.capitalize()}" / split).is_dir():
            images, labels = frames_in(root, split, annotation)
            splits.append(SplitFiles(name=split, images=images, labels=labels))
    if not splits:
        needed = "leftImg8bit/SPLIT/CITY/*_leftImg8bit.png and gtFine/SPLIT/CITY/*_gtFine_labelIds.png"
        raise no_such_data("Cityscapes", root, missing="no leftImg8bit/train, val, test or train_extra", layout=needed)
    rules = LabelRules(
        classes=CITYSCAPES,
        read=read_label,
        num_values=NUM_LABEL_IDS,
        train_ids=table(LABEL_ID_TO_TRAIN_ID),
        are_label_ids=True,
    )
    return Layout(splits=tuple(splits), rules=rules, sequence=_drive)


def _refuse_classes(name: str, classes: ClassSet | None) -> None:
    if classes is not None:
        raise explain(
            f"classes of {name}", found="a class list", needed="none: it has its own", fix="Leave --classes out."
        )


def _drive(frame: str) -> str:
    """CITY_SEQUENCE of CITY_SEQUENCE_FRAME."""
    return frame.rpartition("_")[0]


def _camvid(root: Path, classes: ClassSet | None) -> Layout:
    _refuse_classes("camvid", classes)
    void = len(CAMVID)
    train_ids = table({train_id: train_id for train_id in range(void)})
    rules = LabelRules(classes=CAMVID, read=read_label, num_values=void + 1, train_ids=train_ids)
    return Layout(splits=_sub_folders(root, "images", "labels"), rules=rules)


def _split_folders(root: Path, classes: ClassSet | None) -> Layout:
    splits = _sub_folders(root, "images", "labels")
    classes = classes or ClassSet.read(root / "classes.json")
    return Layout(splits=splits, rules=LabelRules(classes=classes, read=read_label, num_values=len(classes)))


def _folder(root: Path, classes: ClassSet | None) -> Layout:
    if _folders_in(root / "images") or _folders_in(root / "masks"):
        splits = _sub_folders(root, "images", "masks")
    else:
        splits = (_split("all", root / "images", root / "masks"),)
        if not splits[0].images and not splits[0].labels:
            raise no_such_data("images and masks", root, missing="no pictures", layout="images/* and masks/*")
    classes = classes or ClassSet.read(root / "classes.json")
    masks = [path for split in splits for path in (split.labels or {}).values()]
    colours = bool(masks) and find_mask_kind(masks, classes) == "colour"
    read = partial(read_label, palette=classes) if colours else read_label
    return Layout(
        splits=splits, rules=LabelRules(classes=classes, read=read, num_values=len(classes), are_colours=colours)
    )


def _kitti_road(root: Path, classes: ClassSet | None) -> Layout:
    _refuse_classes("kitti-road", classes)
    splits = []
    for name in ("training", "testing"):
        images = {file.stem: file for file in sorted((root / name / "image_2").glob("*.png"))}
        truth = {file.stem: file for file in sorted((root / name / "gt_image_2").glob("*_road_*.png"))}
        if (root / name).is_dir():
            labels = {stem.replace("_road_", "_"): file for stem, file in truth.items()}
            splits.append(SplitFiles(name=name, images=images, labels=labels if name == "training" else None))
    if not splits:
        needed = "training/image_2/um_000000.png, training/gt_image_2/um_road_000000.png, ..."
        raise no_such_data("KITTI road", root, missing="no training or testing", layout=needed)
    return Layout(splits=tuple(splits), rules=LabelRules(classes=KITTI_ROAD, read=_read_road, num_values=2))


def _read_road(path: Path) -> NDArray[np.uint8]:
    return decode_ground_truth(read_ground_truth(path))


def _voc2012(root: Path, classes: ClassSet | None) -> Layout:
    _refuse_classes("voc2012", classes)
    root = find_voc2012(root)
    names = ["train_aug" if image_set_file(root, "train_aug").is_file() else "train", "val", "test"]
    splits = [_image_set(root, name) for name in names if image_set_file(root, name).is_file()]
    if not splits:
        needed = "ImageSets/Segmentation/train.txt and val.txt"
        raise no_such_data("VOC2012", root, missing="no list of an image set", layout=needed)
    rules = LabelRules(classes=VOC2012, read=read_label, num_values=len(VOC2012), palette=VOC2012.palette)
    return Layout(splits=tuple(splits), rules=rules)


def _image_set(root: Path, name: str) -> SplitFiles:
    ids = read_image_set(image_set_file(root, name))
    images = {one: root / "JPEGImages" / f"{one}.jpg" for one in ids}
    if name == "test":
        return SplitFiles(name=name, images=images, labels=None)
    labels: dict[str, Path] = {}
    for folder in (AUGMENTED_MASKS, MASKS) if name.endswith("_aug") else (MASKS,):
        labels |= {one: root / folder / f"{one}.png" for one in ids if (root / folder / f"{one}.png").is_file()}
    # where both are missing, the image's path stays and is reported as a file that does not read
    images = {one: image for one, image in images.items() if one not in labels or image.is_file()}
    return SplitFiles(name=name, images=images, labels=labels)


def _sub_folders(root: Path, images: str, labels: str) -> tuple[SplitFiles, ...]:
    names = sorted(_folders_in(root / images) | _folders_in(root / labels), key=_in_usual_order)
    if not names:
        layout = f"{images}/SPLIT/* and {labels}/SPLIT/* with the same names"
        raise no_such_data("data", root, missing=f"no {images}/SPLIT", layout=layout)
    return tuple(_split(name, root / images / name, root / labels / name) for name in names)


def _in_usual_order(split: str) -> tuple[int, str]:
    return {"train": 0, "val": 1, "test": 2}.get(split, 3), split


def _split(name: str, images: Path, labels: Path) -> SplitFiles:
    found = (pictures_in(folder) if folder.is_dir() else {} for folder in (images, labels))
    return SplitFiles(name=name, images=next(found), labels=next(found))


def _folders_in(folder: Path) -> set[str]:
    return {inside.name for inside in folder.iterdir() if inside.is_dir()} if folder.is_dir() else set()


LAYOUTS: dict[str, Callable[[Path, ClassSet | None], Layout]] = {
    "cityscapes": _cityscapes,
    "camvid": _camvid,
    "split-folders": _split_folders,
    "folder": _folder,
    "kitti-road": _kitti_road,
    "voc2012": _voc2012,
}
"""Name on the command line -> (root, the user's classes or None) -> layout; raises `UserError` for another root."""
