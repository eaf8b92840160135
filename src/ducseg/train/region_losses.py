"""Losses of regions: Dice, Tversky, Lovasz and clDice.

Legend: L classes, P pixels. Probabilities (N, L, ...) and targets uint8 (N, ...), 255 ignored, in any order of pixels:
all but clDice are sums over pixels, so folded space is exact; clDice needs neighbours, so the map as it lies.
A class counts where the truth has a pixel of it; their mean is the loss.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ducseg.classes import IGNORE

__all__ = [
    "centreline_loss",
    "centreline_sums",
    "from_all_sums",
    "lovasz_loss",
    "overlap_sums",
    "soft_skeleton",
    "tversky_loss",
]


def overlap_sums(probabilities: Tensor, targets: Tensor) -> Tensor:
    """(3, L): of each class the probability on its own pixels, on all valid pixels, and the number of its pixels."""
    dtype = torch.uint8 if targets.dtype == torch.bool else targets.dtype
    classes = torch.arange(probabilities.shape[1], dtype=dtype, device=targets.device)
    truth = targets[:, None] == classes.view(-1, *[1] * (targets.dim() - 1))
    everywhere = probabilities * (targets != IGNORE)[:, None]
    # summed by torch, in pairs: one float32 after the other would stop growing at 2^24 pixels, and round long before
    own, everywhere, pixels = (
        values.transpose(0, 1).flatten(1).sum(1) for values in (probabilities * truth, everywhere, truth)
    )
    return torch.stack([own, everywhere, pixels.to(own)])


def tversky_loss(sums: Tensor, *, alpha: float, beta: float) -> Tensor:
    """1 - TP / (TP + alpha FP + beta FN) of `overlap_sums`, the mean over classes (Salehi et al. 2017).

    alpha = beta = 1/2 is Dice (Milletari et al. 2016, without squares).
    """
    own, everywhere, pixels = sums
    present = pixels > 0
    whole = own + alpha * (everywhere - own) + beta * (pixels - own)
    return _mean(1 - own / torch.where(present, whole, 1.0), present)


def lovasz_loss(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Lovasz-softmax (Berman et al., CVPR 2018) over all these pixels at once; sorts them once for each class."""
    valid = targets != IGNORE
    losses, present = [], []
    for index, probability in enumerate(probabilities.unbind(1)):
        truth = (targets == index).to(probability.dtype).flatten()
        errors = ((truth - probability.flatten()).abs() * valid.flatten()).sort(descending=True)  # ignored: error 0
        truth = truth[errors.indices]
        union = truth.sum() + (1 - truth).cumsum(0)
        jaccard = 1 - (truth.sum() - truth.cumsum(0)) / union
        losses.append(torch.dot(errors.values, torch.cat([jaccard[:1], jaccard.diff()])))
        present.append(truth.sum() > 0)
    return _mean(torch.stack(losses), torch.stack(present))


def centreline_sums(probabilities: Tensor, targets: Tensor, classes: list[int], *, iterations: int) -> Tensor:
    """(4, C) of the chosen classes, on maps (N, L, H, W) and (N, H, W), ignored pixels taken as empty.

    Of the prediction's soft skeleton what lies on the truth, and all of it; of the truth's what lies on the prediction,
    and all of it.
    """
    valid = (targets != IGNORE)[:, None]
    found = torch.stack([probabilities[:, index] for index in classes], 1) * valid  # a list would wait for the device
    truth = torch.stack([targets == index for index in classes], 1).to(found.dtype)
    with torch.no_grad():
        skeleton_of_truth = soft_skeleton(truth, iterations)
    skeleton = soft_skeleton(found, iterations)
    parts = (skeleton * truth, skeleton, skeleton_of_truth * found, skeleton_of_truth)
    return torch.stack([part.sum((0, 2, 3)) for part in parts])


def centreline_loss(sums: Tensor) -> Tensor:
    """1 - clDice of `centreline_sums` (Shit et al., CVPR 2021), the mean over classes; 1 is added to sums as there."""
    on_truth, skeleton, on_found, skeleton_of_truth = sums
    precision, sensitivity = (on_truth + 1) / (skeleton + 1), (on_found + 1) / (skeleton_of_truth + 1)
    return _mean(1 - 2 * precision * sensitivity / (precision + sensitivity), skeleton_of_truth > 0)


def soft_skeleton(maps: Tensor, iterations: int) -> Tensor:
    """The soft skeleton of maps (N, C, H, W) in 0..1 (algorithm 1 there); `iterations` at least the largest radius."""
    skeleton = F.relu(maps - _opened(maps))
    for _ in range(iterations):
        maps = _eroded(maps)
        left = F.relu(maps - _opened(maps))
        skeleton = skeleton + F.relu(left - skeleton * left)
    return skeleton


def _eroded(maps: Tensor) -> Tensor:
    return torch.minimum(-F.max_pool2d(-maps, (3, 1), 1, (1, 0)), -F.max_pool2d(-maps, (1, 3), 1, (0, 1)))


def _opened(maps: Tensor) -> Tensor:
    return F.max_pool2d(_eroded(maps), 3, 1, 1)


def _mean(losses: Tensor, present: Tensor) -> Tensor:
    return (losses * present).sum() / present.sum().clamp(min=1)


def from_all_sums(
    sums: Tensor, loss: Callable[[Tensor], Tensor], reduce: Callable[[Tensor], Tensor], world_size: int
) -> Tensor:
    """`loss` of the sums over all ranks, so that the ranks' values and gradients add up to its value and gradient.

    Args:
        sums: of this rank's pixels, with their graph.
        reduce: sums a tensor over ranks in place.
    """
    value = loss(reduce(sums.detach().clone()) + (sums - sums.detach()))
    return value - value.detach() * (1 - 1 / world_size)
