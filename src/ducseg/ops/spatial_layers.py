"""The convolutions and poolings of any network, found by running it once on a small picture, with their strides.

What cannot be described so is refused with the reason: attention, blurred or conditional convolutions, resizing, grids
that are no exact fraction of the picture.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ducseg.errors import explain, listed, whole

__all__ = ["DOES_NOT_RUN", "SpatialLayer", "check_layers", "pair", "spatial_layers", "strides_seen"]

_PROBE = (64, 96)  # pixels; 2 x 3 places at stride 32, which no global pooling (1 x 1) can be taken for

_MIXING = {
    "bmm": "attention",
    "baddbmm": "attention",
    "_scaled_dot_product_flash_attention_for_cpu": "attention",
    "_scaled_dot_product_attention_math": "attention",
    "im2col": "patches",
    "roll": "shifted windows",
    "_fft_r2c": "Fourier transforms",
    "grid_sampler_2d": "sampling at learned places",
    "pixel_unshuffle": "space to depth",
}
"""torch's operations that join places in another way than a window does."""


@dataclass(frozen=True)
class SpatialLayer:
    """A convolution or pooling as it was run.

    Attributes:
        name, module: of the network.
        stride_in, stride_out: input pixels per place before and after it.
        first_tap: places from the window's first tap to the place it is centred on, (rows, columns): the padding.
        pads_itself: its `forward` adds padding that its attributes do not tell (TensorFlow's "same").
    """

    name: str
    module: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d
    stride_in: int
    stride_out: int
    first_tap: tuple[int, int]
    pads_itself: bool

    @property
    def kernel(self) -> tuple[int, int]:
        """Taps along rows and columns."""
        return pair(self.module.kernel_size)

    @property
    def is_window(self) -> bool:
        """Whether it joins places: a kernel above 1."""
        return max(self.kernel) > 1

    @property
    def is_convolution(self) -> bool:
        """Whether it is a convolution with a kernel above 1, that is, has a dilation rate to speak of."""
        return self.is_window and isinstance(self.module, nn.Conv2d)


def spatial_layers(
    network: nn.Module, run: Callable[[Tensor], object] | None = None, *, num_channels: int | None = None
) -> list[SpatialLayer]:
    """The convolutions and poolings of a network in the order in which they run, from one run on 64 x 96 pixels.

    Args:
        network: its mode and its tensors stay.
        run: what to call; None: the network itself.
        num_channels: of the images that it takes; None: 3, or where it does not take these its first convolution's.

    Raises:
        UserError: it has something that strides cannot be turned into dilation across (all reasons in one message).
    """
    record = _Record(network)
    channels = _channels_of(network, run or network) if num_channels is None else num_channels
    try:
        with record:
            _run_once(network, record.see, run or network, channels)
    except DOES_NOT_RUN as error:
        record.problems.append(f"it does not run on {_PROBE[0]} x {_PROBE[1]} pixels ({error or type(error).__name__})")
    problems = record.all_problems()
    if problems:
        raise explain(
            "stride to dilation",
            found=listed(problems, 4, "; "),
            needed="a network of convolutions and poolings whose grids are exact fractions of the picture",
            fix="Choose a plain convolutional network (ResNet, RegNet, EfficientNet, MobileNet, ConvNeXt, ...); of one "
            "that goes back to finer grids, as a U-Net, pass the encoder alone.",
        )
    return record.layers


def check_layers(network: nn.Module, layers: Sequence[SpatialLayer]) -> None:
    """Raise `UserError` for the first of these that `spatial_layers` would not give of the network as it is now."""
    fix = "Pass spatial_layers(network), of the network as it is now, or leave layers out."
    if not isinstance(layers, Sequence):
        raise explain("layers", found=type(layers).__name__, needed="a list of SpatialLayer", fix=fix)
    modules, seen = dict(network.named_modules(remove_duplicate=False)), set[nn.Module]()
    for place, layer in enumerate(layers):
        what = f"layers[{place}]"
        if not isinstance(layer, SpatialLayer):
            raise explain(what, found=f"{layer!r:.80}", needed="a SpatialLayer", fix=fix)
        what, module = f"{what} {layer.name!r}", layer.module
        if modules.get(layer.name) is not module or not isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            needed = "the name of a convolution or pooling of the network, and that module"
            raise explain(what, found=f"a {type(module).__name__} that is not there", needed=needed, fix=fix)
        if module in seen:
            raise explain(what, found="a layer that stands there before", needed="each once", fix=fix)
        seen.add(module)
        before = whole(f"{what}: stride_in", layer.stride_in, least=1, fix=fix)
        after = whole(f"{what}: stride_out", layer.stride_out, least=1, fix=fix)
        if (after, after) != tuple(before * own for own in pair(module.stride)):
            needed = f"{before} times its own stride, {' x '.join(map(str, pair(module.stride)))}"
            raise explain(f"{what}: stride_out", found=after, needed=needed, fix=fix)
        if not isinstance(layer.first_tap, tuple | list) or len(layer.first_tap) != 2:
            raise explain(f"{what}: first_tap", found=repr(layer.first_tap), needed="(rows, columns)", fix=fix)
        for tap in layer.first_tap:
            whole(f"{what}: first_tap", tap, fix=fix)


DOES_NOT_RUN = (RuntimeError, AssertionError, ValueError, TypeError, IndexError)
"""What networks raise that do not take a picture of this size."""


