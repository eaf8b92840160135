"""Stride turned into dilation in any convolutional network, so that nothing it computed is lost.

The rule (à trous): a layer whose grid already has the wanted output stride d loses its own stride, and the taps of a
window on a finer grid than before lie f times as far apart, f = (stride of its input in the old network) / d. Then the
old features are the new ones at every f-th place, `new[..., ::f, ::f] == old`, apart from layers that average over the
whole picture (squeeze-and-excitation, group norm), which now average over more places.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ducseg.errors import explain
from ducseg.models.spatial_layers import SpatialLayer, pair

__all__ = ["strides_to_dilations"]


def strides_to_dilations(
    layers: Sequence[SpatialLayer], output_stride: int, rates: Mapping[str, int] | None = None
) -> None:
    """Turn strides beyond `output_stride` into dilation, by the rule at the top of this module.

    Args:
        layers: of `spatial_layers`; their modules are changed in place, their weights stay.
        output_stride: d, the largest stride that is kept.
        rates: dilation rates in place of the rule's for convolutions of these names (HDC), also where the stride stays.

    Raises:
        UserError: layers that cannot be turned, all in one message; nothing is changed then.
    """
    chosen = rates or {}
    changes = []
    for layer in layers:
        rate = chosen.get(layer.name, max(1, layer.stride_in // output_stride)) if layer.is_window else 1
        loses_stride = layer.stride_in >= output_stride and layer.stride_out > layer.stride_in
        if rate > 1 or loses_stride:
            changes.append((layer, rate, loses_stride))
    problems = [f"{layer.name} ({reason})" for layer, _, _ in changes for reason in _refusals(layer)]
    problems += [
        f"{layer.name} (its stride leads from {layer.stride_in} to {layer.stride_out} at once)"
        for layer in layers
        if layer.stride_in < output_stride < layer.stride_out
    ]
    if problems:
        raise explain(
            f"output stride {output_stride}",
            found=", ".join(problems),
            needed="plain zero-padded convolutions and poolings of torch where the stride is to go",
            fix="Choose a larger output stride or another network.",
        )
    for layer, rate, loses_stride in changes:
        if isinstance(layer.module, nn.Conv2d):
            _dilate_convolution(layer.module, layer.first_tap, rate, loses_stride)
        else:
            _dilate_pooling(layer.module, layer.first_tap, rate)


def _refusals(layer: SpatialLayer) -> list[str]:
    module = layer.module
    if isinstance(module, nn.Conv2d):
        if module.padding_mode != "zeros":
            return [f"padding mode {module.padding_mode}"]
        if (layer.pads_itself or _uneven(layer)) and type(module).__name__ not in ("Conv2d", "Conv2dSame"):
            return [f"an off-centre window in a {type(module).__name__}"]
        return []
    if type(module) not in (nn.MaxPool2d, nn.AvgPool2d) or layer.pads_itself:
        return [f"a {type(module).__name__} that pads itself"]
    if getattr(module, "divisor_override", None) is not None:
        return ["a pooling with a divisor of its own"]
    return []


def _uneven(layer: SpatialLayer) -> bool:
    rates = pair(getattr(layer.module, "dilation", 1))
    return any(2 * tap != rate * (taps - 1) for tap, taps, rate in zip(layer.first_tap, layer.kernel, rates))


class _OffCentreConv2d(nn.Conv2d):
    """A convolution whose zeros are `sides` = (left, right, above, below); made of another by changing its class."""

    sides: tuple[int, int, int, int]

    def forward(self, input: Tensor) -> Tensor:
        padded = F.pad(input, self.sides)
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class _DensePool(nn.Module):
    """Pooling at every place over taps `rate` places apart, as a strided one of the coarser grid had them."""

    kernel_size: tuple[int, int]
    rate: int
    sides: tuple[int, int, int, int]


class _DenseMaxPool2d(_DensePool):
    def forward(self, images: Tensor) -> Tensor:
        padded = F.pad(images, self.sides, value=float("-inf"))
        return F.max_pool2d(padded, self.kernel_size, stride=1, dilation=self.rate)


class _DenseAvgPool2d(_DensePool):
    counts_padding: bool

    def forward(self, images: Tensor) -> Tensor:
        taps = images.new_ones(1, 1, *self.kernel_size)
        channels = images.shape[1]
        kernels = taps.expand(channels, -1, -1, -1)
        sums = F.conv2d(F.pad(images, self.sides), kernels, dilation=self.rate, groups=channels)
        if self.counts_padding:
            return sums / taps.numel()
        inside = F.pad(torch.ones_like(images[:1, :1]), self.sides)
        return sums / F.conv2d(inside, taps, dilation=self.rate)


def _sides(first_tap: tuple[int, int], kernel: tuple[int, int], rates: tuple[int, int], rate: int) -> tuple[int, ...]:
    above, left = (rate * tap for tap in first_tap)
    below, right = (rate * (old * (taps - 1) - tap) for tap, taps, old in zip(first_tap, kernel, rates))
    return left, right, above, below


def _dilate_convolution(conv: nn.Conv2d, first_tap: tuple[int, int], rate: int, loses_stride: bool) -> None:
    left, right, above, below = _sides(first_tap, pair(conv.kernel_size), pair(conv.dilation), rate)
    conv.dilation = tuple(rate * old for old in conv.dilation)
    if loses_stride:
        conv.stride = (1, 1)
    if (left, above) == (right, below) and type(conv).__name__ != "Conv2dSame":
        conv.padding = (above, left)
        conv._reversed_padding_repeated_twice = [left, right, above, below]
    else:
        off_centre: Any = conv
        off_centre.__class__ = _OffCentreConv2d
        off_centre.padding, off_centre.sides = (0, 0), (left, right, above, below)


def _dilate_pooling(pool: nn.MaxPool2d | nn.AvgPool2d, first_tap: tuple[int, int], rate: int) -> None:
    kernel, old = pair(pool.kernel_size), pair(getattr(pool, "dilation", 1))
    averaging = isinstance(pool, nn.AvgPool2d)
    counts_padding = averaging and bool(pool.count_include_pad) and max(first_tap) > 0
    sides = _sides(first_tap, kernel, old, rate)
    dense: Any = pool
    dense.__class__ = _DenseAvgPool2d if averaging else _DenseMaxPool2d
    dense.kernel_size, dense.rate, dense.sides = kernel, rate * old[0], sides
    if averaging:
        dense.counts_padding = counts_padding
