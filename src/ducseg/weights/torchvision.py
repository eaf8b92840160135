"""A segmenter's weights out under torchvision's names (of encoders that are timm's: under timm's).

torchvision itself is not needed.
"""

import io
import json
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from ducseg.errors import explain
from ducseg.files import write_whole
from ducseg.models.segmenter import Segmenter
from ducseg.models.timm_encoder import TimmEncoder
from ducseg.weights.encoders import FUNCTION, differing

__all__ = ["save_torchvision", "to_torchvision"]


def to_torchvision(segmenter: Segmenter) -> dict[str, Tensor]:
    """The encoder under torchvision's names, and the head's tensors under `head.`, on the CPU.

    `torchvision.models.resnet50().load_state_dict(...)` takes what does not begin with `head.`; only `fc` is missing
    (MobileNetV2: `features.18` and `classifier`). Dilation is no tensor: give torchvision's network the rates of
    `segmenter.encoder.rates`, or `replace_stride_with_dilation`. With the 3x3 stem the names are those of timm's
    resnet50s, resnet101s and resnet152s, for an encoder of timm those of timm's network.

    Raises:
        UserError: a network that torchvision's would compute otherwise (Caffe's stride, unpadded pooling, another eps,
            other channels).
    """
    own = (*FUNCTION, ("num_channels", 3))
    wrong = differing(segmenter, own)
    if wrong:
        raise explain(
            "conversion to torchvision",
            found=", ".join(wrong),
            needed="what torchvision's networks have: " + ", ".join(f"{key}={value!r}" for key, value in own),
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
