"""Cityscapes' official scores, as cityscapesScripts' evalPixelLevelSemanticLabeling computes them.

Pixels whose true label is ignored never count. A pixel predicted as an ignored label is a miss of its true class and a
false alarm of none. iIoU weights each instance's hits and misses by the average size of its class / its own size;
false alarms are not weighted. In the category iIoU of vehicles, as there, caravans and trailers are vehicles too:
they count as hits and as false alarms where they are predicted.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import CITYSCAPES, IGNORE
from ducseg.data.layouts.cityscapes import LABELS, NUM_LABEL_IDS
from ducseg.data.paired import no_such_data
from ducseg.errors import explain, listed
from ducseg.metrics.cityscapes_ids import EVALUATED, Ids, check_ids, find_ids
from ducseg.metrics.confusion import percent, scores
from ducseg.metrics.prediction_files import count_each, pair_by_name, pictures_below

if TYPE_CHECKING:
    from rich.table import Table

    from ducseg.metrics.cityscapes_counts import FrameCounts, FrameFiles

__all__ = ["AVERAGE_SIZES", "Ids", "format_cityscapes_table", "score_cityscapes"]

AVERAGE_SIZES = {
    "bicycle": 4672.3249222261,
    "motorcycle": 6298.7200839748,
    "rider": 3930.4788056518,
    "bus": 35732.1511111111,
    "train": 67583.7075812274,
    "car": 12794.0202738185,
    "person": 3462.4756337644,
    "truck": 27855.1264367816,
}
"""Average number of pixels of an instance (cityscapesScripts, avgClassSize)."""

_VOID = NUM_LABEL_IDS  # the column of value 255 in FrameCounts
_CATEGORIES = tuple(dict.fromkeys(label.category for label in LABELS if label.train_id != IGNORE))
_TRUTH_END = "_labelIds.png"
_LAYOUT = "CITY/CITY_SEQUENCE_FRAME_gtFine_labelIds.png and ..._gtFine_instanceIds.png"
_FRAME = re.compile(r"[^_]+_\d+_\d+")


def score_cityscapes(
    pred: Path | str,
    gt: Path | str,
    *,
    ids: Ids | None = None,
    subset: bool = False,
    num_workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score a folder of predictions as the benchmark does.

    Args:
        pred: holds one 8-bit PNG CITY_SEQUENCE_FRAME*.png for each ground truth, in any sub-folders.
        gt: a split's folder, gtFine/val, with labelIds and instanceIds; in a folder without gtFine, gtCoarse is taken.
        ids: what the predictions hold; None: found by looking. Values above 18 are label ids, 255 stands in train ids
            alone; where neither occurs, the reading under which more pixels are right.
        subset: score the frames that have a prediction, whatever is missing or surplus.
        num_workers: threads; None: one for each core.
        progress: called with (done, total).

    Returns:
        What `ducseg.metrics.confusion.scores` returns over the 19 classes, and per class "iiou" (NaN without
        instances), "mean_iiou", "categories": {name: {"iou", "iiou"}}, "mean_category_iou", "mean_category_iiou",
        "ids": "label" or "train", "frames": how many were scored, "frames_without_prediction". Means are over the
        defined.

    Raises:
        UserError: missing or surplus files (all in one message), files that do not read or differ in size, values of no
            label, label ids and train ids mixed, no such folders.
    """
    from ducseg.metrics.cityscapes_counts import count_frame

    pred, gt = Path(pred), Path(gt)
    truth = _frames_with_truth(gt)
    fix = (
        f"Give the folder of the same split for both (--gt {gt} holds {len(truth)} frames). "
        "ducseg predict --format cityscapes writes one file a frame."
    )
    pairs = pair_by_name(
        truth, pictures_below(pred, "predictions", "PNGs of label ids"), _frame, subset=subset, fix=fix
    )
    files = _with_instances(pairs, truth)
    frames = count_each(count_frame, files, num_workers, progress)
    found_ids = check_ids(frames, files, ids) if ids is not None else find_ids(frames, files)
    found = _scores(_pooled(frames.values(), found_ids))
    return {**found, "ids": found_ids, "frames": len(frames), "frames_without_prediction": len(truth) - len(frames)}


def _frames_with_truth(gt: Path) -> dict[str, Path]:
    """CITY_SEQUENCE_FRAME -> labelIds file."""
    files = pictures_below(gt, "Cityscapes' ground truth", _LAYOUT)
    for kind in ("gtFine", "gtCoarse"):
        end = f"_{kind}{_TRUTH_END}"
        frames = {file.name.removesuffix(end): file for file in files if file.name.endswith(end)}
        if frames:
            return frames
    raise no_such_data("Cityscapes' ground truth", gt, missing=f"no *_gtFine{_TRUTH_END}", layout=_LAYOUT)


def _frame(prediction: Path) -> str | None:
    match = _FRAME.match(prediction.name)
    return match.group() if match is not None and prediction.suffix.lower() == ".png" else None


