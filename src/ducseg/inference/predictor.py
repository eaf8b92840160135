"""From a picture to a label map, the paper's test steps (section 4; released code).

The whole picture is normalised, padded right and below to a multiple of d (with the mean colour; mirrored for the
pyramid, which is not the paper's), and cropped back; `ducseg.inference.labeller` averages over scales and flip.

Worked example, ResNet-101-DUC, L = 19: image 513x1024x3 -> probabilities 19x513x1024 -> labels 513x1024.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary, ref

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ducseg.classes import ClassSet
from ducseg.data.files.channels import Pixels
from ducseg.data.files.overlapping import Overlapping
from ducseg.devices import in_bf16, ran_out_of_memory, torch_device
from ducseg.errors import explain
from ducseg.inference.labeller import AveragingLabeller, Labeller, each
from ducseg.inference.taken import as_picture, pixels_taken, too_large
from ducseg.models.depthwise import memory_order
from ducseg.models.fuse import fuse_batch_norm
from ducseg.models.segmenter import Segmenter
from ducseg.weights.checkpoint import load_segmenter

__all__ = ["Labeller", "Predictor", "as_picture", "each", "load_predictor"]


class Predictor(AveragingLabeller):
    """Labels pictures of any size with a trained segmenter.

    Args:
        segmenter: the network; moved to `device`. Its mode (training or not) and its weights are left as they are.
        device: "cpu", "cuda", "cuda:N" or a torch device.
        scales: the probabilities are averaged over the picture resized by these factors; (1.0,): the picture itself.
        flip: average over the mirrored picture too.
        bf16: compute convolutions in bfloat16: about twice as fast, labels differ slightly; on hardware without it in
            float32 all the same, which a warning says.
        fused: compute with a copy that has its batch norms folded into its convolutions and its weights in
            the fastest order (`memory_order`): the same to rounding, but later changes of `segmenter` are not seen.
        tile, overlap: label pictures longer than `tile` in windows of that side, blended, see `ducseg.inference.tiles`;
            scales and flip are averaged inside each. None: whole (of one of both alone: 1024, a quarter of the tile).

    Attributes:
        model: the `Segmenter`; `model.classes.names[label]` names a label.

    Raises:
        UserError: no scale, or one that is not above 0; a device that is not there; weights that are
            not float32; an overlap not below the tile.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        device: str | torch.device = "cpu",
        *,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        bf16: bool = False,
        fused: bool = False,
        tile: int | None = None,
        overlap: int | None = None,
    ) -> None:
        super().__init__(scales=scales, flip=flip, tile=tile, overlap=overlap)
        self.model, self.stride = segmenter, segmenter.output_stride
        _check_precision(segmenter)
        self.device = torch_device(device, segmenter)
        self.bf16 = in_bf16(bf16, self.device)
        self._network, self._memory = segmenter, torch.contiguous_format
        if fused:
            self._memory = memory_order(segmenter, self.device)
            self._network = fuse_batch_norm(segmenter).to(memory_format=self._memory)  # type: ignore[call-overload]
            for module in self._network.modules() if self.bf16 else ():
                if type(module) in (nn.Conv2d, nn.ConvTranspose2d, nn.Linear):  # autocast does it at every call
                    module.to(torch.bfloat16)

    @property
    def pixels(self) -> Pixels:
        """What the pictures hold that it takes: RGB of 8 bits, or what the network was trained on."""
        return pixels_taken(self.model.preprocessing)

    @property
    def classes(self) -> ClassSet:
        """What the labels index: names and colours of the L classes."""
        return self.model.classes

    @property
    def record(self) -> Mapping[str, Any]:
        """What training noted beside the network: "metrics" and "extra" of its `model.json`; empty where nothing is."""
        return self.model.record

    def _labels(self, pictures: NDArray[np.uint8]) -> Tensor:
        return self._network.predict_labels(self._input(pictures))

    def _probabilities(self, pictures: NDArray[np.uint8]) -> Tensor:
        return self._network.probabilities(self._input(pictures))

    def _both(self, pictures: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        return self._network.labels_and_probabilities(self._input(pictures))

    def _input(self, pictures: NDArray[np.uint8]) -> Tensor:
        """The normalised (N, C, H, W), in the memory order of the network's weights."""
        pixels = torch.from_numpy(np.array(pictures, order="C")).to(self.device)  # torch: no negative strides
        return self.model.preprocessing.normalise(pixels.permute(0, 3, 1, 2).contiguous(memory_format=self._memory))

    @contextmanager
    def _computing(self, pictures: NDArray[np.uint8]) -> Iterator[None]:
        """Evaluation mode, no gradients, the wanted precision; and running out of memory said in words."""
        try:
            with (
                _evaluating(self._network),
                torch.inference_mode(),
                torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16),
            ):
                yield
        except (MemoryError, RuntimeError) as error:
            if not ran_out_of_memory(error):
                raise
            raise too_large(pictures, self.device) from error


_OVERLAPPING: WeakKeyDictionary[nn.Module, Overlapping] = WeakKeyDictionary()
_LOCK = Lock()


def _evaluating(network: nn.Module) -> Overlapping:
    """A context in which `network` is in evaluation mode: the last thread in it restores what the first found."""
    to_network = ref(network)  # the dictionary's value must not keep its key

    @contextmanager
    def evaluation() -> Iterator[None]:
        inside = to_network()
        assert inside is not None
        modes = [(module, module.training) for module in inside.modules()]
        inside.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training

    with _LOCK:
        return _OVERLAPPING.setdefault(network, Overlapping(evaluation))


def _check_precision(segmenter: Segmenter) -> None:
    kinds = {weights.dtype for weights in segmenter.parameters()} - {torch.float32}
    if kinds:
        raise explain(
            "segmenter",
            found=f"weights of {', '.join(sorted(map(str, kinds)))}",
            needed="torch.float32",
            fix="Call segmenter.float(); bf16=True computes in half precision.",
        )


def load_predictor(
    path_or_hub_id: str | Path,
    device: str | torch.device = "cpu",
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    bf16: bool = False,
    tile: int | None = None,
    overlap: int | None = None,
) -> Predictor:
    """What `ducseg.load` does."""
    return Predictor(
        load_segmenter(path_or_hub_id), device, scales=scales, flip=flip, bf16=bf16, fused=True, tile=tile,
        overlap=overlap,
    )  # fmt: skip
