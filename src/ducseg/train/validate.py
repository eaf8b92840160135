"""The evaluations of a run: scores over all ranks, the one that decides, what they warn of, and their pictures."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ducseg.data.loading import evaluation_indices
from ducseg.data.paired import SegmentationDataset
from ducseg.figures.evaluation_folder import write_sample
from ducseg.figures.label_maps import overlay
from ducseg.inference.evaluate import evaluate
from ducseg.inference.predictor import Predictor
from ducseg.metrics.confusion import scores
from ducseg.models.segmenter import Segmenter
from ducseg.train.distributed import Ranks
from ducseg.train.stopping import Stopping

__all__ = ["deciding_score", "follow_pictures", "unfound_classes", "validate"]


class _Stopped(Exception):
    """A signal asked to stop in the middle of an evaluation."""


class _Stoppable:
    """A predictor that goes no further once the run is asked to stop."""

    def __init__(self, predictor: Predictor, stopping: Stopping) -> None:
        self._predictor, self._stopping, self.model = predictor, stopping, predictor.model
        self.probabilities = predictor.probabilities

    def __call__(self, image: NDArray[np.uint8], /) -> NDArray[np.uint8]:
        if self._stopping.requested:
            raise _Stopped
        return self._predictor(image)


def validate(
    network: Segmenter, dataset: SegmentationDataset, ranks: Ranks, stopping: Stopping, *, bf16: bool = False
) -> dict[str, Any] | None:
    """Score the validation pictures, each once over all ranks, at its own size; None where a signal ended it.

    Args:
        bf16: compute convolutions in bfloat16.

    Raises:
        UserError: a picture or label that does not read.
    """
    indices = evaluation_indices(len(dataset), ranks.rank, ranks.world_size)
    predictor = _Stoppable(Predictor(network, ranks.device, bf16=bf16), stopping)
    counts, stopped = np.zeros((len(dataset.classes), len(dataset.classes)), np.int64), 0
    try:
        counts = evaluate(predictor, dataset, indices=indices).matrix
    except _Stopped:
        stopped = 1
    summed = ranks.sum(torch.tensor([*counts.ravel().tolist(), stopped])).numpy()
    return None if summed[-1] else scores(summed[:-1].reshape(counts.shape), dataset.classes)


def deciding_score(found: dict[str, Any]) -> float | None:
    """The score that decides which checkpoint is best, None where it is not defined."""
    score = float(found["mean_iou"])
    return None if math.isnan(score) else score


def unfound_classes(found: dict[str, Any]) -> list[str]:
    """Names of the classes that the truth has and of which not one pixel was found."""
    return [name for name, score in found["classes"].items() if score["pixels"] and not score["iou"]]


def follow_pictures(
    network: Segmenter, dataset: SegmentationDataset, device: torch.device, run: Path, step: int, *, count: int
) -> list[tuple[str, NDArray[np.uint8]]]:
    """Predict the first `count` validation pictures and keep that in RUN/samples, for `ducseg report`.

    Returns:
        The pictures with their predictions in colour, (H, W, 3) by name.

    Raises:
        UserError: the disk is full.
    """
    predictor, overlays = Predictor(network, device), []
    for number in range(min(count, len(dataset))):
        sample = dataset[number]
        assert sample.label is not None, "validate has refused this"
        labels = predictor(sample.image)
        write_sample(run, number, step, name=sample.id, image=sample.image, truth=sample.label, prediction=labels)
        overlays.append((sample.id, overlay(sample.image, labels, dataset.classes)))
    return overlays
