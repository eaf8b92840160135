"""Everything that decides a training run, as frozen dataclasses: what `config.json` beside each checkpoint holds.

An experiment (`ducseg.experiments`) is a function that returns a `Config`; the command line overrides single fields
(`--optimizer.learning-rate 0.01`). `Config.check` reports every conflict at once, before any data is touched.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ducseg.data.config import DataConfig, data_conflicts
from ducseg.errors import UserError

__all__ = [
    "AugmentConfig",
    "Config",
    "DataConfig",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "RunConfig",
]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network: the arguments of `ducseg.models.build`, and what it starts from."""

    encoder: str = "resnet101"
    """resnet18/34/50/101/152, mobilenet_v2, or timm:NAME for a convolutional network of timm."""
    head: str = "duc"
    """duc, bilinear, deconv (one transposed convolution) or deconv2 (x2, then the rest)."""
    output_stride: int = 8
    cell: int = 1
    """Side in pixels of the block that one predicted place stands for; a deconvolution is as large as that DUC."""
    aspp: int = 4
    """Number of summed ASPP paths; 0: one plain 3x3 convolution."""
    dilation: str = "bigger"
    """HDC schedule: none, dilated, conv, rf, bigger or released."""
    stem: str = "7x7"
    width: int = 64
    """Channels of a ResNet's stem and res2; below 64 for toys (ImageNet weights need 64)."""
    weights: str | None = None
    """What to start from: "imagenet" or timm:NAME (downloaded once), a file for the encoder, or a checkpoint folder."""
    weights_scope: Literal["all", "encoder"] = "all"
    """From a checkpoint folder: all of it, or the encoder alone (for other classes or another head)."""
    allow_missing_weights: bool = False
    """Layers that a weight file lacks start fresh instead of stopping the run."""
    recalibrate_batches: int = 0
    """Batches over which batch norms that were loaded folded get real statistics back; the function is unchanged."""
    freeze_batch_norm_from_epoch: int | None = None
    """Batch norm keeps its running statistics from this epoch on: 0 the paper, 10 its R-152, None never."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Joint augmentation of a training picture and its label, on uint8."""

    crop_size: tuple[int, int] = (544, 544)
    """Height and width in pixels of what the network sees."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Range of the random scale; (1, 1): none. The released template spans 0.5 to 1.5."""
    aspect: tuple[float, float] = (1.0, 1.0)
    """Range of one more random factor on the width; (2, 2) undoes a squeeze of 2:1 frames to squares."""
    mirror: bool = True
    colour_jitter: float = 0.0
    """Strength of random brightness, contrast and saturation (0.2: each within +-20 %)."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """SGD with the poly schedule (paper section 4.1)."""

    learning_rate: float = 2.5e-4
    head_learning_rate_factor: float = 1.0
    """The head's rate is this many times the encoder's."""
    momentum: float = 0.9
    weight_decay: float = 5e-4
    """On convolution kernels; biases and batch norms are not decayed."""
    power: float = 0.9
    """Exponent of the poly schedule: rate = learning_rate * (1 - step / steps) ** power."""
    clip_norm: float | None = 5.0
    """Largest global norm of the gradient; None: no clipping."""
    epochs: int = 20
    batch_size: int = 12
    """Pictures per optimizer step over all ranks and accumulation steps."""
    accumulation_steps: int = 1
    ema_decay: float | None = None
    """Keep an exponential moving average of the weights and evaluate and save that; None: the weights themselves."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Cross-entropy in folded space, summed over pixels and divided by the number of valid ones over all ranks."""

    class_weights: tuple[float, ...] | None = None
    """One weight a class; the sum is then divided by the sum of the weights of the valid pixels."""
    ohem_threshold: float | None = None
    """Online hard example mining: only pixels whose true class has at most this probability count; None: all."""
    ohem_min_fraction: float = 1 / 16
    """... but at least this share of the valid pixels of a micro-batch: the hardest."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How it runs; changes speed and what is recorded, not what is learned (bf16 aside)."""

    seed: int = 0
    device: str = "auto"
    """auto (CUDA if there is one), cpu, cuda or cuda:N."""
    threads: int | None = None
    """CPU threads of each process; None: torch's choice."""
    bf16: bool = False
    channels_last: bool = True
    compile: bool = False
    sync_batch_norm: bool = True
    """With several ranks: batch statistics over all of them."""
    eval_every_epochs: int = 1
    save_every_steps: int | None = None
    """Also save between epochs; None: at each epoch's end only."""
    keep_last: int = 2
    log_every_steps: int = 10
    """Without a terminal: a printed line every so many steps. log.jsonl has every step."""
    tensorboard: bool = True
    overlays: int = 3
    """Validation pictures drawn into TensorBoard at each evaluation."""


