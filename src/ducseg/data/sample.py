"""What every data set yields and every joint transform takes.

Legend: H, W pixels of the picture as it is now; images are RGB uint8 (H, W, 3), labels uint8 (H, W) with 255 ignored.

A random crop of a file needs part of it only. So a data set may give samples as `Unread`: the size is known, a crop
decides on its window, and pixels are decoded as far as that window needs.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Read", "Sample", "Unread", "Window"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture with its label map.

    Attributes:
        image: RGB, uint8, (H, W, 3).
        label: train ids, uint8, (H, W), 255 is ignored; None where there is no ground truth.
        id: the name that the data set gives it, used in messages and for output files.
        original_size: (H, W) in pixels of the file, before any transform.
    """

    image: NDArray[np.uint8]
    label: NDArray[np.uint8] | None
    id: str
    original_size: tuple[int, int]


class Window(NamedTuple):
    """Rows top..bottom-1 and columns left..right-1 of a picture, none outside it."""

    top: int
    left: int
    bottom: int
    right: int


class Unread(Protocol):
    """A sample whose pixels are not decoded yet."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the sample."""

    def read(self, window: Window) -> Sample:
        """The sample at its whole size, of which only the pixels inside `window` are defined."""


@dataclass(frozen=True)
class Read:
    """A sample that was read, as an `Unread`."""

    sample: Sample

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the sample."""
        height, width = self.sample.image.shape[:2]
        return height, width

    def read(self, window: Window) -> Sample:
        """The sample, all of it."""
        return self.sample
