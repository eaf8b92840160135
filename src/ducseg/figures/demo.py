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


_TITLES = {"bilinear": "bilinear baseline", "duc": "DUC", "pyramid": "pyramid of DUCs"}


def write_demo_report(out: Path, results: dict[str, Result], dataset: SegmentationDataset) -> Path:
    """Draw into `out/pictures` and write `out/report.html`; returns its path.

    Args:
        results: of "bilinear", "duc" and "pyramid", in this order.
        dataset: the unseen scenes.
    """
    pictures = out / "pictures"
    pictures.mkdir()
    _draw(pictures, results, dataset)
    scores = {name: result.scores for name, result in results.items()}
    sections = [
        Section("What was found", (paragraph(_verdict(scores)), _class_table(scores))),
        Section(
            "Side by side",
            (picture(pictures / "panels.png", "Image, truth and what each finds, as in the paper's Figure 3."),),
        ),
        Section("Curves", (picture(pictures / "curves.png", "Training loss and validation mean IoU."),)),
        Section(
            "Gridding, and what HDC does about it",
            (
                paragraph(
                    "Pixels (blue) that reach the centre (red) through three layers, as in the paper's Figure 2: rate "
                    "2 everywhere leaves holes, 1, 2, 3 does not. The bilinear baseline and DUC above use HDC; the "
                    "pyramid's encoder is not dilated."
                ),
                picture(pictures / "gridding-222.png", "Rates 2, 2, 2."),
                picture(pictures / "gridding-123.png", "Rates 1, 2, 3."),
            ),
        ),
        Section("Settings", (_settings_table(results),)),
    ]
    found = ", ".join(f"{_TITLES[name]} {one['mean_iou']:.1%}" for name, one in scores.items())
    lead = (
        "The same encoder, scenes and number of pictures; what follows the encoder differs. Mean IoU on "
        f"{len(dataset)} unseen scenes: {found}."
    )
    return write_page(out / "report.html", "Dense upsampling convolution on street scenes", lead, sections)


def _verdict(scores: dict[str, dict[str, Any]]) -> str:
    said = []
    for name in list(scores)[1:]:
        gains = _gains(scores["bilinear"], scores[name])
        thin = [gain for one, gain in gains.items() if one in THIN_CLASSES]
        rest = [gain for one, gain in gains.items() if one not in THIN_CLASSES]
        said.append(
            f"Against bilinear upsampling the {_TITLES[name]} changes the mean IoU of the {len(thin)} thin classes by "
            f"{100 * np.mean(thin):+.1f} points ({sum(gain > 0 for gain in thin)} of {len(thin)} are better) and that "
            f"of the {len(rest)} others by {100 * np.mean(rest):+.1f}."
        )
    noise = "One run of a few minutes on drawn scenes: a point or two are within the noise of the seed."
    return " ".join([*said, noise])


def _gains(baseline: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    gains = {name: other["classes"][name]["iou"] - entry["iou"] for name, entry in baseline["classes"].items()}
    return {name: gain for name, gain in gains.items() if gain == gain}


def _class_table(scores: dict[str, dict[str, Any]]) -> str:
    baseline = scores["bilinear"]
    seen = [name for name in baseline["classes"] if all(name in _gains(baseline, one) for one in scores.values())]
    thin = [name for name in seen if name in THIN_CLASSES]
    names = [*thin, *(name for name in seen if name not in THIN_CLASSES)]
    rows = [_row(name, [one["classes"][name]["iou"] for one in scores.values()]) for name in names]
    rows.append(_row("mean IoU", [one["mean_iou"] for one in scores.values()]))
    rows.append(_row("pixel accuracy", [one["pixel_accuracy"] for one in scores.values()]))
    strong = (*range(len(thin)), len(names))
    return table(("IoU (thin classes first)", *(_TITLES[name] for name in scores)), rows, strong=strong)


def _row(name: str, values: list[float]) -> tuple[str, ...]:
    """The first as it is, the others with their difference to it in points."""
    return name, f"{values[0]:.1%}", *(f"{value:.1%} ({100 * (value - values[0]):+.1f})" for value in values[1:])


def _settings_table(results: dict[str, Result]) -> str:
    config = results["duc"].config
    (train, unseen), (height, width) = config.data.synthetic_scenes, config.data.synthetic_size
    rows = [
        ("scenes", f"{train} + {unseen}, {height}x{width}"),
        ("encoder", f"{config.model.encoder}, width {config.model.width}, from scratch"),
        ("budget", f"{config.optimizer.epochs} epochs, batch {config.optimizer.batch_size}, the same for all"),
        ("loss", "cross-entropy with class weights"),
        ("seed", str(config.run.seed)),
    ]
    for name, result in results.items():
        model, optimizer = result.config.model, result.config.optimizer
        dilation = "not dilated" if model.dilation == "none" else f"HDC {model.dilation!r}"
        factor = optimizer.head_learning_rate_factor
        head = "" if factor is None else f", its head x{factor:g}"
        rows.append(
            (
                _TITLES[name],
                f"output stride {model.output_stride}, {dilation}; {optimizer.name} at {optimizer.learning_rate:g}"
                f"{head}; {result.seconds:.0f} s",
            )
        )
    return table(("setting", "value"), rows)


def _draw(folder: Path, results: dict[str, Result], dataset: SegmentationDataset) -> None:
    rows = []
    for index in _telling_scenes(dataset):
        sample = dataset[index]
        assert sample.label is not None
        rows.append([sample.image, sample.label, *(result.predictor(sample.image) for result in results.values())])
    titles = ("image", "truth", *(_TITLES[name] for name in results))
    draw_panels(rows, folder / "panels.png", titles, dataset.classes)
    draw_curves({name: result.log for name, result in results.items()}, folder / "curves.png")
    draw_gridding((2, 2, 2), folder / "gridding-222.png")
    draw_gridding((1, 2, 3), folder / "gridding-123.png")


def _telling_scenes(dataset: SegmentationDataset, count: int = 4) -> list[int]:
    """The scenes with the most pixels of thin classes: chosen by the truth, not by who predicts them better."""
    thin = [dataset.classes.names.index(name) for name in THIN_CLASSES]
    labels = (dataset[index].label for index in range(len(dataset)))
    pixels = [0 if label is None else int(np.isin(label, thin).sum()) for label in labels]
    return sorted(np.argsort(pixels)[::-1][:count].tolist())
