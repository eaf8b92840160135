"""Depthwise convolution whose gradients in bfloat16, on CPUs that have it, do not take the library's slow paths.

(N, c, h, w) to (N, c, h', w'), the same numbers as `torch.nn.Conv2d` with `groups=c`. Measured with torch 2.13 (oneDNN)
on one core, both gradients at stride 2: 4x144x64x64, kernel 5: 46 ms, 6 ms here; 4x96x128x128, kernel 3: 55 ms, 10 ms
here; at rate 5, 4x480x32x32, kernel 3: 81 ms, 18 ms here. Slow there are the input's gradient of a strided convolution,
here one convolution of the outputs' gradients with zeros between them; the weights' gradient of a strided or 5x5
kernel, here put together from those of 3x3 kernels on windows that end where the input does; and both of a dilated one.
"""

from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ducseg.devices import has_bf16
from ducseg.ops.graphs import in_a_graph, in_a_transform

__all__ = ["DepthwiseConv2d", "memory_order"]


def memory_order(network: nn.Module, device: torch.device) -> torch.memory_format:
    """In which order of weights and pictures `network` is fast: channels last, but on CUDA with depthwise convolutions.

    For depthwise ones cuDNN builds kernels anew for each size. Measured on an H100, EfficientNet-Lite2 with the
    pyramid, 8x352x480, bfloat16: the first step 16 s in channels-last order and 2 s in torch's own, later ones 31 and
    26 ms. On Apple's GPUs it is torch's own too: in the other order some of their operations have given wrong numbers
    without a word (pytorch issues 174345 and 180984).
    """
    depthwise = any(isinstance(module, nn.Conv2d) and module.groups > 1 for module in network.modules())
    own = device.type == "mps" or (device.type == "cuda" and depthwise)
    return torch.contiguous_format if own else torch.channels_last


class DepthwiseConv2d(nn.Conv2d):
    """`torch.nn.Conv2d` with one filter a channel and no bias.

    Args:
        channels: c.
        kernel_size: 3 or 5.
        stride: 1 or 2.
        padding: zeros before and after rows and columns.
        dilation: the rate.
        skip: so many of the first output rows and columns are left out.
    """

    def __init__(
        self, channels: int, kernel_size: int, *, stride: int = 1, padding: int = 0, dilation: int = 1, skip: int = 0
    ) -> None:
        super().__init__(channels, channels, kernel_size, stride, padding, dilation, groups=channels, bias=False)
        self._skip = skip

    def forward(self, input: Tensor) -> Tensor:
        found = self._whole(input)
        if not self._skip:
            return found
        found = found[:, :, self._skip :, self._skip :]
        if torch.compiler.is_compiling():
            return found
        last = input.is_contiguous(memory_format=torch.channels_last)
        order = torch.channels_last if last else torch.contiguous_format
        return found.contiguous(memory_format=order)

    def _whole(self, input: Tensor) -> Tensor:
        autocast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if autocast else input.dtype
        kinds = {input.dtype, self.weight.dtype}
        fits = torch.float64 not in kinds if autocast else len(kinds) == 1
        small = self.kernel_size[0] * self.stride[0] * self.dilation[0] == 3
        slow = input.device.type == "cpu" and dtype == torch.bfloat16 and fits and not small
        plain = not torch.is_grad_enabled() or in_a_graph() or in_a_transform()
        if not slow or self.bias is not None or plain or not has_bf16(input.device):  # imitated, torch's are exacter
            return super().forward(input)
        window = self.stride[0], int(self.padding[0]), self.dilation[0]
        if self.stride[0] == 1 < self.dilation[0]:
            return _by_phases(input.to(dtype), self.weight.to(dtype), *window[1:])
        found: Tensor = _Depthwise.apply(input.to(dtype), self.weight.to(dtype), *window)  # type: ignore[no-untyped-call]
        return found


