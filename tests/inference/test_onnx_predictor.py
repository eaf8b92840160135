"""An exported file as a labeller: what its answers must be, and what is said where they are not."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ducseg.errors import UserError
from ducseg.export.onnx import description, exported_graph, with_description
from ducseg.inference.onnx_file import Output, parse_onnx
from ducseg.inference.onnx_predictor import OnnxPredictor, onnx_device
from ducseg.inference.opening import open_labeller, recorded
from ducseg.models import Segmenter, build

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    torch.manual_seed(0)
    made = build("resnet18", "duc", 3, aspp=0, output_stride=16, width=4).eval()
    with torch.no_grad():
        for parameter in made.head.parameters():
            parameter.mul_(30)
    return made


def written(folder: Path, segmenter: Segmenter, output: Output = "labels", **changes: object) -> Path:
    path = folder / "network"
    described = json.loads(json.dumps(description(segmenter, output))) | changes
    path.write_bytes(with_description(exported_graph(segmenter, output), described))
    return path


def test_auto_is_a_gpu_only_where_the_runtime_has_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert onnx_device("auto") == onnx_device("cpu") == torch.device("cpu")
    assert onnx_device("cuda") == torch.device("cuda", 0)
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: both)
    assert onnx_device("auto") == torch.device("cuda", 0)


def test_opened_by_its_content_whatever_its_name(segmenter: Segmenter, tmp_path: Path) -> None:
    labeller = open_labeller(written(tmp_path, segmenter))
    assert isinstance(labeller, OnnxPredictor) and labeller.classes == segmenter.classes
    assert labeller.stride == 16 and labeller(IMAGE).shape == (40, 50)
    place, noted = recorded(tmp_path / "network")
    assert place == tmp_path / "network" and noted["output"] == "labels"


@pytest.mark.parametrize("output", ["labels", "probabilities"])
def test_answers_that_its_description_forbids(segmenter: Segmenter, tmp_path: Path, output: Output) -> None:
    fewer = segmenter.classes.to_json()[:1]
    labeller = OnnxPredictor(written(tmp_path, segmenter, output, classes=fewer))
    with pytest.raises(UserError, match="of 1 classes, as its description says"):
        labeller(IMAGE)


def test_a_device_that_onnxruntime_has_not(segmenter: Segmenter, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--device: found cuda, where this onnxruntime has "):
        OnnxPredictor(written(tmp_path, segmenter), "cuda")


def test_not_enough_memory_is_said_in_words(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labeller = OnnxPredictor(written(tmp_path, segmenter))

    def full(pictures: object) -> None:
        raise MemoryError

    monkeypatch.setattr(labeller, "_run", full)
    with pytest.raises(UserError, match="not enough memory: found a picture of 40 x 50 pixels"):
        labeller(IMAGE)


def test_a_missing_package_names_the_command(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, segmenter)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"onnxruntime is not installed.*pip install 'ducseg\[export\]'"):
        OnnxPredictor(parse_onnx(path, path.read_bytes()))
