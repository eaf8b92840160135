"""KITTI road as data_road.zip unpacks: training/ and testing/ with image_2, calib and (training) gt_image_2.

Ids are CATEGORY_NUMBER (um_000000): um, urban marked; umm, urban with several marked lanes; uu, urban unmarked. Ground
truth is CATEGORY_road_NUMBER.png, for um also CATEGORY_lane_NUMBER.png (the ego lane): red means valid, blue means
road (or lane); black is ignored. Pictures differ in size.

Folds: the frames of each category, by number, are cut into runs of equal length (one longer where that does not work
out); run f of each category is the validation split of fold f. Runs, because neighbouring frames come from the same
drive: every k-th frame would put almost the same picture into training and validation. The 289 frames in five folds
give 59, 58, 57, 58 and 57 for validation.
"""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE, KITTI_ROAD, ClassSet
from ducseg.data.config import DataConfig
from ducseg.data.files.png import png_kind
from ducseg.data.files.reading import read_image
from ducseg.data.layouts.layout import LabelRules, Layout, SplitFiles
from ducseg.data.paired import PairedFiles, SegmentationDataset, Unlabelled, match_pairs, no_such_data
from ducseg.data.sample import Sample
from ducseg.errors import explain
from ducseg.files import visible

__all__ = [
    "CATEGORIES",
    "GroundTruth",
    "KittiRoad",
    "decode_ground_truth",
    "folds_of",
    "kitti_road_layout",
    "read_ground_truth",
    "result_name",
]

CATEGORIES = ("um", "umm", "uu")

GroundTruth = Literal["road", "lane"]
"""What the ground truth marks: the road, or (um alone) the ego lane."""

_FRAME = re.compile(r"(um|umm|uu)_(\d{6})")
_FOLDERS = {"train": "training", "val": "training", "trainval": "training", "test": "testing"}


class KittiRoad:
    """Whole frames as not road (0) and road (1), a `SegmentationDataset`.

    Args:
        root: the folder that holds training/ and testing/ (data_road).
        split: "train" and "val" (see fold), "trainval" (all frames with ground truth) or "test" (without labels).
        fold: which run of each category validates, 0 to `folds` - 1.
        folds: number of runs.
        ground_truth: "road", or "lane": the um frames with the ego lane as class 1.

    Attributes:
        ground_truth: as given; results are named after it.
        image_paths, calibration_paths: one file a frame, in the order of `ids`; calibration is not looked at here.

    Raises:
        UserError: no such folders or frames, frames without ground truth or the reverse, a fold without frames,
            another split or fold; on reading, files that are damaged, of another size or no ground truth.
    """

    def __init__(
        self,
        root: Path | str,
        split: str,
        *,
        fold: int = 0,
        folds: int = 5,
        ground_truth: GroundTruth = "road",
    ) -> None:
        root = Path(root)
        _check_split(split, fold, folds)
        folder = root / _FOLDERS[split]
        images = {key: file for key, file in _frames(folder / "image_2").items() if _has(key, ground_truth)}
        if not images:
            needed = f"{_FOLDERS[split]}/image_2/um_000000.png, ... beside calib/ (and gt_image_2/ in training/)"
            raise no_such_data("KITTI road", root, missing=f"no {_FOLDERS[split]}/image_2/*.png", layout=needed)
        pairs = None if split == "test" else _labelled(folder, images, ground_truth)
        if split in ("train", "val"):
            images = _in_fold(images, folder, fold=fold, folds=folds, validation=split == "val")
        self.classes, self.ids, self.ground_truth = KITTI_ROAD, tuple(images), ground_truth
        self.image_paths = tuple(images.values())
        self.calibration_paths = tuple(folder / "calib" / f"{key}.txt" for key in images)
        self._files: SegmentationDataset = Unlabelled(KITTI_ROAD, images)
        if pairs is not None:
            self._files = PairedFiles(KITTI_ROAD, {key: pairs[key] for key in images}, read=_read_road)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int, /) -> Sample:
        return self._files[index]


