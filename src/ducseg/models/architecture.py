"""What a network is: the arguments of `build` as one value, the table of encoders, and every conflict at once."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from numbers import Real
from typing import Any, NamedTuple

from ducseg.classes import IGNORE, ClassSet
from ducseg.errors import UserError
from ducseg.models.dilation import OUTPUT_STRIDES, Dilation, dilation_conflicts, read_rates, stage_rates
from ducseg.models.efficientnet_lite import EFFICIENTNET_LITES, EfficientNetLite
from ducseg.models.encoder import NamedEncoder
from ducseg.models.heads import HEADS
from ducseg.models.mobilenet import MOBILENET_V2_BLOCKS, MobileNetV2
from ducseg.models.preprocessing import IMAGENET, MOST_CHANNELS, TENSORFLOW, Preprocessing
from ducseg.models.resnet import RESNETS, ResNet
from ducseg.models.timm_encoder import PREFIX, TimmEncoder
from ducseg.models.vgg import VGG_BLOCKS, VGGS, Vgg

__all__ = ["ENCODERS", "ENCODER_ROWS", "Architecture", "EncoderRow", "make_encoder"]

MAX_ASPP, MAX_WIDTH = 32, 1024
"""Far beyond what anyone trains; a description that asks for more is damaged, or is after one's memory."""


