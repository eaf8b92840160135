"""The authors' network from their files, against MXNet's own answers; and files that are not it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mxnet_files import list_of, ndarray

import ducseg
from ducseg.classes import CITYSCAPES
from ducseg.cli import main
from ducseg.errors import UserError
from ducseg.inference.predictor import Predictor
from ducseg.models.segmenter import Segmenter
from ducseg.weights import onnx_zoo, tusimple
from ducseg.weights.mxnet_params import read_params

FILES = ("narrow-0001.params", "narrow-v1.params", "narrow-v0.params", "narrow-mxnet.onnx")


@pytest.fixture(scope="module")
def fixtures(shared: Path) -> Path:
    return shared / "fixtures" / "tusimple"


def load(path: Path) -> Segmenter:
    if path.suffix == ".onnx":
        pytest.importorskip("onnx")
        return onnx_zoo.load(path)
    return tusimple.load(path)


@pytest.mark.parametrize("file", FILES)
def test_logits_and_the_photos_labels_are_mxnets(fixtures: Path, file: str) -> None:
    segmenter = load(fixtures / file)
    answers = np.load(fixtures / "narrow-io.npz")
    with torch.no_grad():
        logits = segmenter.folded(torch.from_numpy(answers["data"])).flatten(1, 2).numpy()
    assert np.abs(logits - answers["logits"]).max() < 1e-4 * np.abs(answers["logits"]).max()
    assert (segmenter.classes, segmenter.cell, len(segmenter.head.paths)) == (CITYSCAPES, 2, 4)
    photo = np.load(fixtures / "narrow-photo.npz")
    predictor = Predictor(segmenter)
    assert (predictor(photo["image"]) == photo["labels"]).mean() >= 0.999


def test_probabilities_are_the_authors(fixtures: Path) -> None:
    photo = np.load(fixtures / "narrow-photo.npz")
    predictor = Predictor(load(fixtures / FILES[0]))
    classes, height, width = photo["probabilities"].shape
    found = predictor.probabilities(photo["image"])
    # the mean over a cell of the resized map is the cell's own value, but for its neighbours' 1/8 shares
    inner = found.reshape(classes, height, 2, width, 2).mean((2, 4))
    own = np.pad(photo["probabilities"].astype(np.float32), ((0, 0), (1, 1), (1, 1)), "edge")
    rows = 0.125 * own[:, :-2] + 0.75 * own[:, 1:-1] + 0.125 * own[:, 2:]
    expected = 0.125 * rows[..., :-2] + 0.75 * rows[..., 1:-1] + 0.125 * rows[..., 2:]
    np.testing.assert_allclose(inner, expected, atol=2e-3)


@pytest.mark.parametrize("kind", ["tusimple", "onnx-zoo"])
def test_the_command_writes_a_checkpoint_that_loads(
    fixtures: Path, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = fixtures / {"tusimple": FILES[1], "onnx-zoo": FILES[3]}[kind]
    direct = load(file)
    assert main(["import-weights", kind, str(file), "--out", str(tmp_path / "net")]) == 0
    assert "resnet101, 19 classes, cell 2, ASPP 4" in capsys.readouterr().out
    again = ducseg.load(tmp_path / "net").model
    for name, value in direct.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert main(["import-weights", kind, str(file), "--out", str(tmp_path / "net")]) == 2
    assert "taken" in capsys.readouterr().err


def changed(fixtures: Path, path: Path, **changes: Any) -> Path:
    parameters: dict[str, Any] = dict(read_params(fixtures / FILES[0]))
    for name, value in changes.items():
        parameters.pop(name, None)
        if value is not None:
            parameters[name] = value
    path.write_bytes(list_of({f"arg:{name}": ndarray(np.asarray(value)) for name, value in parameters.items()}))
    return path


def zeros(*shape: int) -> Any:
    return np.zeros(shape, "<f4")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv3_1_3x3_weight": None}, "no conv3_1_3x3_weight"),
        ({"conv3_1_3x3_weight": zeros(8, 8, 1, 1)}, r"conv3_1_3x3_weight \(8, 8, 1, 1\) where \(8, 8, 3, 3\)"),
        ({"more": zeros(3)}, "more, which this network does not have"),
        ({"../../etc/passwd": zeros(1)}, "passwd, which this network does not have"),
        ({"conv4_23_1x1_reduce_weight": None}, r"\(3, 4, 22, 3\) residual blocks"),
        ({"conv1_1_3x3_s2_weight": None}, "no conv1_1_3x3_s2_weight"),
        ({"fc1_cityscapes_c1_weight": None}, r"head layers \[0, 2, 3\]"),
        ({f"fc1_cityscapes_c{i}_weight": None for i in range(4)}, r"head layers \[\]"),
        ({f"fc1_cityscapes_c{i}_weight": zeros(303, 128, 3, 3) for i in range(4)}, "303 channels"),
        ({"fc1_cityscapes_c0_weight": zeros(304)}, "head kernels"),
    ],
)
def test_another_network_is_refused_with_what_differs(
    fixtures: Path, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        tusimple.load(changed(fixtures, tmp_path / "file.params", **changes))


@pytest.mark.parametrize(
    ("paths", "channels", "cell", "classes"), [(6, 19 * 64, 1, 19), (2, 21 * 16, 2, 21), (1, 13 * 16, 2, 13)]
)
def test_paths_cell_and_classes_come_from_the_file(
    fixtures: Path, tmp_path: Path, paths: int, channels: int, cell: int, classes: int
) -> None:
    changes: dict[str, Any] = {f"fc1_cityscapes_c{i}_{part}": None for i in range(4) for part in ("weight", "bias")}
    for path in range(paths):
        changes |= {f"fc1_voc_c{path}_weight": zeros(channels, 128, 3, 3), f"fc1_voc_c{path}_bias": zeros(channels)}
    segmenter = tusimple.load(changed(fixtures, tmp_path / "file.params", **changes))
    assert (len(segmenter.head.paths), segmenter.cell, len(segmenter.classes)) == (paths, cell, classes)


@pytest.mark.parametrize("kind", ["tusimple", "onnx-zoo"])
def test_a_damaged_file_leaves_nothing_behind(fixtures: Path, kind: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    source = (fixtures / {"tusimple": FILES[0], "onnx-zoo": FILES[3]}[kind]).read_bytes()
    damaged = tmp_path / "damaged"
    for length in (0, 10, 1000, len(source) // 2, len(source) - 1):
        damaged.write_bytes(source[:length])
        assert main(["import-weights", kind, str(damaged), "--out", str(tmp_path / "net")]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["damaged"]


def test_onnx_tensors_elsewhere_or_of_another_type_are_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import helper

    def written(tensor: Any) -> Path:
        graph = helper.make_graph([], "g", [], [], initializer=[tensor])
        path = tmp_path / "model.onnx"
        path.write_bytes(helper.make_model(graph).SerializeToString())
        return path

    half = helper.make_tensor("a_weight", onnx.TensorProto.FLOAT16, [1], [1.0])
    short = helper.make_tensor("a_weight", onnx.TensorProto.FLOAT, [1], [1.0])
    short.dims[:] = [2**40, 2**40]
    outside = helper.make_tensor("a_weight", onnx.TensorProto.FLOAT, [1], [1.0])
    outside.data_location = onnx.TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="../../etc/passwd")
    for tensor, message in ((half, "another type"), (short, "1 numbers for shape"), (outside, "another file")):
        with pytest.raises(UserError, match=message):
            onnx_zoo.read_initializers(written(tensor))
