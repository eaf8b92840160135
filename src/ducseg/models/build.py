"""From the paper's words to a network: one function, every conflict reported at once."""

import colorsys
from typing import Any

from ducseg.classes import IGNORE, ClassSet, Colour
from ducseg.errors import UserError
from ducseg.models.dilation import OUTPUT_STRIDES, Dilation, dilation_conflicts, stage_rates
from ducseg.models.heads import HEADS, make_head
from ducseg.models.mobilenet import MOBILENET_V2_BLOCKS, MobileNetV2
from ducseg.models.preprocessing import IMAGENET, Preprocessing
from ducseg.models.resnet import RESNETS, ResNet
from ducseg.models.segmenter import Segmenter
from ducseg.models.timm_encoder import PREFIX, TimmEncoder

__all__ = ["ENCODERS", "build", "generic_classes"]

ENCODERS = (*RESNETS, "mobilenet_v2")

_RESNET_OPTIONS: dict[str, Any] = {
    "stem": "7x7",
    "stride_in": "3x3",
    "pool_padding": True,
    "batch_norm_eps": 1e-5,
    "width": 64,
}
"""Options of our own ResNets, with the values that another encoder takes."""


def build(
    encoder: str = "resnet101",
    head: str = "duc",
    num_classes: int = 19,
    output_stride: int = 8,
    cell: int = 1,
    aspp: int = 4,
    dilation: Dilation = "bigger",
    stem: str = "7x7",
    *,
    stride_in: str = "3x3",
    pool_padding: bool = True,
    batch_norm_eps: float = 1e-5,
    width: int = 64,
    classes: ClassSet | None = None,
    preprocessing: Preprocessing | None = None,
) -> Segmenter:
    """Build a segmenter with random weights.

    Args:
        encoder: resnet18, resnet34, resnet50, resnet101, resnet152, mobilenet_v2, or "timm:NAME" for a convolutional
            network of timm (`ducseg.models.timm_encoder` says which can be dilated, and where their blocks are).
        head: "duc"; "bilinear", the baseline; "deconv", one transposed convolution by d; "deconv2", by 2, then d/2.
        num_classes: L.
        output_stride: d: 32, 16, 8 (the paper) or 4.
        cell: side in pixels of the block that one of DUC's predictions stands for; divides d. For
            a deconvolution: of the DUC that it has about as many parameters as. 1 for the bilinear head.
        aspp: number of summed ASPP paths (4 or 6 in the paper); 0: one plain 3x3 convolution.
        dilation: an HDC schedule (none, dilated, conv, rf, bigger, released; see `ducseg.models.dilation` for what it
            means at each output stride) or explicit rates, one a block: (res4, res5) or (res3, res4, res5).
        stem: "7x7", or "3x3" for the paper's better network. MobileNetV2 has its own and takes the default only.
        stride_in: which convolution of a bottleneck has the stride: "3x3" (torchvision) or "1x1" (released network).
        pool_padding: whether the max-pooling is padded (torchvision) or not (released network).
        batch_norm_eps: 1e-5 (torchvision) or 1e-6 (released network).
        width: channels of the ResNet's stem and of res2's 3x3 convolutions; smaller ones are for tests and toys.
        classes: names and colours; None: class0, class1, ... in distinct colours.
        preprocessing: how pictures become its input; None: as the encoder's ImageNet weights expect them.

    Raises:
        UserError: one message with every conflict among the arguments; or timm has no such network, or it cannot be
            dilated (with the reasons).
    """
    architecture: dict[str, Any] = {
        "encoder": encoder,
        "head": head,
        "num_classes": num_classes,
        "output_stride": output_stride,
        "cell": cell,
        "aspp": aspp,
        "dilation": dilation if isinstance(dilation, str) else [list(rates) for rates in dilation],
        "stem": stem,
        "stride_in": stride_in,
        "pool_padding": pool_padding,
        "batch_norm_eps": batch_norm_eps,
        "width": width,
    }
    conflicts = _conflicts(architecture, classes)
    if conflicts:
        raise UserError("this network cannot be built: " + "; ".join(conflicts))
    body = _make_encoder(architecture)
    return Segmenter(
        body,
        make_head(head, body.out_channels, num_classes, output_stride=output_stride, cell=cell, aspp=aspp),
        classes=classes or generic_classes(num_classes),
        preprocessing=preprocessing or (body.preprocessing if isinstance(body, TimmEncoder) else IMAGENET),
        architecture=architecture,
    )


def generic_classes(num_classes: int) -> ClassSet:
    """class0, class1, ... with colours spread over the hue circle in three shades."""
    names = tuple(f"class{index}" for index in range(num_classes))
    return ClassSet(names, tuple(_colour(index, num_classes) for index in range(num_classes)))


def _colour(index: int, count: int) -> Colour:
    value = (1.0, 0.75, 0.5)[index % 3]
    r, g, b = colorsys.hsv_to_rgb(index / count, 0.85, value)
    return round(255 * r), round(255 * g), round(255 * b)


