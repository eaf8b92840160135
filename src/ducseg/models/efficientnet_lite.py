"""EfficientNet-Lite as the light encoder with ImageNet weights at hand, under timm's parameter names.

Images (N, C, H, W), H and W multiples of the output stride d, to features (N, c, H/d, W/d): c is 320 for Lite0, 352 for
Lite2. 1x3x512x1024 through `efficientnet_lite0` at d = 32 becomes 1x320x16x32. The classifier and the 1x1 convolution
before it are left out.

The released weights were trained in TensorFlow, whose strided convolutions take pixels 2i..2i+2 (kernel 3) or
2i-1..2i+3 (kernel 5) where PyTorch's take 2i-1..2i+1 and 2i-2..2i+2; zeros are added on these sides. A convolution that
gives up its stride for dilation keeps that window (times its rate). So the outputs are those of timm's
`tf_efficientnet_lite*` at every output stride and schedule.

A block's rate is the rate of its depthwise convolution. res2..res5 are the blocks at strides 4, 8, 16, 32.
Architecture: Tan and Le 2019 (arXiv 1905.11946), the Lite variant: no squeeze-and-excitation, ReLU6, the first and the
last stage not scaled.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from ducseg.models.depthwise import DepthwiseConv2d
from ducseg.models.dilation import OUTPUT_STRIDES, Rates
from ducseg.models.encoder import strides_at

__all__ = ["EFFICIENTNET_LITES", "EfficientNetLite", "EfficientNetLiteLayout"]

_EPS = 1e-3


class EfficientNetLiteLayout(NamedTuple):
    """One row of the table of sizes: channels and blocks of the seven stages."""

    channels: tuple[int, ...]
    depths: tuple[int, ...]

    @property
    def blocks(self) -> tuple[int, int, int, int]:
        """Blocks in res2, res3, res4, res5."""
        depths = self.depths
        return depths[1], depths[2], depths[3] + depths[4], depths[5] + depths[6]


EFFICIENTNET_LITES = {
    "efficientnet_lite0": EfficientNetLiteLayout((16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1)),
    "efficientnet_lite1": EfficientNetLiteLayout((16, 24, 40, 80, 112, 192, 320), (1, 3, 3, 4, 4, 5, 1)),
    "efficientnet_lite2": EfficientNetLiteLayout((16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1)),
}
_KERNELS = (3, 3, 5, 3, 5, 5, 3)
_STRIDED = {1: 0, 2: 1, 3: 2, 5: 3}
"""Stages whose first block has a stride in the undilated network -> place in the strides of res2..res5."""
_NAME_OF_STAGE = {0: "stem", 1: "res2", 2: "res3", 4: "res4", 6: "res5"}


class _DepthwiseConv2d(DepthwiseConv2d):
    """A depthwise convolution whose window is TensorFlow's: off centre where it is, or was, strided."""

    def __init__(self, channels: int, kernel: int, *, stride: int, strided: bool, rate: int) -> None:
        before = (kernel - 2 if strided else kernel - 1) // 2 * rate
        after = rate * (kernel - 1) - before
        if stride == 2:  # a window earlier, and left out: no padded copy of the input is made
            super().__init__(channels, kernel, stride=2, padding=before + 2, dilation=rate, skip=1)
            self._sides = None
        else:
            centred = before == after
            super().__init__(channels, kernel, padding=before if centred else 0, dilation=rate)
            self._sides = None if centred else (before, after, before, after)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input if self._sides is None else F.pad(input, self._sides))


class _Block(nn.Module):
    """An inverted residual; without expansion, a depthwise and a pointwise convolution, as timm names them."""

    def __init__(
        self, in_channels: int, out_channels: int, *, expand: int, kernel: int, stride: int, strided: bool, rate: int
    ) -> None:  # fmt: skip
        super().__init__()
        hidden = in_channels * expand
        depthwise = _DepthwiseConv2d(hidden, kernel, stride=stride, strided=strided, rate=rate)
        pointwise = nn.Conv2d(hidden, out_channels, 1, bias=False)
        self._expands = expand > 1
        if self._expands:
            self.conv_pw = nn.Conv2d(in_channels, hidden, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(hidden, eps=_EPS)
            self.conv_dw = depthwise
            self.bn2 = nn.BatchNorm2d(hidden, eps=_EPS)
            self.conv_pwl = pointwise
            self.bn3 = nn.BatchNorm2d(out_channels, eps=_EPS)
        else:
            self.conv_dw = depthwise
            self.bn1 = nn.BatchNorm2d(hidden, eps=_EPS)
            self.conv_pw = pointwise
            self.bn2 = nn.BatchNorm2d(out_channels, eps=_EPS)
        self.act = nn.ReLU6(inplace=True)
        self._residual = not strided and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor
        if self._expands:
            y = self.act(self.bn1(self.conv_pw(x)))
            y = self.act(self.bn2(self.conv_dw(y)))
            y = self.bn3(self.conv_pwl(y))
        else:
            y = self.act(self.bn1(self.conv_dw(x)))
            y = self.bn2(self.conv_pw(y))
        return x + y if self._residual else y


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite up to its last block.

    Args:
        layout: a row of `EFFICIENTNET_LITES`.
        output_stride: 32, 16, 8 or 4.
        rates: dilation rate of every block of res2..res5.
        num_channels: of the images.

    Attributes:
        out_channels: c.
        channels, strides: of every named intermediate, finest first (`ducseg.models.encoder`).
        rates: as given.
    """

    def __init__(
        self, layout: EfficientNetLiteLayout, *, output_stride: int, rates: Rates, num_channels: int = 3
    ) -> None:
        super().__init__()
        self.output_stride, self.rates, self.num_channels = output_stride, rates, num_channels
        self.conv_stem = nn.Conv2d(num_channels, 32, 3, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(32, eps=_EPS)
        self.act = nn.ReLU6(inplace=True)
        strides = (2, *OUTPUT_STRIDES[output_stride])
        rate_of = iter((1,) * layout.depths[0] + tuple(rate for stage in rates for rate in stage))
        stages: list[nn.Module] = []
        channels = 32
        for stage, (out, depth, kernel) in enumerate(zip(layout.channels, layout.depths, _KERNELS)):
            blocks = []
            for index in range(depth):
                strided = index == 0 and stage in _STRIDED
                blocks.append(
                    _Block(
                        channels,
                        out,
                        expand=6 if stage else 1,
                        kernel=kernel,
                        stride=strides[_STRIDED[stage]] if strided else 1,
                        strided=strided,
                        rate=next(rate_of),
                    )
                )
                channels = out
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.out_channels = channels
        self.channels = {name: layout.channels[stage] for stage, name in _NAME_OF_STAGE.items()}
        self.strides = strides_at(output_stride)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def intermediates(self, images: Tensor) -> dict[str, Tensor]:
        """Every named intermediate: "stem" (stride 2), "res2" .. "res5"."""
        found = {}
        x = self.act(self.bn1(self.conv_stem(F.pad(images, (0, 1, 0, 1)))))
        for stage, blocks in enumerate(self.blocks):
            x = blocks(x)
            if stage in _NAME_OF_STAGE:
                found[_NAME_OF_STAGE[stage]] = x
        return found

    def forward(self, images: Tensor) -> Tensor:
        return self.intermediates(images)["res5"]
