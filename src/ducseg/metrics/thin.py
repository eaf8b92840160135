"""Scores that see thin objects: cracks, wires, vessels, poles, of which mean IoU and pixel accuracy tell little.

All are of one class against all others, from int64 counts pooled over the pictures and one division at the end. Pixels
of truth 255 never count, and what is predicted there belongs to no object. What is not defined is NaN: every score of a
class that is neither in the truth nor predicted, the recall of one that is not in the truth, the precision of one that
is not predicted; a class that is on one side only has 0 where a score needs both.

- Dice = 2 TP / (2 TP + FP + FN), precision, recall: of pixels. Dice is the F1 score, and "within 0 pixels".
- within t: precision is the share of predicted pixels with a true pixel of the class at most t px away (Euclidean,
  centre to centre), recall the share of true pixels with a predicted one as near. Matching is by dilation, as the
  literature on cracks does it (t = 2 or 5), not one to one: two predicted pixels may match one true pixel.
- Boundary IoU with a band of `boundary_width` pixels (`ducseg.metrics.boundary`).
- clDice (Shit et al., CVPR 2021) with hard skeletons (`ducseg.metrics.skeleton`): its precision is the share of the
  predicted skeleton inside the true mask, its recall the share of the true skeleton inside the predicted mask.
- by width: recall of the true pixels whose object is so wide there, precision of the predicted pixels whose predicted
  object is so wide there (`ducseg.metrics.widths` has the rule).
- AUC, average precision and best threshold of the class's probability, from a histogram of `bins` equal bins: equal to
  scikit-learn's of the binned probabilities. The best threshold has the highest Dice when the class is where its
  probability is at least that.
"""

from collections.abc import Iterable, Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE, ClassSet
from ducseg.errors import explain, whole
from ducseg.metrics.boundary import BoundaryCounts
from ducseg.metrics.confusion import (
    ConfusionMatrix,
    as_array,
    as_label_map,
    check_alike,
    check_class_list,
    check_num_classes,
    check_same_kind,
    percent,
)
from ducseg.metrics.ranking import ranking_scores
from ducseg.metrics.skeleton import skeletons
from ducseg.metrics.tolerance import count_within
from ducseg.metrics.widths import local_widths

if TYPE_CHECKING:
    from rich.table import Table
from rich.text import Text

__all__ = ["WIDTH_BINS", "ThinCounts", "format_thin_tables", "mean_of_objects"]

WIDTH_BINS = {"1-2": 1, "3-4": 3, "5-8": 5, "9-16": 9, "17+": 17}
"""Name of a range of widths -> its first width in pixels."""

_FARTHEST = 100  # pixels
_ROUNDING = 1e-3  # of probabilities averaged in half precision
_SOFTMAX = "Apply softmax to scores."
_COUNTS = ("within", "skeleton", "width", "ranked")


