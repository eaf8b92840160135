"""No option is accepted and ignored: each changes the loss curve of a tiny run, or what the run leaves."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny_run import make_tiny_config

from ducseg.inference.predictor import Predictor
from ducseg.train.config import Config
from ducseg.train.loop import train


def changed(config: Config, section: str, **values: Any) -> Config:
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **values)})


def curve(config: Config, run: Path) -> list[float]:
    train(config, run, console=Console(quiet=True))
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "step"]


@pytest.fixture(scope="module")
def plain(tiny_camvid: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, list[float]]:
    config = changed(make_tiny_config(tiny_camvid), "model", width=8)
    return config, curve(config, tmp_path_factory.mktemp("plain") / "run")


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("model", {"aspp": 2}),
        ("model", {"dilation": "none"}),
        ("model", {"freeze_batch_norm_from_epoch": 0}),
        pytest.param("augment", {"scale": (0.5, 0.75)}, marks=pytest.mark.slow),
        pytest.param("augment", {"aspect": (1.3, 1.6)}, marks=pytest.mark.slow),
        pytest.param("augment", {"mirror": False}, marks=pytest.mark.slow),
        pytest.param("augment", {"colour_jitter": 0.0}, marks=pytest.mark.slow),
        pytest.param("augment", {"crop_size": (48, 32)}, marks=pytest.mark.slow),
        pytest.param("augment", {"vertical_flip": True}, marks=pytest.mark.slow),
        pytest.param("augment", {"quarter_turns": True}, marks=pytest.mark.slow),
        pytest.param("augment", {"rotation": 20.0}, marks=pytest.mark.slow),
        pytest.param("augment", {"elastic": 4.0}, marks=pytest.mark.slow),
        pytest.param("augment", {"rare_classes": ("pole", "sign symbol"), "rare_share": 1.0}, marks=pytest.mark.slow),
        pytest.param("augment", {"reflect": True}, marks=pytest.mark.slow),
        pytest.param("augment", {"gamma": 0.5}, marks=pytest.mark.slow),
        pytest.param("augment", {"blur": 2.0}, marks=pytest.mark.slow),
        pytest.param("augment", {"noise": 20.0}, marks=pytest.mark.slow),
        pytest.param("augment", {"jpeg_quality": 20}, marks=pytest.mark.slow),
        ("optimizer", {"learning_rate": 0.02}),
        ("optimizer", {"head_learning_rate_factor": 5.0}),
        ("optimizer", {"encoder_learning_rate_factor": 5.0}),
        ("optimizer", {"layer_decay": 0.5}),
        ("optimizer", {"freeze_encoder_steps": 1}),
        ("optimizer", {"name": "adamw"}),
        ("optimizer", {"schedule": "cosine"}),
        ("optimizer", {"warmup_steps": 3}),
        ("optimizer", {"momentum": 0.5}),
        ("optimizer", {"weight_decay": 0.1}),
        ("optimizer", {"power": 2.0}),
        ("optimizer", {"clip_norm": 1e-3}),
        ("optimizer", {"batch_size": 2}),
        ("optimizer", {"accumulation_steps": 2}),
        ("loss", {"class_weights": tuple(float(index + 1) for index in range(11))}),
        ("loss", {"class_weights": "auto"}),
        ("loss", {"ohem_threshold": 0.08}),
        ("loss", {"dice": 1.0}),
        ("loss", {"focal": 1.0, "cross_entropy": 0.0}),
        ("loss", {"lovasz": 1.0}),
        ("loss", {"tversky": 1.0}),
        ("loss", {"cldice": 1.0}),
        ("run", {"seed": 1}),
        ("run", {"bf16": True}),
        pytest.param("run", {"compile": True}, marks=pytest.mark.slow),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_the_option_changes_the_curve(
    plain: tuple[Config, list[float]], tmp_path: Path, section: str, values: dict[str, Any]
) -> None:
    config, before = plain
    after = curve(changed(config, section, **values), tmp_path / "run")
    if section == "run" and "seed" not in values:  # precision and compilation change the last digits, not the training
        assert after == pytest.approx(before, rel=0.05)
    if "compile" not in values:
        assert after != before


def test_a_run_of_the_same_configuration_has_the_same_curve(plain: tuple[Config, list[float]], tmp_path: Path) -> None:
    config, before = plain
    assert curve(config, tmp_path / "run") == before


def test_a_fresh_network_has_no_statistics_to_get_back(plain: tuple[Config, list[float]], tmp_path: Path) -> None:
    """So `--model.weights None` needs no second option where a recipe recalibrates."""
    config, before = plain
    assert config.model.weights is None
    assert curve(changed(config, "model", recalibrate_batches=3), tmp_path / "run") == before


def test_evaluations_may_be_in_bf16_and_change_no_step(
    plain: tuple[Config, list[float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    init = Predictor.__init__

    def recorded(self: Predictor, *arguments: Any, **options: Any) -> None:
        asked.append(options.get("bf16", False))
        init(self, *arguments, **options)

    monkeypatch.setattr(Predictor, "__init__", recorded)
    config, before = plain
    assert curve(changed(config, "run", eval_bf16=True, overlays=0), tmp_path / "run") == before
    assert asked.count(True) == config.optimizer.epochs, "the other looks at the pictures to follow"
