"""Which block has which rate, at every output stride."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ducseg.models import Architecture, build
from ducseg.models.dilation import read_rates, stage_rates
from ducseg.ops.hdc import SCHEDULES, schedule

R101 = (3, 4, 23, 3)


def test_output_stride_8_is_the_papers_table() -> None:
    res2, res3, res4, res5 = stage_rates("bigger", 8, R101)
    assert res2 == (1,) * 3 and res3 == (1,) * 4
    assert res4 == (1, 2, 5, 9) * 5 + (1, 2, 5)
    assert res5 == (5, 9, 17)


def test_output_stride_16_gives_res5_the_res4_column() -> None:
    assert stage_rates("dilated", 16, R101)[2:] == ((1,) * 23, (2, 2, 2))
    assert stage_rates("bigger", 16, R101)[2:] == ((1,) * 23, schedule("bigger", 3, 3)[0])


def test_output_stride_4_also_dilates_res3() -> None:
    assert stage_rates("dilated", 4, R101) == ((1,) * 3, (2,) * 4, (2,) * 23, (4,) * 3)
    assert stage_rates("none", 4, R101) == tuple((1,) * count for count in R101)


@pytest.mark.parametrize("blocks", [(2, 2, 2, 2), (3, 4, 6, 3), R101, (3, 8, 36, 3), (2, 3, 7, 4)])
@pytest.mark.parametrize("output_stride", [16, 8, 4])
@pytest.mark.parametrize("name", SCHEDULES)
def test_one_rate_a_block(name: str, output_stride: int, blocks: tuple[int, ...]) -> None:
    rates = stage_rates(name, output_stride, blocks)
    assert tuple(map(len, rates)) == blocks
    assert all(rate >= 1 for stage in rates for rate in stage)


def test_explicit_rates_are_applied_as_given_whatever_the_stride() -> None:
    blocks = (2, 2, 2, 2)
    assert stage_rates(((1, 2), (2, 4)), 32, blocks) == ((1, 1), (1, 1), (1, 2), (2, 4))
    assert stage_rates([[3, 3], [1, 2], [2, 4]], 4, blocks) == ((1, 1), (3, 3), (1, 2), (2, 4))


@given(st.lists(st.lists(st.integers(0, 2000), min_size=1, max_size=9), min_size=1, max_size=4))
def test_rates_as_text_are_the_rates(stages: list[list[int]]) -> None:
    text = "/".join(",".join(map(str, rates)) for rates in stages)
    assert read_rates(text) == tuple(map(tuple, stages))
    described = Architecture(dilation=text).to_json()
    assert described["dilation"] == stages and Architecture.from_json(described) == Architecture(dilation=text)


@pytest.mark.parametrize(
    "text", ["bigger", "", "1,", "/1", "1//2", "1.5,2", "-1,2", "1, 2", "1;2", "\u0661,\u0662", "9" * 99]
)
def test_other_text_is_no_rates(text: str) -> None:
    assert read_rates(text) == text


def test_a_network_is_built_of_rates_as_text() -> None:
    encoder = build("resnet18", num_classes=2, width=4, aspp=0, dilation="1,2/2,5").encoder
    assert encoder.rates == ((1, 1), (1, 1), (1, 2), (2, 5))
