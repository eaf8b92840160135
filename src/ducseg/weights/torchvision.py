"""ImageNet weights under torchvision's names, by file or by name, into a segmenter's encoder, without torchvision.

The files' classifier (`fc.*`, `classifier.*`) is left out, and MobileNetV2's last 1x1 convolution (`features.18.*`),
which our encoder does not have; everything else must be there and fit.
"""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ducseg.errors import explain
from ducseg.models import IMAGENET
from ducseg.models.segmenter import Segmenter

__all__ = ["IMAGENET_URLS", "LoadReport", "load_encoder"]

IMAGENET_URLS: Mapping[str, str] = {
    "resnet18": "https://download.pytorch.org/models/resnet18-f37072fd.pth",
    "resnet34": "https://download.pytorch.org/models/resnet34-b627a593.pth",
    "resnet50": "https://download.pytorch.org/models/resnet50-0676ba61.pth",
    "resnet101": "https://download.pytorch.org/models/resnet101-63fe2227.pth",
    "resnet152": "https://download.pytorch.org/models/resnet152-394f9c45.pth",
    "mobilenet_v2": "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth",
}
"""torchvision's IMAGENET1K_V1 files, from which its own segmentation networks start; the last part of each name is the
start of the file's sha256, which is checked."""

_OWN = (("stem", "7x7"), ("stride_in", "3x3"), ("pool_padding", True), ("batch_norm_eps", 1e-5), ("width", 64))

_UNUSED = ("fc.", "classifier.", "features.18.")


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What loading did.

    Attributes:
        missing: the encoder's tensors that the file lacks; they keep their fresh values.
        unused: the file's tensors that the encoder has no place for: the classifier.
    """

    missing: tuple[str, ...]
    unused: tuple[str, ...]


def load_encoder(
    segmenter: Segmenter,
    source: str | Path,
    *,
    allow_missing: bool = False,
    urls: Mapping[str, str] = IMAGENET_URLS,
) -> LoadReport:
    """Load ImageNet weights into `segmenter.encoder`.

    Args:
        source: "imagenet", downloaded once through torch.hub into its cache, or a .safetensors or .pth file.
        allow_missing: let tensors that the file lacks start fresh; they are in the report.
        urls: where "imagenet" is for each encoder; each name ends in the start of the file's sha256.

    Raises:
        UserError: no such file, not a weight file, tensors missing, left over or of another shape, download failed,
            or "imagenet" for a network with another stem, stride, pooling or preprocessing than torchvision's.
    """
    tensors = _download(segmenter, urls) if str(source) == "imagenet" else _read(Path(source))
    own = segmenter.encoder.state_dict()
    # torch counts the batches a batch norm has seen; files older than that counter load all the same.
    missing = tuple(sorted(key for key in own.keys() - tensors.keys() if not key.endswith(".num_batches_tracked")))
    unused = tuple(sorted(key for key in tensors.keys() - own.keys() if key.startswith(_UNUSED)))
    unknown = sorted(tensors.keys() - own.keys() - set(unused))
    wrong = [
        f"{key} {tuple(tensors[key].shape)} where {tuple(own[key].shape)} is needed"
        for key in sorted(own.keys() & tensors.keys())
        if own[key].shape != tensors[key].shape
    ]
    if not own.keys() & tensors.keys():
        wrong.append("none of the encoder's tensors")
    _check_fit(segmenter, source, unknown=unknown, wrong=wrong, missing=() if allow_missing else missing)
    segmenter.encoder.load_state_dict({key: tensors[key] for key in own if key in tensors}, strict=False)
    return LoadReport(missing=missing, unused=unused)


def _check_fit(
    segmenter: Segmenter, source: str | Path, *, unknown: list[str], wrong: list[str], missing: tuple[str, ...]
) -> None:
    encoder = segmenter.architecture["encoder"]
    if unknown or wrong:
        raise explain(
            f"weights {source}",
            found=_some([*wrong, *(f"{key} (no such tensor in {encoder})" for key in unknown)]),
            needed=f"torchvision's tensors of {encoder} with this architecture",
            fix="Choose the encoder and the stem that the file was made for.",
        )
    if missing:
        raise explain(
            f"weights {source}",
            found=f"no {_some(list(missing))}",
            needed=f"all of {encoder}",
            fix="Set allow_missing (--model.allow-missing-weights) to start these tensors fresh.",
        )


def _some(items: list[str], limit: int = 20) -> str:
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more


def _read(path: Path) -> dict[str, Tensor]:
    needed = "a .safetensors or .pth file with torchvision's names, or the name imagenet"
    fix = "Check the path; --model.weights imagenet downloads torchvision's file."
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


def _download(segmenter: Segmenter, urls: Mapping[str, str]) -> dict[str, Tensor]:
    encoder = segmenter.architecture["encoder"]
    differing = [f"{key}={segmenter.architecture[key]!r}" for key, own in _OWN if segmenter.architecture[key] != own]
    if segmenter.preprocessing != IMAGENET:
        differing.append(f"preprocessing mean {segmenter.preprocessing.mean} and std {segmenter.preprocessing.std}")
    if differing:
        raise explain(
            f"ImageNet weights of {encoder}",
            found=", ".join(differing),
            needed="torchvision's own network: " + ", ".join(f"{key}={own!r}" for key, own in _OWN),
            fix="Change these options, or give a file of weights for this network instead of the name imagenet.",
        )
    url = urls[encoder]
    try:
        return torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    except (OSError, pickle.UnpicklingError, RuntimeError, EOFError) as error:  # URLError is an OSError
        raise explain(
            f"ImageNet weights of {encoder}",
            found=f"a download that failed ({error})",
            needed=url,
            fix="Download that file by other means and give its path as --model.weights.",
        ) from error
