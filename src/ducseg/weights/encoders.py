"""ImageNet weights into a segmenter's encoder: from a folder of one's own, by download, or from a file.

Names are looked for in the folder DUCSEG_WEIGHTS (an environment variable) before anything is downloaded: a file NAME,
NAME-ANYTHING or NAME.ANYTHING with the ending .safetensors, .pth or .pt, where NAME is torchvision's or timm's name.
torchvision and timm themselves are not needed but for encoders that are timm's. A file's classifier is left out; all
else must be there and fit.
"""

import os
import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ducseg.errors import UserError, explain
from ducseg.files import parse_json
from ducseg.models import IMAGENET, Preprocessing
from ducseg.models.efficientnet_lite import EFFICIENTNET_LITES
from ducseg.models.preprocessing import TENSORFLOW
from ducseg.models.resnet import RESNETS
from ducseg.models.segmenter import Segmenter
from ducseg.models.timm_encoder import PREFIX, TimmEncoder
from ducseg.models.vgg import VGGS
from ducseg.weights.download import checked
from ducseg.weights.tensor_files import LoadReport, load_strictly, read_tensors
from ducseg.weights.vgg import fill_fully_convolutional

__all__ = [
    "FOLDER_VARIABLE",
    "IMAGENET_URLS",
    "LoadReport",
    "WeightsUnavailable",
    "differing",
    "imagenet_file_at_hand",
    "load_encoder",
    "share_with_head",
]

FOLDER_VARIABLE = "DUCSEG_WEIGHTS"
"""Environment variable: a folder of weight files that is looked into, by name, before anything is downloaded."""

IMAGENET_URLS: Mapping[str, str] = {
    "resnet18": "https://download.pytorch.org/models/resnet18-f37072fd.pth",
    "resnet34": "https://download.pytorch.org/models/resnet34-b627a593.pth",
    "resnet50": "https://download.pytorch.org/models/resnet50-0676ba61.pth",
    "resnet101": "https://download.pytorch.org/models/resnet101-63fe2227.pth",
    "resnet152": "https://download.pytorch.org/models/resnet152-394f9c45.pth",
    "mobilenet_v2": "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth",
    "vgg16": "https://download.pytorch.org/models/vgg16-397923af.pth",
    "vgg16_bn": "https://download.pytorch.org/models/vgg16_bn-6c64b313.pth",
}
"""torchvision's IMAGENET1K_V1 files, from which its own segmentation networks start; the last part of each name is the
start of the file's sha256, which is checked."""

FUNCTION = (("stride_in", "3x3"), ("pool_padding", True), ("batch_norm_eps", 1e-5))
"""What of a ResNet torchvision and timm have one way only."""

_UNUSED = ("fc.", "classifier.", "features.18.", "conv_head.", "bn2.", "head.")
_ENDINGS = (".safetensors", ".pth", ".pt")


class WeightsUnavailable(UserError):
    """Weights of that name are in no folder, and could not be downloaded: a network can still start from scratch."""


class _Named(NamedTuple):
    """Weights that have a public name.

    Attributes:
        names: of files in one's own folder, the most particular first.
        hub: timm's name on the Hub; empty: torchvision's file.
        preprocessing: what they expect, if the download does not tell.
    """

    names: tuple[str, ...]
    hub: str
    preprocessing: Preprocessing