def _blocks(encoder: str) -> tuple[int, int, int, int]:
    return RESNETS[encoder].blocks if encoder in RESNETS else MOBILENET_V2_BLOCKS


def _make_encoder(chosen: dict[str, Any]) -> ResNet | MobileNetV2 | TimmEncoder:
    stride, eps = chosen["output_stride"], chosen["batch_norm_eps"]
    if chosen["encoder"].startswith(PREFIX):
        name = chosen["encoder"].removeprefix(PREFIX)
        return TimmEncoder(name, output_stride=stride, dilation=chosen["dilation"])
    rates = stage_rates(chosen["dilation"], stride, _blocks(chosen["encoder"]))
    if chosen["encoder"] == "mobilenet_v2":
        return MobileNetV2(output_stride=stride, rates=rates, eps=eps)
    return ResNet(
        RESNETS[chosen["encoder"]],
        output_stride=stride,
        rates=rates,
        deep_stem=chosen["stem"] == "3x3",
        stride_in_1x1=chosen["stride_in"] == "1x1",
        pool_padding=chosen["pool_padding"],
        eps=eps,
        width=chosen["width"],
    )


def _conflicts(chosen: dict[str, Any], classes: ClassSet | None) -> list[str]:
    conflicts = []
    if chosen["encoder"] not in ENCODERS and not chosen["encoder"].startswith(PREFIX):
        conflicts.append(f"encoder={chosen['encoder']!r} is not one of {', '.join(ENCODERS)}, nor {PREFIX}NAME")
    for name, allowed in (
        ("head", HEADS),
        ("output_stride", tuple(OUTPUT_STRIDES)),
        ("stem", ("7x7", "3x3")),
        ("stride_in", ("3x3", "1x1")),
    ):
        if chosen[name] not in allowed:
            conflicts.append(f"{name}={chosen[name]!r} is not one of {', '.join(map(str, allowed))}")
    count = chosen["num_classes"]
    if not 1 <= count <= IGNORE:
        conflicts.append(f"num_classes={count} is not in 1..{IGNORE}")
    if classes is not None and len(classes) != count:
        conflicts.append(f"num_classes={count} but classes names {len(classes)}: pass num_classes={len(classes)}")
    if chosen["aspp"] < 0:
        conflicts.append(f"aspp={chosen['aspp']} is negative")
    if chosen["batch_norm_eps"] <= 0:
        conflicts.append(f"batch_norm_eps={chosen['batch_norm_eps']} is not above 0")
    conflicts += _head_conflicts(chosen)
    if chosen["encoder"] in RESNETS:
        conflicts += _dilation_conflicts(chosen) + _resnet_conflicts(chosen)
    elif chosen["encoder"] == "mobilenet_v2":
        conflicts += _dilation_conflicts(chosen) + _ignored_options(
            chosen, "stem", "stride_in", "pool_padding", "width"
        )
    elif chosen["encoder"].startswith(PREFIX):  # its blocks, and so its dilation, are checked when it is made
        conflicts += _ignored_options(chosen, *_RESNET_OPTIONS)
    return conflicts


def _head_conflicts(chosen: dict[str, Any]) -> list[str]:
    cell, stride = chosen["cell"], chosen["output_stride"]
    if cell < 1:
        return [f"cell={cell} is below 1"]
    if chosen["head"] == "bilinear" and cell != 1:
        return [f"cell={cell} is not for head='bilinear', which would ignore it"]
    if stride % cell:
        return [f"cell={cell} does not divide output_stride={stride}"]
    if chosen["head"] == "duc" and cell == stride:
        return [f"cell={cell} equals output_stride, which leaves DUC nothing to upsample: use head='bilinear'"]
    return []


def _dilation_conflicts(chosen: dict[str, Any]) -> list[str]:
    if chosen["output_stride"] not in OUTPUT_STRIDES:
        return []
    return dilation_conflicts(chosen["dilation"], chosen["output_stride"], _blocks(chosen["encoder"]))


def _ignored_options(chosen: dict[str, Any], *names: str) -> list[str]:
    return [
        f"{name}={chosen[name]!r} is for ResNets only: {chosen['encoder']} would ignore it"
        for name in names
        if chosen[name] != _RESNET_OPTIONS[name]
    ]


def _resnet_conflicts(chosen: dict[str, Any]) -> list[str]:
    encoder = chosen["encoder"]
    conflicts = []
    if chosen["stride_in"] == "1x1" and not RESNETS[encoder].bottleneck:
        conflicts.append(
            f"stride_in='1x1' needs bottleneck blocks: {encoder} has no 1x1 convolution to hold the stride"
        )
    if not chosen["pool_padding"] and chosen["output_stride"] == 4:
        conflicts.append("pool_padding=False makes a grid one place short at output_stride=4: use 8, 16 or 32, or pad")
    if chosen["width"] < 1:
        conflicts.append(f"width={chosen['width']} is below 1")
    return conflicts