@dataclass(frozen=True)
class Architecture:
    """The arguments of `ducseg.models.build`, which says what each means; whole numbers may be numpy's.

    Making one checks nothing: `conflicts` tells what is wrong with it.
    """

    encoder: str = "resnet101"
    head: str = "duc"
    num_classes: int = 19
    output_stride: int = 8
    cell: int = 1
    aspp: int = 4
    dilation: Dilation = "bigger"
    stem: str = "7x7"
    stride_in: str = "3x3"
    pool_padding: bool = True
    batch_norm_eps: float = 1e-5
    width: int = 64
    num_channels: int = 3

    def __post_init__(self) -> None:
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, bool) and kind in (int, float):
                object.__setattr__(self, name, _plain(value, kind))
        rates = read_rates(self.dilation) if isinstance(self.dilation, str) else _plain_rates(self.dilation)
        object.__setattr__(self, "dilation", rates)

    def to_json(self) -> dict[str, Any]:
        """The form of `model.json`: every field, explicit rates as lists; three channels, as all had before, unsaid."""
        rates = self.dilation if isinstance(self.dilation, str) else [list(stage) for stage in self.dilation]
        values = {**asdict(self), "dilation": rates}
        return {key: value for key, value in values.items() if (key, value) != ("num_channels", 3)}

    @classmethod
    def from_json(cls, value: object) -> "Architecture":
        """The inverse of `to_json`; what is left out has its default.

        Raises:
            UserError: no dictionary, or names that no architecture has.
        """
        known = [field.name for field in fields(cls)]
        unknown = sorted(map(str, value.keys() - set(known))) if isinstance(value, Mapping) else [repr(value)[:80]]
        if unknown or not isinstance(value, Mapping):
            raise UserError(f"architecture: found {', '.join(unknown)}; needed some of {', '.join(known)}.")
        return cls(**value)

    def conflicts(self, classes: ClassSet | None = None) -> list[str]:
        """What is wrong with it, one entry each, and with `classes` for it; empty if nothing."""
        wrong = [
            f"{name}={getattr(self, name)!r} is not {_WORDS[kind]}"
            for name, kind in _KINDS.items()
            if not isinstance(getattr(self, name), kind) or (kind is int and isinstance(getattr(self, name), bool))
        ]
        return wrong or [*self._value_conflicts(classes), *self._head_conflicts(), *self._encoder_conflicts()]

    def _value_conflicts(self, classes: ClassSet | None) -> list[str]:
        conflicts = []
        for name, allowed in (
            ("head", tuple(HEADS)),
            ("output_stride", tuple(OUTPUT_STRIDES)),
            ("stem", ("7x7", "3x3")),
            ("stride_in", ("3x3", "1x1")),
        ):
            if getattr(self, name) not in allowed:
                conflicts.append(f"{name}={getattr(self, name)!r} is not one of {', '.join(map(str, allowed))}")
        for name, low, high in (
            ("num_classes", 1, IGNORE),
            ("aspp", 0, MAX_ASPP),
            ("width", 1, MAX_WIDTH),
            ("num_channels", 1, MOST_CHANNELS),
        ):
            if not low <= getattr(self, name) <= high:
                conflicts.append(f"{name}={getattr(self, name)} is not in {low}..{high}")
        if classes is not None and len(classes) != self.num_classes:
            conflicts.append(
                f"num_classes={self.num_classes} but classes names {len(classes)}: pass num_classes={len(classes)}"
            )
        if not 0 < self.batch_norm_eps <= 1:
            conflicts.append(f"batch_norm_eps={self.batch_norm_eps} is not above 0, and at most 1")
        return conflicts

    def _head_conflicts(self) -> list[str]:
        cell, stride = self.cell, self.output_stride
        if cell < 1:
            return [f"cell={cell} is below 1"]
        takes = HEADS[self.head].takes if self.head in HEADS else ("cell", "aspp")
        wrong = [
            f"{name}={getattr(self, name)} is not for head={self.head!r}, which would ignore it: use {none}"
            for name, none in (("cell", 1), ("aspp", 0))
            if name not in takes and getattr(self, name) != none
        ]
        wrong += [
            f"{name}={getattr(self, name)!r} is not for head={self.head!r}: use {' or '.join(map(str, values))}"
            for name, values in (HEADS[self.head].needs if self.head in HEADS else {}).items()
            if getattr(self, name) not in values
        ]
        if wrong:
            return wrong
        if stride % cell:
            return [f"cell={cell} does not divide output_stride={stride}"]
        if self.head == "duc" and cell == stride:
            return [f"cell={cell} equals output_stride, which leaves DUC nothing to upsample: use head='bilinear'"]
        return []

    def _encoder_conflicts(self) -> list[str]:
        row = _row(self.encoder)
        if row is None:
            own = [name for name in ENCODER_ROWS if name != PREFIX]
            return [f"encoder={self.encoder!r} is not one of {', '.join(own)}, nor {PREFIX}NAME"]
        conflicts = []
        if row.blocks and self.output_stride in OUTPUT_STRIDES:  # timm's are known when it is made
            conflicts += dilation_conflicts(self.dilation, self.output_stride, row.blocks)
        conflicts += [
            f"{name}={getattr(self, name)!r} is for ResNets only: {self.encoder} would ignore it"
            for name in _OPTIONS
            if name not in row.takes and getattr(self, name) != getattr(_DEFAULTS, name)
        ]
        if "num_channels" not in row.takes and self.num_channels != 3:
            conflicts.append(f"num_channels={self.num_channels} is not for {self.encoder}, which takes 3")
        if self.encoder in RESNETS:
            conflicts += self._resnet_conflicts()
        return conflicts

    def _resnet_conflicts(self) -> list[str]:
        conflicts = []
        if self.stride_in == "1x1" and not RESNETS[self.encoder].bottleneck:
            conflicts.append(
                f"stride_in='1x1' needs bottleneck blocks: {self.encoder} has no 1x1 convolution to hold the stride"
            )
        if not self.pool_padding and self.output_stride == 4:
            conflicts.append(
                "pool_padding=False makes a grid one place short at output_stride=4: use 8, 16 or 32, or pad"
            )
        return conflicts


_KINDS: dict[str, Any] = {
    "encoder": str, "head": str, "num_classes": int, "output_stride": int, "cell": int, "aspp": int, "stem": str,
    "stride_in": str, "pool_padding": bool, "batch_norm_eps": float, "width": int, "num_channels": int,
}  # fmt: skip
_WORDS = {str: "a name", int: "a whole number", float: "a number", bool: "True or False"}
_OPTIONS = ("stem", "stride_in", "pool_padding", "batch_norm_eps", "width")


def _plain(value: Any, kind: type) -> Any:
    try:
        return operator.index(value) if kind is int else float(value) if isinstance(value, Real) else value
    except TypeError:  # `conflicts` names it
        return value


def _plain_rates(dilation: Any) -> Any:
    if isinstance(dilation, Sequence) and not isinstance(dilation, str):
        return tuple(_plain_rates(entry) for entry in dilation)
    return dilation if isinstance(dilation, str | bool) else _plain(dilation, int)


_DEFAULTS = Architecture()


