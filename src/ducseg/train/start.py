"""A run before its first step: data, network and state, fresh or from the checkpoint that it goes on from."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ducseg.data.config import DataConfig
from ducseg.data.counting import check_classes_seen, count_pixels
from ducseg.data.files.channels import RGB
from ducseg.data.kept import kept_in_memory, memory_for
from ducseg.data.layouts.opening import open_dataset, open_training_set
from ducseg.data.loading import TrainingLoader, steps_of_epoch, training_loader
from ducseg.data.paired import SegmentationDataset
from ducseg.data.statistics import channel_statistics, pixels_of
from ducseg.data.transforms import Transform
from ducseg.errors import UserError, explain
from ducseg.inference.taken import pixels_taken
from ducseg.models.depthwise import memory_order
from ducseg.models.heads import head_parameters
from ducseg.models.preprocessing import Preprocessing
from ducseg.models.segmenter import Segmenter
from ducseg.train.checkpoint import CheckpointFolder
from ducseg.train.config import Config
from ducseg.train.distributed import Ranks
from ducseg.train.loss import auto_class_weights
from ducseg.train.sections import LossConfig, in_minutes
from ducseg.train.setup import build_network, fit_to_masks, recalibrate, training_transform
from ducseg.train.state import RunState
from ducseg.train.sync_batch_norm import synchronise_batch_norm
from ducseg.train.validate import check_best_by
from ducseg.weights.checkpoint import load_segmenter

__all__ = ["Start", "TrainingData", "describe", "start_run"]


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The pictures of a run, and how its ranks take them in."""

    config: Config
    ranks: Ranks
    train_set: SegmentationDataset
    val_set: SegmentationDataset
    transform: Transform
    kept: SegmentationDataset
    """`train_set`, read once as far as memory allows."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps."""
        return steps_of_epoch(len(self.train_set), self.config.optimizer.batch_size)

    def batches(self, first_step: int, count: int) -> TrainingLoader:
        """This rank's shares of the batches of `count` steps from `first_step` on."""
        return training_loader(
            self.kept,
            self.transform,
            batch_size=self.config.optimizer.batch_size // self.ranks.world_size,
            seed=self.config.run.seed,
            rank=self.ranks.rank,
            world_size=self.ranks.world_size,
            start_step=first_step,
            num_steps=count,
            num_workers=self.config.data.workers,
            pin_memory=self.ranks.device.type == "cuda",
        )


@dataclass(frozen=True, kw_only=True)
class Start:
    """All that the loop needs."""

    data: TrainingData
    state: RunState
    loss: LossConfig
    """The configuration's, its class weights as numbers."""
    weights_line: str
    """Where the weights come from, for people."""


def start_run(config: Config, ranks: Ranks, checkpoints: CheckpointFolder, checkpoint: Path | None) -> Start:
    """Open the data, then build the network from its start weights, or take it and its state from `checkpoint`.

    Raises:
        UserError: missing or bad data, weights that do not fit, a checkpoint that does not read or is of other data.
    """
    torch.manual_seed(config.run.seed)
    _check_root(config.data)
    optimizer = config.optimizer
    if checkpoint is None:
        val_set = open_dataset(config.data, config.data.val_split)
        measured = measured_preprocessing(config.data, val_set)
        network, line, fell_back = build_network(config.model, val_set.classes, measured)
        if fell_back and optimizer.encoder_learning_rate_factor != 1:
            optimizer = replace(optimizer, encoder_learning_rate_factor=1.0)
            line += "; the encoder learns as fast as the rest"
    else:
        network, line = load_segmenter(checkpoint), f"going on from {checkpoint}"
        val_set = open_dataset(config.data, config.data.val_split, network.classes)
        _check_classes(network, val_set, checkpoint)
        _check_pixels(network, val_set, checkpoint)
    train_set = open_training_set(config.data, network.preprocessing.mean_colour, val_set.classes)
    check_classes_seen(config.data, train_set, val_set)
    check_best_by(config.run.best_by, val_set)
    if checkpoint is None:
        line += fit_to_masks(network, train_set, config.run.seed)
    data = TrainingData(
        config=config,
        ranks=ranks,
        train_set=train_set,
        val_set=val_set,
        transform=training_transform(config.augment, network),
        kept=kept_in_memory(train_set, memory_for(config.data.memory), num_workers=config.data.workers),
    )
    memory_format = memory_order(network, ranks.device) if config.run.channels_last else torch.contiguous_format
    network.to(device=ranks.device, memory_format=memory_format)  # type: ignore[call-overload]
    if checkpoint is None and config.model.weights is not None and config.model.recalibrate_batches:
        batches = data.batches(0, config.model.recalibrate_batches)
        recalibrate(network, (batch["image"] for batch in batches), ranks)
    if ranks.world_size > 1 and config.run.sync_batch_norm:
        synchronise_batch_norm(network, ranks.device)
    state = RunState(network, optimizer, pictures=(len(train_set), len(val_set)))
    if checkpoint is not None:
        checkpoints.load_state(state, checkpoint)
    return Start(data=data, state=state, loss=_counted(config.loss, train_set), weights_line=line)


