"""`ducseg data ...`: make, check, cut and convert data sets. Parses, calls one function, prints."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ducseg.errors import explain

__all__ = ["DATA_COMMANDS"]

Folder = Annotated[Path, tyro.conf.arg(metavar="DIR")]
File = Annotated[Path, tyro.conf.arg(metavar="FILE")]
Dataset = Literal["cityscapes", "camvid", "kitti-road", "voc2012", "split-folders", "folder"]


def _cores() -> int:
    return os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class _Check:
    """Look at every file of a data set once and say all that is wrong: exit status 1 where something is."""

    dataset: tyro.conf.Positional[Dataset]
    """Its layout (docs/data.md)."""
    root: tyro.conf.Positional[Folder]
    """The folder that holds it."""
    classes: File | None = None
    """folder and split-folders: a classes.json elsewhere than in the folder."""
    workers: int = field(default_factory=_cores)
    """Processes; default: one a core."""
    json: File | None = None
    """Also write the whole report there."""


def _check(arguments: Sequence[str]) -> int:
    asked = tyro.cli(_Check, prog="ducseg data check", description=_Check.__doc__, args=arguments)
    from ducseg.data.check.report import check_and_print

    return check_and_print(
        asked.dataset, asked.root, classes=asked.classes, num_workers=asked.workers, json_path=asked.json
    )


@dataclass(frozen=True, kw_only=True)
class _Synth:
    """Write procedural scenes in a data set's own layout."""

    dataset: tyro.conf.Positional[Literal["cityscapes", "kitti-road", "voc2012"]]
    """Whose layout to write."""
    root: tyro.conf.Positional[Folder]
    """Folder to make it in."""
    num_train: int = 40
    num_val: int = 10
    """cityscapes and voc2012; kitti-road validates on folds of the training frames."""
    num_test: int = 0
    """kitti-road and voc2012: pictures without ground truth."""
    size: tuple[int, int] | None = None
    """Height and width in pixels; default: 512 1024 (cityscapes), 375 1242 (kitti-road), 375 500 (voc2012)."""
    seed: int = 0
    workers: int = field(default_factory=_cores)
    """Processes; default: one a core."""


def _synth(arguments: Sequence[str]) -> int:
    asked = tyro.cli(_Synth, prog="ducseg data synth", description=_Synth.__doc__, args=arguments)
    from ducseg.progress import counted

    numbers = {"num_train": asked.num_train, "num_val": asked.num_val, "num_test": asked.num_test}
    unused = {"cityscapes": "num_test", "kitti-road": "num_val"}.get(asked.dataset)
    if unused is not None and numbers.pop(unused) != getattr(_Synth, unused):
        flag = unused.replace("_", "-")
        raise explain(f"--{flag}", found=asked.dataset, needed="a data set with that split", fix="Leave it out.")
    height, width = (
        asked.size or {"cityscapes": (512, 1024), "kitti-road": (375, 1242), "voc2012": (375, 500)}[asked.dataset]
    )
    with counted("scenes") as progress:
        _writer(asked.dataset)(
            asked.root, **numbers, height=height, width=width, seed=asked.seed, num_workers=asked.workers,
            progress=progress,
        )  # fmt: skip
    made = " and ".join(f"{count} {name.removeprefix('num_')}" for name, count in numbers.items() if count)
    print(f"{made} scenes in {asked.root}")
    return 0


def _writer(dataset: str) -> Callable[..., None]:
    if dataset == "kitti-road":
        from ducseg.data.synthetic.kitti_road import write_kitti_road

        return write_kitti_road
    if dataset == "voc2012":
        from ducseg.data.synthetic.voc2012 import write_voc2012

        return write_voc2012
    from ducseg.data.synthetic.cityscapes import write_cityscapes

    return write_cityscapes


@dataclass(frozen=True, kw_only=True)
class _Patches:
    """Cut the paper's overlapping patches to disk once, so that training never decodes a whole frame.

    The same command goes on where it was stopped. Train on them with --data.patches SCHEME --data.patches-root DIR.
    """

    dataset: tyro.conf.Positional[Literal["cityscapes", "kitti-road"]]
    root: tyro.conf.Positional[Folder]
    """The folder that holds the data set."""
    out: Folder
    """Folder to make or go on in."""
    scheme: Literal["12-fold", "7-fold", "320-at-100"]
    """Cityscapes: 12 of 800x800 or 7 of 880x880 and their margin; KITTI: 320x320 at stride 100."""
    split: str = "train"
    """Of the data set; Cityscapes' coarse frames are train_extra."""
    fold: int = 0
    """kitti-road: which of its five folds validates."""
    workers: int = field(default_factory=_cores)
    """Processes; default: one a core."""


def _patches(arguments: Sequence[str]) -> int:
    asked = tyro.cli(_Patches, prog="ducseg data patches", description=_Patches.__doc__, args=arguments)
    from ducseg.data.config import DataConfig
    from ducseg.data.cut import cut_patches
    from ducseg.data.layouts.opening import open_dataset
    from ducseg.progress import counted

    config = DataConfig(dataset=asked.dataset, root=str(asked.root), fold=asked.fold)
    frames = open_dataset(config, asked.split)
    with counted("frames") as progress:
        count = cut_patches(
            frames, asked.out, asked.scheme, split=asked.split, num_workers=asked.workers, progress=progress
        )
    print(f"{count} patches of {len(frames)} frames in {asked.out}")
    return 0


@dataclass(frozen=True, kw_only=True)
class _Sbd:
    """Add SBD's masks to VOC2012: SegmentationClassAug and the lists train_aug (10,582) and trainval_aug."""

    voc_root: tyro.conf.Positional[Folder]
    """VOC2012, or a folder above it."""
    sbd_root: tyro.conf.Positional[Folder]
    """The folder that holds SBD's cls/ (benchmark_RELEASE/dataset), or one above it."""
    workers: int = field(default_factory=_cores)
    """Processes; default: one a core."""


def _sbd(arguments: Sequence[str]) -> int:
    asked = tyro.cli(_Sbd, prog="ducseg data sbd", description=_Sbd.__doc__, args=arguments)
    from ducseg.cli.benchmark_commands import write_sbd_masks_folder

    return write_sbd_masks_folder(asked.voc_root, asked.sbd_root, workers=asked.workers)


@dataclass(frozen=True, kw_only=True)
class _CocoMasks:
    """Write masks of VOC's classes from COCO's instances, for pretraining; those up to 1000 pixels are left out."""

    instances: tyro.conf.Positional[File]
    """annotations/instances_train2017.json."""
    root: tyro.conf.Positional[Folder]
    """Folder for masks/; put (or link) COCO's pictures below its images/."""
    workers: int = field(default_factory=_cores)
    """Processes; default: one a core."""


def _coco_masks(arguments: Sequence[str]) -> int:
    asked = tyro.cli(_CocoMasks, prog="ducseg data coco-masks", description=_CocoMasks.__doc__, args=arguments)
    from ducseg.cli.benchmark_commands import write_coco_masks_folder

    return write_coco_masks_folder(asked.instances, asked.root, workers=asked.workers)


DATA_COMMANDS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "check": (_check, "look at every file of a data set once and say all that is wrong"),
    "synth": (_synth, "write procedural scenes in a data set's own layout"),
    "patches": (_patches, "cut the paper's overlapping patches to disk once"),
    "sbd": (_sbd, "add SBD's masks and the augmented lists to VOC2012"),
    "coco-masks": (_coco_masks, "write masks of VOC's classes from COCO's instances"),
}
"""Name -> (what it does with its arguments, one line)."""
