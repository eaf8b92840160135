"""A pyramid of dense upsampling convolutions: from features at several strides to every pixel, for thin objects.

Each step up is a 1x1 convolution to four times the channels and a shuffle (paper section 3.1; never zeros between,
never bilinear), joined with the encoder's features of the finer stride through a 1x1 convolution, then a 3x3
convolution. The last step is DUC by the finest stride straight to pixels, so no convolution runs at full resolution,
and training takes place in folded space. At the finest stride the picture itself joins: its pixels folded into
channels, the inverse of DUC, so that what is one pixel wide reaches the last step. Lateral features are not in the
paper: they keep what is a few pixels wide, which one head on the last map loses.

Legend: N pictures, H W pixels, L classes, s stride. Worked example, MobileNetV2, L = 2, 1x3x512x512: features
1x16x256x256 (stride 2), 1x24x128x128 (4), 1x32x64x64 (8), 1x96x32x32 (16), 1x320x16x16 (32); the picture folded by 2 is
1x12x256x256, its details 1x32x256x256; steps to 1x96x32x32, 1x64x64x64, 1x48x128x128, 1x32x256x256; folded scores
1x2x4x256x256.

On one's own backbone, whose features (N, c, H/s, W/s) come in a list from fine to coarse, each half as large:

    head = DenseUpsamplingPyramid(channels=(16, 24, 32, 96, 320), num_classes=2)
    scores = unfold(head(features, picture))            # (N, L, H, W) where the first features have stride 2
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ducseg.errors import explain, whole
from ducseg.ops.duc import DenseUpsampling, shuffled, unshuffled
from ducseg.ops.graphs import in_a_graph, in_a_transform

__all__ = ["PICTURE", "DenseUpsamplingPyramid", "PyramidHead", "pyramid_widths"]

PICTURE = "picture"
"""Name of the normalised picture among the intermediates that a head is given."""

_WIDTHS = (32, 48, 64, 96, 128)
_DETAILS = 32


def pyramid_widths(steps: int) -> tuple[int, ...]:
    """Channels after each of so many steps, the finest first: (32, 48, 64, 96) for features at strides 2 to 32."""
    return _WIDTHS[:steps] + _WIDTHS[-1:] * (steps - len(_WIDTHS))


class _StepUp(nn.Module):
    """(N, c, h, w) and lateral features (N, c', 2h, 2w) to (N, out, 2h, 2w)."""

    def __init__(self, in_channels: int, lateral_channels: int, out_channels: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(in_channels, 4 * out_channels, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(4 * out_channels)
        self.lateral = nn.Conv2d(lateral_channels, out_channels, 1, bias=False)
        self.lateral_norm = nn.BatchNorm2d(out_channels)
        self.conv = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.conv_norm = nn.BatchNorm2d(out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the start of the kernels anew, as after `to_empty`."""
        for kernel in (self.lateral, self.conv):
            nn.init.kaiming_normal_(kernel.weight)
        kernels = self.expand.weight
        _start_as_nearest_neighbour(kernels.view(4, -1, *kernels.shape[1:]), pixels=0)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        x = _shuffle(self.expand_norm(self.expand(coarse))) + self.lateral_norm(self.lateral(fine))
        return F.relu(self.conv_norm(self.conv(F.relu(x))))


def _shuffle(x: Tensor) -> Tensor:
    """(N, 4c, h, w) to (N, c, 2h, 2w): channel (2i + j) * c + k to pixel (i, j) of its cell, channel k.

    The channels of a pixel stay together, so that in channels_last order whole runs are copied; gradients a third as
    slow as through `pixel_shuffle`, whose channel 4k + 2i + j goes there.
    """
    count, channels, height, width = x.shape
    if in_a_graph() or in_a_transform() or not x.is_contiguous(memory_format=torch.channels_last):
        parts = x.reshape(count, 4, channels // 4, height, width).transpose(1, 2)
        return shuffled(parts.flatten(1, 2), 2)
    cells = x.permute(0, 2, 3, 1).reshape(count, height, width, 2, 2, channels // 4).transpose(2, 3)
    return cells.reshape(count, 2 * height, 2 * width, channels // 4).permute(0, 3, 1, 2)


@torch.no_grad()
def _start_as_nearest_neighbour(kernels: Tensor, pixels: int) -> None:
    """The kernels of the pixels of a cell (axis `pixels`) start equal: no checkerboard is there to be unlearned.

    Aitken et al. 2017 (arXiv 1707.02937).
    """
    of_one = kernels.new_empty(kernels.select(pixels, 0).shape)  # empty_like would import sympy, on the meta device
    kernels.copy_(nn.init.kaiming_normal_(of_one).unsqueeze(pixels))


class DenseUpsamplingPyramid(nn.Module):
    """Features of several strides, each half as large as the one before, and the picture, to folded scores.

    Args:
        channels: of the features, from fine to coarse; at least two.
        num_classes: L.
        widths: channels after each step, the finest first, one fewer than `channels`; None: `pyramid_widths`.
        finest_stride: of the first features, in pixels; DUC's factor at the end.
        picture_channels: of the picture that joins at the finest stride; 0: none joins.

    Attributes:
        factor: r, the finest stride.

    Raises:
        UserError: fewer than two features, widths that do not fit them, a size that is no whole number above 0.
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_classes: int,
        *,
        widths: Sequence[int] | None = None,
        finest_stride: int = 2,
        picture_channels: int = 3,
    ) -> None:
        super().__init__()
        fix = "For example channels=(16, 24, 32, 96, 320), widths=(32, 48, 64, 96), num_classes=2."
        steps = len(channels) - 1
        widths = tuple(pyramid_widths(max(steps, 0)) if widths is None else widths)
        if steps < 1 or len(widths) != steps:
            raise explain(
                "DenseUpsamplingPyramid",
                found=f"channels {tuple(channels)}, widths {widths}",
                needed="at least two features, one width fewer",
                fix=fix,
            )
        for size in (*channels, *widths, num_classes, finest_stride):
            whole("a size of DenseUpsamplingPyramid", size, least=1, fix=fix)
        whole("picture_channels of DenseUpsamplingPyramid", picture_channels, fix="0: no picture joins.")
        self.factor, self._picture_channels = finest_stride, picture_channels
        self.details: nn.Module | None = None
        laterals = list(channels[:-1])
        if picture_channels:
            folded = picture_channels * finest_stride**2
            self.details = nn.Sequential(
                nn.Conv2d(folded, _DETAILS, 3, padding=1, bias=False), nn.BatchNorm2d(_DETAILS), nn.ReLU(inplace=True)
            )
            laterals[0] += _DETAILS
        self.steps = nn.ModuleList(map(_StepUp, (*widths[1:], channels[-1]), laterals, widths))
        self.last = DenseUpsampling(widths[0], num_classes, self.factor)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the start of the last step anew, as after `to_empty` and the parts' own."""
        kernels = self.last.conv.weight  # larger than DUC's start, from which few steps find nothing that is rare
        _start_as_nearest_neighbour(kernels.view(self.last.num_classes, -1, *kernels.shape[1:]), pixels=1)

    def forward(self, features: Sequence[Tensor], picture: Tensor | None = None) -> Tensor:
        """To folded scores (N, L, r*r, h, w).

        Args:
            features: (N, c1, h, w), (N, c2, h/2, w/2), ..., from fine to coarse.
            picture: (N, picture_channels, r*h, r*w), normalised; None where none joins.

        Raises:
            UserError: another number of features, or one that is not half as large as the one before; no picture where
                one joins, or one of another size or other channels.
        """
        self._check(features, picture)
        laterals = list(features[:-1])
        if self.details is not None and picture is not None:
            laterals[0] = torch.cat([laterals[0], self.details(unshuffled(picture, self.factor))], 1)
        x = features[-1]
        for step, lateral in zip(reversed(self.steps), reversed(laterals)):
            x = step(x, lateral)
        scores: Tensor = self.last(x)
        return scores

    def _check(self, features: Sequence[Tensor], picture: Tensor | None) -> None:
        if in_a_graph():
            return  # sizes are free there
        count, maps = len(self.steps) + 1, [*features] if isinstance(features, Sequence) else [features]
        shapes = [tuple(one.shape) for one in maps if isinstance(one, Tensor) and one.ndim == 4]
        fits = len(shapes) == len(maps) == count
        if not fits or any(fine[2:] != (2 * h, 2 * w) for fine, (*_, h, w) in pairwise(shapes)):
            raise explain(
                "features of a DenseUpsamplingPyramid",
                found=f"{len(maps)}: {', '.join(map(_shape_of, maps))}",
                needed=f"{count} tensors from fine to coarse (N, c, h, w), each half as large",
                fix="Pad the picture to a multiple of the coarsest stride; a dictionary's are list(features.values()).",
            )
        number, _, *sides = shapes[0]
        wanted = (number, self._picture_channels, *(self.factor * side for side in sides))
        joins = isinstance(picture, Tensor) and picture.shape == wanted
        if not (picture is None if self.details is None else joins):
            raise explain(
                "picture of a DenseUpsamplingPyramid",
                found="none" if picture is None else _shape_of(picture),
                needed="none" if self.details is None else f"{wanted}, {self.factor} times the finest features' size",
                fix="Pass the padded picture that the features are of; picture_channels=0 makes a pyramid without it.",
            )


def _shape_of(values: object) -> str:
    return f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else f"a {type(values).__name__}"


class PyramidHead(DenseUpsamplingPyramid):
    """The pyramid on an encoder's named intermediates: the last map of each stride, and the picture.

    Args:
        channels, strides: of the encoder's intermediates (`ducseg.models.encoder.NamedEncoder`).
        num_classes: L.
        picture_channels: of the picture.

    Attributes:
        grid_stride: the finest stride, equal to `factor`: one score a pixel.
    """

    takes_intermediates = True
    mirrors_borders = True  # it trains on crops without padding: a border of one colour is taken for an object

    def __init__(
        self, channels: Mapping[str, int], strides: Mapping[str, int], num_classes: int, *, picture_channels: int = 3
    ) -> None:
        self._names = tuple(
            {stride: name for name, stride in sorted(strides.items(), key=lambda item: item[1])}.values()
        )
        super().__init__(
            [channels[name] for name in self._names],
            num_classes,
            finest_stride=min(strides.values()),
            picture_channels=picture_channels,
        )
        self.grid_stride = self.factor

    def forward(self, maps: Mapping[str, Tensor]) -> Tensor:  # type: ignore[override]
        """The encoder's intermediates and, as "picture", what it was given, to folded scores (N, L, r*r, h, w)."""
        return super().forward([maps[name] for name in self._names], maps[PICTURE])
