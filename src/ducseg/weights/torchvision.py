"""ImageNet weights under torchvision's names into a segmenter's encoder, and a segmenter's weights out under them.

torchvision itself is not needed. A file's classifier (`fc.*`, `classifier.*`, our own `head.*`) is left out, and
MobileNetV2's last 1x1 convolution (`features.18.*`), which our encoder does not have; all else must be there and fit.
"""

import io
import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from ducseg.errors import explain
from ducseg.files import write_whole
from ducseg.models import IMAGENET
from ducseg.models.segmenter import Segmenter
from ducseg.models.timm_encoder import TimmEncoder
from ducseg.weights.encoder_weights import LoadReport, load_strictly, read_tensors

__all__ = ["IMAGENET_URLS", "LoadReport", "load_encoder", "save_torchvision", "to_torchvision"]

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

_FUNCTION = (("stride_in", "3x3"), ("pool_padding", True), ("batch_norm_eps", 1e-5))
_OWN = (("stem", "7x7"), *_FUNCTION, ("width", 64))

_UNUSED = ("fc.", "classifier.", "features.18.", "head.")


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
    return load_strictly(
        segmenter.encoder,
        _download(segmenter, urls) if str(source) == "imagenet" else read_tensors(Path(source)),
        name=segmenter.architecture.encoder,
        source=source,
        is_classifier=lambda key: key.startswith(_UNUSED),
        allow_missing=allow_missing,
    )


def _download(segmenter: Segmenter, urls: Mapping[str, str]) -> dict[str, Tensor]:
    encoder = segmenter.architecture.encoder
    differing = [
        f"{key}={getattr(segmenter.architecture, key)!r}"
        for key, own in _OWN
        if getattr(segmenter.architecture, key) != own
    ]
    if segmenter.preprocessing != IMAGENET:
        differing.append(f"preprocessing mean {segmenter.preprocessing.mean} and std {segmenter.preprocessing.std}")
    if differing:
        raise explain(
            f"ImageNet weights of {encoder}",
            found=", ".join(differing),
            needed="torchvision's own network: " + ", ".join(f"{key}={own!r}" for key, own in _OWN),
            fix="Change these options, or give weights made for this network (timm:resnet101s.gluon_in1k for the 3x3 "
            "stem of resnet101) instead of the name imagenet.",
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


def to_torchvision(segmenter: Segmenter) -> dict[str, Tensor]:
    """The encoder under torchvision's names, and the head's tensors under `head.`, on the CPU.

    `torchvision.models.resnet50().load_state_dict(...)` takes what does not begin with `head.`; only `fc` is missing
    (MobileNetV2: `features.18` and `classifier`). Dilation is no tensor: give torchvision's network the rates of
    `segmenter.encoder.rates`, or `replace_stride_with_dilation`. With the 3x3 stem the names are those of timm's
    resnet50s, resnet101s and resnet152s, for an encoder of timm those of timm's network.

    Raises:
        UserError: a network that torchvision's would compute otherwise (Caffe's stride, unpadded pooling, another eps).
    """
    differing = [
        f"{key}={getattr(segmenter.architecture, key)!r}"
        for key, own in _FUNCTION
        if getattr(segmenter.architecture, key) != own
    ]
    if differing:
        raise explain(
            "conversion to torchvision",
            found=", ".join(differing),
            needed="what torchvision's networks have: " + ", ".join(f"{key}={own!r}" for key, own in _FUNCTION),
            fix="model.safetensors in the checkpoint has the same tensors, under encoder. and head.",
        )
    encoder = segmenter.encoder.network if isinstance(segmenter.encoder, TimmEncoder) else segmenter.encoder
    named = {**encoder.state_dict(), **{f"head.{key}": value for key, value in segmenter.head.state_dict().items()}}
    return {key: value.detach().cpu().contiguous().clone() for key, value in named.items()}


def save_torchvision(path: Path | str, segmenter: Segmenter) -> None:
    """Write `to_torchvision` to a new .safetensors file (architecture, preprocessing and classes as metadata) or .pth.

    Raises:
        UserError: another ending, a name that is taken, a folder that cannot be written, or as `to_torchvision`.
    """
    path = Path(path)
    if path.suffix not in (".safetensors", ".pth"):
        raise explain(
            f"output {path}", found=f"the ending {path.suffix!r}", needed=".safetensors or .pth", fix="Rename."
        )
    if path.exists():
        raise explain(f"output {path}", found="that name taken", needed="a new name", fix="Choose another.")
    tensors = to_torchvision(segmenter)
    if path.suffix == ".pth":
        buffer = io.BytesIO()
        torch.save(tensors, buffer)
        write_whole(path, buffer.getvalue())
        return
    described = {
        "architecture": segmenter.architecture.to_json(),
        "preprocessing": segmenter.preprocessing.to_json(),
        "classes": segmenter.classes.to_json(),
    }
    write_whole(path, save(tensors, {"format": "pt", **{key: json.dumps(value) for key, value in described.items()}}))
