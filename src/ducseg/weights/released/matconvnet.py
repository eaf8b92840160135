"""LRR-4x as its authors released it: a network of MatConvNet (DagNN) in a .mat file of MATLAB.

Such a file holds a struct `net` with `params`, a list of structs of `name` and `value`, and
`meta.normalization.rgbMean`. A convolution's value is (rows, columns, in, out), a transposed one's (rows, columns,
out, in); MATLAB leaves out sides of 1 at the end. Names and shapes are those that a port, D-Nilsson/GRFP, lists of the
Cityscapes network; L classes, w = 64:

| theirs | shape | ours |
|---|---|---|
| conv1_1f, conv1_1b, ... conv5_3b | 3, 3, 3, w; w | encoder.features.0.weight, .bias, ... |
| fc6f, fc7f | 7, 7, 8w, 64w; 1, 1, 64w, 64w | head.classifier.fc6.weight, .fc7.weight |
| bases_coef_32xf, 16sf, 8xf, 4xf | 5, 5, c, 10L | head.levels.32.coefficients.weight, ... |
| deconv_32xf, ... | 8, 8, 1, 10L | head.levels.32.bases, ... |
| dec_prediction_32x_bil_x2f, 16x, 8x | 4, 4, 1, L | head.doublings.32.kernel, ... |
| dil_seg32x_coeff, dil_seg_deconv_32xf, dil_mask_deconv32sb | as above; L | head.dilation.coefficients, .bases, .bias |
| ero_mask32s_coeff, ero_seg_deconv_32xf, ero_mask_deconv32sb | as above; L | head.erosion... |
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ducseg.errors import UserError, explain, listed
from ducseg.models import Preprocessing, Segmenter, build
from ducseg.models.comparisons.class_bases import BASES
from ducseg.weights.released.caffe_layers import class_set
from ducseg.weights.released.matlab import MatlabArray, read_variable
from ducseg.weights.structure import Unfilled

__all__ = ["load", "read_network"]

_MAX_WIDTH = 64

_CONVOLUTIONS = [
    f"conv{block}_{index}" for block, count in enumerate((2, 2, 3, 3, 3), 1) for index in range(1, count + 1)
]


def load(mat_path: Path | str, *, num_classes: int | None = None) -> Segmenter:
    """Read LRR-4x on VGG-16 of a .mat file; classes and width come from the shapes.

    21 classes are VOC2012's, 19 Cityscapes', others have no names. The boundary masks are those of 9 x 9 places, as
    the authors' training code has them (a port of the Cityscapes network takes 17 x 17).

    Args:
        mat_path: the authors' model.mat.
        num_classes: L, where it is known: it must be the file's.

    Returns:
        The segmenter in evaluation mode, with the file's mean colour.

    Raises:
        UserError: no such file, not such a file, a broken one, or one of another network.
    """
    path = Path(mat_path)
    values, mean = read_network(path)
    width, classes = values["conv1_1f"].shape[-1], values["bases_coef_32xf"].shape[-1] // BASES
    if not 1 <= width <= _MAX_WIDTH:
        raise _other_network(path, [f"{width} channels in the first layer"])
    names = class_set(path, classes, num_classes)
    with Unfilled():
        segmenter = build(
            "vgg16",
            "lrr4x",
            classes,
            width=width,
            classes=names,
            preprocessing=Preprocessing(mean=mean, std=(1.0, 1.0, 1.0)),
        )
    own, wrong = segmenter.state_dict(), []
    own["head.fitted"].fill_(1)
    for name, theirs in _places():
        target, value = own[name], _as_ours(values[theirs], own[name].dim())
        if value.shape != target.shape:
            wrong.append(f"{theirs} of shape {values[theirs].shape}")
        else:
            target.copy_(value)
    if wrong:
        raise _other_network(path, wrong)
    return segmenter.eval()


def read_network(path: Path) -> tuple[dict[str, NDArray[np.float32]], tuple[float, ...]]:
    """LRR-4x's parameters by their names, and the mean colour of R, G, B on the 0..255 scale.

    Raises:
        UserError: as `load`; parameters that are missing are named.
    """
    net = read_variable(path, "net").element()
    entries = _field(path, net, "params").elements()
    stored = {_field(path, entry, "name").text(): _field(path, entry, "value") for entry in entries}
    stored = {re.sub(r"(bases_coef_16)sf", r"\1xf", name): value for name, value in stored.items()}
    normalization = _field(path, _field(path, net, "meta").element(), "normalization").element()
    mean = _field(path, normalization, "rgbMean").numbers().ravel()
    wanted = {theirs for _, theirs in _places()}
    wrong = [f"no {name}" for name in sorted(wanted - stored.keys())]
    if wrong or len(mean) != 3:
        raise _other_network(path, wrong or [f"a mean colour of {len(mean)} values"])
    return {name: stored[name].numbers() for name in wanted}, tuple(map(float, mean))


def _field(path: Path, struct: Mapping[str, MatlabArray], name: str) -> MatlabArray:
    if name not in struct:
        raise _other_network(path, [f"no field {name} among {listed(sorted(struct), 8)}"])
    return struct[name]


def _as_ours(value: NDArray[np.float32], dimensions: int) -> Tensor:
    if dimensions == 1:
        return torch.from_numpy(np.ravel(value).copy())
    whole = value.reshape(*value.shape, *(1,) * (4 - value.ndim))
    return torch.from_numpy(np.ascontiguousarray(whole.transpose(3, 2, 0, 1)))


def _places() -> Iterator[tuple[str, str]]:
    """(our name, theirs) of every tensor but `fitted`."""
    layers = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    pairs = [(f"encoder.features.{layer}", name) for layer, name in zip(layers, _CONVOLUTIONS, strict=True)]
    pairs += [(f"head.classifier.{name}", name) for name in ("fc6", "fc7")]
    pairs += [(f"head.levels.{s}.coefficients", f"bases_coef_{s}x") for s in (32, 16, 8, 4)]
    for ours, theirs in pairs:
        yield f"{ours}.weight", f"{theirs}f"
        yield f"{ours}.bias", f"{theirs}b"
    for s in (32, 16, 8, 4):
        yield f"head.levels.{s}.bases", f"deconv_{s}xf"
    for s in (32, 16, 8):
        yield f"head.doublings.{s}.kernel", f"dec_prediction_{s}x_bil_x2f"
    for ours, short, weight in (("dilation", "dil", "dil_seg32x_coeff"), ("erosion", "ero", "ero_mask32s_coeff")):
        yield f"head.{ours}.coefficients.weight", weight
        yield f"head.{ours}.coefficients.bias", f"{short}_seg32x_coefb"
        yield f"head.{ours}.bases", f"{short}_seg_deconv_32xf"
        yield f"head.{ours}.bias", f"{short}_mask_deconv32sb"


def _other_network(path: Path, problems: list[str]) -> UserError:
    return explain(
        f"weights {path}",
        found=listed(problems, 10),
        needed="the parameters of LRR-4x on VGG-16 (docs/weights.md)",
        fix="Take the file model.mat of an LRR4x-VGG16 network.",
    )
