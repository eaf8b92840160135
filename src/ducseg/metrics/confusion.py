"""Stop-gap until the owner's version lands."""
import json
from pathlib import Path
from typing import Any
import numpy as np

def scores(matrix: Any, classes: Any) -> dict[str, Any]:
    diagonal = np.diag(matrix)
    union = matrix.sum(0) + matrix.sum(1) - diagonal
    with np.errstate(all="ignore"):
        iou = np.where(union > 0, diagonal / np.maximum(union, 1), np.nan)
    return {"mean_iou": float(np.nanmean(iou)), "pixel_accuracy": float(diagonal.sum() / matrix.sum()),
            "classes": {n: {"iou": float(v)} for n, v in zip(classes.names, iou)}}

def format_table(found: dict[str, Any]) -> Any:
    return "\n".join(f"{k:20s} {v['iou']:.4f}" for k, v in found["classes"].items()) + f"\nmean IoU {found['mean_iou']:.4f}"

def to_json(found: Any) -> Any:
    if isinstance(found, dict):
        return {k: to_json(v) for k, v in found.items()}
    return None if isinstance(found, float) and found != found else found

def write_json(path: Path, found: dict[str, Any]) -> None:
    path.write_text(json.dumps(to_json(found)))
