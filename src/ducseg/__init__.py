"""ducseg: semantic segmentation with dense upsampling convolution (DUC) and hybrid dilated convolution (HDC).

import cv2, ducseg
predictor = ducseg.load("runs/camvid-resnet18-duc")
image = cv2.imread("street.png")[:, :, ::-1]
labels = predictor(image)                       # uint8 (H, W), indices into predictor.model.classes.names
probabilities = predictor.probabilities(image)  # float32 (L, H, W)
"""

from pathlib import Path
from typing import TYPE_CHECKING

from ducseg.errors import UserError, explain

if TYPE_CHECKING:
    from ducseg.inference.predictor import Predictor

__all__ = ["UserError", "__version__", "checkpoint_folder", "load"]
__version__ = "0.1.0"


def load(
    path_or_hub_id: str | Path, device: str = "cpu", *, scales: tuple[float, ...] = (1.0,), flip: bool = False
) -> "Predictor":
    """Load a trained segmenter, ready for pictures.

    Args:
        path_or_hub_id: a checkpoint folder, a run folder (then its best checkpoint), or an id on the Hugging Face Hub.
        device: "cpu", "cuda" or "cuda:N".
        scales, flip: average the probabilities over these sizes and over the mirrored picture.

    Returns:
        A `Predictor`: image uint8 RGB (H, W, 3) -> label map uint8 (H, W).

    Raises:
        UserError: no such folder or id, a damaged checkpoint.
    """
    from ducseg.inference.predictor import Predictor
    from ducseg.weights.checkpoint import load_segmenter

    return Predictor(load_segmenter(checkpoint_folder(path_or_hub_id)), device, scales=scales, flip=flip)


def checkpoint_folder(path_or_hub_id: str | Path, *, revision: str | None = None) -> Path:
    """The folder that holds `model.json`: the given one, its best or last checkpoint, or a download from the Hub.

    Args:
        revision: of a Hub id: branch, tag or commit.

    Raises:
        UserError: there is none.
    """
    path = Path(path_or_hub_id).expanduser()
    for candidate in (path, path / "best", path / "last"):
        if (candidate / "model.json").is_file():
            return candidate
    looks_like_an_id = isinstance(path_or_hub_id, str) and path_or_hub_id.count("/") == 1 and not path.exists()
    if not looks_like_an_id:
        raise explain(
            f"checkpoint {path_or_hub_id}",
            found="a folder without model.json, best/ or last/" if path.is_dir() else "no such folder",
            needed="a checkpoint or run folder of `ducseg train`, or a Hub id like name/model",
            fix="Check the path.",
        )
    from ducseg.weights.hub import download

    return download(str(path_or_hub_id), revision)
