"""The sections of a run's configuration but its data: network, augmentation, optimizer, loss, run.

Each states the range of its numbers in their types and reports its own conflicts.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from ducseg.data.ranges import Range

__all__ = ["AugmentConfig", "LossConfig", "ModelConfig", "OptimizerConfig", "RunConfig", "in_minutes"]

Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]
Positive = Annotated[float, Range(0, above=True)]
Weight = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network: the arguments of `ducseg.models.build`, and what it starts from."""

    encoder: str = "resnet101"
    """resnet18/34/50/101/152, vgg16, vgg16_bn, mobilenet_v2, efficientnet_lite0/1/2, or timm:NAME for one of timm."""
    head: str = "duc"
    """duc, bilinear, deconv (one transposed convolution), deconv2 (x2, then the rest), pyramid (for thin objects), or a
    network that the paper compares with: fcn8s, ... (docs/comparisons.md)."""
    output_stride: Count = 8
    """Pixels a place of the encoder's last map: 32 (with dilation none), 16, 8 (the paper) or 4."""
    cell: Count = 1
    """Side in pixels of the block that one predicted place stands for; a deconvolution is as large as that DUC."""
    aspp: Natural = 4
    """Number of summed ASPP paths; 0: one plain 3x3 convolution."""
    dilation: str = "bigger"
    """HDC schedule: none, dilated, conv, rf, bigger, released, or a rate a block, res4/res5: 1,2,5,9,1,2/5,9,17."""
    stem: str = "7x7"
    """7x7, or 3x3 for the paper's "better network"."""
    width: Count = 64
    """Channels of a ResNet's stem and res2; below 64 for toys (ImageNet weights need 64)."""
    weights: str | None = None
    """What to start from: "imagenet" or timm:NAME (downloaded once), a file for the encoder, or a checkpoint folder."""
    weights_scope: Literal["all", "classes", "encoder"] = "all"
    """From a checkpoint folder: all of it; all but classes that it does not have, which start fresh, the others go by
    their names; or the encoder alone (for another head)."""
    weights_optional: bool = False
    """Weights that can be had nowhere (no file, no network) do not stop the run: it starts fresh, and says so."""
    allow_missing_weights: bool = False
    """Layers that a weight file lacks start fresh instead of stopping the run."""
    recalibrate_batches: Natural = 0
    """Batches over which batch norms that were loaded folded get real statistics back; the function is unchanged. A
    fresh network, without `weights`, has none to get back: nothing is done."""
    freeze_batch_norm_from_epoch: Natural | None = None
    """Batch norm keeps its running statistics from this epoch on: 0 the paper, 10 its R-152, None never."""

    def conflicts(self) -> list[str]:
        """Every conflict among these fields, each naming its option."""
        found = []
        if self.weights is None and self.weights_scope != "all":
            found.append(f"--model.weights-scope {self.weights_scope} needs --model.weights")
        return found


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Joint augmentation of a training picture and its label, on uint8."""

    crop_size: tuple[Count, Count] = (544, 544)
    """Height and width in pixels of what the network sees."""
    scale: tuple[Positive, Positive] = (1.0, 1.0)
    """Range of the random scale; (1, 1): none. The released template spans 0.5 to 1.5."""
    aspect: tuple[Positive, Positive] = (1.0, 1.0)
    """Range of one more random factor on the width; (2, 2) undoes a squeeze of 2:1 frames to squares."""
    mirror: bool = True
    vertical_flip: bool = False
    quarter_turns: bool = False
    """Turned by 0, 90, 180 or 270 degrees."""
    rotation: Annotated[float, Range(0, 180)] = 0.0
    """Turned by at most so many degrees, either way."""
    elastic: Annotated[float, Range(0, 12)] = 0.0
    """Bent: points 48 pixels apart are moved, with this deviation in pixels."""
    rare_classes: tuple[str, ...] = ()
    """Names: a share of the crops holds a pixel of one of these, wherever the picture has one."""
    rare_share: Share = 0.5
    reflect: bool = False
    """Outside the picture lies its mirror image, label too; else the mean colour and 255."""
    colour_jitter: Share = 0.0
    """Strength of random brightness, contrast and saturation (0.2: each within +-20 %)."""
    gamma: Annotated[float, Range(0, 4)] = 0.0
    """Gamma from 1 / (1 + this) to 1 + this."""
    blur: Annotated[float, Range(0, 20)] = 0.0
    """Half of the crops are blurred, with a deviation of at most so many pixels."""
    noise: Annotated[float, Range(0, 100)] = 0.0
    """Half of the crops get Gaussian noise, with a deviation of at most so many of 255 grey levels."""
    jpeg_quality: Annotated[int, Range(1, 100)] | None = None
    """Half of the crops are compressed as JPEG, with this quality or better; None: none."""

    def conflicts(self) -> list[str]:
        """Every conflict among these fields, each naming its option."""
        found = [
            f"--augment.{name} {low} {high} must have the smaller number first"
            for name, (low, high) in (("scale", self.scale), ("aspect", self.aspect))
            if low > high
        ]
        if self.rare_share != AugmentConfig.rare_share and not self.rare_classes:
            found.append(f"--augment.rare-share {self.rare_share} needs --augment.rare-classes")
        return found


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """SGD with the poly schedule (paper section 4.1), or AdamW for one's own pictures."""

    name: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Positive = 2.5e-4
    head_learning_rate_factor: Positive | None = None
    """The head's rate is this many times learning_rate; None: under SGD the head's r*r (DUC's groups see that share
    of the pixels), under AdamW 1."""
    encoder_learning_rate_factor: Positive = 1.0
    """The encoder's rate is this many times learning_rate."""
    layer_decay: Annotated[float, Range(0, 1, above=True)] = 1.0
    """Every stage of the encoder has this many times the rate of the next coarser one: res5 the encoder's, the stem
    this to the power 4. 1: all alike."""
    bias_learning_rate_factor: Positive = 1.0
    """The biases of convolutions have this many times the rate of their kernels (Caffe's networks: 2)."""
    freeze_encoder_steps: Natural = 0
    """The encoder, batch norms too, stays as it starts for so many steps."""
    frozen: tuple[str, ...] = ()
    """Parts that stay as they start, dropout and batch norms too: encoder, head.classifier, ... as their tensors are
    named."""
    momentum: Annotated[float, Range(0, 1, below=True)] = 0.9
    """Of SGD; AdamW's beta_1."""
    weight_decay: Weight = 5e-4
    """On convolution kernels; biases and batch norms are not decayed."""
    schedule: Literal["poly", "cosine", "constant"] = "poly"
    power: Positive = 0.9
    """Exponent of the poly schedule: rate = learning_rate * (1 - step / steps) ** power."""
    warmup_steps: Natural = 0
    """The rate rises linearly over so many first steps."""
    clip_norm: Positive | None = 5.0
    """Largest global norm of the gradient; None: no clipping."""
    epochs: Count | None = 20
    """None: as many as fit --run.minutes."""
    steps: Count | None = None
    """So many steps (papers: iterations) in place of epochs; None: epochs."""
    batch_size: Count = 12
    """Pictures per optimizer step over all ranks and accumulation steps."""
    accumulation_steps: Count = 1
    ema_decay: Annotated[float, Range(0, 1, above=True, below=True)] | None = None
    """Keep an exponential moving average of the weights and evaluate and save that; None: the weights themselves."""

    def conflicts(self, world_size: int) -> list[str]:
        """Every conflict among these fields on `world_size` ranks, each naming its option."""
        found = []
        pieces = world_size * self.accumulation_steps
        if pieces >= 1 and self.batch_size % pieces:
            found.append(
                f"--optimizer.batch-size {self.batch_size} must be a multiple of {world_size} ranks x "
                f"{self.accumulation_steps} accumulation steps = {pieces}"
            )
        if self.schedule != "poly" and self.power != OptimizerConfig.power:
            found.append(f"--optimizer.power {self.power} is for --optimizer.schedule poly")
        return found


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """A weighted sum of losses, in folded space; see docs/training.md for what each is exact over."""

    cross_entropy: Weight = 1.0
    """Summed over pixels and divided by the number of valid ones over all ranks."""
    dice: Weight = 0.0
    focal: Weight = 0.0
    focal_gamma: Annotated[float, Range(1)] = 2.0
    """Focal loss: cross-entropy times (1 - probability of the true class) to this power."""
    lovasz: Weight = 0.0
    tversky: Weight = 0.0
    tversky_alpha: Weight = 0.3
    """What a false alarm weighs."""
    tversky_beta: Annotated[float, Range(0, above=True)] = 0.7
    """What a miss weighs."""
    cldice: Weight = 0.0
    """For thin objects: precision and recall of the centre lines. The only one that unfolds the map."""
    cldice_iterations: Count = 10
    """At least the half width of the widest object, in predicted places."""
    cldice_classes: tuple[str, ...] = ()
    """Names; (): every class but the first."""
    class_weights: tuple[Weight, ...] | Literal["auto"] | None = None
    """One weight a class, for cross-entropy and focal loss; the sum is then divided by the sum of the weights of the
    valid pixels. auto: 1 / log(1.1 + the class's share of the labelled training pixels), with mean 1 over them."""
    ohem_threshold: Annotated[float, Range(0, 1, above=True)] | None = None
    """Online hard example mining: only pixels whose true class has at most this probability count; None: all."""
    ohem_min_fraction: Annotated[float, Range(0, 1, above=True)] = 1 / 16
    """... but at least this share of the valid pixels of a micro-batch, and one: the hardest."""

    @property
    def of_regions(self) -> bool:
        """Whether there is a loss that is no sum over pixels."""
        return bool(self.dice or self.lovasz or self.tversky or self.cldice)

    def conflicts(self) -> list[str]:
        """Every conflict among these fields, each naming its option."""
        found = []
        weights = self.class_weights
        if isinstance(weights, tuple) and not any(weight > 0 for weight in weights):
            found.append("--loss.class-weights must have one above 0: nothing would be learned")
        if not (self.cross_entropy or self.focal or self.of_regions):
            found.append("--loss.cross-entropy 0 needs another loss above 0: nothing would be learned")
        if self.ohem_threshold is not None and (self.focal or self.of_regions or not self.cross_entropy):
            found.append("--loss.ohem-threshold is for cross-entropy alone")
        needed = {
            "focal": ("focal_gamma",),
            "tversky": ("tversky_alpha", "tversky_beta"),
            "cldice": ("cldice_iterations", "cldice_classes"),
            "ohem_threshold": ("ohem_min_fraction",),
        }
        for owner, names in needed.items():
            for name in names:
                if not getattr(self, owner) and getattr(self, name) != getattr(LossConfig, name):
                    found.append(f"--loss.{name} needs --loss.{owner}".replace("_", "-"))
        if weights is not None and not (self.cross_entropy or self.focal):
            found.append("--loss.class-weights is for cross-entropy and focal loss")
        return found


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How it runs; changes speed and what is recorded, not what is learned (bf16 aside)."""

    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    device: str = "auto"
    """auto (CUDA if there is one), cpu, cuda, cuda:N or mps; with several ranks each takes the GPU of its number."""
    threads: Count | None = None
    """CPU threads of each process; None: torch's choice."""
    bf16: bool = False
    """Compute in bfloat16, two to three times as fast; where the device would only imitate it, in float32."""
    eval_bf16: bool = False
    """Also in evaluations: scores differ slightly."""
    channels_last: bool = True
    """But on CUDA not for networks with depthwise convolutions, which are slower so."""
    compile: bool = False
    sync_batch_norm: bool = True
    """With several ranks: batch statistics over all of them. Without, rank 0's are evaluated and saved."""
    minutes: Positive | None = None
    """All must be done in so many: the schedule is fitted to the time, measured after the first steps, and ends at
    --optimizer.epochs or steps, if there are any, at the latest."""
    minutes_of: Literal["all", "training"] = "all"
    """training: the minutes are for all but evaluations, which come on top: one budget for networks to be compared."""
    eval_every_epochs: Count = 1
    eval_every_steps: Count | None = None
    """Evaluate after so many steps in place of epochs; None: epochs."""
    best_by: str = "mean_iou"
    """The score that decides which checkpoint is best: mean_iou, or a class's name for its IoU."""
    patience: Count | None = None
    """Stop after so many evaluations in a row without a better score; None: never."""
    save_every_steps: Count | None = None
    """Also save after so many steps; None: at each epoch's end and evaluation (by steps: at evaluations) only."""
    keep_last: Count = 2
    log_every_steps: Count = 10
    """Without a terminal: a printed line every so many steps. log.jsonl has every step."""
    tensorboard: bool = True
    overlays: Natural = 3
    """Validation pictures whose predictions are kept at each evaluation, in RUN/samples and TensorBoard."""

    def conflicts(self) -> list[str]:
        """Every conflict among these fields, each naming its option."""
        found = []
        if self.minutes_of != "all" and self.minutes is None:
            found.append(f"--run.minutes-of {self.minutes_of} is for --run.minutes")
        return found


def in_minutes(limit: float | None) -> str:
    """`RunConfig.minutes` in words: "1 minute", "2.5 minutes", "any time"."""
    return "any time" if limit is None else f"{limit:g} minute{'s' * (limit != 1)}"
