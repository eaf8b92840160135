"""`ducseg score ...`: the benchmarks' official scores of a folder of predictions."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

__all__ = ["SCORES"]

Folder = Annotated[Path, tyro.conf.arg(metavar="DIR")]
File = Annotated[Path, tyro.conf.arg(metavar="FILE")]


@dataclass(frozen=True, kw_only=True)
class _Folders:
    pred: Folder
    """Folder of predictions, searched with its sub-folders."""
    gt: Folder
    """Folder of the ground truth."""
    subset: bool = False
    """Score only what is predicted, and say so, instead of refusing an incomplete folder."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes; default: one a core."""
    json: File | None = None
    """Also write the scores there."""


@dataclass(frozen=True, kw_only=True)
class _Cityscapes(_Folders):
    """Class and category IoU and iIoU as cityscapesScripts computes them; --gt is gtFine/SPLIT."""

    ids: Literal["label", "train"] | None = None
    """What the predictions hold; default: found by looking at all of them."""


def _cityscapes(arguments: Sequence[str]) -> int:
    asked = tyro.cli(_Cityscapes, prog="ducseg score cityscapes", description=_Cityscapes.__doc__, args=arguments)
    from ducseg.cli.benchmark_commands import score_cityscapes_folder

    return score_cityscapes_folder(
        asked.pred, asked.gt, ids=asked.ids, subset=asked.subset, workers=asked.workers, json_path=asked.json
    )


@dataclass(frozen=True, kw_only=True)
class _KittiRoad(_Folders):
    """MaxF, AP, PRE, REC, FPR, FNR per category and URBAN as the development kit computes them; --gt is gt_image_2."""

    calib: Folder | None = None
    """Folder of the calibration files; default: calib beside --gt."""
    view: Literal["bev", "perspective"] = "bev"
    """bev: in the bird's-eye view, as the benchmark; results of image size are transformed first."""
    figure: File | None = None
    """Also draw precision over recall there."""


def _kitti_road(arguments: Sequence[str]) -> int:
    asked = tyro.cli(_KittiRoad, prog="ducseg score kitti-road", description=_KittiRoad.__doc__, args=arguments)
    from ducseg.cli.kitti_commands import score_kitti_road_folder

    return score_kitti_road_folder(
        asked.pred, asked.gt, calib=asked.calib, view=asked.view, subset=asked.subset, workers=asked.workers,
        json_path=asked.json, figure_path=asked.figure,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Voc2012(_Folders):
    """Mean IoU over the 21 classes as the development kit computes it; --gt is SegmentationClass."""

    image_set: str | None = None
    """A list of ids, by name (val) or file; default: every mask in --gt."""


def _voc2012(arguments: Sequence[str]) -> int:
    asked = tyro.cli(_Voc2012, prog="ducseg score voc2012", description=_Voc2012.__doc__, args=arguments)
    from ducseg.cli.benchmark_commands import score_voc2012_folder

    return score_voc2012_folder(
        asked.pred, asked.gt, image_set=asked.image_set, subset=asked.subset, workers=asked.workers,
        json_path=asked.json,
    )  # fmt: skip


SCORES: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "cityscapes": (_cityscapes, "class and category IoU and iIoU, as cityscapesScripts"),
    "kitti-road": (_kitti_road, "MaxF, AP, precision and recall in the bird's-eye view or in perspective"),
    "voc2012": (_voc2012, "mean IoU over the 21 classes"),
}
"""Benchmark -> (what it does with its arguments, one line)."""
