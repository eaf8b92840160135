"""What `ducseg score`, `predict --format` and `data sbd|coco-masks` do for Cityscapes and VOC2012 (KITTI: beside it).

Between command line and library: each function does the work, prints what came of it, and gives the exit status.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from ducseg.cli.commands import open_labeller
from ducseg.data.layouts.cityscapes import Cityscapes
from ducseg.data.layouts.voc2012 import open_voc2012
from ducseg.errors import explain
from ducseg.inference.predictor import Labeller
from ducseg.inference.submissions import write_cityscapes_submission, write_voc_submission
from ducseg.metrics.cityscapes import Ids, format_cityscapes_table, score_cityscapes
from ducseg.metrics.confusion import format_table, write_json
from ducseg.metrics.voc2012 import score_voc2012
from ducseg.progress import counted

__all__ = [
    "predict_cityscapes",
    "predict_for_server",
    "predict_voc2012",
    "report_results",
    "score_cityscapes_folder",
    "score_voc2012_folder",
    "write_coco_masks_folder",
    "write_sbd_masks_folder",
]


def score_cityscapes_folder(
    pred: Path, gt: Path, *, ids: Ids | None, subset: bool, workers: int | None, json_path: Path | None
) -> int:
    """Score a folder of predictions as Cityscapes' benchmark does: prints the table; exit status 0.

    Raises:
        UserError: as `score_cityscapes`.
    """
    score = partial(score_cityscapes, pred, gt, ids=ids, subset=subset, num_workers=workers)
    return _score(score, format_cityscapes_table, json_path)


def score_voc2012_folder(
    pred: Path, gt: Path, *, image_set: str | None, subset: bool, workers: int | None, json_path: Path | None
) -> int:
    """Score a folder of results as VOC2012's development kit does: prints the table; exit status 0.

    Raises:
        UserError: as `score_voc2012`.
    """
    score = partial(score_voc2012, pred, gt, image_set=image_set, subset=subset, num_workers=workers)
    return _score(score, format_table, json_path)


def _score(
    score: Callable[..., dict[str, Any]], as_table: Callable[[dict[str, Any]], Table], json_path: Path | None
) -> int:
    with counted("scored") as progress:
        found = score(progress=progress)
    Console().print(as_table(found))
    if json_path is not None:
        write_json(json_path, found)
    return 0


def predict_for_server(
    format: Literal["cityscapes", "kitti-road", "voc2012"],
    checkpoint: str,
    inputs: tuple[str, ...],
    out: Path,
    *,
    kinds: tuple[str, ...],
    split: str | None,
    fold: int | None,
    archive: Path | None,
    figure: Path | None,
    scales: tuple[float, ...],
    flip: bool,
    device: str,
    crf: tuple[Path, ...] | None,
) -> int:
    """What `predict --format` does: the results of a split as the benchmark's server takes them; exit status 0.

    Raises:
        UserError: not one folder, options that this format does not have; no checkpoint; as the format's own function.
    """
    foreign = ["--kinds"] if kinds else []
    if format != "kitti-road":
        foreign += [f"--{name}" for name, value in (("fold", fold), ("figure", figure)) if value is not None]
    if len(inputs) != 1 or foreign:
        raise explain(
            f"--format {format}",
            found=" and ".join(foreign) or f"{len(inputs)} inputs",
            needed="the data set's folder, without --kinds; --fold and --figure for kitti-road alone",
            fix="For example: ducseg predict RUN DATASET --out DIR --format cityscapes --split val.",
        )
    root, split = Path(inputs[0]), split or "test"
    labeller = open_labeller(checkpoint, scales=scales, flip=flip, device=device, crf=crf)
    if format == "kitti-road":
        from ducseg.cli.kitti_commands import predict_kitti_road

        return predict_kitti_road(labeller, root, out, split=split, fold=fold, archive=archive, figure_path=figure)
    write = predict_cityscapes if format == "cityscapes" else predict_voc2012
    return write(labeller, root, out, split=split, archive=archive)


def predict_cityscapes(
    labeller: Labeller, root: Path, out: Path, *, split: str = "test", archive: Path | None = None
) -> int:
    """Write the label ids of a split, and on request the zip file for the server; exit status 0.

    Args:
        root: the folder that holds leftImg8bit/ and gtFine/.

    Raises:
        UserError: as `Cityscapes` and `write_cityscapes_submission`.
    """
    files = write_cityscapes_submission(labeller, Cityscapes(root, split), out, archive=archive, progress=True)
    report_results(files, out, archive)
    return 0


def predict_voc2012(
    labeller: Labeller, root: Path, out: Path, *, split: str = "test", archive: Path | None = None
) -> int:
    """Write the results of an image set, and on request the .tar.gz for the server; exit status 0.

    Args:
        root: VOC2012, or a folder above it.

    Raises:
        UserError: as `open_voc2012` and `write_voc_submission`.
    """
    files = write_voc_submission(labeller, open_voc2012(root, split), out, archive=archive, progress=True)
    report_results(files, out, archive)
    return 0


def report_results(files: list[Path], out: Path, archive: Path | None) -> None:
    """Say what was written."""
    print(f"{len(files)} results in {out}" + (f", packed as {archive}" if archive is not None else ""))


def write_sbd_masks_folder(voc_root: Path, sbd_root: Path, *, workers: int) -> int:
    """Write SegmentationClassAug and the lists of the augmented sets into VOC2012; exit status 0.

    Raises:
        UserError: as `write_augmented_sets`.
    """
    from ducseg.data.convert.voc_sbd import write_augmented_sets

    with counted("masks") as progress:
        sets = write_augmented_sets(voc_root, sbd_root, num_workers=workers, progress=progress)
    print(f"train_aug: {len(sets.train_aug)} pictures, trainval_aug: {len(sets.trainval_aug)}, in {voc_root}")
    return 0


def write_coco_masks_folder(instances: Path, root: Path, *, workers: int) -> int:
    """Write ROOT/masks with VOC's classes from COCO's instances; exit status 0.

    Raises:
        UserError: as `write_coco_masks`.
    """
    from ducseg.data.convert.coco_voc import write_coco_masks

    with counted("pictures") as progress:
        kept = write_coco_masks(instances, root, num_workers=workers, progress=progress)
    print(f"{kept} masks in {root / 'masks'}")
    return 0
