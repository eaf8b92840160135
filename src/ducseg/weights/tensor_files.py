"""Files of named tensors, read and loaded strictly, whoever made and wrapped them: nothing in them is executed."""

import pickle
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ducseg.errors import UserError, explain, listed
from ducseg.models.encoder import Part
from ducseg.weights.widening import widened

__all__ = ["LoadReport", "load_strictly", "read_tensors"]

_CONTAINERS = (
    "state_dict", "model_state_dict", "model_state", "model", "network", "net", "module", "backbone", "encoder",
    "params", "weights",
)  # fmt: skip
"""Names under which checkpoints of other programs keep a network's tensors, in the order in which they are tried."""


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What loading did.

    Attributes:
        missing: the encoder's tensors that the file lacks; they keep their fresh values.
        unused: the file's tensors that the encoder has no place for: the classifier, what stands beside the prefix.
        prefix: what the file's names of the encoder begin with, such as "module.".
        source: where the tensors came from.
        widened: kernels of RGB that were spread over other channels.
        head: the file's tensors that the head had a place for: VGG's fully connected layers.
    """

    missing: tuple[str, ...]
    unused: tuple[str, ...]
    prefix: str = ""
    source: str = ""
    widened: tuple[str, ...] = ()
    head: tuple[str, ...] = ()

    def __str__(self) -> str:
        fresh = f", {len(self.missing)} tensors start fresh: {listed(list(self.missing), 6)}" if self.missing else ""
        spread = f", {listed(list(self.widened))} spread over the channels" if self.widened else ""
        of_head = ", fc6 and fc7 too" if self.head else ""
        return f"encoder from {self.source}{of_head}{spread}{fresh}"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Named tensors of a .safetensors or .pth file; of a checkpoint of another program, its network's.

    Raises:
        UserError: no such file, or something else than named tensors, with what it is.
    """
    if not path.is_file():
        raise _no_weights(path, "no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, on old and broken files
            state = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except (SafetensorError, pickle.UnpicklingError) as error:
        raise _no_weights(path, _kind(str(error))) from error
    except Exception as error:  # torch's unpickler meets damage with errors of every kind
        raise _no_weights(path, f"a file that does not read ({type(error).__name__}: {_one_line(error)})") from error
    return _unwrapped(path, state)


def _no_weights(path: Path, found: str) -> UserError:
    return explain(
        f"weights {path}",
        found=found,
        needed="a .safetensors or .pth file of named tensors",
        fix="Check the path; the names that can be downloaded are imagenet and timm:NAME; None: fresh ones.",
    )


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:200]


def _kind(message: str) -> str:
    code = re.search(r"GLOBAL ([\w.]+)", message)
    if code:
        return f"a pickle of {code[1]}, which would have to be executed (save its state_dict() instead)"
    own = re.search(r"WeightsUnpickler error:\s*(\S[^\n]+)", message)  # the rest is torch's advice to execute the file
    return f"a file that does not read ({_one_line(own[1] if own else message)})"


def _check_archive(path: Path) -> None:
    """torch.save's archive holds each tensor as it is: what would unpack to more than the file is none."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.filename.endswith(("constants.pkl", ".torchscript")) for entry in entries):
        raise _no_weights(path, "a TorchScript module, which is code (save its state_dict() instead)")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise _no_weights(path, "a compressed archive, which torch.save does not write")


def _unwrapped(path: Path, state: Any) -> dict[str, Tensor]:
    for _ in range(4):
        if not isinstance(state, Mapping):
            break
        inside = [key for key, value in state.items() if isinstance(value, Mapping) and _has_tensors(value)]
        known = [key for key in _CONTAINERS if key in inside]
        if known or len(inside) == 1:
            state = state[(known or inside)[0]]
        elif inside:
            names = ", ".join(map(str, inside[:6]))
            raise _no_weights(path, f"several networks ({names}); save the wanted one alone")
        else:
            break
    entries = state.items() if isinstance(state, Mapping) else ()
    tensors = {key: value for key, value in entries if isinstance(key, str) and _is_plain(value)}
    if not tensors:
        raise _no_weights(path, f"something else than named tensors ({_shown(state)})")
    return tensors


def _has_tensors(value: Mapping[Any, Any], depth: int = 3) -> bool:
    """Whether tensors are in it under names; an optimizer's are under numbers."""
    named = [entry for key, entry in value.items() if isinstance(key, str)]
    deeper = [entry for entry in named if isinstance(entry, Mapping)] if depth else []
    return any(isinstance(entry, Tensor) for entry in named) or any(_has_tensors(one, depth - 1) for one in deeper)


