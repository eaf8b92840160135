"""What one frame contributes to the Cityscapes score: one pass over truth, instances and prediction, in numba.

Predictions are counted by the value in their file, whichever ids it means; `metrics.cityscapes` decides that over all
frames. Legend: H, W pixels; a column is a predicted value 0..33, and `VOID_COLUMN` is 255.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE
from ducseg.data.files.reading import check_label, read_instance_ids, read_label
from ducseg.data.layouts.cityscapes import LABELS, NUM_LABEL_IDS
from ducseg.errors import explain, listed
from ducseg.files import compiled
from ducseg.metrics.prediction_files import read_prediction

__all__ = ["NUM_COLUMNS", "VOID_COLUMN", "FrameCounts", "FrameFiles", "count_frame"]

VOID_COLUMN = NUM_LABEL_IDS
NUM_COLUMNS = NUM_LABEL_IDS + 1
_STRAY_COLUMN = NUM_COLUMNS  # 34..254, no class in any reading
_FIRST_INSTANCE = 1001  # ids up to 1000 are regions without instances (cityscapesScripts: instanceNp > 1000)
_PER_LABEL = 1000
_compiled = compiled(nogil=True)


class FrameFiles(NamedTuple):
    """The files of one frame."""

    prediction: Path
    label_ids: Path
    instance_ids: Path


@dataclass(frozen=True, kw_only=True)
class FrameCounts:
    """Pixels of one frame.

    Attributes:
        matrix: int64 (34, 35), true label id x predicted value.
        instances: int64 (n,), instance ids above 1000 of evaluated labels (id // 1000 is the label), ascending.
        per_instance: int64 (n, 35), predicted values inside each instance.
    """

    matrix: NDArray[np.int64]
    instances: NDArray[np.int64]
    per_instance: NDArray[np.int64]


def count_frame(name: str, files: FrameFiles) -> FrameCounts:
    """Read one frame and count it.

    Raises:
        UserError: a file that does not read, sizes that differ, a value that is no label id and no train id, ground
            truth with other values, instance ids of labels that have no instances.
    """
    label_ids = read_label(files.label_ids)
    check_label(label_ids, NUM_LABEL_IDS, name, path=files.label_ids)
    instance_ids = read_instance_ids(files.instance_ids)
    if instance_ids.shape != label_ids.shape:
        raise explain(
            f"instance map {files.instance_ids}",
            found=f"{instance_ids.shape[0]} x {instance_ids.shape[1]} pixels (H x W)",
            needed=f"{label_ids.shape[0]} x {label_ids.shape[1]}, the size of {files.label_ids}",
            fix="Take both files from the same gtFine.",
        )
    shape = label_ids.shape[0], label_ids.shape[1]
    prediction = read_prediction(
        files.prediction,
        shape,
        "8-bit grey with one id a pixel",
        "Write label ids (ducseg predict --format cityscapes), not colours or instances.",
    )
    matrix, instances, per_instance = _count(label_ids, instance_ids, prediction, _COLUMN_OF_VALUE)
    _check_values(matrix, label_ids, prediction, files)
    kept = _evaluated(instances, files.instance_ids)
    return FrameCounts(
        matrix=matrix[:NUM_LABEL_IDS, :NUM_COLUMNS],
        instances=instances[kept],
        per_instance=per_instance[kept, :NUM_COLUMNS],
    )


@_compiled
def _count(
    label_ids: NDArray[np.uint8],
    instance_ids: NDArray[np.uint16],
    prediction: NDArray[np.uint8],
    column_of_value: NDArray[np.uint8],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Counts (256, 36) by label id and column; instance ids (n,), ascending; counts (n, 36) by instance and column."""
    row_of_id = np.full(65536, -1, np.int32)
    height, width = label_ids.shape
    for y in range(height):
        for x in range(width):
            row_of_id[instance_ids[y, x]] = 0
    row_of_id[:_FIRST_INSTANCE] = -1
    instances = np.flatnonzero(row_of_id == 0)
    for row in range(len(instances)):
        row_of_id[instances[row]] = row
    matrix = np.zeros((256, _STRAY_COLUMN + 1), np.int64)
    per_instance = np.zeros((len(instances), _STRAY_COLUMN + 1), np.int64)
    for y in range(height):
        for x in range(width):
            column = column_of_value[prediction[y, x]]
            matrix[label_ids[y, x], column] += 1
            row = row_of_id[instance_ids[y, x]]
            if row >= 0:
                per_instance[row, column] += 1
    return matrix, instances, per_instance


def _columns() -> NDArray[np.uint8]:
    columns = np.full(256, _STRAY_COLUMN, np.uint8)
    columns[:NUM_LABEL_IDS] = range(NUM_LABEL_IDS)
    columns[IGNORE] = VOID_COLUMN
    return columns


_COLUMN_OF_VALUE = _columns()


def _check_values(
    matrix: NDArray[np.int64], label_ids: NDArray[np.uint8], prediction: NDArray[np.uint8], files: FrameFiles
) -> None:
    if matrix[IGNORE].any():  # check_label lets 255 pass, which stands in train id files
        raise explain(
            f"ground truth {files.label_ids}",
            found=f"value {IGNORE} in {int((label_ids == IGNORE).sum())} pixels",
            needed=f"label ids 0..{NUM_LABEL_IDS - 1}",
            fix="That file holds train ids; take *_labelIds.png as the data set ships it.",
        )
    if matrix[:, _STRAY_COLUMN].any():
        counts = np.bincount(prediction.ravel(), minlength=256)
        strays = [value for value in range(NUM_LABEL_IDS, IGNORE) if counts[value]]
        raise explain(
            f"prediction {files.prediction}",
            found=listed([f"value {value} in {counts[value]} pixels" for value in strays]),
            needed="label ids 0..33, or train ids 0..18 and 255",
            fix="Write label ids (ducseg predict --format cityscapes).",
        )


def _evaluated(instances: NDArray[np.int64], path: Path) -> NDArray[np.bool_]:
    """Which instances are of evaluated labels; raises where one is of no label, or of one without instances."""
    labels = instances // _PER_LABEL
    strays = [
        int(instance)
        for instance, label in zip(instances, labels)
        if label >= NUM_LABEL_IDS or not (LABELS[label].has_instances or LABELS[label].train_id == IGNORE)
    ]
    if strays:
        raise explain(
            f"instance map {path}",
            found=f"instance ids {listed(strays)}",
            needed="label id * 1000 + number, for labels with instances (24..33)",
            fix="Take *_instanceIds.png as the data set ships it.",
        )
    trained = np.array([label.train_id != IGNORE for label in LABELS])
    return np.asarray(trained[labels], dtype=np.bool_)
