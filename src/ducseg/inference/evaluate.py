"""Score a labeller on a data set: every picture once and whole, counts in int64."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ducseg.data.paired import SegmentationDataset
from ducseg.errors import explain
from ducseg.inference.predictor import Labeller
from ducseg.metrics.confusion import ConfusionMatrix
from ducseg.progress import counted

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """What one pass over a data set counted.

    Attributes:
        matrix: int64 (L, L), rows = truth; `ducseg.metrics.confusion.scores` makes IoUs of it. Add those of all ranks.
        num_images: how many pictures were scored.
        seconds: that it took.
    """

    matrix: NDArray[np.int64]
    num_images: int
    seconds: float


def evaluate(
    labeller: Labeller,
    dataset: SegmentationDataset,
    *,
    indices: Sequence[int] | None = None,
    progress: bool = False,
) -> Evaluation:
    """Label pictures at their own size and count against the truth.

    Args:
        labeller: a `Predictor`, or anything around one.
        indices: which pictures, such as one rank's share; None: all.
        progress: draw a bar on a terminal.

    Raises:
        UserError: classes that differ from the model's, no picture, a picture without label or with a value that is no
            class.
    """
    model = labeller.model.classes
    if model.names != dataset.classes.names:
        raise explain(
            "data set",
            found=f"{len(dataset.classes)} classes ({', '.join(dataset.classes.names[:4])}, ...)",
            needed=f"the model's {len(model)} ({', '.join(model.names[:4])}, ...)",
            fix="Score with the data set that the model was trained for.",
        )
    chosen = range(len(dataset)) if indices is None else indices
    if indices is None and not chosen:
        raise explain("data set", found="no picture", needed="at least one", fix="Check the folder and the split.")
    counts, scored, began = ConfusionMatrix(len(model)), 0, time.monotonic()
    with counted("scored") as show:
        for index in chosen:
            sample = dataset[index]
            if sample.label is None:
                raise explain(
                    f"sample {sample.id}", found="no label", needed="one to score", fix="Use a labelled split."
                )
            counts.update(sample.label, labeller(sample.image), name=sample.id)
            scored += 1
            if progress:
                show(scored, len(chosen))
    assert scored == len(chosen), (scored, len(chosen))
    return Evaluation(counts.matrix, scored, time.monotonic() - began)
