"""From a picture to a label map, the paper's test steps (section 4; released code).

The whole picture is normalised, padded right and below with the mean colour to a multiple of d, and cropped back. With
several scales, or with flip, the softmax probabilities of all versions are resized bilinearly to the picture's size
and averaged before the argmax.

Worked example, ResNet-101-DUC, L = 19: image 513x1024x3 -> probabilities 19x513x1024 -> labels 513x1024.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ducseg.errors import UserError, explain
from ducseg.models.segmenter import Segmenter

__all__ = ["Labeller", "Predictor", "as_picture"]


class Labeller(Protocol):
    """What labels pictures: a `Predictor`, or anything around one."""

    @property
    def model(self) -> Segmenter:
        """The network, with the classes that the labels index."""

    def __call__(self, image: NDArray[np.uint8], /) -> NDArray[np.uint8]:
        """RGB uint8 (H, W, 3) to labels uint8 (H, W)."""

    def probabilities(self, image: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """RGB uint8 (H, W, 3) to class probabilities float32 (L, H, W)."""


class Predictor:
    """Labels pictures of any size with a trained segmenter.

    Args:
        segmenter: the network; moved to `device`. Its mode (training or not) is left as it is.
        device: "cpu", "cuda", "cuda:N" or a torch device.
        scales: the probabilities are averaged over the picture resized by these factors; (1.0,): the picture itself.
        flip: average over the mirrored picture too.
        bf16: compute convolutions in bfloat16: about twice as fast on hardware that has it, labels differ slightly.

    Attributes:
        model: the `Segmenter`; `model.classes.names[label]` names a label.

    Raises:
        UserError: no scale, or one that is not above 0; a device that is not there.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        device: str | torch.device = "cpu",
        *,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        bf16: bool = False,
    ) -> None:
        self.scales = tuple(float(scale) for scale in scales)
        if not self.scales or not all(0 < scale < math.inf for scale in self.scales):
            raise explain(
                "scales", found=self.scales, needed="one or more factors above 0", fix="(1.0,) is the picture itself."
            )
        self.model, self.flip, self.bf16 = segmenter, flip, bf16
        self.device = _move(segmenter, device)

    def __call__(self, image: NDArray[np.uint8], /) -> NDArray[np.uint8]:
        """Label one picture.

        Args:
            image: RGB uint8 (H, W, 3) of any size, a numpy array or a PIL image.

        Returns:
            uint8 (H, W), the most probable class of each pixel, an index into `model.classes`.

        Raises:
            UserError: another type or shape (what it looks like, how to convert it), or not enough memory.
        """
        picture = as_picture(image)
        with self._computing(picture):
            if self.scales == (1.0,) and not self.flip:
                return self.model.predict_labels(self._input(picture))[0].cpu().numpy()
            return self._averaged(picture).argmax(0).to(torch.uint8).cpu().numpy()

    def probabilities(self, image: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """Class probabilities of one picture: RGB uint8 (H, W, 3) to float32 (L, H, W) that sums to 1 over L.

        Raises:
            UserError: as calling the predictor.
        """
        picture = as_picture(image)
        with self._computing(picture):
            return self._averaged(picture).cpu().numpy()

    def _averaged(self, picture: NDArray[np.uint8]) -> Tensor:
        height, width = picture.shape[:2]
        total: Tensor | None = None
        for scale in self.scales:
            scaled = _resized(picture, max(1, round(height * scale)), max(1, round(width * scale)))
            for flipped in (False, True) if self.flip else (False,):
                found = self.model.probabilities(self._input(scaled[:, ::-1] if flipped else scaled))
                if flipped:
                    found = found.flip(-1)
                if found.shape[-2:] != (height, width):
                    found = F.interpolate(found, (height, width), mode="bilinear", align_corners=False)
                total = found[0] if total is None else total.add_(found[0])
        assert total is not None
        return total.div_(len(self.scales) * (1 + self.flip))

    def _input(self, picture: NDArray[np.uint8]) -> Tensor:
        """The normalised (1, 3, H, W); its memory stays in the picture's order, which is channels_last."""
        pixels = torch.tensor(np.ascontiguousarray(picture)).to(self.device)
        return self.model.preprocessing.normalise(pixels.permute(2, 0, 1)[None])

    @contextmanager
    def _computing(self, picture: NDArray[np.uint8]) -> Iterator[None]:
        """Evaluation mode, no gradients, the wanted precision; and running out of memory said in words."""
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        try:
            with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                yield
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise _too_large(picture, self.device) from error
        except RuntimeError as error:
            if "can't allocate memory" not in str(error):  # how torch's CPU allocator says it
                raise
            raise _too_large(picture, self.device) from error
        finally:
            for module, training in modes:
                module.training = training


def as_picture(image: Any) -> NDArray[np.uint8]:
    """`image` as RGB uint8 (H, W, 3), not copied; `UserError` where it is something else, with how to convert it."""
    array = np.asarray(image)
    shape = array.shape
    if array.ndim == 3 and shape[2] == 3 and array.dtype == np.uint8 and array.size:
        return array
    if array.ndim == 4:
        fix = "That is a batch: pass one picture at a time."
    elif array.ndim == 2 or (array.ndim == 3 and shape[2] == 1):
        fix = "That is grey: repeat it, np.stack([grey] * 3, axis=-1), or PIL's image.convert('RGB')."
    elif array.ndim == 3 and shape[2] == 4:
        fix = "That has an alpha channel: pass image[:, :, :3]."
    elif array.ndim == 3 and shape[2] != 3 and shape[0] == 3:
        fix = "That has the channels first: pass image.transpose(1, 2, 0)."
    elif array.dtype.kind == "f":
        fix = "Bring it to 0..255: (image * 255).round().astype(np.uint8) if it lies in 0..1."
    elif array.dtype.kind in "ui":
        fix = "Bring it to 0..255 and .astype(np.uint8)."
    else:
        fix = "Read it with cv2.imread(path)[:, :, ::-1] or PIL's Image.open(path).convert('RGB')."
    raise explain("image", found=f"{array.dtype} {shape}", needed="RGB uint8 (H, W, 3), not empty", fix=fix)


def _resized(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if picture.shape[:2] == (height, width):
        return picture
    # bilinear, as in training's scale jitter and the released code
    return np.asarray(cv2.resize(np.ascontiguousarray(picture), (width, height), interpolation=cv2.INTER_LINEAR))


def _move(segmenter: Segmenter, device: str | torch.device) -> torch.device:
    try:
        chosen = torch.device(device)
        segmenter.to(chosen)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA raises the latter
        raise explain(
            "device", found=f"{device} ({str(error).splitlines()[0]})", needed="one that torch sees", fix='Try "cpu".'
        ) from error
    return chosen


def _too_large(picture: NDArray[np.uint8], device: torch.device) -> UserError:
    return explain(
        "not enough memory",
        found=f"a picture of {picture.shape[0]} x {picture.shape[1]} pixels (H x W) on {device}",
        needed="one that fits, whole",
        fix="Use scales=(0.5,) (--scales 0.5), another device, or parts of the picture.",
    )
