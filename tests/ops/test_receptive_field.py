from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pytest
import torch
from torch import nn

from ducseg.errors import UserError
from ducseg.models import build
from ducseg.ops.dilate import strides_to_dilations
from ducseg.ops.hdc import SCHEDULES, coverage, schedule
from ducseg.ops.network_coverage import network_coverage
from ducseg.ops.receptive_field import Layer, effective, layers_of, measured, receptive_field_increase, theoretical


def stack(rates: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for rate in rates:
        layers += [nn.Conv2d(2, 2, 3, padding=rate, dilation=rate), nn.BatchNorm2d(2), nn.ReLU()]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("rates", [[1], [2, 2, 2], [1, 2, 3], [1, 2, 5, 9], [2, 3], [1, 2, 9]])
def test_measured_is_what_coverage_says(rates: list[int]) -> None:
    counts = coverage(rates)
    side = len(counts)
    reached = measured(stack(rates), (side + 4, side + 6), channels=2)
    rows, columns = (np.flatnonzero(reached.any(axis)) for axis in (1, 0))
    found = reached[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert np.array_equal(found, counts > 0)


def test_the_network_is_left_as_it_was() -> None:
    network = stack([1, 2])
    before = [parameter.clone() for parameter in network.parameters()]
    measured(network, (9, 9), channels=2)
    assert all(torch.equal(one, other) for one, other in zip(before, network.parameters()))
    assert network.training


def test_theory_multiplies_strides() -> None:
    chain = [
        Layer(name="stem", kernel_size=7, stride=2),
        Layer(name="pool", kernel_size=3, stride=2),
        Layer(name="dilated", kernel_size=3, dilation=2),
    ]
    assert [(at.receptive_field, at.jump) for at in theoretical(chain)] == [(7, 2), (11, 4), (27, 4)]


def test_increase_is_the_tables_column() -> None:
    increases = {name: sum(map(receptive_field_increase, schedule(name, 23, 3))) for name in SCHEDULES}
    assert increases["dilated"] == 116
    assert increases["bigger"] == 248


@pytest.mark.parametrize("dilation", ["dilated", "bigger"])
def test_theory_is_the_extent_measured_on_a_built_encoder(dilation: str) -> None:
    encoder = build(encoder="resnet18", head="bilinear", width=4, output_stride=16, aspp=0, dilation=dilation).encoder
    field = theoretical(layers_of(encoder))[-1].receptive_field
    reached = measured(encoder, (2 * field // 16 * 16 + 32, 32))
    rows = np.flatnonzero(reached.any(1))
    assert rows[-1] - rows[0] + 1 == field


def test_a_position_outside_is_refused() -> None:
    with pytest.raises(UserError, match="9x9"):
        measured(stack([1]), (9, 9), (9, 0), channels=2)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (N, C, H, W), as ConvNeXt has it."""

    def forward(self, grid: torch.Tensor) -> torch.Tensor:
        return super().forward(grid.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Scaled(nn.Module):
    """A residual branch with a scale of its own that starts at 0, or below."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.conv, self.gamma = nn.Conv2d(2, 2, 3, padding=1), nn.Parameter(torch.full((2, 1, 1), scale))

    def forward(self, grid: torch.Tensor) -> torch.Tensor:
        return grid + self.gamma * self.conv(grid)


def reached_by_undefined_numbers(network: nn.Module, size: tuple[int, int], position: tuple[int, int]) -> np.ndarray:
    """Put NaN at each pixel in turn: where it comes through, there is a connection. Norms over places are left out."""
    pictures = torch.ones(size[0] * size[1], 2, *size, dtype=torch.float64)
    pictures.view(-1, 2, size[0] * size[1])[range(len(pictures)), 0, range(len(pictures))] = torch.nan
    with torch.no_grad():
        outputs = network.double().eval()(pictures)
    return outputs[:, :, *position].isnan().any(1).view(size).numpy()


def pooled(pool: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), pool, nn.Conv2d(2, 2, 3, padding=1))


def without_strides() -> nn.Module:
    network = nn.Sequential(
        nn.Conv2d(3, 2, 3, padding=1), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Conv2d(2, 2, 2, 2),
        nn.Conv2d(2, 2, 3, padding=1),
    )  # fmt: skip
    strides_to_dilations(network, 1)
    network[0] = nn.Conv2d(2, 2, 3, padding=1)
    return network


@pytest.mark.parametrize(
    "network",
    [
        pooled(nn.MaxPool2d(3, 2, 1)),
        pooled(nn.MaxPool2d(2)),
        pooled(nn.MaxPool2d(3, 1, padding=1, dilation=2)),
        pooled(nn.MaxPool2d(3, 2, dilation=3)),
        pooled(nn.MaxPool2d((3, 2), (2, 1))),
        pooled(nn.MaxPool2d(3, 2, ceil_mode=True)),
        pooled(nn.MaxPool2d(2, ceil_mode=True)),
        pooled(nn.AvgPool2d(3, 2, ceil_mode=True)),
        nn.MaxPool2d(3, 2),
        nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), ChannelNorm(2), nn.GELU(), nn.Conv2d(2, 2, 3, padding=1)),
        nn.Sequential(nn.Conv2d(2, 2, 3, padding=2, dilation=2), nn.Hardswish(), Scaled(0.0), Scaled(-3.0)),
        without_strides(),
    ],
)
def test_measured_is_what_undefined_numbers_find(network: nn.Module) -> None:
    size = (23, 22)
    height, width = network.double().eval()(torch.zeros(1, 2, *size, dtype=torch.float64)).shape[-2:]
    for position in ((height // 2, width // 2), (height - 1, width - 1), (0, 0)):
        found = measured(network, size, position, channels=2)
        assert np.array_equal(found, reached_by_undefined_numbers(network, size, position)), position


@pytest.mark.parametrize("norm", [nn.GroupNorm(1, 2), nn.InstanceNorm2d(2, affine=True), nn.GroupNorm(2, 2)])
def test_norms_over_places_pass_through(norm: nn.Module) -> None:
    chain = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), norm, nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1))
    reached = measured(chain, (11, 11), channels=2)
    assert reached.sum() == 25 and reached[3:8, 3:8].all()


