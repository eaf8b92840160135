"""How pictures become the network's input, kept with every network."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ducseg.errors import explain

__all__ = ["IMAGENET", "Preprocessing"]

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """RGB minus `mean`, divided by `std`, both on the 0..255 scale.

    Raises:
        UserError: not three values each, or a standard deviation that is not above 0.
    """

    mean: Triple
    std: Triple

    def __post_init__(self) -> None:
        if len(self.mean) != 3 or len(self.std) != 3 or not all(value > 0 for value in self.std):
            raise explain(
                "preprocessing",
                found=f"mean {self.mean}, std {self.std}",
                needed="three values each (R, G, B on the 0..255 scale), std above 0",
                fix="Use ducseg.models.IMAGENET for torchvision's weights.",
            )

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 images (N, 3, H, W) to the network's float32 input (N, 3, H, W), on the same device."""
        assert images.dtype == torch.uint8, images.dtype
        mean = torch.tensor(self.mean, device=images.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(3, 1, 1)
        return (images.float() - mean) / std

    @property
    def mean_colour(self) -> tuple[int, int, int]:
        """The mean as a colour, for padding uint8 pictures."""
        r, g, b = (min(max(round(value), 0), 255) for value in self.mean)
        return r, g, b

    def to_json(self) -> dict[str, Any]:
        """The form of `model.json`."""
        return {"mean": list(self.mean), "std": list(self.std)}


IMAGENET = Preprocessing(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
"""torchvision's ImageNet mean and standard deviation times 255."""
