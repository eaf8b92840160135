"""Comparison networks in our loop: their own losses are part of a step's, and a stage starts from the one before."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ducseg.errors import UserError
from ducseg.models import Segmenter, build, generic_classes
from ducseg.train.config import Config, ModelConfig, OptimizerConfig
from ducseg.train.distributed import Ranks
from ducseg.train.loss import pad_labels
from ducseg.train.optimizer import parameter_groups
from ducseg.train.schedule import learning_rate
from ducseg.train.setup import build_network
from ducseg.train.state import RunState
from ducseg.train.step import TrainingStep
from ducseg.weights.checkpoint import save_segmenter

ALONE = Ranks(rank=0, world_size=1, device=torch.device("cpu"), restarts=0)


def small(head: str = "deeplabv2", encoder: str = "resnet18") -> Segmenter:
    torch.manual_seed(0)
    made = build(encoder, head, 5, width=4)
    made.freeze_batch_norm()
    return made


def batch() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    label = torch.randint(0, 5, (4, 44, 60), generator=generator).to(torch.uint8)
    label[0, :20] = 255
    return {
        "image": torch.randint(0, 256, (4, 3, 44, 60), generator=generator).to(torch.uint8),
        "label": label,
        "ids": ["a", "b", "c", "d"],
    }


def trained(network: Segmenter, **values: Any) -> dict[str, float]:
    config = Config(name="x", optimizer=OptimizerConfig(epochs=1, batch_size=4, **values))
    step = TrainingStep(
        config, RunState(network, config.optimizer, pictures=(8, 3)), ALONE, num_steps=10, steps_per_epoch=2
    )
    return step(batch())


def test_the_losses_of_the_scales_are_in_the_step() -> None:
    network, given = small(), batch()
    images = network.preprocessing.normalise(given["image"])
    scores, *extras = network.supervised(images)
    labels = pad_labels(given["label"], 8)
    main = nn.functional.cross_entropy(scores[:, :, 0], labels[:, 3::8, 3::8].long(), ignore_index=255)
    wanted = main + network.head.extra_loss(extras, labels)
    assert trained(network)["loss"] == pytest.approx(wanted.item(), rel=1e-5)


def test_pieces_of_a_batch_weigh_alike() -> None:
    """A mean over each micro-batch: two of them give the mean of their two."""
    network = small()
    images, labels = network.preprocessing.normalise(batch()["image"]), pad_labels(batch()["label"], 8)
    halves = [
        network.head.extra_loss(network.supervised(images[part])[1:], labels[part])
        for part in (slice(0, 2), slice(2, 4))
    ]
    main = nn.functional.cross_entropy(network.folded(images)[:, :, 0], labels[:, 3::8, 3::8].long(), ignore_index=255)
    wanted = main + sum(halves) / 2
    assert trained(network, accumulation_steps=2)["loss"] == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("before", "after"), [("fcn32s", "fcn16s"), ("fcn16s", "fcn8s"), ("dilation_front", "dilation10")]
)
def test_a_stage_starts_from_the_one_before(before: str, after: str, tmp_path: Path) -> None:
    first = build("vgg16", before, 5, width=1, classes=generic_classes(5))
    save_segmenter(tmp_path / "first", first)
    stride, dilation = (8, "dilated") if "dilation" in before else (32, "none")
    config = ModelConfig(
        encoder="vgg16", head=after, width=1, output_stride=stride, dilation=dilation, aspp=0,
        weights=str(tmp_path / "first"), allow_missing_weights=True,
    )  # fmt: skip
    second, line, _ = build_network(config, generic_classes(5))
    assert "fresh" in line and "head." in line
    own = second.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in first.state_dict().items())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert second.eval()(images).isfinite().all()
    if after == "fcn16s":  # the new score starts at zero: the sum is what came from below, resized in two steps
        assert not second.head.scores["score_pool4"].weight.any()
    strict = ModelConfig(**{**vars(config), "allow_missing_weights": False})
    with pytest.raises(UserError, match="another architecture"):
        build_network(strict, generic_classes(5))


def test_frozen_parts_stay_and_are_not_dropped_from() -> None:
    network = build("vgg16", "dilation10", 5, width=1)
    held = ("encoder", "head.classifier", "head.final")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trained(network, frozen=held, learning_rate=0.1)
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith("head.context.") for name in moved)
    assert network.training and not network.head.classifier.dropout.training and not network.encoder.training
    assert {parameter.requires_grad for parameter in network.encoder.parameters()} == {False}


@pytest.mark.parametrize(
    ("frozen", "message"),
    [
        (("head.nothing",), "found head.nothing"),
        (("encoder", "head"), "something left to learn"),
        (("hea",), "found hea"),
    ],
)
def test_what_cannot_be_frozen_is_said(frozen: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=f"--optimizer.frozen.*{message}"):
        trained(small(), frozen=frozen)


def test_a_constant_rate() -> None:
    config = OptimizerConfig(schedule="constant", learning_rate=0.5, warmup_steps=2)
    assert [learning_rate(step, config, num_steps=9) for step in range(4)] == [0.25, 0.5, 0.5, 0.5]


def test_biases_of_convolutions_alone_have_a_rate_of_their_own() -> None:
    network = build("vgg16_bn", "fcn32s", 5, width=1)
    groups = parameter_groups(network, OptimizerConfig(bias_learning_rate_factor=2.0, weight_decay=0.5))
    found = {id(one): (group["rate_factor"], group["weight_decay"]) for group in groups for one in group["params"]}
    first, norm = network.encoder.features[0], network.encoder.features[1]
    assert (found[id(first.weight)], found[id(first.bias)]) == ((1.0, 0.5), (2.0, 0.0))
    assert found[id(norm.weight)] == found[id(norm.bias)] == (1.0, 0.0)
    assert len(found) == len(list(network.parameters()))
