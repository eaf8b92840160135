"""LRR-4x: Laplacian pyramid reconstruction and refinement (Ghiasi and Fowlkes, ECCV 2016).

Each level gives coefficients by a 5x5 convolution, ten a class, and each class's map is their sum over that class's
fixed 8x8 bases, at four times the resolution. From coarse to fine, a level adds detail to the doubled scores of the
one before, but only where those have a boundary nearby:

    P_32 = R_32,  P_s = up2(P_2s) + M_s * R_s,  M_s = max9(softmax(up2 P_2s)) - min9(softmax(up2 P_2s))

Legend: N pictures, L classes, s the stride of the level's features. Worked example, VGG-16, 1x3x512x1024, L = 19:

| level s | features | coefficients | R_s, P_s | compared with labels at |
|---|---|---|---|---|
| 32 | fc7 1x4096x16x32 | 1x190x16x32 | 1x19x64x128 | 1/8 |
| 16 | conv5_3 1x512x32x64 | 1x190x32x64 | 1x19x128x256 | 1/4 |
| 8 | conv4_3 1x512x64x128 | 1x190x64x128 | 1x19x256x512 | 1/2 |
| 4 | conv3_3 1x256x128x256 | 1x190x128x256 | 1x19x512x1024 | 1 |

Training adds to the loss on P_4 those on the three coarser levels, and two logistic ones at level 32: whether a class
is within 32 pixels (dilation), and whether nothing else is (erosion), from coefficients of their own. The release
trains level 32 alone first (`lrr32x`), then all. Of its details this differs in two: the dilated and eroded masks are
made on the grid of 8 pixels, and what is unlabelled counts for neither (the release takes it for background).
"""

from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ducseg.classes import IGNORE
from ducseg.models.comparisons.class_bases import BASES, SIZE, class_bases, cosine_bases
from ducseg.models.encoder import NamedEncoder
from ducseg.models.vgg import FullyConvolutional, Vgg
from ducseg.ops.duc import downsample_labels

__all__ = ["Lrr", "boundary_mask", "dilated_and_eroded"]

LEVELS, FEATURES = (32, 16, 8, 4), ("res4", "res3", "res2")
"""Strides of the features, coarsest first; the encoder's maps for all but the first, which is fc7."""

_UP, _NEAR, _RADIUS = 4, 9, 32


class _Reconstruction(nn.Module):
    """Features (N, c, h, w) to class maps (N, L, 4h, 4w): a 5x5 convolution to coefficients, times fixed bases."""

    bases: Tensor

    def __init__(self, in_channels: int, num_classes: int, *, bias: bool = False) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.coefficients = nn.Conv2d(in_channels, BASES * num_classes, 5, padding=2)
        nn.init.zeros_(self.coefficients.weight)
        nn.init.zeros_(cast(Tensor, self.coefficients.bias))
        self.register_buffer("bases", cosine_bases(num_classes).view(-1, 1, SIZE, SIZE))
        self.bias = nn.Parameter(torch.full((num_classes,), -1.0)) if bias else None
        if self.bias is not None:
            with torch.no_grad():
                self.bias[0] = 1  # the background

    def forward(self, features: Tensor) -> Tensor:
        coefficients = self.coefficients(features)
        padding = (SIZE - _UP) // 2
        return F.conv_transpose2d(coefficients, self.bases, self.bias, _UP, padding, groups=self.num_classes)


class _Doubling(nn.Module):
    """(N, L, h, w) to (N, L, 2h, 2w): a fixed bilinear transposed convolution, zeros beyond the border."""

    kernel: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        tent = torch.tensor([0.25, 0.75, 0.75, 0.25])
        self.register_buffer("kernel", torch.outer(tent, tent).repeat(num_classes, 1, 1, 1))

    def forward(self, scores: Tensor) -> Tensor:
        return F.conv_transpose2d(scores, self.kernel, None, 2, 1, groups=len(self.kernel))


