"""Cityscapes, fine and coarse annotations, as its zip files unpack: leftImg8bit, gtFine and gtCoarse by SPLIT and CITY.

`LABELS` is the table of cityscapesScripts (helpers/labels.py): label ids 0..33 in the files, 19 of them train.
"""

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import CITYSCAPES, IGNORE, ClassSet, Colour
from ducseg.data.config import DataConfig
from ducseg.data.layouts.layout import LabelRules, Layout, SplitFiles
from ducseg.data.paired import PairedFiles, table
from ducseg.errors import UserError, explain
from ducseg.files import files_below

__all__ = [
    "LABELS",
    "LABEL_ID_TO_TRAIN_ID",
    "NUM_LABEL_IDS",
    "Annotation",
    "Cityscapes",
    "Label",
    "cityscapes_layout",
    "looks_like_train_ids",
]

Annotation = Literal["fine", "coarse"]


class Label(NamedTuple):
    """One row of the table; `train_id` is the class in `CITYSCAPES`, 255 where the label is not trained or scored."""

    name: str
    id: int
    train_id: int
    category: str
    has_instances: bool
    colour: Colour


LABELS = (
    Label("unlabeled", 0, 255, "void", False, (0, 0, 0)),
    Label("ego vehicle", 1, 255, "void", False, (0, 0, 0)),
    Label("rectification border", 2, 255, "void", False, (0, 0, 0)),
    Label("out of roi", 3, 255, "void", False, (0, 0, 0)),
    Label("static", 4, 255, "void", False, (0, 0, 0)),
    Label("dynamic", 5, 255, "void", False, (111, 74, 0)),
    Label("ground", 6, 255, "void", False, (81, 0, 81)),
    Label("road", 7, 0, "flat", False, (128, 64, 128)),
    Label("sidewalk", 8, 1, "flat", False, (244, 35, 232)),
    Label("parking", 9, 255, "flat", False, (250, 170, 160)),
    Label("rail track", 10, 255, "flat", False, (230, 150, 140)),
    Label("building", 11, 2, "construction", False, (70, 70, 70)),
    Label("wall", 12, 3, "construction", False, (102, 102, 156)),
    Label("fence", 13, 4, "construction", False, (190, 153, 153)),
    Label("guard rail", 14, 255, "construction", False, (180, 165, 180)),
    Label("bridge", 15, 255, "construction", False, (150, 100, 100)),
    Label("tunnel", 16, 255, "construction", False, (150, 120, 90)),
    Label("pole", 17, 5, "object", False, (153, 153, 153)),
    Label("polegroup", 18, 255, "object", False, (153, 153, 153)),
    Label("traffic light", 19, 6, "object", False, (250, 170, 30)),
    Label("traffic sign", 20, 7, "object", False, (220, 220, 0)),
    Label("vegetation", 21, 8, "nature", False, (107, 142, 35)),
    Label("terrain", 22, 9, "nature", False, (152, 251, 152)),
    Label("sky", 23, 10, "sky", False, (70, 130, 180)),
    Label("person", 24, 11, "human", True, (220, 20, 60)),
    Label("rider", 25, 12, "human", True, (255, 0, 0)),
    Label("car", 26, 13, "vehicle", True, (0, 0, 142)),
    Label("truck", 27, 14, "vehicle", True, (0, 0, 70)),
    Label("bus", 28, 15, "vehicle", True, (0, 60, 100)),
    Label("caravan", 29, 255, "vehicle", True, (0, 0, 90)),
    Label("trailer", 30, 255, "vehicle", True, (0, 0, 110)),
    Label("train", 31, 16, "vehicle", True, (0, 80, 100)),
    Label("motorcycle", 32, 17, "vehicle", True, (0, 0, 230)),
    Label("bicycle", 33, 18, "vehicle", True, (119, 11, 32)),
)
"""By label id; license plate (-1) does not stand in labelIds files."""

NUM_LABEL_IDS = len(LABELS)
"""Label ids 0..33 stand in labelIds files."""

LABEL_ID_TO_TRAIN_ID = {label.id: label.train_id for label in LABELS if label.train_id != IGNORE}
"""Label id -> train id (the order of `CITYSCAPES`); all other label ids are ignored."""

