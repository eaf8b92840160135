"""`model.json`: read, its kinds and values checked, before anything is built from it."""

from pathlib import Path
from typing import Any

from ducseg.classes import ClassSet
from ducseg.errors import UserError, explain
from ducseg.files import parse_json
from ducseg.models import Architecture, Preprocessing
from ducseg.version import __version__
from ducseg.weights.download import FILES

__all__ = ["FORMAT", "described", "describes_no_network", "read_model_json"]

FORMAT = 1
"""Version of `model.json`; raised when an older ducseg could no longer read a newer folder rightly."""

_TENSORS, _DESCRIPTION = FILES


def read_model_json(folder: Path) -> dict[str, Any]:
    """Read `model.json` alone: what a checkpoint is, without its tensors.

    Raises:
        UserError: not a checkpoint, broken JSON, or a newer format.
    """
    path = Path(folder) / _DESCRIPTION
    if not path.is_file():
        raise explain(
            f"checkpoint {folder}",
            found=f"no {_DESCRIPTION} there" if Path(folder).is_dir() else "no such folder",
            needed=f"a folder with {_DESCRIPTION} and {_TENSORS}",
            fix="A training run has them under RUN/best, RUN/last and RUN/checkpoints/.",
        )
    try:
        description = parse_json(path.read_text(encoding="utf-8"), parse_constant=_no_number)
        wrong = _wrong_kinds(description)
        if wrong:
            raise ValueError(", ".join(wrong))
    except (OSError, ValueError) as error:
        raise explain(
            f"checkpoint {folder}",
            found=f"a {_DESCRIPTION} that does not read ({error})",
            needed="the file as ducseg wrote it",
            fix="Copy the folder again from where it was made.",
        ) from error
    if description["format"] > FORMAT:
        by = (description.get("versions") or {}).get("ducseg", "unknown")
        raise explain(
            f"checkpoint {folder}",
            found=f"format {description['format']}, written by ducseg {by}",
            needed=f"format {FORMAT} or older",
            fix=f"Update ducseg (this is {__version__}).",
        )
    assert isinstance(description, dict)
    return description


def _no_number(text: str) -> None:
    raise ValueError(f"{text} for a number")


def _wrong_kinds(description: Any) -> list[str]:
    if not isinstance(description, dict):
        return [f"{str(description)[:40]!r} for a dictionary"]
    kinds: dict[str, Any] = {"format": int, "architecture": dict, "preprocessing": dict, "classes": list}
    missing = [f"no {key}" for key in kinds if key not in description]
    return missing or [
        f"{key} {str(description.get(key))[:40]}"
        for key, kind in (kinds | dict.fromkeys(("metrics", "extra", "versions"), dict | None)).items()
        if not isinstance(description.get(key), kind) or isinstance(description.get(key), bool)
    ]


def described(folder: Path, description: dict[str, Any]) -> tuple[Architecture, ClassSet, Preprocessing]:
    """What `read_model_json` found, as values; `UserError` where it describes no network. Nothing is built."""
    try:
        architecture = Architecture.from_json(description["architecture"])
        classes = ClassSet.from_json(description["classes"])
        conflicts = architecture.conflicts(classes)
        if conflicts:
            raise UserError("; ".join(conflicts))
        return architecture, classes, Preprocessing.from_json(description["preprocessing"])
    except UserError as error:
        raise describes_no_network(folder, error) from error


def describes_no_network(folder: Path, error: UserError) -> UserError:
    """The error to raise where a `model.json` asks for what cannot be."""
    return explain(
        f"checkpoint {folder}",
        found=f"a {_DESCRIPTION} that describes no network ({error})",
        needed="the file as ducseg wrote it",
        fix="Copy the folder again from where it was made; a head or encoder of one's own is imported first.",
    )
