"""Convolutional networks of timm as encoders, with stride turned into dilation and a rate per block.

Images (N, C, H, W), H and W multiples of the output stride d, to the features of the last stage (N, c, H/d, W/d).
1x3x512x1024 through `timm:convnext_tiny` at d = 8 becomes 1x768x64x128.

res2..res5 are the blocks whose output has stride 4, 8, 16, 32 in timm's own network. A block is the outermost module
inside a stage that is neither a container nor the stage itself (a bottleneck, an inverted residual, a dense layer) and
holds a convolution with a kernel above 1; its rate is the rate of all of these, its shortcut's excepted. What lies
outside of blocks (ConvNeXt's convolutions between stages) or is a pooling follows the rule of `ducseg.ops.dilate`.
So `timm:resnet50` computes what our own `resnet50` does, at every output stride and schedule. Parameter names are
timm's, below `network.`.
"""

import re
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ducseg.errors import UserError, explain
from ducseg.models.dilation import Dilation, dilation_conflicts, stage_rates
from ducseg.models.encoder import STRIDES, strides_at
from ducseg.models.preprocessing import Preprocessing
from ducseg.ops.dilate import strides_to_dilations
from ducseg.ops.spatial_layers import SpatialLayer, spatial_layers

__all__ = ["PREFIX", "TimmEncoder", "TimmUnavailable", "import_timm"]

PREFIX = "timm:"
"""What an encoder's name begins with to be timm's: `timm:convnext_tiny`, `timm:resnet50.a1_in1k`."""

_OLDEST = (1, 0, 31)  # up to 1.0.27 some networks give other features or keep layers that are not used
_NAMES = {stride: name for name, stride in STRIDES.items()}
_SHORTCUTS = ("downsample", "shortcut", "skip", "proj_shortcut")


class TimmUnavailable(UserError):
    """timm is not installed, or does not import."""


def import_timm() -> Any:
    """The module `timm`; raises `TimmUnavailable` where it is missing or does not import."""
    oldest = ".".join(map(str, _OLDEST))
    needed, fix = f"timm {oldest} or later", f"pip install 'timm>={oldest}'"
    try:
        import timm
    except ImportError as error:
        raise TimmUnavailable(str(explain("timm", found=str(error), needed=needed, fix=fix))) from error
    except RuntimeError as error:  # torchvision, which timm imports, was built for another torch
        reason = explain(
            "timm",
            found=f"an import that failed ({error})",
            needed="a torchvision made for the torch that is installed",
            fix="Install both from the same index (pip install torch torchvision).",
        )
        raise TimmUnavailable(str(reason)) from error
    version = timm.__version__
    if tuple(map(int, re.findall(r"\d+", version)[:3])) < _OLDEST:
        raise TimmUnavailable(str(explain("timm", found=version, needed=needed, fix=fix)))
    return timm