class ThinCounts:
    """What the scores of thin objects follow from, counted over all pictures so far.

    Args:
        tolerances: t in pixels.
        boundary_width: of the Boundary IoU's band, in pixels.
        bins: of the probabilities.

    Raises:
        UserError: tolerances or other numbers that are none.

    Attributes:
        pixels: the confusion matrix.
        within: int64 (2, T, L), of true and of predicted pixels, those matched within each tolerance.
        skeleton: int64 (2, 2, L): of the true and the predicted skeleton, its pixels and those inside the other's mask.
        width: int64 (2, 2, B, L): of true and of predicted pixels by width, all and those that are right.
        ranked: int64 (2, bins, L): pixels of other classes and of the class, by the class's probability.
        boundary: counts of the Boundary IoU.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        tolerances: tuple[float, ...] = (0, 1, 2, 5),
        boundary_width: int = 2,
        bins: int = 1024,
    ) -> None:
        tolerances = _sorted_tolerances(tolerances)
        self.num_classes = num_classes = check_num_classes(num_classes)
        self.tolerances, self.bins = tolerances, whole("bins", bins, least=1, fix="Take 1024.")
        whole("boundary width", boundary_width, least=1, fix="Take 2 pixels.")
        self.pixels = ConfusionMatrix(num_classes)
        self.boundary = BoundaryCounts(num_classes, width=boundary_width)
        self.within: NDArray[np.int64] = np.zeros((2, len(tolerances), num_classes), np.int64)
        self.skeleton: NDArray[np.int64] = np.zeros((2, 2, num_classes), np.int64)
        self.width: NDArray[np.int64] = np.zeros((2, 2, len(WIDTH_BINS), num_classes), np.int64)
        self.ranked: NDArray[np.int64] = np.zeros((2, bins, num_classes), np.int64)

    def add(
        self,
        truth: NDArray[Any],
        prediction: NDArray[Any],
        probabilities: NDArray[np.floating[Any]] | None = None,
        *,
        name: str = "label map",
    ) -> None:
        """Count one picture.

        Args:
            truth: classes (H, W), any integer type; 255 is not counted.
            prediction: classes (H, W); what it holds where the truth is 255 does not matter.
            probabilities: (L, H, W), 0 to 1; None: no AUC. Give them for every picture or for none.
            name: of the picture, for messages.

        Raises:
            UserError: maps that are no label maps, differ in size or hold other values; probabilities of another shape
                or outside 0..1. Nothing is counted then.
        """
        ranked = None if probabilities is None else self._rank(truth, probabilities, name)
        self.pixels.update(truth, prediction, name=name)
        truth, prediction = as_label_map(truth, "truth"), as_label_map(prediction, "prediction")
        if not truth.size:
            return
        prediction = np.where(truth == IGNORE, np.uint8(IGNORE), prediction)
        self.boundary.update(truth, prediction)
        right = truth == prediction
        for side, (one, other) in enumerate([(truth, prediction), (prediction, truth)]):
            self.within[side] += count_within(one, other, self.tolerances, self.num_classes)
            skeleton = skeletons(one)
            self.skeleton[side, 0] += self._by_class(one[skeleton])
            self.skeleton[side, 1] += self._by_class(one[skeleton & right])
            widths = local_widths(one, tuple(WIDTH_BINS.values()))
            for index, first in enumerate(WIDTH_BINS.values()):
                there = widths == first
                self.width[side, 0, index] += self._by_class(one[there])
                self.width[side, 1, index] += self._by_class(one[there & right])
        if ranked is not None:
            self.ranked += ranked

    def merge(self, other: Self) -> None:
        """Add the counts of another part of the data set, counted with the same settings; else `UserError`."""
        check_same_kind(other, self)
        found, needed = (
            f"{o.num_classes} classes, tolerances {o.tolerances}, boundary width {o.boundary.width}, {o.bins} bins"
            for o in (other, self)
        )
        check_alike("counts to merge", found, needed)
        self.pixels.merge(other.pixels)
        self.boundary.merge(other.boundary)
        for name in _COUNTS:
            if (more := getattr(other, name)).any():
                getattr(self, name)[:] += more

    def scores(self, classes: ClassSet) -> dict[str, Any]:
        """All scores as fractions.

        Returns:
            {"mean_dice", "mean_cldice" (`mean_of_objects`), "boundary_width", "classes": {name: {"dice", "precision",
            "recall", "boundary_iou", "cldice", "cldice_precision", "cldice_recall",
            "within": {"2": {"f1", "precision", "recall"}, ...},
            "by_width": {"3-4": {"recall", "precision", "pixels", "predicted"}, ...}}}}, and for each class, if there
            were probabilities, "auc", "average_precision", "best_threshold", "best_dice".
        """
        check_class_list(self.num_classes, classes)
        boundary = self.boundary.scores(classes)["classes"]
        found = {name: boundary[name] | self._of_class(index) for index, name in enumerate(classes.names)}
        return {
            "mean_dice": mean_of_objects(found, "dice", classes),
            "mean_cldice": mean_of_objects(found, "cldice", classes),
            "boundary_width": self.boundary.width,
            "classes": found,
        }

    def _of_class(self, index: int) -> dict[str, Any]:
        matrix = self.pixels.matrix
        true, predicted, right = int(matrix[index].sum()), int(matrix[:, index].sum()), int(matrix[index, index])
        (true_line, true_inside), (predicted_line, predicted_inside) = self.skeleton[:, :, index].tolist()
        cldice = _both(predicted_inside, predicted_line, true_inside, true_line)
        found: dict[str, Any] = {
            "dice": _ratio(2 * right, true + predicted),
            "precision": _ratio(right, predicted),
            "recall": _ratio(right, true),
            "cldice": cldice["f1"],
            "cldice_precision": cldice["precision"],
            "cldice_recall": cldice["recall"],
            "within": {
                f"{tolerance:g}": _both(hit_predicted, predicted, hit_true, true)
                for tolerance, hit_true, hit_predicted in zip(self.tolerances, *self.within[:, :, index].tolist())
            },
            "by_width": {name: self._of_width(index, row) for row, name in enumerate(WIDTH_BINS)},
        }
        if self.ranked.any():
            found |= ranking_scores(*self.ranked[:, :, index])
        return found

    def _of_width(self, index: int, row: int) -> dict[str, Any]:
        (true, true_right), (predicted, predicted_right) = self.width[:, :, row, index].tolist()
        return {
            "recall": _ratio(true_right, true),
            "precision": _ratio(predicted_right, predicted),
            "pixels": true,
            "predicted": predicted,
        }

    def _by_class(self, values: NDArray[np.uint8]) -> NDArray[np.int64]:
        return np.bincount(values, minlength=IGNORE + 1)[: self.num_classes]

    def _rank(self, truth: NDArray[Any], probabilities: NDArray[np.floating[Any]], name: str) -> NDArray[np.int64]:
        truth, probabilities = as_label_map(truth, f"label of {name}"), as_array(probabilities)
        if probabilities.dtype.kind not in "fiub":
            raise explain(
                f"probabilities of {name}", found=f"type {probabilities.dtype}", needed="real numbers", fix=_SOFTMAX
            )
        if probabilities.shape != (self.num_classes, *truth.shape):
            raise explain(
                f"probabilities of {name}",
                found=f"shape {probabilities.shape}",
                needed=f"(classes, H, W) = {(self.num_classes, *truth.shape)}",
                fix="Give one probability a class and pixel.",
            )
        counted = truth != IGNORE
        labels = truth[counted]
        ranked = np.zeros_like(self.ranked)
        for index in range(self.num_classes):
            values = probabilities[index][counted]
            if not ((values >= -_ROUNDING) & (values <= 1 + _ROUNDING)).all():
                raise explain(
                    f"probabilities of {name}",
                    found="values that are not in 0..1",
                    needed="probabilities",
                    fix=_SOFTMAX,
                )
            place = np.clip((values * self.bins).astype(np.int64), 0, self.bins - 1)
            counts = np.bincount(place + self.bins * (labels == index), minlength=2 * self.bins)
            ranked[:, :, index] = counts.reshape(2, self.bins)
        return ranked


def _sorted_tolerances(tolerances: object) -> tuple[float, ...]:
    given = tuple(tolerances) if isinstance(tolerances, Iterable) else ()
    in_range = all(isinstance(t, Real) and 0 <= float(t) <= _FARTHEST for t in given)
    if not given or not in_range or len(set(given)) < len(given):
        needed = f"distances in pixels, each once, 0 to {_FARTHEST}"
        raise explain("tolerances", found=tolerances, needed=needed, fix="Take 0 1 2 5.")
    return tuple(sorted(given))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _both(right: int, predicted: int, found: int, true: int) -> dict[str, float]:
    """Precision, recall and their harmonic mean: 0 where one of them is 0 or not defined, NaN where neither is."""
    precision, recall = _ratio(right, predicted), _ratio(found, true)
    total = np.nan_to_num(precision) + np.nan_to_num(recall)
    f1 = 2 * np.nan_to_num(precision) * np.nan_to_num(recall) / total if total else 0.0
    return {"f1": float(f1) if predicted or true else float("nan"), "precision": precision, "recall": recall}


def mean_of_objects(scores: Mapping[str, Mapping[str, Any]], key: str, classes: ClassSet) -> float:
    """The mean of a score over the classes that have it, without `ClassSet.background`, which flatters.

    Args:
        scores: "classes" of `ThinCounts.scores`, or of its JSON.
    """
    objects = [name for index, name in enumerate(classes.names) if index != classes.background]
    values = (scores[name][key] for name in objects)
    defined = [value for value in values if value is not None and not np.isnan(value)]
    return sum(defined) / len(defined) if defined else float("nan")


def format_thin_tables(found: dict[str, Any]) -> "list[Table]":
    """The result of `ThinCounts.scores` as tables of at most 80 columns, in per cent; none without a class."""
    from rich.table import Table

    classes = {name: score for name, score in found["classes"].items() if not np.isnan(score["dice"])}
    if not classes:
        return []
    first = next(iter(classes.values()))
    ranked = ["AUC", "best Dice", "at"] if "auc" in first else []
    edge = f"boundary IoU {found['boundary_width']} px"
    scores = _table(Table, "thin objects, %", ["class", "Dice", "precision", "recall", edge, "clDice"])
    within = _table(Table, "F1 within t px, %", ["class", *(f"{t} px" for t in first["within"]), *ranked])
    widths = _table(Table, "recall / precision by width in px, %", ["class", *first["by_width"]])
    for name, score in classes.items():
        keys = ("dice", "precision", "recall", "boundary_iou", "cldice")
        scores.add_row(Text(name), *(percent(score[key]) for key in keys))
        cells = [percent(one["f1"]) for one in score["within"].values()]
        if ranked:
            cells += [percent(score["auc"]), percent(score["best_dice"]), f"{score['best_threshold']:.3f}"]
        within.add_row(Text(name), *cells)
        by_width = score["by_width"].values()
        widths.add_row(Text(name), *(f"{_whole(entry['recall'])} / {_whole(entry['precision'])}" for entry in by_width))
    return [scores, within, widths]


def _table(table: "type[Table]", title: str, columns: list[str]) -> "Table":
    made = table(title=title)
    for index, column in enumerate(columns):
        made.add_column(column, justify="right" if index else "left")
    return made


def _whole(fraction: float) -> str:
    return "-" if np.isnan(fraction) else f"{100 * fraction:.0f}"
