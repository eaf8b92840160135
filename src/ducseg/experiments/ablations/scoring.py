"""What is recorded of a trained row: its scores, what it is and what it was made on; and files for a server."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from ducseg.data.layouts.kitti_road import KittiRoad
from ducseg.data.layouts.opening import open_dataset
from ducseg.devices import has_bf16, pick_device
from ducseg.experiments.ablations.jobs import Job
from ducseg.experiments.ablations.rows import Row, Scoring
from ducseg.inference.bench import parameters
from ducseg.inference.evaluate import evaluate
from ducseg.inference.labeller import Labeller
from ducseg.inference.predictor import Predictor
from ducseg.inference.refine import CrfLabeller, crf_settings
from ducseg.inference.road import RoadEvaluation
from ducseg.inference.submit import SERVERS, submit
from ducseg.metrics.confusion import scores
from ducseg.metrics.kitti_road import road_scores
from ducseg.metrics.thin import ThinCounts
from ducseg.models.architecture import Architecture
from ducseg.train.config import Config
from ducseg.train.run_log import versions
from ducseg.weights.checkpoint import load_segmenter, read_model_json
from ducseg.weights.structure import sketch

__all__ = ["result_line", "row_scores", "widths_line", "write_submission"]

_ARCHIVES = {"cityscapes": ".zip", "kitti-road": ".zip", "voc2012": ".tar.gz"}


def row_scores(config: Config, checkpoint: Path, scoring: Scoring) -> dict[str, Any]:
    """Of the last step: what training's own evaluation found, or of a pass of its own; of KITTI road as "road" too.

    Raises:
        UserError: data that does not open or read.
    """
    if scoring.plain and config.data.dataset != "kitti-road":
        noted: dict[str, Any] = read_model_json(checkpoint)["metrics"]
        return noted
    labeller = _labeller(config, checkpoint, scoring)
    dataset = open_dataset(config.data, config.data.val_split)
    road = RoadEvaluation(labeller.classes, dataset) if isinstance(dataset, KittiRoad) else None
    found = scores(evaluate(labeller, dataset, road=road).matrix, dataset.classes)
    return found if road is None else found | {"road": road_scores(road.counts)}


def widths_line(job: Job, row: Row, checkpoint: Path) -> dict[str, Any]:
    """The line of results.jsonl with a row's scores of thin objects: recall by width, clDice, F1 within some pixels.

    Raises:
        UserError: data that does not open or read.
    """
    labeller = _labeller(job.config, checkpoint, row.scoring)
    dataset = open_dataset(job.config.data, job.config.data.val_split)
    thin = ThinCounts(len(dataset.classes))
    evaluate(labeller, dataset, thin=thin)
    found = thin.scores(dataset.classes)
    return {**_about(job, row), "kind": "widths", "thin": found}


def write_submission(job: Job, row: Row, checkpoint: Path, out: Path) -> str | None:
    """What the benchmark's server takes of the test split: OUT/NAME.zip and the files in OUT/NAME; where that is said.

    None for data that no server scores, or without test pictures.

    Raises:
        UserError: as `ducseg.inference.submit.submit`.
    """
    server = job.config.data.dataset
    if server not in SERVERS or not _has_test(server, Path(job.config.data.root or "")):
        return None
    folder = out / f"{job.table.name}-{row.name}-seed{job.seed}"
    archive = folder.with_name(folder.name + _ARCHIVES[server])
    labeller, root = _labeller(job.config, checkpoint, row.scoring), Path(job.config.data.root or "")
    files = submit(server, labeller, root, folder, archive=archive, progress=False)
    return f"{len(files)} results for the server in {archive}"


def _has_test(server: str, root: Path) -> bool:
    inside = {
        "cityscapes": "leftImg8bit/test/*", "kitti-road": "testing/image_2/*.png",
        "voc2012": "ImageSets/Segmentation/test.txt",
    }  # fmt: skip
    return any(root.expanduser().glob(inside[server]))


def _labeller(config: Config, checkpoint: Path, scoring: Scoring) -> Labeller:
    predictor = Predictor(
        load_segmenter(checkpoint), pick_device(config.run.device), scales=scoring.scales, flip=scoring.flip,
        bf16=config.run.eval_bf16,
    )  # fmt: skip
    if not scoring.crf:
        return predictor
    return CrfLabeller(predictor, *crf_settings(() if scoring.crf == "paper" else (Path(scoring.crf),)))


def result_line(
    job: Job, row: Row, found: dict[str, Any], checkpoint: Path, *, seconds: float, run: Path
) -> dict[str, Any]:
    """The line of results.jsonl."""
    noted = read_model_json(checkpoint)
    return {
        **_about(job, row),
        "kind": "row",
        "scores": found,
        "parameters": parameters(sketch(Architecture.from_json(noted["architecture"]))),
        "steps": noted["extra"]["step"],
        "seconds": round(seconds, 1),
        "run": run.name,
    }


def _about(job: Job, row: Row) -> dict[str, Any]:
    """What a line is of, and where it was made."""
    device = pick_device(job.config.run.device)
    imitated = job.config.run.bf16 and not has_bf16(device)
    return {
        "table": job.table.name,
        "row": row.name,
        "data": job.setting.data,
        "scale": "small" if job.setting.small else "full",
        "split": job.config.data.val_split,
        "seed": job.seed,
        "scoring": row.scoring.to_json(),
        "key": job.key,
        "device": (torch.cuda.get_device_name(device) if device.type == "cuda" else device.type)
        + " in float32" * imitated,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        **versions(),
        "made_by": job.made_by,
    }
