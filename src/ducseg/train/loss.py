"""Cross-entropy in folded space: the big unfolded score map is never made (paper section 3.1).

Legend: N pictures, L classes, d output stride, r = grid stride / cell, h w places on the head's grid.
Labels 1x512x1024 with d = 8, cell = 1: folded to 1x64x64x128 against scores 1x19x64x64x128.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ducseg.classes import IGNORE
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
            from ducseg.errors import explain

            raise explain(
                "--loss.class-weights",
                found=f"{len(config.class_weights)} weights",
                needed=f"{num_classes}, one a class",
                fix="Give them in the order of the class list.",
            )
        self._weight: Tensor | None = None
        if config.class_weights is not None:
            self._weight = torch.tensor(config.class_weights, dtype=torch.float32, device=device)
        self._ohem_threshold = config.ohem_threshold
        self._ohem_min_fraction = config.ohem_min_fraction

    def __call__(self, scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Loss sum and normaliser of one micro-batch.

        Args:
            scores: folded (N, L, r*r, h, w), any float type; computed in float32.
            targets: folded uint8 (N, r*r, h, w), 255 ignored.

        Returns:
            (sum, normaliser), float32 scalars: the normaliser is the number of valid pixels; with class weights the
            sum of their weights (torch's convention); with OHEM over the kept pixels only.
        """
        scores, wide = scores.float(), targets.long()
        if self._weight is None and self._ohem_threshold is None:
            total = F.cross_entropy(scores, wide, ignore_index=IGNORE, reduction="sum")
            return total, (targets != IGNORE).sum().float()
        valid = targets != IGNORE
        losses = F.cross_entropy(scores, wide, ignore_index=IGNORE, reduction="none")[valid]
        weights = torch.ones_like(losses) if self._weight is None else self._weight[wide[valid]]
        if self._ohem_threshold is not None:
            kept = self._hardest(losses.detach(), self._ohem_threshold)
            losses, weights = losses[kept], weights[kept]
        return (losses * weights).sum(), weights.sum()

    def _hardest(self, losses: Tensor, threshold: float) -> Tensor:
        """Indices of the pixels at or above the threshold's loss, or of the hardest share where those are fewer."""
        hard = losses >= -torch.log(torch.tensor(threshold, device=losses.device))
        fewest = int(losses.numel() * self._ohem_min_fraction)
        if int(hard.sum()) >= fewest:
            return hard.nonzero()[:, 0]
        return losses.topk(fewest).indices

    def __repr__(self) -> str:
        state: dict[str, Any] = {"weights": self._weight, "ohem_threshold": self._ohem_threshold}
        return f"FoldedCrossEntropy({state})"
