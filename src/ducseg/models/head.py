"""What a `Segmenter` asks of a head, and a row of the table of heads (`ducseg.models.heads.HEADS`).

A head is given the encoder's features; all named maps of them (`takes_intermediates`); or, where it runs the encoder
itself (`runs_encoder`: at several scales, with padding of its own, as the comparison networks do), the pictures and the
encoder. What it learns from beyond cross-entropy on its scores are losses of its own (`OwnLosses`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ducseg.models.encoder import NamedEncoder, Part

__all__ = ["FitsToMasks", "Head", "HeadRow", "OwnLosses"]


class Head(Part, Protocol):
    """A torch module from an encoder's features to folded scores (N, L, r*r, h, w).

    Attributes:
        grid_stride: pixels per place of its scores' grid.
        factor: r, predicted places per grid place along one side.
        takes_intermediates: whether it is called with all of the encoder's named intermediates, a dict, in place of
            its features (`ducseg.models.encoder.NamedEncoder`), and with the normalised images as "picture".

    One that has a true `mirrors_borders` gets pictures mirrored to multiples of the encoder's output stride; beyond the
    others' lies the mean colour, as the paper's authors have it. One that has a true `runs_encoder` is called with the
    normalised images (N, C, H, W), H and W such multiples, and the encoder.
    """

    grid_stride: int
    factor: int
    takes_intermediates: bool

    def __call__(self, features: Any, /, *encoder: NamedEncoder) -> Tensor: ...


class OwnLosses(Protocol):
    """What a head that runs the encoder also has where it learns from more than its scores."""

    def supervised(self, images: Tensor, encoder: NamedEncoder, /) -> tuple[Tensor, ...]:
        """In training: the folded scores, and what `extra_loss` is of, computed with them."""

    def extra_loss(self, extras: Sequence[Tensor], labels: Tensor, /) -> Tensor:
        """What is added to the mean cross-entropy of the scores, a mean over one micro-batch of one rank.

        Args:
            extras: of `supervised`, without the scores.
            labels: uint8 (N, H, W), 255 ignored, H and W multiples of the encoder's output stride.
        """


class FitsToMasks(Protocol):
    """What a head also has where part of it is computed from the training masks before the first step.

    Attributes:
        fitted: 0 before, kept with the weights, so that it is done once.
    """

    fitted: Tensor

    def fit_to_masks(self, masks: Iterable[NDArray[np.uint8]], /) -> None:
        """Take it from masks, uint8 (H, W)."""


class HeadRow(NamedTuple):
    """One head.

    Attributes:
        make: (encoder, number of classes, cell, aspp) -> head.
        takes: which of "cell" and "aspp" it does not ignore; the others must be 1 and 0.
        own: what `build` takes for an option that is left out, in place of its usual value.
        needs: option -> values that the head is defined with; all others are refused.
        encoder: what it changes of a VGG (`ducseg.models.vgg`): options that its network has in no other.
    """

    make: Callable[[NamedEncoder, int, int, int], Head]
    takes: tuple[str, ...]
    own: Mapping[str, Any] = {}
    needs: Mapping[str, tuple[Any, ...]] = {}
    encoder: Mapping[str, Any] = {}
