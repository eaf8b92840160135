"""Cross-entropy in folded space: the big unfolded score map is never made (paper section 3.1).

Legend: N pictures, L classes, d output stride, r = grid stride / cell, h w places on the head's grid.
Labels 1x512x1024 with d = 8, cell = 1: folded to 1x64x64x128 against scores 1x19x64x64x128.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ducseg.classes import IGNORE
from ducseg.errors import explain
from ducseg.ops.duc import downsample_labels, fold_labels
from ducseg.train.config import LossConfig

__all__ = ["FoldedCrossEntropy", "fold_targets"]


def fold_targets(labels: Tensor, *, output_stride: int, cell: int, factor: int) -> Tensor:
    """Bring labels to the space of `Segmenter.folded`: pad to a multiple of d with 255, downsample by cell, fold by r.

    Args:
        labels: uint8 (N, H, W), 255 ignored.
        output_stride: d, in pixels.
        cell: label pixels per predicted place along one side: 1 or 2 for DUC, d for the bilinear baseline.
        factor: r, predicted places per grid place along one side: d / cell for DUC, 1 for the baseline.

    Returns:
        uint8 (N, r*r, h, w).
    """
    height, width = labels.shape[-2:]
    padded = F.pad(labels, (0, -width % output_stride, 0, -height % output_stride), value=IGNORE)
    return fold_labels(downsample_labels(padded, cell), factor)


class FoldedCrossEntropy:
    """Sum of the pixels' cross-entropies, and what to divide it by.

    The division is left to the caller, who first sums both over ranks and accumulation steps, so that every valid
    pixel of an optimizer step weighs the same wherever it was computed (PROTOCOL section 4).
    """

    def __init__(self, config: LossConfig, num_classes: int, device: torch.device | str = "cpu") -> None:
        if config.class_weights is not None and len(config.class_weights) != num_classes:
            raise explain(
                "--loss.class-weights",
                found=f"{len(config.class_weights)} weights",
                needed=f"{num_classes}, one a class",
                fix="Give them in the order of the class list.",
            )
        self._weight: Tensor | None = None
        self._learns = torch.ones(IGNORE + 1, dtype=torch.float64)  # by label value, on the host
        if config.class_weights is not None:
            self._weight = torch.tensor(config.class_weights, dtype=torch.float32, device=device)
            self._learns[:num_classes] = (self._weight > 0).double().cpu()
        self._learns[IGNORE] = 0
        self._ohem_threshold = config.ohem_threshold
        self._ohem_min_fraction = config.ohem_min_fraction

    def count(self, labels: Tensor) -> Tensor:
        """Of labels uint8 on the CPU: float64 (valid pixels, those of a class with a weight above 0)."""
        counts = torch.bincount(labels.flatten(), minlength=IGNORE + 1).double()
        return torch.stack([counts[:IGNORE].sum(), (counts * self._learns).sum()])

    def __call__(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Loss sum and normaliser of one micro-batch.

        Args:
            scores: folded (N, L, r*r, h, w), any float type; computed in float32.
            targets: folded uint8 (N, r*r, h, w), 255 ignored.

        Returns:
            (sum, normaliser), float32 scalars: the normaliser is the number of valid pixels; with class weights the
            sum of their weights (torch's convention); with OHEM over the kept pixels only. No pixel counts: (0, 0).
        """
        scores, wide = scores.float(), targets.long()
        if self._ohem_threshold is None:
            total = F.cross_entropy(scores, wide, self._weight, ignore_index=IGNORE, reduction="sum")
            return total, self._weights(targets, wide).sum()
        losses = F.cross_entropy(scores, wide, ignore_index=IGNORE, reduction="none")
        weights = self._weights(targets, wide)
        weights = weights * self._hardest(losses.detach(), weights > 0, self._ohem_threshold)
        return (losses * weights).sum(), weights.sum()

    def _weights(self, targets: Tensor, wide: Tensor) -> Tensor:
        """Each pixel's weight, 0 for ignored ones."""
        valid = targets != IGNORE
        return valid.float() if self._weight is None else self._weight[wide * valid] * valid

    def _hardest(self, losses: Tensor, counting: Tensor, threshold: float) -> Tensor:
        """Which counting pixels have at least the threshold's loss, or are of the hardest share where those are fewer.

        The device decides alone: no number travels to the host.
        """
        losses = torch.where(counting, losses, -1.0)
        fewest = (counting.sum() * self._ohem_min_fraction).long().clamp(min=1)
        bound = losses.flatten().sort(descending=True).values[fewest - 1]
        return counting & (losses >= bound.clamp(max=-math.log(threshold)))

    def __repr__(self) -> str:
        state: dict[str, Any] = {"weights": self._weight, "ohem_threshold": self._ohem_threshold}
        return f"FoldedCrossEntropy({state})"
