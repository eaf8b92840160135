"""Score a labeller on a data set: every picture once and whole, counts in int64."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import ClassSet
from ducseg.data.paired import SegmentationDataset
from ducseg.data.sample import Sample
from ducseg.errors import explain
from ducseg.inference.labeller import Labeller, each
from ducseg.inference.memory import that_fits
from ducseg.inference.read_ahead import equal_batches, read_ahead
from ducseg.inference.road import RoadEvaluation
from ducseg.metrics.boundary import BoundaryCounts, add_boundary
from ducseg.metrics.confusion import ConfusionMatrix, scores
from ducseg.metrics.intervals import intervals, overlap
from ducseg.metrics.thin import ThinCounts
from ducseg.progress import counted

__all__ = ["Evaluation", "evaluate", "evaluate_all_scores"]

_KEPT = 1 << 27  # bytes of predictions: of a few large pictures, or of all of a small set, none is labelled twice


@dataclass(frozen=True)
class Evaluation:
    """What one pass over a data set counted.

    Attributes:
        matrix: int64 (L, L), rows = truth; `ducseg.metrics.confusion.scores` makes IoUs of it. Add those of all ranks.
        picture_iou: index of each picture -> its own mean IoU over the classes in it, NaN without any: which pictures
            to look at, never to be averaged.
        seconds: that it took.
        labels: index -> what was predicted, of the first pictures, as many as were to be kept.
        overlaps: id of each picture -> its counts, as `ducseg.metrics.intervals.overlap` has them.
    """

    matrix: NDArray[np.int64]
    picture_iou: dict[int, float]
    seconds: float
    labels: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    overlaps: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    @property
    def num_images(self) -> int:
        """How many pictures were scored."""
        return len(self.picture_iou)


def evaluate(
    labeller: Labeller,
    dataset: SegmentationDataset,
    *,
    indices: Sequence[int] | None = None,
    boundary: BoundaryCounts | None = None,
    road: RoadEvaluation | None = None,
    thin: ThinCounts | None = None,
    batch_size: int = 1,
    progress: bool = False,
    keep: int | None = 0,
) -> Evaluation:
    """Label pictures at their own size and count against the truth; the next ones are read meanwhile, in threads.

    What would not fit in memory whole is labelled in windows, which a warning says.

    Args:
        labeller: a `Predictor`, or anything around one.
        indices: which pictures, such as one rank's share; None: all.
        boundary: counts of the Boundary IoU to add to in the same pass; None: not counted.
        road: counts of KITTI road's scores to add to in the same pass; None: not counted.
        thin: counts of the scores of thin objects, with probabilities where there are two classes; None: not counted.
        batch_size: so many pictures of one size, where they follow each other, go through the network at once.
        progress: draw a bar on a terminal.
        keep: so many of the first predictions; None: what 128 MB hold of them.

    Raises:
        UserError: classes that differ from the model's, no picture, a picture without label or with a value that is no
            class.
    """
    _check_classes(labeller.classes, dataset.classes)
    chosen = range(len(dataset)) if indices is None else indices
    assert len(set(chosen)) == len(chosen), "a picture would count twice"
    if indices is None and not chosen:
        raise explain("data set", found="no picture", needed="at least one", fix="Check the folder and the split.")
    total, picture_iou, began = ConfusionMatrix(len(dataset.classes)), dict[int, float](), time.monotonic()
    ranked = thin is not None and len(dataset.classes) == 2
    kept, room, overlaps = dict[int, NDArray[np.uint8]](), _KEPT, dict[str, NDArray[np.int64]]()

    def labelled() -> Iterator[tuple[int, Sample]]:
        for index, read in read_ahead(dataset.__getitem__, chosen, ahead=max(2, batch_size)):
            sample = read()
            if sample.label is None:
                raise explain(
                    f"sample {sample.id}", found="no label", needed="one to score", fix="Use a labelled split."
                )
            yield index, sample

    with counted("scored") if progress else nullcontext() as show:
        for batch in equal_batches(labelled(), lambda item: item[1].image.shape, batch_size):
            needs_probabilities = ranked or road is not None
            fitting = that_fits(labeller, batch[0][1].size)
            found = each(fitting, [sample.image for _, sample in batch], probabilities=needs_probabilities)
            for (index, sample), one in zip(batch, found):
                assert sample.label is not None
                prediction = one.argmax(0).astype(np.uint8) if needs_probabilities else one
                counts = ConfusionMatrix(len(dataset.classes))
                counts.update(sample.label, prediction, name=sample.id)
                total.merge(counts)
                overlaps[sample.id] = overlap(counts.matrix)
                picture_iou[index] = scores(counts.matrix, dataset.classes)["mean_iou"]
                if prediction.nbytes <= room if keep is None else len(kept) < keep:
                    kept[index], room = prediction, room - prediction.nbytes
                if road is not None:
                    road.update(index, sample, one)
                if boundary is not None:
                    boundary.update(sample.label, prediction)
                if thin is not None:
                    thin.add(sample.label, prediction, one if ranked else None, name=sample.id)
                if show is not None:
                    show(len(picture_iou), len(chosen))
    return Evaluation(total.matrix, picture_iou, time.monotonic() - began, kept, overlaps)


def evaluate_all_scores(
    labeller: Labeller,
    dataset: SegmentationDataset,
    *,
    road: RoadEvaluation | None = None,
    thin: ThinCounts | None = None,
    group: Callable[[str], str] = str,
    batch_size: int = 1,
    progress: bool = False,
) -> tuple[Evaluation, dict[str, Any]]:
    """What `ducseg eval --json` writes of a data set, KITTI road's scores aside, from one pass.

    Args:
        group: name of a picture -> what it belongs to, for `ducseg.metrics.intervals`; the others as in `evaluate`.

    Returns:
        The counts, and the scores of `ducseg.metrics.confusion.scores` with the Boundary IoU, of several pictures with
        "intervals" (`ducseg.metrics.intervals`), and with those of thin objects as "thin" where they are counted.

    Raises:
        UserError: as `evaluate`.
    """
    boundary = BoundaryCounts(len(dataset.classes))
    evaluation = evaluate(
        labeller, dataset, boundary=boundary, road=road, thin=thin, batch_size=batch_size, progress=progress, keep=None
    )
    found = scores(evaluation.matrix, dataset.classes)
    add_boundary(found, boundary.scores(dataset.classes))
    if (bounds := intervals(evaluation.overlaps, dataset.classes, group=group)) is not None:
        found["intervals"] = bounds
    return evaluation, found if thin is None else found | {"thin": thin.scores(dataset.classes)}


def _check_classes(model: ClassSet, data: ClassSet) -> None:
    if model.names == data.names:
        return
    pairs = zip_longest(data.names, model.names, fillvalue="missing")
    index, (here, there) = next((index, pair) for index, pair in enumerate(pairs) if pair[0] != pair[1])
    raise explain(
        "data set",
        found=f"{len(data)} classes ({', '.join(data.names[:4])}, ...), where class {index} is {here}",
        needed=f"the model's {len(model)} ({', '.join(model.names[:4])}, ...), where class {index} is {there}",
        fix="Score with the data set that the model was trained for.",
    )
