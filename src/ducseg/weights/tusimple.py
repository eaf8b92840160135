"""The authors' released network (TuSimple-DUC, MXNet): from its parameters to a `Segmenter` with the same answers.

What a file does not say is the released code's (PROTOCOL, sections 2 and 3): HDC rates 2, 2, 5, 9, ...; the stride in
the first 1x1; max-pooling without padding; batch norm eps 1e-6; RGB minus (122.675, 116.669, 104.008). What it does say
is read from shapes: depth, width, ASPP paths, classes and cell. Both importers (`.params` here, ONNX in `onnx_zoo`)
share this module, for the names are the same.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ducseg.classes import CITYSCAPES, KITTI_ROAD, VOC2012, ClassSet
from ducseg.errors import UserError, explain
from ducseg.models import Preprocessing, Segmenter, build, generic_classes
from ducseg.weights.mxnet_params import read_params
from ducseg.weights.store import save_segmenter

__all__ = ["AUTHORS_INPUT", "Source", "import_file", "load", "segmenter_of"]

Parameters = Mapping[str, NDArray[np.float32]]
Source = Literal["tusimple", "onnx-zoo"]

AUTHORS_INPUT = Preprocessing(mean=(122.675, 116.669, 104.008), std=(1.0, 1.0, 1.0))
"""RGB minus the mean, not divided (released code)."""

_STRIDE = 8
_DEPTHS = {(3, 4, 23, 3): "resnet101", (3, 8, 36, 3): "resnet152", (3, 4, 6, 3): "resnet50"}
_STEM = ("conv1_1_3x3_s2", "conv1_2_3x3", "conv1_3_3x3")
_HEAD = re.compile(r"(fc1_\w*?c)(\d+)_weight")
_KNOWN = {19: CITYSCAPES, 21: VOC2012, 2: KITTI_ROAD}


def load(params_path: Path | str) -> Segmenter:
    """The network of one of the authors' `.params` files, in evaluation mode.

    Raises:
        UserError: no MXNet file or a damaged one; entries that are missing, left over or of another shape than this
            network's, all named in one message.
    """
    return segmenter_of(read_params(params_path), f"weights {params_path}")


def import_file(source: Source, file: Path, out: Path) -> str:
    """Write a checkpoint folder from the authors' weights; what `ducseg import-weights` does.

    Args:
        source: "tusimple", a `.params` file; "onnx-zoo", MXNet's ONNX export of the same network.
        out: folder to make; it is whole or not there.

    Returns:
        A line that says what the file holds.

    Raises:
        UserError: as `load`; `out` is taken; a disk that does not take it.
    """
    if out.exists():  # before the work, and again when it is written
        raise explain(f"--out {out}", found="that name taken", needed="a new folder", fix="Choose another --out.")
    if source == "onnx-zoo":
        from ducseg.weights import onnx_zoo

        segmenter = onnx_zoo.load(file)
    else:
        segmenter = load(file)
    save_segmenter(out, segmenter, extra={"command": f"ducseg import-weights {source} {file.name}"})
    what, count = segmenter.architecture, sum(parameter.numel() for parameter in segmenter.parameters())
    return (
        f"{what['encoder']}, {len(segmenter.classes)} classes, cell {what['cell']}, ASPP {what['aspp']}, "
        f"{count / 1e6:.1f} M parameters: {out}"
    )


def segmenter_of(parameters: Parameters, what: str) -> Segmenter:
    """The network that MXNet's parameters, by name, belong to; `what` begins the message of an error."""
    kernels = _head(parameters, what)
    blocks = tuple(_count_blocks(parameters, stage) for stage in (2, 3, 4, 5))
    if blocks not in _DEPTHS:
        raise _error(what, f"{blocks} residual blocks in res2 to res5", f"{_depths()} as in the released code")
    cell, classes = _cell_and_classes(kernels[0].shape[0], what)
    width = len(_entry(parameters, f"{_STEM[0]}_weight", what))
    with torch.device("meta"):  # the file's own arrays become its tensors
        segmenter = build(
            encoder=_DEPTHS[blocks], head="duc", num_classes=len(classes), output_stride=_STRIDE, cell=cell,
            aspp=len(kernels), dilation="released", stem="3x3", stride_in="1x1", pool_padding=False,
            batch_norm_eps=1e-6, width=width, classes=classes, preprocessing=AUTHORS_INPUT,
        )  # fmt: skip
    return _filled(segmenter, parameters, what)


