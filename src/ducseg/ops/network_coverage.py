"""Exact coverage of a network as it is built: through its real blocks, with their shortcuts, strides and 1x1s.

`ducseg.ops.coverage` judges a list of rates. A network is more than that: a basic block dilates twice, convolutions of
rate 1 stand before, between and after, and what skips a block reaches where the block's centre does. So the network is
opened where its dilated part begins, and the paths from there to one place of its output are counted.
"""

import copy
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ducseg.ops.receptive_field import EveryConnection, paths, the_map
from ducseg.ops.spatial_layers import pair

__all__ = ["Dilated", "NetworkCoverage", "coverage_by_block", "dilated_layers", "network_coverage"]

_SIDE, _WIDEST = 256, 4096  # pixels; multiples of every output stride


@dataclass(frozen=True, kw_only=True)
class Dilated:
    """A dilated convolution: its name, its rate, and the pixels per place of the grid it runs on."""

    name: str
    rate: int
    stride: int

    @property
    def period(self) -> int:
        """Pixels between the places that it reads: what a lattice it leaves repeats with."""
        return self.rate * self.stride


@dataclass(frozen=True, kw_only=True)
class NetworkCoverage:
    """From which places of a map the middle of the output can learn.

    Attributes:
        after: the module whose output the map is, the last one before the dilated part.
        stride: pixels per place of the map.
        paths: (n, n) shares of the paths from each place of the receptive field, which it holds just so; 0 is a hole.
    """

    after: str
    stride: int
    paths: NDArray[np.float64]

    @property
    def holes(self) -> int:
        """Places of the receptive field that no path leads from."""
        return int((self.paths == 0).sum())

    @property
    def covered_fraction(self) -> float:
        """Share of the receptive field's places that are reached."""
        return float((self.paths > 0).mean())


def dilated_layers(network: nn.Module, *, channels: int = 3) -> list[Dilated]:
    """The convolutions of a rate above 1, in the order in which they run.

    Args:
        network: (N, channels, H, W) -> (N, C, h, w) or folded (N, L, r*r, h, w); left as it is.
    """
    calls = _calls(_one_channel(network), channels)
    return [Dilated(name=call.name, rate=call.rate, stride=call.stride_in) for call in calls if call.rate > 1]


def network_coverage(network: nn.Module, *, channels: int = 3) -> NetworkCoverage | None:
    """Count the paths from where the dilated part of a network begins to the middle of its output.

    It begins after the last module before the first dilated convolution through whose output goes all that the network
    says of the picture, but for means over all of it, which are left out as by `paths`. Of a field larger than 4096
    pixels the middle is counted.

    Args:
        network: as for `dilated_layers`.

    Returns:
        None where nothing is dilated, or where something leads past every such module (heads that join finer maps).
    """
    found = coverage_by_block(network, most=1, channels=channels)
    return found[0] if found else None


