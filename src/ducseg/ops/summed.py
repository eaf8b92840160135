"""Summed dilated convolutions (ASPP, paper section 4.1) on a processor, by matrix products.

Legend: N pictures, c channels in, C channels out, h w places. A *tap* is one C x c slice of a kernel, at an offset of
(rows, columns) places from its output; all taps read the same features. The sum over all paths is made picture by
picture and tap by tap: a product of (places, c) with (c, C), of those places only whose input lies on the map.

- Taps at one offset are added first: paths share their centres (3 of 36 taps for four paths).
- A place whose tap lies in the padding costs nothing: at rates 6, 12, 18, 24 on a map of 45 x 60 a third of the
  products do; beyond the map's size a 3x3 kernel is a 1x1.
- The time does not depend on C as that of oneDNN's convolutions does, which in channels_last order take four times as
  long for C = 176 (11 classes, r = 4) as for 192, and twice as long for a kernel's gradient at rate 24.

The result is the sum of the convolutions to rounding; products in bfloat16 are summed in float32.
"""

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from ducseg.ops.graphs import in_a_graph, in_a_transform

__all__ = ["has_hooks", "summed_convolutions"]


def summed_convolutions(convolutions: Sequence[nn.Conv2d], features: Tensor) -> Tensor:
    """The sum of convolutions of the same features: (N, c, h, w) to (N, C, h, w).

    One convolution is called as it is; several are called one by one in graphs and transforms, on other devices, where
    one of them has hooks or is of a kind of its own, and where types of numbers do not go together.

    Args:
        convolutions: with bias, of stride 1, odd square kernels, and zero padding that keeps the size.
    """
    plain = len(convolutions) == 1 or in_a_graph() or in_a_transform() or features.device.type != "cpu"
    if plain or any(map(_is_its_own, convolutions)) or not _go_together(features, convolutions):
        total: Tensor = convolutions[0](features)
        for convolution in convolutions[1:]:
            total = total + convolution(features)
        return total
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else features.dtype
    bias = torch.stack([cast(Tensor, conv.bias) for conv in convolutions]).sum(0)
    rates = tuple(conv.dilation[0] for conv in convolutions)
    weights = [conv.weight for conv in convolutions]
    return cast(Tensor, _SummedTaps.apply(features.to(dtype), bias, rates, *weights))  # type: ignore[no-untyped-call]


def _is_its_own(conv: nn.Conv2d) -> bool:
    return type(conv) is not nn.Conv2d or has_hooks(conv)


_MATRICES = {torch.float32, torch.bfloat16, torch.float16}


def _go_together(features: Tensor, convolutions: Sequence[nn.Conv2d]) -> bool:
    kinds = {features.dtype, *(parameter.dtype for conv in convolutions for parameter in conv.parameters())}
    if torch.is_autocast_enabled("cpu"):
        return kinds <= _MATRICES  # float64 stays as it is there
    return len(kinds) == 1 and kinds <= _MATRICES | {torch.float64}


def has_hooks(module: nn.Module) -> bool:
    """Whether something wants to see the module's call, forward or backward, so that it must be called as it is."""
    of_it = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, name) for name in of_it)


class _Tap(NamedTuple):
    """Rows of the map that it writes and reads, and its slices: (path, row, column) of the kernels."""

    written: slice
    read: slice
    slices: list[tuple[int, int, int]]


class _Columns(NamedTuple):
    """The taps of one column offset, with the columns that they write and read."""

    written: slice
    read: slice
    taps: list[_Tap]


