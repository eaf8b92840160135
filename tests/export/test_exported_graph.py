"""The exported graph answers as the network does: every head and encoder, any size, any number of pictures."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from small_networks import KINDS, network, network_of, picture, picture_of

from ducseg.data.files.channels import Pixels
from ducseg.errors import UserError
from ducseg.export.onnx import OPSET, description, exported_graph, with_description
from ducseg.export.parity import Reference
from ducseg.export.pictures import drawn_scenes
from ducseg.inference.onnx_file import METADATA, Output, parse_onnx
from ducseg.inference.onnx_predictor import OnnxPredictor, onnx_session
from ducseg.inference.predictor import Predictor
from ducseg.models import Preprocessing, Segmenter
from ducseg.models.heads import COMPARISONS, HEADS

SIZES = [(90, 110), (64, 96), (1, 1), (3, 70), (100, 17)]
TIMM = ["resnet50d", "regnety_002", "mobilenetv3_small_100", "tf_efficientnet_b0", "densenet121"]
NETWORKS: dict[str, dict[str, Any]] = {
    **{head: {"head": head} for head in HEADS if head not in COMPARISONS},
    "duc, cell 2, ASPP": {"cell": 2, "aspp": 2, "output_stride": 8},
    "duc, stride 32": {"output_stride": 32, "dilation": "none"},
    "pyramid, stride 32": {"head": "pyramid", "output_stride": 32, "dilation": "none"},
}


def exported(segmenter: Segmenter, output: Output = "labels") -> OnnxPredictor:
    content = with_description(exported_graph(segmenter, output), description(segmenter, output))
    return OnnxPredictor(parse_onnx(Path("network.onnx"), content))


def check_labels(found: NDArray[Any], wanted: NDArray[Any], probabilities: NDArray[Any], within: float) -> None:
    """Two pixels may differ, where the two best of (C, H, W) probabilities, which agree `within`, are a tie to that."""
    second, best = np.sort(probabilities, axis=0)[-2:]
    differ = found != wanted
    assert differ.sum() <= 2 and (best - second)[differ].max(initial=0) <= 2 * within


def check(segmenter: Segmenter) -> None:
    """Labels are equal but for ties, and scores and probabilities to rounding, for every size."""
    predictor, labels, scores = Predictor(segmenter), exported(segmenter), exported(segmenter, "scores")
    reference = Reference(segmenter, "scores")
    for height, width in SIZES:
        image = picture(height, width)
        wanted = predictor(image)
        probabilities = predictor.probabilities(image)
        np.testing.assert_allclose(scores.probabilities(image), probabilities, atol=1e-4)
        check_labels(labels(image), wanted, probabilities, within=1e-4)
        check_labels(scores(image), wanted, probabilities, within=1e-4)
        np.testing.assert_allclose(scores.answer(image), reference(image), rtol=1e-3, atol=1e-3)
    assert len(np.unique(predictor(picture()))) > 2, "a network that says the same everywhere shows nothing"


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_every_head_answers_as_the_network(options: dict[str, Any]) -> None:
    check(network(**options))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_of_picture_is_taken_as_stored(kind: Preprocessing) -> None:
    segmenter = network_of(kind)
    predictor, labels, scores = Predictor(segmenter), exported(segmenter), exported(segmenter, "scores")
    assert labels.pixels == predictor.pixels == Pixels(kind.num_channels, kind.dtype)
    for height, width in SIZES:
        image = picture_of(kind, height, width)
        assert (labels(image) == predictor(image)).mean() > 0.999
        np.testing.assert_allclose(scores.answer(image), Reference(segmenter, "scores")(image), rtol=1e-3, atol=1e-3)
    assert len(np.unique(predictor(picture_of(kind)))) > 2, "a network that says the same everywhere shows nothing"


def test_values_that_are_no_numbers_count_as_their_channels_mean_in_any_runtime() -> None:
    kind = KINDS["two of floats"]
    segmenter = network_of(kind)
    file, images = exported(segmenter, "scores"), [picture_of(kind, seed=seed) for seed in (0, 7)]
    images[0][:30, :, 0], images[0][40, 40], images[0][50, 50, 1] = np.nan, np.inf, -np.inf
    session = onnx_session(file.file, torch.device("cpu"))
    (found,) = session.run(None, {"images": np.stack(images)})
    for scores, image in zip(found, images):
        np.testing.assert_allclose(scores, Reference(segmenter, "scores")(image), rtol=1e-3, atol=1e-3)
        assert (file(image) == Predictor(segmenter)(image)).mean() > 0.999
    images[0][..., 1] = np.nan
    (found,) = session.run(None, {"images": images[0][None]})
    images[0][..., 1] = kind.mean[1]
    np.testing.assert_allclose(found, file.answer(images[0])[None], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_scenes_are_drawn_in_the_networks_kind(kind: Preprocessing) -> None:
    drawn = drawn_scenes(kind)
    image = next(iter(drawn)).image
    assert image.dtype == kind.dtype and image.shape == (256, 512, kind.num_channels)
    distance = (image.mean((0, 1)) - kind.mean) / kind.std
    assert np.abs(distance).max() < 0.2 and (image.std((0, 1)) > np.multiply(0.8, kind.std)).all()
    assert f"and made {Pixels(kind.num_channels, kind.dtype)}, as no pictures were given" in drawn.about


def test_other_pictures_are_refused_as_by_the_network() -> None:
    segmenter = network_of(KINDS["five of 16 bits"])
    for labeller in (Predictor(segmenter), exported(segmenter)):
        for wrong, said in (
            (picture(), r"found uint8 \(90, 110, 3\); needed uint16 \(H, W, 5\)"),
            (np.zeros((8, 8, 5), np.uint8), "needed uint16"),
            (np.zeros((5, 8, 8), np.uint16), "channels first"),
        ):
            with pytest.raises(UserError, match=said):
                labeller(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("head", COMPARISONS)
def test_every_comparison_network_answers_as_it_does(head: str) -> None:
    check(network(COMPARISONS[head].needs.get("encoder", ("resnet18",))[0], head))


@pytest.mark.slow
@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("encoder", ["resnet50", "mobilenet_v2", "efficientnet_lite0", "efficientnet_lite2"])
@pytest.mark.parametrize("head", ["duc", "pyramid"])
def test_every_encoder_answers_as_the_network(encoder: str, stride: int, head: str) -> None:
    check(network(encoder, head, output_stride=stride, dilation="none"))


@pytest.mark.slow
def test_the_authors_stem_answers_as_the_network() -> None:
    check(network(stem="3x3"))


@pytest.mark.slow
@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize(
    "name", ["resnet50d", "regnety_002", "mobilenetv3_small_100", "tf_efficientnet_b0", "densenet121"]
)
def test_timms_encoders_answer_as_the_network(name: str) -> None:
    check(network(f"timm:{name}", "duc", dilation="none"))


def test_several_pictures_at_once() -> None:
    file, images = exported(network()), [picture(seed=seed) for seed in range(3)]
    for together, image in zip(file.labels_of(images), images):
        np.testing.assert_array_equal(together, file(image))


def test_a_file_of_probabilities() -> None:
    segmenter, image = network(cell=2), picture()
    file, predictor = exported(segmenter, "probabilities"), Predictor(segmenter)
    probabilities = predictor.probabilities(image)
    np.testing.assert_allclose(file.probabilities(image), probabilities, atol=1e-5)
    check_labels(file(image), predictor(image), probabilities, within=1e-5)
    ((labels, sure),) = file.labels_and_probabilities_of([image])
    assert np.array_equal(labels, file(image)) and np.array_equal(sure, file.probabilities(image))


def test_scales_and_flip_average_as_a_predictor_does() -> None:
    segmenter, image = network(), picture()
    wanted = Predictor(segmenter, scales=(0.75, 1.5), flip=True)
    content = with_description(exported_graph(segmenter, "scores"), description(segmenter, "scores"))
    file = OnnxPredictor(parse_onnx(Path("x.onnx"), content), scales=(0.75, 1.5), flip=True)
    np.testing.assert_allclose(file.probabilities(image), wanted.probabilities(image), atol=1e-3)
    assert (file(image) == wanted(image)).mean() > 0.999


def test_the_file_says_what_it_is() -> None:
    segmenter = network()
    segmenter.record = {
        "metrics": {"mean_iou": 0.5},
        "extra": {"config": {"data": {"dataset": "folder", "root": "/home/anna/x", "values": ["0=sky", "9=road"]}}},
    }
    model = onnx.load_model_from_string(with_description(exported_graph(segmenter), description(segmenter, "labels")))
    onnx.checker.check_model(model)
    assert [entry.version for entry in model.opset_import] == [OPSET] == [17]
    (entry,) = model.metadata_props
    found = json.loads(entry.value)
    assert entry.key == METADATA and "anna" not in entry.value
    assert (
        found["classes"] == segmenter.classes.to_json() and found["preprocessing"] == segmenter.preprocessing.to_json()
    )
    assert found["architecture"] == segmenter.architecture.to_json() and found["metrics"] == {"mean_iou": 0.5}
    assert {"ducseg", "torch", "onnx"} <= found["versions"].keys() and found["opset"] == OPSET
    assert found["extra"]["config"]["data"] == {"dataset": "folder", "values": ["0=sky", "9=road"]}, (
        "how masks are read"
    )


def test_the_network_is_left_as_it_is() -> None:
    segmenter = network().train()
    before = {key: value.clone() for key, value in segmenter.state_dict().items()}
    exported_graph(segmenter)
    assert segmenter.training and not segmenter.batch_norm_fused
    assert all((value == before[key]).all() for key, value in segmenter.state_dict().items())


_IN_OPENVINO = """
import sys
import numpy as np, openvino
compiled = openvino.Core().compile_model(sys.argv[1], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
pictures = np.load(sys.argv[2])
np.savez(sys.argv[3], **{name: compiled(pictures[name][None])[0] for name in pictures.files})
"""


@pytest.mark.slow
def test_openvino_runs_the_same_file(tmp_path: Path) -> None:
    """In a program of its own: OpenVINO (2026.4) gives the thread that compiles a network another stack for signals.

    After several networks one was left that was gone: the next signal, as of a child that ends, ends the process.
    """
    pytest.importorskip("openvino")
    path, given, answers = tmp_path / "network.onnx", tmp_path / "pictures.npz", tmp_path / "labels.npz"
    made = [network(**options) for options in ({}, {"cell": 2, "output_stride": 8}, {"head": "pyramid"})]
    for segmenter in [*made, *map(network_of, KINDS.values())]:
        kind = segmenter.preprocessing
        pictures = {f"{height}x{width}": picture_of(kind, height, width) for height, width in SIZES}
        np.savez(given, **pictures)
        path.write_bytes(with_description(exported_graph(segmenter), description(segmenter, "labels")))
        subprocess.run([sys.executable, "-c", _IN_OPENVINO, str(path), str(given), str(answers)], check=True)
        with np.load(answers) as labels:
            for name, image in pictures.items():
                found = labels[name]
                assert found.dtype == np.uint8 and (found[0] == Predictor(segmenter)(image)).mean() > 0.999