class EncoderRow(NamedTuple):
    """One encoder.

    Attributes:
        make: from an architecture without conflicts, with the preprocessing that its ImageNet weights expect.
        blocks: in res2..res5; none where only the made network tells.
        takes: which of the ResNets' options it does not ignore, and "num_channels" where it takes other than 3.
    """

    make: Callable[[Architecture], tuple[NamedEncoder, Preprocessing]]
    blocks: tuple[int, ...]
    takes: tuple[str, ...]


def _resnet(chosen: Architecture) -> tuple[ResNet, Preprocessing]:
    made = ResNet(
        RESNETS[chosen.encoder],
        output_stride=chosen.output_stride,
        rates=stage_rates(chosen.dilation, chosen.output_stride, RESNETS[chosen.encoder].blocks),
        deep_stem=chosen.stem == "3x3",
        stride_in_1x1=chosen.stride_in == "1x1",
        pool_padding=chosen.pool_padding,
        eps=chosen.batch_norm_eps,
        width=chosen.width,
        num_channels=chosen.num_channels,
    )
    return made, IMAGENET


def _mobilenet_v2(chosen: Architecture) -> tuple[MobileNetV2, Preprocessing]:
    rates = stage_rates(chosen.dilation, chosen.output_stride, MOBILENET_V2_BLOCKS)
    made = MobileNetV2(
        output_stride=chosen.output_stride, rates=rates, eps=chosen.batch_norm_eps, num_channels=chosen.num_channels
    )
    return made, IMAGENET


def _efficientnet_lite(chosen: Architecture) -> tuple[EfficientNetLite, Preprocessing]:
    layout = EFFICIENTNET_LITES[chosen.encoder]
    rates = stage_rates(chosen.dilation, chosen.output_stride, layout.blocks)
    made = EfficientNetLite(layout, output_stride=chosen.output_stride, rates=rates, num_channels=chosen.num_channels)
    return made, TENSORFLOW


def _vgg(chosen: Architecture) -> tuple[Vgg, Preprocessing]:
    made = Vgg(
        output_stride=chosen.output_stride,
        rates=stage_rates(chosen.dilation, chosen.output_stride, VGG_BLOCKS),
        batch_norm=chosen.encoder.endswith("_bn"),
        eps=chosen.batch_norm_eps,
        width=chosen.width,
        num_channels=chosen.num_channels,
        **HEADS[chosen.head].encoder,
    )
    return made, IMAGENET


def _timm(chosen: Architecture) -> tuple[TimmEncoder, Preprocessing]:
    name = chosen.encoder.removeprefix(PREFIX)
    made = TimmEncoder(
        name, output_stride=chosen.output_stride, dilation=chosen.dilation, num_channels=chosen.num_channels
    )
    return made, made.preprocessing


ENCODER_ROWS = {
    **{name: EncoderRow(_resnet, layout.blocks, (*_OPTIONS, "num_channels")) for name, layout in RESNETS.items()},
    "mobilenet_v2": EncoderRow(_mobilenet_v2, MOBILENET_V2_BLOCKS, ("batch_norm_eps", "num_channels")),
    **{
        name: EncoderRow(_efficientnet_lite, layout.blocks, ("num_channels",))
        for name, layout in EFFICIENTNET_LITES.items()
    },
    VGGS[0]: EncoderRow(_vgg, VGG_BLOCKS, ("width", "num_channels")),
    VGGS[1]: EncoderRow(_vgg, VGG_BLOCKS, ("width", "batch_norm_eps", "num_channels")),
    PREFIX: EncoderRow(_timm, (), ("num_channels",)),
}
"""Encoders by name, and one row for all of timm's. A new encoder is one file and one line here."""

ENCODERS = tuple(name for name in ENCODER_ROWS if name != PREFIX)
"""Names of our own encoders."""


def _row(encoder: str) -> EncoderRow | None:
    return ENCODER_ROWS.get(PREFIX if encoder.startswith(PREFIX) else encoder)


def make_encoder(chosen: Architecture) -> tuple[NamedEncoder, Preprocessing]:
    """The encoder with random weights, and the preprocessing that its ImageNet weights expect.

    Raises:
        UserError: an encoder of timm that is missing or cannot be dilated.
    """
    row = _row(chosen.encoder)
    assert row is not None, "`conflicts` reports this"
    return row.make(chosen)
