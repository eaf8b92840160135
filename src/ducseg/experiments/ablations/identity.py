"""What a finished row was made by: two runs are the same where all that decides the numbers is.

That is every field of the configuration but places and what is only shown, the weights it starts from by content, and
the pictures by name and the labels by size. The code is not part of it: its commit is recorded beside each result.
"""

import hashlib
import json
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ducseg.data.config import DataConfig
from ducseg.data.layouts.opening import open_dataset
from ducseg.data.paired import PairedFiles
from ducseg.files import find_checkpoint
from ducseg.train.config import Config
from ducseg.train.sections import ModelConfig
from ducseg.weights.encoders import imagenet_file_at_hand

__all__ = ["differing", "identity", "key_of"]

_PLACES = {
    "data": ("root", "workers", "patches_root"),
    "model": ("weights",),
    "run": (
        "device", "threads", "log_every_steps", "tensorboard", "overlays", "keep_last", "save_every_steps",
        "eval_every_steps", "eval_every_epochs", "best_by",
    ),
}  # fmt: skip
"""Fields that decide no number: where things lie, by `_start` and `_pictures` known, and what a run shows."""


def identity(config: Config, *, start: str | None = None) -> dict[str, Any]:
    """All that decides the numbers of a configuration, JSON-able.

    Args:
        start: what names the weights that it starts from, where they are still to be trained.

    Raises:
        UserError: the data set does not open; weights that are not there.
    """
    values = json.loads(json.dumps(config.to_json()))
    kept: dict[str, Any] = {
        section: {name: value for name, value in found.items() if name not in _PLACES.get(section, ())}
        for section, found in values.items()
        if isinstance(found, dict)
    }
    return {**kept, "start": start or _start(config.model), "pictures": _pictures(config.data)}


def key_of(found: dict[str, Any]) -> str:
    """A short name of an `identity`."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:12]


def differing(now: dict[str, Any], earlier: dict[str, Any]) -> list[str]:
    """What two identities have otherwise, as options: ["--optimizer.epochs 20 (now 30)"]; [] where they are the same.

    A field that the earlier one did not have yet counts as its default.
    """
    defaults = {field.name: field.type for field in fields(Config)}
    found = []
    for section, values in now.items():
        if section not in defaults:
            if values != earlier.get(section):
                found.append(f"{section} {earlier.get(section)} (now {values})")
            continue
        before, unset = earlier.get(section, {}), _defaults(section)
        for name in {**values, **before}:
            was, value = before.get(name, unset.get(name)), values.get(name, unset.get(name))
            if was != value:
                found.append(f"--{section}.{name.replace('_', '-')} {was} (now {value})")
    return found


@cache
def _defaults(section: str) -> dict[str, Any]:
    value = getattr(Config(name=""), section)
    assert is_dataclass(value) and not isinstance(value, type)
    return {field.name: json.loads(json.dumps(getattr(value, field.name))) for field in fields(value)}


def _start(model: ModelConfig) -> str:
    """The weights by their content where they are a file, else by name."""
    if model.weights is None:
        return "scratch"
    path = Path(model.weights).expanduser()
    if path.is_dir():
        folder = find_checkpoint(path)
        return model.weights if folder is None else _digest(folder / "model.safetensors")
    if model.weights == "imagenet":
        at_hand = imagenet_file_at_hand(model.encoder)
        return model.weights if at_hand is None else f"{at_hand.name} {_digest(at_hand)}"
    return _digest(path) if path.is_file() else model.weights


@cache
def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:12]


@cache
def _pictures(data: DataConfig) -> str:
    """A digest of the pictures' names and the labels' sizes in bytes, of the splits that train and are scored."""
    found = hashlib.sha256()
    for split in (data.train_split, data.val_split):
        dataset = open_dataset(data, split)
        found.update("\n".join(dataset.ids).encode(errors="surrogateescape"))
        if isinstance(dataset, PairedFiles):
            found.update(repr([path.stat().st_size for path in dataset.label_paths]).encode())
    return found.hexdigest()[:12]
