"""ResNet encoders with a dilation rate per block (paper section 3.2), under torchvision's parameter names.

Images (N, C, H, W), H and W multiples of the output stride d, to features (N, out_channels, H/d, W/d).
1x3x512x1024 with ResNet-101 at d = 8 becomes 1x2048x64x128.

A block's rate is the rate of its 3x3 convolution (of both in a basic block). torchvision's
`replace_stride_with_dilation` gives the first block of a stage the rate of the stage before; explicit rates express
that, for example ((1, 2, 2, 2, 2, 2), (2, 4, 4)) for ResNet-50 at output stride 8.
"""

from typing import NamedTuple

from torch import Tensor, nn

from ducseg.models.dilation import OUTPUT_STRIDES, Rates
from ducseg.models.encoder import strides_at

__all__ = ["RESNETS", "ResNet", "ResNetLayout"]


class ResNetLayout(NamedTuple):
    """One row of the table of depths."""

    blocks: tuple[int, int, int, int]
    """Blocks in res2, res3, res4, res5 (torchvision: layer1..layer4)."""
    bottleneck: bool


RESNETS = {
    "resnet18": ResNetLayout((2, 2, 2, 2), bottleneck=False),
    "resnet34": ResNetLayout((3, 4, 6, 3), bottleneck=False),
    "resnet50": ResNetLayout((3, 4, 6, 3), bottleneck=True),
    "resnet101": ResNetLayout((3, 4, 23, 3), bottleneck=True),
    "resnet152": ResNetLayout((3, 8, 36, 3), bottleneck=True),
}


class _BasicBlock(nn.Module):
    expansion = 1

    def __init__(
        self, in_channels: int, width: int, *, stride: int, rate: int, stride_in_1x1: bool, eps: float
    ) -> None:
        super().__init__()
        assert not stride_in_1x1, "a basic block has no 1x1 convolution; build() reports this"
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=rate, dilation=rate, bias=False)
        self.bn1 = nn.BatchNorm2d(width, eps=eps)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=rate, dilation=rate, bias=False)
        self.bn2 = nn.BatchNorm2d(width, eps=eps)
        self.downsample = _shortcut(in_channels, width, stride, eps)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(y + shortcut)
        return out


class _Bottleneck(nn.Module):
    expansion = 4

    def __init__(
        self, in_channels: int, width: int, *, stride: int, rate: int, stride_in_1x1: bool, eps: float
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width, eps=eps)
        self.conv2 = nn.Conv2d(width, width, 3, second, padding=rate, dilation=rate, bias=False)
        self.bn2 = nn.BatchNorm2d(width, eps=eps)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels, eps=eps)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, out_channels, stride, eps)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(y + shortcut)
        return out


def _shortcut(in_channels: int, out_channels: int, stride: int, eps: float) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels, eps=eps)
    )


def _deep_stem(num_channels: int, width: int, eps: float) -> nn.Sequential:
    # Indices as in timm's resnet101s, so that its weights map.
    return nn.Sequential(
        nn.Conv2d(num_channels, width, 3, 2, padding=1, bias=False),
        nn.BatchNorm2d(width, eps=eps),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width, eps=eps),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
    )


class ResNet(nn.Module):
    """A ResNet without its classifier.

    Args:
        layout: a row of `RESNETS`.
        output_stride: 32, 16, 8 or 4.
        rates: dilation rate of every block of res2..res5.
        deep_stem: three 3x3 convolutions (64 with stride 2, 64, 128) in place of the 7x7, the "better network".
        stride_in_1x1: Caffe style, as the released network: stride 2 in a block's first 1x1 instead of its 3x3.
        pool_padding: pad the max-pooling by 1 (torchvision); the released network does not.
        eps: of every batch norm; torchvision 1e-5, the released network 1e-6.
        width: channels of the stem and of res2's 3x3 convolutions; 64 in every published ResNet.
        num_channels: of the images.

    Attributes:
        out_channels: c of the features.
        channels, strides: of every named intermediate, finest first (`ducseg.models.encoder`).
        rates: as given.
    """

    def __init__(
        self,
        layout: ResNetLayout,
        *,
        output_stride: int,
        rates: Rates,
        deep_stem: bool = False,
        stride_in_1x1: bool = False,
        pool_padding: bool = True,
        eps: float = 1e-5,
        width: int = 64,
        num_channels: int = 3,
    ) -> None:
        super().__init__()
        block = _Bottleneck if layout.bottleneck else _BasicBlock
        self.output_stride, self.rates, self.num_channels = output_stride, rates, num_channels
        channels = 2 * width if deep_stem else width
        self.conv1: nn.Module = (
            _deep_stem(num_channels, width, eps)
            if deep_stem
            else nn.Conv2d(num_channels, width, 7, 2, padding=3, bias=False)
        )
        self.bn1 = nn.BatchNorm2d(channels, eps=eps)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1 if pool_padding else 0)
        self.channels, self.strides = {"stem": channels}, strides_at(output_stride)
        stages: list[nn.Sequential] = []
        for stage, (stride, stage_rates) in enumerate(zip((1, *OUTPUT_STRIDES[output_stride]), rates)):
            blocks: list[nn.Module] = []
            for index, rate in enumerate(stage_rates):
                kept = stride if index == 0 else 1
                blocks.append(
                    block(channels, width * 2**stage, stride=kept, rate=rate, stride_in_1x1=stride_in_1x1, eps=eps)
                )
                channels = width * 2**stage * block.expansion
            self.channels[f"res{stage + 2}"] = channels
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.out_channels = channels
        self._initialise()

    def _initialise(self) -> None:
        # He et al. 2015, fan-out, as torchvision.
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def intermediates(self, images: Tensor) -> dict[str, Tensor]:
        """Every named intermediate: "stem" (stride 2), "res2" .. "res5"."""
        found = {"stem": self.relu(self.bn1(self.conv1(images)))}
        x = self.maxpool(found["stem"])
        for name, stage in zip(("res2", "res3", "res4", "res5"), self._stages()):
            x = found[name] = stage(x)
        return found

    def forward(self, images: Tensor) -> Tensor:
        x: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for stage in self._stages():
            x = stage(x)
        return x

    def _stages(self) -> tuple[nn.Module, ...]:
        return self.layer1, self.layer2, self.layer3, self.layer4
