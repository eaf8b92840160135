"""Which pictures: the data section of a run's configuration, also what `eval` and the doctor open."""

from dataclasses import dataclass, fields
from typing import Literal

__all__ = ["DataConfig", "PatchScheme", "data_conflicts"]

PatchScheme = Literal["12-fold", "7-fold", "320-at-100"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which pictures: layouts are described in docs/data.md."""

    dataset: str = "cityscapes"
    """camvid, cityscapes, kitti-road, voc2012, split-folders, folder (your own pictures) or synthetic."""
    root: str | None = None
    """Folder of the data set."""
    images: str | None = None
    """`folder`: the folder of the pictures under root; None: found by looking."""
    masks: str | None = None
    """`folder`: the folder of the masks under root; None: found by looking."""
    mask_suffix: str | None = None
    """`folder`: what a mask's name has beyond its picture's, _mask for x.jpg and x_mask.png; None: found."""
    classes: str | None = None
    """`folder`, `split-folders`: a classes.json elsewhere than under root, or a data set's name (cityscapes, ...)."""
    train_split: str = "train"
    """A split that the data set has; `folder`: also "all", or a text file with one name a line."""
    val_split: str = "val"
    """As train_split; names are taken as they are: "test" validates on test."""
    val_fraction: float = 0.1
    """`folder`: the share of pictures held out for validation where the pictures are not sorted into splits."""
    test_fraction: float = 0.0
    """`folder`: the share held out for testing besides."""
    group_by: str | None = None
    """`folder`: a regular expression; names that match with equal groups (a patient, a video) stay together."""
    masks_as: Literal["index", "colour"] | None = None
    """`folder`: what the masks hold, values or the colours of classes.json; None: found by looking."""
    values: tuple[str, ...] = ()
    """`folder`: what the masks' values mean: 0=background 255=crack 128=ignore; also 128-255=crack, 255,0,0=crack."""
    ignore_value: int | None = None
    """`folder`: a value of the masks that is ignored, as 255 is where it is no class."""
    ignore_colours: tuple[tuple[int, int, int], ...] = ()
    """`folder`: colours of colour masks that are ignored, as 255 is in index masks."""
    allow_absent: bool = False
    """`folder`, `split-folders`: train although the training pictures show no pixel of a class."""
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


_OWN = ("folder", "split-folders")
_BELONGS = {
    **dict.fromkeys(("images", "masks", "mask_suffix", "masks_as", "ignore_colours"), ("folder",)),
    **dict.fromkeys(("val_fraction", "test_fraction", "group_by"), ("folder",)),
    **dict.fromkeys(("classes", "values", "ignore_value", "allow_absent"), _OWN),
    "patches": ("cityscapes", "kitti-road"),
    "patches_root": ("cityscapes", "kitti-road"),
    "coarse": ("cityscapes",),
    "fold": ("kitti-road",),
    "coco_root": ("voc2012",),
    "synthetic_scenes": ("synthetic",),
    "synthetic_size": ("synthetic",),
}
"""Field -> the data sets it belongs to; the others would ignore it."""


def data_conflicts(data: DataConfig) -> list[str]:
    """Every conflict among these fields, each naming its option."""
    conflicts = []
    for field in fields(DataConfig):
        belongs = _BELONGS.get(field.name, (data.dataset,))
        value = getattr(data, field.name)
        if value != field.default and data.dataset not in belongs:
            conflicts.append(f"{_option(field.name)} {value} is for {' and '.join(belongs)}, not for {data.dataset}")
    if data.dataset != "synthetic" and data.root is None:
        conflicts.append(f"--data.root is needed for the data set {data.dataset!r}: the folder that holds it")
    scheme_of = {"12-fold": "cityscapes", "7-fold": "cityscapes", "320-at-100": "kitti-road"}
    if data.patches is not None and data.dataset in _BELONGS["patches"] and data.dataset != scheme_of[data.patches]:
        owner = scheme_of[data.patches]
        conflicts.append(f"--data.patches {data.patches} are patches of {owner}, not of {data.dataset}")
    if data.patches_root is not None and data.patches is None:
        conflicts.append("--data.patches-root needs --data.patches: the scheme that was cut")
    if not 0 <= data.fold < 5:
        conflicts.append(f"--data.fold {data.fold} must be 0 to 4")
    for name in ("val_fraction", "test_fraction"):
        value = getattr(data, name)
        if not (0 < value < 1 or (name == "test_fraction" and value == 0)):
            conflicts.append(f"{_option(name)} {value} must lie between 0 and 1")
    if data.val_fraction + data.test_fraction >= 1:
        conflicts.append("--data.val-fraction and --data.test-fraction must leave some pictures to train on")
    if data.ignore_value is not None and not 0 <= data.ignore_value <= 65535:
        conflicts.append(f"--data.ignore-value {data.ignore_value} must be 0 to 65535")
    if data.workers < 0:
        conflicts.append(f"--data.workers {data.workers} must be 0 (in this process) or more")
    return conflicts


def _option(name: str) -> str:
    return f"--data.{name.replace('_', '-')}"
