"""`ducseg demo`: street scenes; the bilinear baseline, DUC and the pyramid on the same pictures; scores, a report."""

import shutil
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from ducseg.cli.options import Folder
from ducseg.errors import explain
from ducseg.files import write_whole

if TYPE_CHECKING:
    from ducseg.data.paired import SegmentationDataset
    from ducseg.figures.demo import Result
    from ducseg.train.config import Config

__all__ = ["Options", "run"]

_MARK = "made-by-ducseg-demo"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Make street scenes, train the bilinear baseline, DUC and the pyramid on them, write a report.

    Minutes on 2 cores.
    """

    out: Folder = Path("demo")
    """Folder for scenes, runs and report.html; an earlier demo there is replaced."""
    seed: int = 0
    """Of the scenes' split, the weights and the order of the pictures."""


def run(options: Options) -> int:
    """Make scenes in OUT/scenes, train into OUT/bilinear, duc and pyramid, score all, write OUT/report.html."""
    from ducseg.data.layouts.cityscapes import Cityscapes
    from ducseg.experiments.synthetic import synthetic_bilinear, synthetic_duc, synthetic_pyramid
    from ducseg.figures.demo import write_demo_report
    from ducseg.metrics.confusion import write_json

    out = options.out
    _open_folder(out)
    _make_scenes(synthetic_duc(), out / "scenes", options.seed)
    dataset = Cityscapes(out / "scenes", "val")
    heads = {"bilinear": synthetic_bilinear, "duc": synthetic_duc, "pyramid": synthetic_pyramid}
    results = {name: _trained(make(), out / name, dataset, options.seed) for name, make in heads.items()}
    write_json(out / "scores.json", {name: result.scores for name, result in results.items()})
    print(f"report: {write_demo_report(out, results, dataset)}")
    return 0


def _open_folder(out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        if not (out / _MARK).is_file():
            raise explain(
                f"--out {out}",
                found="other files in it" if out.is_dir() else "a file",
                needed="a new or empty folder",
                fix="Choose another --out.",
            )
        shutil.rmtree(out)
    write_whole(out / _MARK, b"")


def _make_scenes(config: "Config", root: Path, seed: int) -> None:
    from ducseg.data.synthetic.cityscapes import write_cityscapes
    from ducseg.progress import counted

    train_count, val_count = config.data.synthetic_scenes
    height, width = config.data.synthetic_size
    print(f"making {train_count} + {val_count} street scenes of {height}x{width} pixels")
    with counted("scenes") as progress:
        write_cityscapes(
            root, num_train=train_count, num_val=val_count, height=height, width=width, seed=seed, num_workers=2,
            progress=progress,
        )  # fmt: skip


def _trained(base: "Config", out: Path, dataset: "SegmentationDataset", seed: int) -> "Result":
    from ducseg.figures.demo import Result
    from ducseg.inference.evaluate import evaluate
    from ducseg.inference.predictor import Predictor
    from ducseg.metrics.confusion import scores
    from ducseg.train.loop import EXIT_PREEMPTED, train
    from ducseg.weights.checkpoint import load_segmenter

    data = replace(base.data, dataset="cityscapes", root=str(out.parent / "scenes"))
    config = replace(base, data=data, run=replace(base.run, seed=seed))
    began = monotonic()
    outcome = train(config, out, command="ducseg demo")
    if not outcome.finished:  # the next network must not start
        raise SystemExit(130 if outcome.stopped_by == signal.SIGINT else EXIT_PREEMPTED)
    seconds = monotonic() - began
    predictor = Predictor(load_segmenter(out / "last"))
    found = scores(evaluate(predictor, dataset).matrix, dataset.classes)
    return Result(config=config, scores=found, seconds=seconds, log=out / "log.jsonl", predictor=predictor)
