import copy
import dataclasses
from typing import Any

import pytest
import torch

from ducseg.errors import UserError
from ducseg.models import build
from ducseg.models.segmenter import Segmenter
from ducseg.train.config import Config, ModelConfig, OptimizerConfig
from ducseg.train.distributed import Ranks
from ducseg.train.optimizer import make_optimizer
from ducseg.train.state import RunState
from ducseg.train.step import TrainingStep

ALONE = Ranks(rank=0, world_size=1, device=torch.device("cpu"), restarts=0)


def make_segmenter(seed: int = 0) -> Segmenter:
    torch.manual_seed(seed)
    return build(encoder="resnet18", head="duc", num_classes=11, output_stride=16, cell=2, aspp=0, dilation="bigger")


def make_step(config: Config, segmenter: Segmenter) -> TrainingStep:
    state = RunState(segmenter, config.optimizer, pictures=(8, 3))
    return TrainingStep(config, state, ALONE, num_steps=100, steps_per_epoch=2)


def at(step: TrainingStep, number: int) -> TrainingStep:
    step.state.step = number
    return step


def make_batch() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    label = torch.randint(0, 11, (4, 32, 48), generator=generator).to(torch.uint8)
    label[0, :20] = 255  # the first half of the batch has fewer valid pixels than the second
    image = torch.randint(0, 256, (4, 3, 32, 48), generator=generator).to(torch.uint8)
    return {"image": image, "label": label, "ids": ["a", "b", "c", "d"]}


def with_optimizer(config: Config, **values: Any) -> Config:
    return dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, **values))


def with_model(config: Config, **values: Any) -> Config:
    model: ModelConfig = dataclasses.replace(config.model, **values)
    return dataclasses.replace(config, model=model)


def test_one_big_batch_equals_two_unequal_pieces(tiny_config: Config) -> None:
    frozen = with_model(tiny_config, freeze_batch_norm_from_epoch=0)
    whole, pieces = make_segmenter(), make_segmenter()
    values = [
        make_step(config, segmenter)(make_batch())
        for config, segmenter in ((frozen, whole), (with_optimizer(frozen, accumulation_steps=2), pieces))
    ]
    assert values[0]["loss"] == pytest.approx(values[1]["loss"], rel=1e-6)
    assert values[0]["gradient_norm"] == pytest.approx(values[1]["gradient_norm"], rel=1e-4)
    for one, other in zip(whole.parameters(), pieces.parameters()):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("head", ["bilinear", "duc", "deconv"])
def test_a_crop_need_not_be_a_multiple_of_the_output_stride(tiny_config: Config, head: str) -> None:
    """The network pads it, so its label is padded with what does not count: a picture padded before learns alike."""
    cell, losses = 1 if head == "bilinear" else 2, []
    for side in (36, 48):
        torch.manual_seed(0)
        segmenter = build("resnet18", head, 11, 16, cell=cell, aspp=0, width=8, dilation="dilated")
        batch = make_batch()
        mean = torch.tensor(segmenter.preprocessing.mean).round().to(torch.uint8)[:, None, None]
        image, label = mean.repeat(4, 1, side, 48), torch.full((4, side, 48), 255, dtype=torch.uint8)
        image[..., :32, :], label[:, :32] = batch["image"], batch["label"]
        values = make_step(tiny_config, segmenter)(batch | {"image": image, "label": label})
        losses.append((values["loss"], values["valid_pixels"]))
    assert losses[0][1] == losses[1][1] and losses[0][0] == pytest.approx(losses[1][0], rel=0.02)


def test_a_batch_without_valid_pixels_changes_nothing_and_is_counted(tiny_config: Config) -> None:
    segmenter = make_segmenter()
    step = make_step(tiny_config, segmenter)
    step(make_batch())  # so that there is momentum
    before = copy.deepcopy(segmenter.state_dict())
    batch = make_batch()
    batch["label"][:] = 255
    step(batch)
    assert step.state.skipped_batches == 1
    assert all(torch.equal(value, before[name]) for name, value in segmenter.state_dict().items())


def test_a_batch_of_weight_0_alone_changes_nothing_and_is_counted(tiny_config: Config) -> None:
    weights = dataclasses.replace(tiny_config.loss, class_weights=(0.0, *[1.0] * 10))
    segmenter = make_segmenter()
    step = make_step(dataclasses.replace(tiny_config, loss=weights), segmenter)
    before = copy.deepcopy(segmenter.state_dict())
    batch = make_batch()
    batch["label"][batch["label"] != 255] = 0
    values = step(batch)
    assert (step.state.skipped_batches, values["loss"], values["gradient_norm"]) == (1, 0.0, 0.0)
    assert values["valid_pixels"] > 0
    assert all(torch.equal(value, before[name]) for name, value in segmenter.state_dict().items())


