"""The paper's parameters, their file, and what is no parameter."""

import json
import math
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ducseg.crf import CrfParams, load_params, save_params
from ducseg.crf.tune import Grid
from ducseg.errors import UserError


def test_the_papers_values_are_the_defaults() -> None:
    assert CrfParams() == CrfParams(sigma_alpha=15, sigma_beta=3, w1=3, sigma_gamma=1, w2=3)


@pytest.mark.parametrize("name", ["sigma_alpha", "sigma_beta", "sigma_gamma", "w1", "w2"])
@pytest.mark.parametrize(
    "value",
    [-1, math.nan, math.inf, "3", True, None, np.bool_(True), np.float32("nan"), np.int8(-1), 1j, [3.0], 10**400],
)
def test_refuses_what_is_no_parameter(name: str, value: object) -> None:
    with pytest.raises(UserError, match=name):
        CrfParams(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int8, np.uint8, np.int64, int, Fraction])
def test_numbers_may_be_numpys(kind: Any, tmp_path: Path) -> None:
    params = CrfParams(sigma_alpha=kind(40), w1=kind(0))
    assert params == CrfParams(sigma_alpha=40, w1=0)
    assert all(type(value) is float for value in asdict(params).values())
    for sort in (np.int8, np.uint64):
        save_params(tmp_path / "best.json", params, sort(7))
        assert load_params(tmp_path / "best.json") == (params, 7)
    with pytest.raises(UserError, match="iterations"):
        params.to_json(np.float32(7))  # type: ignore[arg-type]
    assert Grid(sigma_alpha=np.arange(3, 5), iterations=np.array([1, 2])).points()[1][-1] == 1.0  # type: ignore[arg-type]


def test_a_weight_may_be_zero_but_a_width_may_not() -> None:
    assert CrfParams(w1=0, w2=0).w1 == 0
    for name in ("sigma_alpha", "sigma_beta", "sigma_gamma"):
        with pytest.raises(UserError, match=name):
            CrfParams(**{name: 0})


def test_a_file_keeps_parameters_and_iterations(tmp_path: Path) -> None:
    params = CrfParams(sigma_alpha=31.5, sigma_beta=7, w1=2, sigma_gamma=2, w2=0.5)
    save_params(tmp_path / "best.json", params, 7)
    assert load_params(tmp_path / "best.json") == (params, 7)
    assert [path.name for path in tmp_path.iterdir()] == ["best.json"]
    assert json.loads((tmp_path / "best.json").read_text())["sigma_alpha"] == 31.5


def test_what_a_file_leaves_out_has_its_default() -> None:
    assert CrfParams.from_json('{"w1": 5}') == (CrfParams(w1=5), 10)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "no JSON"),
        ("[1]", "no object"),
        ('{"theta": 3}', "theta"),
        ('{"w1": -3}', "w1"),
        ('{"iterations": 2.5}', "iterations"),
        ('{"iterations": -1}', "iterations"),
    ],
)
def test_refuses_other_files(text: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        CrfParams.from_json(text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.json"):
        load_params(tmp_path / "absent.json")


def test_paths_may_be_text(tmp_path: Path) -> None:
    save_params(f"{tmp_path}/crf.json", CrfParams(w1=2), 3)
    assert load_params(f"{tmp_path}/crf.json") == (CrfParams(w1=2), 3)
