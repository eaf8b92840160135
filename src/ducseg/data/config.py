"""Which pictures: the data section of a run's configuration, also what `eval` and the doctor open."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["DataConfig", "PatchScheme", "data_conflicts"]

DatasetName = Literal["camvid", "cityscapes", "kitti-road", "voc2012", "split-folders", "folder", "synthetic"]
PatchScheme = Literal["12-fold", "7-fold", "320-at-100"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which pictures: layouts are described in docs/data.md."""

    dataset: DatasetName = "cityscapes"
    root: str | None = None
    """Folder of the data set; for `folder` it holds images/, masks/ and classes.json."""
    classes: str | None = None
    """`split-folders`: a data set's name or a classes.json; `folder`: a classes.json elsewhere than under root."""
    train_split: str = "train"
    val_split: str = "val"
    val_fraction: float = 0.1
    """`folder`: the share of pictures held out for validation."""
    masks_as: Literal["index", "colour"] | None = None
    """`folder`: what the masks hold, class indices or the colours of classes.json; None: found by looking."""
    ignore_colours: tuple[tuple[int, int, int], ...] = ()
    """`folder`: colours of colour masks that are ignored, as 255 is in index masks."""
    patches: PatchScheme | None = None
    """Train on overlapping patches: Cityscapes' 12 of 800x800 or 7 of 880x880, KITTI's 320x320 at stride 100."""
    patches_root: str | None = None
    """Read the patches that `ducseg data patches` cut here instead of cutting them on the fly."""
    coarse: bool = False
    """`cityscapes`: add the coarsely labelled frames (train_extra, gtCoarse) to the training split."""
    fold: int = 0
    """`kitti-road`: which of its folds validates, 0 to 4."""
    coco_root: str | None = None
    """`voc2012`: add COCO's pictures with masks of VOC's classes (images/, masks/) to the training split."""
    workers: int = 2
    synthetic_scenes: tuple[int, int] = (200, 40)
    """`synthetic`: number of training and of validation scenes."""
    synthetic_size: tuple[int, int] = (128, 256)
    """`synthetic`: height and width in pixels."""


def data_conflicts(data: DataConfig) -> list[str]:
    """Every conflict among these fields, each naming its option."""
    conflicts = []
    belongs = {"12-fold": "cityscapes", "7-fold": "cityscapes", "320-at-100": "kitti-road"}
    if data.patches is not None and data.dataset != belongs[data.patches]:
        conflicts.append(f"--data.patches {data.patches} are patches of {belongs[data.patches]}, not of {data.dataset}")
    if data.patches_root is not None and data.patches is None:
        conflicts.append("--data.patches-root needs --data.patches: the scheme that was cut")
    if data.coarse and data.dataset != "cityscapes":
        conflicts.append(f"--data.coarse is for cityscapes, not for {data.dataset}")
    if data.coco_root is not None and data.dataset != "voc2012":
        conflicts.append(f"--data.coco-root is for voc2012, not for {data.dataset}")
    if not 0 <= data.fold < 5 or (data.fold and data.dataset != "kitti-road"):
        conflicts.append(f"--data.fold {data.fold} must be 0 to 4, and is for kitti-road")
    return conflicts
