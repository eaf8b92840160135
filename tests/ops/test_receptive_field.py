import numpy as np
import pytest
import torch
from torch import nn

from ducseg.errors import UserError
from ducseg.models import build
from ducseg.ops.hdc import SCHEDULES, coverage, schedule
from ducseg.ops.receptive_field import Layer, layers_of, measured, receptive_field_increase, theoretical


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
