"""How pictures become the network's input, kept with every network."""

from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from ducseg.errors import explain

__all__ = ["IMAGENET", "TENSORFLOW", "Preprocessing"]

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
        wrong = len(self.mean) != 3 or len(self.std) != 3
        if wrong or not all(map(_is_number, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise explain(
                "preprocessing",
                found=f"mean {self.mean}, std {self.std}",
                needed="three values each (R, G, B on the 0..255 scale), std above 0",
                fix="Use ducseg.models.IMAGENET for torchvision's weights.",
            )

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 images (N, 3, H, W) to the network's float32 input (N, 3, H, W), on the same device."""
        assert images.dtype == torch.uint8, images.dtype
        mean, std = (_on_device(values, images.device) for values in (self.mean, self.std))
        return (images.float() - mean) / std

    @property
    def mean_colour(self) -> tuple[int, int, int]:
        """The mean as a colour, for padding uint8 pictures."""
        r, g, b = (min(max(round(value), 0), 255) for value in self.mean)
        return r, g, b

    def to_json(self) -> dict[str, Any]:
        """The form of `model.json`."""
        return {"mean": list(map(float, self.mean)), "std": list(map(float, self.std))}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Preprocessing":
        """The inverse of `to_json`; raises `UserError` where it is something else."""
        if value.keys() != {"mean", "std"} or not all(isinstance(entry, list) for entry in value.values()):
            raise explain("preprocessing", found=str(value)[:80], needed="lists mean and std", fix="Correct it.")
        return cls(mean=tuple(value["mean"]), std=tuple(value["std"]))


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and value is not True and value is not False and -1e6 <= float(value) <= 1e6


_ON_DEVICE: dict[tuple[Triple, torch.device], Tensor] = {}


def _on_device(values: Triple, device: torch.device) -> Tensor:
    """The values as (3, 1, 1), copied to each device once: a copy at every step would wait for the device."""
    if torch.compiler.is_compiling():  # a constant of the graph
        return torch.tensor(values, device=device).view(3, 1, 1)
    if (values, device) not in _ON_DEVICE:
        with torch.inference_mode(False):  # so that training can use what prediction made
            _ON_DEVICE[values, device] = torch.tensor(values, device=device).view(3, 1, 1)
    return _ON_DEVICE[values, device]


IMAGENET = Preprocessing(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
"""torchvision's ImageNet mean and standard deviation times 255."""

TENSORFLOW = Preprocessing(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
"""To -1..1, as TensorFlow's EfficientNets expect it."""
