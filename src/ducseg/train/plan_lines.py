"""A plan in words: a line a setting, with its reason, or with what the user gave instead."""

import math
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import numpy as np

from ducseg.data.files.channels import RGB, Pixels
from ducseg.models.timm_encoder import PREFIX
from ducseg.train.config import Config
from ducseg.train.sections import ModelConfig, OptimizerConfig, in_minutes
from ducseg.train.survey import ClassFindings, Survey
from ducseg.weights.encoders import FOLDER_VARIABLE, imagenet_file_at_hand

__all__ = ["RARE", "THIN", "hidden", "is_thin", "plan_lines"]

THIN = 8.0
"""Objects at most so wide, in pixels, hold one place of the paper's networks' last map."""
RARE = 0.1
"""A class below this share of the pixels is drowned by cross-entropy alone."""
_SEEN = 0.5
"""A thin class in fewer of the crops is looked for: cracks in 4 of 96 parts of pictures of 2.5 megapixels came from
38.7 to 45.9 IoU in 160 steps (LOG.md)."""
_FEWEST = 5
_FEW = "; so few tell little: --data.folds 5 --data.fold 0, then 1 to 4, validates on every picture once"


def hidden(found: Survey) -> list[ClassFindings]:
    """The thin classes, or the one beside a background, that most crops would not show."""
    largest = max(found.classes, key=lambda one: one.share)
    others = [one for one in found.classes if one is not largest and 0 < one.seen < _SEEN]
    return others if len(found.classes) == 2 else list(filter(_is_thin, others))


def is_thin(found: Survey) -> bool:
    """Whether half of some class lies in thin objects."""
    thinnest = _thinnest(found)
    return thinnest is not None and _is_thin(thinnest)


def _is_thin(one: ClassFindings) -> bool:
    return (one.median_width or math.inf) <= THIN


def plan_lines(config: Config, planned: Config, found: Survey, *, validated: int, machine: str) -> list[str]:
    """One line a setting: what it is about, and what was decided and why.

    Args:
        config: what is run; where it differs from `planned`, the value is said to be given, and no reason is.
        found: what the training pictures showed.
        validated: number of validation pictures.
        machine: "cpu" or "gpu".
    """
    size, crop = (" x ".join(map(str, sides)) for sides in (found.median, planned.augment.crop_size))
    given = _Given(config, planned)
    optimizer, augment = planned.optimizer, planned.augment
    dtype = "bfloat16" if planned.run.bf16 else "float32"
    weights, steps = _say_weights(config.model, given, found.pixels), given.line("steps", *_say_steps(config, given))
    return [
        f"pictures: {found.pictures} to train on, {validated} to validate on, of {size} pixels (median)"
        + (_FEW if validated < _FEWEST and config.data.folds is None and found.pictures > _FEWEST else ""),
        *_say_channels(found),
        f"classes: {_say_classes(found)}",
        given.line(
            "network",
            given.or_else(f"pyramid of dense upsampling convolutions: {_say_width(found)}", "model.head"),
            given.or_else(f"encoder {planned.model.encoder}", "model.encoder"),
            rest="model",
        ),
        weights,
        given.line(
            "crops",
            given.or_else(crop, "augment.crop_size"),
            given.or_else(f"{optimizer.batch_size} a step", "optimizer.batch_size"),
            given.or_else(_say_hidden(found), "augment.rare_classes", "augment.rare_share"),
            given.or_else("mirrored at borders", "augment.reflect"),
            given.or_else(f"{dtype} on the {machine}", "run.bf16"),
            given.or_else("evaluated in bf16 too" if planned.run.eval_bf16 else "", "run.eval_bf16"),
        ),
        given.line("loss", given.or_else(_say_loss(found), "loss.cross_entropy", "loss.dice"), rest="loss"),
        given.line(
            "augmentation",
            given.or_else(
                "colour and gamma" if found.pixels == RGB else "brightness, contrast and gamma of each channel",
                *("augment.colour_jitter", "augment.gamma"),
            ),
            given.or_else(_say_scale(is_thin(found)), "augment.scale"),
            given.or_else(
                _say_turns(found, level=augment.vertical_flip),
                *("augment.mirror", "augment.vertical_flip", "augment.quarter_turns"),
            ),
            rest="augment",
        ),
        given.line(
            "optimizer",
            given.or_else("AdamW", "optimizer.name"),
            given.or_else(_say_rate(config.optimizer.name, optimizer.learning_rate), "optimizer.learning_rate"),
            given.or_else(f"reached after a warm-up of {optimizer.warmup_steps} steps", "optimizer.warmup_steps"),
            given.or_else("falls to 0 as the time ends", "optimizer.schedule", "optimizer.power"),
            given.or_else(_say_encoder_rate(optimizer), "optimizer.encoder_learning_rate_factor"),
            given.or_else("an average of the weights is kept", "optimizer.ema_decay"),
            rest="optimizer",
        ),
        steps,
        *given.remaining(),
    ]