def _filled(segmenter: Segmenter, parameters: Parameters, what: str) -> Segmenter:
    """Put every parameter in its place; report what is missing, left over or of another shape."""
    own, left = segmenter.state_dict(), dict(parameters)
    state, problems = {}, []
    for name, theirs in _names(segmenter, parameters):
        array = left.pop(theirs, None)
        wanted = tuple(own[name].shape)
        if array is None:
            problems.append(f"no {theirs}")
        elif array.shape != wanted:
            problems.append(f"{theirs} {array.shape} where {wanted} is needed")
        else:
            state[name] = torch.from_numpy(np.array(array, np.float32))
    problems += [f"{name}, which this network does not have" for name in left]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise _error(what, "; ".join(problems[:5]) + more, f"the released {segmenter.architecture['encoder']}-DUC")
    for name, tensor in own.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros_like(tensor, device="cpu")
    segmenter.load_state_dict(state, assign=True)
    return segmenter.eval()


def _names(segmenter: Segmenter, parameters: Parameters) -> Iterator[tuple[str, str]]:
    """(our name, MXNet's name) of every parameter and statistic."""
    for index, layer in enumerate(_STEM):
        norm = "bn1" if index == 2 else f"conv1.{3 * index + 1}"
        yield from _layer(parameters, f"encoder.conv1.{3 * index}", f"encoder.{norm}", layer)
    for stage in (2, 3, 4, 5):
        for number in range(len(getattr(segmenter.encoder, f"layer{stage - 1}"))):
            ours, theirs = f"encoder.layer{stage - 1}.{number}", f"conv{stage}_{number + 1}_1x1_"
            for index, part in enumerate(("1x1_reduce", "3x3", "1x1_increase"), 1):
                layer = f"conv{stage}_{number + 1}_{part}"
                yield from _layer(parameters, f"{ours}.conv{index}", f"{ours}.bn{index}", layer)
            if number == 0:
                yield from _layer(parameters, f"{ours}.downsample.0", f"{ours}.downsample.1", f"{theirs}proj")
    match = next(found for name in parameters if (found := _HEAD.fullmatch(name)))
    for path in range(len(segmenter.head.paths)):
        for part in ("weight", "bias"):
            yield f"head.paths.{path}.conv.{part}", f"{match[1]}{path}_{part}"


def _layer(parameters: Parameters, convolution: str, norm: str, theirs: str) -> Iterator[tuple[str, str]]:
    yield f"{convolution}.weight", f"{theirs}_weight"
    separator = "/" if f"{theirs}/bn_gamma" in parameters else "_"
    for ours, part in (
        ("weight", "gamma"), ("bias", "beta"), ("running_mean", "moving_mean"), ("running_var", "moving_var"),
    ):  # fmt: skip
        yield f"{norm}.{ours}", f"{theirs}{separator}bn_{part}"


def _head(parameters: Parameters, what: str) -> list[NDArray[np.float32]]:
    """The kernels of the summed ASPP paths."""
    found = {int(match[2]): name for name in parameters if (match := _HEAD.fullmatch(name))}
    if not found or sorted(found) != list(range(len(found))):
        raise _error(what, f"head layers {sorted(found)} (fc1_..._cN_weight)", "c0, c1, ... of summed ASPP paths")
    kernels = [parameters[found[path]] for path in sorted(found)]
    if len({kernel.shape for kernel in kernels}) > 1 or kernels[0].ndim != 4:
        raise _error(what, f"head kernels {[kernel.shape for kernel in kernels]}", "one shape, of four dimensions")
    return kernels


def _cell_and_classes(channels: int, what: str) -> tuple[int, ClassSet]:
    """DUC's cell and classes from the head's channels, L (8 / cell)^2: a known number of classes, else cell 1 first."""
    possible = {cell: channels // (_STRIDE // cell) ** 2 for cell in (1, 2, 4) if not channels % (_STRIDE // cell) ** 2}
    if not possible:
        raise _error(what, f"a head of {channels} channels", "a multiple of 64, 16 or 4 (cell 1, 2 or 4)")
    cell = next((cell for cell, count in possible.items() if count in _KNOWN), min(possible))
    count = possible[cell]
    if count > 255:
        raise _error(what, f"a head of {channels} channels", "at most 255 classes")
    return cell, _KNOWN.get(count) or generic_classes(count)


def _count_blocks(parameters: Parameters, stage: int) -> int:
    count = 0
    while f"conv{stage}_{count + 1}_1x1_reduce_weight" in parameters:
        count += 1
    return count


def _entry(parameters: Parameters, name: str, what: str) -> NDArray[np.float32]:
    if name not in parameters or not parameters[name].ndim:
        raise _error(what, f"no {name}", "the released network, whose stem is three 3x3 convolutions")
    return parameters[name]


def _depths() -> str:
    return " or ".join(f"{blocks} ({name})" for blocks, name in _DEPTHS.items())


def _error(what: str, found: str, needed: str) -> UserError:
    return explain(what, found=found, needed=needed, fix="Give a file of the authors' ResNet-DUC networks.")
