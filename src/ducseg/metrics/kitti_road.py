"""Scores of KITTI road, as its development kit computes them (SCORING of the benchmark; evaluateRoad.py).

Confidences are 8-bit grey; the thresholds are k/255, k = 0..255. Counts are int64 and pooled over the frames of a
category, and over the three categories for URBAN; per-frame scores are never averaged. Legend: H, W pixels.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ducseg.metrics.confusion import as_array, check_alike, check_same_kind, check_shape

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["MEASURES", "RoadCounts", "RoadCurve", "format_road_table", "pooled", "road_scores"]

MEASURES = ("MaxF", "AP", "PRE", "REC", "FPR", "FNR", "threshold")
"""The best F-measure, average precision; and at the threshold of the best F: precision, recall, the two error rates."""

_THRESHOLDS = np.arange(256) / 255.0
_TINY = 1e-10  # the kit's, against 0/0


class RoadCurve(NamedTuple):
    """What each threshold gives, float64 (n,): n <= 256, without those where precision and recall are both 0."""

    threshold: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    false_positive_rate: NDArray[np.float64]

    @property
    def f_measure(self) -> NDArray[np.float64]:
        """The harmonic mean of precision and recall."""
        return 2 * self.precision * self.recall / (self.precision + self.recall + _TINY)


class RoadCounts:
    """Histograms of the confidences of valid pixels, enough for every threshold and independent of the frames' number.

    Attributes:
        road, other: int64 (256,), valid pixels of each confidence that are road, and that are not.
    """

    def __init__(self) -> None:
        self.road: NDArray[np.int64] = np.zeros(256, np.int64)
        self.other: NDArray[np.int64] = np.zeros(256, np.int64)

    def update(self, label: NDArray[np.uint8], confidence: NDArray[np.uint8]) -> None:
        """Count one frame: label (H, W) with 1 road, 0 not road, 255 not valid; confidence uint8 (H, W).

        Raises:
            UserError: confidences of another type or shape.
        """
        label, confidence = as_array(label), as_array(confidence)
        check_shape(confidence, label, "confidence")
        fix = "255 is certain road: round 255 times a probability."
        check_alike("confidence", f"values of type {confidence.dtype}", "values of type uint8", fix)
        self.road += np.bincount(confidence[label == 1], minlength=256)
        self.other += np.bincount(confidence[label == 0], minlength=256)

    def merge(self, other: Self) -> None:
        """Add the counts of other frames; `UserError` for counts of another kind."""
        check_same_kind(other, self)
        self.road += other.road
        self.other += other.other

    def curve(self) -> RoadCurve:
        """Precision and recall at every threshold. What is not defined (no road pixel, no other pixel) is NaN."""
        positives, negatives = self.road.sum(), self.other.sum()
        true = positives - (np.cumsum(self.road) - self.road)  # of confidence k or more
        false = negatives - (np.cumsum(self.other) - self.other)
        recall = true / positives if positives else np.full(256, np.nan)
        rate = false / negatives if negatives else np.full(256, np.nan)
        precision = true / (true + false + _TINY)
        kept = ~((recall == 0) & (precision == 0))
        return RoadCurve(_THRESHOLDS[kept], precision[kept], recall[kept], rate[kept])

    def scores(self) -> dict[str, float]:
        """`MEASURES` as fractions; all NaN where no pixel is road, FPR NaN where every valid pixel is."""
        if not self.road.any():
            return dict.fromkeys(MEASURES, float("nan"))
        curve = self.curve()
        # the steps of np.arange as they are: 0.30000000000000004 is one of them
        levels = np.arange(0, 1.1, 0.1)
        f_measure = curve.f_measure
        best = int(f_measure.argmax())
        return {
            "MaxF": float(f_measure[best]),
            "AP": float(np.mean([curve.precision[curve.recall >= level].max() for level in levels])),
            "PRE": float(curve.precision[best]),
            "REC": float(curve.recall[best]),
            "FPR": float(curve.false_positive_rate[best]),
            "FNR": float(1 - curve.recall[best]),
            "threshold": float(curve.threshold[best]),
        }


def pooled(counts: Mapping[str, RoadCounts]) -> dict[str, RoadCounts]:
    """Counts by category and ground truth ("um_road", "um_lane", ...), with those of all roads as "urban_road"."""
    urban, found = RoadCounts(), dict(counts)
    roads = [part for name, part in counts.items() if name.endswith("_road")]
    for part in roads:
        urban.merge(part)
    return found | {"urban_road": urban} if roads else found


def road_scores(counts: Mapping[str, RoadCounts]) -> dict[str, dict[str, float]]:
    """The scores of each category, and of "urban_road", which pools the counts of the roads."""
    return {name: part.scores() for name, part in pooled(counts).items()}


def format_road_table(found: Mapping[str, Mapping[str, float]]) -> "Table":
    """The result of `road_scores` as a table for a terminal, in per cent but for the threshold."""
    from rich.table import Table

    table = Table()
    table.add_column("category")
    for measure in MEASURES:
        table.add_column(measure if measure == "threshold" else f"{measure} %", justify="right")
    for name, scores in found.items():
        cells = [_cell(measure, scores[measure]) for measure in MEASURES]
        table.add_row(name, *cells, style="bold" if name == "urban_road" else None)
    return table


def _cell(measure: str, value: float) -> str:
    if np.isnan(value):
        return "-"
    return f"{value:.3f}" if measure == "threshold" else f"{100 * value:.2f}"