def _by_phases(x: Tensor, weight: Tensor, padding: int, rate: int) -> Tensor:
    """A dilated convolution: each of rate**2 phases, every rate-th row and column, is a picture of its own at 1."""
    kernel, (count, channels, *sides) = weight.shape[-1], x.shape
    rows, columns = (-(-(side + 2 * padding) // rate) for side in sides)
    below, right = rows * rate - sides[0] - padding, columns * rate - sides[1] - padding
    x = F.pad(x, (padding, right, padding, below)).permute(0, 2, 3, 1)
    x = x.reshape(count, rows, rate, columns, rate, channels).permute(0, 2, 4, 1, 3, 5)
    x = x.flatten(0, 2).permute(0, 3, 1, 2)
    of_all: Any = _Depthwise.apply
    y: Tensor = F.conv2d(x, weight, groups=channels) if kernel == 3 else of_all(x, weight, 1, 0, 1)
    rows, columns = y.shape[2:]
    y = y.permute(0, 2, 3, 1).reshape(count, rate, rate, rows, columns, channels).permute(0, 3, 1, 4, 2, 5)
    y = y.reshape(count, rate * rows, rate * columns, channels).permute(0, 3, 1, 2)
    found = [side + 2 * padding - rate * (kernel - 1) for side in sides]
    return y[:, :, : found[0], : found[1]].contiguous(memory_format=torch.channels_last)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int, rate: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding, ctx.rate = stride, padding, rate
        return F.conv2d(x, weight, None, stride, padding, rate, len(weight))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        window = ctx.stride, ctx.padding, ctx.rate
        of_input = of_weight = None
        if ctx.needs_input_grad[0]:
            strided = ctx.stride == 2 and ctx.rate == 1 and ctx.padding < weight.shape[-1]
            of_input = _of_input(grad, x, weight, ctx.padding) if strided else _library(grad, x, weight, window, 0)
        if ctx.needs_input_grad[1]:
            of_weight = _of_weight(grad, x, weight, window)
        return of_input, of_weight, None, None, None


def _of_input(grad: Tensor, x: Tensor, weight: Tensor, padding: int) -> Tensor:
    """Of stride 2: the outputs' gradients with zeros between them, correlated with the kernel turned round.

    Along one side, with kernel k and padding p, output o meets pixel 2o + tap - p.
    """
    kernel, first = weight.shape[-1], weight.shape[-1] - 1 - padding
    size = [*x.shape[:2], *(side + kernel - 1 for side in x.shape[2:])]
    spread = torch.empty(size, dtype=grad.dtype, memory_format=torch.channels_last).zero_()
    spread[:, :, first::2, first::2][:, :, : grad.shape[2], : grad.shape[3]] = grad
    return F.conv2d(spread, weight.flip(2, 3), groups=len(weight))


def _of_weight(grad: Tensor, x: Tensor, weight: Tensor, window: tuple[int, int, int]) -> Tensor:
    """Of each 3x3 part (a 5x5 kernel has four, taps 0 to 2 and 2 to 4 of each side): fast where the input is padded or
    cut so that the first window begins with it and the last one ends with it."""  # fmt: skip
    stride, padding, rate = window
    found, part = torch.empty_like(weight), weight[:, :, :3, :3].contiguous()
    for taps in product(range(0, weight.shape[-1] - 2, 2), repeat=2):
        sides: list[int] = []
        for tap, outputs, inputs in zip(taps, grad.shape[2:], x.shape[2:]):
            before = padding - tap * rate
            sides = [before, (outputs - 1) * stride + 2 * rate + 1 - before - inputs, *sides]
        row, column = taps
        of_part = _library(grad, F.pad(x, sides), part, (stride, 0, rate), 1)
        found[:, :, row : row + 3, column : column + 3] = of_part
    return found


def _library(grad: Tensor, x: Tensor, weight: Tensor, window: tuple[int, int, int], which: int) -> Tensor:
    """The library's gradient of the input (0) or of the weights (1)."""
    stride, padding, rate = window
    found: Tensor = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [stride] * 2, [padding] * 2, [rate] * 2, False, [0, 0], len(weight),
        [which == 0, which == 1, False],
    )[which]  # fmt: skip
    return found
