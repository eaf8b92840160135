"""Heads: from encoder features (N, c, h, w) to folded scores (N, L, r*r, h', w') (paper sections 3.1 and 4.1).

| head | scores of 1x2048x64x128, d = 8, L = 19 | grid stride | r |
|---|---|---|---|
| bilinear | 1x19x1x64x128, resized by 8 at test | 8 | 1 |
| duc, cell 1 | 1x19x64x64x128 | 8 | 8 |
| duc, cell 2 | 1x19x16x64x128 | 8 | 4 |
| deconv, deconv2 | 1x19x1x512x1024 | 1 | 1 |
| pyramid (`ducseg.models.pyramid`, takes the finer maps too) | 1x19x4x256x512 | 2 | 2 |

ASPP is n parallel 3x3 convolutions with bias at rates 6, 12, 18, 24 (, 30, 36, ...) from the features straight to the
head's channels, summed; no batch norm, no ReLU, no image pooling (released code). ASPP 0 is one 3x3 convolution at
rate 1. The rates are in grid places and do not change with the output stride.

Initialisation: every kernel is Gaussian with a standard deviation that makes the scores' 0.1 times the features' root
mean square, biases are 0: scores are small and even, so training starts at a loss near log L.
"""

import math
from collections.abc import Callable
from functools import partial, reduce
from typing import cast

import torch
from torch import Tensor, nn

from ducseg.errors import explain, whole
from ducseg.models.comparisons.adelaide import Adelaide
from ducseg.models.comparisons.deeplabv2 import DeepLabV2
from ducseg.models.comparisons.dilation10 import Dilation
from ducseg.models.comparisons.fcn8s import Fcn
from ducseg.models.comparisons.gcrf import Gcrf
from ducseg.models.comparisons.lrr4x import Lrr
from ducseg.models.encoder import NamedEncoder, num_channels_of
from ducseg.models.head import Head, HeadRow
from ducseg.models.pyramid import PyramidHead
from ducseg.models.vgg import VGGS
from ducseg.ops.duc import DenseUpsampling
from ducseg.ops.graphs import in_a_graph
from ducseg.ops.summed import has_hooks, summed_convolutions

__all__ = [
    "COMPARISONS",
    "HEADS",
    "PAPER_HEADS",
    "DeconvolutionHead",
    "FoldedHead",
    "aspp_rates",
    "head_parameters",
    "make_head",
]

PAPER_HEADS = ("bilinear", "duc", "deconv", "deconv2")
"""Heads on the last map, as the paper compares them."""

_START_SCALE = 0.1


def aspp_rates(aspp: int) -> tuple[int, ...]:
    """Rates of the summed 3x3 convolutions: 6, 12, ... for n paths; (1,) for none."""
    return tuple(6 * (path + 1) for path in range(aspp)) if aspp else (1,)


