"""Dilation10 (Yu and Koltun 2016, arXiv 1511.07122): a front end that keeps stride 8, and a context module, on VGG-16.

Front end: VGG-16 without pool4 and pool5; the convolutions after them are dilated by 2 (conv5) and 4 (fc6). No
convolution is padded: the picture is, by its mirror image of 186 pixels on every side, which is what they take off.
Context module: 3x3 convolutions from L score maps to L score maps with rates that double, each followed by a ReLU,
which see ever more of the surroundings and keep the size. It starts as the identity (on scores that are not negative).

| worked example, 1x3x512x1024, L = 19 | |
|---|---|
| mirrored | 1x3x884x1396 |
| conv1, pool1 / conv2, pool2 / conv3, pool3 | 1x64x440x696 / 1x128x218x346 / 1x256x106x170 |
| conv4 / conv5, rate 2 / fc6 7x7, rate 4 | 1x512x100x164 / 1x512x88x152 / 1x4096x64x128 |
| final; ctx_conv1_1, 1_2, 2_1 .. 7_1 at rates 1, 1, 2 .. 64; ctx_fc1 at 1; ctx_final 1x1 | 1x19x64x128 |

Scores are 1x19x1x64x128, resized by 8 like the bilinear baseline's (the release: a bilinear deconvolution, which
differs in the outermost 4 pixels). Source: the authors' code, fyu/dilation: network.py and
dilation10_cityscapes_deploy.prototxt.
"""

from typing import cast

import torch
from torch import Tensor, nn

from ducseg.models.encoder import NamedEncoder
from ducseg.models.vgg import FullyConvolutional, Vgg

__all__ = ["CONTEXT_RATES", "MARGIN", "ContextModule", "Dilation", "mirrored"]

MARGIN = 186
"""Pixels that the front end takes off every side."""

CONTEXT_RATES = {10: (1, 1, 2, 4, 8, 16, 32, 64, 1), 8: (1, 1, 2, 4, 8, 16, 1), 7: (1, 1, 2, 4, 8, 1)}
"""Rates of the 3x3 convolutions by the number of layers: 10 for Cityscapes, 8 for CamVid, 7 for KITTI."""


def mirrored(images: Tensor, margin: int) -> Tensor:
    """(N, C, h, w), h and w above 1, with `margin` mirrored places on every side; the outermost are not repeated.

    As OpenCV's BORDER_REFLECT_101: where the picture is smaller than the margin, it is mirrored again.
    """
    height, width = images.shape[-2:]
    rows, columns = (_mirrored_index(size, margin, images.device) for size in (height, width))
    return images.index_select(2, rows).index_select(3, columns)


def _mirrored_index(size: int, margin: int, device: torch.device) -> Tensor:
    period = 2 * (size - 1)
    index = (torch.arange(size + 2 * margin, device=device) - margin).abs() % period
    return torch.minimum(index, period - index)


class ContextModule(nn.Module):
    """The context module on any scores (N, L, h, w), to as many.

    Args:
        num_classes: L.
        layers: 10, 8 or 7, with ctx_final: a key of `CONTEXT_RATES`.
        noise: deviation of what is added to the identity at the start.
    """

    def __init__(self, num_classes: int, *, layers: int = 10, noise: float = 0.0) -> None:
        super().__init__()
        rates = CONTEXT_RATES[layers]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(num_classes, num_classes, 3, padding=rate, dilation=rate) for rate in rates
        )
        self.final = nn.Conv2d(num_classes, num_classes, 1)
        for convolution in (*self.convolutions, self.final):
            weight, bias = cast(Tensor, convolution.weight), cast(Tensor, convolution.bias)
            nn.init.dirac_(weight)
            nn.init.zeros_(bias)
            if noise:
                with torch.no_grad():
                    weight.add_(torch.randn_like(weight) * noise)

    def forward(self, scores: Tensor) -> Tensor:
        for convolution in self.convolutions:
            scores = convolution(scores).relu()
        found: Tensor = self.final(scores)
        return found


class Dilation(nn.Module):
    """The front end's classifier, and the context module after it.

    Args:
        encoder: VGG-16 at output stride 8, unpadded, conv5 with rate 2.
        num_classes: L.
        layers: of the context module; 0: the front end alone.

    Attributes:
        grid_stride: 8; factor: 1.
    """

    takes_intermediates, runs_encoder = False, True
    grid_stride, factor = 8, 1

    def __init__(self, encoder: NamedEncoder, num_classes: int, *, layers: int = 10) -> None:
        super().__init__()
        assert isinstance(encoder, Vgg), "Architecture.conflicts reports this"
        self.classifier = FullyConvolutional(encoder.out_channels, 64 * encoder.width, rate=4)
        self.final = nn.Conv2d(64 * encoder.width, num_classes, 1)
        nn.init.normal_(self.final.weight, std=0.001)
        nn.init.zeros_(cast(Tensor, self.final.bias))
        self.context = ContextModule(num_classes, layers=layers) if layers else None

    def forward(self, images: Tensor, encoder: NamedEncoder) -> Tensor:
        """Images (N, C, H, W), H and W multiples of 8, to scores (N, L, 1, H/8, W/8)."""
        scores: Tensor = self.final(self.classifier(encoder(mirrored(images, MARGIN))))
        return (scores if self.context is None else self.context(scores)).unsqueeze(2)