class _Given:
    """The fields in which a configuration differs from the planned one, each said once."""

    def __init__(self, config: Config, planned: Config) -> None:
        self._left = {
            f"{section.name}.{field.name}": _option(section.name, field.name, getattr(mine, field.name))
            for section in fields(Config)
            if section.name != "name"
            for mine, other in [(getattr(config, section.name), getattr(planned, section.name))]
            for field in fields(mine)
            if getattr(mine, field.name) != getattr(other, field.name)
        }

    def or_else(self, text: str, *names: str) -> str:
        """The options of these fields that were given, or the text where none was."""
        return self._said(self._left.pop(name) for name in names if name in self._left) or text

    def line(self, setting: str, *parts: str, rest: str | None = None) -> str:
        """The line of a setting; after its parts come those given in the section `rest` that none has spoken of."""
        others = [self._left.pop(name) for name in list(self._left) if name.partition(".")[0] == rest]
        return f"{setting}: {'; '.join(filter(None, (*parts, self._said(others))))}"

    def taken(self, *names: str) -> None:
        """These are said in other words."""
        for name in names:
            self._left.pop(name, None)

    def remaining(self) -> list[str]:
        """A line of all that is left."""
        return [f"also: {said}"] if (said := self._said(self._left.values())) else []

    @staticmethod
    def _said(options: Iterable[str]) -> str:
        options = list(options)
        return f"{' '.join(options)}, as given" if options else ""


def _option(section: str, field: str, value: Any) -> str:
    name = field.replace("_", "-")
    if isinstance(value, bool):
        return f"--{section}.{name}" if value else f"--{section}.no-{name}"
    return f"--{section}.{name} {' '.join(map(str, value)) if isinstance(value, tuple) else value}"


def _say_channels(found: Survey) -> list[str]:
    if found.pixels == RGB:
        return []
    return [
        f"channels: {found.pixels} in every picture, so they are read as stored, and mean and deviation of each are "
        "measured on the training pictures and kept with the network; saturation and JPEG are for RGB of 8 bits alone"
    ]


def _say_weights(model: ModelConfig, given: _Given, pixels: Pixels) -> str:
    given.taken("model.weights", "model.weights_optional", "model.recalibrate_batches")
    if model.weights is None:
        return "weights: fresh ones, as given, which costs accuracy on few pictures"
    if model.weights != "imagenet":
        return f"weights: --model.weights {model.weights}, as given"
    spread = "" if pixels.channels == 3 else f", RGB's first convolution spread over {pixels.channels}"
    if model.encoder.startswith(PREFIX):
        where = f"from the folder {FOLDER_VARIABLE} or downloaded once"
    elif (file := imagenet_file_at_hand(model.encoder)) is not None:
        return f"weights: ImageNet's, from {file}{spread}"
    else:
        where = "downloaded once"
    fails = "; where that fails, fresh ones, and it is said" if model.weights_optional else ""
    return f"weights: ImageNet's, {where}{spread}{fails}"


def _say_classes(found: Survey) -> str:
    return ", ".join(
        f"{one.name} {_percent(one.share)} %" + ("" if one.median_width is None else f" ({one.median_width:g} px wide)")
        for one in found.classes
    )


def _percent(share: float) -> str:
    """Two digits: 0.21, 96; of nearly all four: 99.79; never in powers of ten."""
    return np.format_float_positional(100 * share, 2 if share < 0.995 else 4, fractional=False, trim="-")


def _thinnest(found: Survey) -> ClassFindings | None:
    return min(found.classes, key=lambda one: one.median_width or math.inf, default=None)


def _say_width(found: Survey) -> str:
    thinnest = _thinnest(found)
    if thinnest is None or not is_thin(found):
        return "finer maps join at strides 16, 8, 4 and 2"
    return f"half of {thinnest.name} is at most {thinnest.median_width:g} px wide, so every pixel is predicted (cell 1)"


def _say_hidden(found: Survey) -> str:
    names, shares = (
        ", ".join(one.name for one in hidden(found)),
        ", ".join(f"{100 * one.seen:.2g}" for one in hidden(found)),
    )
    return f"half of them where there is {names}, which {shares} % of such windows show" if names else ""


def _say_loss(found: Survey) -> str:
    rare = [one for one in found.classes if 0 < one.share < RARE]
    if not rare:
        return "cross-entropy and Dice"
    least = min(rare, key=lambda one: one.share)
    share = f"{least.name} has {_percent(least.share)} % of the pixels"
    return f"cross-entropy and Dice: {share}, which cross-entropy alone drowns"


def _say_encoder_rate(optimizer: OptimizerConfig) -> str:
    factor = optimizer.encoder_learning_rate_factor
    return f"the encoder at {factor:g} of the rate: it keeps what it knows" if factor != 1 else ""


def _say_rate(name: str, rate: float) -> str:
    return f"rate {rate:g}" + (", SGD's on few pictures" if name == "sgd" else "")


def _say_scale(thin: bool) -> str:
    return "no scaling, which would blur what is thin" if thin else "scale 0.75 to 1.33"


def _say_turns(found: Survey, *, level: bool) -> str:
    kinds = "all flips and quarter turns" if level else "flips left to right"
    return f"{kinds} (classes differ by {100 * found.unevenness:.0f} % between the upper and the lower half)"


def _say_steps(config: Config, given: _Given) -> tuple[str, ...]:
    run, epochs = config.run, given.or_else("", "optimizer.epochs", "optimizer.steps")
    given.taken("run.minutes", "run.minutes_of")
    fitting = "" if run.minutes is None else f"as many as fit {in_minutes(run.minutes)}, measured"
    length = ", and ".join(filter(None, (fitting, epochs)))
    every = f"validated every {run.eval_every_steps}, a tenth of the time"
    return length, given.or_else(every, "run.eval_every_steps", "run.eval_every_epochs")
