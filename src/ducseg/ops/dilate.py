"""Dilation in any torch network: a rate for each convolution, and stride turned into dilation, nothing lost.

The rule of strides (à trous): a layer whose grid already has the wanted output stride d loses its own stride, and the
taps of a window on a finer grid than before lie f times as far apart, f = (stride of its input in the old network) / d.
Then the old features are the new ones at every f-th place, `new[..., ::f, ::f] == old`, apart from layers that average
over the whole picture (squeeze-and-excitation, group norm), which now average over more places.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from ducseg.errors import explain, listed, whole
from ducseg.ops.coverage import whole_rates
from ducseg.ops.spatial_layers import DOES_NOT_RUN, SpatialLayer, check_layers, pair, spatial_layers, strides_seen

__all__ = [
    "DenseAvgPool2d",
    "DenseMaxPool2d",
    "PaddedConv2d",
    "replace_modules",
    "set_dilations",
    "strides_to_dilations",
]


def set_dilations(module: nn.Module, rates: Sequence[int]) -> list[str]:
    """Give the convolutions of any module their dilation rates, in the order of `module.modules()`.

    Convolutions with a kernel above 1 count (1-d to 3-d; not transposed ones). A padded convolution's padding changes
    by what the dilated kernel grows, so its output keeps its size, in every padding mode; one without padding stays
    without, and its output shrinks by what the kernel grows. Weights stay.

    Args:
        module: changed in place.
        rates: one a convolution.

    Returns:
        The names of the convolutions, in the order of their rates.

    Raises:
        UserError: another number of rates than convolutions (their names are given), a rate below 1, or an even kernel,
            which cannot be padded evenly. Nothing is changed then.
    """
    rates = whole_rates(rates)
    found = {
        name: child
        for name, child in module.named_modules()
        if isinstance(child, _ConvNd) and not isinstance(child, _ConvTransposeNd) and max(child.kernel_size) > 1
    }
    if len(found) != len(rates):
        raise explain(
            "set_dilations",
            found=f"{len(rates)} rates for {len(found)} convolutions ({_named(found) or 'none'})",
            needed="one a convolution whose kernel is above 1",
            fix="Pass a part of the network, or the missing rates.",
        )
    even = [name for name, conv in found.items() if any(side % 2 == 0 for side in conv.kernel_size)]
    if even:
        raise explain("set_dilations", found=f"even kernels in {_named(even)}", needed="odd ones", fix="Skip them.")
    for conv, rate in zip(found.values(), rates):
        _set_rate(conv, rate)
    return list(found)


def _named(names: Iterable[str]) -> str:
    return ", ".join(name or "the module itself" for name in names)


def _set_rate(conv: _ConvNd, rate: int) -> None:
    grown = [(rate - old) * (kernel - 1) // 2 for old, kernel in zip(conv.dilation, conv.kernel_size)]
    conv.dilation = (rate,) * len(conv.dilation)
    if isinstance(conv, PaddedConv2d):
        rows, columns = grown
        more = (columns, columns, rows, rows)
        conv.sides = tuple(max(0, side + extra) for side, extra in zip(conv.sides, more))
        return
    if isinstance(conv.padding, str):
        padding = [0 if conv.padding == "valid" else rate * (kernel - 1) // 2 for kernel in conv.kernel_size]
    else:
        padding = [max(0, pad + more) if pad else 0 for pad, more in zip(conv.padding, grown)]
        conv.padding = tuple(padding)
    # what padding modes other than zeros read: both sides of each dimension, last dimension first
    conv._reversed_padding_repeated_twice = [pad for pad in reversed(padding) for _ in range(2)]


def strides_to_dilations(
    network: nn.Module,
    output_stride: int,
    rates: Mapping[str, int] | None = None,
    *,
    layers: Sequence[SpatialLayer] | None = None,
) -> None:
    """Turn strides beyond `output_stride` into dilation, by the rule at the top of this module.

    Args:
        network: changed in place, its weights stay; it takes three channels, or as many as its first convolution.
        output_stride: d, the largest stride that is kept.
        rates: dilation rates in place of the rule's for convolutions of these names (HDC), also where the stride stays.
        layers: the network's `spatial_layers`; None: from one run of it, and two more tell whether its maps then have
            the strides that they should have.

    Raises:
        UserError: a stride or a rate below 1, rates for what is no such convolution, `layers` that are not those of the
            network as it is; layers that cannot be turned, all in one message; strides that no layer makes (slices,
            space to depth). Nothing is changed then.
    """
    whole("output stride", output_stride, least=1, fix="Commonly 8 or 16.")
    chosen, changes, is_checked = {} if rates is None else rates, [], layers is None
    if layers is None:
        layers = spatial_layers(network)
    else:
        check_layers(network, layers)
    _check_rates(chosen, layers)
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
    modules: list[nn.Module] = [layer.module for layer in layers]
    before = strides_seen(network, modules) if is_checked else []
    kept = {module: {name: getattr(module, name) for name in _CHANGED if hasattr(module, name)} for module in modules}
    new: dict[nn.Module, nn.Module] = {one.module: _dilated(one, rate, loses) for one, rate, loses in changes}
    replace_modules(network, new)
    try:
        if is_checked:
            _check_strides(before, network, [new.get(module, module) for module in modules], output_stride)
    except BaseException:
        replace_modules(network, {module: old for old, module in new.items()})
        for module, values in kept.items():
            for name, value in values.items():
                setattr(module, name, value)
        raise


_CHANGED = ("dilation", "stride", "padding", "_reversed_padding_repeated_twice")


def _check_rates(rates: Mapping[str, int], layers: Sequence[SpatialLayer]) -> None:
    if not isinstance(rates, Mapping):
        raise explain(
            "dilation rates",
            found=f"{rates!r:.80}",
            needed="a mapping from names of convolutions to rates",
            fix='Example: {"layer4.0.conv2": 4}; set_dilations takes one rate a convolution.',
        )
    if rates:
        whole_rates(list(rates.values()))
    names = [layer.name for layer in layers if layer.is_window]
    unknown = [name for name in rates if name not in names]
    if unknown:
        raise explain(
            "dilation rates",
            found=f"rates for {listed(unknown)}",
            needed=f"names of convolutions whose kernel is above 1: {listed(names, 20) or 'none'}",
            fix="Correct the names.",
        )


def _check_strides(
    before: Sequence[int | None], network: nn.Module, modules: Sequence[nn.Module], output_stride: int
) -> None:
    """Whether every map has the stride of before, or `output_stride` where that was more."""
    try:
        after = strides_seen(network, modules)
        wrong = [(old, new) for old, new in zip(before, after) if old and new != min(old, output_stride)]
        found = "" if not wrong else f"a map that had stride {wrong[0][0]} and gets {wrong[0][1] or 'another size'}"
    except DOES_NOT_RUN as error:
        found = f"a network that does not run any more ({error or type(error).__name__})"
    if found:
        raise explain(
            f"output stride {output_stride}",
            found=found,
            needed="all strides from convolutions and poolings",
            fix="A slice, a reshape or a pooling in some forward has a stride of its own: make it a layer.",
        )


def replace_modules(network: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> None:
    """Put other modules in the place of some, wherever in the network they stand."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if child in replacements:
                parent.set_submodule(name, replacements[child])