class TimmEncoder(nn.Module):
    """A convolutional network of timm up to its last stage, with random weights.

    Args:
        name: timm's name, with or without a tag: "resnet50d", "convnext_atto.d2_in1k".
        output_stride: 32, 16, 8 or 4.
        dilation: as in `ducseg.models.build`.
        num_channels: of the images.

    Attributes:
        network: timm's model without its classifier.
        out_channels: c of the features.
        channels, strides: of every named intermediate, finest first; "stem" where the network has a map at stride 2.
        rates: dilation rate of every block of res2..res5.
        block_names: their names, stage by stage.
        preprocessing: what timm's weights of that name expect.
        left_out: names of timm's tensors that the encoder has no use for (the classifier).

    Raises:
        UserError: timm is missing, has no such network, or the network cannot be dilated (with the reason).
    """

    def __init__(self, name: str, *, output_stride: int, dilation: Dilation, num_channels: int = 3) -> None:
        super().__init__()
        self.name, self.output_stride, self.num_channels = name, output_stride, num_channels
        self.network, self.left_out = _create(name, num_channels)
        stages = list(self.network.feature_info)
        self._indices = {_NAMES[s["reduction"]]: index for index, s in enumerate(stages) if s["reduction"] in _NAMES}
        self.channels = {name: int(stages[index]["num_chs"]) for name, index in self._indices.items()}
        self.strides = strides_at(output_stride, self.channels)
        self.out_channels = self.channels["res5"]
        self.preprocessing = _preprocessing(name, self.network)
        try:
            layers = spatial_layers(self.network, self, num_channels=num_channels)
            blocks = _blocks(self.network, layers)
            self.rates = _stage_rates(blocks, output_stride, dilation)
            self.block_names = tuple(tuple(stage) for stage in blocks)
            strides_to_dilations(self.network, output_stride, _rates_by_layer(blocks, self.rates), layers=layers)
            self._check_grid()
        except UserError as error:
            raise UserError(f"encoder={PREFIX + name!r} cannot be built: {error}") from error

    def forward(self, images: Tensor) -> Tensor:
        return self._features(images, [self._indices["res5"]])[0]

    @torch.no_grad()
    def _check_grid(self) -> None:
        parameter = next(self.network.parameters())
        image = torch.zeros(1, self.num_channels, 64, 96, device=parameter.device, dtype=parameter.dtype)
        found = {name: tuple(grid.shape) for name, grid in self.eval().intermediates(image).items()}
        self.train()
        wanted = {name: (1, self.channels[name], 64 // stride, 96 // stride) for name, stride in self.strides.items()}
        if found != wanted:
            raise UserError(f"it takes 64 x 96 pixels to {found}, so it has strides that are not in its layers")

    def intermediates(self, images: Tensor) -> dict[str, Tensor]:
        """Every named intermediate: "stem" where timm has one, "res2" .. "res5"."""
        return dict(zip(self._indices, self._features(images, list(self._indices.values()))))

    def _features(self, images: Tensor, indices: list[int]) -> list[Tensor]:
        return cast(list[Tensor], self.network.forward_intermediates(images, indices=indices, intermediates_only=True))


def _create(name: str, num_channels: int) -> tuple[Any, tuple[str, ...]]:
    """timm's model without classifier, and the names of the tensors that this left out."""
    timm = import_timm()
    architecture, _, tag = name.partition(".")
    if not re.fullmatch(r"[a-z0-9_]+(\.\w+)?", name) or not timm.is_model(architecture):
        raise _refuse(name, "no such network in timm " + timm.__version__, _near(timm, name))
    if tag and name not in timm.list_models(f"{architecture}.*", include_tags=True):
        raise _refuse(name, f"no weights of that name, {tag!r}, for {architecture}", _near(timm, name))
    network = timm.create_model(name, pretrained=False, in_chans=num_channels)
    reductions = [stage["reduction"] for stage in getattr(network, "feature_info", [])]
    if not hasattr(network, "forward_intermediates") or not hasattr(network, "prune_intermediate_layers"):
        raise _refuse(name, "no intermediate features", "Choose a network with `forward_intermediates`.")
    if reductions[-4:] != [4, 8, 16, 32]:
        raise _refuse(name, f"stages at strides {reductions}", "Choose one with stages at strides 4, 8, 16 and 32.")
    before = set(network.state_dict())
    network.prune_intermediate_layers(indices=[len(reductions) - 1])
    return network, tuple(sorted(before - set(network.state_dict())))


def _refuse(name: str, found: str, fix: str) -> UserError:
    return explain(f"encoder={PREFIX + name!r}", found=found, needed="a convolutional network of timm", fix=fix)


def _near(timm: Any, name: str) -> str:
    architecture = name.partition(".")[0]
    near = timm.list_models(f"{architecture}*", include_tags=timm.is_model(architecture))[:5]
    return f"There are {', '.join(near)}." if near else "timm.list_models() names them all."


def _preprocessing(name: str, network: Any) -> Preprocessing:
    mean, std = (tuple(round(255 * value, 6) for value in network.pretrained_cfg[key]) for key in ("mean", "std"))
    if len(mean) != 3 or len(std) != 3:
        raise _refuse(name, f"{len(mean)} input channels", "Choose a network of RGB pictures.")
    return Preprocessing(mean=mean, std=std)


def _blocks(network: Any, layers: Sequence[SpatialLayer]) -> list[dict[str, list[str]]]:
    """For res2..res5: the names of the blocks in the order in which they run, and of their convolutions."""
    stages = {stage["module"] for stage in network.feature_info}
    stages |= {name.rsplit(".", depth)[0] for name in stages for depth in range(1, name.count(".") + 1)}
    members: dict[str, list[SpatialLayer]] = {}
    for layer in layers:
        block = _block_of(network, layer.name, stages)
        if block is not None:
            members.setdefault(block, []).append(layer)
    found: list[dict[str, list[str]]] = [{}, {}, {}, {}]
    for block, inside in members.items():
        stride = max(layer.stride_out for layer in inside)
        convolutions = [layer.name for layer in inside if layer.is_convolution]
        if convolutions and stride in (4, 8, 16, 32):
            found[(4, 8, 16, 32).index(stride)][block] = convolutions
    return found


def _block_of(network: nn.Module, name: str, stages: set[str]) -> str | None:
    parts = name.split(".")
    for depth in range(1, len(parts)):
        prefix = ".".join(parts[:depth])
        container = isinstance(network.get_submodule(prefix), nn.Sequential | nn.ModuleList | nn.ModuleDict)
        if not container and prefix not in stages:
            return None if any(part in _SHORTCUTS for part in parts[depth - 1 :]) else prefix
    return None


def _stage_rates(
    blocks: list[dict[str, list[str]]], output_stride: int, dilation: Dilation
) -> tuple[tuple[int, ...], ...]:
    counts = [len(stage) for stage in blocks]
    dilated = {32: 0, 16: 1, 8: 2, 4: 3}[output_stride]
    empty = [f"res{stage + 2}" for stage in range(4 - dilated, 4) if counts[stage] == 0]
    if empty:
        raise UserError(f"no block of {' and '.join(empty)} has a convolution with a kernel above 1 to dilate")
    conflicts = dilation_conflicts(dilation, output_stride, counts)
    if conflicts:
        raise UserError("; ".join(conflicts))
    return stage_rates(dilation, output_stride, counts)


def _rates_by_layer(blocks: list[dict[str, list[str]]], rates: tuple[tuple[int, ...], ...]) -> dict[str, int]:
    return {
        layer: rate
        for stage, stage_rate in zip(blocks, rates)
        for layers, rate in zip(stage.values(), stage_rate)
        for layer in layers
    }
