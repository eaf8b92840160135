"""Static int8 quantisation of an exported graph, measured layer by layer.

A convolution in int8: its weights are held in 8 bits with a scale for each output channel, and so are the tensors at
both of its ends (after the ReLU), with one scale and zero point from their range on calibration pictures. The graph
says so by pairs QuantizeLinear, DequantizeLinear (QDQ), which every runtime folds into its integer kernels; whatever
else lies between two such tensors (sums, pooling) runs in integers too where the runtime can.

Which convolutions stay in float is found by measurement. The *agreement* is the mean IoU of the labels with the float
graph's labels as truth, so that thin and rare classes count as much as large ones. Where all convolutions together do
not reach the bound, each is quantised alone, and those that lose most are kept in float, as few as bring the others
together to the bound.
"""

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ducseg.errors import explain
from ducseg.inference.onnx_file import OnnxFile
from ducseg.inference.onnx_predictor import OnnxPredictor, onnx_session
from ducseg.metrics.confusion import ConfusionMatrix, scores
from ducseg.progress import counted

__all__ = ["Int8", "QuantizableGraph", "quantized"]

_ACTIVATIONS = ("Relu", "Clip")
_LARGEST_PART = 384
"""Side in pixels of the part of a calibration picture on which layers are compared."""

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Int8:
    """How to quantise.

    Attributes:
        pictures: (H, W, C) as the network takes them, like those that it is for: to calibrate and to compare on.
        bound: the agreement with the float graph's labels, 0..1, that is to be reached.
    """

    pictures: Sequence[NDArray[Any]]
    bound: float = 0.97

    def __post_init__(self) -> None:
        if not self.pictures:
            raise explain("--int8", found="no picture", needed="some to calibrate on", fix="Name files or folders.")
        if not 0 <= self.bound <= 1:
            raise explain("--int8-bound", found=self.bound, needed="a share, 0 to 1", fix="0.97 is the default.")


def quantized(graph: Any, labeller: OnnxPredictor, how: Int8) -> tuple[Any, dict[str, Any]]:
    """The graph with as many convolutions in int8 as the bound allows.

    Args:
        graph: an onnx.ModelProto of `exported_graph`; left as it is.
        labeller: the same as a labeller.

    Returns:
        The quantised graph, and {"pictures", "bound", "agreement", "layers": how many convolutions, "kept_in_float":
        their names, those that lose most first, "sensitivity": name -> agreement where it alone is in int8; empty
        where all together reach the bound}.

    Raises:
        UserError: no convolution can be quantised within the bound.
    """
    parts = [_part(picture) for picture in how.pictures]
    wanted = [labeller(part) for part in parts]

    def agreement(candidate: Any) -> float:
        other = OnnxPredictor(_as_file(labeller.file, candidate))
        counts = ConfusionMatrix(len(labeller.classes))
        for part, labels in zip(parts, wanted):
            counts.update(labels, other(part))
        return float(scores(counts.matrix, labeller.classes)["mean_iou"])

    quantizable = QuantizableGraph(graph, labeller.file, how.pictures)
    whole = quantizable.quantized(set(quantizable.layers))
    reached, kept, alone = agreement(whole), 0, dict[str, float]()
    if reached < how.bound:
        with counted("layers compared") as show:
            for name in quantizable.layers:
                alone[name] = agreement(quantizable.quantized({name}))
                show(len(alone), len(quantizable.layers))
        alone = dict(sorted(alone.items(), key=lambda item: item[1]))
        kept, reached = _fewest(tuple(alone), lambda left: agreement(quantizable.quantized(left)), how.bound)
        if kept == len(alone):
            raise explain(
                "--int8",
                found=f"an agreement below {how.bound:g} as soon as one of {kept} convolutions is in int8",
                needed="some that can be",
                fix="Give a lower --int8-bound, or export without --int8.",
            )
    found: dict[str, Any] = {
        "pictures": len(parts), "bound": how.bound, "agreement": reached, "layers": len(quantizable.layers),
        "kept_in_float": list(alone)[:kept], "sensitivity": alone,
    }  # fmt: skip
    return quantizable.quantized(set(quantizable.layers) - set(found["kept_in_float"])), found


def _fewest(order: Sequence[str], agreement: Callable[[Set[str]], float], bound: float) -> tuple[int, float]:
    """How many of the first are to stay in float, and the agreement then: doubled until enough, then halved between."""
    tried: dict[int, float] = {len(order): 1.0}

    def enough(kept: int) -> bool:
        if kept not in tried:
            tried[kept] = agreement(set(order[kept:]))
        return tried[kept] >= bound

    least, most = -1, 0  # the last that was too few, the next to try
    while not enough(most):
        least, most = most, min(max(1, 2 * most), len(order))
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if enough(middle) else (middle, most)
    return most, tried[most]


def _part(picture: NDArray[Any]) -> NDArray[Any]:
    """The middle of a picture."""
    height, width = picture.shape[:2]
    top, left = max(0, height - _LARGEST_PART) // 2, max(0, width - _LARGEST_PART) // 2
    return np.ascontiguousarray(picture[top : top + _LARGEST_PART, left : left + _LARGEST_PART])


def _as_file(file: OnnxFile, graph: Any) -> OnnxFile:
    return replace(file, content=graph.SerializeToString())


