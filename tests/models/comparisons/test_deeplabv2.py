"""DeepLabv2: ASPP of both kinds, three scales and their maximum, the four losses."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ducseg.models import Segmenter, build

ON: dict[str, dict[str, Any]] = {"resnet": {"encoder": "resnet18"}, "vgg": {"encoder": "vgg16"}}


def small(on: str, head: str = "deeplabv2", **options: Any) -> Segmenter:
    torch.manual_seed(0)
    return build(head=head, num_classes=5, width=4, **ON[on], **options).eval()


def test_on_a_resnet_one_scale_is_the_bilinear_baseline() -> None:
    """The paper's baseline is DeepLabv2's network: same function, another name for its convolutions."""
    ours, baseline = small("resnet", "deeplabv2_single"), small("resnet", "bilinear", dilation="dilated")
    tensors = {name.replace("branches", "paths"): value for name, value in ours.state_dict().items()}
    tensors = {
        name.replace(".weight", ".conv.weight").replace(".bias", ".conv.bias") if "paths" in name else name: value
        for name, value in tensors.items()
    }
    baseline.load_state_dict(tensors)
    images = torch.randn(1, 3, 45, 64)
    assert torch.equal(ours(images), baseline(images))


def test_branches_on_vgg() -> None:
    network = small("vgg", "deeplabv2_single", aspp=2)
    features = torch.randn(1, 32, 9, 30)
    wanted: Any = 0
    for branch, rate in zip(network.head.branches, (6, 12), strict=True):
        fc6, fc7 = branch.classifier.fc6, branch.classifier.fc7
        assert fc6.weight.shape == (64, 32, 3, 3)
        x = F.conv2d(features, fc6.weight, fc6.bias, padding=rate, dilation=rate).relu()
        wanted = wanted + branch.fc8(F.conv2d(x, fc7.weight, fc7.bias).relu())
    torch.testing.assert_close(network.head._scores(features), wanted)


def test_poolings_on_vgg_have_3x3_and_stay() -> None:
    pools = [layer for layer in small("vgg").encoder.features if isinstance(layer, nn.MaxPool2d)]
    assert [(pool.kernel_size, pool.stride, pool.padding) for pool in pools] == [(3, 2, 1)] * 3 + [(3, 1, 1)] * 2


@pytest.mark.parametrize("on", ON)
@torch.no_grad()
def test_three_scales_and_their_maximum(on: str) -> None:
    network, single = small(on), small(on, "deeplabv2_single")
    single.load_state_dict(network.state_dict())
    images = torch.randn(2, 3, 64, 128)
    found, *scales = network.supervised(images)
    assert [tuple(one.shape[-2:]) for one in scales] == [(8, 16), (6, 12), (4, 8)]

    def at(size: tuple[int, int]) -> Tensor:
        return single.folded(F.interpolate(images, size=size, mode="bilinear"))[:, :, 0]

    for scores, size in zip(scales, ((64, 128), (48, 96), (32, 64)), strict=True):
        torch.testing.assert_close(scores, at(size))
    resized = [F.interpolate(one, size=(8, 16), mode="bilinear") for one in scales]
    torch.testing.assert_close(found[:, :, 0], torch.stack(resized).amax(0))
    assert torch.equal(network.folded(images), found)


def test_the_losses_of_the_scales() -> None:
    network = small("resnet")
    labels = torch.randint(0, 5, (1, 32, 64), dtype=torch.uint8)
    labels[:, :, 40:] = 255
    scales = [torch.zeros(1, 5, *size) for size in ((4, 8), (3, 6), (2, 4))]
    assert network.head.extra_loss(scales, labels).item() == pytest.approx(3 * math.log(5))
    assert network.head.extra_loss(scales, torch.full_like(labels, 255)).item() == 0
    # nearest labels: those of the pixel under each place's centre
    own = F.one_hot(labels[:, 8::16, 8::16].long().clamp(max=4), 5).permute(0, 3, 1, 2).float() * 100
    assert network.head.extra_loss([own], labels).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("on", ON)
def test_without_aspp_there_is_one_branch_at_rate_1(on: str) -> None:
    network = small(on, aspp=0)
    kernels = [one for one in network.head.modules() if isinstance(one, nn.Conv2d) and one.kernel_size == (3, 3)]
    assert [one.dilation for one in kernels] == [(1, 1)]
    assert network(torch.randn(1, 3, 16, 24)).shape == (1, 5, 16, 24)