_MAY_CHANGE = {
    *(("model", name) for name in ("weights", "weights_scope", "allow_missing_weights", "recalibrate_batches")),
    *(("data", name) for name in ("root", "patches_root", "coco_root", "workers")),
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """One training run."""

    name: str
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def check(self, world_size: int = 1) -> None:
        """Raise one `UserError` that lists every conflict of this configuration on `world_size` ranks."""
        conflicts = [*_optimizer_conflicts(self.optimizer, world_size), *_other_conflicts(self)]
        if conflicts:
            raise UserError(f"configuration {self.name!r}: " + "; ".join(conflicts))

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON-able dictionaries."""
        return dataclasses.asdict(self)

    def unlike(self, earlier: dict[str, Any]) -> list[str]:
        """What an earlier run's `to_json` has otherwise of all that decides the result, as options: ["--a 1 (now 2)"].

        Fields that the earlier run did not have yet are passed over, so are places of files and the start's weights,
        which may have moved.
        """
        now, earlier = (json.loads(json.dumps(config)) for config in (self.to_json(), earlier))
        found = []
        for section in ("model", "data", "augment", "optimizer", "loss", "run"):
            for name, value in earlier.get(section, {}).items():
                decides = name in ("seed", "bf16") if section == "run" else (section, name) not in _MAY_CHANGE
                if decides and name in now[section] and now[section][name] != value:
                    found.append(f"--{section}.{name.replace('_', '-')} {value} (now {now[section][name]})")
        return found

    def write(self, path: Path) -> None:
        """Write the resolved configuration as JSON."""
        path.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")


def _optimizer_conflicts(optimizer: OptimizerConfig, world_size: int) -> list[str]:
    conflicts = []
    pieces = world_size * optimizer.accumulation_steps
    if optimizer.accumulation_steps < 1 or optimizer.batch_size < 1 or optimizer.batch_size % max(pieces, 1):
        conflicts.append(
            f"--optimizer.batch-size {optimizer.batch_size} must be a multiple of {world_size} ranks x "
            f"{optimizer.accumulation_steps} accumulation steps = {pieces}"
        )
    if optimizer.epochs < 1:
        conflicts.append(f"--optimizer.epochs {optimizer.epochs} must be at least 1")
    for flag, value in (("learning-rate", optimizer.learning_rate), ("power", optimizer.power)):
        if not value > 0:
            conflicts.append(f"--optimizer.{flag} {value} must be above 0")
    if optimizer.clip_norm is not None and not optimizer.clip_norm > 0:
        conflicts.append(f"--optimizer.clip-norm {optimizer.clip_norm} must be above 0, or None for no clipping")
    if optimizer.ema_decay is not None and not 0 < optimizer.ema_decay < 1:
        conflicts.append(f"--optimizer.ema-decay {optimizer.ema_decay} must lie between 0 and 1, or be None")
    return conflicts


def _other_conflicts(config: Config) -> list[str]:
    conflicts = []
    for name, (low, high) in (("scale", config.augment.scale), ("aspect", config.augment.aspect)):
        if not 0 < low <= high:
            conflicts.append(f"--augment.{name} {low} {high} must be two positive numbers, the smaller first")
    if min(config.augment.crop_size) < 1:
        conflicts.append(f"--augment.crop-size {config.augment.crop_size} must be positive pixels")
    conflicts += data_conflicts(config.data)
    if config.loss.ohem_threshold is not None and not 0 < config.loss.ohem_threshold <= 1:
        conflicts.append(f"--loss.ohem-threshold {config.loss.ohem_threshold} must lie in (0, 1]")
    if not 0 < config.loss.ohem_min_fraction <= 1:
        conflicts.append(f"--loss.ohem-min-fraction {config.loss.ohem_min_fraction} must lie in (0, 1]")
    if config.run.eval_every_epochs < 1 or config.run.keep_last < 1:
        conflicts.append("--run.eval-every-epochs and --run.keep-last must be at least 1")
    if config.model.weights is None and config.model.recalibrate_batches:
        conflicts.append("--model.recalibrate-batches needs --model.weights: a fresh network has no statistics to keep")
    if config.model.weights is None and config.model.weights_scope == "encoder":
        conflicts.append("--model.weights-scope encoder needs --model.weights")
    return conflicts
