"""What an evaluation leaves in a run folder for `ducseg report`: scores, confusion, and pictures to look at."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ducseg.data.paired import SegmentationDataset
from ducseg.figures.evaluation_folder import Evaluated, Shown, pick_pictures, write_evaluation
from ducseg.inference.evaluate import Evaluation, evaluate_all_scores
from ducseg.inference.labeller import Labeller
from ducseg.metrics.thin import ThinCounts

__all__ = ["evaluate_and_store", "store_evaluation"]


def evaluate_and_store(
    run: Path,
    split: str,
    labeller: Labeller,
    dataset: SegmentationDataset,
    *,
    group: Callable[[str], str] = str,
    bf16: bool = False,
) -> dict[str, Any]:
    """What `ducseg eval RUN --store` does, for the end of a training: every score, kept in RUN/evaluation/SPLIT.

    Args:
        group: as in `evaluate_all_scores`.
        bf16: whether `labeller` computes in it, for the report to say.

    Returns:
        The scores of `evaluate_all_scores`, with those of thin objects.

    Raises:
        UserError: as `evaluate`; the folder is not writable or the disk is full.
    """
    thin = ThinCounts(len(dataset.classes))
    evaluation, found = evaluate_all_scores(labeller, dataset, thin=thin, group=group, progress=True)
    store_evaluation(run, split, labeller, dataset, evaluation, found, about={"split": split, "bf16": bf16})
    return found


def store_evaluation(
    run: Path,
    split: str,
    labeller: Labeller,
    dataset: SegmentationDataset,
    evaluation: Evaluation,
    scores: dict[str, Any],
    *,
    about: dict[str, Any],
) -> Path:
    """Write RUN/evaluation/SPLIT, with the worst and the median pictures, and return it.

    Args:
        evaluation: of `labeller` on `dataset`, of all pictures; those whose labels it did not keep are labelled again.
        scores: as `ducseg.metrics.confusion.scores` gives them, with those of thin objects as "thin".
        about: what was evaluated, JSON-able.

    Raises:
        UserError: the folder is not writable or the disk is full.
    """
    shown = []
    for index, kind in pick_pictures(evaluation.picture_iou):
        sample = dataset[index]
        assert sample.label is not None, "evaluate has refused this"
        shown.append(
            Shown(
                id=sample.id,
                kind=kind,
                mean_iou=evaluation.picture_iou[index],
                image=sample.image,
                truth=sample.label,
                prediction=labeller(sample.image) if (kept := evaluation.labels.get(index)) is None else kept,
            )
        )
    found = Evaluated(
        scores=scores,
        matrix=evaluation.matrix,
        classes=dataset.classes,
        picture_iou={dataset.ids[index]: iou for index, iou in evaluation.picture_iou.items()},
        overlaps=evaluation.overlaps,
        shown=tuple(shown),
        about=about,
    )
    return write_evaluation(run, split, found)
