"""Scores of how a probability ranks pixels, from histograms: no threshold is chosen beforehand."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["ranking_scores"]


def ranking_scores(others: NDArray[np.int64], own: NDArray[np.int64]) -> dict[str, float]:
    """Scores of one class against the others.

    Args:
        others, own: pixels of the other classes and of the class, int64 (bins,), by its probability, ascending; bin k
            holds k / bins to (k + 1) / bins.

    Returns:
        "auc": area under the ROC curve, the chance that a pixel of the class has the higher probability (equal: half);
        "average_precision": mean of the precision at each threshold, weighted by the recall it adds; "best_threshold":
        k / bins with the highest Dice where the class is what is at least that probable (of several, the lowest);
        "best_dice". NaN where a class has no pixel or the others none (Dice and threshold: only the former).
    """
    positives, negatives = int(own.sum()), int(others.sum())
    if not positives:
        return dict.fromkeys(("auc", "average_precision", "best_threshold", "best_dice"), float("nan"))
    hits = own[::-1].cumsum()[::-1]  # at threshold k / bins: pixels of the class at least so probable
    alarms = others[::-1].cumsum()[::-1]
    below = others.cumsum() - others
    chances = (own.astype(np.float64) * (2 * below + others)).sum() / 2
    dice = 2 * hits / (hits + alarms + positives)
    best = int(dice.argmax())
    precision = hits / np.maximum(hits + alarms, 1)
    return {
        "auc": float(chances / positives / negatives) if negatives else float("nan"),
        "average_precision": float((precision * own).sum() / positives),
        "best_threshold": best / len(own),
        "best_dice": float(dice[best]),
    }
