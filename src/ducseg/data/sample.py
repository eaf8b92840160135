"""What every data set yields and every joint transform takes.

Legend: H, W pixels of the picture as it is now; images are RGB uint8 (H, W, 3), labels uint8 (H, W) with 255 ignored.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Sample"]


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

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        height, width = self.image.shape[:2]
        return height, width
