"""What labels pictures: the protocol, and what all that compute probabilities share: checks, scales and flip.

With several scales, or with flip, the softmax probabilities of all versions are resized bilinearly to the picture's
size and averaged before the argmax.
"""

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from ducseg.classes import ClassSet
from ducseg.data.files.channels import RGB, Pixels
from ducseg.data.files.rasters import read_finite
from ducseg.errors import MALFORMED, explain
from ducseg.inference.taken import as_picture, resized, stacked
from ducseg.inference.tiles import PixelsInMemory, Tiling, answer_windows, assemble
from ducseg.models.segmenter import most_probable

__all__ = ["AveragingLabeller", "Labeller", "Picture", "both", "each", "pixels_of", "reader_for"]

Answer = TypeVar("Answer")
Picture = NDArray[Any] | Image | Tensor
"""What is taken for a picture, if it holds one: `as_picture`."""


class Labeller(Protocol):
    """What labels pictures: a `Predictor`, or anything around one."""

    @property
    def classes(self) -> ClassSet:
        """What the labels index: names and colours of the L classes."""

    @property
    def record(self) -> Mapping[str, Any]:
        """What training noted beside the network: "metrics" and "extra" of its `model.json`; empty where nothing is."""

    def __call__(self, image: NDArray[np.uint8], /) -> NDArray[np.uint8]:
        """RGB uint8 (H, W, 3) to labels uint8 (H, W)."""

    def probabilities(self, image: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """RGB uint8 (H, W, 3) to class probabilities float32 (L, H, W)."""


class AveragingLabeller(ABC):
    """Labels pictures of any size, also by the average over scales and the mirrored picture; what computes is below.

    Args:
        scales: the probabilities are averaged over the picture resized by these factors; (1.0,): the picture itself.
        flip: average over the mirrored picture too.
        tile, overlap: label pictures longer than `tile` in windows of that side, blended, see `ducseg.inference.tiles`;
            scales and flip are averaged inside each. None: whole (of one of both alone: 1024, a quarter of the tile).

    Raises:
        UserError: no scale, or one that is not above 0; no tile, or an overlap that is not below it.
    """

    stride = 32
    """Of the grid on which the network computes: pictures are padded to multiples of it."""

    def __init__(
        self, *, scales: Sequence[float], flip: bool, tile: int | None = None, overlap: int | None = None
    ) -> None:
        self.scales: tuple[float, ...] = ()
        with suppress(*MALFORMED):
            self.scales = tuple(map(float, scales))
        if not self.scales or not all(0 < scale < math.inf for scale in self.scales):
            raise explain(
                "scales", found=scales, needed="one or more factors above 0", fix="(1.0,) is the picture itself."
            )
        self.flip = flip
        self.tiling = Tiling.given(tile, overlap)

    @property
    def pixels(self) -> Pixels:
        """What the pictures hold that it takes."""
        return RGB

    @property
    def gives_probabilities(self) -> bool:
        """Whether it gives more than labels."""
        return True

    @property
    @abstractmethod
    def classes(self) -> ClassSet:
        """What the labels index: names and colours of the L classes."""

    @property
    @abstractmethod
    def record(self) -> Mapping[str, Any]:
        """What training noted beside the network: "metrics" and "extra" of its `model.json`; empty where nothing is."""

    @abstractmethod
    def _labels(self, pictures: NDArray[np.uint8]) -> Tensor:
        """RGB uint8 (N, H, W, 3) to labels uint8 (N, H, W)."""

    @abstractmethod
    def _probabilities(self, pictures: NDArray[np.uint8]) -> Tensor:
        """RGB uint8 (N, H, W, 3) to probabilities float32 (N, L, H, W), a tensor of the caller's."""

    def _both(self, pictures: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """What `_labels` and `_probabilities` give; of one pass, where a labeller can."""
        return self._labels(pictures), self._probabilities(pictures)

    @abstractmethod
    def _computing(self, pictures: NDArray[np.uint8]) -> AbstractContextManager[None]:
        """Around all of the above."""

    @property
    def grid(self) -> int:
        """At multiples of this windows start: there the picture in each of the scales is at a multiple of the stride.

        Scales that are no fraction of a denominator up to 16 are not looked at.
        """
        fractions = [Fraction(scale).limit_denominator(16) for scale in self.scales]
        exact = [one.denominator for one, scale in zip(fractions, self.scales) if math.isclose(one, scale)]
        return self.stride * math.lcm(*exact)

    def __call__(self, image: Picture, /) -> NDArray[np.uint8]:
        """Label one picture.

        Args:
            image: RGB uint8 (H, W, 3) of any size, an array, a tensor, or a PIL image of 8 bits in any mode.

        Returns:
            uint8 (H, W), the most probable class of each pixel, an index into `classes`.

        Raises:
            UserError: another type or shape (what it looks like, how to convert it), or not enough memory.
        """
        return self.labels_of([image])[0]

    def labels_of(self, images: Sequence[Picture]) -> list[NDArray[np.uint8]]:
        """Label pictures, those of one size in one pass of the network: RGB uint8 (H, W, 3) each, to uint8 (H, W) each.

        Raises:
            UserError: no picture; as labelling one.
        """
        return self._size_by_size(images, self._labels_of_one_size)

    def _labels_of_one_size(self, pictures: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        if self._cut(pictures):
            return [np.asarray(self._in_windows(picture, None), np.uint8) for picture in pictures]
        with self._computing(pictures):
            if self.scales == (1.0,) and not self.flip:
                return list(self._labels(pictures).cpu().numpy())
            return list(most_probable(self._averaged(pictures)).cpu().numpy())

    def probabilities(self, image: Picture, /) -> NDArray[np.float32]:
        """Class probabilities of one picture: RGB uint8 (H, W, 3) to float32 (L, H, W) that sums to 1 over L.

        Raises:
            UserError: as labelling one.
        """
        return self.probabilities_of([image])[0]

    def probabilities_of(self, images: Sequence[Picture]) -> list[NDArray[np.float32]]:
        """Class probabilities of pictures, as `labels_of` labels them."""
        return self._size_by_size(images, self._probabilities_of_one_size)

    def _probabilities_of_one_size(self, pictures: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        if self._cut(pictures):
            return [np.asarray(self._in_windows(picture, len(self.classes)), np.float32) for picture in pictures]
        return self._whole(pictures)

    def labels_and_probabilities_of(
        self, images: Sequence[Picture]
    ) -> list[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
        """What `labels_of` and `probabilities_of` give, of one pass of the network."""
        return self._size_by_size(images, self._both_of_one_size)

    def _both_of_one_size(self, pictures: NDArray[np.uint8]) -> list[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
        if self._cut(pictures):
            found = torch.from_numpy(np.stack(self._probabilities_of_one_size(pictures)))
            return list(zip(most_probable(found).numpy(), found.numpy()))
        with self._computing(pictures):
            if self.scales == (1.0,) and not self.flip:
                labels, probabilities = self._both(pictures)
            else:
                probabilities = self._averaged(pictures)
                labels = most_probable(probabilities)
            return list(zip(labels.cpu().numpy(), probabilities.cpu().numpy()))

    def whole_probabilities_of(self, images: Sequence[Picture]) -> list[NDArray[np.float32]]:
        """As `probabilities_of`, of pictures of one size, never in windows."""
        return self._whole(stacked([as_picture(image, self.pixels) for image in images]))

    def _whole(self, pictures: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        with self._computing(pictures):
            return list(self._averaged(pictures).cpu().numpy())

    def _size_by_size(
        self, images: Sequence[Picture], answer: Callable[[NDArray[np.uint8]], list[Answer]]
    ) -> list[Answer]:
        """What `answer` gives of the pictures (N, H, W, C) of each size, in the order of all."""
        pictures = [as_picture(image, self.pixels) for image in images]
        places = defaultdict[tuple[int, ...], list[int]](list)
        for place, picture in enumerate(pictures):
            places[picture.shape[:2]].append(place)
        if len(places) < 2:
            return answer(stacked(pictures))
        found: dict[int, Answer] = {}
        for same in places.values():
            found |= dict(zip(same, answer(stacked([pictures[place] for place in same]))))
        return [found[place] for place in range(len(pictures))]

    def _cut(self, pictures: NDArray[np.uint8]) -> bool:
        return self.tiling is not None and self.tiling.cuts((pictures.shape[1], pictures.shape[2]), self.grid)

    def _in_windows(self, picture: NDArray[np.uint8], classes: int | None) -> NDArray[Any]:
        """Labels, or with the number of classes probabilities."""
        assert self.tiling is not None
        pixels, number = PixelsInMemory(picture), len(self.classes)
        blocks = answer_windows(pixels, self.whole_probabilities_of, self.tiling, classes=number, grid=self.grid)
        return assemble(blocks, pixels.size, classes)

    def _averaged(self, pictures: NDArray[np.uint8]) -> Tensor:
        height, width = pictures.shape[1:3]
        total: Tensor | None = None
        for scale in self.scales:
            scaled = resized(pictures, max(1, round(height * scale)), max(1, round(width * scale)))
            for flipped in (False, True) if self.flip else (False,):
                found = self._probabilities(scaled[:, :, ::-1] if flipped else scaled)
                if flipped:
                    found = found.flip(-1)
                if found.shape[-2:] != (height, width):
                    found = F.interpolate(found, (height, width), mode="bilinear", align_corners=False)
                total = found if total is None else total.add_(found)
        assert total is not None
        return total.div_(len(self.scales) * (1 + self.flip))


def pixels_of(labeller: Labeller) -> Pixels:
    """What pictures a labeller takes: its `pixels`; one that has none takes RGB."""
    found: Pixels = getattr(labeller, "pixels", RGB)
    return found


def reader_for(labeller: Labeller) -> Callable[[Path], NDArray[Any]]:
    """What reads a picture file as the labeller takes it; it raises `UserError` for a file of another kind."""
    return partial(read_finite, wanted=pixels_of(labeller))


def each(
    labeller: Labeller, images: Sequence[NDArray[np.uint8]], *, probabilities: bool = False
) -> Sequence[NDArray[Any]]:
    """Labels, or probabilities, of pictures of one size: at once where the labeller can, else one by one."""
    if isinstance(labeller, AveragingLabeller):
        return labeller.probabilities_of(images) if probabilities else labeller.labels_of(images)
    return [labeller.probabilities(image) for image in images] if probabilities else list(map(labeller, images))


def both(
    labeller: Labeller, images: Sequence[NDArray[np.uint8]]
) -> Sequence[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Labels and probabilities of pictures of one size, of one pass where the labeller can."""
    at_once = getattr(labeller, "labels_and_probabilities_of", None)
    if at_once is None:
        return [(labeller(image), labeller.probabilities(image)) for image in images]
    found: list[tuple[NDArray[np.uint8], NDArray[np.float32]]] = at_once(images)
    return found
