"""What every data set yields and every joint transform takes.

Legend: H, W pixels of the picture as it is now; images are RGB uint8 (H, W, 3), or C channels (H, W, C) of uint8,
uint16 or float32 as the files hold them; labels are uint8 (H, W) with 255 ignored.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Sample", "as_type", "is_rgb"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture with its label map.

    Attributes:
        image: RGB uint8 (H, W, 3), or C channels (H, W, C) of uint8, uint16 or float32.
        label: train ids, uint8, (H, W), 255 is ignored; None where there is no ground truth.
        id: the name that the data set gives it, used in messages and for output files.
        original_size: (H, W) in pixels of the file, before any transform.
    """

    image: NDArray[Any]
    label: NDArray[np.uint8] | None
    id: str
    original_size: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        height, width = self.image.shape[:2]
        return height, width


def is_rgb(image: NDArray[Any]) -> bool:
    """Whether a picture (H, W, C) is RGB of 8 bits."""
    return image.dtype == np.uint8 and image.shape[2] == 3


def as_type(values: NDArray[np.floating], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Values as this type; whole numbers are rounded and clipped to what it holds."""
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.asarray(np.clip(np.rint(values), limits.min, limits.max).astype(dtype))
