"""PASCAL VOC2012's segmentation score, as its development kit counts it (VOCevalseg.m).

One confusion matrix over all pictures, pixels whose truth is 255 (the border) left out; IoU of a class =
C_jj / (row j + column j - C_jj); the mean is over the 21 classes, background included. A result that holds any value
above 20, under the border too, is refused, as there. Where a class is absent from truth and results alike (a subset),
the kit divides 0 by 0; here that class is named and left out of the mean.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import VOC2012
from ducseg.data.files.reading import check_label, read_label
from ducseg.data.layouts.voc2012 import read_image_set
from ducseg.data.paired import no_such_data
from ducseg.errors import explain, listed
from ducseg.metrics.confusion import ConfusionMatrix, check_values, scores
from ducseg.metrics.prediction_files import count_each, pair_by_name, pictures_below, read_prediction

__all__ = ["score_voc2012"]

_MASKS = "SegmentationClass"
_LAYOUT = f"{_MASKS}/ID.png (give that folder, or VOC2012 above it)"


def score_voc2012(
    pred: Path | str,
    gt: Path | str,
    *,
    image_set: Path | str | None = None,
    subset: bool = False,
    num_workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score a folder of results.

    Args:
        pred: holds ID.png, 8-bit palette or grey with 0..20, for each picture, in any sub-folders (a submission's
            results/VOC2012/Segmentation/comp6_test_cls is found).
        gt: the folder of masks, or VOC2012 above its SegmentationClass.
        image_set: the pictures to score: a file with one id a line, or the name of one in ImageSets/Segmentation
            ("val"); None: all that have a mask.
        subset: score the pictures that have a result, whatever is missing or surplus.
        num_workers: threads; None: one for each core.
        progress: called with (done, total).

    Returns:
        What `ducseg.metrics.confusion.scores` returns over the 21 classes, and "pictures": how many were scored,
        "pictures_without_prediction".

    Raises:
        UserError: missing or surplus files (all in one message), ids without a mask, files that do not read or differ
            in size, values above 20 in results, no such folders.
    """
    pred, gt = Path(pred), Path(gt)
    masks = {file.stem: file for file in _masks_in(gt)}
    ids = list(masks) if image_set is None else _ids(gt, image_set, masks)
    fix = "Score one image set with --image-set val. ducseg predict --format voc2012 writes one file a picture."
    predictions = pictures_below(pred, "results", "ID.png with values 0..20")
    pairs = pair_by_name(ids, predictions, _id, subset=subset, fix=fix)
    files = {name: (prediction, masks[name]) for name, prediction in pairs.items()}
    counts = count_each(_count, files, num_workers, progress)
    total = ConfusionMatrix(len(VOC2012))
    for matrix in counts.values():
        total.matrix += matrix
    found = scores(total.matrix, VOC2012)
    return {**found, "pictures": len(counts), "pictures_without_prediction": len(ids) - len(counts)}


def _masks_in(gt: Path) -> list[Path]:
    folder = gt / _MASKS if (gt / _MASKS).is_dir() else gt
    masks = [file for file in pictures_below(folder, "VOC2012's masks", _LAYOUT) if file.suffix.lower() == ".png"]
    if not masks:
        raise no_such_data("VOC2012's masks", gt, missing="no PNG", layout=_LAYOUT)
    return masks


def _ids(gt: Path, image_set: Path | str, masks: dict[str, Path]) -> list[str]:
    ids = read_image_set(_image_set_file(gt, image_set))
    without = [name for name in ids if name not in masks]
    if without:
        raise explain(
            f"image set {image_set}",
            found=f"{len(without)} of {len(ids)} ids without a mask in {gt}: {listed(without, 20)}",
            needed="a mask for each id",
            fix="Take the list and the masks of the same release (test has no masks: its server scores).",
        )
    return ids


def _image_set_file(gt: Path, image_set: Path | str) -> Path:
    if Path(image_set).is_file():
        return Path(image_set)
    for root in (gt, gt.parent):  # gt is VOC2012, or SegmentationClass in it
        file = root / "ImageSets" / "Segmentation" / f"{image_set}.txt"
        if file.is_file():
            return file
    raise explain(
        f"image set {image_set}",
        found="no such file, nor one of that name in ImageSets/Segmentation",
        needed="a text file with one id a line",
        fix=f"It was looked for as {Path(image_set).absolute()} and beside {gt}.",
    )


def _id(prediction: Path) -> str | None:
    return prediction.stem if prediction.suffix.lower() == ".png" else None


def _count(name: str, files: tuple[Path, Path]) -> NDArray[np.int64]:
    prediction_path, mask_path = files
    label = read_label(mask_path)
    check_label(label, len(VOC2012), name, path=mask_path)
    prediction = read_prediction(
        prediction_path,
        (label.shape[0], label.shape[1]),
        "8-bit palette or grey with the class index of each pixel",
        "Write indices (ducseg predict --format voc2012), not colours.",
    )
    pixels = np.bincount(prediction.ravel(), minlength=256)
    check_values(pixels, len(VOC2012), f"prediction {prediction_path}")
    counts = ConfusionMatrix(len(VOC2012))
    counts.update(label, prediction, name=name)
    return counts.matrix
