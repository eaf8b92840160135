"""Files of encoder weights read and loaded strictly, whoever made them: nothing in them is executed."""

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ducseg.errors import explain
from ducseg.models.encoder import Part

__all__ = ["LoadReport", "load_strictly", "read_tensors"]


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What loading did.

    Attributes:
        missing: the encoder's tensors that the file lacks; they keep their fresh values.
        unused: the file's tensors that the encoder has no place for: the classifier.
    """

    missing: tuple[str, ...]
    unused: tuple[str, ...]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Named tensors of a .safetensors or .pth file.

    Raises:
        UserError: no such file, or something else than named tensors.
    """
    needed = "a .safetensors or .pth file of named tensors"
    fix = "Check the path; the names that can be downloaded are imagenet and timm:NAME."
    if not path.is_file():
        raise explain(f"weights {path}", found="no such file", needed=needed, fix=fix)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise explain(
            f"weights {path}", found=f"a file that does not read ({error})", needed=needed, fix=fix
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise explain(f"weights {path}", found="something else than named tensors", needed=needed, fix=fix)
    return state


def load_strictly(
    encoder: Part,
    tensors: Mapping[str, Tensor],
    *,
    name: str,
    source: str | Path,
    is_classifier: Callable[[str], bool],
    allow_missing: bool,
) -> LoadReport:
    """Load `tensors` into `encoder`; all of both must fit but for what `is_classifier` says of the file's names.

    Args:
        name: of the encoder, for messages.
        source: where the tensors come from, for messages.
        allow_missing: let tensors that the file lacks start fresh.

    Raises:
        UserError: tensors missing, left over or of another shape, all in one message; nothing is loaded then.
    """
    own = encoder.state_dict()
    # torch counts the batches a batch norm has seen; files older than that counter load all the same.
    missing = tuple(sorted(key for key in own.keys() - tensors.keys() if not key.endswith(".num_batches_tracked")))
    unused = tuple(sorted(key for key in tensors.keys() - own.keys() if is_classifier(key)))
    wrong = [
        f"{key} {tuple(tensors[key].shape)} where {tuple(own[key].shape)} is needed"
        for key in sorted(own.keys() & tensors.keys())
        if own[key].shape != tensors[key].shape
    ]
    wrong += [f"{key} (no such tensor in {name})" for key in sorted(tensors.keys() - own.keys() - set(unused))]
    if not own.keys() & tensors.keys():
        wrong.insert(0, "none of the encoder's tensors")
    if wrong:
        raise explain(
            f"weights {source}",
            found=_some(wrong),
            needed=f"the tensors of {name} with this architecture",
            fix="Choose the encoder and the stem that the file was made for.",
        )
    if missing and not allow_missing:
        raise explain(
            f"weights {source}",
            found=f"no {_some(list(missing))}",
            needed=f"all of {name}",
            fix="Set allow_missing (--model.allow-missing-weights) to start these tensors fresh.",
        )
    encoder.load_state_dict({key: tensors[key] for key in own if key in tensors}, strict=False)
    return LoadReport(missing=missing, unused=unused)


def _some(items: list[str], limit: int = 20) -> str:
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more
