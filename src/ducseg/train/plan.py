"""From one's own pictures to the settings of a run, each with its reason: what `ducseg train DIR` prints and does.

The same pictures, options and machine give the same plan: nothing is timed here. How many steps fit the minutes is
measured by the run itself (`RunConfig.minutes`).
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ducseg.data.config import DataConfig
from ducseg.data.counting import check_classes_seen
from ducseg.data.layouts.mask_shapes import are_views
from ducseg.data.layouts.opening import data_notes, grouped_by_names, open_dataset, open_training_set
from ducseg.data.paired import PairedFiles, SegmentationDataset
from ducseg.devices import has_bf16
from ducseg.train.config import AugmentConfig, Config, LossConfig, ModelConfig, OptimizerConfig, RunConfig
from ducseg.train.plan_lines import hidden, is_thin, plan_lines
from ducseg.train.survey import Survey, survey
from ducseg.weights.encoders import imagenet_file_at_hand

__all__ = ["Machine", "Plan", "make_plan", "this_machine"]

_ENCODERS = ("efficientnet_lite0", "mobilenet_v2")
"""In order of preference, those with ImageNet weights at hand first."""
_LEVEL = 0.15
"""Below this difference between upper and lower half, pictures have no up and down."""
_RATE, _ENCODER_FACTOR = 8e-3, 0.25
"""The pyramid's: what learned before keeps what it knows, what is new learns fast."""
_RATE_OF_OTHERS = 2e-3
"""Other heads learn with their encoder's rate, and worse at a higher one (`benchmarks/thin.jsonl`)."""
_SGD = OptimizerConfig(learning_rate=2e-2)
"""Where it is asked for: as camvid-resnet18-duc has it; the paper's rate, 2.5e-4, is for thousands of pictures."""
_CROP = {"cpu": 256, "gpu": 512}
_BATCH = {"cpu": 4, "gpu": 16}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a plan needs to know of the machine."""

    device: str
    bf16: bool


def this_machine(device: torch.device) -> Machine:
    """The machine as it is."""
    return Machine(device=device.type, bf16=has_bf16(device))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A configuration, and why it is as it is.

    Attributes:
        config: what is to be run: as planned, but for what the user gave.
        planned: what the pictures and the machine alone led to.
        survey: what the training pictures showed.
        validated: number of validation pictures.
        machine: "cpu" or "gpu".
        notes: where pictures and masks were found, what masks mean.
    """

    config: Config
    planned: Config
    survey: Survey
    validated: int
    machine: str
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """What was found, then one line a setting: what it is about, what was decided and why, or that it was given."""
        said = plan_lines(self.config, self.planned, self.survey, validated=self.validated, machine=self.machine)
        return [*self.notes, *said]

    def for_given(self, config: Config) -> "Plan":
        """Planned anew for a user who changed it to `config`: with what follows from that, and without that itself."""
        step_pixels = config.optimizer.batch_size * math.prod(config.augment.crop_size)
        every: int | None = _evaluate_every(self.validated * math.prod(self.survey.median), step_pixels)
        if config.run.eval_every_epochs != self.planned.run.eval_every_epochs:
            every = None
        optimizer = self.planned.optimizer
        if config.model.head != self.planned.model.head:
            optimizer = replace(optimizer, learning_rate=_RATE_OF_OTHERS, encoder_learning_rate_factor=1.0)
        if config.optimizer.name == "sgd":
            rate, decay = _SGD.learning_rate, _SGD.weight_decay
            optimizer = replace(optimizer, learning_rate=rate, encoder_learning_rate_factor=1.0, weight_decay=decay)
        if config.model.weights is None:
            optimizer = replace(optimizer, encoder_learning_rate_factor=1.0)
        run = replace(self.planned.run, eval_every_steps=every)
        planned = replace(self.planned, optimizer=optimizer, run=run)
        return replace(self, planned=planned, config=planned)


def make_plan(data: DataConfig, *, minutes: float, machine: Machine) -> Plan:
    """Look at the training pictures and decide.

    Args:
        data: which pictures; its splits are used as they are.
        minutes: of training, evaluation included.

    Raises:
        UserError: as the data set's opening; a file that does not read; a class that no training pixel shows.
    """
    data, grouped = grouped_by_names(data)
    train_set, val_set = _opened(data)
    assert data.root is not None, "a folder is given"
    check_classes_seen(data, train_set, val_set)
    kind = "cpu" if machine.device == "cpu" else "gpu"
    side = _CROP[kind]
    found, validated = survey(train_set, side), len(val_set)
    found_there = data_notes(data, train_set, val_set)
    notes = (*found_there, *grouped, *_views(data, found_there), *_doubts(train_set))
    crop = (_crop_side(found.median[0], side), _crop_side(found.median[1], side))
    batch = _BATCH[kind]
    level = found.unevenness < _LEVEL
    evaluate_every = _evaluate_every(validated * math.prod(found.median), batch * math.prod(crop))
    config = Config(
        name=Path(data.root).expanduser().resolve().name or "run",
        model=ModelConfig(
            encoder=_choose_encoder(),
            head="pyramid",
            output_stride=32,
            aspp=0,
            dilation="none",
            weights="imagenet",
            weights_optional=True,
            recalibrate_batches=8,
        ),
        data=data,
        augment=AugmentConfig(
            crop_size=crop,
            scale=(1.0, 1.0) if is_thin(found) else (0.75, 1.33),
            mirror=True,
            vertical_flip=level,
            quarter_turns=level,
            reflect=True,
            colour_jitter=0.3,
            gamma=0.3,
            rare_classes=tuple(one.name for one in hidden(found)),
        ),
        optimizer=OptimizerConfig(
            name="adamw",
            learning_rate=_RATE,
            encoder_learning_rate_factor=_ENCODER_FACTOR,
            weight_decay=0.01,
            warmup_steps=30,
            ema_decay=0.99,
            batch_size=batch,
            epochs=None,
        ),
        loss=LossConfig(dice=1.0),
        run=RunConfig(bf16=machine.bf16, eval_bf16=machine.bf16, minutes=minutes, eval_every_steps=evaluate_every),
    )
    return Plan(config=config, planned=config, survey=found, validated=validated, machine=kind, notes=notes)


def _opened(data: DataConfig) -> tuple[SegmentationDataset, SegmentationDataset]:
    return open_training_set(data, (0, 0, 0)), open_dataset(data, data.val_split)


def _views(data: DataConfig, notes: list[str]) -> list[str]:
    if data.view is not None or not any("(the field of view)" in line for line in notes):
        return []
    return ["view: what lies outside the field of view is trained on as the masks say; --data.view DIR ignores it"]


def _doubts(train_set: SegmentationDataset) -> list[str]:
    """What is to be asked of masks that could be something else."""
    if len(train_set.classes) != 2 or not isinstance(train_set, PairedFiles) or not are_views(train_set.label_paths):
        return []
    return [
        "is that the truth? Each mask shows one solid region, as a camera's field of view does; "
        "where the masks lie elsewhere: --data.masks DIR"
    ]


def _evaluate_every(validated_pixels: int, step_pixels: int) -> int:
    """Steps between evaluations, such that these take about a tenth of the time: a step costs three passes."""
    return max(25, -(-10 * validated_pixels // (3 * step_pixels)))


def _choose_encoder() -> str:
    at_hand = (encoder for encoder in _ENCODERS if imagenet_file_at_hand(encoder) is not None)
    return next(at_hand, _ENCODERS[-1])


def _crop_side(pixels: int, most: int) -> int:
    """Pixels rounded up to the pyramid's 32, at most `most`."""
    return min(most, -(-pixels // 32) * 32)
