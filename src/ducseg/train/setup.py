"""From a `Config` to transforms and network."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch

from ducseg.classes import ClassSet
from ducseg.data.augmentations import (
    Move,
    MovedCrop,
    RandomBlur,
    RandomElastic,
    RandomGamma,
    RandomJpeg,
    RandomNoise,
    RandomQuarterTurns,
    RandomRotation,
    RandomVerticalFlip,
    Sometimes,
)
from ducseg.data.paired import SegmentationDataset
from ducseg.data.transforms import ColourJitter, Compose, RandomCrop, RandomMirror, RandomScaleCrop, Transform
from ducseg.errors import explain, listed
from ducseg.models import IMAGENET, Preprocessing, build
from ducseg.models.batch_norm import recalibrate_batch_norm
from ducseg.models.head import FitsToMasks
from ducseg.models.segmenter import Segmenter
from ducseg.train.config import AugmentConfig, ModelConfig
from ducseg.train.distributed import Ranks
from ducseg.weights.checkpoint import checkpoint_folder, load_segmenter
from ducseg.weights.download import FILES
from ducseg.weights.encoders import WeightsUnavailable, load_encoder, share_with_head
from ducseg.weights.other_classes import take_all_but_other_classes

__all__ = ["BuiltNetwork", "build_network", "fit_to_masks", "recalibrate", "training_transform"]

_MOST_MASKS = 1000


def training_transform(config: AugmentConfig, segmenter: Segmenter) -> Transform:
    """The joint augmentation: turns and bends of the whole picture, scale and crop, flips, then colour and flaws.

    Raises:
        UserError: a rare class that is none; JPEG for pictures that are not RGB of 8 bits.
    """
    if config.jpeg_quality is not None and not segmenter.preprocessing.is_rgb:
        raise explain(
            f"--augment.jpeg-quality {config.jpeg_quality}",
            found=f"pictures of {segmenter.preprocessing.num_channels} x {segmenter.preprocessing.dtype}",
            needed="RGB of 8 bits, which JPEG holds",
            fix="Leave it out.",
        )
    mean, reflect = segmenter.preprocessing.mean_colour, config.reflect
    rare = _ids(config.rare_classes, segmenter.classes)
    steps: list[Transform] = []
    if config.quarter_turns:
        steps.append(RandomQuarterTurns())
    moves: list[Move] = []
    if config.rotation > 0:
        moves.append(RandomRotation(config.rotation, reflect, mean))
    if config.elastic > 0:
        moves.append(RandomElastic(config.elastic, reflect=reflect, mean_colour=mean))
    size, share = config.crop_size, config.rare_share
    crop: RandomCrop | RandomScaleCrop
    if config.scale == config.aspect == (1.0, 1.0):
        crop = RandomCrop(size, mean, rare, share, reflect)
    else:
        crop = RandomScaleCrop(size, config.scale, mean, config.aspect, rare, share, reflect)
    steps.append(MovedCrop(tuple(moves), crop) if moves else crop)
    if config.mirror:
        steps.append(RandomMirror())
    if config.vertical_flip:
        steps.append(RandomVerticalFlip())
    if config.colour_jitter > 0:
        strength = config.colour_jitter
        steps.append(ColourJitter(brightness=strength, contrast=strength, saturation=strength))
    return Compose((*steps, *_flaws(config)))


def _flaws(config: AugmentConfig) -> Iterator[Transform]:
    """What a camera does to a picture."""
    if config.gamma > 0:
        yield RandomGamma((1 / (1 + config.gamma), 1 + config.gamma))
    if config.blur > 0:
        yield Sometimes(RandomBlur((min(0.3, config.blur), config.blur)))
    if config.noise > 0:
        yield Sometimes(RandomNoise((config.noise / 5, config.noise)))
    if config.jpeg_quality is not None:
        yield Sometimes(RandomJpeg((config.jpeg_quality, 100)))


def _ids(names: Sequence[str], classes: ClassSet) -> tuple[int, ...]:
    unknown = [name for name in names if name not in classes.names]
    if unknown:
        needed = f"some of {', '.join(classes.names)}"
        raise explain("--augment.rare-classes", found=", ".join(unknown), needed=needed, fix="Correct it.")
    return tuple(classes.names.index(name) for name in names)


class BuiltNetwork(NamedTuple):
    """What `build_network` gives."""

    segmenter: Segmenter
    line: str
    """Where its weights come from."""
    fell_back: bool = False
    """Whether they are fresh for want of those that were asked for."""


def build_network(config: ModelConfig, classes: ClassSet, measured: Preprocessing | None = None) -> BuiltNetwork:
    """Build the segmenter and load what it starts from.

    Args:
        measured: of pictures that are not RGB of 8 bits, from the training split; None: they are RGB.

    Raises:
        UserError: conflicting architecture, weights that do not fit, a checkpoint with other classes.
    """
    source, of_weights = None, {}
    if config.weights is not None and Path(config.weights).expanduser().is_dir():
        folder = checkpoint_folder(config.weights)
        source = load_segmenter(folder)
        # how it is fed, and what no option says, come with the weights
        of_weights = {key: getattr(source.architecture, key) for key in ("stride_in", "pool_padding", "batch_norm_eps")}
        of_weights["preprocessing"] = source.preprocessing
        _check_pixels(source, folder, measured)
    elif measured is not None:
        of_weights["preprocessing"] = measured
    segmenter = build(
        encoder=config.encoder,
        head=config.head,
        num_classes=len(classes),
        output_stride=config.output_stride,
        cell=config.cell,
        aspp=config.aspp,
        dilation=config.dilation,
        stem=config.stem,
        width=config.width,
        num_channels=3 if measured is None else measured.num_channels,
        classes=classes,
        **of_weights,
    )
    if config.weights is None:
        return BuiltNetwork(segmenter, "weights: fresh")
    if source is not None:
        return BuiltNetwork(segmenter, _start_from_checkpoint(segmenter, source, folder, config, classes))
    try:
        report = load_encoder(segmenter, config.weights, allow_missing=config.allow_missing_weights)
    except WeightsUnavailable as error:
        if not config.weights_optional:
            raise
        line = f"weights: fresh, which costs accuracy on few pictures and needs more steps ({error})"
        return BuiltNetwork(segmenter, line, fell_back=True)
    return BuiltNetwork(segmenter, f"weights: {report}")


def _check_pixels(source: Segmenter, folder: Path, measured: Preprocessing | None) -> None:
    """Raise `UserError` where a checkpoint takes other pictures than there are: how they are fed comes with it."""
    of_data = IMAGENET if measured is None else measured
    (had, was), (has, now) = ((one.num_channels, one.dtype) for one in (source.preprocessing, of_data))
    if (had, was) != (has, now):
        encoder = f"{folder / FILES[0]} (its encoder alone) or " if had == 3 else ""
        raise explain(
            f"checkpoint {folder}",
            found=f"a network for {had} channels of {was}",
            needed=f"{has} of {now}, as the pictures have",
            fix=f"Start from --model.weights {encoder}imagenet: RGB's first convolution is spread over any channels.",
        )


def _start_from_checkpoint(
    segmenter: Segmenter, source: Segmenter, folder: Path, config: ModelConfig, classes: ClassSet
) -> str:
    was, now = source.architecture.to_json(), segmenter.architecture.to_json()
    changed = [
        f"{key.replace('_', ' ')} {now[key]} instead of {was[key]}"
        for key in ("output_stride", "dilation")
        if was[key] != now[key]
    ]
    change = f" ({', '.join(changed)})" if changed else ""
    with _of_one_architecture(folder, was, now):
        if config.weights_scope == "encoder":
            segmenter.encoder.load_state_dict(source.encoder.state_dict())
            share_with_head(segmenter)
            return f"weights: encoder of {folder}{change}"
        if config.weights_scope == "classes":
            lacking = take_all_but_other_classes(segmenter, source)
            return f"weights: all of {folder}{change}, classes by name" + (f", {listed(lacking)} fresh" * bool(lacking))
        if source.classes.names != classes.names:
            raise _other_classes(folder, source.classes.names, classes.names)
        fresh = _load(segmenter, source, allow_missing=config.allow_missing_weights)
    if any(name.startswith("head.pairwise.") for name in fresh):
        share_with_head(segmenter)
    return f"weights: all of {folder}{change}" + (f", {listed(fresh, 5)} fresh" if fresh else "")


def _other_classes(folder: Path, found: tuple[str, ...], needed: tuple[str, ...]) -> Exception:
    pairs = zip_longest(found, needed, fillvalue="missing")
    index, (there, here) = next((index, pair) for index, pair in enumerate(pairs) if pair[0] != pair[1])
    return explain(
        f"checkpoint {folder}",
        found=f"{len(found)} classes, where class {index} is {there}",
        needed=f"the data's {len(needed)} classes, where it is {here}",
        fix="--model.weights-scope classes takes all but the classes that it lacks, by their names; "
        "--model.weights-scope encoder the encoder alone.",
    )


@contextmanager
def _of_one_architecture(folder: Path, was: dict[str, Any], now: dict[str, Any]) -> Iterator[None]:
    """Say by which options two networks differ, where the tensors of one do not fit the other."""
    try:
        yield
    except RuntimeError as error:
        keys = [key for key in was | now if was.get(key) != now.get(key) and key != "num_classes"]
        there, here = (", ".join(f"{key.replace('_', ' ')} {one.get(key)}" for key in keys) for one in (was, now))
        raise explain(
            f"checkpoint {folder}",
            found=f"another architecture: {there}",
            needed=f"that of this configuration: {here}",
            fix="Set the --model options as its model.json says; of another head, --model.weights-scope encoder takes "
            "the encoder.",
        ) from error


def _load(target: Segmenter, source: Segmenter, *, allow_missing: bool = False) -> list[str]:
    """Names of tensors that the source lacks: a stage of a network has fewer than the next one."""
    own, of_source = target.state_dict(), source.state_dict()
    missing = [name for name in own if name not in of_source] if allow_missing else []
    target.load_state_dict(of_source | {name: own[name] for name in missing})
    return missing


def fit_to_masks(segmenter: Segmenter, dataset: SegmentationDataset, seed: int) -> str:
    """Where the head is computed from training masks and has not been yet, do it; a line that says so, or nothing."""
    if not hasattr(segmenter.head, "fit_to_masks") or cast(FitsToMasks, segmenter.head).fitted:
        return ""
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))[:_MOST_MASKS].tolist()
    masks = (label for index in order if (label := dataset[index].label) is not None)
    cast(FitsToMasks, segmenter.head).fit_to_masks(masks)
    return f", bases of {len(dataset.classes)} classes from up to {len(order)} training masks"


def recalibrate(segmenter: Segmenter, batches: Iterable[torch.Tensor], ranks: Ranks) -> None:
    """Re-estimate batch norm statistics over all ranks' batches of pixels (N, C, H, W); the function is unchanged."""
    on_device = (batch.to(ranks.device) for batch in batches)
    normalised = (segmenter.preprocessing.normalise(batch) for batch in on_device)
    recalibrate_batch_norm(segmenter, normalised, reduce=ranks.sum)
