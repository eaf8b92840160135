"""Receptive fields: by arithmetic per layer (Table 2's "RF increased"), and measured by gradient on a built network.

A layer with kernel K, stride s and dilation r widens the field by (K - 1) * r * jump, where jump is the product of the
strides before it, in input pixels.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ducseg.errors import explain

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
    kinds = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
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

    The copy's convolutions get equal positive kernels, its batch norms pass everything through, its max-poolings become
    average poolings: every connection then shows, and only the structure counts. ReLU passes what is positive.

    Args:
        network: (1, channels, H, W) -> (1, C, h, w) or folded (1, L, r*r, h, w); left as it is.
        size: H, W of the input in pixels.
        position: row and column on the output's last two dimensions; None: the middle.

    Returns:
        bool (H, W).

    Raises:
        UserError: a position outside the output.
    """
    probe = copy.deepcopy(network).double().eval().requires_grad_(False)
    _open_up(probe)
    image = torch.ones(1, channels, *size, dtype=torch.float64, requires_grad=True)
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
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            module.weight.fill_(1 / module.weight[0].numel())  # sums stay near 1 through a hundred layers
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, _BatchNorm):
            module.reset_parameters()
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
