"""Confusion counts, and the scores that follow from them.

IoU of class j = C_jj / (row j + column j - C_jj), where C counts the pixels with valid ground truth over the whole data
set, rows = truth (VOC2012 development kit, cityscapesScripts). Counts are int64 and pooled; per-picture scores are
never averaged.

A class is *absent* when that denominator is 0: no valid pixel has it, neither in truth nor in prediction. Its IoU is
not defined (NaN; null in JSON), it is named, and the mean is over the other classes, as cityscapesScripts does. A class
that is only predicted, or only in the truth, has IoU 0 and counts.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE, ClassSet
from ducseg.errors import explain, listed, whole
from ducseg.files import write_whole

if TYPE_CHECKING:
    from rich.table import Table
from rich.text import Text

__all__ = [
    "ConfusionMatrix",
    "as_array",
    "as_label_map",
    "band_in_words",
    "check_alike",
    "check_class_list",
    "check_num_classes",
    "check_same_kind",
    "check_shape",
    "check_values",
    "format_table",
    "percent",
    "scores",
    "to_json",
    "write_json",
]

_VALUES = 256  # of uint8


class ConfusionMatrix:
    """Counts of (true class, predicted class) over pixels whose ground truth is not 255.

    Attributes:
        matrix: int64 (L, L), rows = truth, columns = prediction.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes = check_num_classes(num_classes)
        self.matrix: NDArray[np.int64] = np.zeros((num_classes, num_classes), dtype=np.int64)

    def update(self, label: NDArray[Any], prediction: NDArray[Any], *, name: str = "label map") -> None:
        """Count one picture.

        Args:
            label: true train ids (H, W), any integer type; 255 is not counted.
            prediction: train ids (H, W); what it holds where the label is 255 does not matter.
            name: of the picture, for messages.

        Raises:
            UserError: shapes that differ, a type that is no integer, a label or a counted prediction outside 0..L-1.
                Nothing is counted then.
        """
        label, prediction = as_label_map(label, f"label of {name}"), as_label_map(prediction, f"prediction of {name}")
        check_shape(prediction, label, f"prediction of {name}")
        # all 256 x 256 pairs at once: no mask, and the counts outside L x L are the errors
        pairs = (label.astype(np.uint16) << 8) | prediction
        counts = np.bincount(pairs.ravel(), minlength=_VALUES**2).reshape(_VALUES, _VALUES)
        check_values(counts[:IGNORE].sum(1), self.num_classes, f"label of {name}")
        check_values(counts[:IGNORE].sum(0), self.num_classes, f"prediction of {name}")
        self.matrix += counts[: self.num_classes, : self.num_classes]

    def merge(self, other: Self) -> None:
        """Add the counts of another matrix over the same classes, of another part of the data set; else `UserError`."""
        check_same_kind(other, self)
        check_alike("counts to merge", f"{other.num_classes} classes", f"{self.num_classes} classes")
        self.matrix += other.matrix


def check_num_classes(num_classes: object) -> int:
    """A number of classes, 1 to 255; else `UserError`."""
    return whole("number of classes", num_classes, least=1, most=IGNORE, fix=f"{IGNORE} is for what does not count.")


def check_alike(what: str, found: object, needed: object, fix: str = "Count all parts with the same settings.") -> None:
    """Raise `UserError` where two differ."""
    if found != needed:
        raise explain(what, found=found, needed=needed, fix=fix)


def check_same_kind(other: object, own: object) -> None:
    """Raise `UserError` where counts of one kind are to be added to counts of another."""
    check_alike("counts to merge", f"a {type(other).__name__}", f"a {type(own).__name__}", "Merge counts of one kind.")


def check_shape(prediction: NDArray[Any], label: NDArray[Any], what: str) -> None:
    """Raise `UserError` where a prediction has not the shape of its label."""
    if prediction.shape != label.shape:
        raise explain(
            what,
            found=f"shape {prediction.shape}",
            needed=f"the label's {label.shape}",
            fix="Predict at the size of the ground truth.",
        )


def check_class_list(num_classes: int, classes: ClassSet) -> None:
    """Raise `UserError` where counts are not of so many classes as a list has."""
    fix = "Give the class list of these counts."
    check_alike("class list", f"{len(classes)} classes", f"{num_classes} classes", fix)


def as_array(values: Any) -> NDArray[Any]:
    """Anything as numpy's array, also what `np.asarray` refuses: tensors on a GPU, with gradients, in bfloat16."""
    if hasattr(values, "detach"):  # a tensor, without torch, which scores of files do not need
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() and values.itemsize < 4 else values
    return np.asarray(values)


def as_label_map(values: NDArray[Any], what: str) -> NDArray[np.uint8]:
    """A label map of any integer type as uint8 (H, W); `UserError` for another type, or values outside 0..255."""
    values = as_array(values)
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer):
        raise explain(
            what,
            found=f"shape {values.shape}, type {values.dtype}",
            needed="one integer a pixel, shape (H, W)",
            fix="Pass the class indices (argmax over classes).",
        )
    if values.dtype != np.uint8 and values.size and not (values.min() >= 0 and values.max() <= IGNORE):
        raise explain(
            what,
            found=f"values {values.min()}..{values.max()}",
            needed="0..255",
            fix=f"Use {IGNORE} for pixels that do not count.",
        )
    return values.astype(np.uint8, copy=False)


