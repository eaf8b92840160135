"""Losses in folded space: the big unfolded score map is never made (paper section 3.1), but for clDice.

Legend: N pictures, L classes, d output stride, r = grid stride / cell, h w places on the head's grid.
Labels 1x512x1024 with d = 8, cell = 1: folded to 1x64x64x128 against scores 1x19x64x64x128.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ducseg.classes import IGNORE
from ducseg.errors import explain
from ducseg.ops.duc import downsample_labels, fold_labels, unfold
from ducseg.train.region_losses import (
    centreline_loss,
    centreline_sums,
    from_all_sums,
    lovasz_loss,
    overlap_sums,
    tversky_loss,
)
from ducseg.train.sections import LossConfig

__all__ = ["FoldedLoss", "auto_class_weights", "fold_targets", "pad_labels"]


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
    return fold_labels(downsample_labels(pad_labels(labels, output_stride), cell), factor)


def pad_labels(labels: Tensor, output_stride: int) -> Tensor:
    """Labels (N, H, W) with 255 right and below, to multiples of the output stride; of true and false uint8 is made."""
    labels = labels.byte() if labels.dtype == torch.bool else labels
    height, width = labels.shape[-2:]
    return F.pad(labels, (0, -width % output_stride, 0, -height % output_stride), value=IGNORE)


def _of_one_rank(sums: Tensor) -> Tensor:  # no lambda: a loss can be pickled
    return sums


class FoldedLoss:
    """The losses of a configuration as one sum, and what to divide it by.

    The division is left to the caller, who first sums both over ranks and accumulation steps, so that every valid
    pixel of an optimizer step weighs the same wherever it was computed (PROTOCOL section 4). Losses of regions are
    those of one micro-batch over all ranks (Lovasz: the mean over the ranks' own), then the mean over micro-batches.

    Args:
        classes: their names.
        reduce: sums a tensor over all ranks in place.

    Raises:
        UserError: another number of class weights, a name that is no class.
    """

    def __init__(
        self,
        config: LossConfig,
        classes: Sequence[str],
        device: torch.device | str = "cpu",
        *,
        reduce: Callable[[Tensor], Tensor] = _of_one_rank,
        world_size: int = 1,
    ) -> None:
        self._config, self._reduce, self._world_size = config, reduce, world_size
        self._weight: Tensor | None = None
        self._value = torch.ones(IGNORE + 1, dtype=torch.float64)  # weight of each label value, on the host
        if config.class_weights is not None:
            weights = _weights_tensor(config.class_weights, len(classes))
            self._weight, self._value[: len(classes)] = weights.to(device), weights
        self._value[IGNORE] = 0
        self._thin = _thin_classes(config.cldice_classes, classes)

    def count(self, labels: Tensor) -> Tensor:
        """Of labels uint8 on the CPU: float64 (valid pixels, the sum of their classes' weights)."""
        counts = torch.bincount(labels.flatten(), minlength=IGNORE + 1).double()
        return torch.stack([counts[:IGNORE].sum(), (counts * self._value).sum()])

    def __call__(self, scores: Tensor, targets: Tensor, *, region_scale: float = 1.0) -> tuple[Tensor, Tensor]:
        """Loss sum and normaliser of one micro-batch.

        Args:
            scores: folded (N, L, r*r, h, w), any float type; computed in float32 at least.
            targets: folded uint8 (N, r*r, h, w), 255 ignored.
            region_scale: by what losses of regions are multiplied, for what the sum will be divided by.

        Returns:
            (sum, normaliser), scalars: the normaliser is the number of valid pixels; with class weights the sum of
            their weights (torch's convention); with OHEM over the kept pixels only. No pixel counts: (0, 0).
        """
        config, wide = self._config, targets.long()
        scores = scores if scores.dtype == torch.float64 else scores.float()
        weights = self._weights(targets, wide)
        if config.ohem_threshold is None and not config.focal and not config.of_regions:
            total = F.cross_entropy(scores, wide, self._as(scores), ignore_index=IGNORE, reduction="sum")
            return total * config.cross_entropy, weights.sum()
        losses = F.cross_entropy(scores, wide, ignore_index=IGNORE, reduction="none")
        if config.ohem_threshold is not None:
            weights = weights * self._hardest(losses.detach(), weights > 0, config.ohem_threshold)
        total = config.cross_entropy * (losses * weights).sum()
        if config.focal:
            unsure = (1 - (-losses).exp()).clamp(min=0) ** config.focal_gamma
            total = total + config.focal * (unsure * losses * weights).sum()
        if config.of_regions:
            total = total + region_scale * self._regions(scores.softmax(1), targets)
        return total, weights.sum()

    def _regions(self, probabilities: Tensor, targets: Tensor) -> Tensor:
        """This rank's part of the weighted losses of regions: the ranks' parts add up to them."""
        config, total = self._config, probabilities.new_zeros(())
        if config.dice or config.tversky:
            sums = overlap_sums(probabilities, targets)
            if config.dice:
                total = total + config.dice * self._of_all(sums, partial(tversky_loss, alpha=0.5, beta=0.5))
            if config.tversky:
                weighted = partial(tversky_loss, alpha=config.tversky_alpha, beta=config.tversky_beta)
                total = total + config.tversky * self._of_all(sums, weighted)
        if config.lovasz:
            total = total + config.lovasz * lovasz_loss(probabilities, targets) / self._world_size
        if config.cldice:
            maps, truth = unfold(probabilities), unfold(targets[:, None])[:, 0]
            sums = centreline_sums(maps, truth, self._thin, iterations=config.cldice_iterations)
            total = total + config.cldice * self._of_all(sums, centreline_loss)
        return total

    def _of_all(self, sums: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
        return from_all_sums(sums, loss, self._reduce, self._world_size)

    def _as(self, scores: Tensor) -> Tensor | None:
        return None if self._weight is None else self._weight.to(scores.dtype)

    def _weights(self, targets: Tensor, wide: Tensor) -> Tensor:
        """Each pixel's weight, 0 for ignored ones."""
        valid = targets != IGNORE
        return valid.float() if self._weight is None else self._weight[wide * valid] * valid

    def _hardest(self, losses: Tensor, counting: Tensor, threshold: float) -> Tensor:
        """Which counting pixels have at least the threshold's loss, or are of the hardest share where those are fewer.

        The device decides alone: no number travels to the host.
        """
        if not losses.numel():
            return counting
        losses = torch.where(counting, losses, -1.0)
        fewest = (counting.sum() * self._config.ohem_min_fraction).long().clamp(min=1)
        bound = losses.flatten().sort(descending=True).values.gather(0, fewest.sub(1)[None])
        return counting & (losses >= bound.clamp(max=-math.log(threshold)))


def auto_class_weights(pixels: Sequence[int]) -> tuple[float, ...]:
    """1 / log(1.1 + share) of classes with so many pixels each, with mean 1 over the pixels.

    Examples:
        >>> [round(weight, 2) for weight in auto_class_weights([98, 2])]
        [0.94, 4.08]
    """
    shares = [count / sum(pixels) for count in pixels]
    weights = [1 / math.log(1.1 + share) for share in shares]
    mean = sum(weight * share for weight, share in zip(weights, shares))
    return tuple(weight / mean for weight in weights)


def _weights_tensor(weights: tuple[float, ...] | str, num_classes: int) -> Tensor:
    assert not isinstance(weights, str), "auto is resolved before"
    if len(weights) != num_classes:
        raise explain(
            "--loss.class-weights",
            found=f"{len(weights)} weights",
            needed=f"{num_classes}, one a class",
            fix="Give them in the order of the class list.",
        )
    return torch.tensor(weights, dtype=torch.float32)


def _thin_classes(names: tuple[str, ...], classes: Sequence[str]) -> list[int]:
    unknown = [name for name in names if name not in classes]
    if unknown:
        raise explain(
            "--loss.cldice-classes", found=", ".join(unknown), needed=f"some of {', '.join(classes)}", fix="Correct it."
        )
    return [classes.index(name) for name in names] or list(range(1, len(classes))) or [0]
