"""The report of `ducseg demo`, from its results: what was found, side by side, curves, gridding, settings."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.data.paired import SegmentationDataset
from ducseg.figures.curves import draw_curves
from ducseg.figures.gridding import draw_gridding
from ducseg.figures.page import Section, paragraph, picture, table, write_page
from ducseg.figures.panels import draw_panels

__all__ = ["THIN_CLASSES", "Result", "write_demo_report"]

THIN_CLASSES = ("pole", "traffic light", "traffic sign", "person", "rider", "bicycle", "motorcycle", "fence")
"""The classes that are a few pixels wide: what DUC is about (paper section 3.1)."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of one head.

    Attributes:
        config: the run's configuration.
        scores: as `ducseg.metrics.confusion.scores` gives them.
        seconds: of training.
        log: log.jsonl of the run.
        predictor: picture to labels.
    """

    config: Any
    scores: dict[str, Any]
    seconds: float
    log: Path
    predictor: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


def write_demo_report(out: Path, results: dict[str, Result], dataset: SegmentationDataset) -> Path:
    """Draw into `out/pictures` and write `out/report.html`; returns its path.

    Args:
        results: of "bilinear" and of "duc".
        dataset: the unseen scenes.
    """
    pictures = out / "pictures"
    pictures.mkdir()
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
        Section("Settings", (_settings_table(results),)),
    ]
    lead = (
        f"Two networks, the same encoder, scenes and budget; only the head differs. Mean IoU on {len(dataset)} unseen "
        f"scenes: bilinear upsampling {baseline['mean_iou']:.1%}, DUC {duc['mean_iou']:.1%}."
    )
    return write_page(out / "report.html", "Dense upsampling convolution on street scenes", lead, sections)


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


def _settings_table(results: dict[str, Result]) -> str:
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
    rows.append(("seed", str(config.run.seed)))
    rows += [(f"time, {name}", f"{result.seconds:.0f} s") for name, result in results.items()]
    return table(("setting", "value"), rows)


def _draw(folder: Path, results: dict[str, Result], dataset: SegmentationDataset) -> None:
    rows = []
    for index in _telling_scenes(dataset):
        sample = dataset[index]
        assert sample.label is not None
        rows.append([sample.image, sample.label, *(result.predictor(sample.image) for result in results.values())])
    draw_panels(rows, folder / "panels.png", ("image", "truth", "bilinear baseline", "DUC"), dataset.classes)
    draw_curves({name: result.log for name, result in results.items()}, folder / "curves.png")
    draw_gridding((2, 2, 2), folder / "gridding-222.png")
    draw_gridding((1, 2, 3), folder / "gridding-123.png")


def _telling_scenes(dataset: SegmentationDataset, count: int = 4) -> list[int]:
    """The scenes with the most pixels of thin classes: chosen by the truth, not by who predicts them better."""
    thin = [dataset.classes.names.index(name) for name in THIN_CLASSES]
    labels = (dataset[index].label for index in range(len(dataset)))
    pixels = [0 if label is None else int(np.isin(label, thin).sum()) for label in labels]
    return sorted(np.argsort(pixels)[::-1][:count].tolist())
