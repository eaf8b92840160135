"""A checkpoint is a folder: `model.safetensors` (every tensor) and `model.json` (everything else a user needs).

    {"format": 1, "architecture": {build's arguments}, "preprocessing": {"mean", "std"},
     "classes": [{"name", "color"}, ...], "metrics": {...} or null, "versions": {"ducseg", "torch"},
     "extra": {"command": ..., ...}}

Nothing is ever half-written under its final name, and nothing that is loaded can execute code: types and sizes in both
files are compared before a network is built or memory is taken for it.
"""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from ducseg.errors import UserError, explain, listed
from ducseg.files import find_checkpoint, remove_folder, rename, sync
from ducseg.models import Segmenter, build_architecture
from ducseg.models.timm_encoder import TimmUnavailable
from ducseg.version import __version__
from ducseg.weights.download import FILES, download
from ducseg.weights.model_json import FORMAT, described, describes_no_network, read_model_json
from ducseg.weights.structure import Unfilled, differences, sketch

__all__ = [
    "FORMAT",
    "checkpoint_folder",
    "describe",
    "load_segmenter",
    "read_model_json",
    "save_description",
    "save_segmenter",
    "write_model_files",
]

_TENSORS, _DESCRIPTION = FILES

_ONCE = re.compile(r"^(head\.steps\.\d+)\.up(?=_norm\.|\.)")

_FLOATS = ("F16", "BF16", "F32", "F64")
"""Kinds of numbers, in safetensors' words, that a network's may be stored as."""


