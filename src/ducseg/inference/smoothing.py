"""Masks that do not flicker: probabilities averaged over time, along what moves.

    q_t = a w(q_(t-1)) + (1 - a) p_t,   a = share * exp(-(d / 12)^2)

w takes the last frame to this one along the optical flow between them (Kroeger et al. 2016, OpenCV's DIS). d is by how
much the mean of 5 x 5 pixels then still differs, in the colour that differs most, in levels of 0..255: a camera's noise
is evened out in it, while what comes into view, what the flow misses and everything after a cut is seen afresh.
"""

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.errors import explain
from ducseg.inference.labeller import Labeller

__all__ = ["Smoothed", "check_share"]

_MOVED = 12.0
"""Levels of difference at which the share of the past falls to 1/e of itself."""
_WINDOW = (5, 5)
_LEAST = 16
"""Pixels of a side below which there is no flow: its patches, on several scales, do not fit."""


class Smoothed:
    """A labeller of the frames of one clip, called in their order.

    Args:
        labeller: of single pictures.
        share: of the past, from 0 (none) to below 1.

    Raises:
        UserError: another share.
    """

    def __init__(self, labeller: Labeller, share: float) -> None:
        self.labeller, self.share = labeller, check_share(share)
        self.classes, self.record = labeller.classes, labeller.record
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._last = SimpleNamespace(image=None, probabilities=None)

    def probabilities(self, image: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """Averaged probabilities float32 (L, H, W) of the next frame, RGB uint8 (H, W, 3)."""
        found = self.labeller.probabilities(image)
        last = self._last
        if self.share and last.image is not None and last.image.shape == image.shape:
            there = self._where_it_was(image, last.image)
            change = cv2.blur(cv2.subtract(image, _taken_from(last.image, there), dtype=cv2.CV_32F), _WINDOW)
            share = _taken_from(np.full(image.shape[:2], self.share, np.float32), there)  # none from outside the frame
            share *= np.exp(-np.square(np.abs(change).max(2) / np.float32(_MOVED)))
            moved = np.stack([_taken_from(one, there, cv2.BORDER_REPLICATE) for one in last.probabilities])
            found = np.asarray(found + share * (moved - found), np.float32)
        last.image, last.probabilities = image.copy(), found
        return found

    def _where_it_was(self, image: NDArray[np.uint8], last: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(H, W, 2): for each pixel, the x and y at which it was in the last frame."""
        grey = [cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in (image, last)]
        height, width = grey[0].shape
        grid = np.stack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)), 2)
        if min(height, width) < _LEAST:
            return grid
        return np.asarray(grid + self._flow.calc(grey[0], grey[1], np.zeros_like(grid)), np.float32)

    def __call__(self, image: NDArray[np.uint8], /) -> NDArray[np.uint8]:
        """Labels uint8 (H, W) of the next frame."""
        labels: NDArray[np.uint8] = self.probabilities(image).argmax(0).astype(np.uint8)
        return labels


def _taken_from(values: NDArray[Any], there: NDArray[np.float32], border: int = cv2.BORDER_CONSTANT) -> NDArray[Any]:
    """Values (H, W) or (H, W, C) at those places, bilinear; 0 outside, where `border` does not say otherwise."""
    return np.asarray(cv2.remap(values, there[..., 0], there[..., 1], cv2.INTER_LINEAR, borderMode=border))


def check_share(share: float) -> float:
    """The share of the past; raises UserError where it is not from 0 to below 1."""
    if not 0 <= share < 1:
        raise explain(
            "--smooth",
            found=share,
            needed="the share of the past, from 0 to below 1",
            fix="0.7 is much, 0 is none.",
        )
    return float(share)