@torch.inference_mode(False)
def coverage_by_block(network: nn.Module, *, most: int, channels: int = 3) -> list[NetworkCoverage]:
    """As `network_coverage`, and after later blocks too, the paper's Figure 2: at most so many, from first to last.

    Blocks are modules with others inside through which all goes; of more than `most` some, spread evenly.
    """
    slim = _one_channel(network)
    calls = _calls(slim, channels)
    first = next((index for index, call in enumerate(calls) if call.rate > 1), 0)
    times = Counter(call.name for call in calls)

    def is_cut(index: int) -> bool:
        call = calls[index]
        return bool(call.stride_out) and times[call.name] == 1 and _is_a_cut(slim, call.name, channels)

    def growth(index: int) -> int:
        return sum(call.growth for call in calls[index + 1 :])

    begins = next((index for index in reversed(range(first)) if is_cut(index)), None)
    if begins is None:
        return []
    cuts = {growth(begins): begins}
    for index in range(first, len(calls)) if most > 1 else ():
        is_block = any(slim.get_submodule(calls[index].name).children())
        if is_block and 0 < growth(index) < growth(begins) and is_cut(index):
            cuts[growth(index)] = index  # the outermost of those that end together
    chosen = [cuts[left] for left in sorted(cuts, reverse=True)]
    number = min(most, len(chosen))
    return [_coverage_after(slim, calls, chosen[place * len(chosen) // number], channels) for place in range(number)]


def _coverage_after(network: nn.Module, calls: "list[_Call]", index: int, channels: int) -> NetworkCoverage:
    widest = sum(call.growth for call in calls[index + 1 :]) + 4 * calls[index].stride_out
    side = min(_WIDEST, -(-widest // _SIDE) * _SIDE)
    found = paths(network, (side, side), channels=channels, after=calls[index].name)
    rows, columns = (np.flatnonzero((found > 0).any(axis)) for axis in (1, 0))
    field = found[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return NetworkCoverage(after=calls[index].name, stride=calls[index].stride_out, paths=field)


def _one_channel(network: nn.Module, *, keep: str = "head") -> nn.Module:
    """A copy with the same structure and one channel everywhere, so that wide fields fit in memory.

    Each convolution takes the mean of what it is given. Those below a module named `keep` give as many channels as
    before, since heads fold them.
    """
    slim = copy.deepcopy(network).cpu().requires_grad_(False).eval()
    for name, conv in slim.named_modules():
        if not isinstance(conv, nn.Conv2d | nn.ConvTranspose2d):
            continue
        inputs, outputs = (0, 1) if isinstance(conv, nn.ConvTranspose2d) else (1, 0)
        weight, kept = conv.weight.narrow(inputs, 0, 1), keep in name.split(".")
        conv.weight = nn.Parameter(weight if kept else weight.narrow(outputs, 0, 1), requires_grad=False)
        if conv.bias is not None and not kept:
            conv.bias = nn.Parameter(conv.bias[:1], requires_grad=False)
        conv.groups = 1
        conv.register_forward_pre_hook(lambda _conv, inputs: inputs[0].mean(1, keepdim=True))
    return slim


class _Call(NamedTuple):
    """A module that was run: pixels per place before and after it (0: none), its rate, the pixels it widens a field."""

    name: str
    stride_in: int
    stride_out: int
    rate: int
    growth: int


def _calls(network: nn.Module, channels: int) -> list[_Call]:
    """The modules in the order in which they end."""
    calls: list[_Call] = []
    names = {module: name for name, module in network.named_modules()}

    def see(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        before, after = (_stride(tensor) for tensor in (inputs[0] if inputs else None, output))
        of_windows = ("kernel_size", "dilation")
        kernel, rate = (max(pair(getattr(module, name, 1))) if before else 1 for name in of_windows)
        is_conv = isinstance(module, nn.Conv2d) and kernel > 1
        calls.append(_Call(names[module], before, after, rate if is_conv else 1, (kernel - 1) * rate * before))

    handles = [module.register_forward_hook(see) for module in network.modules()]
    try:
        _probe(network, channels)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _stride(tensor: object) -> int:
    return _SIDE // tensor.shape[-1] if isinstance(tensor, Tensor) and tensor.ndim == 4 else 0


def _is_a_cut(network: nn.Module, name: str, channels: int) -> bool:
    """Whether all that the output says of the picture goes through the output of this module."""
    handle = network.get_submodule(name).register_forward_hook(lambda _module, _inputs, result: result.detach())
    try:
        return not _probe(network, channels, gradient=True).requires_grad
    finally:
        handle.remove()


def _probe(network: nn.Module, channels: int, *, gradient: bool = False) -> Tensor:
    """The output for one empty picture, with the gradient of the picture."""
    first = next(network.parameters(), torch.zeros(()))
    picture = torch.zeros(1, channels, _SIDE, _SIDE, device=first.device, dtype=first.dtype, requires_grad=gradient)
    with torch.set_grad_enabled(gradient), EveryConnection():
        return the_map(network(picture))
