"""DeepLabv2 from its authors' .caffemodel files, and from the two known PyTorch conversions of them.

On a ResNet: layers conv1, res2a_branch1 .. res5c_branch2c, each with bn... (sums of means and of variances, and by what
to divide them) and scale..., and fc1_NAME_c0 .. c3. On VGG-16: conv1_1 .. conv5_3, fc6_1, fc7_1, fc8_NAME_1 .. 4. Those
of a network that is run at three scales are stored three times (..._res075, fc1_NAME_res05_c0), alike: the first is
read. Deep G-CRF is the same network with a second ResNet, whose layers begin with PW_, and two convolutions, vertical
and horizontal.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ducseg.models import Segmenter, build_architecture
from ducseg.weights.released import caffe
from ducseg.weights.released.caffe_layers import (
    Layers,
    caffe_blocks,
    class_set,
    classes_of,
    conv,
    depth_of,
    filled,
    resnet,
    sketch_of,
    sketched,
    unfit,
    vgg,
)
from ducseg.weights.released.network import PREPROCESSING
from ducseg.weights.structure import Unfilled
from ducseg.weights.tensor_files import read_tensors

__all__ = ["load", "load_gcrf"]

_AT_OTHER_SCALES = re.compile(r"_res0(5|75)(_|$)")


def load(path: Path | str, *, num_classes: int | None = None) -> Segmenter:
    """DeepLabv2 on a ResNet or VGG-16 from a .caffemodel, or on a ResNet from a PyTorch conversion of one.

    Args:
        path: the authors' .caffemodel, or a .pth of kazuto1011/deeplab-pytorch or isht7/pytorch-deeplab-resnet.
        num_classes: L, where it is known: it must be the file's.

    Returns:
        The segmenter in evaluation mode, with the authors' preprocessing: RGB minus the mean.

    Raises:
        UserError: not such a file, a broken one, or one of another network.
    """
    path = Path(path)
    if path.suffix in (".pth", ".pt", ".safetensors"):
        return _deeplabv2_of_tensors(path, read_tensors(path), num_classes)
    layers, multi_scale = _at_one_scale(path)
    head = "deeplabv2" if multi_scale else "deeplabv2_single"
    branches = _branches(layers)
    if not branches:
        raise unfit(path, "DeepLabv2", ["no fc1_NAME_c0 and no fc8_NAME_1"])
    classes = classes_of(path, layers, branches[0], num_classes)
    if branches[0].startswith("fc8_"):
        made = sketched(path, layers, "conv1_1", head, classes, encoder="vgg16", aspp=len(branches))
        places = vgg(made)
        for number, name in enumerate(branches):
            ours, suffix = f"head.branches.{number}", name.rpartition("_")[2]
            places |= conv(f"{ours}.classifier.fc6", f"fc6_{suffix}")
            places |= conv(f"{ours}.classifier.fc7", f"fc7_{suffix}") | conv(f"{ours}.fc8", name)
        flipped = ("encoder.features.0.weight",)
    else:
        blocks = caffe_blocks(layers)
        made = sketched(path, layers, "conv1", head, classes, encoder=depth_of(path, blocks), aspp=len(branches))
        places, flipped = resnet(blocks), ("encoder.conv1.weight",)
        for number, name in enumerate(branches):
            places |= conv(f"head.branches.{number}", name)
    return filled(path, layers, made, places, (), PREPROCESSING, flipped=flipped)


def load_gcrf(path: Path | str, *, num_classes: int | None = None) -> Segmenter:
    """Deep G-CRF from a .caffemodel of siddharthachandra/gcrf; arguments, result and errors as of `load`."""
    path = Path(path)
    layers, _ = _at_one_scale(path)
    branches, blocks = _branches(layers), caffe_blocks(layers)
    if not branches:
        raise unfit(path, "Deep G-CRF", ["no fc1_NAME_c0"])
    classes = classes_of(path, layers, branches[0], num_classes)
    made = sketched(path, layers, "conv1", "gcrf", classes, encoder=depth_of(path, blocks), aspp=len(branches))
    places = resnet(blocks)
    places |= {
        key.replace("encoder.", "head.pairwise.", 1): place._replace(layer=f"PW_{place.layer}")
        for key, place in places.items()
    }
    for number, name in enumerate(branches):
        places |= conv(f"head.branches.{number}", name)
    places |= conv("head.vertical", "vertical") | conv("head.horizontal", "horizontal")
    first = ("encoder.conv1.weight", "head.pairwise.conv1.weight")
    return filled(path, layers, made, places, (), PREPROCESSING, flipped=first)


def _at_one_scale(path: Path) -> tuple[Layers, bool]:
    """The layers of scale 1, and whether there are others."""
    everything = caffe.index(path)
    layers = {name: blobs for name, blobs in everything.items() if not _AT_OTHER_SCALES.search(name)}
    return layers, len(layers) < len(everything)


def _branches(layers: Layers) -> list[str]:
    return sorted(name for name in layers if re.fullmatch(r"fc1_\w+_c\d|fc8_\w+_\d", name))


_PORT = re.compile(
    r"(?:scale|base|Scale)\."
    r"(?:(?P<stem>layer1\.conv1\.(?P<stem_kind>conv|bn))|layer(?P<stage>\d)\.block(?P<block>\d+)\."
    r"(?P<part>reduce|conv3x3|increase|proj)\.(?P<kind>conv|bn)|aspp\.(?:stages\.)?c(?P<path>\d)"
    r"|layer5\.conv2d_list\.(?P<old_path>\d)|(?P<same>(?:conv1|bn1|layer[1-4]\.\d+\.\w+(?:\.\d)?)))\.(?P<tensor>\w+)"
)
"""Names of both conversions: kazuto1011's own, and isht7's, which are torchvision's."""


