"""Training curves from the log.jsonl of one or several runs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ducseg.errors import explain

__all__ = ["draw_curves"]


def draw_curves(logs: Mapping[str, Path], path: Path) -> Path:
    """Draw training loss (smoothed over 2 % of the steps, raw values behind) and validation mean IoU against the step.

    Args:
        logs: name of each run and its log.jsonl (lines of kind "step" with loss, of kind "evaluation" with mean_iou).
        path: a file with a suffix that matplotlib writes; replaced.

    Raises:
        UserError: a log that is missing or holds no step.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained", dpi=150)
    loss_axes, score_axes = figure.subplots(1, 2)
    heights = []  # the first steps of a run may overshoot what is worth showing
    for index, (name, log) in enumerate(logs.items()):
        lines, colour = _read(log), f"C{index}"
        steps = [line for line in lines if line["kind"] == "step"]
        numbers, losses = np.array([line["step"] for line in steps]), np.array([line["loss"] for line in steps])
        loss_axes.plot(numbers, losses, color=colour, alpha=0.2, linewidth=0.6)
        loss_axes.plot(numbers, _smooth(losses), color=colour, label=name)
        heights.append(float(np.quantile(losses, 0.98)))
        scored = [line for line in lines if line["kind"] == "evaluation"]
        points = [line["step"] for line in scored], [100 * line["mean_iou"] for line in scored]
        score_axes.plot(*points, color=colour, marker="o", markersize=4, label=name)
    for axes, title in ((loss_axes, "training loss"), (score_axes, "validation mean IoU, %")):
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("optimizer step")
        axes.grid(alpha=0.3)
        axes.legend()
    loss_axes.set_ylim(0, 1.1 * max(heights))
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    figure.savefig(temporary)
    return temporary.replace(path)


def _read(log: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.is_file() else []
    if not any(line["kind"] == "step" for line in lines):
        raise explain(f"log {log}", found="no training step", needed="the log.jsonl of a run", fix="Check the path.")
    return lines


def _smooth(values: "np.ndarray[Any, np.dtype[np.float64]]") -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Mean over the steps before and after, as far as they exist."""
    half = max(1, len(values) // 100)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    last, first = (
        np.minimum(np.arange(len(values)) + half + 1, len(values)),
        np.maximum(np.arange(len(values)) - half, 0),
    )
    return np.asarray((sums[last] - sums[first]) / (last - first))
