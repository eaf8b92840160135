"""Receptive fields: by arithmetic per layer (Table 2's "RF increased"), and measured by gradient on a built network.

A layer with kernel K, stride s and dilation r widens the field by (K - 1) * r * jump, where jump is the product of the
strides before it, in input pixels.
"""

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from ducseg.errors import explain
from ducseg.ops.dilate import DenseAvgPool2d, DenseMaxPool2d
from ducseg.ops.spatial_layers import pair

__all__ = [
    "EveryConnection", "FieldAtLayer", "Layer", "effective", "layers_of", "measured", "paths",
    "receptive_field_increase", "side_of", "theoretical",
]  # fmt: skip


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

    As `paths`: what no path leads from is a hole.

    Args:
        network, size, position, channels: as for `paths`.

    Returns:
        bool (H, W).

    Raises:
        UserError: as `paths`.
    """
    return paths(network, size, position, channels=channels) > 0


@torch.inference_mode(False)
@torch.enable_grad()
def paths(
    network: nn.Module,
    size: tuple[int, int],
    position: tuple[int, int] | None = None,
    *,
    channels: int = 3,
    after: str | None = None,
) -> NDArray[np.float64]:
    """How many paths lead from each place to one place of the output, as shares of all; by gradient on a copy.

    The copy's convolutions get equal positive kernels, its norms (batch, layer, group, instance, RMS) pass everything
    through, as ReLU6 does, its max-poolings take the mean of their taps: every connection then shows, shortcuts
    included, and only the structure counts. ReLU passes what is positive. What averages over the whole picture is left
    out where it meets the map again, since through it every place reaches every other: group and instance norms,
    squeeze-and-excitation, an ASPP's pooled branch. Attention and Fourier transforms are not.

    Args:
        network: (1, channels, H, W) -> (1, C, h, w) or folded (1, L, r*r, h, w), or a dictionary that holds it as
            "out"; left as it is.
        size: H, W of the input in pixels.
        position: row and column on the output's last two dimensions; None: the middle.
        after: count from the output of the module of this name, in place of the picture.

    Returns:
        (H, W), or rows and columns of that module's output; 0 is a hole.

    Raises:
        UserError: a position outside the output, or an output that is no map.
    """
    probe = copy.deepcopy(network).cpu().double().eval().requires_grad_(False)
    _open_up(probe)
    image = torch.ones(1, channels, *size, dtype=torch.float64, requires_grad=True)
    with EveryConnection():
        output, source = _outputs(probe, image, after)
    _at(output, position).sum().backward()  # type: ignore[no-untyped-call]
    assert source.grad is not None
    found = np.asarray(source.grad[0].abs().sum(0))
    return np.asarray(found / found.sum())


@torch.inference_mode(False)
@torch.enable_grad()
def effective(
    network: nn.Module,
    images: Tensor,
    position: tuple[int, int] | None = None,
    *,
    after: str | None = None,
    draws: int = 4,
    seed: int = 0,
) -> NDArray[np.float64]:
    """The effective receptive field (Luo et al. 2016): how strongly each place moves one place of a network's output.

    The root mean square of the gradient of random sums of the output's channels, over channels, draws and images.

    Args:
        network: with its own weights, in evaluation mode; left as it is.
        images: (N, C, H, W), normalised.
        position, after: as for `paths`.
        draws: random sums an image.

    Returns:
        (H, W), or rows and columns of that module's output; shares, that sum to 1.

    Raises:
        UserError: a position outside the output.
    """
    generator = torch.Generator().manual_seed(seed)
    wanted = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    total: Tensor = torch.zeros(())
    try:
        network.requires_grad_(False)
        for image in images.detach():
            with torch.enable_grad():
                output, source = _outputs(network, image[None].clone().requires_grad_(), after)
                answer = _at(output, position).flatten()
            for _ in range(draws):
                weights = torch.randn(answer.shape, generator=generator).to(answer)
                (gradient,) = torch.autograd.grad(answer @ weights, source, retain_graph=True)
                total = total + gradient[0].cpu().double().square().sum(0)
    finally:
        for parameter, wants in wanted:
            parameter.requires_grad_(wants)
    return np.asarray(total.sqrt() / total.sqrt().sum().clamp(min=1e-300))


def side_of(field: NDArray[np.float64], position: tuple[int, int] | None = None, *, share: float = 0.95) -> int:
    """Side of the smallest square around a place (None: the middle) that holds that share of a field, in places."""
    middle = (field.shape[0] // 2, field.shape[1] // 2) if position is None else position
    rows, columns = np.indices(field.shape)
    rings = np.maximum(abs(rows - middle[0]), abs(columns - middle[1]))
    held = np.cumsum(np.bincount(rings.ravel(), field.ravel()))
    return 1 + 2 * int(np.searchsorted(held, share * held[-1]))


def _outputs(network: nn.Module, image: Tensor, after: str | None) -> tuple[Tensor, Tensor]:
    """The network's output, and the tensor on its way whose gradient is wanted."""
    if after is None:
        return the_map(network(image)), image
    seen: list[Tensor] = []

    def cut(_module: nn.Module, _inputs: Any, result: Tensor) -> Tensor:
        seen.append(result.detach().clone().requires_grad_())
        return seen[-1].clone()  # what follows may write in place

    handle = network.get_submodule(after).register_forward_hook(cut)
    try:
        output = the_map(network(image))
    finally:
        handle.remove()
    return output, seen[-1]


