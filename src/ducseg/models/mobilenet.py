"""MobileNetV2 as the light encoder, under torchvision's parameter names, with a dilation rate per block.

Images (N, C, H, W), H and W multiples of the output stride d, to features (N, 320, H/d, W/d).
1x3x512x1024 at d = 8 becomes 1x320x64x128. The classifier's 1x1 convolution to 1280 channels (`features.18`) is left
out: a head on 320 channels has a quarter of the parameters.

A block's rate is the rate of its depthwise 3x3 convolution. res2..res5 are the blocks at strides 4, 8, 16, 32.
"""

from typing import NamedTuple

from torch import Tensor, nn

from ducseg.models.depthwise import DepthwiseConv2d
from ducseg.models.dilation import OUTPUT_STRIDES, Rates
from ducseg.models.encoder import maps_of, strides_at

__all__ = ["MOBILENET_V2_BLOCKS", "MobileNetV2"]


class _Group(NamedTuple):
    """Blocks alike: the paper's Table 2 (arXiv 1801.04381)."""

    expand: int
    channels: int
    blocks: int


_STAGES = (
    (_Group(6, 24, 2),),
    (_Group(6, 32, 3),),
    (_Group(6, 64, 4), _Group(6, 96, 3)),
    (_Group(6, 160, 3), _Group(6, 320, 1)),
)
"""res2..res5; the first block of each has the stage's stride."""

MOBILENET_V2_BLOCKS = (2, 3, 7, 4)
"""Blocks in res2..res5."""


def _conv_norm_relu(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    rate: int = 1,
    depthwise: bool = False,
    eps: float,
) -> nn.Sequential:
    conv = (
        DepthwiseConv2d(out_channels, kernel_size, stride=stride, padding=rate, dilation=rate)
        if depthwise
        else nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)
    )
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels, eps=eps), nn.ReLU6(inplace=True))


class _InvertedResidual(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, *, expand: int, stride: int, rate: int, eps: float) -> None:
        super().__init__()
        hidden = in_channels * expand
        layers: list[nn.Module] = []
        if expand != 1:
            layers.append(_conv_norm_relu(in_channels, hidden, 1, eps=eps))
        layers.append(_conv_norm_relu(hidden, hidden, 3, stride=stride, rate=rate, depthwise=True, eps=eps))
        layers.append(nn.Conv2d(hidden, out_channels, 1, bias=False))
        layers.append(nn.BatchNorm2d(out_channels, eps=eps))
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """MobileNetV2 up to the last inverted residual block.

    Args:
        output_stride: 32, 16, 8 or 4.
        rates: dilation rate of every block of res2..res5.
        eps: of every batch norm.
        num_channels: of the images.

    Attributes:
        out_channels: 320.
        channels, strides: of every named intermediate, finest first (`ducseg.models.encoder`).
        rates: as given.
    """

    def __init__(self, *, output_stride: int, rates: Rates, eps: float = 1e-5, num_channels: int = 3) -> None:
        super().__init__()
        self.output_stride, self.rates, self.num_channels = output_stride, rates, num_channels
        layers: list[nn.Module] = [
            _conv_norm_relu(num_channels, 32, 3, stride=2, eps=eps),
            _InvertedResidual(32, 16, expand=1, stride=1, rate=1, eps=eps),
        ]
        channels = 16
        self._ends, self.channels, self.strides = {"stem": 1}, {"stem": channels}, strides_at(output_stride)
        for stage, (groups, stride, rate_of_block) in enumerate(
            zip(_STAGES, (2, *OUTPUT_STRIDES[output_stride]), rates)
        ):
            plan = [(group.expand, group.channels) for group in groups for _ in range(group.blocks)]
            for index, ((expand, out), rate) in enumerate(zip(plan, rate_of_block, strict=True)):
                first_stride = stride if index == 0 else 1
                layers.append(_InvertedResidual(channels, out, expand=expand, stride=first_stride, rate=rate, eps=eps))
                channels = out
            self._ends[f"res{stage + 2}"], self.channels[f"res{stage + 2}"] = len(layers) - 1, channels
        self.features = nn.Sequential(*layers)
        self.out_channels = channels
        self._initialise()

    def _initialise(self) -> None:
        # As torchvision: He et al. 2015, fan-out.
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def intermediates(self, images: Tensor) -> dict[str, Tensor]:
        """Every named intermediate: "stem" (stride 2), "res2" .. "res5"."""
        return maps_of(self.features, images, self._ends)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.features(images)
        return features