def _on_the_map(kernels: Sequence[int], rates: Sequence[int], size: tuple[int, int]) -> Iterator[_Columns]:
    """All taps that reach the map from somewhere on it; `kernels` are their sides."""
    found: dict[int, dict[int, list[tuple[int, int, int]]]] = {}
    for path, (side, rate) in enumerate(zip(kernels, rates)):
        offsets = [rate * (tap - side // 2) for tap in range(side)]
        for row, down in enumerate(offsets):
            for column, across in enumerate(offsets):
                if abs(down) < size[0] and abs(across) < size[1]:
                    found.setdefault(across, {}).setdefault(down, []).append((path, row, column))
    for across, rows in found.items():
        taps = [_Tap(*_overlap(down, size[0]), slices) for down, slices in rows.items()]
        yield _Columns(*_overlap(across, size[1]), taps)


def _overlap(offset: int, length: int) -> tuple[slice, slice]:
    """The places whose neighbour at that offset is one of `length` places, and these neighbours."""
    return slice(max(0, -offset), length - max(0, offset)), slice(max(0, offset), length + min(0, offset))


class _SummedTaps(torch.autograd.Function):
    """In the features' precision; of the weights' gradients the sum over pictures is made in theirs.

    The features' gradient is left to the convolutions, which take no time for what lies in the padding either.
    """

    @staticmethod
    def forward(features: Tensor, bias: Tensor, rates: tuple[int, ...], *weights: Tensor) -> Tensor:
        pictures = features.permute(0, 2, 3, 1).contiguous()  # (N, h, w, c)
        number, height, width, _ = pictures.shape
        kernels = [_in_use(weight, features).permute(2, 3, 1, 0) for weight in weights]  # (k, k, c, C)
        total = bias.to(torch.promote_types(features.dtype, torch.float32)).repeat(number, height, width, 1)
        for columns in _on_the_map([len(kernel) for kernel in kernels], rates, (height, width)):
            products = [
                reduce(torch.add, (kernels[path][row, column] for path, row, column in t.slices)) for t in columns.taps
            ]
            for picture, sums in zip(pictures, total):
                read = picture[:, columns.read].contiguous()
                part = torch.zeros_like(sums[:, columns.written]).contiguous()
                for tap, kernel in zip(columns.taps, products):
                    _add_product(part[tap.written].flatten(0, 1), read[tap.read].flatten(0, 1), kernel)
                sums[:, columns.written] += part
        return total.to(features.dtype).permute(0, 3, 1, 2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        features, bias, ctx.rates, *weights = inputs
        ctx.bias_dtype = bias.dtype
        ctx.save_for_backward(features, *weights)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, *weights = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_features = of_bias = None
        of_weights: list[Tensor] | list[None] = [None] * len(weights)
        if ctx.needs_input_grad[0]:
            of_features = torch.zeros_like(features)
            for weight, rate in zip(weights, ctx.rates):
                kernel, padding = _in_use(weight, features), rate * (weight.shape[-1] // 2)
                of_features += conv2d_input(list(features.shape), kernel, gradient, 1, padding, rate)  # type: ignore[no-untyped-call]
        if ctx.needs_input_grad[1]:
            of_bias = gradient.sum((0, 2, 3), dtype=torch.promote_types(ctx.bias_dtype, torch.float32))
            of_bias = of_bias.to(ctx.bias_dtype)
        if any(ctx.needs_input_grad[3:]):
            of_weights = _of_weights(features, gradient, weights, ctx.rates)
        return of_features, of_bias, None, *of_weights


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    if total.dtype == left.dtype:
        torch.addmm(total, left, right, out=total)
    else:
        total.add_(left @ right)


def _of_weights(features: Tensor, gradient: Tensor, weights: list[Tensor], rates: tuple[int, ...]) -> list[Tensor]:
    """Gradients of the weights, from features (N, c, h, w) and the sum's gradient (N, C, h, w)."""
    found = [torch.zeros_like(weight, memory_format=torch.channels_last) for weight in weights]
    pictures, gradients = features.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
    for columns in _on_the_map([weight.shape[-1] for weight in weights], rates, (features.shape[2], features.shape[3])):
        for picture, errors in zip(pictures, gradients):
            read, written = picture[:, columns.read].contiguous(), errors[:, columns.written].contiguous()
            for tap in columns.taps:
                product = written[tap.written].flatten(0, 1).T @ read[tap.read].flatten(0, 1)
                for path, row, column in tap.slices:
                    found[path][:, :, row, column] += product
    return found


def _in_use(weight: Tensor, features: Tensor) -> Tensor:
    return weight.to(features.dtype, memory_format=torch.channels_last)
