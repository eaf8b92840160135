"""A pyramid of dense upsampling convolutions: from features at several strides to every pixel, for thin objects.

Each step up is a 1x1 convolution to four times the channels and a shuffle (paper section 3.1, never zeros between, never
bilinear), joined with the encoder's features of the finer stride through a 1x1 convolution, then a 3x3 convolution. The
last step is DUC by 2 straight to pixels, so no convolution runs at full resolution, and training takes place in folded
space. Lateral features are not in the paper: they keep what is a few pixels wide, which one head on the last map loses.

Legend: N pictures, H W pixels, L classes, s stride. Worked example, MobileNetV2, L = 2, 1x3x512x512: features
1x16x256x256 (stride 2), 1x24x128x128 (4), 1x32x64x64 (8), 1x96x32x32 (16), 1x320x16x16 (32); steps to 1x96x32x32,
1x64x64x64, 1x48x128x128, 1x32x256x256; folded scores 1x2x4x256x256.

On one's own backbone, whose features (N, c, H/s, W/s) come in a list from fine to coarse, each half as large:

    head = DenseUpsamplingPyramid(channels=(16, 24, 32, 96, 320), num_classes=2)
    scores = unfold(head(features))                     # (N, L, H, W) where the first features have stride 2
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ducseg.errors import explain
from ducseg.ops.duc import DenseUpsampling

__all__ = ["DenseUpsamplingPyramid", "PyramidHead", "pyramid_widths"]

_WIDTHS = (32, 48, 64, 96, 128)
"""Channels after the step to the finest features, to the next coarser, ..."""


def pyramid_widths(steps: int) -> tuple[int, ...]:
    """Channels after each of so many steps, the finest first: (32, 48, 64, 96) for features at strides 2 to 32."""
    return _WIDTHS[:steps] + _WIDTHS[-1:] * (steps - len(_WIDTHS))


class _StepUp(nn.Module):
    """(N, c, h, w) and lateral features (N, c', 2h, 2w) to (N, out, 2h, 2w)."""

    def __init__(self, in_channels: int, lateral_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.Conv2d(in_channels, 4 * out_channels, 1, bias=False)
        self.lateral = nn.Conv2d(lateral_channels, out_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.conv = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.conv_norm = nn.BatchNorm2d(out_channels)
        for kernel in (self.lateral, self.conv):
            nn.init.kaiming_normal_(kernel.weight)
        _start_as_nearest_neighbour(self.up, factor=2)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        x = F.relu(self.norm(F.pixel_shuffle(self.up(coarse), 2) + self.lateral(fine)))
        return F.relu(self.conv_norm(self.conv(x)))


@torch.no_grad()
def _start_as_nearest_neighbour(conv: nn.Conv2d, factor: int) -> None:
    """The r*r kernels of each shuffled channel start equal, so that no checkerboard is there to be unlearned.

    Aitken et al. 2017 (arXiv 1707.02937).
    """
    kernel = torch.empty_like(conv.weight[:: factor**2])
    nn.init.kaiming_normal_(kernel)
    conv.weight.copy_(kernel.repeat_interleave(factor**2, 0))


class DenseUpsamplingPyramid(nn.Module):
    """Features of several strides, each half as large as the one before, to folded scores at twice the finest's size.

    Args:
        channels: of the features, from fine to coarse; at least two.
        num_classes: L.
        widths: channels after each step, the finest first, one fewer than `channels`; None: `pyramid_widths`.

    Attributes:
        factor: 2.

    Raises:
        UserError: fewer than two features, widths that do not fit them, a size below 1.
    """

    factor = 2

    def __init__(self, channels: Sequence[int], num_classes: int, *, widths: Sequence[int] | None = None) -> None:
        super().__init__()
        steps = len(channels) - 1
        widths = tuple(pyramid_widths(max(steps, 0)) if widths is None else widths)
        if steps < 1 or len(widths) != steps or min(*channels, *widths, num_classes) < 1:
            raise explain(
                "DenseUpsamplingPyramid",
                found=f"channels {tuple(channels)}, widths {widths}, {num_classes} classes",
                needed="at least two features, one width fewer, all sizes at least 1",
                fix="For example channels=(16, 24, 32, 96, 320), widths=(32, 48, 64, 96).",
            )
        ins = (*widths[1:], channels[-1])
        self.steps = nn.ModuleList(map(_StepUp, ins, channels[:-1], widths))
        self.last = DenseUpsampling(widths[0], num_classes, self.factor)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Features [(N, c1, h, w), (N, c2, h/2, w/2), ...] from fine to coarse to folded scores (N, L, 4, h, w).

        Raises:
            UserError: another number of features, or one that is not half as large as the one before.
        """
        sizes = [tuple(feature.shape[-2:]) for feature in features]
        fits = all(fine == (2 * h, 2 * w) for fine, (h, w) in zip(sizes, sizes[1:]))
        if len(features) != len(self.steps) + 1 or not fits:
            raise explain(
                "features of a DenseUpsamplingPyramid",
                found=f"{len(features)} of sizes {sizes}",
                needed=f"{len(self.steps) + 1} from fine to coarse, each half as large",
                fix="Pad the picture to a multiple of the coarsest stride.",
            )
        x = features[-1]
        for step, fine in zip(reversed(self.steps), reversed(features[:-1])):
            x = step(x, fine)
        scores: Tensor = self.last(x)
        return scores