def boundary_mask(scores: Tensor, side: int = _NEAR) -> Tensor:
    """Where each class's probability changes within side x side places, 0 to 1: (N, L, h, w) to the same."""
    probabilities = scores.softmax(1)
    most = F.max_pool2d(probabilities, side, 1, side // 2)
    return most + F.max_pool2d(-probabilities, side, 1, side // 2)


def dilated_and_eroded(labels: Tensor, num_classes: int, radius: int) -> tuple[Tensor, Tensor]:
    """Per class: whether a place within `radius` has it, and whether none within `radius` lacks it.

    Args:
        labels: uint8 (N, h, w); what is no class lacks them all, what is outside neither has nor lacks one.
        radius: of a disk, in places.

    Returns:
        Two bool (N, L, h, w).
    """
    steps = torch.arange(-radius, radius + 1, device=labels.device)
    disk = (steps[:, None] ** 2 + steps**2 <= radius**2).float()[None, None]
    member = labels[:, None] == torch.arange(num_classes, device=labels.device).view(1, -1, 1, 1)

    def touched(maps: Tensor) -> Tensor:
        found = F.conv2d(maps.float().flatten(0, 1)[:, None], disk, padding=radius) > 0.5
        return found[:, 0].unflatten(0, maps.shape[:2])  # type: ignore[no-untyped-call, no-any-return]

    return touched(member), ~touched(~member)


class Lrr(nn.Module):
    """VGG-16's fc6 and fc7, four levels of reconstruction, and the two objectives beside them.

    Args:
        encoder: VGG-16 at output stride 32.
        num_classes: L.
        finest: the last level's stride: 4, or 32, as the release begins: level 32 alone.

    Attributes:
        grid_stride: 1: one score a pixel; of level 32, 8.
        factor: 1.
        fitted: 1 where the bases are those of masks (`fit_to_masks`); kept with the weights.
    """

    takes_intermediates, runs_encoder, factor = False, True, 1
    fitted: Tensor

    def __init__(self, encoder: NamedEncoder, num_classes: int, *, finest: int = 4) -> None:
        super().__init__()
        assert isinstance(encoder, Vgg), "Architecture.conflicts reports this"
        assert finest in LEVELS
        self.num_classes, self.grid_stride, hidden = num_classes, finest // _UP, 64 * encoder.width
        levels = LEVELS[: LEVELS.index(finest) + 1]
        self.classifier = FullyConvolutional(encoder.out_channels, hidden, padding=3)
        channels = (hidden, *(encoder.channels[name] for name in FEATURES))
        self.levels = nn.ModuleDict({str(s): _Reconstruction(c, num_classes) for s, c in zip(levels, channels)})
        self.doublings = nn.ModuleDict({str(s): _Doubling(num_classes) for s in levels[:-1]})
        self.dilation = _Reconstruction(hidden, num_classes, bias=True)
        self.erosion = _Reconstruction(hidden, num_classes, bias=True)
        self.register_buffer("fitted", torch.zeros((), dtype=torch.int64))

    def fit_to_masks(self, masks: Iterable[NDArray[np.uint8]]) -> None:
        """Take the bases from the masks of the training pictures, uint8 (H, W)."""
        bases = class_bases(masks, self.num_classes).view(-1, 1, SIZE, SIZE)
        for module in self.modules():
            if isinstance(module, _Reconstruction):
                module.bases.copy_(bases)
        self.fitted.fill_(1)

    def forward(self, images: Tensor, encoder: NamedEncoder) -> Tensor:
        """Images (N, C, H, W), H and W multiples of 32, to scores (N, L, 1, H, W), of level 32 (N, L, 1, H/8, W/8)."""
        return self.pyramid(self._features(images, encoder))[-1].unsqueeze(2)

    def pyramid(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features (N, c, H/s, W/s) of the levels, coarsest first, to their scores P_s (N, L, 4 H/s, 4 W/s)."""
        details = [level(of_level) for level, of_level in zip(self.levels.values(), features)]
        found = details[:1]
        for double, detail in zip(self.doublings.values(), details[1:]):
            doubled = double(found[-1])
            found.append(doubled + boundary_mask(doubled) * detail)
        return found

    def supervised(self, images: Tensor, encoder: NamedEncoder) -> tuple[Tensor, ...]:
        """The scores, those of the coarser levels, and those of dilation and erosion (N, L, H/8, W/8)."""
        features = self._features(images, encoder)
        *coarser, scores = self.pyramid(features)
        return scores.unsqueeze(2), *coarser, self.dilation(features[0]), self.erosion(features[0])

    def extra_loss(self, extras: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Cross-entropy of each coarser level, and the two logistic losses, summed over classes: means over places."""
        *coarser, dilation, erosion = extras
        total = labels.new_zeros((), dtype=torch.float32)
        for stride, scores in zip(LEVELS, coarser):
            sampled = downsample_labels(labels, stride // _UP)
            losses = F.cross_entropy(scores.float(), sampled.long(), ignore_index=IGNORE, reduction="sum")
            total = total + losses / (sampled != IGNORE).sum().clamp_min(1)
        sampled = downsample_labels(labels, LEVELS[0] // _UP)
        valid = (sampled != IGNORE)[:, None]
        for logits, wanted in zip(
            (dilation, erosion), dilated_and_eroded(sampled, self.num_classes, _RADIUS * _UP // LEVELS[0])
        ):
            losses = F.binary_cross_entropy_with_logits(logits.float(), wanted.float(), reduction="none")
            total = total + (losses * valid).sum() / valid.sum().clamp_min(1)
        return total

    def _features(self, images: Tensor, encoder: NamedEncoder) -> list[Tensor]:
        maps = encoder.intermediates(images)
        return [self.classifier(maps["res5"]), *(maps[name] for name in FEATURES)]
