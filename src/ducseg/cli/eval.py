"""`ducseg eval`: the scores of a checkpoint on the data set that it was trained for."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ducseg.cli.options import Batch, DataRoot, File, PerPicture, RefinedNetwork, Thin, print_scores
from ducseg.errors import explain

if TYPE_CHECKING:
    from ducseg.classes import ClassSet
    from ducseg.data.paired import SegmentationDataset
    from ducseg.inference.evaluate import Evaluation
    from ducseg.inference.labeller import Labeller

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(DataRoot, Batch, RefinedNetwork, PerPicture, Thin):
    """Score a checkpoint on its data set: per-class IoU, mean IoU, pixel accuracy."""

    against: str | None = None
    """Another checkpoint or exported file, scored on the same pictures: by how much this one is better, and within
    which bounds that lies."""
    json: File | None = None
    """Also write the scores there."""
    panels: File | None = None
    """Also draw picture, truth and prediction of four pictures there (PNG)."""
    store: bool = False
    """Also keep all scores, and the worst and median pictures, in RUN/evaluation/SPLIT for `ducseg report`."""


def run(options: Options) -> int:
    """Print the tables; write what was asked for."""
    from rich.console import Console

    from ducseg.data.layouts.kitti_road import KittiRoad
    from ducseg.inference.evaluate import evaluate_all_scores
    from ducseg.inference.road import RoadEvaluation
    from ducseg.inference.store import store_evaluation
    from ducseg.metrics.confusion import write_json
    from ducseg.metrics.kitti_road import format_road_table, road_scores
    from ducseg.metrics.per_picture import write_per_picture

    if options.store and options.ensemble is not None:
        needed = "one network: what is stored is one run's"
        raise explain("--store", found="--ensemble", needed=needed, fix="Leave one out; --json keeps the scores.")
    run_folder = _run_folder(options.checkpoint) if options.store else None
    dataset, split = options.opened(options.checkpoint)
    group = options.group(options.checkpoint)
    how: dict[str, Any] = {"group": group, "batch_size": options.batch_size}
    others = () if options.against is None else (options.against,)
    options.warn_of_learned((*options.checkpoints, *others), dataset)
    labeller = options.labeller()
    thin = options.thin_counts(len(dataset.classes), wanted=options.store)
    road = RoadEvaluation(labeller.classes, dataset) if isinstance(dataset, KittiRoad) else None
    other = None
    if options.against is not None:  # first: what does not fit is said at once
        rival = replace(options, checkpoint=options.against, ensemble=None).labeller()
        other = evaluate_all_scores(rival, dataset, progress=True, **how)
    evaluation, found = evaluate_all_scores(labeller, dataset, road=road, thin=thin, progress=True, **how)
    print(f"{options.checkpoint} on {split}, {evaluation.num_images} pictures:")
    print_scores(found)
    options.show(found)
    if road is not None:
        found |= (on_road := road_scores(road.counts))
        Console().print(format_road_table(on_road))
    beside = (
        {} if other is None else _compared(str(options.against), dataset.classes, group, (evaluation, found), other)
    )
    if options.json is not None:
        write_json(options.json, found | beside)
    if options.csv is not None:
        write_per_picture(options.csv, evaluation.overlaps, dataset.classes)
    if options.panels is not None:
        _draw_panels(labeller, dataset, options.panels)
    if run_folder is not None:
        about = {"checkpoint": options.checkpoint, "split": split, **options.look()}
        print(f"stored: {store_evaluation(run_folder, split, labeller, dataset, evaluation, found, about=about)}")
    return 0


def _compared(
    against: str,
    classes: "ClassSet",
    group: Callable[[str], str],
    own: "tuple[Evaluation, dict[str, Any]]",
    other: "tuple[Evaluation, dict[str, Any]]",
) -> dict[str, Any]:
    """Print by how much two networks differ; for --json, what is known of the other one."""
    from rich.console import Console

    from ducseg.metrics.intervals import differences, format_differences

    (one, found), (another, scored) = own, other
    between = differences(one.overlaps, another.overlaps, classes, group=group)
    print(f"beside {against} on the same {another.num_images} pictures:")
    Console().print(format_differences(found, scored, between))
    return {"against": {"checkpoint": against, "scores": scored, "differences": between}}


def _run_folder(checkpoint: str) -> Path:
    if (Path(checkpoint) / "config.json").is_file():
        return Path(checkpoint)
    raise explain(
        "--store",
        found=f"{checkpoint}, which is no run folder",
        needed="a run folder of `ducseg train`, with config.json",
        fix="Evaluate the run folder itself (its best checkpoint is taken), or leave --store out.",
    )


def _draw_panels(labeller: "Labeller", dataset: "SegmentationDataset", path: Path, *, count: int = 4) -> None:
    """Picture, truth and prediction of pictures spread evenly over the data set."""
    from ducseg.figures.panels import draw_panels

    rows = []
    number = min(count, len(dataset))
    for position in range(number):
        sample = dataset[(2 * position + 1) * len(dataset) // (2 * number)]
        assert sample.label is not None, "evaluate has refused this"
        rows.append([sample.image, sample.label, labeller(sample.image)])
    draw_panels(rows, path, ("image", "truth", "prediction"), dataset.classes)