def _is_plain(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized


def _shown(state: Any) -> str:
    if isinstance(state, Mapping):
        return f"a dictionary of {', '.join(str(key)[:30] for key in list(state)[:6]) or 'nothing'}"
    return f"a {type(state).__name__}"


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

    A prefix that the encoder's names have in the file (module., backbone., ...) is taken off; what does not have it is
    another part of the network, and unused. Kernels of RGB are spread over an encoder's other number of channels.

    Args:
        name: of the encoder, for messages.
        source: where the tensors come from, for messages and the report.
        allow_missing: let tensors that the file lacks start fresh.

    Raises:
        UserError: tensors missing, left over, of another shape or kind, or with undefined numbers, all in one message;
            or names with two prefixes; nothing is loaded then.
    """
    own, given = encoder.state_dict(), tensors
    prefix = _prefix(own, tensors, source)
    tensors = {key.removeprefix(prefix): value for key, value in given.items() if key.startswith(prefix)}
    tensors, spread = widened(tensors, own)
    beside = [key for key in given if not key.startswith(prefix)]
    # torch counts the batches a batch norm has seen; files older than that counter load all the same.
    missing = tuple(sorted(key for key in own.keys() - tensors.keys() if not key.endswith(".num_batches_tracked")))
    unused = tuple(sorted(key for key in tensors.keys() - own.keys() if is_classifier(key)))
    wrong = [
        f"{key} {reason}" for key in sorted(own.keys() & tensors.keys()) if (reason := _unfit(own[key], tensors[key]))
    ]
    wrong += [f"{key} (no such tensor in {name})" for key in sorted(tensors.keys() - own.keys() - set(unused))]
    if not own.keys() & tensors.keys():
        wrong.insert(0, "none of the encoder's tensors")
    if wrong:
        raise explain(
            f"weights {source}",
            found=listed(wrong, 20),
            needed=f"the tensors of {name} with this architecture",
            fix="Choose the encoder and the stem that the file was made for.",
        )
    if missing and not allow_missing:
        raise explain(
            f"weights {source}",
            found=f"no {listed(list(missing), 20)}",
            needed=f"all of {name}",
            fix="Set allow_missing (--model.allow-missing-weights) to start these tensors fresh.",
        )
    encoder.load_state_dict({key: tensors[key] for key in own if key in tensors}, strict=False)
    return LoadReport(
        missing=missing, unused=(*unused, *sorted(beside)), prefix=prefix, source=str(source), widened=tuple(spread)
    )


def _prefix(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], source: str | Path) -> str:
    """What most of the encoder's names have before them in the file."""
    counts: Counter[str] = Counter()
    for key in tensors:
        parts = key.split(".")
        for depth in range(len(parts)):
            if ".".join(parts[depth:]) in own:
                counts["".join(f"{part}." for part in parts[:depth])] += 1
    most = max(counts.values(), default=0)
    best = sorted((prefix for prefix, count in counts.items() if count == most), key=len)
    if len(best) > 1 and best[0] and most > 1:
        raise explain(
            f"weights {source}",
            found=f"the encoder's names below {' and '.join(best)}",
            needed="one encoder",
            fix="Save the wanted one alone.",
        )
    return best[0] if best else ""


def _unfit(own: Tensor, tensor: Tensor) -> str:
    if own.shape != tensor.shape:
        return f"{tuple(tensor.shape)} where {tuple(own.shape)} is needed"
    if own.is_floating_point() != tensor.is_floating_point() or tensor.is_complex() or tensor.device.type != "cpu":
        return f"as {tensor.dtype} on {tensor.device} where {own.dtype} is needed"
    return "" if tensor.isfinite().all() else "with infinite or undefined numbers"
