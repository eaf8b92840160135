"""Each number of a configuration has a stated range, and what lies outside is one line that names the option."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from ducseg.data.ranges import Range, number_fields, out_of_range
from ducseg.errors import UserError
from ducseg.train.config import Config

SECTIONS = ("model", "data", "augment", "optimizer", "loss", "run")
CONFIG = Config(name="c")
FIELDS = [
    (section, name, stated, whole)
    for section in SECTIONS
    for name, (stated, whole) in number_fields(type(getattr(CONFIG, section))).items()
]


def with_value(section: str, name: str, value: Any) -> Config:
    old = getattr(CONFIG, section)
    before = getattr(old, name)
    if isinstance(before, tuple) and before:
        value = (*before[:-1], value)
    elif "colours" in name:
        value = ((0, 0, value),)
    elif "class_weights" in name:
        value = (1.0, value)
    return dataclasses.replace(CONFIG, **{section: dataclasses.replace(old, **{name: value})})


def test_every_number_states_its_range() -> None:
    assert len(FIELDS) > 30
    assert [f"{section}.{name}" for section, name, stated, _ in FIELDS if stated is None] == []
    numbers = [
        f"{section}.{field.name}"
        for section in SECTIONS
        for field in dataclasses.fields(getattr(CONFIG, section))
        if isinstance(field.default, int | float) and not isinstance(field.default, bool)
    ]
    assert set(numbers) <= {f"{section}.{name}" for section, name, _, _ in FIELDS}


@pytest.mark.parametrize(
    ("section", "name", "stated", "whole"), FIELDS, ids=[f"{field[0]}.{field[1]}" for field in FIELDS]
)
def test_what_lies_outside_is_one_line_that_names_the_option(
    section: str, name: str, stated: Range, whole: bool
) -> None:
    wrong = [math.nan, math.inf, -math.inf, True]
    if math.isfinite(stated.low):
        wrong += [stated.low - 1, *([stated.low] if stated.above else [])]
    if math.isfinite(stated.high):
        wrong += [stated.high + 1, *([stated.high] if stated.below else [])]
    if whole:
        wrong.append(1.5)
    flag = f"--{section}.{name.replace('_', '-')} "
    for value in wrong:
        with pytest.raises(UserError) as caught:
            with_value(section, name, value).check()
        assert flag in str(caught.value) and "\n" not in str(caught.value), value


@pytest.mark.parametrize("value", [np.float32(0.5), np.float64(0.5), np.int64(1), 1])
def test_numpys_numbers_are_numbers(value: Any) -> None:
    assert out_of_range("optimizer", with_value("optimizer", "learning_rate", value).optimizer) == []
    if not isinstance(value, np.floating):
        assert out_of_range("optimizer", with_value("optimizer", "epochs", value).optimizer) == []


@pytest.mark.parametrize(("weights", "fine"), [((0.0, 0.0), False), ((0.0, 1.0), True)])
def test_class_weights_are_not_all_zero(weights: tuple[float, ...], fine: bool) -> None:
    assert (dataclasses.replace(CONFIG.loss, class_weights=weights).conflicts() == []) is fine


@pytest.mark.parametrize(
    ("batch", "crop", "freeze", "fine"),
    [(1, 16, None, False), (1, 16, 10, False), (1, 16, 0, True), (2, 16, None, True), (1, 18, None, True)],
)
def test_one_place_a_channel_is_refused_where_batch_norm_learns(
    batch: int, crop: int, freeze: int | None, fine: bool
) -> None:
    config = dataclasses.replace(
        CONFIG,
        model=dataclasses.replace(CONFIG.model, output_stride=16, freeze_batch_norm_from_epoch=freeze),
        data=dataclasses.replace(CONFIG.data, root="somewhere"),
        augment=dataclasses.replace(CONFIG.augment, crop_size=(crop, 16)),
        optimizer=dataclasses.replace(CONFIG.optimizer, batch_size=batch),
    )
    if fine:
        config.check()
    else:
        with pytest.raises(UserError, match=r"--optimizer.batch-size 1 .*--augment.crop-size 16 16"):
            config.check()


@pytest.mark.parametrize(
    ("crop", "cell", "fine"), [((15, 17), 2, False), ((16, 17), 2, False), ((34, 50), 2, True), ((33, 33), 1, True)]
)
def test_crops_hold_whole_cells(crop: tuple[int, int], cell: int, fine: bool) -> None:
    config = dataclasses.replace(
        CONFIG,
        model=dataclasses.replace(CONFIG.model, output_stride=8, cell=cell),
        data=dataclasses.replace(CONFIG.data, root="somewhere"),
        augment=dataclasses.replace(CONFIG.augment, crop_size=crop),
    )
    if fine:
        config.check()
    else:
        with pytest.raises(UserError, match=r"--augment\.crop-size 1. 17 must be multiples of --model\.cell 2"):
            config.check()
