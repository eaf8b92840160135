"""Deep G-CRF: a Gaussian conditional random field on a network's scores (Chandra and Kokkinos, ECCV 2016).

One stream gives a score of each class at each place, a second network, with weights of its own, one number for each
pair of places side by side: how much they pull at each other, the same for all classes (Potts). The most probable
field of a Gaussian model is the solution of one linear system a class,

    (I + W / 10) x_k = B_k - sum_i B_i / (L - 1)

with B the scores and W the symmetric matrix of the pairs; the release solves it twice, x taking B's place. Conjugate
gradients need no matrix, and gradients come from the same system (`ducseg.ops.neighbour_system`).

Legend: N pictures, L classes, d the output stride. Worked example, ResNet-101, d = 8, L = 21, 1x3x512x512: unary
scores of DeepLabv2 (the maximum of its three scales) 1x21x64x64; the second ResNet's features 1x2048x64x64, by a 2x1
convolution to `vertical` 1x1x63x64, by a 1x2 one to `horizontal` 1x1x64x63; x 1x21x64x64, resized by 8.

Source: the authors' code, siddharthachandra/gcrf, test_rtf_release.prototxt and reduced_rtf_layer.cu. Where the release
leaves the system as it is and takes the scores if it is not solved, the diagonal here grows with the weights, so that
it always can be (the paper's lambda); where they are small it is 1, as there. The release's gradients to W are those
of the sums of the other classes; these here are the exact ones.
"""

import copy

import torch.nn.functional as F
from torch import Tensor, nn

from ducseg.models.comparisons.deeplabv2 import DeepLabV2
from ducseg.models.encoder import NamedEncoder
from ducseg.ops.neighbour_system import diagonal_for, solve_neighbours

__all__ = ["Gcrf", "gaussian_field"]

_SHARE, _MARGIN, _ROUNDS = 10, 0.1, 2


def gaussian_field(scores: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """The field x (N, L, h, w), float32 at least, of unary scores (N, L, h, w) and the pairs' weights.

    Args:
        scores: B.
        vertical, horizontal: (N, 1, h-1, w) and (N, 1, h, w-1), W's entries; negative ones pull places together.
    """
    if scores.dtype.itemsize < 4:
        scores, vertical, horizontal = scores.float(), vertical.float(), horizontal.float()
    vertical, horizontal = vertical / _SHARE, horizontal / _SHARE
    diagonal = diagonal_for(vertical, horizontal, margin=_MARGIN)
    for _ in range(_ROUNDS):
        right = scores - scores.sum(1, keepdim=True) / max(scores.shape[1] - 1, 1)
        scores = solve_neighbours(diagonal, vertical, horizontal, right)
    return scores


class Gcrf(DeepLabV2):
    """DeepLabv2 for the scores, a second encoder for the pairs, and the field of both, which alone is learned from.

    The pairs' convolutions start at zero, so that the field starts as the scores less their mean.

    Args:
        encoder: any; the second starts as its copy, and again where weights are loaded (`follow`).
        num_classes, aspp: of DeepLabv2, whose checkpoint is a start for this.
    """

    def __init__(self, encoder: NamedEncoder, num_classes: int, *, aspp: int = 4) -> None:
        super().__init__(encoder, num_classes, aspp=aspp)
        self.pairwise = copy.deepcopy(encoder)
        self.vertical = nn.Conv2d(encoder.out_channels, 1, (2, 1))
        self.horizontal = nn.Conv2d(encoder.out_channels, 1, (1, 2))
        for convolution in (self.vertical, self.horizontal):
            for parameter in convolution.parameters():
                nn.init.zeros_(parameter)

    def follow(self, encoder: NamedEncoder) -> None:
        """Start the second encoder as this one is, which has got weights."""
        self.pairwise.load_state_dict(encoder.state_dict())

    def supervised(self, images: Tensor, encoder: NamedEncoder) -> tuple[Tensor, ...]:
        """The field as folded scores (N, L, 1, H/d, W/d), H and W multiples of d; nothing else is learned from."""
        scores = super().supervised(images, encoder)[0][:, :, 0]
        features = self.pairwise(images)
        vertical = self.vertical(F.pad(features, (0, 0, 0, 1)))[..., :-1, :]  # h may be 1
        horizontal = self.horizontal(F.pad(features, (0, 1)))[..., :, :-1]
        return (gaussian_field(scores, vertical, horizontal).unsqueeze(2),)