def kitti_road_layout(config: DataConfig, root: Path, classes: ClassSet | None = None) -> Layout:
    """Training and testing as they lie on the disk; `open` takes the splits that `KittiRoad` makes of them."""
    return Layout(
        name="KITTI road",
        root=root,
        needed="training/image_2/um_000000.png, training/gt_image_2/um_road_000000.png, ...",
        splits=tuple(name for name in ("training", "testing") if (root / name).is_dir()),
        open=lambda split: KittiRoad(root, split, fold=config.fold),
        files=lambda name: _folder(root, name),
        make_rules=lambda: LabelRules(classes=KITTI_ROAD, read=_read_road),
    )


def _folder(root: Path, name: str) -> SplitFiles:
    images = {file.stem: file for file in visible(root / name / "image_2", "*.png")}
    truth = {file.stem: file for file in visible(root / name / "gt_image_2", "*_road_*.png")}
    labels = {stem.replace("_road_", "_"): file for stem, file in truth.items()}
    return SplitFiles(name=name, images=images, labels=labels if name == "training" else None)


def _read_road(path: Path) -> NDArray[np.uint8]:
    return decode_ground_truth(read_ground_truth(path))


def result_name(frame: str, ground_truth: GroundTruth) -> str:
    """um_000000 -> um_road_000000: the name, without suffix, of ground truth and of results."""
    category, number = frame.split("_")
    return f"{category}_{ground_truth}_{number}"


def folds_of(frames: Collection[str], folds: int) -> dict[str, int]:
    """Frame -> the fold that it validates; every frame is in exactly one."""
    found: dict[str, int] = {}
    for category in CATEGORIES:
        own = sorted(frame for frame in frames if frame.startswith(f"{category}_"))
        found |= {frame: position * folds // len(own) for position, frame in enumerate(own)}
    return found


def read_ground_truth(path: Path) -> NDArray[np.uint8]:
    """A ground truth file as RGB uint8 (H, W, 3).

    Raises:
        UserError: a file that does not decode or is no 8-bit RGB PNG.
    """
    kind = png_kind(path)
    if kind.pixels != "8-bit RGB":
        raise explain(
            f"ground truth {path}",
            found=f"{kind.pixels} pixels",
            needed="an 8-bit RGB PNG: red valid, blue road, black ignored",
            fix="Take the file of gt_image_2 as data_road.zip has it.",
        )
    return read_image(path)


def decode_ground_truth(colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB (..., 3) to 1 (road), 0 (valid, not road) and 255 (not valid), as the development kit reads them."""
    valid, road = colours[..., 0] > 0, colours[..., 2] > 0
    return np.where(valid, road.astype(np.uint8), np.uint8(IGNORE))


def _check_split(split: str, fold: int, folds: int) -> None:
    if split not in _FOLDERS:
        raise explain(
            "split of KITTI road", found=repr(split), needed=f"one of {', '.join(_FOLDERS)}", fix="Correct it."
        )
    if folds < 2 or not 0 <= fold < folds:
        raise explain(
            "fold of KITTI road",
            found=f"{fold} of {folds}",
            needed="at least 2 folds, counted from 0",
            fix="The first of five is fold 0, the last is fold 4.",
        )


def _has(frame: str, ground_truth: GroundTruth) -> bool:
    return ground_truth == "road" or frame.startswith("um_")


def _frames(folder: Path) -> dict[str, Path]:
    return {file.stem: file for file in visible(folder, "*.png") if _FRAME.fullmatch(file.stem)}


def _labelled(folder: Path, images: dict[str, Path], ground_truth: GroundTruth) -> dict[str, tuple[Path, Path]]:
    marked = f"_{ground_truth}_"
    files = visible(folder / "gt_image_2", f"*{marked}*.png")
    labels = {file.stem.replace(marked, "_"): file for file in files}
    labels = {key: file for key, file in labels.items() if _FRAME.fullmatch(key)}
    return match_pairs(images, labels, f"{folder} ({ground_truth})")


def _in_fold(images: dict[str, Path], folder: Path, *, fold: int, folds: int, validation: bool) -> dict[str, Path]:
    fold_of = folds_of(images, folds)
    chosen = {key: file for key, file in images.items() if (fold_of[key] == fold) == validation}
    if not chosen:
        raise explain(
            f"{'validation' if validation else 'training'} split of {folder}",
            found=f"no frame in fold {fold} of {folds} ({len(images)} frames in all)",
            needed="at least one",
            fix="Take a smaller --data.fold, or more frames.",
        )
    return chosen
