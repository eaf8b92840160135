"""DeepLabv2 (Chen et al. 2017, arXiv 1606.00915): stride 8 by atrous convolutions, ASPP, three scales.

ASPP is n branches side by side at rates 6, 12, 18, 24, summed. On a ResNet a branch is one 3x3 convolution to the L
classes with a bias, from N(0, 0.01): the head of our bilinear baseline. On VGG-16 it is fc6 (3x3 at the rate, 1024
channels), fc7 (1x1) and fc8 (1x1), and the poolings have 3x3. Multi-scale inputs: the same network sees the picture at
1, 0.75 and 0.5 of its size; its scores are the maximum, place by place, and training adds the cross-entropy of each
scale's own scores, with labels of that size, to that of the maximum. The dense CRF comes after (`--crf`), with
parameters of its own (docs/comparisons.md).

| worked example, ResNet-101, 1x3x512x1024, L = 21 | features | scores |
|---|---|---|
| at 1 | 1x2048x64x128 | 1x21x64x128 |
| at 0.75: 384x768 | 1x2048x48x96 | 1x21x48x96, resized to 64x128 |
| at 0.5: 256x512 | 1x2048x32x64 | 1x21x32x64, resized to 64x128 |
| maximum | | 1x21x1x64x128, resized by 8 like the bilinear baseline's |

A scaled size is rounded up to whole places of the grid, so that the grids stay aligned. Source: kazuto1011's port,
deeplab-pytorch, libs/models/{deeplabv2,msc}.py and libs/models/resnet.py.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ducseg.classes import IGNORE
from ducseg.models.encoder import NamedEncoder
from ducseg.models.vgg import FullyConvolutional, Vgg
from ducseg.ops.summed import summed_convolutions

__all__ = ["DeepLabV2"]

_QUARTERS = (3, 2)
"""Of the picture's size, besides the whole: 0.75 and 0.5."""


class _VggBranch(nn.Module):
    def __init__(self, encoder: Vgg, num_classes: int, rate: int) -> None:
        super().__init__()
        hidden = 16 * encoder.width
        self.classifier = FullyConvolutional(encoder.out_channels, hidden, kernel_size=3, rate=rate, padding=rate)
        self.fc8 = nn.Conv2d(hidden, num_classes, 1)
        nn.init.normal_(self.fc8.weight, std=0.01)
        nn.init.zeros_(cast(Tensor, self.fc8.bias))

    def forward(self, features: Tensor) -> Tensor:
        scores: Tensor = self.fc8(self.classifier(features))
        return scores


class DeepLabV2(nn.Module):
    """ASPP on the last map, at one scale or three.

    Args:
        encoder: at output stride 8, or another.
        num_classes: L.
        aspp: number of branches; 4 in the published network. 0: one at rate 1.
        multi_scale: whether the picture is also seen at 0.75 and 0.5.

    Attributes:
        grid_stride: the encoder's output stride d; factor: 1.
    """

    takes_intermediates, runs_encoder, factor = False, True, 1

    def __init__(self, encoder: NamedEncoder, num_classes: int, *, aspp: int = 4, multi_scale: bool = True) -> None:
        super().__init__()
        self.grid_stride, self.multi_scale = encoder.output_stride, multi_scale
        rates = [6 * (branch + 1) for branch in range(aspp)] or [1]
        self.on_vgg = isinstance(encoder, Vgg)
        if isinstance(encoder, Vgg):
            self.branches = nn.ModuleList(_VggBranch(encoder, num_classes, rate) for rate in rates)
            return
        self.branches = nn.ModuleList(
            nn.Conv2d(encoder.out_channels, num_classes, 3, padding=rate, dilation=rate) for rate in rates
        )
        for branch in self.branches:
            nn.init.normal_(cast(Tensor, branch.weight), std=0.01)
            nn.init.zeros_(cast(Tensor, branch.bias))

    def extra_repr(self) -> str:
        return f"multi_scale={self.multi_scale}"

    def forward(self, images: Tensor, encoder: NamedEncoder) -> Tensor:
        """Images (N, C, H, W), H and W multiples of d, to scores (N, L, 1, H/d, W/d)."""
        return self.supervised(images, encoder)[0]

    def supervised(self, images: Tensor, encoder: NamedEncoder) -> tuple[Tensor, ...]:
        """The maximum as folded scores, then the scores (N, L, ., .) of each scale; of one scale, those alone."""
        whole = self._scores(encoder(images))
        if not self.multi_scale:
            return (whole.unsqueeze(2),)
        d, (height, width) = self.grid_stride, images.shape[-2:]
        scales = [whole]
        for quarters in _QUARTERS:
            size = [(side // d * quarters + 3) // 4 * d for side in (height, width)]
            smaller = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
            scales.append(self._scores(encoder(smaller)))
        alike = [F.interpolate(one, size=whole.shape[-2:], mode="bilinear", align_corners=False) for one in scales[1:]]
        return (torch.stack([whole, *alike]).amax(0).unsqueeze(2), *scales)

    def _scores(self, features: Tensor) -> Tensor:
        if not self.on_vgg:
            return summed_convolutions([cast(nn.Conv2d, branch) for branch in self.branches], features)
        return torch.stack([branch(features) for branch in self.branches]).sum(0)

    def extra_loss(self, extras: Sequence[Tensor], labels: Tensor) -> Tensor:
        """The mean cross-entropy of each scale's scores with the labels of its size, summed."""
        total = labels.new_zeros((), dtype=torch.float32)
        for scores in extras:
            wanted = F.interpolate(labels[:, None].float(), size=scores.shape[-2:], mode="nearest-exact")[:, 0].long()
            losses = F.cross_entropy(scores.float(), wanted, ignore_index=IGNORE, reduction="sum")
            total = total + losses / (wanted != IGNORE).sum().clamp(min=1)
        return total
