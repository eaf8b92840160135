"""From one's own pictures to the settings of a run, each with its reason: what `ducseg train DIR` prints and does.

The same pictures, options and machine give the same plan: nothing is timed here. How many steps fit the minutes is
measured by the run itself (`RunConfig.minutes`).
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from ducseg.data.config import DataConfig
from ducseg.data.counting import check_classes_seen
from ducseg.data.layouts.opening import open_dataset, open_training_set
from ducseg.train.config import AugmentConfig, Config, LossConfig, ModelConfig, OptimizerConfig, RunConfig
from ducseg.train.survey import ClassFindings, Survey, survey
from ducseg.weights.encoders import imagenet_file_at_hand

__all__ = ["Machine", "Plan", "make_plan", "this_machine"]

_ENCODERS = ("efficientnet_lite0", "mobilenet_v2")
"""In order of preference, those with ImageNet weights at hand first."""
_THIN = 8.0
"""Objects at most so wide, in pixels, hold one place of the paper's networks' last map."""
_RARE = 0.1
"""A class below this share of the pixels is drowned by cross-entropy alone."""
_LEVEL = 0.15
"""Below this difference between upper and lower half, pictures have no up and down."""
_RATE = 2e-3
_CROP = {"cpu": 256, "gpu": 512}
_BATCH = {"cpu": 4, "gpu": 16}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a plan needs to know of the machine."""

    device: str
    bf16: bool


def this_machine(device: torch.device) -> Machine:
    """The machine as it is."""
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_has_bf16()
    return Machine(device=device.type, bf16=fast)


def _cpu_has_bf16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A configuration, and why it is as it is.

    Attributes:
        reasons: (setting, reason), in the order of printing.
        survey: what the pictures showed.
    """

    config: Config
    reasons: tuple[tuple[str, str], ...]
    survey: Survey

    def lines(self) -> list[str]:
        """One line a setting: what it is about, and what was decided and why."""
        return [f"{setting}: {reason}" for setting, reason in self.reasons]


def make_plan(data: DataConfig, *, minutes: float, machine: Machine) -> Plan:
    """Look at the training pictures and decide.

    Args:
        data: which pictures; its splits are used as they are.
        minutes: of training, evaluation included.

    Raises:
        UserError: as the data set's opening; a file that does not read; a class that no training pixel shows.
    """
    assert data.root is not None, "a folder is given"
    train_set = open_training_set(data, (0, 0, 0))
    check_classes_seen(data, train_set)
    found = survey(train_set)
    validated = len(open_dataset(data, data.val_split))
    kind = "cpu" if machine.device == "cpu" else "gpu"
    encoder, why_weights = _choose_encoder()
    side = _CROP[kind]
    crop = (_crop_side(found.median[0], side), _crop_side(found.median[1], side))
    batch = min(_BATCH[kind], found.pictures)
    level = found.unevenness < _LEVEL
    evaluate_every = _evaluate_every(validated * math.prod(found.median), batch * math.prod(crop))
    config = Config(
        name=Path(data.root).expanduser().resolve().name or "run",
        model=ModelConfig(
            encoder=encoder,
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
            scale=(1.0, 1.0) if _is_thin(found) else (0.75, 1.33),
            mirror=True,
            vertical_flip=level,
            quarter_turns=level,
            reflect=True,
            colour_jitter=0.3,
            gamma=0.3,
        ),
        optimizer=OptimizerConfig(
            name="adamw",
            learning_rate=_RATE,
            weight_decay=0.01,
            warmup_steps=30,
            ema_decay=0.99,
            batch_size=batch,
            epochs=None,
        ),
        loss=LossConfig(dice=1.0),
        run=RunConfig(bf16=machine.bf16, eval_bf16=machine.bf16, minutes=minutes, eval_every_steps=evaluate_every),
    )
    return Plan(config=config, reasons=_reasons(config, found, validated, why_weights, kind), survey=found)


def _reasons(config: Config, found: Survey, validated: int, why_weights: str, kind: str) -> tuple[tuple[str, str], ...]:
    """(setting, reason) of the settings that the pictures decided."""
    size, crop = (" x ".join(map(str, sides)) for sides in (found.median, config.augment.crop_size))
    optimizer, run = config.optimizer, config.run
    dtype = "bfloat16" if run.bf16 else "float32"
    turns = _say_turns(found, level=config.augment.vertical_flip)
    return (
        ("pictures", f"{found.pictures} to train on, {validated} to validate on, of {size} pixels (median)"),
        ("classes", _say_classes(found)),
        ("network", f"pyramid of dense upsampling convolutions on {config.model.encoder}: {_say_width(found)}"),
        ("weights", why_weights),
        ("crops", f"{optimizer.batch_size} of {crop} a step, mirrored at borders, {dtype} on the {kind}"),
        ("loss", _say_loss(found)),
        ("augmentation", f"colour and gamma; {_say_scale(_is_thin(found))}; {turns}"),
        (
            "optimizer",
            f"AdamW at {optimizer.learning_rate:g}, which falls to 0 as the time ends; "
            "an average of the weights is kept",
        ),
        (
            "steps",
            f"as many as fit {run.minutes:g} minutes, measured; validated every {run.eval_every_steps}, "
            "a tenth of the time",
        ),
    )


def _evaluate_every(validated_pixels: int, step_pixels: int) -> int:
    """Steps between evaluations, such that these take about a tenth of the time: a step costs three passes."""
    return max(25, -(-10 * validated_pixels // (3 * step_pixels)))


def _say_classes(found: Survey) -> str:
    return ", ".join(
        f"{one.name} {100 * one.share:.2g} %" + ("" if one.median_width is None else f" ({one.median_width:g} px wide)")
        for one in found.classes
    )


def _thinnest(found: Survey) -> ClassFindings | None:
    return min(found.classes, key=lambda one: one.median_width or math.inf, default=None)


def _is_thin(found: Survey) -> bool:
    thinnest = _thinnest(found)
    return thinnest is not None and (thinnest.median_width or math.inf) <= _THIN


def _say_scale(thin: bool) -> str:
    return "no scaling, which would blur what is thin" if thin else "scale 0.75 to 1.33"


def _say_width(found: Survey) -> str:
    thinnest = _thinnest(found)
    if thinnest is None or not _is_thin(found):
        return "finer maps join at strides 16, 8, 4 and 2"
    return f"half of {thinnest.name} is at most {thinnest.median_width:g} px wide, so every pixel is predicted (cell 1)"


def _choose_encoder() -> tuple[str, str]:
    for encoder in _ENCODERS:
        if (file := imagenet_file_at_hand(encoder)) is not None:
            return encoder, f"ImageNet's, from {file}"
    return _ENCODERS[-1], "ImageNet's, downloaded once; where that fails, fresh ones, and it is said"


def _crop_side(pixels: int, most: int) -> int:
    """Pixels rounded up to the pyramid's 32, at most `most`."""
    return min(most, -(-pixels // 32) * 32)


def _say_loss(found: Survey) -> str:
    rare = [one for one in found.classes if 0 < one.share < _RARE]
    if not rare:
        return "cross-entropy and Dice"
    least = min(rare, key=lambda one: one.share)
    share = f"{least.name} has {100 * least.share:.2g} % of the pixels"
    return f"cross-entropy and Dice: {share}, which cross-entropy alone drowns"


def _say_turns(found: Survey, *, level: bool) -> str:
    kinds = "all flips and quarter turns" if level else "flips left to right"
    return f"{kinds} (classes differ by {100 * found.unevenness:.0f} % between the upper and the lower half)"
