"""ducseg: semantic segmentation with dense upsampling convolution (DUC) and hybrid dilated convolution (HDC).

import cv2, ducseg
predictor = ducseg.load("runs/camvid-resnet18-duc")
image = cv2.imread("street.png")[:, :, ::-1]
labels = predictor(image)                       # uint8 (H, W), indices into predictor.model.classes.names
probabilities = predictor.probabilities(image)  # float32 (L, H, W)
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ducseg.errors import UserError
from ducseg.version import __version__

if TYPE_CHECKING:
    from ducseg.inference.predictor import Predictor

__all__ = ["UserError", "__version__", "load"]


def load(
    path_or_hub_id: str | Path,
    device: str = "cpu",
    *,
    scales: tuple[float, ...] = (1.0,),
    flip: bool = False,
    bf16: bool = False,
    tile: int | None = None,
    overlap: int | None = None,
) -> "Predictor":
    """Load a trained segmenter, ready for pictures.

    Args:
        path_or_hub_id: a checkpoint folder, a run folder (then its best checkpoint), or an id on the Hugging Face Hub.
        device: "cpu", "cuda" or "cuda:N".
        scales, flip: average the probabilities over these sizes and over the mirrored picture.
        bf16: compute convolutions in bfloat16: about twice as fast, labels differ slightly; on hardware without it in
            float32 all the same, which a warning says.
        tile, overlap: label pictures longer than `tile` in windows of that side, blended where they overlap.

    Returns:
        A `Predictor`: image uint8 RGB (H, W, 3) -> label map uint8 (H, W).

    Raises:
        UserError: no such folder or id, a damaged checkpoint.
    """
    from ducseg.inference.predictor import load_predictor

    return load_predictor(path_or_hub_id, device, scales=scales, flip=flip, bf16=bf16, tile=tile, overlap=overlap)


def __getattr__(name: str) -> ModuleType:
    """`ducseg.models`, `ducseg.ops`, ...: a room is imported when it is asked for."""
    if name.startswith("_") or find_spec(f"ducseg.{name}") is None:
        raise AttributeError(f"module 'ducseg' has no attribute {name!r}")
    return import_module(f"ducseg.{name}")