def _refusals(layer: SpatialLayer) -> list[str]:
    module = layer.module
    if isinstance(module, nn.Conv2d):
        if module.padding_mode != "zeros":
            return [f"padding mode {module.padding_mode}"]
        is_its_own = type(module).__name__ not in ("Conv2d", "Conv2dSame") or "forward" in vars(module)
        if (layer.pads_itself or _uneven(layer)) and is_its_own:
            return [f"an off-centre window in a {type(module).__name__}"]
        return []
    if type(module) not in (nn.MaxPool2d, nn.AvgPool2d) or layer.pads_itself:
        return [f"a {type(module).__name__} that pads itself"]
    if getattr(module, "divisor_override", None) is not None:
        return ["a pooling with a divisor of its own"]
    if isinstance(module, nn.AvgPool2d) and module.ceil_mode and module.count_include_pad and max(layer.first_tap) > 0:
        return ["a pooling whose divisor changes at the edge"]
    return []


def _uneven(layer: SpatialLayer) -> bool:
    rates = pair(getattr(layer.module, "dilation", 1))
    return any(2 * tap != rate * (taps - 1) for tap, taps, rate in zip(layer.first_tap, layer.kernel, rates))


def _dilated(layer: SpatialLayer, rate: int, loses_stride: bool) -> nn.Module:
    """What takes the layer's place: itself, changed, where torch's own layer can do it."""
    module, old = layer.module, pair(getattr(layer.module, "dilation", 1))
    above, left = (rate * tap for tap in layer.first_tap)
    below, right = (rate * (o * (taps - 1) - tap) for tap, taps, o in zip(layer.first_tap, layer.kernel, old))
    sides = (left, right, above, below)
    if isinstance(module, nn.MaxPool2d):
        return _hooked(DenseMaxPool2d(layer.kernel, rate * old[0], sides), module)
    if isinstance(module, nn.AvgPool2d):
        counts_padding = bool(module.count_include_pad) and max(layer.first_tap) > 0
        return _hooked(DenseAvgPool2d(layer.kernel, rate, sides, counts_padding), module)
    dilation, stride = (rate * old[0], rate * old[1]), (1, 1) if loses_stride else pair(module.stride)
    if (left, above) != (right, below) or type(module).__name__ == "Conv2dSame":
        return PaddedConv2d(module, stride, dilation, sides)
    module.dilation, module.stride, module.padding = dilation, stride, (above, left)
    module._reversed_padding_repeated_twice = [left, right, above, below]
    return module