class Gate(nn.Module):
    """Two convolutions, and between them a mean over all places that meets the map again."""

    def __init__(self, joined: Callable[[torch.Tensor], torch.Tensor], channels: int = 2) -> None:
        super().__init__()
        self.before, self.after = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(channels, 2, 3, padding=1)
        self.linear, self.joined = nn.Linear(2, 2), joined

    def forward(self, grid: torch.Tensor) -> torch.Tensor:
        return self.after(self.joined(self.before(grid)))


def squeezed(grid: torch.Tensor) -> torch.Tensor:
    """With its shape lost on the way, as the first squeeze-and-excitation has it."""
    scale = torch.sigmoid(nn.functional.adaptive_avg_pool2d(grid, 1).view(1, 2)).view(1, 2, 1, 1)
    return grid * scale.expand_as(grid)


def pooled_branch(grid: torch.Tensor) -> torch.Tensor:
    """ASPP's, spread out again and stacked."""
    pooled = nn.functional.adaptive_avg_pool2d(grid, 1).relu()
    spread = nn.functional.interpolate(pooled, size=grid.shape[-2:], mode="bilinear")
    return torch.cat([grid, spread], 1)


@pytest.mark.parametrize(
    ("joined", "channels"),
    [
        (squeezed, 2),
        (lambda grid: grid * grid.mean((2, 3), keepdim=True).sigmoid(), 2),
        (lambda grid: grid + grid.flatten(2).mean(-1)[..., None, None], 2),
        (lambda grid: grid * nn.functional.avg_pool2d(grid, grid.shape[-2:]), 2),
        (lambda grid: grid * (grid.amax((2, 3), keepdim=True) + nn.functional.adaptive_max_pool2d(grid, 1)), 2),
        (lambda grid: grid.mul_(torch.mean(grid, (1, 2, 3), True).sigmoid()), 2),
        (lambda grid: grid - grid.mean(), 2),
        (lambda grid: grid * grid.norm(dim=(2, 3), keepdim=True), 2),
        (pooled_branch, 4),
    ],
)
def test_means_over_all_places_are_left_out(joined: Callable[[torch.Tensor], torch.Tensor], channels: int) -> None:
    reached = measured(Gate(joined, channels), (11, 11), channels=2)
    assert reached.sum() == 25 and reached[3:8, 3:8].all()


def test_a_mean_over_channels_or_along_rows_stays() -> None:
    spatial = measured(Gate(lambda grid: grid.mean(1, keepdim=True) * torch.ones(2, 1, 1)), (11, 11), channels=2)
    along = measured(Gate(lambda grid: grid + grid.mean(3, keepdim=True)), (11, 11), channels=2)
    assert spatial.sum() == 25 and along[3:8].all() and along.sum() == 55


def test_a_mean_that_meets_no_map_is_the_answer_of_a_classifier() -> None:
    classifier = nn.Sequential(Gate(squeezed), nn.AdaptiveAvgPool2d(1), nn.Conv2d(2, 5, 1))
    assert measured(classifier, (11, 11), channels=2).all()


class InADictionary(nn.Module):
    def __init__(self, **outputs: nn.Module) -> None:
        super().__init__()
        self.outputs = nn.ModuleDict(outputs)

    def forward(self, grid: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: module(grid) for name, module in self.outputs.items()}


def test_of_a_dictionary_out_is_taken() -> None:
    small, large = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 5, padding=2)
    assert measured(InADictionary(aux=large, out=small), (11, 11), channels=2).sum() == 9
    with pytest.raises(UserError, match=r"output of the network: found a dictionary of 'aux', 'top'.*as .out."):
        measured(InADictionary(aux=large, top=small), (11, 11), channels=2)


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_gradients_are_had_where_the_caller_wants_none(around: Callable[[], AbstractContextManager[None]]) -> None:
    network = stack([2, 2]).eval()
    wanted = measured(network, (12, 12), channels=2)
    with around():
        assert np.array_equal(measured(network, (12, 12), channels=2), wanted)
        assert effective(network[0], torch.randn(1, 2, 12, 12)).sum() == pytest.approx(1)
        found = network_coverage(nn.Sequential(nn.Conv2d(2, 2, 3, 2, 1), *network), channels=2)
    assert found is not None and found.holes
