"""Open a trained network by what it is: a checkpoint folder, an id on the Hub, or an exported ONNX file."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from ducseg.errors import MALFORMED, explain
from ducseg.files import find_checkpoint
from ducseg.inference.labeller import AveragingLabeller
from ducseg.inference.onnx_file import read_onnx
from ducseg.inference.onnx_predictor import OnnxPredictor, no_probabilities
from ducseg.inference.predictor import load_predictor
from ducseg.weights.checkpoint import checkpoint_folder, read_model_json

__all__ = ["data_of", "is_exported", "mask_suffix_of", "open_labeller", "recorded"]


def open_labeller(
    path_or_hub_id: str | Path,
    device: str | torch.device = "cpu",
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    bf16: bool = False,
    probabilities: bool = False,
) -> AveragingLabeller:
    """A `Predictor` of a checkpoint, an `OnnxPredictor` of an ONNX file; the content tells which, not the name.

    Args:
        path_or_hub_id: a checkpoint folder, a run folder (then its best checkpoint), an id on the Hugging Face Hub, or
            a file of `ducseg export`.
        device, scales, flip: as for both.
        bf16: of a checkpoint alone; an ONNX file has the precision it was exported with.
        probabilities: they will be asked for: a file that gives labels alone is refused at once.

    Raises:
        UserError: as `ducseg.load`, or as `OnnxPredictor`; bf16 with an ONNX file.
    """
    if not is_exported(path_or_hub_id):
        return load_predictor(path_or_hub_id, device, scales=scales, flip=flip, bf16=bf16)
    if bf16:
        raise explain(
            "--bf16",
            found=f"{path_or_hub_id}, an exported file",
            needed="a checkpoint",
            fix="Leave it out: the file has the precision it was exported with (--int8 for a faster one).",
        )
    file = read_onnx(path_or_hub_id)
    if probabilities and file.output == "labels":
        raise no_probabilities(
            file, "as windows, --kinds confidence and probabilities, --smooth, --crf and --ensemble need"
        )
    return OnnxPredictor(file, device, scales=scales, flip=flip)


def recorded(path_or_hub_id: str | Path) -> tuple[Path, dict[str, Any]]:
    """What is noted of a network: the file or folder that it lies in, and the content of its `model.json`.

    Raises:
        UserError: as `checkpoint_folder` and `read_model_json`, or as `read_onnx`.
    """
    if is_exported(path_or_hub_id):
        file = read_onnx(path_or_hub_id)
        return file.path, file.description
    folder = checkpoint_folder(path_or_hub_id)
    return folder, read_model_json(folder)


def data_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The data configuration in what training noted (a labeller's `record`, a `model.json`), {} if none."""
    with suppress(*MALFORMED):
        return dict(record["extra"]["config"]["data"])
    return {}


def mask_suffix_of(record: Mapping[str, Any]) -> str | None:
    """How the names of the masks ended that the network was trained on, where that was said."""
    suffix = data_of(record).get("mask_suffix")
    return suffix if isinstance(suffix, str) and suffix else None


def is_exported(path_or_hub_id: str | Path) -> bool:
    """Whether a file is meant: one that is there and is no run's `best` in a file's form, or the name of an .onnx."""
    path = Path(path_or_hub_id).expanduser()
    if path.is_file():
        return find_checkpoint(path) is None
    return path.suffix == ".onnx" and not path.is_dir()
