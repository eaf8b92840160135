"""Which data set a checkpoint was trained on, as training recorded it."""

import json
from pathlib import Path
from typing import Any

from ducseg.data.config import DataConfig
from ducseg.errors import explain
from ducseg.weights.checkpoint import checkpoint_folder

__all__ = ["trained_on"]


def trained_on(checkpoint: str | Path) -> DataConfig:
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
