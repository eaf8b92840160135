"""The network, for one caller at a time: labels as the library gives them, confidence beside, memory in bounds."""

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ducseg.errors import UserError
from ducseg.inference.labeller import Labeller, both, each, pixels_of
from ducseg.inference.tiles import PixelsInMemory, Tiling, answer_windows
from ducseg.inference.windowed import ByWindows, grid_of
from ducseg.inference.writers import as_confidence

__all__ = ["Network", "Picture"]

Picture = NDArray[np.uint8]


class Network:
    """Labels pictures of one size.

    Args:
        labeller: what labels.
        tiling: windows for what is longer; None: the labeller's own, else for what would not fit in memory whole.
        watch: told the number of pictures and the seconds of each pass.

    Attributes:
        pixels: that it takes.
    """

    def __init__(self, labeller: Labeller, tiling: Tiling | None, watch: Callable[[int, float], None]) -> None:
        self.classes, self.pixels = labeller.classes, pixels_of(labeller)
        self._labeller, self._windows, self._watch = labeller, ByWindows(labeller, tiling), watch
        self._tiling = tiling or getattr(labeller, "tiling", None) or Tiling()
        self._one_at_a_time = threading.Lock()

    def gives_probabilities(self) -> bool:
        """An exported file may give labels alone."""
        try:
            self._labeller.probabilities(np.zeros((64, 64, self.pixels.channels), self.pixels.dtype))
        except UserError:
            return False
        return True

    def __call__(self, pictures: Sequence[Picture], *, confidence: bool) -> list[tuple[Picture, Picture | None]]:
        """Labels uint8 (H, W) and, where asked for, the label's probability as uint8 (H, W), 255 for 1.

        Raises:
            UserError: as the labeller.
        """
        with self._one_at_a_time:
            began = time.perf_counter()
            by_windows = self._windows.takes(pictures[0])
            found = list(map(self._cut, pictures)) if by_windows else self._whole(pictures, confidence)
            self._watch(len(pictures), time.perf_counter() - began)
        return found

    def _whole(self, pictures: Sequence[Picture], confidence: bool) -> list[tuple[Picture, Picture | None]]:
        if not confidence:
            return [(one, None) for one in each(self._labeller, pictures)]
        return [(labels, as_confidence(sure)) for labels, sure in both(self._labeller, pictures)]

    def _cut(self, picture: Picture) -> tuple[Picture, Picture | None]:
        labels, confidence = np.empty(picture.shape[:2], np.uint8), np.empty(picture.shape[:2], np.uint8)
        blocks = answer_windows(
            PixelsInMemory(picture),
            lambda images: each(self._labeller, images, probabilities=True),
            self._tiling,
            classes=len(self.classes),
            grid=grid_of(self._labeller),
        )
        for block in blocks:
            labels[block.rows, block.columns] = block.labels()
            confidence[block.rows, block.columns] = as_confidence(block.probabilities)
        return labels, confidence