def the_map(output: Any) -> Tensor:
    """What a network returned, or what stands under "out" in it, as in torchvision's; else `UserError`."""
    if isinstance(output, Mapping):
        found, output = f"a dictionary of {', '.join(map(repr, output))}", output.get("out")
    else:
        found = f"a {type(output).__name__}"
    if not isinstance(output, Tensor):
        raise explain(
            "output of the network",
            found=found,
            needed='one tensor, or a dictionary that holds it as "out"',
            fix="Wrap the network in a module that returns the map to look at.",
        )
    return output


def _at(output: Tensor, position: tuple[int, int] | None) -> Tensor:
    height, width = output.shape[-2:]
    row, column = (height // 2, width // 2) if position is None else position
    if not (0 <= row < height and 0 <= column < width):
        raise explain(
            "position", found=(row, column), needed=f"inside the output of {height}x{width}", fix="Rows come first."
        )
    return output[..., row, column]


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


_REDUCING = (
    "adaptive_avg_pool2d", "adaptive_max_pool2d", "amax", "amin", "avg_pool2d", "linalg_vector_norm", "logsumexp",
    "max", "max_pool2d", "mean", "norm", "std", "std_mean", "sum", "var", "var_mean", "vector_norm",
)  # fmt: skip


class EveryConnection(TorchFunctionMode):
    """Max-poolings take the mean of their taps; norms and clipping pass everything: torch's functions.

    What was made of a mean over all places, and of nothing else, loses its gradient where a function takes it together
    with a map: a scale of all channels, a branch that is spread out again. A classifier's last mean meets none.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor) and one.requires_grad]
        if name == "to" or name.endswith("_as"):  # the others lend their type or shape
            given = given[:1]
        global_ones = sum(map(_is_global, given))
        if 0 < global_ones < len(given):
            args, kwargs = tree_map_only(Tensor, lambda one: one.detach() if _is_global(one) else one, (args, kwargs))
        result = _opened(func, name, args, kwargs)
        if given and (global_ones == len(given) or (name in _REDUCING and _is_over_all(name, given[0], result))):
            for one in tree_leaves(result):
                if isinstance(one, Tensor):
                    one.is_global = True  # type: ignore[attr-defined]
        return result


def _is_global(tensor: Tensor) -> bool:
    return getattr(tensor, "is_global", False)


def _is_over_all(name: str, source: Tensor, result: Any) -> bool:
    """Whether a map's rows and columns, or those of a flattened one, became one; a small window may just end a map."""
    first = tree_leaves(result)[0]
    small = name in ("avg_pool2d", "max_pool2d") and max(source.shape[-2:]) <= 3
    if source.ndim not in (3, 4) or not isinstance(first, Tensor) or small:
        return False
    lost = sum(side > 1 for side in source.shape) - sum(side > 1 for side in first.shape)
    return lost >= source.ndim - 2


def _opened(func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if name in ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"):
        return args[0]
    if name in ("relu6", "hardtanh"):  # shortcuts add up beyond what they let through
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
