"""What `ducseg eval` and `ducseg predict` do, between the command line and the library."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

import ducseg
from ducseg.data.config import DataConfig
from ducseg.data.layouts.kitti_road import KittiRoad
from ducseg.data.layouts.opening import open_dataset
from ducseg.data.paired import SegmentationDataset
from ducseg.devices import pick_device
from ducseg.errors import explain
from ducseg.figures.panels import draw_panels
from ducseg.inference.evaluate import evaluate
from ducseg.inference.kitti_submission import evaluate_kitti_road
from ducseg.inference.predict_files import Kind, PredictReport, predict_files
from ducseg.inference.predictor import Labeller
from ducseg.inference.refine import CrfLabeller, crf_settings
from ducseg.metrics.boundary import BoundaryCounts, add_boundary
from ducseg.metrics.confusion import format_table, scores, write_json
from ducseg.metrics.kitti_road import format_road_table, road_scores
from ducseg.weights.checkpoint import checkpoint_folder

__all__ = ["evaluate_checkpoint", "open_labeller", "predict_inputs", "print_report", "trained_on"]


def evaluate_checkpoint(
    checkpoint: Path,
    *,
    split: str | None,
    scales: tuple[float, ...],
    flip: bool,
    data_root: Path | None,
    device: str,
    crf: tuple[Path, ...] | None,
    json_path: Path | None,
    panels_path: Path | None,
) -> int:
    """Score a checkpoint on a split of the data set it was trained on; prints the table; exit status 0.

    Raises:
        UserError: no checkpoint, no data, classes that differ, CRF settings that do not read.
    """
    labeller = open_labeller(checkpoint, scales=scales, flip=flip, device=device, crf=crf)
    data = trained_on(checkpoint)
    if data_root is not None:
        data = replace(data, root=str(data_root))
    dataset = open_dataset(data, split or data.val_split)
    boundary = BoundaryCounts(len(dataset.classes))
    found = scores(evaluate(labeller, dataset, boundary=boundary, progress=True).matrix, dataset.classes)
    add_boundary(found, boundary.scores(dataset.classes))
    Console().print(format_table(found))
    if isinstance(dataset, KittiRoad):
        road = road_scores(evaluate_kitti_road(labeller, dataset))
        Console().print(format_road_table(road))
        found |= road
    if json_path is not None:
        write_json(json_path, found)
    if panels_path is not None:
        _draw_panels(labeller, dataset, panels_path)
    return 0


def open_labeller(
    checkpoint: str | Path, *, scales: tuple[float, ...], flip: bool, device: str, crf: tuple[Path, ...] | None
) -> Labeller:
    """The predictor of a checkpoint; with `crf`, followed by the dense CRF: () the paper's, (FILE,) a file's settings.

    Raises:
        UserError: no checkpoint, CRF settings that do not read.
    """
    settings = None if crf is None else crf_settings(crf)
    predictor = ducseg.load(checkpoint, device=str(pick_device(device, 0)), scales=scales, flip=flip)
    return predictor if settings is None else CrfLabeller(predictor, *settings)


def _draw_panels(labeller: Labeller, dataset: SegmentationDataset, path: Path, *, count: int = 4) -> None:
    """Picture, truth and prediction of pictures spread evenly over the data set."""
    rows = []
    number = min(count, len(dataset))
    for position in range(number):
        sample = dataset[(2 * position + 1) * len(dataset) // (2 * number)]
        assert sample.label is not None, "evaluate has refused this"
        rows.append([sample.image, sample.label, labeller(sample.image)])
    draw_panels(rows, path, ("image", "truth", "prediction"), dataset.classes)


def trained_on(checkpoint: Path) -> DataConfig:
    """The data configuration that training recorded in a checkpoint's `model.json`.

    Raises:
        UserError: the checkpoint was not written by training.
    """
    folder = checkpoint_folder(checkpoint)
    recorded: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    try:
        values = dict(recorded["extra"]["config"]["data"])
    except KeyError:
        raise explain(
            f"checkpoint {folder}",
            found="no data set recorded in its model.json",
            needed="a checkpoint that `ducseg train` wrote",
            fix="Score its predictions with the library: ducseg.inference.evaluate.evaluate(predictor, dataset).",
        ) from None
    return DataConfig(**{key: _tuples(value) for key, value in values.items()})


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that a configuration holds."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def predict_inputs(
    checkpoint: str,
    inputs: tuple[str, ...],
    out: Path,
    *,
    kinds: tuple[Kind, ...],
    scales: tuple[float, ...],
    flip: bool,
    device: str,
    crf: tuple[Path, ...] | None,
) -> int:
    """Predict files, folders and globs into `out`; exit status 1 where a file could not be read, else 0.

    Raises:
        UserError: no checkpoint, nothing that matches the inputs, CRF settings that do not read.
    """
    labeller = open_labeller(checkpoint, scales=scales, flip=flip, device=device, crf=crf)
    return print_report(predict_files(labeller, inputs, out, kinds=kinds), out, "predicted")


def print_report(report: PredictReport, out: Path, done: str) -> int:
    """Say what came of each picture; the exit status: 1 where one failed."""
    print(f"{len(report.written)} of {len(report.written) + len(report.failed)} pictures {done} into {out}")
    for name, message in report.failed:
        print(f"not {done}: {name}: {message}")
    return 1 if report.failed else 0
