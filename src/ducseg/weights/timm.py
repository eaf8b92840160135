"""ImageNet weights of timm: for our ResNets, the paper's 3x3 stem among them, and for encoders that are timm's.

timm's `resnet101s.gluon_in1k` and `resnet152s.gluon_in1k` have the stem of the paper's "better network" (three 3x3
convolutions, 64, 64, 128), and timm's ResNets have torchvision's names otherwise. Our ResNets need no timm for this.
"""

import json
import re
from pathlib import Path
from typing import Any

from torch import Tensor

from ducseg.errors import UserError, explain
from ducseg.models import Preprocessing
from ducseg.models.resnet import RESNETS
from ducseg.models.segmenter import Segmenter
from ducseg.models.timm_encoder import PREFIX, TimmEncoder
from ducseg.weights.encoder_weights import LoadReport, load_strictly, read_tensors

__all__ = ["load_encoder"]

_FUNCTION = (("stride_in", "3x3"), ("pool_padding", True), ("batch_norm_eps", 1e-5), ("width", 64))


def load_encoder(segmenter: Segmenter, source: str | Path, *, allow_missing: bool = False) -> LoadReport:
    """Load timm's weights into `segmenter.encoder`, and take their preprocessing where they come by name.

    Args:
        segmenter: of one of our ResNets or of an encoder of timm.
        source: "timm:NAME" such as timm:resnet101s.gluon_in1k, downloaded once through huggingface_hub into its cache;
            "imagenet", for an encoder of timm: the weights of its own name; or a .safetensors or .pth file.
        allow_missing: let tensors that the file lacks start fresh; they are in the report.

    Raises:
        UserError: no such file or name, weights of another network, tensors missing, left over or of another shape, or
            a download that failed.
    """
    encoder = segmenter.encoder
    preprocessing = segmenter.preprocessing
    tensors: dict[str, Tensor]
    if str(source) == "imagenet" or str(source).startswith(PREFIX):
        name = _name(segmenter, str(source).removeprefix(PREFIX))
        file, preprocessing = _download(name)
        tensors = read_tensors(file)
    else:
        tensors = read_tensors(Path(source))
    left_out = encoder.left_out if isinstance(encoder, TimmEncoder) else ("fc.weight", "fc.bias")
    report = load_strictly(
        encoder.network if isinstance(encoder, TimmEncoder) else encoder,
        tensors,
        name=segmenter.architecture.encoder,
        source=source,
        is_classifier=lambda key: key in left_out or key.startswith("head."),
        allow_missing=allow_missing,
    )
    segmenter.preprocessing = preprocessing
    return report


def _name(segmenter: Segmenter, wanted: str) -> str:
    """The Hub's name of the weights, checked to be of this network: some networks of timm share names and shapes."""
    encoder, chosen = segmenter.encoder, segmenter.architecture
    if isinstance(encoder, TimmEncoder):
        network, example = encoder.name.partition(".")[0], encoder.network.pretrained_cfg.get("hf_hub_id")
    else:
        network = chosen.encoder + ("s" if chosen.stem == "3x3" else "")
        example = f"timm/{network}.{'gluon_in1k' if chosen.stem == '3x3' else 'tv_in1k'}"
    if example is None:
        raise explain(
            f"weights {PREFIX}{network}", found="none on the Hub", needed="weights of that name", fix="Give a file."
        )
    name = str(example).removeprefix("timm/") if wanted == "imagenet" else wanted
    differing = [f"{key}={getattr(chosen, key)!r}" for key, own in _FUNCTION if getattr(chosen, key) != own]
    if differing or chosen.encoder == "mobilenet_v2" or not re.fullmatch(rf"{network}\.\w+", name):
        raise explain(
            f"weights {PREFIX}{name}",
            found=", ".join([f"encoder={chosen.encoder!r}", f"stem={chosen.stem!r}", *differing]),
            needed=f"the network they were made for, and a tag behind its name, as in {PREFIX}"
            + str(example).removeprefix("timm/"),
            fix=_way_out(name),
        )
    return name


def _way_out(name: str) -> str:
    network = name.partition(".")[0]
    if network.removesuffix("s") in RESNETS:
        stem = "3x3" if network.endswith("s") else "7x7"
        return f"Use encoder={network.removesuffix('s')!r}, stem={stem!r} and the defaults of the other options."
    return f"Use encoder={PREFIX + network!r}."


def _download(name: str) -> tuple[Path, Preprocessing]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository = f"timm/{name}"
    try:
        description = Path(hf_hub_download(repository, "config.json"))
        file = Path(hf_hub_download(repository, "model.safetensors"))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise explain(
            f"weights {PREFIX}{name}",
            found=f"a download that failed ({type(error).__name__})",
            needed=f"model.safetensors of https://huggingface.co/{repository}",
            fix="Check the name and the network, or download that file by other means and give its path.",
        ) from error
    return file, _preprocessing(name, description)


def _preprocessing(name: str, description: Path) -> Preprocessing:
    try:
        config: dict[str, Any] = json.loads(description.read_text(encoding="utf-8"))["pretrained_cfg"]
        mean, std = (tuple(round(255 * float(value), 6) for value in config[key]) for key in ("mean", "std"))
        return Preprocessing(mean=mean, std=std)  # type: ignore[arg-type]
    except (ValueError, KeyError, TypeError) as error:
        reason = str(error) if isinstance(error, UserError) else repr(error)
        raise explain(
            f"weights {PREFIX}{name}",
            found=f"a config.json that does not read ({reason})",
            needed="the mean and standard deviation of their pictures",
            fix="Download model.safetensors and give its path.",
        ) from error
