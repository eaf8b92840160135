import dataclasses
import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ducseg.errors import UserError
from ducseg.train.config import Config, OptimizerConfig
from ducseg.train.schedule import learning_rate, poly_learning_rate


def test_poly_is_the_papers_formula() -> None:
    rates = [poly_learning_rate(step, initial=2.5e-4, num_steps=10, power=0.9) for step in range(10)]
    assert rates[0] == 2.5e-4
    assert rates[5] == pytest.approx(2.5e-4 * 0.5**0.9)


@given(st.integers(2, 500), st.floats(0.1, 2))
def test_poly_falls_at_every_step_and_stays_positive(num_steps: int, power: float) -> None:
    rates = [poly_learning_rate(step, initial=1.0, num_steps=num_steps, power=power) for step in range(num_steps)]
    assert all(late < early for early, late in pairwise(rates))
    assert rates[-1] > 0


def test_cosine_and_warm_up_are_their_formulas() -> None:
    cosine = OptimizerConfig(learning_rate=2.0, schedule="cosine")
    rates = [learning_rate(step, cosine, num_steps=8) for step in range(8)]
    assert rates == pytest.approx([1 + math.cos(math.pi * step / 8) for step in range(8)])
    warm = OptimizerConfig(learning_rate=2.0, warmup_steps=4, power=1.0)
    rates = [learning_rate(step, warm, num_steps=8) for step in range(8)]
    assert rates == pytest.approx(
        [0.5, 1.0 * 7 / 8, 1.5 * 6 / 8, 2.0 * 5 / 8, 2.0 * 4 / 8, 2 * 3 / 8, 2 * 2 / 8, 2 / 8]
    )


def test_the_power_of_poly_is_refused_beside_cosine() -> None:
    assert OptimizerConfig(schedule="cosine").conflicts(1) == []
    assert "--optimizer.power 2.0" in OptimizerConfig(schedule="cosine", power=2.0).conflicts(1)[0]


def test_check_reports_every_conflict_at_once(tiny_config: Config) -> None:
    broken = dataclasses.replace(
        tiny_config,
        optimizer=OptimizerConfig(batch_size=7, epochs=0, clip_norm=-1.0),
        data=dataclasses.replace(tiny_config.data, root=None),
        augment=dataclasses.replace(tiny_config.augment, scale=(2.0, 0.5), aspect=(0.0, 1.0)),
    )
    with pytest.raises(UserError) as caught:
        broken.check(world_size=2)
    for word in (
        "batch-size 7",
        "2 ranks",
        "epochs 0",
        "clip-norm -1.0",
        "--data.root",
        "--augment.scale",
        "--augment.aspect",
    ):
        assert word in str(caught.value)
    tiny_config.check(world_size=2)


def test_the_written_configuration_is_json(tiny_config: Config, tmp_path: Path) -> None:
    tiny_config.write(tmp_path / "config.json")
    assert json.loads((tmp_path / "config.json").read_text())["optimizer"]["batch_size"] == 4
