"""Dilation10: the mirrored margin, the sizes of the worked example, the context module's start, all layers."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ducseg.models import build
from ducseg.models.comparisons.dilation10 import CONTEXT_RATES, MARGIN, ContextModule, mirrored


@pytest.mark.parametrize(("height", "width"), [(200, 300), (8, 24), (2, 400)])
def test_the_margin_is_opencvs(height: int, width: int) -> None:
    picture = np.random.default_rng(0).random((height, width, 3), np.float32)
    wanted = cv2.copyMakeBorder(picture, MARGIN, MARGIN, MARGIN, MARGIN, cv2.BORDER_REFLECT_101)
    found = mirrored(torch.from_numpy(picture).permute(2, 0, 1)[None], MARGIN)
    np.testing.assert_array_equal(found[0].permute(1, 2, 0).numpy(), wanted)


@pytest.mark.parametrize("layers", CONTEXT_RATES)
def test_the_context_module_starts_as_the_identity(layers: int) -> None:
    module = ContextModule(5, layers=layers)
    scores = torch.rand(2, 5, 9, 150)
    assert torch.equal(module(scores), scores)
    assert torch.equal(module(-scores), torch.zeros_like(scores)), "each layer ends in a ReLU"
    assert len(list(module.convolutions)) + 1 == layers


def test_noise_on_the_identity() -> None:
    torch.manual_seed(0)
    weight = ContextModule(20, noise=0.01).convolutions[3].weight
    noise = weight.detach() - nn.init.dirac_(torch.empty_like(weight))
    assert noise.std() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize(("layers", "reach"), [(10, 1 + 1 + 2 + 4 + 8 + 16 + 32 + 64 + 1), (8, 33), (7, 17)])
def test_the_context_module_sees_as_far_as_its_rates_reach(layers: int, reach: int) -> None:
    module = ContextModule(1, layers=layers)
    for parameter in module.parameters():
        nn.init.ones_(parameter)
    scores = torch.zeros(1, 1, 1, 2 * 140 + 1, requires_grad=True)
    module(scores)[..., 140].sum().backward()
    seen = scores.grad[0, 0, 0].nonzero()[:, 0]
    assert (seen.min(), seen.max()) == (140 - reach, 140 + reach)


def test_sizes_of_the_worked_example() -> None:
    with torch.device("meta"):
        network = build("vgg16", "dilation10", 19, width=4)
        seen: list[tuple[int, ...]] = []
        for index in (4, 9, 16, 22, 29):  # the poolings, the last of conv4 and of conv5
            network.encoder.features[index].register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape[2:])))
        folded = network.folded(torch.empty(1, 3, 512, 1024))
    assert folded.shape == (1, 19, 1, 64, 128)
    assert seen == [(440, 696), (218, 346), (106, 170), (100, 164), (88, 152)]


@torch.no_grad()
def test_the_network_is_the_released_one_layer_by_layer() -> None:
    torch.manual_seed(0)
    network = build("vgg16", "dilation8", 3, width=2).double().eval()
    nn.init.normal_(network.head.final.weight)
    images = torch.randn(1, 3, 24, 40, dtype=torch.float64)
    x = mirrored(images, MARGIN)
    convolutions = iter(layer for layer in network.encoder.features if isinstance(layer, nn.Conv2d))
    for block, count in enumerate((2, 2, 3, 3, 3)):
        for _ in range(count):
            layer = next(convolutions)
            x = F.conv2d(x, layer.weight, layer.bias, dilation=2 if block == 4 else 1).relu()
        x = F.max_pool2d(x, 2) if block < 3 else x
    fc6, fc7, final, context = (
        network.head.classifier.fc6, network.head.classifier.fc7, network.head.final, network.head.context,
    )  # fmt: skip
    x = F.conv2d(x, fc6.weight, fc6.bias, dilation=4).relu()
    x = F.conv2d(F.conv2d(x, fc7.weight, fc7.bias).relu(), final.weight, final.bias)
    for layer, rate in zip(context.convolutions, (1, 1, 2, 4, 8, 16, 1), strict=True):
        x = F.conv2d(x, layer.weight, layer.bias, padding=rate, dilation=rate).relu()
    torch.testing.assert_close(network.folded(images)[:, :, 0], context.final(x))


def test_every_stage_starts_from_the_one_before() -> None:
    front, joint = (build("vgg16", head, 3, width=1).state_dict().keys() for head in ("dilation_front", "dilation10"))
    assert {name.rpartition(".")[0] for name in joint - front} == {
        "head.context.final", *(f"head.context.convolutions.{index}" for index in range(9)),
    }  # fmt: skip
    assert front <= joint