def load_encoder(
    segmenter: Segmenter,
    source: str | Path,
    *,
    allow_missing: bool = False,
    urls: Mapping[str, str] = IMAGENET_URLS,
) -> LoadReport:
    """Load ImageNet weights into `segmenter.encoder`, and take their preprocessing where they come by name.

    An encoder of other than three channels gets RGB's first kernels spread over its own
    (`ducseg.weights.widening.spread_over`). Where pictures are not RGB of 8 bits, the preprocessing stays as it is.

    Args:
        segmenter: of one of our encoders or of one of timm.
        source: "imagenet": torchvision's file for our ResNets, MobileNetV2 and VGGs (with fc6 and fc7, where the head
            has them), for others timm's default; "timm:NAME" such as timm:resnet101s.gluon_in1k; each from the folder
            DUCSEG_WEIGHTS, or downloaded once into torch.hub's or huggingface_hub's cache. Or a .safetensors or .pth
            file, also one that another program wrapped.
        allow_missing: let tensors that the file lacks start fresh; they are in the report. A file that was found in the
            folder by its name may always lack some.
        urls: where torchvision's files are; each name ends in the start of the file's sha256.

    Returns:
        The report; as a text it says which file was taken and what starts fresh.

    Raises:
        WeightsUnavailable: no file of that name in the folder, and no download.
        UserError: no such file or name, weights of another network, tensors missing, left over or of another shape.
    """
    encoder, preprocessing, shown = segmenter.encoder, segmenter.preprocessing, str(source)
    if shown == "imagenet" or shown.startswith(PREFIX):
        named = _named(segmenter, shown)
        preprocessing = named.preprocessing if preprocessing.is_rgb else preprocessing
        file = _in_folder(named.names)
        if file is not None:
            tensors, shown, allow_missing = read_tensors(file), f"{shown}: {file} ({FOLDER_VARIABLE})", True
        elif named.hub:
            file, of_weights = _from_hub(named.hub)
            preprocessing = of_weights if preprocessing.is_rgb else preprocessing
            tensors = read_tensors(file)
        else:
            tensors = _from_torchvision(segmenter.architecture.encoder, urls)
    else:
        tensors = read_tensors(Path(source).expanduser())
    left_out = encoder.left_out if isinstance(encoder, TimmEncoder) else ()
    report = load_strictly(
        encoder.network if isinstance(encoder, TimmEncoder) else encoder,
        tensors,
        name=segmenter.architecture.encoder,
        source=shown,
        is_classifier=lambda key: key in left_out or key.startswith(("head.",) if left_out else _UNUSED),
        allow_missing=allow_missing,
    )
    segmenter.preprocessing = preprocessing
    share_with_head(segmenter)
    taken = fill_fully_convolutional(segmenter.head, tensors, report.prefix)
    return replace(report, head=taken, unused=tuple(name for name in report.unused if name not in taken))


def share_with_head(segmenter: Segmenter) -> None:
    """Where the head has an encoder of its own (Deep G-CRF's second), start it as the first, which got weights."""
    follow = getattr(segmenter.head, "follow", None)
    if follow is not None:
        follow(segmenter.encoder)


def imagenet_file_at_hand(encoder: str) -> Path | None:
    """The file in the folder DUCSEG_WEIGHTS that "imagenet" means for one of our encoders; None: it is downloaded.

    Raises:
        UserError: DUCSEG_WEIGHTS names no folder.
    """
    return _in_folder(_file_names(encoder))


def _file_names(encoder: str) -> tuple[str, ...]:
    """What a file of ImageNet weights of one of our encoders is called, the most particular first."""
    return (f"tf_{encoder}.in1k", f"tf_{encoder}", encoder) if encoder in EFFICIENTNET_LITES else (encoder,)


def differing(segmenter: Segmenter, own: Sequence[tuple[str, object]] = FUNCTION) -> list[str]:
    """Options of the architecture that are not as in `own`."""
    found = {key: getattr(segmenter.architecture, key) for key, _ in own}
    return [f"{key}={found[key]!r}" for key, value in own if found[key] != value]


def _in_folder(names: Sequence[str]) -> Path | None:
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return None
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise explain(
            FOLDER_VARIABLE, found=f"no folder {folder}", needed="a folder of weight files", fix="Set it, or unset it."
        )
    files = sorted(
        (file for file in path.iterdir() if file.suffix in _ENDINGS), key=lambda file: (len(file.name), file)
    )
    for name in names:
        for file in files:
            if re.fullmatch(rf"{re.escape(name)}([-.].*)?", file.stem):
                return file
    return None


def _named(segmenter: Segmenter, source: str) -> _Named:
    """The weights of that name, checked to be of this network: some networks of timm share names and shapes."""
    encoder, chosen = segmenter.encoder, segmenter.architecture
    if isinstance(encoder, TimmEncoder):
        return _of_timm_encoder(segmenter, encoder, source)
    if source != "imagenet":
        return _of_timm(segmenter, source.removeprefix(PREFIX))
    if chosen.encoder in EFFICIENTNET_LITES:
        return _Named(_file_names(chosen.encoder), f"tf_{chosen.encoder}.in1k", TENSORFLOW)
    own = (("stem", "7x7"), *FUNCTION, ("width", 64))
    wrong = differing(segmenter, own)
    if segmenter.preprocessing.is_rgb and segmenter.preprocessing != IMAGENET:
        wrong.append(f"preprocessing mean {segmenter.preprocessing.mean} and std {segmenter.preprocessing.std}")
    if wrong:
        raise explain(
            f"ImageNet weights of {chosen.encoder}",
            found=", ".join(wrong),
            needed="torchvision's own network: " + ", ".join(f"{key}={value!r}" for key, value in own),
            fix="Change these options, or give weights made for this network (timm:resnet101s.gluon_in1k for the 3x3 "
            "stem of resnet101) instead of the name imagenet.",
        )
    return _Named(_file_names(chosen.encoder), "", IMAGENET)


