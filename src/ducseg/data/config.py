"""Which pictures: the data section of a run's configuration, also what `eval` and the doctor open."""

from dataclasses import dataclass, fields
from typing import Annotated, Literal

from ducseg.data.ranges import Range

__all__ = ["DataConfig", "PatchScheme"]

Count = Annotated[int, Range(1)]
Grey = Annotated[int, Range(0, 255)]
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
    view: str | None = None
    """`folder`: the folder of masks of the field of view, outside which pixels are ignored."""
    classes: str | None = None
    """`folder`, `split-folders`: a classes.json elsewhere than under root, or a data set's name (cityscapes, ...)."""
    train_split: str = "train"
    """A split that the data set has; `folder`, `camvid`, `split-folders`: also "all", a text file with one name a line
    (a .csv: in its first column), or several joined, train+val."""
    val_split: str = "val"
    """As train_split; names are taken as they are: "test" validates on test."""
    val_fraction: Annotated[float, Range(0, 1, above=True, below=True)] = 0.1
    """`folder`: the share of pictures held out for validation where the pictures are not sorted into splits."""
    test_fraction: Annotated[float, Range(0, 1, below=True)] = 0.0
    """`folder`: the share held out for testing besides."""
    group_by: str | None = None
    """`folder`: a regular expression; names that match with equal groups (a patient, a video) stay together."""
    masks_as: Literal["index", "colour"] | None = None
    """`folder`: what the masks hold, values or the colours of classes.json; None: found by looking."""
    values: tuple[str, ...] = ()
    """`folder`: what the masks' values mean: 0=background 255=crack 128=ignore; also 128-255=crack, 255,0,0=crack."""
    ignore_value: Annotated[int, Range(0, 65535)] | None = None
    """`folder`: a value of the masks that is ignored, as 255 is where it is no class."""
    ignore_colours: tuple[tuple[Grey, Grey, Grey], ...] = ()
    """`folder`: colours of colour masks that are ignored, as 255 is in index masks."""
    smoothed: bool = False
    """`folder`, `split-folders`: masks with smoothed edges: colours and values of no class are ignored, up to 20 %."""
    as_stored: bool = False
    """`folder`: grey pictures of 8 bits stay one channel instead of becoming RGB; all other kinds always stay."""
    skip_unpaired: bool = False
    """`folder`: leave out pictures without a mask, and masks without a picture, instead of stopping; which, is said."""
    unmasked_as: str | None = None
    """`folder`: the class that is all that pictures without a mask show, such as background of good parts."""
    allow_absent: bool = False
    """`folder`, `split-folders`: train although the training pictures show no pixel of a class."""
    patches: PatchScheme | None = None
    """Train on overlapping patches: Cityscapes' 12 of 800x800 or 7 of 880x880, KITTI's 320x320 at stride 100."""
    patches_root: str | None = None
    """Read the patches that `ducseg data patches` cut here instead of cutting them on the fly."""
    coarse: bool = False
    """`cityscapes`: add the coarsely labelled frames (train_extra, gtCoarse) to the training split."""
    folds: Annotated[int, Range(2)] | None = None
    """`folder`: cross-validation: all but the test pictures are parted into so many, each of which validates once."""
    fold: Annotated[int, Range(0)] = 0
    """`folder` with folds, `kitti-road` (of its 5): which of the folds validates, counted from 0."""
    coco_root: str | None = None
    """`voc2012`: add COCO's pictures with masks of VOC's classes (images/, masks/) to the training split."""
    workers: Annotated[int, Range(0)] = 2
    memory: Annotated[float, Range(0, 1)] = 0.25
    """Share of the free memory in which training pictures are kept decoded, read once; 0: read from files each time."""
    synthetic_scenes: tuple[Count, Count] = (200, 40)
    """`synthetic`: number of training and of validation scenes."""
    synthetic_size: tuple[Count, Count] = (128, 256)
    """`synthetic`: height and width in pixels."""

    def conflicts(self) -> list[str]:
        """Every conflict among these fields, each naming its option."""
        conflicts = []
        for field in fields(self):
            belongs = _BELONGS.get(field.name, (self.dataset,))
            value = getattr(self, field.name)
            if value != field.default and self.dataset not in belongs:
                conflicts.append(
                    f"{_option(field.name)} {value} is for {' and '.join(belongs)}, not for {self.dataset}"
                )
        if self.dataset != "synthetic" and self.root is None:
            conflicts.append(f"--data.root is needed for the data set {self.dataset!r}: the folder that holds it")
        scheme_of = {"12-fold": "cityscapes", "7-fold": "cityscapes", "320-at-100": "kitti-road"}
        if self.patches is not None and self.dataset in _BELONGS["patches"] and self.dataset != scheme_of[self.patches]:
            owner = scheme_of[self.patches]
            conflicts.append(f"--data.patches {self.patches} are patches of {owner}, not of {self.dataset}")
        if self.patches_root is not None and self.patches is None:
            conflicts.append("--data.patches-root needs --data.patches: the scheme that was cut")
        if self.folds is None and self.val_fraction + self.test_fraction >= 1:
            conflicts.append("--data.val-fraction and --data.test-fraction must leave some pictures to train on")
        conflicts += self._fold_conflicts()
        if self.values and self.masks_as is not None:
            conflicts.append(f"--data.values says what --data.masks-as {self.masks_as} would: leave one out")
        if self.masks_as == "index" and self.ignore_colours:
            conflicts.append("--data.ignore-colours is for colour masks, not for --data.masks-as index")
        if self.ignore_value is not None and (self.masks_as == "colour" or self.ignore_colours):
            conflicts.append("--data.ignore-value is for values: of colour masks --data.ignore-colours ignores colours")
        return conflicts

    def _fold_conflicts(self) -> list[str]:
        folds = 5 if self.dataset == "kitti-road" else self.folds
        if folds is None:
            return ["--data.fold needs --data.folds: how many there are"] * (self.fold > 0 and self.dataset == "folder")
        conflicts = [f"--data.fold {self.fold} of {folds}: they are counted from 0"] * (self.fold >= folds)
        if self.folds is not None:
            conflicts += [
                f"--data.folds says what {_option(name)} would: leave one out"
                for name in ("train_split", "val_split", "val_fraction")
                if getattr(self, name) != getattr(DataConfig, name)
            ]
        return conflicts


OWN_CLASSES = ("folder", "split-folders")
"""The data sets whose classes are the user's."""

_BELONGS = {
    **dict.fromkeys(("images", "masks", "mask_suffix", "view", "masks_as", "ignore_colours", "as_stored"), ("folder",)),
    **dict.fromkeys(
        ("val_fraction", "test_fraction", "group_by", "skip_unpaired", "unmasked_as", "folds"), ("folder",)
    ),
    **dict.fromkeys(("classes", "values", "ignore_value", "smoothed", "allow_absent"), OWN_CLASSES),
    "patches": ("cityscapes", "kitti-road"),
    "patches_root": ("cityscapes", "kitti-road"),
    "coarse": ("cityscapes",),
    "fold": ("folder", "kitti-road"),
    "coco_root": ("voc2012",),
    "synthetic_scenes": ("synthetic",),
    "synthetic_size": ("synthetic",),
}
"""Field -> the data sets it belongs to; the others would ignore it."""


def _option(name: str) -> str:
    return f"--data.{name.replace('_', '-')}"
