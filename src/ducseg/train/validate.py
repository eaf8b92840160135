"""The evaluations of a run: scores over all ranks, the one that decides, what they warn of, and their pictures."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ducseg.data.loading import evaluation_indices
from ducseg.data.paired import SegmentationDataset
from ducseg.errors import explain
from ducseg.figures.evaluation_folder import middle, write_sample
from ducseg.figures.label_maps import overlay
from ducseg.inference.evaluate import evaluate
from ducseg.inference.memory import that_fits
from ducseg.inference.predictor import Predictor
from ducseg.metrics.confusion import scores
from ducseg.models.segmenter import Segmenter
from ducseg.train.distributed import Ranks
from ducseg.train.stopping import Stopping

__all__ = [
    "check_best_by",
    "deciding_score",
    "estimate_seconds",
    "follow_pictures",
    "unfound_classes",
    "validate",
]

_TIMED_SIDE = 1024  # pixels
_PART = 2.0
"""Of a part's time: a pixel of 12 megapixels took up to twice that of one, which lies in the caches."""


class _Stopped(Exception):
    """A signal asked to stop in the middle of an evaluation."""


class _Stoppable:
    """A predictor that goes no further once the run is asked to stop."""

    def __init__(self, predictor: Predictor, stopping: Stopping) -> None:
        self._predictor, self._stopping = predictor, stopping
        self.classes, self.record, self.probabilities = predictor.classes, predictor.record, predictor.probabilities

    def __call__(self, image: NDArray[np.uint8], /) -> NDArray[np.uint8]:
        if self._stopping.requested:
            raise _Stopped
        return that_fits(self._predictor, (image.shape[0], image.shape[1]))(image)


def validate(
    network: Segmenter,
    dataset: SegmentationDataset,
    ranks: Ranks,
    stopping: Stopping,
    *,
    bf16: bool = False,
    keep: int = 0,
) -> tuple[dict[str, Any], dict[int, NDArray[np.uint8]]] | None:
    """Score the validation pictures, each once over all ranks, at its own size; None where a signal ended it.

    Args:
        bf16: compute convolutions in bfloat16.
        keep: how many predictions are to be returned.

    Returns:
        The scores, and the labels (H, W) of this rank's first pictures by their numbers.

    Raises:
        UserError: a picture or label that does not read.
    """
    indices = evaluation_indices(len(dataset), ranks.rank, ranks.world_size)
    predictor = _Stoppable(Predictor(network, ranks.device, bf16=bf16, fused=True), stopping)
    counts, labels, stopped = np.zeros((len(dataset.classes), len(dataset.classes)), np.int64), {}, 0
    try:
        with _without_search():
            evaluation = evaluate(predictor, dataset, indices=indices, keep=keep)
        counts, labels = evaluation.matrix, evaluation.labels
    except _Stopped:
        stopped = 1
    summed = ranks.sum(torch.tensor([*counts.ravel().tolist(), stopped])).numpy()
    return None if summed[-1] else (scores(summed[:-1].reshape(counts.shape), dataset.classes), labels)


def estimate_seconds(network: Segmenter, dataset: SegmentationDataset, ranks: Ranks, *, bf16: bool) -> float:
    """About how long an evaluation takes, by its first picture, generously; 0 on all ranks but the first.

    The picture, of a large one a part, is labelled twice and the second time counts: at the first a GPU's kernels are
    loaded, found or built.
    """
    if not ranks.is_main:
        return 0.0
    predictor = Predictor(network, ranks.device, bf16=bf16, fused=True)
    image = dataset[0].image
    part = image[:_TIMED_SIDE, :_TIMED_SIDE]
    with _without_search():
        predictor(part)
        began = time.monotonic()
        predictor(part)
    generously = 1.2 if part.size == image.size else _PART * image.size / part.size
    return generously * (time.monotonic() - began) * -(-len(dataset) // ranks.world_size)


@contextmanager
def _without_search() -> Iterator[None]:
    """cuDNN takes what it holds for best: trying all its algorithms pays for crops, not for pictures of many sizes."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def check_best_by(best_by: str, dataset: SegmentationDataset) -> None:
    """Raise UserError where `best_by` is no score: neither mean_iou nor a class."""
    if best_by != "mean_iou" and best_by not in dataset.classes.names:
        needed = f"mean_iou or one of {', '.join(dataset.classes.names)}"
        raise explain("--run.best-by", found=best_by, needed=needed, fix="Correct it.")


def deciding_score(found: dict[str, Any], best_by: str) -> float | None:
    """The score that decides which checkpoint is best, None where it is not defined."""
    score = float(found["mean_iou"] if best_by == "mean_iou" else found["classes"][best_by]["iou"])
    return None if math.isnan(score) else score


def unfound_classes(found: dict[str, Any]) -> list[str]:
    """Names of the classes that the truth has and of which not one pixel was found."""
    return [name for name, score in found["classes"].items() if score["pixels"] and not score["iou"]]


def follow_pictures(
    dataset: SegmentationDataset, predictions: dict[int, NDArray[np.uint8]], run: Path, step: int
) -> list[tuple[str, NDArray[np.uint8]]]:
    """Keep the middle of these validation pictures and of their predictions in RUN/samples, for `ducseg report`.

    Args:
        predictions: labels (H, W) by the picture's number.

    Returns:
        The middles with their predictions in colour, (H, W, 3) by name.

    Raises:
        UserError: the disk is full.
    """
    overlays = []
    for number, (index, labels) in enumerate(predictions.items()):
        sample = dataset[index]
        assert sample.label is not None, "validate has refused this"
        write_sample(run, number, step, name=sample.id, image=sample.image, truth=sample.label, prediction=labels)
        overlays.append((sample.id, overlay(middle(sample.image), middle(labels), dataset.classes)))
    return overlays