def _of_timm_encoder(segmenter: Segmenter, encoder: TimmEncoder, source: str) -> _Named:
    network, example = encoder.name.partition(".")[0], encoder.network.pretrained_cfg.get("hf_hub_id")
    default = str(example or "").removeprefix("timm/")
    name = default if source == "imagenet" else source.removeprefix(PREFIX)
    if not name:
        if (file := _in_folder((network,))) is not None:
            return _Named((file.stem,), "", encoder.preprocessing)
        raise explain(
            f"weights {PREFIX}{network}", found="none on the Hub", needed="weights of that name", fix="Give a file."
        )
    if not re.fullmatch(rf"{network}\.\w+", name):
        raise _of_another(segmenter, name, default)
    return _Named((name, network) if name == default else (name,), name, encoder.preprocessing)


def _of_timm(segmenter: Segmenter, name: str) -> _Named:
    chosen = segmenter.architecture
    deep = chosen.stem == "3x3"
    network = chosen.encoder + ("s" if deep else "")
    if chosen.encoder in EFFICIENTNET_LITES:
        network, example = f"tf_{chosen.encoder}", f"tf_{chosen.encoder}.in1k"
    else:
        example = f"{network}.{'gluon_in1k' if deep else 'tv_in1k'}"
    wrong = chosen.encoder in RESNETS and differing(segmenter, (*FUNCTION, ("width", 64)))
    if wrong or chosen.encoder in ("mobilenet_v2", *VGGS) or not re.fullmatch(rf"{network}\.\w+", name):
        raise _of_another(segmenter, name, example, wrong or [])
    return _Named((name,), name, segmenter.preprocessing)


def _of_another(segmenter: Segmenter, name: str, example: str, wrong: Sequence[str] = ()) -> UserError:
    chosen = segmenter.architecture
    network = name.partition(".")[0]
    if network.removesuffix("s") in RESNETS:
        stem = "3x3" if network.endswith("s") else "7x7"
        fix = f"Use encoder={network.removesuffix('s')!r}, stem={stem!r} and the defaults of the other options."
    else:
        fix = f"Use encoder={PREFIX + network!r}."
    return explain(
        f"weights {PREFIX}{name}",
        found=", ".join([f"encoder={chosen.encoder!r}", f"stem={chosen.stem!r}", *wrong]),
        needed=f"the network they were made for, and a tag behind its name, as in {PREFIX}{example}",
        fix=fix,
    )


def _unavailable(what: str, error: Exception, where: str) -> WeightsUnavailable:
    message = explain(
        what,
        found=f"a download that failed ({type(error).__name__}: {' '.join(str(error).split())[:200]})",
        needed=where,
        fix=f"Check the name and the network, or download that file by other means and give its path as "
        f"--model.weights, or its folder as {FOLDER_VARIABLE}. Fresh weights: --model.weights None.",
    )
    return WeightsUnavailable(str(message))


def _from_torchvision(encoder: str, urls: Mapping[str, str]) -> dict[str, Tensor]:
    url, what = urls[encoder], f"ImageNet weights of {encoder}"
    try:
        return torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    except OSError as error:  # URLError is one
        raise _unavailable(what, error, url) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise explain(
            what, found=f"a file that is not what it should be ({error})", needed=url, fix="Delete it from the cache."
        ) from error


def _from_hub(name: str) -> tuple[Path, Preprocessing]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository = f"timm/{name}"
    try:
        description = checked(Path(hf_hub_download(repository, "config.json")))
        file = checked(Path(hf_hub_download(repository, "model.safetensors")))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        where = f"model.safetensors of https://huggingface.co/{repository}"
        raise _unavailable(f"weights {PREFIX}{name}", error, where) from error
    return file, _preprocessing(name, description)


def _preprocessing(name: str, description: Path) -> Preprocessing:
    try:
        config: dict[str, Any] = parse_json(description.read_text(encoding="utf-8"))["pretrained_cfg"]
        mean, std = (tuple(round(255 * float(value), 6) for value in config[key]) for key in ("mean", "std"))
        if len(mean) != 3:
            raise ValueError(f"{len(mean)} values")
        return Preprocessing(mean=mean, std=std)
    except (ValueError, KeyError, TypeError) as error:
        reason = str(error) if isinstance(error, UserError) else repr(error)
        raise explain(
            f"weights {PREFIX}{name}",
            found=f"a config.json that does not read ({reason})",
            needed="the mean and standard deviation of their pictures",
            fix="Download model.safetensors and give its path.",
        ) from error
