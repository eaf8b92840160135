"""Boundary IoU (Cheng, Girshick, Dollár, Berg, Kirillov: "Boundary IoU", CVPR 2021) for label maps.

The band of a mask is its pixels within d pixels of its edge in the maximum norm; the picture's border is an edge, as in
the authors' `mask_to_boundary`. d = ratio times the picture's diagonal, rounded, at least 1. The Boundary IoU of a
class is the IoU of the bands of its true and its predicted mask; here the counts are pooled over all pictures before
the one division, as for the plain IoU.

The authors' ratio 0.02 is the default (d = 12 at 360x480, 46 at 1024x2048); where classes are thin at that width, a
smaller one tells more, or a width in pixels. Ignored pixels (255) belong to no mask, true or predicted: what is
predicted there does not matter.
"""

from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE, ClassSet
from ducseg.errors import real, whole
from ducseg.metrics.confusion import (
    as_label_map,
    check_alike,
    check_class_list,
    check_num_classes,
    check_same_kind,
    check_shape,
    check_values,
)

__all__ = ["BoundaryCounts", "add_boundary", "band_width"]


def band_width(height: int, width: int, ratio: float) -> int:
    """d in pixels for a picture of height x width."""
    return max(1, round(ratio * float(np.hypot(height, width))))


class BoundaryCounts:
    """Intersection and union of the bands of each class, in pixels, over all pictures so far.

    Args:
        ratio: d as a share of each picture's diagonal.
        width: d in pixels, whatever the picture's size; None: by the ratio.

    Raises:
        UserError: numbers that are none of these.

    Attributes:
        intersection, union: int64 (L,).
    """

    def __init__(self, num_classes: int, *, ratio: float = 0.02, width: int | None = None) -> None:
        num_classes = check_num_classes(num_classes)
        ratio = real("boundary ratio", ratio, positive=True, fix="The authors take 0.02 of the diagonal.")
        if width is not None:
            width = whole("boundary width", width, least=1, fix="Take 2 pixels.")
        self.num_classes, self.ratio, self.width = num_classes, ratio, width
        self.intersection: NDArray[np.int64] = np.zeros(num_classes, dtype=np.int64)
        self.union: NDArray[np.int64] = np.zeros(num_classes, dtype=np.int64)

    def update(self, label: NDArray[Any], prediction: NDArray[Any]) -> None:
        """Count one picture: true and predicted train ids (H, W); a label of 255 is ignored.

        Raises:
            UserError: not label maps, or of two shapes; a label or a counted prediction outside 0..L-1.
        """
        label, prediction = as_label_map(label, "label"), as_label_map(prediction, "prediction")
        check_shape(prediction, label, "prediction")
        if not label.size:
            return
        check_values(np.bincount(label.ravel(), minlength=IGNORE)[:IGNORE], self.num_classes, "label")
        check_values(np.bincount(prediction[label != IGNORE]), self.num_classes, "prediction")
        prediction = np.where(label == IGNORE, np.uint8(IGNORE), prediction)
        width = self.width or band_width(label.shape[0], label.shape[1], self.ratio)
        true_band, predicted_band = _band(label, width), _band(prediction, width)
        both = self._count(label, true_band & predicted_band & (label == prediction))
        self.intersection += both
        self.union += self._count(label, true_band) + self._count(prediction, predicted_band) - both

    def merge(self, other: Self) -> None:
        """Add the counts of another part of the data set, counted with the same settings; else `UserError`."""
        check_same_kind(other, self)
        found, needed = (f"{o.num_classes} classes, ratio {o.ratio}, width {o.width}" for o in (other, self))
        check_alike("counts to merge", found, needed)
        self.intersection += other.intersection
        self.union += other.union

    def scores(self, classes: ClassSet) -> dict[str, Any]:
        """{"mean_boundary_iou", "ratio", "classes": {name: {"boundary_iou"}}}; NaN and left out of the mean: absent."""
        check_class_list(self.num_classes, classes)
        present = self.union > 0
        found = np.full(self.num_classes, np.nan)
        np.divide(self.intersection, self.union, out=found, where=present)
        return {
            "mean_boundary_iou": float(found[present].mean()) if present.any() else float("nan"),
            "ratio": self.ratio,
            "classes": {name: {"boundary_iou": float(value)} for name, value in zip(classes.names, found)},
        }

    def _count(self, values: NDArray[np.uint8], where: NDArray[np.bool_]) -> NDArray[np.int64]:
        counts = np.bincount(values[where], minlength=IGNORE + 1)
        return counts[: self.num_classes]


def add_boundary(found: dict[str, Any], boundary: dict[str, Any]) -> None:
    """Add the Boundary IoU to the scores of the same pass: a mean, its ratio, and one for each class."""
    found["mean_boundary_iou"], found["boundary_ratio"] = boundary["mean_boundary_iou"], boundary["ratio"]
    for name, score in boundary["classes"].items():
        found["classes"][name] |= score


def _band(label: NDArray[np.uint8], width: int) -> NDArray[np.bool_]:
    """Pixels with another value, or the outside, within `width`: all classes' bands at once, for they are disjoint.

    One maximum and one minimum over a square window replace an erosion for each class.
    """
    window = np.ones((2 * width + 1, 2 * width + 1), dtype=np.uint8)
    band = np.asarray(cv2.dilate(label, window) != cv2.erode(label, window), dtype=np.bool_)
    band[:width], band[-width:], band[:, :width], band[:, -width:] = True, True, True, True
    return band
