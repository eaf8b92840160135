"""Receptive fields: by arithmetic per layer (Table 2's "RF increased"), and measured by gradient on a built network.

A layer with kernel K, stride s and dilation r widens the field by (K - 1) * r * jump, where jump is the product of the
strides before it, in input pixels.
"""

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from ducseg.errors import explain
from ducseg.ops.dilate import DenseAvgPool2d, DenseMaxPool2d
from ducseg.ops.spatial_layers import pair

__all__ = ["FieldAtLayer", "Layer", "layers_of", "measured", "receptive_field_increase", "theoretical"]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What of a convolution or pooling matters for the receptive field."""

    name: str
    kernel_size: int
    stride: int = 1
    dilation: int = 1


@dataclass(frozen=True, kw_only=True)
class FieldAtLayer:
    """Receptive field (side in input pixels) and jump (input pixels per place) after a layer."""

    name: str
    receptive_field: int
    jump: int


def theoretical(layers: Iterable[Layer]) -> list[FieldAtLayer]:
    """Receptive field and jump after each layer of a chain."""
    field, jump, found = 1, 1, []
    for layer in layers:
        field += (layer.kernel_size - 1) * layer.dilation * jump
        jump *= layer.stride
        found.append(FieldAtLayer(name=layer.name, receptive_field=field, jump=jump))
    return found


def receptive_field_increase(rates: Sequence[int], kernel_size: int = 3) -> int:
    """Table 2's "RF increased": what layers with these rates add to the field, in places of their own grid."""
    return sum((kernel_size - 1) * rate for rate in rates)


def layers_of(network: nn.Module, *, skip: Sequence[str] = ("downsample",)) -> list[Layer]:
    """The 2-d convolutions and poolings of a network in the order of `named_modules`, as one chain.

    Right where that order is the order of execution and where modules whose name holds a word of `skip` (the shortcuts
    of residual blocks) are the shorter way: for ResNets and MobileNets. Square kernels; no transposed convolutions.
    """
    kinds = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, DenseMaxPool2d, DenseAvgPool2d)
    found = []
    for name, module in network.named_modules():
        if isinstance(module, kinds) and not any(word in name for word in skip):
            dilation = 1 if isinstance(module, nn.AvgPool2d) else _side(module.dilation)
            kernel_size, stride = _side(module.kernel_size), _side(module.stride)
            found.append(Layer(name=name, kernel_size=kernel_size, stride=stride, dilation=dilation))
    return found


def _side(size: int | tuple[int, ...]) -> int:
    return size if isinstance(size, int) else size[0]


def measured(
    network: nn.Module, size: tuple[int, int], position: tuple[int, int] | None = None, *, channels: int = 3
) -> NDArray[np.bool_]:
    """Which input pixels reach one place of the output, by gradient on a copy of the network.

    The copy's convolutions get equal positive kernels, its norms (batch, layer, group, instance, RMS) pass everything
    through, its max-poolings take the mean of their taps: every connection then shows, and only the structure counts.
    ReLU passes what is positive. That group and instance norms average over the whole picture is left out.

    Args:
        network: (1, channels, H, W) -> (1, C, h, w) or folded (1, L, r*r, h, w); left as it is.
        size: H, W of the input in pixels.
        position: row and column on the output's last two dimensions; None: the middle.

    Returns:
        bool (H, W).

    Raises:
        UserError: a position outside the output.
    """
    probe = copy.deepcopy(network).cpu().double().eval().requires_grad_(False)
    _open_up(probe)
    image = torch.ones(1, channels, *size, dtype=torch.float64, requires_grad=True)
    with _EveryConnection():
        output: Tensor = probe(image)
    height, width = output.shape[-2:]
    row, column = (height // 2, width // 2) if position is None else position
    if not (0 <= row < height and 0 <= column < width):
        raise explain(
            "position", found=(row, column), needed=f"inside the output of {height}x{width}", fix="Rows come first."
        )
    output[..., row, column].sum().backward()  # type: ignore[no-untyped-call]
    assert image.grad is not None
    reached: NDArray[np.bool_] = (image.grad[0].abs().sum(0) > 0).numpy()
    return reached


def _open_up(network: nn.Module) -> None:
    known = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if name == "weight" and isinstance(module, known):
                parameter.fill_(1 / parameter[0].numel())  # sums stay near 1 through a hundred layers
            else:  # scales of layers
                parameter.fill_(0 if name == "bias" else 1)
        if isinstance(module, _BatchNorm):
            module.reset_running_stats()


class _EveryConnection(TorchFunctionMode):
    """Max-poolings take the mean of their taps, and norms pass everything through: torch's functions, whoever calls."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if name in ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"):
            return args[0]
        if name == "max_pool2d" and not kwargs.pop("return_indices", False):
            return _mean_of_taps(*args, **kwargs)
        if func is torch.nn.functional.pad and -math.inf in (*args[2:], *kwargs.values()):
            return func(*args[:2])
        return func(*args, **kwargs)


def _mean_of_taps(
    images: Tensor, kernel_size: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Tensor:
    rows, columns = torch.max_pool2d(images, kernel_size, stride, padding, dilation, ceil_mode).shape[-2:]
    kernel, pad, rate = pair(kernel_size), pair(padding), pair(dilation)
    steps = pair(stride) if stride else kernel
    ends = [(count - 1) * step + r * (k - 1) + 1 for count, step, r, k in zip((rows, columns), steps, rate, kernel)]
    below, right = (max(0, end - side - p) for end, side, p in zip(ends, images.shape[-2:], pad))
    padded = torch.nn.functional.pad(images, (pad[1], right, pad[0], below))
    taps = images.new_full((images.shape[1], 1, *kernel), 1 / math.prod(kernel))
    return torch.nn.functional.conv2d(padded, taps, None, steps, 0, rate, images.shape[1])[..., :rows, :columns]
