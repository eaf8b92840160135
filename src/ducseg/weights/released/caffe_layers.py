"""A comparison network from layers under Caffe's names: which network it is, its place for each blob, its numbers.

Nothing is built before every name fits, and no number is read before every shape does, so a file never takes more
memory than its own size. Caffe's pictures are B, G, R: the first kernels are turned round, and so is the mean.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ducseg.classes import CITYSCAPES, IGNORE, VOC2012, ClassSet
from ducseg.errors import UserError, explain, listed
from ducseg.models import COMPARISONS, Architecture, Preprocessing, Segmenter, build_architecture, generic_classes
from ducseg.models.comparisons.fcn8s import bilinear_kernel
from ducseg.models.resnet import RESNETS
from ducseg.weights.released.network import BoundedFile, StoredArray
from ducseg.weights.structure import Unfilled

__all__ = [
    "Layers", "Place", "caffe_blocks", "class_set", "classes_of", "conv", "depth_of", "filled", "is_bilinear", "resnet",
    "rgb", "sketch_of", "sketched", "unfit", "vgg",
]  # fmt: skip

Layers = Mapping[str, tuple[StoredArray, ...]]


class Place(NamedTuple):
    """A tensor of ours: layer and blob that it is read from, and the blob of the same layer that it is divided by."""

    layer: str
    blob: int
    divisor: int | None = None


def rgb(*bgr: float) -> Preprocessing:
    return Preprocessing(mean=bgr[::-1], std=(1.0, 1.0, 1.0))


def classes_of(path: Path, layers: Layers, scores: str, num_classes: int | None) -> ClassSet:
    if scores not in layers:
        raise unfit(path, "the network", [f"no {scores}"])
    return class_set(path, layers[scores][0].shape[0], num_classes)


def class_set(path: Path, count: int, num_classes: int | None) -> ClassSet:
    if num_classes not in (None, count) or not 1 <= count <= IGNORE:
        needed = "1 to 255" if num_classes in (None, count) else f"--num-classes {num_classes}"
        raise explain(f"weights {path}", found=f"{count} classes", needed=needed, fix="Leave it out.")
    known = {len(one): one for one in (CITYSCAPES, VOC2012)}
    return known.get(count) or generic_classes(count)


def sketched(
    path: Path, layers: Layers, first: str, head: str, classes: ClassSet, *, encoder: str, aspp: int = 0
) -> Segmenter:
    """The network that the file should be of, without its numbers: as wide as its first layer says."""
    if first not in layers:
        raise unfit(path, f"{head} on {encoder}", [f"no {first}"])
    return sketch_of(path, layers[first][0].shape[0], head, classes, encoder=encoder, aspp=aspp)


def sketch_of(path: Path, width: int, head: str, classes: ClassSet, *, encoder: str, aspp: int) -> Segmenter:
    own = {**COMPARISONS[head].own, "aspp": aspp}
    stride_in = "1x1" if encoder.startswith("resnet") else "3x3"
    chosen = Architecture(encoder=encoder, head=head, num_classes=len(classes), width=width, stride_in=stride_in, **own)
    try:
        with torch.device("meta"), Unfilled():
            return build_architecture(chosen, classes=classes)
    except UserError as error:
        raise unfit(path, f"{head} on {encoder}", [str(error)]) from error


def conv(ours: str, name: str) -> dict[str, Place]:
    return {f"{ours}.weight": Place(name, 0), f"{ours}.bias": Place(name, 1)}


def vgg(made: Segmenter) -> dict[str, Place]:
    names = [f"conv{block + 1}_{number + 1}" for block, count in enumerate((2, 2, 3, 3, 3)) for number in range(count)]
    features: Any = made.encoder
    numbers = [number for number, layer in enumerate(features.features) if isinstance(layer, nn.Conv2d)]
    places: dict[str, Place] = {}
    for number, name in zip(numbers, names, strict=True):
        places |= conv(f"encoder.features.{number}", name)
    return places


def caffe_blocks(layers: Layers) -> tuple[tuple[str, ...], ...]:
    """Names of the blocks of res2..res5 in their order: a, b, c or a, b1, b2, ..."""
    found = [{name[4:].partition("_")[0] for name in layers if re.match(rf"res{stage}[a-z]\d*_", name)} for stage in
             (2, 3, 4, 5)]  # fmt: skip
    return tuple(tuple(sorted(stage, key=lambda one: (int(one[1:] or 0), one[0]))) for stage in found)


def depth_of(path: Path, blocks: Iterable[tuple[str, ...]]) -> str:
    counts = tuple(map(len, blocks))
    depths = {row.blocks: encoder for encoder, row in RESNETS.items() if row.bottleneck}
    if counts not in depths:
        raise unfit(path, "DeepLabv2", [f"{counts} blocks in res2..res5 where one of {sorted(depths)} is needed"])
    return depths[counts]


def resnet(blocks: tuple[tuple[str, ...], ...]) -> dict[str, Place]:
    places = _conv_norm("encoder.conv1", "encoder.bn1", "conv1", "_conv1")
    for stage, names in enumerate(blocks):
        for number, name in enumerate(names):
            ours = f"encoder.layer{stage + 1}.{number}"
            for part in (1, 2, 3):
                theirs = f"{stage + 2}{name}_branch2{'abc'[part - 1]}"
                places |= _conv_norm(f"{ours}.conv{part}", f"{ours}.bn{part}", f"res{theirs}", theirs)
            if number == 0:
                theirs = f"{stage + 2}{name}_branch1"
                places |= _conv_norm(f"{ours}.downsample.0", f"{ours}.downsample.1", f"res{theirs}", theirs)
    return places


def _conv_norm(conv: str, norm: str, name: str, suffix: str) -> dict[str, Place]:
    """Caffe's BatchNorm holds sums of means and variances, and by what to divide them; its Scale is a layer apart."""
    return {
        f"{conv}.weight": Place(name, 0),
        f"{norm}.running_mean": Place(f"bn{suffix}", 0, 2),
        f"{norm}.running_var": Place(f"bn{suffix}", 1, 2),
        f"{norm}.weight": Place(f"scale{suffix}", 0),
        f"{norm}.bias": Place(f"scale{suffix}", 1),
    }


