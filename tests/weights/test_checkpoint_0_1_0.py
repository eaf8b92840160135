"""A checkpoint that ducseg 0.1.0's `train` wrote still loads, still says what it said, and still computes the same."""

from pathlib import Path

import numpy as np
import torch

import ducseg
from ducseg.weights.checkpoint import load_segmenter, read_model_json

CHECKPOINT = Path(__file__).parent / "checkpoint-0.1.0"


def test_scores_are_those_of_the_version_that_wrote_it() -> None:
    segmenter, expected = load_segmenter(CHECKPOINT), np.load(CHECKPOINT / "expected.npz")
    images = segmenter.preprocessing.normalise(torch.from_numpy(expected["image"]).permute(2, 0, 1)[None])
    with torch.no_grad():
        found = segmenter(images)[0].numpy()
    np.testing.assert_allclose(found, expected["scores"], rtol=1e-4, atol=1e-6)


def test_classes_metrics_and_configuration_come_along() -> None:
    segmenter, description = load_segmenter(CHECKPOINT), read_model_json(CHECKPOINT)
    assert segmenter.classes.names == ("wall", "crack", "wire")
    assert segmenter.classes.palette == ((0, 0, 0), (255, 0, 0), (0, 0, 255))
    assert segmenter.record["metrics"]["mean_iou"] == 0.18381199764981657
    assert segmenter.record["extra"]["config"]["name"] == "custom-resnet18-duc"
    assert description["versions"]["ducseg"] == "0.1.0"


def test_a_predictor_labels_with_it() -> None:
    expected = np.load(CHECKPOINT / "expected.npz")
    labels = ducseg.load(CHECKPOINT)(expected["image"])
    assert labels.shape == (21, 27) and set(np.unique(labels)) <= {0, 1, 2}
