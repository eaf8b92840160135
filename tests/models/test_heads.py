"""Heads: the paper's parameter counts, ASPP against an explicit sum, deconvolutions of DUC's size."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ducseg.models.heads import aspp_rates, head_parameters, make_head


def test_parameter_counts_from_2048_channels_and_19_classes() -> None:
    assert head_parameters(2048, 19)["bilinear"] == pytest.approx(1.4e6, rel=0.01)
    assert head_parameters(2048, 19, cell=2)["duc"] == pytest.approx(22.4e6, rel=0.01)
    assert head_parameters(2048, 19)["duc"] == pytest.approx(89.7e6, rel=0.01)


@pytest.mark.parametrize("output_stride", [4, 8, 16])
@pytest.mark.parametrize(("channels", "classes", "aspp"), [(2048, 19, 4), (512, 11, 6), (320, 2, 0)])
def test_deconvolutions_have_about_ducs_parameters(channels: int, classes: int, aspp: int, output_stride: int) -> None:
    counts = head_parameters(channels, classes, output_stride=output_stride, aspp=aspp)
    for head in ("deconv", "deconv2"):
        assert counts[head] == pytest.approx(counts["duc"], rel=0.05)


def test_aspp_is_the_sum_of_its_paths() -> None:
    assert aspp_rates(4) == (6, 12, 18, 24) and aspp_rates(6)[-1] == 36 and aspp_rates(0) == (1,)
    head = make_head("duc", 5, 3, output_stride=4, cell=2, aspp=3)
    convolutions = [module for module in head.modules() if isinstance(module, nn.Conv2d)]
    for convolution in convolutions:
        nn.init.normal_(convolution.bias)
    features = torch.randn(2, 5, 7, 9)
    wanted = sum(
        F.conv2d(features, convolution.weight, convolution.bias, padding=rate, dilation=rate)
        for convolution, rate in zip(convolutions, (6, 12, 18), strict=True)
    )
    torch.testing.assert_close(head(features), wanted.view(2, 3, 4, 7, 9))


@pytest.mark.parametrize("output_stride", [4, 8, 16, 32])
@pytest.mark.parametrize("head", ["bilinear", "duc", "deconv", "deconv2"])
def test_grid(head: str, output_stride: int) -> None:
    made = make_head(head, 6, 2, output_stride=output_stride, cell=1, aspp=0)
    grid_stride, factor = {"bilinear": (output_stride, 1), "duc": (output_stride, output_stride)}.get(head, (1, 1))
    assert (made.grid_stride, made.factor) == (grid_stride, factor)
    places = output_stride // grid_stride
    assert made(torch.randn(1, 6, 3, 5)).shape == (1, 2, factor**2, 3 * places, 5 * places)


def test_a_deconvolution_reaches_the_places_around() -> None:
    # One lit place lights a 2s x 2s field of pixels around it (kernel 2s, stride s): x8 then 16x16.
    head = make_head("deconv", 1, 1, output_stride=8, cell=1, aspp=0)
    with torch.no_grad():
        for path in head.paths:
            path.weight.zero_()
            path.weight[:, :, 1, 1] = 1
        lit = torch.zeros(1, 1, 5, 5)
        lit[..., 2, 2] = 1
        change = (head(lit) - head(torch.zeros_like(lit)))[0, 0, 0].abs() > 0
    rows, columns = change.any(1).nonzero()[:, 0], change.any(0).nonzero()[:, 0]
    assert (rows.min(), rows.max()) == (columns.min(), columns.max()) == (12, 27)


@pytest.mark.parametrize("head", ["bilinear", "duc", "deconv", "deconv2"])
def test_every_convolution_of_a_head_has_a_bias_that_starts_at_zero(head: str) -> None:
    made = make_head(head, 4, 2, output_stride=8, cell=1, aspp=2)
    for module in made.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            assert module.bias is not None and not module.bias.any()


@pytest.mark.parametrize("aspp", [0, 4, 6])
@pytest.mark.parametrize("head", ["bilinear", "duc", "deconv", "deconv2"])
def test_scores_start_at_a_tenth_of_the_features(head: str, aspp: int) -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 256, 40, 40)
    scores = make_head(head, 256, 5, output_stride=4, cell=1, aspp=aspp)(features)
    # zero padding of dilated kernels takes some of it away, the ReLU between deconvolutions half of the energy
    expected = 0.1 * (math.sqrt(0.5) if head == "deconv2" else 1)
    assert 0.5 * expected < scores.std() < 1.2 * expected
