"""VGG-16 as an encoder, under torchvision's parameter names, with and without batch norm.

Images (N, C, H, W), H and W multiples of the output stride d, to features (N, 512, H/d, W/d), what pool5 gives.
1x3x512x1024 at d = 32 becomes 1x512x16x32; at d = 8, 1x512x64x128.

| name | stem | res2 | res3 | res4 | res5 |
|---|---|---|---|---|---|
| layer | conv2_2 | conv3_3 | conv4_3 | conv5_3 | pool5 |
| stride of the undilated network, channels | 2, 128 | 4, 256 | 8, 512 | 16, 512 | 32, 512 |

A stage's stride is that of the pooling before it; a pooling that loses its stride is left out (Yu and Koltun 2016).
res4 is conv5_1 to conv5_3, which takes the rates; res5 is pool5 and has no convolution. Poolings round up, as Caffe's.

The two layers that were fully connected, fc6 and fc7, belong to a head (`FullyConvolutional`): what kernel and rate
they have differs from network to network, and with 7x7 they are 119 of the 134 million parameters.
"""

from typing import cast

from torch import Tensor, nn

from ducseg.models.dilation import OUTPUT_STRIDES, Rates
from ducseg.models.encoder import maps_of, strides_at

__all__ = ["VGGS", "VGG_BLOCKS", "FullyConvolutional", "Vgg"]

VGGS = ("vgg16", "vgg16_bn")

VGG_BLOCKS = (3, 3, 3, 0)
"""Convolutions in res2..res5."""

_STAGES = {"conv1": (1, 2), "stem": (2, 2), "res2": (4, 3), "res3": (8, 3), "res4": (8, 3)}
"""Channels in widths, and 3x3 convolutions, of each stage (Simonyan and Zisserman 2015, column D)."""


class Vgg(nn.Module):
    """VGG-16 up to pool5.

    Args:
        output_stride: 32, 16, 8 or 4.
        rates: dilation rate of every convolution of res2..res5; res5 has none.
        batch_norm: after every convolution.
        eps: of every batch norm.
        width: channels of conv1; 64 in the published network.
        num_channels: of the images.
        padded: whether 3x3 convolutions are padded, so that they keep the size; else each takes its rate off each side.
        pool: kernel of the poolings, 2 or 3 (DeepLab); with 3 they are padded by 1 and stay, with stride 1, where the
            stride is lost.

    Attributes:
        out_channels: 8 widths.
        channels, strides: of every named intermediate, finest first (`ducseg.models.encoder`).
        rates: as given.
        probe_side: of a picture that leaves something of every map.
    """

    def __init__(
        self,
        *,
        output_stride: int,
        rates: Rates,
        batch_norm: bool = False,
        eps: float = 1e-5,
        width: int = 64,
        num_channels: int = 3,
        padded: bool = True,
        pool: int = 2,
    ) -> None:
        super().__init__()
        self.output_stride, self.rates, self.num_channels, self.width = output_stride, rates, num_channels, width
        self.strides, self.channels = strides_at(output_stride), {}
        self.probe_side = 64 if padded else 384
        pool_strides = (2, 2, *OUTPUT_STRIDES[output_stride])
        stage_rates = ((1, 1), (1, 1), *rates[:3])
        layers: list[nn.Module] = []
        self._ends: dict[str, int] = {}
        before = num_channels
        for (name, (widths, _)), stride, of_stage in zip(_STAGES.items(), pool_strides, stage_rates, strict=True):
            for rate in of_stage:
                padding = rate if padded else 0
                layers.append(nn.Conv2d(before, widths * width, 3, padding=padding, dilation=rate))
                layers += [nn.BatchNorm2d(widths * width, eps=eps)] if batch_norm else []
                layers.append(nn.ReLU(inplace=True))
                before = widths * width
            self._ends[name], self.channels[name] = len(layers) - 1, before
            layers.append(_pool(pool, stride))
        del self._ends["conv1"], self.channels["conv1"]
        self._ends["res5"], self.channels["res5"], self.out_channels = len(layers) - 1, before, before
        self.features = nn.Sequential(*layers)
        for module in self.features:
            if isinstance(module, nn.Conv2d):  # as torchvision
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(cast(Tensor, module.bias))

    def intermediates(self, images: Tensor) -> dict[str, Tensor]:
        """Every named intermediate: "stem" (stride 2), "res2" .. "res5", each before the pooling after it."""
        return maps_of(self.features, images, self._ends)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.features(images)
        return features


def _pool(kernel: int, stride: int) -> nn.Module:
    if kernel == 3:
        return nn.MaxPool2d(3, stride, padding=1)
    return nn.MaxPool2d(2, 2, ceil_mode=True) if stride == 2 else nn.Identity()


class FullyConvolutional(nn.Module):
    """fc6 and fc7 as convolutions: (N, c, h, w) to (N, hidden, h', w'); ReLU and dropout 0.5 after each.

    Args:
        in_channels: c.
        hidden: channels of both; 4096 in VGG-16.
        kernel_size, rate, padding: of fc6; unpadded, it takes rate * (kernel_size - 1) / 2 places off every side.
    """

    def __init__(self, in_channels: int, hidden: int, *, kernel_size: int = 7, rate: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.fc6 = nn.Conv2d(in_channels, hidden, kernel_size, padding=padding, dilation=rate)
        self.fc7 = nn.Conv2d(hidden, hidden, 1)
        for layer in (self.fc6, self.fc7):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(cast(Tensor, layer.bias))
        self.relu, self.dropout = nn.ReLU(inplace=True), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.fc6, self.fc7):
            x = self.dropout(self.relu(layer(x)))
        return x