def _port_key(name: str) -> str | None:
    """Our name of a conversion's tensor."""
    match = _PORT.fullmatch(name)
    if match is None:
        return None
    found = match.groupdict()
    path = found["path"] or found["old_path"]
    if path:
        ours = f"head.branches.{path}"
    elif found["same"]:
        ours = f"encoder.{found['same']}"
    elif found["stem"]:
        ours = "encoder.conv1" if found["stem_kind"] == "conv" else "encoder.bn1"
    else:
        number = ("reduce", "conv3x3", "increase").index(found["part"]) + 1 if found["part"] != "proj" else 0
        layer = f"encoder.layer{int(found['stage']) - 1}.{int(found['block']) - 1}"
        is_conv = found["kind"] == "conv"
        ours = f"{layer}.{'conv' if is_conv else 'bn'}{number}" if number else f"{layer}.downsample.{int(not is_conv)}"
    return f"{ours}.{found['tensor']}"


def _deeplabv2_of_tensors(path: Path, tensors: Mapping[str, Tensor], num_classes: int | None) -> Segmenter:
    ours = {key: value for name, value in tensors.items() if (key := _port_key(name)) is not None}
    others = [name for name in tensors if _port_key(name) is None]
    scores, first = ours.get("head.branches.0.weight"), ours.get("encoder.conv1.weight")
    if scores is None or first is None or scores.ndim != 4 or first.ndim != 4:
        raise unfit(path, "DeepLabv2", ["no ASPP or no first convolution under the names of the known conversions"])
    blocks = tuple(
        tuple({key.split(".")[2] for key in ours if key.startswith(f"encoder.layer{stage}.")}) for stage in (1, 2, 3, 4)
    )
    aspp = len([key for key in ours if re.fullmatch(r"head\.branches\.\d\.weight", key)])
    classes = class_set(path, scores.shape[0], num_classes)
    made = sketch_of(path, first.shape[0], "deeplabv2", classes, encoder=depth_of(path, blocks), aspp=aspp)
    needed = {key: value for key, value in made.state_dict().items() if not key.endswith("num_batches_tracked")}
    problems = [f"{name}, which it does not have" for name in (*others, *(ours.keys() - made.state_dict().keys()))]
    problems += [f"no {key}" for key in needed if key not in ours]
    problems += [
        f"{key} {tuple(ours[key].shape)} where {tuple(value.shape)} is needed"
        for key, value in needed.items()
        if key in ours and ours[key].shape != value.shape
    ]
    if problems:
        raise unfit(path, f"deeplabv2 on {made.architecture.encoder}", problems)
    with Unfilled():
        segmenter = build_architecture(made.architecture, classes=classes, preprocessing=PREPROCESSING)
    own = segmenter.state_dict()
    with torch.no_grad():
        for key in needed:
            if not ours[key].isfinite().all():
                raise unfit(path, "DeepLabv2", [f"infinite or undefined numbers in {key}"])
            own[key].copy_(ours[key].flip(1) if key == "encoder.conv1.weight" else ours[key])
    return segmenter.eval()