class FoldedHead(nn.Module):
    """The bilinear baseline (r = 1) and DUC (r = d / cell): summed dilated 3x3 convolutions, nothing else.

    Attributes:
        grid_stride: d; the scores' grid has one place for each d x d pixels.
        factor: r.
    """

    takes_intermediates = False

    def __init__(self, in_channels: int, num_classes: int, *, output_stride: int, factor: int, aspp: int) -> None:
        super().__init__()
        self.grid_stride, self.factor = output_stride, factor
        rates = aspp_rates(aspp)
        self.paths = nn.ModuleList(
            DenseUpsampling(in_channels, num_classes, factor, kernel_size=3, dilation=rate) for rate in rates
        )
        self._std = _START_SCALE / math.sqrt(9 * in_channels * len(rates))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the start anew, as after `to_empty`."""
        _start_small(self.paths, self._std)

    def forward(self, features: Tensor) -> Tensor:
        """(N, c, h, w) to folded scores (N, L, r*r, h, w)."""
        if not in_a_graph() and any(map(has_hooks, self.paths)):
            return cast(Tensor, reduce(torch.add, (path(features) for path in self.paths)))
        scores = summed_convolutions([cast(DenseUpsampling, path).conv for path in self.paths], features)
        return cast(Tensor, scores.unflatten(1, (-1, self.factor**2)))  # type: ignore[no-untyped-call]


class DeconvolutionHead(nn.Module):
    """The paper's deconvolution baselines: ASPP to some channels, then transposed convolutions to full size.

    Each transposed convolution by s has kernel 2s, stride s, padding s/2 and a bias; with two, a ReLU between them. The
    paper gives no widths: the channels between are chosen so that the head has about as many parameters as DUC with
    `duc_cell`.

    Attributes:
        grid_stride: 1; factor: 1.
    """

    takes_intermediates = False

    def __init__(
        self, in_channels: int, num_classes: int, *, scales: tuple[int, ...], duc_cell: int, aspp: int
    ) -> None:  # fmt: skip
        super().__init__()
        self.grid_stride, self.factor = 1, 1
        rates = aspp_rates(aspp)
        width = _deconvolution_width(in_channels, num_classes, scales, duc_cell, len(rates))
        self.paths = nn.ModuleList(nn.Conv2d(in_channels, width, 3, padding=rate, dilation=rate) for rate in rates)
        _start_small(self.paths, 1 / math.sqrt(9 * in_channels * len(rates)))
        layers: list[nn.Module] = []
        for index, scale in enumerate(scales):
            last = index == len(scales) - 1
            out = num_classes if last else width
            layers.append(nn.ConvTranspose2d(width, out, 2 * scale, scale, padding=scale // 2))
            # each output pixel sums 2 x 2 kernel entries of every input channel
            _start_small(layers[-1:], (_START_SCALE if last else 1) / math.sqrt(4 * width))
            if not last:
                layers.append(nn.ReLU(inplace=True))
        self.upsample = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """(N, c, h, w) to scores (N, L, 1, h*d, w*d)."""
        paths = [cast(nn.Conv2d, path) for path in self.paths]
        scores: Tensor = self.upsample(summed_convolutions(paths, features))
        return scores.unsqueeze(2)


def _start_small(modules: "nn.ModuleList | list[nn.Module]", std: float) -> None:
    for module in modules:
        for name, parameter in module.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=std)


def _deconvolution_width(
    in_channels: int, num_classes: int, scales: tuple[int, ...], duc_cell: int, paths: int
) -> int:  # fmt: skip
    """Channels between ASPP and the transposed convolutions, such that the head has about DUC's parameters."""
    duc = paths * (9 * in_channels + 1) * num_classes * (math.prod(scales) // duc_cell) ** 2
    quadratic = sum((2 * scale) ** 2 for scale in scales[:-1])
    linear = paths * (9 * in_channels + 1) + len(scales) - 1 + (2 * scales[-1]) ** 2 * num_classes
    if not quadratic:
        return max(1, round((duc - num_classes) / linear))
    return max(1, round((math.sqrt(linear**2 + 4 * quadratic * (duc - num_classes)) - linear) / (2 * quadratic)))


def make_head(
    head: str, in_channels: int, num_classes: int, *, output_stride: int, cell: int, aspp: int
) -> FoldedHead | DeconvolutionHead:
    """Build one of `PAPER_HEADS`; `cell` is DUC's, or that of the DUC which a deconvolution is as large as.

    Raises:
        UserError: another head, or a cell that does not divide the output stride.
    """
    if head not in PAPER_HEADS:
        raise explain(
            "head", found=repr(head), needed=f"one of {', '.join(PAPER_HEADS)}", fix="build makes the others."
        )
    if output_stride % whole("cell", cell, least=1, fix="1 is a prediction a pixel."):
        raise explain("cell", found=cell, needed=f"a divisor of output_stride {output_stride}", fix="Take 1.")
    if head in ("bilinear", "duc"):
        factor = output_stride // cell if head == "duc" else 1
        return FoldedHead(in_channels, num_classes, output_stride=output_stride, factor=factor, aspp=aspp)
    scales = (output_stride,) if head == "deconv" else (2, output_stride // 2)
    return DeconvolutionHead(in_channels, num_classes, scales=scales, duc_cell=cell, aspp=aspp)


def head_parameters(
    in_channels: int, num_classes: int, *, output_stride: int = 8, cell: int = 1, aspp: int = 4
) -> dict[str, int]:
    """Parameters of each of `PAPER_HEADS` on the same features, by name: DUC beside its deconvolution baselines."""
    counts = {}
    with torch.device("meta"):
        for head in PAPER_HEADS:
            made = make_head(
                head,
                in_channels,
                num_classes,
                output_stride=output_stride,
                cell=1 if head == "bilinear" else cell,
                aspp=aspp,
            )
            counts[head] = sum(parameter.numel() for parameter in made.parameters())
    return counts


def _on_last_map(head: str, encoder: NamedEncoder, num_classes: int, cell: int, aspp: int) -> Head:
    stride = encoder.output_stride
    return make_head(head, encoder.out_channels, num_classes, output_stride=stride, cell=cell, aspp=aspp)


def _dilation(layers: int) -> HeadRow:
    return HeadRow(
        lambda encoder, classes, *_: Dilation(encoder, classes, layers=layers),
        takes=(),
        own={"output_stride": 8, "aspp": 0, "dilation": "dilated"},
        needs={"encoder": VGGS, "output_stride": (8,), "dilation": ("dilated",)},
        encoder={"padded": False},
    )


def _with_deeplabs_branches(make: Callable[..., Head]) -> HeadRow:
    """Of DeepLabv2 and what is built on it."""
    return HeadRow(
        lambda encoder, classes, _, aspp: make(encoder, classes, aspp=aspp),
        takes=("aspp",),
        own={"dilation": "dilated"},
        encoder={"pool": 3},
    )


def _on_vgg(make: Callable[[NamedEncoder, int], Head], stride: int) -> HeadRow:
    """Of a network that is defined on VGG-16 at this output stride."""
    return HeadRow(
        lambda encoder, classes, *_: make(encoder, classes),
        takes=(),
        own={"output_stride": stride, "aspp": 0, "dilation": "none"},
        needs={"encoder": VGGS, "output_stride": (stride,)},
    )


COMPARISONS = {
    "fcn32s": _on_vgg(partial(Fcn, stride=32), 32),
    "fcn16s": _on_vgg(partial(Fcn, stride=16), 32),
    "fcn8s": _on_vgg(partial(Fcn, stride=8), 32),
    "fcn8s_learned": _on_vgg(partial(Fcn, stride=8, learned=True), 32),
    "fcn8s_at_once": _on_vgg(partial(Fcn, stride=8, at_once=True), 32),
    "dilation_front": _dilation(0),
    "dilation7": _dilation(7),
    "dilation8": _dilation(8),
    "dilation10": _dilation(10),
    "deeplabv2": _with_deeplabs_branches(DeepLabV2),
    "deeplabv2_single": _with_deeplabs_branches(partial(DeepLabV2, multi_scale=False)),
    "lrr4x": _on_vgg(Lrr, 32),
    "lrr32x": _on_vgg(partial(Lrr, finest=32), 32),
    "adelaide": _on_vgg(Adelaide, 16),
    "gcrf": _with_deeplabs_branches(Gcrf),
}
"""The networks that the paper compares with (`ducseg.models.comparisons`), by name."""

HEADS = {
    "bilinear": HeadRow(partial(_on_last_map, "bilinear"), ("aspp",)),
    "duc": HeadRow(partial(_on_last_map, "duc"), ("cell", "aspp")),
    "deconv": HeadRow(partial(_on_last_map, "deconv"), ("cell", "aspp")),
    "deconv2": HeadRow(partial(_on_last_map, "deconv2"), ("cell", "aspp")),
    "pyramid": HeadRow(
        lambda encoder, classes, *_: PyramidHead(
            encoder.channels, encoder.strides, classes, picture_channels=num_channels_of(encoder)
        ),
        (),
    ),
    **COMPARISONS,
}
"""Heads by name. A new head is one file and one line here."""
