"""Encoders: torchvision's names and sizes, strides, rates and stems. The large ones are built without memory."""

from typing import Any

import pytest
import torch
from torch import nn

from ducseg.models import build

# torchvision's published numbers of parameters minus the classifier (fc; classifier and features.18 for MobileNetV2)
PARAMETERS = {
    "resnet18": 11_689_512 - 513_000,
    "resnet34": 21_797_672 - 513_000,
    "resnet50": 25_557_032 - 2_049_000,
    "resnet101": 44_549_160 - 2_049_000,
    "resnet152": 60_192_808 - 2_049_000,
    "mobilenet_v2": 3_504_872 - 1_281_000 - 1280 * 320 - 2 * 1280,
}


def on_meta(**arguments: Any) -> nn.Module:
    with torch.device("meta"):
        return build(**arguments).encoder.eval()


@pytest.mark.parametrize("encoder", PARAMETERS)
def test_parameter_count_is_torchvisions(encoder: str) -> None:
    assert sum(parameter.numel() for parameter in on_meta(encoder=encoder).parameters()) == PARAMETERS[encoder]


@pytest.mark.parametrize("output_stride", [32, 16, 8, 4])
@pytest.mark.parametrize("encoder", ["resnet34", "resnet101", "resnet152", "mobilenet_v2", "vgg16"])
def test_output_stride(encoder: str, output_stride: int) -> None:
    dilation = "none" if output_stride == 32 or (encoder, output_stride) == ("vgg16", 16) else "bigger"
    body = on_meta(encoder=encoder, output_stride=output_stride, dilation=dilation, head="bilinear")
    found = body.intermediates(torch.empty(1, 3, 128, 192, device="meta"))
    for name, stride in (("stem", 2), ("res2", 4), ("res3", 8), ("res4", 16), ("res5", 32)):
        stride = min(stride, output_stride)
        assert found[name].shape == (1, body.channels[name], 128 // stride, 192 // stride), name
        assert body.strides[name] == stride
    assert list(found) == list(body.channels) == list(body.strides), "finest first"
    assert found["res5"].shape[1] == body.out_channels


@pytest.mark.parametrize(
    ("arguments", "channels"),
    [
        ({"encoder": "resnet18"}, (64, 64, 128, 256, 512)),
        ({"encoder": "resnet50"}, (64, 256, 512, 1024, 2048)),
        ({"encoder": "resnet50", "stem": "3x3"}, (128, 256, 512, 1024, 2048)),
        ({"encoder": "resnet18", "width": 4}, (4, 4, 8, 16, 32)),
        ({"encoder": "mobilenet_v2"}, (16, 24, 32, 96, 320)),
        ({"encoder": "vgg16"}, (128, 256, 512, 512, 512)),
        ({"encoder": "vgg16_bn", "width": 4}, (8, 16, 32, 32, 32)),
    ],
)
def test_channels_of_the_intermediates(arguments: dict[str, Any], channels: tuple[int, ...]) -> None:
    body = on_meta(**arguments)
    assert tuple(body.channels.values()) == channels
    found = body.intermediates(torch.empty(1, 3, 64, 64, device="meta"))
    assert tuple(grid.shape[1] for grid in found.values()) == channels


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2"])
def test_intermediates_end_in_the_output(encoder: str) -> None:
    body = build(encoder=encoder, head="bilinear", aspp=0).encoder.eval()
    images = torch.randn(1, 3, 32, 48)
    assert torch.equal(body.intermediates(images)["res5"], body(images))


def dilated_kernels(body: nn.Module, prefix: str) -> list[int]:
    return [
        module.dilation[0]
        for name, module in body.named_modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and name.startswith(prefix)
    ]


def test_rates_sit_in_the_3x3_convolutions_block_by_block() -> None:
    body = on_meta(encoder="resnet101", dilation="bigger")
    assert dilated_kernels(body, "layer3") == [1, 2, 5, 9] * 5 + [1, 2, 5]
    assert dilated_kernels(body, "layer4") == [5, 9, 17]
    basic = on_meta(encoder="resnet18", dilation=((1, 3), (5, 9)))
    assert dilated_kernels(basic, "layer3") == [1, 1, 3, 3]
    assert dilated_kernels(basic, "layer4") == [5, 5, 9, 9]
    light = on_meta(encoder="mobilenet_v2", dilation=((1, 2, 3, 4, 5, 6, 7), (2, 3, 4, 5)))
    assert dilated_kernels(light, "features")[-11:] == [1, 2, 3, 4, 5, 6, 7, 2, 3, 4, 5]


def test_stride_sits_where_it_was_asked_for() -> None:
    torchvisions = on_meta(encoder="resnet50", output_stride=32, dilation="none").get_submodule("layer3.0")
    caffes = on_meta(encoder="resnet50", output_stride=32, dilation="none", stride_in="1x1").get_submodule("layer3.0")
    assert (torchvisions.conv1.stride, torchvisions.conv2.stride) == ((1, 1), (2, 2))
    assert (caffes.conv1.stride, caffes.conv2.stride) == ((2, 2), (1, 1))


def test_deep_stem_has_timms_names_and_widths() -> None:
    body = on_meta(encoder="resnet101", stem="3x3")
    state = body.state_dict()
    widths = [tuple(state[f"conv1.{index}.weight"].shape) for index in (0, 3, 6)]
    assert widths == [(64, 3, 3, 3), (64, 64, 3, 3), (128, 64, 3, 3)]
    assert state["bn1.weight"].shape == (128,) and state["layer1.0.conv1.weight"].shape == (64, 128, 1, 1)
    assert {"conv1.1.weight", "conv1.4.weight"} <= state.keys()


@pytest.mark.parametrize("arguments", [{"stem": "3x3"}, {"encoder": "resnet18"}, {"encoder": "mobilenet_v2"}])
def test_every_batch_norm_has_the_wanted_eps(arguments: dict[str, Any]) -> None:
    norms = [m for m in on_meta(**arguments, batch_norm_eps=1e-6).modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and all(norm.eps == 1e-6 for norm in norms)


def test_unpadded_pooling_still_gives_whole_grids() -> None:
    for output_stride, dilation in ((8, "bigger"), (16, "bigger"), (32, "none")):
        body = on_meta(encoder="resnet50", output_stride=output_stride, dilation=dilation, pool_padding=False)
        for places in (1, 2, 5):
            side = places * output_stride
            assert body(torch.empty(1, 3, side, side, device="meta")).shape[-1] == places


@pytest.mark.parametrize(
    ("encoder", "block", "last_norm"),
    [
        ("resnet18", "layer1.1", "layer1.1.bn2"),
        ("resnet50", "layer1.1", "layer1.1.bn3"),
        ("mobilenet_v2", "features.3", "features.3.conv.3"),
    ],
)
def test_a_block_adds_to_what_comes_in(encoder: str, block: str, last_norm: str) -> None:
    body = build(encoder, "bilinear", aspp=0).encoder.eval()
    nn.init.zeros_(body.get_parameter(f"{last_norm}.weight"))
    channels = {"resnet18": 64, "resnet50": 256, "mobilenet_v2": 24}[encoder]
    x = torch.rand(1, channels, 8, 8)
    assert torch.equal(body.get_submodule(block)(x), x)