def strides_seen(network: nn.Module, modules: Sequence[nn.Module]) -> list[int | None]:
    """Pixels per place before and after every call of these modules, then of the outputs; None: no exact fraction."""
    wanted, seen = set(modules), []

    def see(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if module in wanted:
            seen.extend([_stride(inputs[0]), _stride(output)])

    outputs = tree_leaves(_run_once(network, see, network, _channels_of(network, network)))
    return seen + [_stride(output) for output in outputs if isinstance(output, Tensor)]


def _channels_of(network: nn.Module, run: Callable[[Tensor], object]) -> int:
    first = next((module.in_channels for module in network.modules() if isinstance(module, nn.Conv2d)), 3)
    if first != 3:
        try:
            _run_once(network, lambda *_: None, run, 3)
        except DOES_NOT_RUN:
            return first
    return 3


def _run_once(
    network: nn.Module, see: Callable[..., None], run: Callable[[Tensor], object], num_channels: int
) -> object:
    parameter = next(network.parameters(), torch.zeros(()))
    image = torch.zeros(1, num_channels, *_PROBE, device=parameter.device, dtype=parameter.dtype)
    modes = {module: module.training for module in network.modules()}
    handles = [module.register_forward_hook(see) for module in network.modules()]
    try:
        with torch.no_grad():
            network.eval()
            return run(image)
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training


class _Record(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every module's call and every operation of torch below it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._names = {module: name for name, module in network.named_modules()}
        self._mixing: Counter[str] = Counter()
        self._windows = 0
        self._windows_of_layers = 0
        self._strided: list[str] = []
        self.layers: list[SpatialLayer] = []
        self.problems: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        operation = func.overloadpacket.__name__
        if operation in _MIXING:
            self._mixing[_MIXING[operation]] += 1
        elif operation.startswith("upsample_"):
            self._mixing["resizing"] += 1
        is_convolution = operation == "convolution" and args[1].ndim == 4
        if is_convolution and args[6]:
            self._mixing["grids made finer by transposed convolutions"] += 1
            is_convolution = False
        is_window = is_convolution and max(args[1].shape[2:]) > 1
        self._windows += is_window or operation in ("avg_pool2d", "max_pool2d_with_indices")
        return func(*args, **(kwargs or {}))

    def see(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if not inputs or not isinstance(inputs[0], Tensor) or not isinstance(output, Tensor):
            return
        before, after = _stride(inputs[0]), _stride(output)
        is_told_of = isinstance(module, nn.ConvTranspose2d) or any(module.children())  # by its operation, by its parts
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            self._see_layer(module, before, after)
        elif before and after and before != after and not is_told_of:
            self._strided.append(f"{self._names[module]} ({type(module).__name__})")

    def _see_layer(
        self, module: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d, before: int | None, after: int | None
    ) -> None:
        name, kernel = self._names[module], pair(module.kernel_size)
        self._windows_of_layers += max(kernel) > 1 or not isinstance(module, nn.Conv2d)
        if before is None or after is None:
            if max(kernel) > 1:
                self.problems.append(f"{name} runs on a grid that is no exact fraction of the picture")
            return  # a 1x1 convolution on pooled channels
        known = [layer for layer in self.layers if layer.module is module]
        if known and (known[0].stride_in, known[0].stride_out) != (before, after):
            self.problems.append(f"{name} runs at several strides")
        elif not known:
            itself = _pads_itself(module, before, after)
            self.layers.append(SpatialLayer(name, module, before, after, _first_tap(module, itself), itself))

    def all_problems(self) -> list[str]:
        found = [f"{what} ({count} times)" for what, count in self._mixing.items()]
        if self._windows > self._windows_of_layers:
            blame = f", such as {', '.join(self._strided[:4])}" if self._strided else ""
            found.append(f"convolutions or poolings that are not torch's modules{blame}")
        elif self._strided:
            found.append(f"strides that are neither a convolution's nor a pooling's: {', '.join(self._strided[:4])}")
        return [*self.problems, *found]


def pair(size: int | Sequence[int]) -> tuple[int, int]:
    """A size along rows and columns."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _stride(grid: Tensor) -> int | None:
    if grid.ndim != 4:
        return None
    (row_stride, row_rest), (stride, rest) = (divmod(side, n) for side, n in zip(_PROBE, grid.shape[-2:]))
    return stride if row_stride == stride and not row_rest and not rest else None


def _pads_itself(module: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d, before: int, after: int) -> bool:
    if getattr(module, "ceil_mode", False):
        return False
    side = _PROBE[0] // before
    taps, pad, rate, stride = (pair(size)[0] for size in _geometry(module))
    return (side + 2 * pad - rate * (taps - 1) - 1) // stride + 1 != _PROBE[0] // after


def _geometry(module: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) -> tuple[Any, Any, Any, Any]:
    padding: Any = module.padding
    if isinstance(padding, str):  # torch's own "same" and "valid", for stride 1 only
        taps, rates = pair(module.kernel_size), pair(getattr(module, "dilation", 1))
        padding = tuple((k - 1) * r // 2 if padding == "same" else 0 for k, r in zip(taps, rates))
    return module.kernel_size, padding, getattr(module, "dilation", 1), module.stride


def _first_tap(module: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d, pads_itself: bool) -> tuple[int, int]:
    kernel, padding, rate, stride = map(pair, _geometry(module))
    if pads_itself:  # the smaller half before, as TensorFlow's "same" does
        rows, columns = (max(r * (k - 1) + 1 - s, 0) // 2 for k, r, s in zip(kernel, rate, stride))
        return rows, columns
    return padding