def _check_root(data: DataConfig) -> None:
    """Raise `UserError` where the folder of the data set is not there, as after a move or from another folder."""
    root = None if data.root is None else Path(data.root).expanduser()
    if root is not None and not root.exists():
        relative = "" if root.is_absolute() else f", which is {root.absolute()} from here"
        try:
            open_dataset(data, data.val_split)
        except UserError as error:  # it says what the folder must hold
            raise explain(
                f"--data.root {root}",
                found=f"nothing there{relative} (does not exist)",
                needed=f"the folder of the data set ({data.dataset})",
                fix=f"Give the place where it lies now. {error}",
            ) from error


def _counted(loss: LossConfig, train_set: SegmentationDataset) -> LossConfig:
    """The loss with class weights "auto" as numbers."""
    if loss.class_weights != "auto":
        return loss
    pixels = count_pixels(train_set).pixels.tolist()
    if not any(pixels):
        raise explain(
            "--loss.class-weights auto", found="no labelled training pixel", needed="some", fix="Look at the masks."
        )
    return replace(loss, class_weights=auto_class_weights(pixels))


def measured_preprocessing(data: DataConfig, dataset: SegmentationDataset) -> Preprocessing | None:
    """Of the training split, where pictures such as those of `dataset` are not RGB of 8 bits; else None: ImageNet's."""
    pixels = pixels_of(dataset)
    if pixels == RGB:
        return None
    found = channel_statistics(open_dataset(data, data.train_split, dataset.classes))
    return Preprocessing(mean=found.mean, std=found.std, dtype=pixels.dtype)


def _check_pixels(network: Segmenter, dataset: SegmentationDataset, checkpoint: Path) -> None:
    taken = pixels_taken(network.preprocessing)
    if (found := pixels_of(dataset)) != taken:
        raise explain(
            f"cannot resume from {checkpoint}",
            found=f"{found} in the pictures",
            needed=f"{taken}, as when the run began",
            fix="Bring the pictures back, or start another --out.",
        )


def _check_classes(network: Segmenter, dataset: SegmentationDataset, checkpoint: Path) -> None:
    if network.classes.names != dataset.classes.names:
        raise explain(
            f"cannot resume from {checkpoint}",
            found=f"classes {', '.join(dataset.classes.names)} in the data",
            needed=f"the run's {', '.join(network.classes.names)}",
            fix="Bring the class list back, or start another --out.",
        )


def describe(start: Start, num_steps: int, minutes: float | None) -> str:
    """What is about to run, in one line."""
    data, network = start.data, start.state.network
    config, model = data.config, data.config.model
    parameters = sum(parameter.numel() for parameter in network.parameters())
    in_head = sum(parameter.numel() for parameter in network.head.parameters())
    beside = ""
    if model.head.startswith("deconv"):
        sizes = {"output_stride": model.output_stride, "cell": model.cell, "aspp": model.aspp}
        duc = head_parameters(network.encoder.out_channels, len(data.train_set.classes), **sizes)["duc"]
        beside = f" (duc: {duc / 1e6:.1f} M)"
    length = f"{num_steps} steps" if minutes is None else in_minutes(minutes)
    if minutes is not None and (config.optimizer.epochs, config.optimizer.steps) != (None, None):
        length += f", at most {num_steps} steps"
    times = config.optimizer.batch_size / len(data.train_set)
    precision = ", evaluated in bf16" if config.run.eval_bf16 else ""
    digits = ".3g" if times < 100 else ".0f"
    often = f" (each {times:{digits}} times a step)" if times > 1 else ""
    return (
        f"{config.name}: {len(data.train_set)} training{often} and {len(data.val_set)} validation pictures, "
        f"{len(data.train_set.classes)} classes, {parameters / 1e6:.1f} M parameters, "
        f"{in_head / 1e6:.1f} M of them in the head{beside}, {length} on "
        f"{data.ranks.world_size} x {data.ranks.device.type}{precision}; {start.weights_line}"
    )