def check_values(counts: NDArray[np.int64], num_classes: int, what: str) -> None:
    """Raise `UserError` where `counts`, the pixels of each value 0, 1, ..., has some from `num_classes` on."""
    strays = np.flatnonzero(counts[num_classes:]) + num_classes
    if strays.size:
        raise explain(
            what,
            found=listed([f"value {value} in {counts[value]} pixels" for value in strays]),
            needed=f"0..{num_classes - 1} (and {IGNORE}, ignored, in ground truth)",
            fix="Check that the class list belongs to this data, and that values are train ids.",
        )


def scores(matrix: NDArray[np.int64], classes: ClassSet) -> dict[str, Any]:
    """Scores of a confusion matrix (L, L), rows = truth.

    Args:
        matrix: may have one column more, (L, L + 1): pixels that are predicted as no class.

    Returns:
        {"mean_iou", "pixel_accuracy", "mean_accuracy" (mean recall of the classes in the truth),
        "frequency_weighted_iou" (by pixels of truth): float fractions, "num_pixels": int, "absent": names of the
        classes without a defined IoU, "classes": {name: {"iou": float, "pixels": int}}}; "pixels" counts
        ground truth. What is not defined is NaN: the IoU of an absent class, and everything where no pixel was counted.

    Raises:
        UserError: a class list of another length.
    """
    if matrix.shape not in [(len(classes), len(classes)), (len(classes), len(classes) + 1)]:
        raise explain(
            "confusion matrix",
            found=f"shape {matrix.shape}",
            needed=f"{len(classes)} x {len(classes)}, as the class list has, or one column more",
            fix="Give the class list of these counts.",
        )
    truth, correct = matrix.sum(1), matrix.diagonal()
    union = truth + matrix[:, : len(classes)].sum(0) - correct
    present = union > 0
    iou = np.full(len(classes), np.nan)
    np.divide(correct, union, out=iou, where=present)
    num_pixels, shown = int(truth.sum()), truth > 0
    nothing = float("nan")
    return {
        "mean_iou": float(iou[present].mean()) if present.any() else nothing,
        "pixel_accuracy": int(correct.sum()) / num_pixels if num_pixels else nothing,
        "mean_accuracy": float((correct[shown] / truth[shown]).mean()) if num_pixels else nothing,
        "frequency_weighted_iou": float(truth[shown] @ iou[shown] / num_pixels) if num_pixels else nothing,
        "num_pixels": num_pixels,
        "absent": [name for name, there in zip(classes.names, present) if not there],
        "classes": {
            name: {"iou": float(value), "pixels": int(pixels)} for name, value, pixels in zip(classes.names, iou, truth)
        },
    }


def to_json(found: Any) -> Any:
    """Scores as strict JSON takes them: at any depth NaN becomes None, and a number of numpy's one of Python's."""
    if isinstance(found, dict):
        return {key: to_json(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return list(map(to_json, found))
    if isinstance(found, np.generic):
        found = found.item()
    return None if isinstance(found, float) and np.isnan(found) else found


def write_json(path: Path | str, found: dict[str, Any]) -> None:
    """Write scores as JSON, undefined ones as null; the file is whole or not there.

    Raises:
        UserError: the folder is not writable or the disk is full.
    """
    text = json.dumps(to_json(found), indent=1, allow_nan=False) + "\n"
    write_whole(Path(path), text.encode(), option="--json")


def band_in_words(ratio: float) -> str:
    """The Boundary IoU's band, a share of the picture's diagonal: "2 % of diagonal"."""
    return f"{100 * ratio:g} % of diagonal"


def format_table(found: dict[str, Any]) -> "Table":
    """The result of `scores` as a table for a terminal: IoU in per cent, and each class's share of the ground truth."""
    from rich.table import Table

    table = Table()
    table.add_column("class")
    table.add_column("IoU %", justify="right")
    table.add_column("pixels %", justify="right", style="dim")
    for name, score in found["classes"].items():
        share = score["pixels"] / found["num_pixels"] if found["num_pixels"] else float("nan")
        iou = "absent" if name in found["absent"] else percent(score["iou"])
        table.add_row(Text(name), iou, percent(share), style="dim" if name in found["absent"] else None)
    table.add_section()
    without = f" over {len(found['classes']) - len(found['absent'])} classes" if found["absent"] else ""
    table.add_row(f"mean IoU{without}", percent(found["mean_iou"]), "", style="bold")
    table.add_row("pixel accuracy", percent(found["pixel_accuracy"]), "")
    if "mean_boundary_iou" in found:
        table.add_row(
            f"mean boundary IoU, {band_in_words(found['boundary_ratio'])}", percent(found["mean_boundary_iou"]), ""
        )
    return table


def percent(fraction: float) -> str:
    """A fraction for a table, "-" where it is not defined."""
    return "-" if np.isnan(fraction) else f"{100 * fraction:.2f}"