class QuantizableGraph:
    """A float graph, and the ranges of what would be in 8 bits.

    Attributes:
        layers: names of the convolutions that can be quantised, in the order of the graph.
    """

    def __init__(self, graph: Any, file: OnnxFile, pictures: Iterable[NDArray[Any]]) -> None:
        from onnx import numpy_helper

        self._graph = graph
        self._weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
        readers: dict[str, list[Any]] = {}
        for node in graph.graph.node:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        self._ends: dict[str, tuple[str, str]] = {}
        for node in graph.graph.node:
            if node.op_type == "Conv" and node.input[1] in self._weights:
                after = readers.get(node.output[0], [])
                activated = len(after) == 1 and after[0].op_type in _ACTIVATIONS
                self._ends[node.name] = (node.input[0], after[0].output[0] if activated else node.output[0])
        self.layers = tuple(self._ends)
        tensors = dict.fromkeys(end for ends in self._ends.values() for end in ends)
        self._ranges = _calibrated(graph, file, list(tensors), pictures)

    def quantized(self, layers: Set[str]) -> Any:
        """A copy in which these convolutions are in int8."""
        from onnx import ModelProto, helper, numpy_helper

        held = dict.fromkeys(end for name in self.layers if name in layers for end in self._ends[name])
        nodes: list[Any] = []
        added: dict[str, NDArray[Any]] = {}

        def pair(tensor: str) -> list[Any]:
            scale, zero = _scale(self._ranges[tensor])
            added[f"{tensor}_scale"], added[f"{tensor}_zero"] = scale, zero
            ends = [f"{tensor}_scale", f"{tensor}_zero"]
            return [
                helper.make_node("QuantizeLinear", [tensor, *ends], [f"{tensor}_uint8"], f"{tensor}_quantize"),
                helper.make_node("DequantizeLinear", [f"{tensor}_uint8", *ends], [f"{tensor}_held"], f"{tensor}_back"),
            ]

        for one in self._graph.graph.input:
            if one.name in held:
                nodes += pair(one.name)
        for original in self._graph.graph.node:
            node = type(original)()
            node.CopyFrom(original)
            node.input[:] = [f"{name}_held" if name in held else name for name in original.input]
            if node.name in layers:
                nodes += self._with_int8_weights(node, self._ranges[original.input[0]], added)
            nodes.append(node)
            for name in original.output:
                if name in held:
                    nodes += pair(name)
        copy = ModelProto()
        copy.CopyFrom(self._graph)
        del copy.graph.node[:]
        copy.graph.node.extend(nodes)
        used = {name for node in nodes for name in node.input}
        tensors = [tensor for tensor in self._graph.graph.initializer if tensor.name in used]
        del copy.graph.initializer[:]
        copy.graph.initializer.extend(
            [*tensors, *(numpy_helper.from_array(value, key) for key, value in added.items())]
        )
        return copy

    def _with_int8_weights(self, node: Any, input_range: Range, added: dict[str, NDArray[Any]]) -> list[Any]:
        """Give a convolution weights and bias in integers, a scale for each output channel; what makes them floats."""
        from onnx import helper

        weight = self._weights[node.input[1]]
        largest = np.abs(weight).reshape(len(weight), -1).max(1)
        scale = np.maximum(largest / 127, np.finfo(np.float32).tiny).astype(np.float32)
        rounded = np.rint(weight / scale.reshape(-1, 1, 1, 1)).clip(-127, 127).astype(np.int8)
        integers = {1: (rounded, scale, np.zeros(len(scale), np.int8))}
        if len(node.input) > 2 and node.input[2] in self._weights:
            product = np.maximum(scale * _scale(input_range)[0], np.finfo(np.float32).tiny).astype(np.float32)
            limits = np.iinfo(np.int32)
            bias = np.rint(self._weights[node.input[2]].astype(np.float64) / product).clip(limits.min, limits.max)
            integers[2] = (bias.astype(np.int32), product, np.zeros(len(scale), np.int32))
        made = []
        for place, values in integers.items():
            names = [f"{node.name}_{place}_{kind}" for kind in ("integers", "scale", "zero")]
            added.update(zip(names, values))
            node.input[place] = f"{node.name}_{place}"
            made.append(
                helper.make_node("DequantizeLinear", names, [node.input[place]], f"{node.name}_{place}", axis=0)
            )
        return made


def _scale(ends: Range) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Scale and zero point of uint8 for a range, which takes in 0."""
    low, high = min(ends[0], 0.0), max(ends[1], 0.0)
    scale = max((high - low) / 255, float(np.finfo(np.float32).tiny))
    return np.array(scale, np.float32), np.array(round(-low / scale), np.uint8)


def _calibrated(
    graph: Any, file: OnnxFile, tensors: Sequence[str], pictures: Iterable[NDArray[Any]]
) -> dict[str, Range]:
    """Smallest and largest value of each tensor over the pictures."""
    from onnx import ModelProto, TensorProto, helper

    measured = ModelProto()
    measured.CopyFrom(graph)
    del measured.graph.output[:]
    for number, tensor in enumerate(tensors):
        for kind in ("ReduceMin", "ReduceMax"):
            name = f"{kind}_{number}"
            measured.graph.node.append(helper.make_node(kind, [tensor], [name], name, keepdims=0))
            measured.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, []))
    session = onnx_session(_as_file(file, measured), torch.device("cpu"))
    found = np.array([session.run(None, {"images": picture[None]}) for picture in pictures], np.float32)
    low, high = found[:, 0::2].min(0), found[:, 1::2].max(0)
    return {tensor: (float(a), float(b)) for tensor, a, b in zip(tensors, low, high)}
