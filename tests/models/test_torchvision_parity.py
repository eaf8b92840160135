"""Our encoders equal torchvision's, layer by layer, with random and with real weights."""

from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from ducseg.models import build
from ducseg.weights.encoders import load_encoder

RESNETS = ["resnet18", "resnet34", "resnet50", "resnet101", pytest.param("resnet152", marks=pytest.mark.slow)]

TORCHVISIONS_RATES = {
    16: ((1,) * 6, (1, 2, 2)),
    8: ((1, 2, 2, 2, 2, 2), (2, 4, 4)),
}
"""`replace_stride_with_dilation` on ResNet-50: the first block of a dilated stage has the rate of the stage before."""


def stages_of(resnet: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """torchvision's ResNet run stage by stage, under our names."""
    x = resnet.relu(resnet.bn1(resnet.conv1(images)))
    found = {"stem": x}
    x = resnet.maxpool(x)
    for name, layer in zip(("res2", "res3", "res4", "res5"), ("layer1", "layer2", "layer3", "layer4")):
        x = found[name] = getattr(resnet, layer)(x)
    return found


@torch.no_grad()
@pytest.mark.parametrize("encoder", RESNETS)
def test_resnets_are_equal_layer_by_layer_at_output_stride_32(torchvision: ModuleType, encoder: str) -> None:
    theirs = getattr(torchvision.models, encoder)().eval()
    ours = build(encoder, head="bilinear", aspp=0, output_stride=32, dilation="none").encoder.eval()
    ours.load_state_dict({key: value for key, value in theirs.state_dict().items() if not key.startswith("fc.")})
    images = torch.randn(1, 3, 64, 96)
    expected, found = stages_of(theirs, images), ours.intermediates(images)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], stage) for name, stage in expected.items())
    assert torch.equal(ours(images), expected["res5"])


@torch.no_grad()
def test_mobilenet_is_equal_layer_by_layer_at_output_stride_32(torchvision: ModuleType) -> None:
    theirs = torchvision.models.mobilenet_v2().eval()
    ours = build("mobilenet_v2", head="bilinear", aspp=0, output_stride=32, dilation="none").encoder.eval()
    ours.load_state_dict({key: value for key, value in theirs.state_dict().items() if key in ours.state_dict()})
    x = y = torch.randn(1, 3, 64, 96)
    for ours_layer, their_layer in zip(ours.features, theirs.features[:18], strict=True):
        x, y = ours_layer(x), their_layer(y)
        assert torch.equal(x, y)


def vgg_features(torchvision: ModuleType, *, batch_norm: bool) -> nn.Sequential:
    """Its VGG-16 without the fully connected layers, which take seconds to make."""
    from torchvision.models import vgg

    made: nn.Sequential = vgg.make_layers(vgg.cfgs["D"], batch_norm=batch_norm)
    return made.eval()


@torch.no_grad()
@pytest.mark.parametrize(("encoder", "ends"), [("vgg16", (8, 15, 22, 29, 30)), ("vgg16_bn", (12, 22, 32, 42, 43))])
def test_vgg_is_equal_layer_by_layer(torchvision: ModuleType, encoder: str, ends: tuple[int, ...]) -> None:
    theirs = vgg_features(torchvision, batch_norm=encoder.endswith("_bn"))
    ours = build(encoder, head="bilinear", aspp=0, output_stride=32, dilation="none").encoder.eval()
    ours.load_state_dict({f"features.{key}": value for key, value in theirs.state_dict().items()})
    images = torch.randn(1, 3, 64, 96)
    found = ours.intermediates(images)
    assert list(found) == ["stem", "res2", "res3", "res4", "res5"], "conv2_2, conv3_3, conv4_3, conv5_3, pool5"
    for (name, features), end in zip(found.items(), ends, strict=True):
        assert torch.equal(features, theirs[: end + 1](images)), name


@torch.no_grad()
def test_dilated_vgg_is_torchvisions_without_two_poolings(torchvision: ModuleType) -> None:
    theirs = vgg_features(torchvision, batch_norm=False)
    ours = build("vgg16", head="bilinear", aspp=0, output_stride=8, dilation="dilated").encoder.eval()
    ours.load_state_dict({f"features.{key}": value for key, value in theirs.state_dict().items()})
    x = images = torch.randn(1, 3, 64, 96)
    for index, layer in enumerate(theirs):
        if index in (24, 26, 28):  # conv5_1 .. conv5_3
            x = nn.functional.conv2d(x, layer.weight, layer.bias, padding=2, dilation=2)
        elif index not in (23, 30):  # pool4, pool5
            x = layer(x)
    torch.testing.assert_close(ours(images), x)


@torch.no_grad()
@pytest.mark.parametrize("output_stride", [16, 8])
def test_equal_to_replaced_strides(torchvision: ModuleType, output_stride: int) -> None:
    replaced = [False, output_stride == 8, True]
    theirs = torchvision.models.resnet50(replace_stride_with_dilation=replaced).eval()
    rates = TORCHVISIONS_RATES[output_stride]
    ours = build("resnet50", head="bilinear", aspp=0, output_stride=output_stride, dilation=rates).encoder.eval()
    ours.load_state_dict({key: value for key, value in theirs.state_dict().items() if not key.startswith("fc.")})
    images = torch.randn(1, 3, 64, 96)
    expected, found = stages_of(theirs, images), ours.intermediates(images)
    assert all(torch.equal(found[name], stage) for name, stage in expected.items())


@torch.no_grad()
@pytest.mark.parametrize(
    ("encoder", "file"),
    [("resnet18", "resnet18-imagenet-layers1to3"), ("mobilenet_v2", "mobilenet_v2-imagenet")],
)
def test_equal_with_the_real_weights(torchvision: ModuleType, shared: Path, encoder: str, file: str) -> None:
    segmenter = build(encoder, "bilinear", 3, output_stride=32, dilation="none", aspp=0).eval()
    load_encoder(segmenter, shared / "weights" / f"{file}.safetensors", allow_missing=True)
    theirs = getattr(torchvision.models, encoder)().eval()
    theirs.load_state_dict(segmenter.encoder.state_dict(), strict=False)
    images = segmenter.preprocessing.normalise(torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8))
    expected = theirs.features[:18](images) if encoder == "mobilenet_v2" else stages_of(theirs, images)["res5"]
    assert torch.equal(segmenter.encoder(images), expected) and expected.abs().max() > 0.1
