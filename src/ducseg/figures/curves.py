"""Training curves of one or several runs, from their log.jsonl."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ducseg.errors import explain
from ducseg.figures.plots import RUN_COLOURS, as_letters, as_pixels, save_figure
from ducseg.files import parse_json

__all__ = ["Curves", "curve_pictures", "draw_curves"]


@dataclass(frozen=True, kw_only=True)
class Curves:
    """One run in numbers.

    Attributes:
        step, loss, learning_rate: (n,) of the optimizer steps; batches without a valid pixel are left out.
        scored_step, mean_iou: (m,) of the evaluations, mean IoU as a fraction; undefined ones are left out.
    """

    step: NDArray[np.float64]
    loss: NDArray[np.float64]
    learning_rate: NDArray[np.float64]
    scored_step: NDArray[np.float64]
    mean_iou: NDArray[np.float64]

    @classmethod
    def read(cls, log: Path) -> Self:
        """From a log.jsonl, also of a run that is still going; `UserError` where it is missing or holds no step."""
        lines = _lines(log)
        steps = [line for line in lines if line["kind"] == "step" and line.get("valid_pixels", 1) > 0]
        scored = [line for line in lines if line["kind"] == "evaluation" and line["mean_iou"] is not None]
        if not steps:
            raise explain(
                f"log {log}", found="no training step", needed="the log.jsonl of a run", fix="Check the path."
            )
        return cls(
            step=_column(steps, "step"),
            loss=_column(steps, "loss"),
            learning_rate=_column(steps, "learning_rate"),
            scored_step=_column(scored, "step"),
            mean_iou=_column(scored, "mean_iou"),
        )


def draw_curves(runs: Mapping[str, Path | Curves], path: Path) -> Path:
    """Draw training loss, validation mean IoU and learning rate of runs over their steps, in one figure.

    The loss is smoothed over 2 % of the steps, with the raw values behind, on a logarithmic axis.

    Args:
        runs: name of each run, and its log.jsonl or its numbers.
        path: a file with a suffix that matplotlib writes; replaced.

    Raises:
        UserError: no run; a log that is missing or holds no step.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.8), layout="constrained", dpi=150)
    panels = figure.subplots(1, len(_PANELS), width_ratios=(5, 5, 3), sharex=True)
    curves = _read(runs)
    for axes, draw in zip(panels, _PANELS):
        draw(axes, curves)
    return save_figure(figure, path)


def curve_pictures(runs: Mapping[str, Path | Curves]) -> list[NDArray[np.uint8]]:
    """The same, each in a picture of its own, RGB (H, W, 3), readable at the width of a telephone."""
    from matplotlib.figure import Figure

    curves, pictures = _read(runs), []
    for draw in _PANELS:
        figure = Figure(figsize=(3.8, 3.2), layout="constrained", dpi=180)
        draw(figure.subplots(), curves)
        pictures.append(as_pixels(figure))
    return pictures


def _read(runs: Mapping[str, Path | Curves]) -> dict[str, Curves]:
    if not runs:
        raise explain("curves", found="no run", needed="at least one", fix="Name a run folder's log.jsonl.")
    return {name: run if isinstance(run, Curves) else Curves.read(run) for name, run in runs.items()}


def _draw_loss(axes: Any, curves: Mapping[str, Curves]) -> None:
    from matplotlib.ticker import LogLocator

    for index, (name, run) in enumerate(curves.items()):
        axes.plot(run.step, run.loss, color=_colour(index), alpha=0.2, linewidth=0.6)
        axes.plot(run.step, _smooth(run.loss), color=_colour(index), label=as_letters(name))
    _finish(axes, "training loss")
    axes.set_yscale("log")  # a spike at the start must not flatten the rest
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.legend(fontsize=8)


def _draw_score(axes: Any, curves: Mapping[str, Curves]) -> None:
    for index, (name, run) in enumerate(curves.items()):
        best = f", best {100 * run.mean_iou.max():.1f}" if run.mean_iou.size else ""
        axes.plot(
            run.scored_step, 100 * run.mean_iou, color=_colour(index), marker="osD^v"[index % 5], markersize=4,
            label=as_letters(f"{name}{best}"),
        )  # fmt: skip
    _finish(axes, "validation mean IoU, %")
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower right", fontsize=8)


def _draw_rate(axes: Any, curves: Mapping[str, Curves]) -> None:
    for index, run in enumerate(curves.values()):  # equal schedules lie on each other: the later ones are dashed
        style = "-" if index == 0 else (0, (4, 2 * index))
        axes.plot(run.step, run.learning_rate, color=_colour(index), linestyle=style)
    _finish(axes, "learning rate")
    axes.set_ylim(bottom=0)


_PANELS = (_draw_loss, _draw_score, _draw_rate)


def _finish(axes: Any, title: str) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_xlabel("optimizer step")
    axes.locator_params(axis="x", nbins=5)
    axes.grid(alpha=0.3)


def _colour(index: int) -> str:
    return RUN_COLOURS[index % len(RUN_COLOURS)]


def _lines(log: Path) -> list[dict[str, Any]]:
    lines = []
    for text in log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []:
        try:
            lines.append(parse_json(text))
        except ValueError:  # the line that is being written, or that a kill cut short
            continue
    return lines


def _column(lines: list[dict[str, Any]], key: str) -> NDArray[np.float64]:
    return np.array([line[key] for line in lines], dtype=np.float64)


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the steps before and after, as far as they exist."""
    half = max(1, len(values) // 100)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    positions = np.arange(len(values))
    first, last = np.maximum(positions - half, 0), np.minimum(positions + half + 1, len(values))
    return np.asarray((sums[last] - sums[first]) / (last - first))