def is_bilinear(path: Path, layers: Layers, name: str) -> bool:
    """Whether a deconvolution's blob, (L, L, k, k) or (L, 1, k, k) in groups, resizes every class by itself."""
    blob = layers[name][0]
    if len(blob.shape) != 4 or blob.shape[2] != blob.shape[3] or blob.kind != "float32" or blob.shape[2] > 64:
        return False
    with BoundedFile(path, ".caffemodel file") as file:
        values = file.float32(blob)
    each = np.eye(*blob.shape[:2]) if blob.shape[1] > 1 else np.ones(blob.shape[:2])
    wanted = each[:, :, None, None] * bilinear_kernel(blob.shape[2]).numpy()
    return bool(np.allclose(values, wanted, atol=1e-5))


def filled(
    path: Path,
    layers: Layers,
    made: Segmenter,
    places: Mapping[str, Place],
    used: Iterable[str],
    preprocessing: Preprocessing,
    *,
    flipped: tuple[str, ...],
) -> Segmenter:
    """The network with the file's numbers; every tensor has its place, and every layer is of some use."""
    needed = {key: value for key, value in made.state_dict().items() if not key.endswith("num_batches_tracked")}
    assert needed.keys() == places.keys(), needed.keys() ^ places.keys()
    problems = [f"{name}, which it does not have" for name in layers if name not in {*used, *_layers_of(places)}]
    for key, place in places.items():
        problems += _wrong(layers, place, tuple(needed[key].shape))
    if problems:
        raise unfit(path, f"{made.architecture.head} on {made.architecture.encoder}", list(dict.fromkeys(problems)))
    with Unfilled():
        segmenter = build_architecture(made.architecture, classes=made.classes, preprocessing=preprocessing)
    own = segmenter.state_dict()
    with BoundedFile(path, ".caffemodel file") as file, torch.no_grad():
        for key, place in places.items():
            values = _read(path, file, layers[place.layer], place).reshape(own[key].shape)
            own[key].copy_(torch.from_numpy(np.ascontiguousarray(values[:, ::-1] if key in flipped else values)))
    return segmenter.eval()


def _layers_of(places: Mapping[str, Place]) -> set[str]:
    return {place.layer for place in places.values()}


def _wrong(layers: Layers, place: Place, shape: tuple[int, ...]) -> list[str]:
    blobs = layers.get(place.layer, ())
    for number, wanted in ((place.blob, shape), (place.divisor, ())):
        if number is None:
            continue
        if number >= len(blobs):
            return [f"no blob {number} of {place.layer}" if blobs else f"no {place.layer}"]
        if blobs[number].kind != "float32":
            return [f"{place.layer} as {blobs[number].kind} where float32 is needed"]
        if _meaning(blobs[number].shape) != _meaning(wanted):
            return [f"{place.layer} {blobs[number].shape} where {wanted or (1,)} is needed"]
    return []


def _meaning(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Old blobs always have four sides: a bias is (1, 1, 1, n)."""
    while shape and shape[0] == 1:
        shape = shape[1:]
    return shape


def _read(path: Path, file: BoundedFile, blobs: tuple[StoredArray, ...], place: Place) -> NDArray[np.float32]:
    values = file.float32(blobs[place.blob])
    if place.divisor is None:
        return values
    divisor = float(file.float32(blobs[place.divisor]).reshape(-1)[0])
    if divisor <= 0:
        raise unfit(path, "DeepLabv2", [f"{place.layer}, whose statistics are of {divisor:g} batches"])
    return values / np.float32(divisor)


def unfit(path: Path, network: str, problems: list[str]) -> UserError:
    return explain(
        f"weights {path}",
        found=listed(problems, 10),
        needed=f"exactly the layers of {network} as it was released",
        fix="docs/weights.md lists what can be read.",
    )
