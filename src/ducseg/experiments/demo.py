"""`ducseg demo`: street scenes, the bilinear baseline and DUC under one budget, scores, a report."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from rich.console import Console

import ducseg
from ducseg.data.layouts.cityscapes import Cityscapes
from ducseg.data.loading import SegmentationDataset
from ducseg.data.synthetic.cityscapes import write_cityscapes
from ducseg.errors import explain
from ducseg.experiments.synthetic import synthetic_bilinear, synthetic_duc
from ducseg.figures.curves import draw_curves
from ducseg.figures.gridding import draw_gridding
from ducseg.figures.panels import draw_panels
from ducseg.figures.report import Section, paragraph, picture, table, write_report
from ducseg.inference.evaluate import evaluate
from ducseg.metrics.confusion import scores, to_json
from ducseg.progress import counted
from ducseg.train.config import Config
from ducseg.train.loop import train

__all__ = ["THIN_CLASSES", "run_demo"]

THIN_CLASSES = ("pole", "traffic light", "traffic sign", "person", "rider", "bicycle", "motorcycle", "fence")
"""The classes that are a few pixels wide: what DUC is about (paper section 3.1)."""

_MARK = "made-by-ducseg-demo"


@dataclass(frozen=True)
class _Result:
    config: Config
    scores: dict[str, Any]
    seconds: float
    run: Path


def run_demo(out: Path, *, seed: int = 0, console: Console | None = None) -> Path:
    """Make scenes in `out/scenes`, train into `out/bilinear` and `out/duc`, score both, write `out/report.html`.

    Args:
        out: replaced if an earlier demo made it.
        seed: of the scenes, the weights and the order of the pictures.
        console: where progress is shown; None: standard output.

    Returns:
        The report's path.

    Raises:
        UserError: `out` holds something else than an earlier demo.
    """
    console = console or Console()
    _open_folder(out)
    data = _make_scenes(out / "scenes", seed, console)
    results = {name: _run(name, make, data, out, seed, console) for name, make in _HEADS.items()}
    (out / "scores.json").write_text(
        json.dumps({name: to_json(result.scores) for name, result in results.items()}, indent=1) + "\n",
        encoding="utf-8",
    )
    return _report(out, results, seed)


_HEADS: dict[str, Callable[[], Config]] = {"bilinear": synthetic_bilinear, "duc": synthetic_duc}


def _open_folder(out: Path) -> None:
    if out.exists() and any(out.iterdir()):
        if not (out / _MARK).is_file():
            raise explain(
                f"demo folder {out}",
                found="other files in it",
                needed="a new or empty folder",
                fix="Choose another --out.",
            )
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARK).touch()


def _make_scenes(root: Path, seed: int, console: Console) -> Path:
    config = synthetic_duc().data
    train_count, val_count = config.synthetic_scenes
    height, width = config.synthetic_size
    console.print(f"making {train_count} + {val_count} street scenes of {height}x{width} pixels", highlight=False)
    with counted("scenes") as progress:
        write_cityscapes(
            root, num_train=train_count, num_val=val_count, height=height, width=width, seed=seed, num_workers=2,
            progress=progress,
        )  # fmt: skip
    return root


def _run(name: str, make: Callable[[], Config], data: Path, out: Path, seed: int, console: Console) -> _Result:
    base = make()
    config = replace(
        base,
        data=replace(base.data, dataset="cityscapes", root=str(data)),
        run=replace(base.run, seed=seed),
    )
    began = monotonic()
    train(config, out / name, command="ducseg demo", console=console)
    seconds = monotonic() - began
    predictor = ducseg.load(out / name / "last")
    found = scores(evaluate(predictor, Cityscapes(data, "val")).matrix, predictor.model.classes)
    return _Result(config, found, seconds, out / name)


# -- the report -------------------------------------------------------------------------------------------------------


def _report(out: Path, results: dict[str, _Result], seed: int) -> Path:
    pictures = out / "pictures"
    pictures.mkdir()
    dataset = Cityscapes(out / "scenes", "val")
    _draw(pictures, results, dataset)
    baseline, duc = results["bilinear"].scores, results["duc"].scores
    sections = [
        Section("What was found", (paragraph(_verdict(baseline, duc)), _class_table(baseline, duc))),
        Section(
            "Side by side",
            (picture(pictures / "panels.png", "Image, truth, bilinear baseline, DUC, as in the paper's Figure 3."),),
        ),
        Section("Curves", (picture(pictures / "curves.png", "Training loss and validation mean IoU of both heads."),)),
        Section(
            "Gridding, and what HDC does about it",
            (
                paragraph(
                    "Pixels (blue) that reach the centre (red) through three layers, as in the paper's Figure 2: rate "
                    "2 everywhere leaves holes, 1, 2, 3 does not. Both networks above use HDC."
                ),
                picture(pictures / "gridding-222.png", "Rates 2, 2, 2."),
                picture(pictures / "gridding-123.png", "Rates 1, 2, 3."),
            ),
        ),
        Section("Settings", (_settings_table(results, seed),)),
    ]
    lead = (
        f"Two networks, the same encoder, scenes and budget; only the head differs. Mean IoU on {len(dataset)} unseen "
        f"scenes: bilinear upsampling {baseline['mean_iou']:.1%}, DUC {duc['mean_iou']:.1%}."
    )
    return write_report(out / "report.html", "Dense upsampling convolution on street scenes", lead, sections)


def _verdict(baseline: dict[str, Any], duc: dict[str, Any]) -> str:
    gains = _gains(baseline, duc)
    thin = [gain for name, gain in gains.items() if name in THIN_CLASSES]
    rest = [gain for name, gain in gains.items() if name not in THIN_CLASSES]
    better = sum(gain > 0 for gain in thin)
    return (
        f"In this run DUC changes the mean IoU of the {len(thin)} thin classes by {100 * np.mean(thin):+.1f} points "
        f"({better} of {len(thin)} are better) and that of the {len(rest)} others by "
        f"{100 * np.mean(rest):+.1f} points. One run of a few minutes on drawn scenes: differences of a point or two "
        "are within the noise of the seed."
    )


def _gains(baseline: dict[str, Any], duc: dict[str, Any]) -> dict[str, float]:
    gains = {name: duc["classes"][name]["iou"] - entry["iou"] for name, entry in baseline["classes"].items()}
    return {name: gain for name, gain in gains.items() if gain == gain}


def _class_table(baseline: dict[str, Any], duc: dict[str, Any]) -> str:
    gains = _gains(baseline, duc)
    thin = [name for name in gains if name in THIN_CLASSES]
    names = [*thin, *(name for name in gains if name not in THIN_CLASSES)]
    rows = [_row(name, baseline["classes"][name]["iou"], duc["classes"][name]["iou"]) for name in names]
    rows.append(_row("mean IoU", baseline["mean_iou"], duc["mean_iou"]))
    rows.append(_row("pixel accuracy", baseline["pixel_accuracy"], duc["pixel_accuracy"]))
    strong = (*range(len(thin)), len(names))
    header = ("IoU (thin classes first)", "bilinear", "DUC", "difference, points")
    return table(header, rows, strong=strong)


def _row(name: str, baseline: float, duc: float) -> tuple[str, ...]:
    return name, f"{baseline:.1%}", f"{duc:.1%}", f"{100 * (duc - baseline):+.1f}"


def _settings_table(results: dict[str, _Result], seed: int) -> str:
    rows = []
    config = results["duc"].config
    height, width = config.data.synthetic_size
    rows.append(("scenes", f"{config.data.synthetic_scenes[0]} + {config.data.synthetic_scenes[1]}, {height}x{width}"))
    model, optimizer = config.model, config.optimizer
    rows.append(("encoder", f"{model.encoder}, width {model.width}, output stride {model.output_stride}, from scratch"))
    rows.append(("dilation", f"HDC {model.dilation!r}"))
    rows.append(("optimizer", f"SGD, rate {optimizer.learning_rate}, poly; class weights in the loss"))
    for name, result in results.items():
        rows.append((f"rate of the head, {name}", f"x{result.config.optimizer.head_learning_rate_factor:g}"))
    rows.append(("budget", f"{optimizer.epochs} epochs, batch {optimizer.batch_size}, the same for both heads"))
    rows.append(("seed", str(seed)))
    rows += [(f"time, {name}", f"{result.seconds:.0f} s") for name, result in results.items()]
    return table(("setting", "value"), rows)


def _draw(folder: Path, results: dict[str, _Result], dataset: SegmentationDataset) -> None:
    predictors = [ducseg.load(result.run / "last") for result in results.values()]
    rows = []
    for index in _telling_scenes(dataset):
        sample = dataset[index]
        assert sample.label is not None
        rows.append([sample.image, sample.label, *(predictor(sample.image) for predictor in predictors)])
    draw_panels(rows, folder / "panels.png", ("image", "truth", "bilinear baseline", "DUC"), dataset.classes)
    draw_curves({name: result.run / "log.jsonl" for name, result in results.items()}, folder / "curves.png")
    draw_gridding((2, 2, 2), folder / "gridding-222.png")
    draw_gridding((1, 2, 3), folder / "gridding-123.png")


def _telling_scenes(dataset: SegmentationDataset, count: int = 4) -> list[int]:
    """The scenes with the most pixels of thin classes: chosen by the truth, not by who predicts them better."""
    thin = [dataset.classes.names.index(name) for name in THIN_CLASSES]
    labels = (dataset[index].label for index in range(len(dataset)))
    pixels = [0 if label is None else int(np.isin(label, thin).sum()) for label in labels]
    return sorted(np.argsort(pixels)[::-1][:count].tolist())