def describe(
    segmenter: Segmenter, *, metrics: dict[str, Any] | None = None, extra: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The content of `model.json`.

    Args:
        metrics: JSON-able scores of this checkpoint, as `ducseg eval --json` writes them.
        extra: JSON-able notes kept beside, such as {"command": "ducseg train ..."}.

    Raises:
        UserError: the network is not (any more) what its architecture says, or is someone's own.
    """
    assert not segmenter.batch_norm_fused, "fuse_batch_norm's copy is not saved"
    changed = differences(segmenter)
    if changed:
        raise explain(
            "saving a checkpoint",
            found=listed(changed, 3, "; "),
            needed="the network that its architecture describes, or another one would be loaded",
            fix="Build it with these settings (build's arguments), or keep its tensors: segmenter.state_dict().",
        )
    return {
        "format": FORMAT,
        "architecture": segmenter.architecture.to_json(),
        "preprocessing": segmenter.preprocessing.to_json(),
        "classes": segmenter.classes.to_json(),
        "metrics": metrics,
        "versions": {"ducseg": __version__, "torch": torch.__version__},
        "extra": extra or {},
    }


def write_model_files(
    folder: Path, segmenter: Segmenter, *, metrics: dict[str, Any] | None = None, extra: dict[str, Any] | None = None
) -> None:
    """Write and sync both files into an existing folder; for a caller that renames the folder itself.

    Args and errors: as `describe`; infinite or undefined weights are refused, as they would be when loaded.
    """
    _write(folder, segmenter, describe(segmenter, metrics=metrics, extra=extra), {})


def _write(
    folder: Path, segmenter: Segmenter, description: dict[str, Any], beside: Mapping[str, bytes], *, half: bool = False
) -> None:
    try:
        text = json.dumps(description, indent=1, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise explain(
            "metrics and notes of a checkpoint",
            found=str(error),
            needed="what JSON holds, undefined scores as None",
            fix="Pass ducseg.metrics.confusion.to_json(scores).",
        ) from None
    tensors = {key: value.detach().cpu().contiguous() for key, value in segmenter.state_dict().items()}
    _check_finite("saving a checkpoint", tensors, "Take the weights from before training diverged.")
    shared = Counter(value.data_ptr() for value in tensors.values())  # tied weights: the format has none
    tensors = {key: value.clone() if shared[value.data_ptr()] > 1 else value for key, value in tensors.items()}
    if half:
        tensors = {key: _halved(value) for key, value in tensors.items()}
    # save_file would hide the system's error code on a full disk
    for name, data in {_TENSORS: save(tensors), _DESCRIPTION: text.encode(), **beside}.items():
        (folder / name).write_bytes(data)
        sync(folder / name)


def _check_finite(what: str, tensors: Mapping[str, Tensor], fix: str) -> None:
    undefined = [key for key, value in tensors.items() if not value.isfinite().all()]
    if undefined:
        found = f"infinite or undefined numbers in {len(undefined)} tensors, first {undefined[0]}"
        raise explain(what, found=found, needed="numbers", fix=fix)


def _halved(tensor: Tensor) -> Tensor:
    """Kernels in float16, unless they leave its range; vectors, which are few and enter every pixel, as they are."""
    if tensor.ndim < 2 or tensor.abs().max() > torch.finfo(torch.float16).max:
        return tensor
    return tensor.half()


def stored_in_half(folder: Path) -> bool:
    """Whether a checkpoint keeps its kernels in float16."""
    return any(dtype == "F16" for _, dtype in _read_header(folder).values())


def save_segmenter(
    folder: Path, segmenter: Segmenter, *, metrics: dict[str, Any] | None = None, extra: dict[str, Any] | None = None
) -> None:
    """Write a checkpoint folder, whole or not at all; `metrics` and `extra` as in `describe`.

    Raises:
        UserError: something is already there (a checkpoint is never overwritten), the disk is full or not writable, or
            as `write_model_files`.
    """
    save_description(Path(folder), segmenter, describe(segmenter, metrics=metrics, extra=extra))


def save_description(
    folder: Path,
    segmenter: Segmenter,
    description: dict[str, Any],
    beside: Mapping[str, bytes] | None = None,
    *,
    half: bool = False,
) -> None:
    """As `save_segmenter`, with a `model.json` of the caller's, and other files `beside` the two, by name.

    Args:
        half: store kernels in float16, half as large; loaded, they are float32 again.
    """
    if folder.exists():
        raise explain(
            f"checkpoint {folder}", found="that name taken", needed="a new name", fix="Choose another folder."
        )
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        _write(temporary, segmenter, description, beside or {}, half=half)
        temporary.chmod(0o755)  # mkdtemp makes folders for the owner alone
        rename(temporary, folder)
        sync(folder.parent)
    except OSError as error:
        raise explain(
            f"checkpoint {folder}",
            found=f"a disk that does not take it ({error})",
            needed="a writable place",
            fix="Free some space or choose another folder; nothing was left under that name.",
        ) from error
    finally:
        if temporary is not None:
            remove_folder(temporary)


def load_segmenter(
    path_or_hub_id: Path | str, device: torch.device | str = "cpu", *, revision: str | None = None
) -> Segmenter:
    """The segmenter of a checkpoint folder, a run folder or an id on the Hugging Face Hub, in evaluation mode.

    Args:
        path_or_hub_id, revision: as in `checkpoint_folder`.

    Raises:
        UserError: not a checkpoint, a broken file, tensors that do not fit the description, or a newer format.
    """
    folder = checkpoint_folder(path_or_hub_id, revision=revision)
    description = read_model_json(folder)
    architecture, classes, preprocessing = described(folder, description)
    try:
        expected = sketch(architecture)
    except TimmUnavailable:
        raise
    except UserError as error:  # an encoder of timm that cannot be
        raise describes_no_network(folder, error) from error
    _compare(folder, expected, len(classes))
    with Unfilled():
        segmenter = build_architecture(architecture, classes=classes, preprocessing=preprocessing)
    tensors = _read_tensors(folder)
    _check_finite(f"checkpoint {folder}", tensors, "Take an earlier checkpoint of that run.")
    segmenter.load_state_dict(tensors)
    segmenter.record = {"metrics": description.get("metrics"), "extra": description.get("extra")}
    return segmenter.to(device).eval()


def _compare(folder: Path, expected: Segmenter, num_classes: int) -> None:
    """Names, shapes and kinds of the file's tensors, from its header alone, with those of the described network."""
    own, stored = expected.state_dict(), _read_header(folder)
    problems = [f"no {key}" for key in own if key not in stored]
    problems += [f"{key}, which this architecture does not have" for key in stored if key not in own]
    for key in (key for key in own if key in stored):
        shape, kind = stored[key]
        if shape != tuple(own[key].shape):
            problems.append(f"{key} {shape} where {tuple(own[key].shape)} is needed")
        elif kind not in (_FLOATS if own[key].is_floating_point() else ("I64",)):
            problems.append(f"{key} as {kind} numbers")
    if problems:
        raise explain(
            f"checkpoint {folder}",
            found=f"{len(problems)} tensors that do not fit, first {problems[0]}",
            needed=f"what {_DESCRIPTION} describes ({num_classes} classes)",
            fix="The two files are not of one checkpoint: copy the whole folder again.",
        )


def _read_header(folder: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    with _reading(folder), safe_open(folder / _TENSORS, "pt") as file:
        slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
        return {_today(key): (tuple(one.get_shape()), str(one.get_dtype())) for key, one in slices.items()}


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    with _reading(folder):
        stored = load_file(folder / _TENSORS)
    return {_today(key): tensor if _today(key) == key else _reordered(tensor) for key, tensor in stored.items()}


def _today(key: str) -> str:
    """The name that a tensor has now: the pyramid's steps once held their channels in `pixel_shuffle`'s order."""
    return _ONCE.sub(r"\1.expand", key)


def _reordered(tensor: Tensor) -> Tensor:
    """Channel 4k + q of c to q * c / 4 + k."""
    return tensor.reshape(-1, 4, *tensor.shape[1:]).transpose(0, 1).flatten(0, 1) if tensor.ndim else tensor


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise explain(
            f"checkpoint {folder}",
            found=f"a {_TENSORS} that does not read ({error})",
            needed="the whole file",
            fix="It is missing or cut short: copy the folder again.",
        ) from error


def checkpoint_folder(path_or_hub_id: str | Path, *, revision: str | None = None) -> Path:
    """The folder that holds `model.json`: the given one, a run's best or last checkpoint, or a download from the Hub.

    Args:
        path_or_hub_id: a checkpoint folder; a run folder, also one that was copied without its links; or OWNER/NAME.
        revision: of a Hub id: branch, tag or commit.

    Raises:
        UserError: there is none.
    """
    if not isinstance(path_or_hub_id, str | Path):
        raise explain("checkpoint", found=repr(path_or_hub_id)[:80], needed="a path, or a Hub id", fix="Name one.")
    path = Path(path_or_hub_id).expanduser()
    found = find_checkpoint(path)
    if found is not None:
        return found
    name = path_or_hub_id if isinstance(path_or_hub_id, str) and not path.exists() else ""
    if name.count("/") == 1 and not name.startswith(("/", ".", "~")):
        return download(name, revision)
    nothing, fix = "a file" if path.is_file() else "no such folder", "Check the path."
    if path.is_file() and path.suffix == ".onnx":
        nothing = "an exported file (ONNX)"
        fix = (
            "`ducseg predict`, `eval` and `serve` take it as it is; in Python: "
            f"ducseg.inference.opening.open_labeller({str(path)!r})(image), or onnxruntime itself (docs/export.md)."
        )
    raise explain(
        f"checkpoint {path_or_hub_id}",
        found=f"no {_DESCRIPTION} there, nor in best/ or last/" if path.is_dir() else nothing,
        needed="a checkpoint or run folder of `ducseg train`, or a Hub id like name/model",
        fix=fix,
    )
