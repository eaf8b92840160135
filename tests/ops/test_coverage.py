import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ducseg.errors import UserError
from ducseg.ops.coverage import MAX_SCHEDULES
from ducseg.ops.hdc import SCHEDULES, check, coverage, max_gaps, report, schedule, search

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


def count_of_schedules(num_layers: int, kernel_size: int) -> int:
    """By counting prefixes of equal sum and last rate, without listing one."""
    ways = {(1, 1): 1}
    for _ in range(num_layers - 1):
        longer: dict[tuple[int, int], int] = {}
        for (total, last), count in ways.items():
            for rate in range(last, 2 + (kernel_size - 1) * total):
                longer[total + rate, rate] = longer.get((total + rate, rate), 0) + count
        ways = longer
    return sum(ways.values())


@pytest.mark.parametrize(
    ("num_layers", "kernel_size"),
    [(2, 27), (2, 1000), (1, 10**6), (3, 9), (3, 15), (4, 3), (4, 5), (5, 3), (5, 2), (6, 2)],
)
def test_search_lists_as_many_as_there_are(num_layers: int, kernel_size: int) -> None:
    found = search(num_layers, kernel_size)
    assert len(found) == len(set(found)) == count_of_schedules(num_layers, kernel_size)
    assert all(check(rates, kernel_size).ok for rates in found[:: max(1, len(found) // 50)])


def test_search_of_two_layers_of_27_finds_27() -> None:
    assert search(2, 27) == [(1, rate) for rate in range(27, 0, -1)]


@pytest.mark.parametrize(("num_layers", "kernel_size"), [(6, 3), (4, 13), (8, 2), (64, 2)])
def test_search_says_too_many_only_where_there_are(num_layers: int, kernel_size: int) -> None:
    assert num_layers > 8 or count_of_schedules(num_layers, kernel_size) > MAX_SCHEDULES
    with pytest.raises(UserError, match="more than 200000 schedules"):
        search(num_layers, kernel_size)


def test_long_searches_for_a_field() -> None:
    assert search(64, receptive_field=129) == [(1,) * 64]
    assert search(40, receptive_field=85) == [(1,) * 38 + (2, 2), (1,) * 39 + (3,)]
    with pytest.raises(UserError, match="65 layers; needed at most 64"):
        search(65, receptive_field=131)


def test_rates_of_numpy_are_rates() -> None:
    rates = np.array([1, 2, 5], np.uint8)
    assert max_gaps(rates) == [1, 2, 5] and check(rates).receptive_field == 17
    assert type(max_gaps(rates)[0]) is int
    assert check(np.array([100, 100], np.int8)).receptive_field == 401, "no overflow"
    for wrong in ([1.5], ["a"], [None], np.array([1.0])):
        with pytest.raises(UserError, match="whole rates"):
            check(wrong)  # type: ignore[arg-type]


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


def test_the_report_gives_a_verdict_and_a_way_out() -> None:
    assert "covers its receptive field" in report([1, 2, 5, 9])
    text = report([2, 2, 2])
    assert "leaves holes" in text
    assert "120 of 169" in text
    assert "1, 2, 3 (receptive field 13)" in text


def test_a_field_too_large_to_hold_is_refused() -> None:
    with pytest.raises(UserError, match="coverage: found a receptive field of 60001x60001; needed at most 8192x8192"):
        coverage([30000])
    assert check([30000]).receptive_field == 60001
