"""What `ducseg score kitti-road` and `ducseg predict --format kitti-road` do, between command line and library."""

from pathlib import Path

from rich.console import Console

from ducseg.cli.benchmark_commands import report_results
from ducseg.data.layouts.kitti_road import GroundTruth, KittiRoad
from ducseg.figures.precision_recall import draw_precision_recall
from ducseg.figures.road_overlay import draw_roads
from ducseg.inference.kitti_submission import road_class, write_kitti_submission
from ducseg.inference.predictor import Labeller
from ducseg.metrics.confusion import write_json
from ducseg.metrics.kitti_road import format_road_table, road_scores
from ducseg.metrics.kitti_road_files import View, count_kitti_road
from ducseg.progress import counted

__all__ = ["predict_kitti_road", "score_kitti_road_folder"]


def score_kitti_road_folder(
    pred: Path,
    gt: Path,
    *,
    calib: Path | None,
    view: View,
    subset: bool,
    workers: int,
    json_path: Path | None,
    figure_path: Path | None,
) -> int:
    """Score a folder of results: prints the table; with `figure_path`, draws precision over recall; exit status 0.

    Raises:
        UserError: as `score_kitti_road`.
    """
    with counted("scored") as progress:
        counts = count_kitti_road(
            pred, gt, calib=calib, view=view, subset=subset, num_workers=workers, progress=progress
        )
    found = road_scores(counts)
    Console().print(format_road_table(found))
    if json_path is not None:
        write_json(json_path, found)
    if figure_path is not None:
        draw_precision_recall(counts, figure_path)
    return 0


def predict_kitti_road(
    labeller: Labeller,
    root: Path,
    out: Path,
    *,
    split: str = "test",
    fold: int | None = None,
    ground_truth: GroundTruth = "road",
    archive: Path | None = None,
    figure_path: Path | None = None,
) -> int:
    """Write the results of a split for the benchmark's server, and on request its zip file and Figure 6; exit status 0.

    Args:
        root: the folder that holds training/ and testing/.
        fold: which one `val` is; None: the one that the network's training run held out, else 0.
        figure_path: PNG of up to six of the frames with the road in red.

    Raises:
        UserError: as `KittiRoad` and `write_kitti_submission`.
    """
    if fold is None:
        data = ((labeller.model.record.get("extra") or {}).get("config") or {}).get("data") or {}
        fold = int(data.get("fold", 0)) if data.get("dataset") == "kitti-road" else 0
    dataset = KittiRoad(root, split, fold=fold, ground_truth=ground_truth)
    report_results(write_kitti_submission(labeller, dataset, out, archive=archive, progress=True), out, archive)
    if figure_path is not None:
        _draw_figure(labeller, dataset, figure_path)
    return 0


def _draw_figure(labeller: Labeller, dataset: KittiRoad, path: Path, *, count: int = 6) -> None:
    """Frames spread evenly over the data set."""
    number = min(count, len(dataset))
    images = [dataset[(2 * position + 1) * len(dataset) // (2 * number)].image for position in range(number)]
    road = road_class(labeller.model.classes)
    draw_roads([(image, labeller(image) == road) for image in images], path)
