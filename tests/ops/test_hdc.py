import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ducseg.errors import UserError
from ducseg.ops.hdc import SCHEDULES, check, coverage, max_gaps, report, schedule, search, set_dilations

short = st.lists(st.integers(1, 6), min_size=1, max_size=4)


def walked(rates: list[int], kernel_size: int) -> dict[tuple[int, int], int]:
    """Number of paths to each offset from the corner, by walking every one of them."""
    paths: dict[tuple[int, int], int] = {(0, 0): 1}
    for rate in rates:
        steps = list(itertools.product(range(0, kernel_size * rate, rate), repeat=2))
        longer: dict[tuple[int, int], int] = {}
        for (y, x), count in paths.items():
            for down, right in steps:
                longer[y + down, x + right] = longer.get((y + down, x + right), 0) + count
        paths = longer
    return paths


@given(short, st.integers(2, 4))
def test_coverage_agrees_with_a_walk_over_all_paths(rates: list[int], kernel_size: int) -> None:
    counts = coverage(rates, kernel_size)
    assert counts.shape == (1 + (kernel_size - 1) * sum(rates),) * 2
    assert counts.dtype == np.int64
    assert {tuple(place): int(counts[*place]) for place in np.argwhere(counts)} == walked(rates, kernel_size)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(2, 5))
def test_check_says_what_coverage_says(rates: list[int], kernel_size: int) -> None:
    found, counts = check(rates, kernel_size), coverage(rates, kernel_size)
    assert found.receptive_field == len(counts)
    assert found.holes == (counts == 0).sum()
    assert found.covered_fraction == pytest.approx((counts > 0).mean())
    assert found.ok == bool((counts > 0).all())
    assert found.gcd == math.gcd(*rates)


@given(short)
def test_the_order_of_layers_does_not_change_what_is_reached(rates: list[int]) -> None:
    assert np.array_equal(coverage(rates), coverage(rates[::-1]))


def test_equation_2_on_the_papers_examples() -> None:
    assert max_gaps([1, 2, 5]) == [1, 2, 5]
    assert max_gaps([1, 2, 9]) == [3, 5, 9]
    assert max_gaps([5, 9, 17])[1] == 9


@pytest.mark.parametrize("rates", [[2, 2, 2], [2, 3], [2, 3, 4]])
def test_equation_2_is_not_sufficient(rates: list[int]) -> None:
    found = check(rates)
    assert found.equation_2
    assert not found.ok


def test_equation_2_is_not_necessary() -> None:
    assert check([9, 3, 1]).ok
    assert not check([9, 3, 1]).equation_2


def test_no_common_factor_is_not_enough_either() -> None:
    assert check([2, 3]).gcd == 1
    assert coverage([2, 3])[0, 1] == 0


@pytest.mark.parametrize(("kernel_size", "num_layers"), [(2, 1), (2, 4), (3, 1), (3, 2), (3, 3), (5, 2)])
def test_search_finds_exactly_what_a_search_over_everything_finds(kernel_size: int, num_layers: int) -> None:
    rates = range(1, kernel_size**num_layers + 2)
    everything = itertools.combinations_with_replacement(rates, num_layers)
    found = search(num_layers, kernel_size)
    assert sorted(found) == sorted(one for one in everything if check(one, kernel_size).ok)
    fields = [check(one, kernel_size).receptive_field for one in found]
    assert fields == sorted(fields, reverse=True)
    assert fields[0] == kernel_size**num_layers


@given(st.integers(1, 6), st.data())
def test_search_for_a_field_gives_the_smallest_that_reaches_it(num_layers: int, data: st.DataObject) -> None:
    wanted = data.draw(st.integers(1, min(60, 3**num_layers)))
    found = search(num_layers, receptive_field=wanted)
    checks = [check(rates) for rates in found]
    assert found
    assert all(one.ok for one in checks)
    assert {one.receptive_field for one in checks} == {max(2 * num_layers + 1, wanted + (wanted + 1) % 2)}


def test_search_refuses_what_cannot_be() -> None:
    with pytest.raises(UserError, match=r"3\^2 = 9"):
        search(2, receptive_field=10)
    with pytest.raises(UserError, match="Give receptive_field"):
        search(6)


def test_the_papers_schedules_for_resnet_101() -> None:
    increase = {name: 2 * sum(map(sum, schedule(name, 23, 3))) for name in SCHEDULES}
    assert increase == {"none": 52, "dilated": 116, "conv": 80, "rf": 116, "bigger": 248, "released": 250}
    assert schedule("rf", 23, 3) == ((1, 2, 3) * 7 + (2, 2), (3, 4, 5))
    assert schedule("bigger", 23, 3) == ((1, 2, 5, 9) * 5 + (1, 2, 5), (5, 9, 17))
    assert schedule("released", 23, 3)[0] == (2, 2, 5, 9) + (1, 2, 5, 9) * 4 + (1, 2, 5)
    assert schedule("conv", 23, 3) == ((2, 1) * 11 + (2,), (2, 1, 2))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("res4", "res5"), [(2, 2), (6, 3), (23, 3), (36, 3)])
def test_every_depth_has_one_rate_a_block(name: str, res4: int, res5: int) -> None:
    rates4, rates5 = schedule(name, res4, res5)
    assert (len(rates4), len(rates5)) == (res4, res5)


def test_bigger_alone_in_res5_grids_and_behind_res4_does_not() -> None:
    res4, res5 = schedule("bigger", 23, 3)
    assert not check(res5).ok
    assert check((*res4, *res5)).ok


def test_unknown_schedules_and_rates_are_refused() -> None:
    with pytest.raises(UserError, match=r"'biggest'.*bigger"):
        schedule("biggest", 23, 3)
    with pytest.raises(UserError, match="at least 1"):
        check([1, 0])
    with pytest.raises(UserError, match="one or more"):
        max_gaps([])
    with pytest.raises(UserError, match="63 paths"):
        coverage([1] * 20)
    assert check([1] * 20).receptive_field == 41


def test_set_dilations_keeps_every_size_and_every_weight() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 5, stride=2, padding=2),
        nn.Conv2d(4, 4, 3, padding="same"), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 2, 3, padding=1, padding_mode="reflect"),
        nn.ConvTranspose2d(2, 2, 4),
    )  # fmt: skip
    image = torch.randn(1, 3, 40, 52)
    before, weights = network(image), [p.clone() for p in network.parameters()]
    assert set_dilations(network, [2, 3, 4, 1, 5]) == ["0", "2", "3", "4", "5"]
    assert [network[index].dilation[0] for index in (0, 2, 3, 4, 5)] == [2, 3, 4, 1, 5]
    assert network(image).shape == before.shape
    assert all(torch.equal(one, other) for one, other in zip(weights, network.parameters()))


def test_set_dilations_names_the_convolutions_it_counted() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3))
    with pytest.raises(UserError, match=r"3 rates for 2 convolutions \(0, 1\)"):
        set_dilations(network, [1, 2, 3])
    with pytest.raises(UserError, match="even kernels in 0"):
        set_dilations(nn.Sequential(nn.Conv2d(1, 1, 4)), [2])


def test_the_report_gives_a_verdict_and_a_way_out() -> None:
    assert "covers its receptive field" in report([1, 2, 5, 9])
    text = report([2, 2, 2])
    assert "leaves holes" in text
    assert "120 of 169" in text
    assert "1, 2, 3 (receptive field 13)" in text
