"""VGG-16's ImageNet weights: its fully connected layers fill fc6 and fc7 where a head has them."""

from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from ducseg.models import Segmenter, build
from ducseg.weights.encoders import load_encoder


def torchvisions(width: int = 1) -> dict[str, Tensor]:
    """Under torchvision's names, of a VGG-16 of that width: classifier.0 and .3 are fully connected."""
    torch.manual_seed(1)
    tensors = dict(build("vgg16", "bilinear", 3, width=width, dilation="dilated").encoder.state_dict())
    hidden = 64 * width
    tensors |= {"classifier.0.weight": torch.randn(hidden, 8 * width * 49), "classifier.0.bias": torch.randn(hidden)}
    tensors |= {"classifier.3.weight": torch.randn(hidden, hidden), "classifier.3.bias": torch.randn(hidden)}
    return tensors | {"classifier.6.weight": torch.randn(1000, hidden), "classifier.6.bias": torch.randn(1000)}


def loaded(tmp_path: Path, head: str) -> tuple[Segmenter, str, dict[str, Tensor]]:
    tensors, network = torchvisions(), build("vgg16", head, 3, width=1)
    torch.save(tensors, tmp_path / "vgg16.pth")
    report = load_encoder(network, tmp_path / "vgg16.pth")
    assert torch.equal(network.encoder.features[0].weight, tensors["features.0.weight"])
    return network, str(report), tensors


@pytest.mark.parametrize("head", ["fcn8s", "dilation10"])
def test_fc6_is_the_fully_connected_layer(tmp_path: Path, head: str) -> None:
    network, report, tensors = loaded(tmp_path, head)
    features = torch.randn(2, 8, 7, 7)
    fc6, fc7 = network.head.classifier.fc6, network.head.classifier.fc7
    found = torch.nn.functional.conv2d(features, fc6.weight, fc6.bias).flatten(1)
    wanted = torch.nn.functional.linear(
        features.flatten(1), tensors["classifier.0.weight"], tensors["classifier.0.bias"]
    )
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(fc7.weight.flatten(1), tensors["classifier.3.weight"]) and "fc6 and fc7 too" in report


def test_where_they_do_not_fit_they_are_left_out(tmp_path: Path) -> None:
    network, report, _ = loaded(tmp_path, "deeplabv2")
    assert "fc6" not in report and network.head.branches[0].classifier.fc6.weight.shape == (16, 8, 3, 3)


def test_the_file_names_are_torchvisions(torchvision: ModuleType) -> None:
    from ducseg.weights.encoders import IMAGENET_URLS

    assert IMAGENET_URLS["vgg16"] == torchvision.models.VGG16_Weights.IMAGENET1K_V1.url
    assert IMAGENET_URLS["vgg16_bn"] == torchvision.models.VGG16_BN_Weights.IMAGENET1K_V1.url
