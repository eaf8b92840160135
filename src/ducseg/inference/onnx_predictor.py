"""Label pictures with an exported network, in onnxruntime: what `Predictor` does with a checkpoint.

Legend: N pictures of one size H x W, L classes. Everything from pixels as stored to labels is inside the graph.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ducseg.classes import ClassSet
from ducseg.data.files.channels import Pixels
from ducseg.devices import pick_device, torch_device
from ducseg.errors import UserError, explain, package
from ducseg.inference.labeller import AveragingLabeller
from ducseg.inference.onnx_file import INSTALL, OnnxFile, read_onnx
from ducseg.inference.taken import as_picture, too_large
from ducseg.models.segmenter import most_probable

__all__ = ["OnnxPredictor", "no_probabilities", "onnx_device", "onnx_session"]

_WARNINGS_AND_LESS = 3  # onnxruntime's level: errors alone


class OnnxPredictor(AveragingLabeller):
    """Labels pictures of any size with a file of `ducseg export`.

    Args:
        file: its path, or what `read_onnx` gave.
        device: "cpu", "cuda" or "cuda:N" (with onnxruntime-gpu).
        scales, flip: average the probabilities over these sizes and over the mirrored picture; needs a file that
            gives scores or probabilities.
        tile, overlap: as `Predictor`'s; need such a file too.

    Attributes:
        file: what was read, with its description.

    Raises:
        UserError: as `read_onnx`; a device that onnxruntime has not; scales or flip of a file that gives labels alone;
            a graph that onnxruntime does not take.
    """

    def __init__(
        self,
        file: OnnxFile | Path | str,
        device: str | torch.device = "cpu",
        *,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        tile: int | None = None,
        overlap: int | None = None,
    ) -> None:
        super().__init__(scales=scales, flip=flip, tile=tile, overlap=overlap)
        self.file = file if isinstance(file, OnnxFile) else read_onnx(file)
        if not self.gives_probabilities and (self.scales != (1.0,) or flip or self.tiling is not None):
            raise no_probabilities(self.file, "to average over scales, flip or windows")
        self.stride = (self.file.description.get("architecture") or {}).get("output_stride", self.stride)
        self.device = torch_device(device)
        self._session = onnx_session(self.file, self.device)
        (taken,) = self._session.get_inputs()
        self._input_name = taken.name

    @property
    def pixels(self) -> Pixels:
        """What the pictures hold that it takes: RGB of 8 bits, or what the network was trained on."""
        return self.file.pixels

    @property
    def gives_probabilities(self) -> bool:
        """Whether it gives more than labels."""
        return self.file.output != "labels"

    @property
    def classes(self) -> ClassSet:
        """What the labels index: names and colours of the L classes."""
        return self.file.classes

    @property
    def record(self) -> Mapping[str, Any]:
        """What training noted beside the network: "metrics" and "extra" of its description."""
        return {key: self.file.description.get(key) for key in ("metrics", "extra")}

    def answer(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        """What the graph gives of one picture: labels uint8 (H, W), or scores or probabilities float32 (L, H, W)."""
        pictures = as_picture(image, self.pixels)[None]
        with self._computing(pictures):
            return np.asarray(self._run(pictures)[0].numpy())

    def _labels(self, pictures: NDArray[np.uint8]) -> Tensor:
        if self.file.output == "labels":
            return self._run(pictures)
        return most_probable(self._run(pictures))

    def _probabilities(self, pictures: NDArray[np.uint8]) -> Tensor:
        return self._with_probabilities(pictures)[1]

    def _both(self, pictures: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        found, probabilities = self._with_probabilities(pictures)
        return most_probable(found), probabilities

    def _with_probabilities(self, pictures: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """What the graph gives, and the probabilities that it says."""
        if not self.gives_probabilities:
            raise no_probabilities(self.file, "as confidence and windows of what does not fit in memory need")
        found = self._run(pictures)
        return found, found.softmax(1) if self.file.output == "scores" else found

    def _run(self, pictures: NDArray[np.uint8]) -> Tensor:
        """What the graph gives, of the shape that its description promises."""
        (found,) = self._session.run(None, {self._input_name: np.ascontiguousarray(pictures)})
        count, height, width = pictures.shape[:3]
        labels = self.file.output == "labels"
        wanted = (count, height, width) if labels else (count, len(self.classes), height, width)
        if found.shape != wanted or (labels and found.max() >= len(self.classes)):
            raise explain(
                f"ONNX file {self.file.path}",
                found=f"{found.shape} of {found.dtype}, up to {found.max()}",
                needed=f"{wanted} of {len(self.classes)} classes, as its description says",
                fix="Export the checkpoint again.",
            )
        return torch.from_numpy(found)

    @contextmanager
    def _computing(self, pictures: NDArray[np.uint8]) -> Iterator[None]:
        try:
            with torch.inference_mode():
                yield
        except UserError:
            raise
        except MemoryError as error:
            raise too_large(pictures, self.device) from error
        except Exception as error:  # onnxruntime's have no common base
            if not type(error).__module__.startswith("onnxruntime"):
                raise
            if "alloc" in str(error):
                raise too_large(pictures, self.device) from error
            raise _does_not_run(self.file, error) from error


def no_probabilities(file: OnnxFile, why: str) -> UserError:
    """The error where more is asked of a file than the labels it gives."""
    return explain(
        f"ONNX file {file.path}",
        found="one that gives labels alone",
        needed=f"one that gives probabilities, {why}",
        fix="Export it with --output probabilities.",
    )


def onnx_device(name: str) -> torch.device:
    """As `pick_device`; auto is the CPU unless this onnxruntime, too, can use a GPU."""
    runtime = package("onnxruntime", what="ONNX files", install=INSTALL)
    if name == "auto" and "CUDAExecutionProvider" not in runtime.get_available_providers():
        return torch.device("cpu")
    return pick_device(name)


def onnx_session(file: OnnxFile, device: torch.device) -> Any:
    """onnxruntime's session, on as many threads as torch uses.

    Raises:
        UserError: onnxruntime is missing, has no such device, or does not take the graph.
    """
    runtime = package("onnxruntime", what="ONNX files", install=INSTALL)
    options = runtime.SessionOptions()
    options.log_severity_level = _WARNINGS_AND_LESS
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return runtime.InferenceSession(file.content, options, providers=_providers(runtime, device))
    except UserError:
        raise
    except Exception as error:  # onnxruntime's have no common base
        raise _does_not_run(file, error) from error


def _providers(runtime: Any, device: torch.device) -> list[Any]:
    if device.type == "cpu":
        return ["CPUExecutionProvider"]
    there = runtime.get_available_providers()
    if device.type != "cuda" or "CUDAExecutionProvider" not in there:
        raise explain(
            "--device",
            found=f"{device}, where this onnxruntime has {', '.join(there)}",
            needed="cpu, or onnxruntime-gpu for cuda",
            fix="Take --device cpu.",
        )
    return [("CUDAExecutionProvider", {"device_id": device.index or 0}), "CPUExecutionProvider"]


def _does_not_run(file: OnnxFile, error: Exception) -> UserError:
    return explain(
        f"ONNX file {file.path}",
        found=f"a graph that onnxruntime does not run ({str(error).splitlines()[0][:200]})",
        needed="one as `ducseg export` wrote it",
        fix="Copy the file again, or export the checkpoint again.",
    )