def test_a_step_asks_the_device_for_numbers_once(tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    step = make_step(tiny_config, make_segmenter())
    step(make_batch())
    asked: list[str] = []
    for name in ("item", "tolist", "__float__", "__int__", "__bool__"):
        original = getattr(torch.Tensor, name)

        def noted(tensor: torch.Tensor, *, original: Any = original, name: str = name) -> Any:
            asked.append(f"{name} {tuple(tensor.shape)}")
            return original(tensor)

        monkeypatch.setattr(torch.Tensor, name, noted)
    step(make_batch())
    assert asked == ["tolist (2,)", "tolist (2,)"], "counts that were on the host, then loss and gradient norm"


def test_a_loss_that_is_not_finite_stops_with_step_and_files_and_changes_no_weight(tiny_config: Config) -> None:
    segmenter = make_segmenter()
    step = make_step(with_model(tiny_config, freeze_batch_norm_from_epoch=0), segmenter)
    step(make_batch())
    with torch.no_grad():
        next(segmenter.head.parameters())[0] = float("inf")
    before = copy.deepcopy(segmenter.state_dict())
    with pytest.raises(UserError, match=r"step 8.*a, b, c, d"):
        at(step, 7)(make_batch())
    assert all(torch.equal(value, before[name]) for name, value in segmenter.state_dict().items())


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
        RuntimeError("x: can't allocate memory: y"),
        MemoryError(),
    ],
)
def test_too_little_memory_is_said_in_words(
    error: Exception, tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    step = make_step(with_optimizer(tiny_config, accumulation_steps=2), make_segmenter())
    monkeypatch.setattr(step, "_backward", fail)
    with pytest.raises(UserError, match=r"not enough memory: found 2 crops of 32 x 48 pixels.*on cpu"):
        step(make_batch())
    error.args = ("a defect",)
    if type(error) is RuntimeError:
        with pytest.raises(RuntimeError, match="a defect"):
            step(make_batch())


def test_clipping_bounds_the_step_and_reports_the_norm_before(tiny_config: Config) -> None:
    def moved(clip_norm: float | None) -> tuple[float, float]:
        segmenter = make_segmenter()
        before = torch.cat([p.detach().flatten().clone() for p in segmenter.parameters()])
        config = with_optimizer(tiny_config, clip_norm=clip_norm, weight_decay=0.0, learning_rate=1.0)
        norm = make_step(config, segmenter)(make_batch())["gradient_norm"]
        after = torch.cat([p.detach().flatten() for p in segmenter.parameters()])
        return norm, float((after - before).norm())

    norm, distance = moved(None)
    assert distance == pytest.approx(norm, rel=1e-3)
    clipped_norm, clipped_distance = moved(norm / 4)
    assert clipped_norm == pytest.approx(norm, rel=1e-6)
    assert clipped_distance == pytest.approx(norm / 4, rel=1e-3)


def test_batch_norm_freezes_at_its_epoch(tiny_config: Config) -> None:
    segmenter = make_segmenter()
    step = make_step(with_model(tiny_config, freeze_batch_norm_from_epoch=1), segmenter)
    statistics = lambda: torch.cat([b.flatten() for n, b in segmenter.named_buffers() if "running" in n]).clone()  # noqa: E731
    start = statistics()
    at(step, 1)(make_batch())
    trained = statistics()
    assert not torch.equal(start, trained)
    at(step, 2)(make_batch())  # two steps an epoch: epoch 1 begins here
    assert torch.equal(trained, statistics())


def test_the_head_has_its_own_rate_and_norms_do_not_decay(tiny_config: Config) -> None:
    segmenter = make_segmenter()
    step = make_step(with_optimizer(tiny_config, head_learning_rate_factor=10.0, learning_rate=0.1), segmenter)
    step(make_batch())
    head = {id(p) for p in segmenter.head.parameters()}
    for group in step.state.optimizer.param_groups:
        for parameter in group["params"]:
            assert group["lr"] == pytest.approx(1.0 if id(parameter) in head else 0.1)
            assert (group["weight_decay"] > 0) == (parameter.ndim > 1)
    counted = sum(len(group["params"]) for group in step.state.optimizer.param_groups)
    assert counted == len(list(segmenter.parameters()))


@pytest.mark.parametrize(
    ("head", "name", "stated", "factor"),
    [
        ("duc", "sgd", None, 64.0),
        ("bilinear", "sgd", None, 1.0),
        ("duc", "adamw", None, 1.0),
        ("duc", "sgd", 3.0, 3.0),
        ("duc", "adamw", 3.0, 3.0),
    ],
)
def test_the_heads_rate_follows_from_its_factor(head: str, name: Any, stated: float | None, factor: float) -> None:
    cell = 2 if head == "duc" else 1
    network = build(
        encoder="resnet18", width=8, head=head, num_classes=3, output_stride=16, cell=cell, aspp=0, dilation="none"
    )
    config = OptimizerConfig(name=name, head_learning_rate_factor=stated, encoder_learning_rate_factor=0.1)
    optimizer = make_optimizer(network, config)
    mine = {id(parameter) for parameter in network.head.parameters()}
    for group in optimizer.param_groups:
        assert group["rate_factor"] == (factor if id(group["params"][0]) in mine else 0.1)
    if name == "adamw":
        assert isinstance(optimizer, torch.optim.AdamW)
        assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.999)}


def test_a_frozen_encoder_stays_until_its_step_and_the_head_learns(tiny_config: Config) -> None:
    segmenter = make_segmenter()
    step = make_step(with_optimizer(tiny_config, freeze_encoder_steps=2, name="adamw"), segmenter)
    start = copy.deepcopy(segmenter.state_dict())

    def changed() -> set[str]:
        return {
            name.split(".")[0] for name, value in segmenter.state_dict().items() if not torch.equal(value, start[name])
        }

    step(make_batch())
    step(make_batch())
    assert changed() == {"head"}
    step(make_batch())
    assert changed() == {"encoder", "head"}
