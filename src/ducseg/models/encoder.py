"""What a `Segmenter` asks of an encoder, so that anyone's backbone fits, and the names of its intermediates.

Any torch module with the members of `Encoder` is one: a head on the last map needs no more. A head that joins finer
maps (`takes_intermediates`) needs those of `NamedEncoder`. The names are the paper's stages; at output stride d a stage
keeps stride min(its own, d):

| name | stem | res2 | res3 | res4 | res5 |
|---|---|---|---|---|---|
| stride of the undilated network | 2 | 4 | 8 | 16 | 32 |
| ResNet-50, 1x3x256x512 at d = 8 | 1x64x128x256 | 1x256x64x128 | 1x512x32x64 | 1x1024x32x64 | 1x2048x32x64 |
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor, nn

__all__ = ["STRIDES", "Encoder", "NamedEncoder", "Part", "maps_of", "num_channels_of", "probe_side", "strides_at"]

STRIDES = {"stem": 2, "res2": 4, "res3": 8, "res4": 16, "res5": 32}
"""Stride of each named intermediate in the undilated network, finest first."""


def strides_at(output_stride: int, names: Mapping[str, int] | None = None) -> dict[str, int]:
    """Stride of each intermediate (those of `names`, or all) in an encoder of that output stride."""
    return {name: min(STRIDES[name], output_stride) for name in (STRIDES if names is None else names)}


def num_channels_of(encoder: object) -> int:
    """Channels of the images that an encoder takes: its `num_channels`; one that does not say takes 3."""
    return int(getattr(encoder, "num_channels", 3))


def probe_side(encoder: object) -> int:
    """Side in pixels of a picture that is large enough to try an encoder with: its `probe_side`, else 64."""
    return int(getattr(encoder, "probe_side", 64))


def maps_of(layers: nn.Sequential, images: Tensor, ends: Mapping[str, int]) -> dict[str, Tensor]:
    """What the layers give where the named maps end (name -> index of the last layer), in the layers' order."""
    found, names = {}, {end: name for name, end in ends.items()}
    x = images
    for index, layer in enumerate(layers):
        x = layer(x)
        if index in names:
            found[names[index]] = x
    return found


class Part(Protocol):
    """What every torch module has, and others use of an encoder or a head."""

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def modules(self) -> Iterator[nn.Module]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> Any: ...


class Encoder(Part, Protocol):
    """A torch module from images (N, C, H, W), H and W multiples of d, to features (N, c, H/d, W/d).

    C is `num_channels` where it has that, else 3.

    Attributes:
        output_stride: d.
        out_channels: c.
    """

    output_stride: int
    out_channels: int

    def __call__(self, images: Tensor, /) -> Tensor: ...


class NamedEncoder(Encoder, Protocol):
    """An encoder that also names the maps on the way to its features.

    Attributes:
        channels: of each intermediate, finest first: some of "stem", "res2", "res3", "res4", "res5"; the last is
            what the encoder returns.
        strides: of each of them, in pixels per place.
    """

    @property
    def channels(self) -> Mapping[str, int]: ...

    @property
    def strides(self) -> Mapping[str, int]: ...

    def intermediates(self, images: Tensor, /) -> dict[str, Tensor]:
        """Every named intermediate: (N, channels[name], H/strides[name], W/strides[name])."""
