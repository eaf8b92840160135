"""LRR-4x, Adelaide and Deep G-CRF in our loop: whole runs, what is taken from masks, weights of a second encoder."""

import dataclasses
import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from ducseg.inference.predictor import Predictor
from ducseg.models import build, generic_classes
from ducseg.models.comparisons.class_bases import cosine_bases
from ducseg.train.config import Config, ModelConfig
from ducseg.train.loop import train
from ducseg.train.setup import build_network
from ducseg.weights.checkpoint import load_segmenter, save_segmenter
from ducseg.weights.encoders import load_encoder

MODELS = {
    "lrr4x": ModelConfig(encoder="vgg16_bn", head="lrr4x", width=4, output_stride=32, dilation="none", aspp=0),
    "adelaide": ModelConfig(encoder="vgg16_bn", head="adelaide", width=2, output_stride=16, dilation="none", aspp=0),
    "gcrf": ModelConfig(encoder="resnet18", head="gcrf", width=8, output_stride=8, dilation="dilated", aspp=2),
}


def of(config: Config, name: str) -> Config:
    rates = dataclasses.replace(config.optimizer, name="adamw", learning_rate=1e-3, epochs=3)
    return dataclasses.replace(config, model=MODELS[name], optimizer=rates)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_run_learns_is_scored_saved_and_predicts(tiny_config: Config, name: str, tmp_path: Path) -> None:
    outcome = train(of(tiny_config, name), tmp_path / "run", console=Console(quiet=True))
    assert outcome.finished and outcome.checkpoint is not None and outcome.best_score is not None
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    losses = [float(line.split('"loss": ')[1].split(",")[0]) for line in lines if '"loss": ' in line]
    assert losses[-1] < losses[0]
    trained = load_segmenter(outcome.checkpoint)
    image = torch.randint(0, 256, (41, 57, 3), dtype=torch.uint8).numpy()
    assert Predictor(trained)(image).shape == (41, 57)


@pytest.mark.slow
def test_bases_are_taken_from_the_masks_once(tiny_config: Config, tmp_path: Path) -> None:
    console = Console(record=True, width=400, file=io.StringIO())
    first = train(of(tiny_config, "lrr4x"), tmp_path / "run", console=console)
    assert "bases of 11 classes from up to 8 training masks" in console.export_text()
    bases = load_segmenter(first.checkpoint).head.levels["32"].bases
    assert not torch.equal(bases, cosine_bases(11).view_as(bases))
    model = dataclasses.replace(MODELS["lrr4x"], weights=str(tmp_path / "run"))
    again = dataclasses.replace(of(tiny_config, "lrr4x"), model=model)
    said = Console(record=True, width=400, file=io.StringIO())
    second = train(again, tmp_path / "again", console=said)
    assert "bases of" not in said.export_text()
    assert torch.equal(load_segmenter(second.checkpoint).head.levels["32"].bases, bases)


@pytest.mark.parametrize(
    ("before", "after", "encoder"), [("lrr32x", "lrr4x", "vgg16"), ("deeplabv2", "gcrf", "resnet18")]
)
def test_a_stage_starts_from_the_one_before(before: str, after: str, encoder: str, tmp_path: Path) -> None:
    first = build(encoder, before, 3, width=2, classes=generic_classes(3))
    save_segmenter(tmp_path / "first", first)
    chosen = first.architecture
    config = ModelConfig(
        encoder=encoder, head=after, width=2, output_stride=chosen.output_stride, dilation=chosen.dilation,
        aspp=chosen.aspp, weights=str(tmp_path / "first"), allow_missing_weights=True,
    )  # fmt: skip
    second, line, _ = build_network(config, generic_classes(3))
    own = second.state_dict()
    assert "fresh" in line and all(torch.equal(value, own[name]) for name, value in first.state_dict().items())
    if after == "gcrf":
        assert torch.equal(own["head.pairwise.conv1.weight"], own["encoder.conv1.weight"])


def test_the_second_encoder_starts_as_the_first_that_got_weights(tmp_path: Path) -> None:
    source, network = (build("resnet18", head, 3, width=4, aspp=1) for head in ("bilinear", "gcrf"))
    torch.save(source.encoder.state_dict(), tmp_path / "encoder.pth")
    load_encoder(network, tmp_path / "encoder.pth")
    own = network.head.pairwise.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in source.encoder.state_dict().items())
    save_segmenter(tmp_path / "checkpoint", network)
    assert load_segmenter(tmp_path / "checkpoint").architecture.head == "gcrf"
