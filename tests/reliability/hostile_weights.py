"""Checkpoints, weights and networks, ours and others'."""

import contextlib
import io
import json
import pickle
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hostile_parts import (
    Evil,
    broken_safetensors,
    by_hand,
    evil_pickles,
    good_checkpoint,
    noise,
    parts_of_checkpoint,
    with_file,
)
from hostile_workers import Target
from small_inputs import CLASSES

from ducseg.classes import ClassSet
from ducseg.errors import UserError

__all__ = ["TARGETS"]

TARGETS: dict[str, Target] = {}


def _classes(_context: Any, file: Path) -> None:
    found = ClassSet.read(file)
    assert ClassSet.from_json(json.loads(json.dumps(found.to_json()))) == found


TARGETS["classes.json"] = Target(
    lambda _folder: [json.dumps(CLASSES.to_json()).encode(), json.dumps({"classes": CLASSES.to_json()}).encode()],
    _classes, ".json", "json", made=by_hand,
)  # fmt: skip


def _config_seeds(_folder: Path) -> Sequence[bytes]:
    from ducseg.experiments import EXPERIMENTS

    return [json.dumps(make().to_json()).encode() for make in list(EXPERIMENTS.values())[:12]]


def _config(_context: Any, file: Path) -> None:
    from ducseg.train.run_folder import read_config

    run = file.parent / "run"
    run.mkdir(exist_ok=True)
    shutil.copyfile(file, run / "config.json")
    config = read_config(run)
    with contextlib.suppress(UserError):  # it has no folder of data
        config.check()
    json.dumps(config.to_json())


TARGETS["config.json"] = Target(_config_seeds, _config, ".json", "json", made=by_hand)


def _checkpoint_of(name: str) -> Callable[[Any, Path], None]:
    def read(good: Path, file: Path) -> None:
        from ducseg.inference.predictor import load_predictor

        found = load_predictor(with_file(good, name, file))
        labels = found(noise())
        assert labels.shape == (20, 26) and labels.max() < len(found.model.classes)

    return read


TARGETS["model.json"] = Target(
    parts_of_checkpoint("model.json"), _checkpoint_of("model.json"), ".json", "json", good_checkpoint, by_hand
)
TARGETS["model.safetensors of a checkpoint"] = Target(
    parts_of_checkpoint("model.safetensors"), _checkpoint_of("model.safetensors"), ".safetensors", "safetensors",
    good_checkpoint, broken_safetensors,
)  # fmt: skip


def _archives(_folder: Path) -> Sequence[bytes]:
    made = []
    tensors = {
        "conv1.weight": torch.zeros(4, 3, 3, 3),
        "bn1.bias": torch.arange(4.0),
        "n": torch.tensor(3),
        "half": torch.zeros(3).half(),
    }
    for content, options in (
        (tensors, {}), ({"state_dict": tensors, "epoch": 3}, {}), (tensors, {"_use_new_zipfile_serialization": False}),
        ({"model": {"a": {"b": torch.zeros(2)}}, "optimizer": {"state": {0: {"m": torch.zeros(2)}}}}, {}),
    ):  # fmt: skip
        file = io.BytesIO()
        torch.save(content, file, **options)
        made.append(file.getvalue())
    return made


def _tensors(_context: Any, file: Path) -> None:
    from ducseg.weights.tensor_files import read_tensors

    found = read_tensors(file)
    assert all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in found.items())
    assert not Path("/tmp/ducseg-was-run").exists()


TARGETS["weights, .pth"] = Target(_archives, _tensors, ".pth", "zip", made=evil_pickles)
TARGETS["weights, .safetensors"] = Target(
    parts_of_checkpoint("model.safetensors"), _tensors, ".safetensors", "safetensors", made=broken_safetensors
)


def _state_seeds(_folder: Path) -> Sequence[bytes]:
    file = io.BytesIO()
    torch.save(_fresh_state().state_dict(), file)
    return [file.getvalue()]


def _fresh_state() -> Any:
    from ducseg.models import build
    from ducseg.train.sections import OptimizerConfig
    from ducseg.train.state import RunState

    torch.manual_seed(0)
    network = build("resnet18", "duc", 3, aspp=0, width=4, classes=CLASSES)
    return RunState(network, OptimizerConfig(), pictures=(8, 2))


def _state(good: Path, file: Path) -> None:
    from ducseg.train.checkpoint import CheckpointFolder

    state = _fresh_state()
    CheckpointFolder(file.parent, keep_last=2).load_state(state, with_file(good, "train_state.pt", file))
    assert state.step >= 0


TARGETS["train_state.pt"] = Target(_state_seeds, _state, ".pt", "zip", good_checkpoint, evil_pickles)


def _released(name: str) -> Callable[[Path], Sequence[bytes]]:
    def seeds(_folder: Path) -> Sequence[bytes]:
        import mxnet_files

        arrays = mxnet_files.small_network()
        if name == "params":
            return [mxnet_files.params_file(arrays, version) for version in (0, 1, 2, 3)]
        return [mxnet_files.onnx_file(arrays), mxnet_files.onnx_file(arrays, raw=True)]

    return seeds


def _params(_context: Any, file: Path) -> None:
    from ducseg.weights import tusimple

    tusimple.load(file)


def _zoo(_context: Any, file: Path) -> None:
    from ducseg.weights.released import onnx

    onnx.load(file)


TARGETS["weights, .params"] = Target(_released("params"), _params, ".params")
TARGETS["weights, .onnx of the zoo"] = Target(_released("onnx"), _zoo, ".onnx")


def _caffe(name: str) -> Callable[[Path], Sequence[bytes]]:
    def seeds(_folder: Path) -> Sequence[bytes]:
        import caffe_files

        layers = getattr(caffe_files, f"{name}_layers")()
        return [caffe_files.caffemodel(layers), caffe_files.caffemodel(layers, old=True, doubles=True)]

    return seeds


def _caffe_of(module: str) -> Callable[[Any, Path], None]:
    def read(_context: Any, file: Path) -> None:
        from importlib import import_module

        import_module(f"ducseg.weights.released.{module}").load(file)

    return read


for _module, _layers in (("fcn8s", "fcn"), ("dilation10", "dilation"), ("deeplabv2", "deeplab")):
    TARGETS[f"weights, .caffemodel of {_module}"] = Target(_caffe(_layers), _caffe_of(_module), ".caffemodel")


def _exported(folder: Path) -> Sequence[bytes]:
    from ducseg.export.onnx import description, exported_graph, with_description
    from ducseg.models import build

    kept = folder / "exported.onnx"
    if not kept.exists():
        folder.mkdir(exist_ok=True)
        torch.manual_seed(0)
        network = build("resnet18", "duc", 3, aspp=0, width=4, classes=CLASSES).eval()
        graph = exported_graph(network)
        kept.write_bytes(with_description(graph, description(network, "labels")))
    return [kept.read_bytes()]


def _onnx(_context: Any, file: Path) -> None:
    from ducseg.inference.onnx_file import read_onnx
    from ducseg.inference.onnx_predictor import OnnxPredictor

    labels = OnnxPredictor(read_onnx(file))(noise())
    assert labels.shape == (20, 26) and labels.dtype == np.uint8


TARGETS["network, exported .onnx"] = Target(
    _exported, _onnx, ".onnx", made=lambda folder: {"pickle": pickle.dumps(Evil())}
)