def _hooked(new: nn.Module, old: nn.Module) -> nn.Module:
    """The hooks, and the mode, are those of the old one; a handle that it gave still removes them."""
    vars(new).update({name: vars(old)[name] for name in vars(nn.Module())})
    return new


class PaddedConv2d(nn.Conv2d):
    """Another convolution, all that it holds shared, with zeros on `sides` = (left, right, above, below)."""

    def __init__(
        self, conv: nn.Conv2d, stride: tuple[int, int], dilation: tuple[int, int], sides: tuple[int, ...]
    ) -> None:
        nn.Module.__init__(self)  # Conv2d's own would make a second kernel, and use random numbers for it
        vars(self).update(vars(conv))  # parameters, hooks, and what these make weights of (weight norm, pruning)
        vars(self).pop("_compiled_call_impl", None)
        self.stride, self.dilation, self.padding, self.sides = stride, dilation, (0, 0), sides

    def forward(self, input: Tensor) -> Tensor:
        padded = F.pad(input, self.sides)
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    def extra_repr(self) -> str:
        return f"{nn.Conv2d.extra_repr(self)}, sides={self.sides}"  # type: ignore[no-untyped-call]


def _mean_of_taps(
    images: Tensor, kernel_size: tuple[int, int], rate: int, sides: tuple[int, ...], counts_padding: bool
) -> Tensor:
    channels = int(images.shape[1])  # a constant of every graph, so that the kernels are
    kernels = images.new_ones(channels, 1, *kernel_size)
    sums = F.conv2d(F.pad(images, sides), kernels, dilation=rate, groups=channels)
    if counts_padding:
        return sums / math.prod(kernel_size)
    inside = F.pad(torch.ones_like(images[:1, :1]), sides)
    return sums / F.conv2d(inside, kernels[:1], dilation=rate)


torch.fx.wrap("_mean_of_taps")  # sizes are not known while torch.fx traces


class DenseMaxPool2d(nn.Module):
    """Pooling at every place over taps `rate` places apart, as a strided one of the coarser grid had them."""

    def __init__(self, kernel_size: tuple[int, int], rate: int, sides: tuple[int, ...]) -> None:
        super().__init__()
        self.kernel_size, self.dilation, self.stride, self.sides = kernel_size, rate, 1, sides

    def forward(self, images: Tensor) -> Tensor:
        padded = F.pad(images, self.sides, value=float("-inf"))
        return F.max_pool2d(padded, self.kernel_size, stride=1, dilation=self.dilation)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}, sides={self.sides}"


class DenseAvgPool2d(DenseMaxPool2d):
    """As `DenseMaxPool2d`, the mean; over the taps inside the picture, or with `counts_padding` over all."""

    def __init__(
        self, kernel_size: tuple[int, int], rate: int, sides: tuple[int, ...], counts_padding: bool = True
    ) -> None:
        super().__init__(kernel_size, rate, sides)
        self.counts_padding = counts_padding

    def forward(self, images: Tensor) -> Tensor:
        return _mean_of_taps(images, self.kernel_size, self.dilation, self.sides, self.counts_padding)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, counts_padding={self.counts_padding}"
