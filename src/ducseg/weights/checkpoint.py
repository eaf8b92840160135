"""A checkpoint is a folder: `model.safetensors` (every tensor) and `model.json` (everything else a user needs).

    {"format": 1, "architecture": {build's arguments}, "preprocessing": {"mean", "std"},
     "classes": [{"name", "color"}, ...], "metrics": {...} or null, "versions": {"ducseg", "torch"},
     "extra": {"command": ..., ...}}

Nothing is ever half-written under its final name, and nothing that is loaded can execute code.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ducseg.classes import ClassSet
from ducseg.errors import UserError, explain
from ducseg.models import Preprocessing, Segmenter, build
from ducseg.models.timm_encoder import TimmUnavailable
from ducseg.version import __version__

__all__ = ["FORMAT", "Unfilled", "load_segmenter", "read_model_json", "save_segmenter", "write_model_files"]

FORMAT = 1
"""Version of `model.json`; raised when an older ducseg could no longer read a newer folder rightly."""

_TENSORS, _DESCRIPTION = "model.safetensors", "model.json"


def write_model_files(
    folder: Path, segmenter: Segmenter, *, metrics: dict[str, Any] | None = None, extra: dict[str, Any] | None = None
) -> None:
    """Write and fsync both files into an existing folder; for a caller that renames the folder itself.

    Args:
        metrics: JSON-able scores of this checkpoint, as `ducseg eval --json` writes them.
        extra: JSON-able notes kept beside, such as {"command": "ducseg train ..."}.
    """
    description = {
        "format": FORMAT,
        "architecture": segmenter.architecture,
        "preprocessing": segmenter.preprocessing.to_json(),
        "classes": segmenter.classes.to_json(),
        "metrics": metrics,
        "versions": {"ducseg": __version__, "torch": torch.__version__},
        "extra": extra or {},
    }
    assert not segmenter.batch_norm_fused, "fuse_batch_norm's copy is not saved"
    text = json.dumps(description, indent=1, allow_nan=False) + "\n"
    tensors = {key: value.detach().cpu().contiguous() for key, value in segmenter.state_dict().items()}
    (folder / _TENSORS).write_bytes(save(tensors))  # save_file hides the system's error code on a full disk
    (folder / _DESCRIPTION).write_text(text, encoding="utf-8")
    for name in (_TENSORS, _DESCRIPTION):
        _fsync(folder / name)


def save_segmenter(
    folder: Path, segmenter: Segmenter, *, metrics: dict[str, Any] | None = None, extra: dict[str, Any] | None = None
) -> None:
    """Write a checkpoint folder, whole or not at all.

    Raises:
        UserError: something is already there (a checkpoint is never overwritten), or the disk is full or not writable.
    """
    folder = Path(folder)
    if folder.exists():
        raise explain(
            f"checkpoint {folder}", found="that name taken", needed="a new name", fix="Choose another folder."
        )
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        write_model_files(temporary, segmenter, metrics=metrics, extra=extra)
        temporary.chmod(0o755)  # mkdtemp makes folders for the owner alone
        temporary.replace(folder)
        _fsync(folder.parent)
    except OSError as error:
        raise explain(
            f"checkpoint {folder}",
            found=f"a disk that does not take it ({error})",
            needed="a writable place",
            fix="Free some space or choose another folder; nothing was left under that name.",
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def load_segmenter(folder: Path | str, device: torch.device | str = "cpu") -> Segmenter:
    """Read a checkpoint folder and return its segmenter in evaluation mode.

    Raises:
        UserError: not a checkpoint, a broken file, tensors that do not fit the description, or a newer format.
    """
    folder = Path(folder)
    description = read_model_json(folder)
    segmenter = _build(folder, description)
    tensors = _read_tensors(folder)
    own = segmenter.state_dict()
    problems = [f"no {key}" for key in own if key not in tensors]
    problems += [f"{key}, which this architecture does not have" for key in tensors if key not in own]
    problems += [
        f"{key} {tuple(tensors[key].shape)} where {tuple(own[key].shape)} is needed"
        for key in own
        if key in tensors and tensors[key].shape != own[key].shape
    ]
    if problems:
        raise explain(
            f"checkpoint {folder}",
            found=f"{len(problems)} tensors that do not fit, first {problems[0]}",
            needed=f"what {_DESCRIPTION} describes ({len(segmenter.classes)} classes)",
            fix="The two files are not of one checkpoint: copy the whole folder again.",
        )
    segmenter.load_state_dict(tensors)
    segmenter.record = {"metrics": description.get("metrics"), "extra": description.get("extra")}
    return segmenter.to(device).eval()


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
        description = json.loads(path.read_text(encoding="utf-8"))
        version = int(description["format"])
        for key in ("architecture", "preprocessing", "classes"):
            description[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise explain(
            f"checkpoint {folder}",
            found=f"a {_DESCRIPTION} that does not read ({error!r})",
            needed="the file as ducseg wrote it",
            fix="Copy the folder again from where it was made.",
        ) from error
    if version > FORMAT:
        raise explain(
            f"checkpoint {folder}",
            found=f"format {version}, written by ducseg {description.get('versions', {}).get('ducseg', 'unknown')}",
            needed=f"format {FORMAT} or older",
            fix=f"Update ducseg (this is {__version__}).",
        )
    assert isinstance(description, dict)
    return description


def _build(folder: Path, description: dict[str, Any]) -> Segmenter:
    try:
        with Unfilled():
            return build(
                **description["architecture"],
                classes=ClassSet.from_json(description["classes"]),
                preprocessing=Preprocessing(
                    **{key: tuple(value) for key, value in description["preprocessing"].items()}
                ),
            )
    except TimmUnavailable:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        reason = str(error) if isinstance(error, UserError) else repr(error)
        raise explain(
            f"checkpoint {folder}",
            found=f"a {_DESCRIPTION} that describes no network ({reason})",
            needed="the file as ducseg wrote it",
            fix="Copy the folder again from where it was made.",
        ) from error


class Unfilled(TorchFunctionMode):
    """Leaves new tensors as they are allocated: all are read from the file, so initialising them would be lost time.

    (On the meta device, `normal_` imports 800 modules on first use: seconds.)
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_) or getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    path = folder / _TENSORS
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise explain(
            f"checkpoint {folder}",
            found=f"a {_TENSORS} that does not read ({error})",
            needed="the whole file",
            fix="It is missing or cut short: copy the folder again.",
        ) from error


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checkpoint_folder(path_or_hub_id: str | Path, *, revision: str | None = None) -> Path:
    """The folder that holds `model.json`: the given one, its best or last checkpoint, or a download from the Hub.

    Args:
        revision: of a Hub id: branch, tag or commit.

    Raises:
        UserError: there is none.
    """
    path = Path(path_or_hub_id).expanduser()
    for candidate in (path, path / "best", path / "last"):
        if (candidate / "model.json").is_file():
            return candidate
    name = str(path_or_hub_id) if isinstance(path_or_hub_id, str) and not path.exists() else ""
    looks_like_an_id = name.count("/") == 1 and not name.startswith(("/", ".", "~"))
    if not looks_like_an_id:
        raise explain(
            f"checkpoint {path_or_hub_id}",
            found="a folder without model.json, best/ or last/" if path.is_dir() else "no such folder",
            needed="a checkpoint or run folder of `ducseg train`, or a Hub id like name/model",
            fix="Check the path.",
        )
    from ducseg.weights.hub import download

    return download(str(path_or_hub_id), revision)
