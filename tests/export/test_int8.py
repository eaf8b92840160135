"""Quantisation: what is held in 8 bits, which layers are chosen, and that the choice is a measurement."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from small_networks import KINDS, network, network_of, picture, picture_of

from ducseg.errors import UserError
from ducseg.export.onnx import description, exported_graph, with_description
from ducseg.export.quantize import Int8, QuantizableGraph, _fewest, quantized
from ducseg.inference.onnx_file import parse_onnx
from ducseg.inference.onnx_predictor import OnnxPredictor
from ducseg.models import Preprocessing, Segmenter

PICTURES = [picture(seed=seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return network(head="pyramid", output_stride=32, dilation="none")


def opened(graph: Any, segmenter: Segmenter) -> OnnxPredictor:
    content = with_description(graph, description(segmenter, "labels"))
    onnx.checker.check_model(onnx.load_model_from_string(content))
    return OnnxPredictor(parse_onnx(Path("x.onnx"), content))


def test_convolutions_get_integers_and_the_rest_stays(segmenter: Segmenter) -> None:
    graph = exported_graph(segmenter)
    file = opened(graph, segmenter)
    before = graph.SerializeToString()
    quantizable = QuantizableGraph(graph, file.file, PICTURES)
    assert len(quantizable.layers) == sum(node.op_type == "Conv" for node in graph.graph.node) > 20
    whole = quantizable.quantized(set(quantizable.layers))
    assert graph.SerializeToString() == before
    integers = {tensor.name: numpy_helper.to_array(tensor) for tensor in whole.graph.initializer}
    for node in whole.graph.node:
        if node.op_type == "Conv":
            weight = integers[f"{node.name}_1_integers"]
            assert weight.dtype == np.int8 and np.abs(weight).max() == 127
            assert integers[f"{node.name}_1_scale"].shape == (len(weight),), "per channel"
            assert integers[f"{node.name}_2_integers"].dtype == np.int32
    assert len(whole.SerializeToString()) < 0.4 * len(before)
    one = quantizable.quantized({quantizable.layers[3]})
    assert sum(tensor.data_type == onnx.TensorProto.INT8 for tensor in one.graph.initializer) == 2  # with zero points
    assert (opened(one, segmenter)(PICTURES[0]) == file(PICTURES[0])).mean() > 0.95


def test_scores_differ_by_the_rounding_of_eight_bits() -> None:
    """One convolution alone, its own answer: within half a step of each of its tensors' 256."""
    segmenter = network(head="bilinear")
    graph = exported_graph(segmenter, "scores")
    content = with_description(graph, description(segmenter, "scores"))
    file = OnnxPredictor(parse_onnx(Path("x.onnx"), content))
    quantizable = QuantizableGraph(graph, file.file, PICTURES)
    last = quantizable.layers[-1]
    (low, high) = quantizable._ranges[quantizable._ends[last][1]]
    content = with_description(quantizable.quantized({last}), file.file.description)
    changed = OnnxPredictor(parse_onnx(Path("x.onnx"), content))
    wanted, found = file.answer(PICTURES[0]), changed.answer(PICTURES[0])
    assert 0 < np.abs(found - wanted).max() < 8 * (high - low) / 255


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_pictures_of_any_kind_calibrate(kind: Preprocessing) -> None:
    segmenter, pictures = network_of(kind, "bilinear"), [picture_of(kind, seed=seed) for seed in (1, 2)]
    graph = exported_graph(segmenter)
    file = opened(graph, segmenter)
    found, about = quantized(graph, file, Int8(pictures=pictures, bound=0.0))
    assert about["kept_in_float"] == [] and 0.5 < about["agreement"] < 1
    assert (opened(found, segmenter)(pictures[0]) == file(pictures[0])).mean() > 0.8
    with pytest.raises(UserError, match="image: found uint8"):
        quantized(graph, file, Int8(pictures=[np.zeros((8, 8, 4), np.uint8)]))


def test_layers_stay_in_float_until_the_bound_is_reached() -> None:
    segmenter = network(head="bilinear")
    graph = exported_graph(segmenter)
    file = opened(graph, segmenter)
    loose, tight = (quantized(graph, file, Int8(pictures=PICTURES, bound=bound)) for bound in (0.0, 0.96))
    assert loose[1]["kept_in_float"] == [] and loose[1]["agreement"] < 0.96 <= tight[1]["agreement"]
    kept, sensitivity = tight[1]["kept_in_float"], tight[1]["sensitivity"]
    assert 0 < len(kept) < tight[1]["layers"] == len(sensitivity)
    others = [value for name, value in sensitivity.items() if name not in kept]
    assert max(sensitivity[name] for name in kept) <= min(others), "those that lose most"
    in_int8 = {tensor.name for tensor in tight[0].graph.initializer if tensor.name.endswith("_1_integers")}
    assert in_int8 == {f"{name}_1_integers" for name in sensitivity.keys() - set(kept)}


def test_a_bound_that_no_layer_keeps_is_refused(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    class Two(QuantizableGraph):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self.layers = self.layers[:2]

    monkeypatch.setattr("ducseg.export.quantize.QuantizableGraph", Two)
    graph = exported_graph(segmenter)
    with pytest.raises(UserError, match=r"an agreement below 1 as soon as one of 2 .*lower --int8-bound"):
        quantized(graph, opened(graph, segmenter), Int8(pictures=PICTURES, bound=1.0))


@pytest.mark.parametrize("needed", [0, 1, 2, 3, 5, 9, 10])
def test_the_fewest_are_found(needed: int) -> None:
    order = [str(number) for number in range(10)]
    asked: list[int] = []

    def agreement(left: Any) -> float:
        asked.append(len(order) - len(left))
        return 1.0 - 0.1 * len(left & set(order[:needed]))

    assert _fewest(order, agreement, 1.0) == (needed, 1.0)
    assert len(asked) == len(set(asked)) <= 8


@pytest.mark.parametrize("wrong", [{"pictures": []}, {"pictures": PICTURES, "bound": 1.5}])
def test_no_picture_and_no_share_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="--int8"):
        Int8(**wrong)