def _with_instances(predictions: Mapping[str, Path], truth: Mapping[str, Path]) -> "dict[str, FrameFiles]":
    from ducseg.metrics.cityscapes_counts import FrameFiles

    files = {}
    for frame, prediction in predictions.items():
        labels = truth[frame]
        instances = labels.with_name(labels.name.removesuffix(_TRUTH_END) + "_instanceIds.png")
        files[frame] = FrameFiles(prediction, labels, instances)
    missing = [str(frame.instance_ids) for frame in files.values() if not frame.instance_ids.is_file()]
    if missing:
        raise explain(
            "Cityscapes' ground truth",
            found=f"{len(missing)} frames without an instance map: {listed(missing, 20)}",
            needed="an instanceIds file beside each labelIds file (iIoU is weighted by the size of instances)",
            fix="Unpack gtFine_trainvaltest.zip whole.",
        )
    return files


class _Counts(NamedTuple):
    """Over all frames, predictions as label ids: matrix (19, 34), evaluated truth x prediction; instances (n,);
    per_instance (n, 34)."""

    matrix: NDArray[np.int64]
    instances: NDArray[np.int64]
    per_instance: NDArray[np.int64]


def _pooled(frames: "Iterable[FrameCounts]", ids: Ids) -> _Counts:
    frames = list(frames)
    target = np.arange(NUM_LABEL_IDS) if ids == "label" else EVALUATED
    matrix = np.stack([frame.matrix for frame in frames]).sum(0)[EVALUATED]
    per_instance = np.concatenate([frame.per_instance for frame in frames])
    instances = np.concatenate([frame.instances for frame in frames])
    return _Counts(_moved(matrix, target), instances, _moved(per_instance, target))


def _moved(counts: NDArray[np.int64], target: NDArray[np.int64]) -> NDArray[np.int64]:
    """Columns (n, 35) by the file's values to (n, 34) by label ids; 255, nothing known, is label 0, unlabeled."""
    moved = np.zeros((len(counts), NUM_LABEL_IDS), np.int64)
    moved[:, target] = counts[:, : len(target)]
    moved[:, 0] += counts[:, _VOID]
    return moved


def _scores(counts: _Counts) -> dict[str, Any]:
    predicted_as_none = np.delete(counts.matrix, EVALUATED, axis=1).sum(1, keepdims=True)
    found = scores(np.hstack([counts.matrix[:, EVALUATED], predicted_as_none]), CITYSCAPES)
    for label, score in zip(EVALUATED, found["classes"].values()):
        score["iiou"] = _iiou(counts, np.array([label]))
    found["mean_iiou"] = _mean(score["iiou"] for score in found["classes"].values())
    found["categories"] = {category: _category_scores(counts, category) for category in _CATEGORIES}
    found["mean_category_iou"] = _mean(score["iou"] for score in found["categories"].values())
    found["mean_category_iiou"] = _mean(score["iiou"] for score in found["categories"].values())
    return found


def _category_scores(counts: _Counts, category: str) -> dict[str, float]:
    members = np.array([label.id for label in LABELS if label.category == category])
    rows, columns = np.isin(EVALUATED, members), np.intersect1d(EVALUATED, members)
    correct = int(counts.matrix[np.ix_(rows, columns)].sum())
    union = int(counts.matrix[rows].sum()) + int(counts.matrix[:, columns].sum()) - correct
    return {"iou": correct / union if union else float("nan"), "iiou": _iiou(counts, members)}


def _iiou(counts: _Counts, labels: NDArray[np.int64]) -> float:
    """iIoU of these labels taken as one; NaN where one of them has no instances, or nothing was counted."""
    if not all(LABELS[label].has_instances for label in labels):
        return float("nan")
    of_instance = counts.instances // 1000
    mine = np.isin(of_instance, labels)
    pixels = counts.per_instance[mine]
    sizes = pixels.sum(1)
    weights = np.array([AVERAGE_SIZES[LABELS[label].name] for label in of_instance[mine]]) / sizes
    hits = pixels[:, labels].sum(1)
    true_positives, misses = float((hits * weights).sum()), float(((sizes - hits) * weights).sum())
    false_alarms = int(counts.matrix[np.ix_(~np.isin(EVALUATED, labels), labels)].sum())
    union = true_positives + misses + false_alarms
    return true_positives / union if union else float("nan")


def _mean(values: Iterable[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return sum(defined) / len(defined) if defined else float("nan")


def format_cityscapes_table(found: dict[str, Any]) -> "Table":
    """The result of `score_cityscapes` as a table for a terminal, in per cent."""
    from rich.table import Table

    table = Table(title=f"{found['frames']} frames, predictions in {found['ids']} ids")
    table.add_column("class")
    for column in ("IoU %", "iIoU %"):
        table.add_column(column, justify="right")
    table.add_column("pixels %", justify="right", style="dim")
    for name, score in found["classes"].items():
        share = score["pixels"] / found["num_pixels"] if found["num_pixels"] else float("nan")
        iou = "absent" if name in found["absent"] else percent(score["iou"])
        table.add_row(name, iou, percent(score["iiou"]), percent(share))
    without = f" over {len(found['classes']) - len(found['absent'])} classes" if found["absent"] else ""
    table.add_section()
    table.add_row(f"mean{without}", percent(found["mean_iou"]), percent(found["mean_iiou"]), "", style="bold")
    table.add_row("pixel accuracy", percent(found["pixel_accuracy"]), "", "")
    table.add_section()
    for name, score in found["categories"].items():
        table.add_row(name, percent(score["iou"]), percent(score["iiou"]), "")
    table.add_section()
    means = percent(found["mean_category_iou"]), percent(found["mean_category_iiou"])
    table.add_row("mean of categories", *means, "", style="bold")
    return table