_IMAGES = "leftImg8bit"


class Cityscapes(PairedFiles):
    """Whole frames with the 19 classes; ids are CITY_SEQUENCE_FRAME.

    Args:
        root: the folder that holds leftImg8bit/ and gtFine/ or gtCoarse/.
        split: "train", "val", "test" (whose public labels are all ignored) or "train_extra" (coarse alone).
        annotation: "fine" or "coarse"; None: coarse for train_extra, fine elsewhere.

    Raises:
        UserError: no such folders, no frames, frames or labels without a partner.
    """

    def __init__(self, root: Path | str, split: str, annotation: Annotation | None = None) -> None:
        files = _files(Path(root), split, annotation)
        super().__init__(
            CITYSCAPES, files.pairs("Cityscapes", Path(root)), train_ids=_RULES.train_ids, num_values=_RULES.num_values
        )


def looks_like_train_ids(counts: NDArray[np.int64]) -> bool:
    """Whether a label file's (256,) pixels of each value are those of train ids where label ids belong.

    No labelIds file holds 255, and next to none goes without the label ids 19 to 33 (sky, plants, cars, ...). Read as
    label ids, train ids put most pixels (road 0, building 2, sky 10) where nothing is trained.
    """
    classes = np.flatnonzero(counts[:IGNORE])
    if classes.size == 0 or classes.max() >= len(LABEL_ID_TO_TRAIN_ID) or classes.max() < min(LABEL_ID_TO_TRAIN_ID):
        return False
    trained = int(counts[list(LABEL_ID_TO_TRAIN_ID)].sum())
    return bool(counts[IGNORE]) or trained < int(counts.sum()) / 2


def _train_ids(path: Path, counts: NDArray[np.int64]) -> UserError | None:
    if not looks_like_train_ids(counts):
        return None
    return explain(
        f"label {path}",
        found=f"values {', '.join(map(str, np.flatnonzero(counts)))}, which look like train ids",
        needed="label ids (7 road, 11 building, 21 vegetation, 26 car)",
        fix="Take the *_labelIds.png files; *_labelTrainIds.png are another encoding.",
    )


_RULES = LabelRules(
    classes=CITYSCAPES, num_values=NUM_LABEL_IDS, train_ids=table(LABEL_ID_TO_TRAIN_ID), mistaken=_train_ids
)


def cityscapes_layout(config: DataConfig, root: Path, classes: ClassSet | None = None) -> Layout:
    """Train, val, test and train_extra, as far as they are there; the coarse labels for train_extra."""
    there = []
    for split in ("train", "val", "test", "train_extra"):
        truth = "gtCoarse" if split == "train_extra" else "gtFine"
        if (root / "leftImg8bit" / split).is_dir() or (root / truth / split).is_dir():
            there.append(split)
    return Layout(
        name="Cityscapes",
        root=root,
        needed="leftImg8bit/SPLIT/CITY/*_leftImg8bit.png and gtFine/SPLIT/CITY/*_gtFine_labelIds.png",
        splits=tuple(there),
        open=lambda split: Cityscapes(root, split),
        files=lambda split: _files(root, split, None),
        make_rules=lambda: _RULES,
        sequence=lambda frame: frame.rpartition("_")[0],  # CITY_SEQUENCE of CITY_SEQUENCE_FRAME
    )


def _files(root: Path, split: str, annotation: Annotation | None) -> SplitFiles:
    """CITY_SEQUENCE_FRAME -> image file, and -> labelIds file; empty where there is nothing."""
    truth = f"gt{(annotation or ('coarse' if split == 'train_extra' else 'fine')).capitalize()}"
    ends = f"_{_IMAGES}.png", f"_{truth}_labelIds.png"
    images, labels = (
        {
            file.name.removesuffix(end): file
            for file in files_below(cities, follow=True)
            if file.name.endswith(end) and file.parent.parent == cities
        }
        for cities, end in zip((root / _IMAGES / split, root / truth / split), ends)
    )
    places = f"{_IMAGES}/{split}/CITY/*{ends[0]}", f"{truth}/{split}/CITY/*{ends[1]}"
    return SplitFiles(name=split, images=images, labels=labels, places=places)
