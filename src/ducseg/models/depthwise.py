"""Depthwise convolution whose gradients in bfloat16 on the CPU do not take the library's slow paths.

(N, c, h, w) to (N, c, h', w'), the same numbers as `torch.nn.Conv2d` with `groups=c`. Measured with torch 2.13 (oneDNN)
on one core, 4x144x64x64, kernel 5, stride 2: 59 ms for both gradients, 10 ms here; 4x576x16x16, kernel 3, stride 2:
15 ms, 1 ms here. Slow there are the input's gradient of a strided convolution, here four strideless ones, one for each
phase of the input (the inverse of dense upsampling), and the weights' gradient of a 5x5 kernel, here put together from
those of four 3x3 kernels that cover it.
"""

from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["DepthwiseConv2d", "memory_order"]


def memory_order(network: nn.Module, device: torch.device) -> torch.memory_format:
    """In which order of weights and pictures `network` is fast: channels last, but on CUDA with depthwise convolutions.

    For those cuDNN builds kernels anew for each size. Measured on an H100, EfficientNet-Lite2 with the pyramid,
    8x352x480, bfloat16: the first step 16 s in channels-last order and 2 s in torch's own, later ones 31 and 26 ms.
    """
    depthwise = any(isinstance(module, nn.Conv2d) and module.groups > 1 for module in network.modules())
    return torch.contiguous_format if device.type == "cuda" and depthwise else torch.channels_last


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
        slow = input.device.type == "cpu" and dtype == torch.bfloat16 and self.kernel_size[0] * self.stride[0] > 3
        if not slow or self.bias is not None or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return super().forward(input)
        window = self.stride[0], self.padding[0], self.dilation[0]
        found: Tensor = _Depthwise.apply(input.to(dtype), self.weight.to(dtype), *window)  # type: ignore[no-untyped-call]
        return found


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
            strided = ctx.stride == 2 and ctx.rate == 1
            of_input = _of_input(grad, x, weight, ctx.padding) if strided else _library(grad, x, weight, window, 0)
        if ctx.needs_input_grad[1]:
            of_weight = (_of_5x5 if weight.shape[-1] == 5 else _of_3x3)(grad, x, weight, window)
        return of_input, of_weight, None, None, None


def _of_input(grad: Tensor, x: Tensor, weight: Tensor, padding: int) -> Tensor:
    """Of stride 2: each of the four phases of the input meets every second tap, a 3x3 kernel at most, on the gradient.

    Along one side, with padding p, pixel 2m + a and tap t belong to output o = m - (t - a - p) / 2.
    """
    kernel, channels = weight.shape[-1], len(weight)
    found = torch.zeros_like(x)
    for row, column in product((0, 1), repeat=2):
        taps = [[tap for tap in range(kernel) if (tap - phase - padding) % 2 == 0] for phase in (row, column)]
        part = weight.new_zeros(channels, 1, 3, 3)
        part[:, :, : len(taps[0]), : len(taps[1])] = weight[:, :, taps[0][::-1]][:, :, :, taps[1][::-1]]
        correlated = F.conv2d(grad, part, padding=2, groups=channels)
        # the kernel's first element is the last tap, which pixel m finds at output m + first
        first = [(phase + padding - tap[-1]) // 2 for phase, tap in zip((row, column), taps)]
        phase_of_input = found[:, :, row::2, column::2]
        seen = correlated[:, :, first[0] + 2 :, first[1] + 2 :]
        height, width = (min(sides) for sides in zip(phase_of_input.shape[-2:], seen.shape[-2:]))
        phase_of_input[:, :, :height, :width] = seen[:, :, :height, :width]
    return found


def _of_3x3(grad: Tensor, x: Tensor, weight: Tensor, window: tuple[int, int, int]) -> Tensor:
    return _library(grad, x, weight, window, 1)


def _of_5x5(grad: Tensor, x: Tensor, weight: Tensor, window: tuple[int, int, int]) -> Tensor:
    """Taps 0 to 2 and 2 to 4 of each side are two 3x3 kernels on windows of the padded input, 2 * rate apart."""
    stride, padding, rate = window
    height, width = ((side - 1) * stride + 2 * rate + 1 for side in grad.shape[-2:])
    padded = F.pad(x, (padding,) * 4)
    found, part = torch.empty_like(weight), weight[:, :, :3, :3].contiguous()
    for row, column in product((0, 2), repeat=2):
        seen = padded[:, :, row * rate :, column * rate :][:, :, :height, :width]
        seen = seen.contiguous(memory_format=torch.channels_last)
        found[:, :, row : row + 3, column : column + 3] = _library(grad, seen, part, (stride, 0, rate), 1)
    return found


def _library(grad: Tensor, x: Tensor, weight: Tensor, window: tuple[int, int, int], which: int) -> Tensor:
    """The library's gradient of the input (0) or of the weights (1)."""
    stride, padding, rate = window
    found: Tensor = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [stride] * 2, [padding] * 2, [rate] * 2, False, [0, 0], len(weight),
        [which == 0, which == 1, False],
    )[which]  # fmt: skip
    return found
