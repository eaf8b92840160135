"""How pictures become the network's input, kept with every network."""

from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from ducseg.errors import explain

__all__ = ["IMAGENET", "MOST_CHANNELS", "TENSORFLOW", "Preprocessing"]

MOST_CHANNELS = 16
_DTYPES = ("uint8", "uint16", "float32")
_LARGEST = {"uint8": 1e6, "uint16": 1e6, "float32": 1e30}
"""Beyond what a channel's mean can be; a description that says more is damaged."""

Values = tuple[float, ...]


@dataclass(frozen=True)
class Preprocessing:
    """Pictures of C channels minus `mean`, divided by `std`, both of C values on the pictures' own scale.

    Attributes:
        mean, std: of R, G, B on the 0..255 scale for ordinary pictures.
        dtype: of the pictures: "uint8", "uint16" or "float32".

    Raises:
        UserError: no or more than 16 values, not as many of each, a standard deviation that is not above 0, another
            type.
    """

    mean: Values
    std: Values
    dtype: str = "uint8"

    def __post_init__(self) -> None:
        values = (*self.mean, *self.std)
        wrong = not len(self.mean) == len(self.std) in range(1, MOST_CHANNELS + 1) or self.dtype not in _DTYPES
        if wrong or not all(_is_number(value, _LARGEST[self.dtype]) for value in values) or min(self.std) <= 0:
            raise explain(
                "preprocessing",
                found=f"mean {self.mean}, std {self.std}, {self.dtype}",
                needed=f"one value each for every channel (R, G, B on the 0..255 scale), at most {MOST_CHANNELS}, "
                f"std above 0, {', '.join(_DTYPES)}",
                fix="Use ducseg.models.IMAGENET for torchvision's weights.",
            )

    @property
    def num_channels(self) -> int:
        """C."""
        return len(self.mean)

    @property
    def is_rgb(self) -> bool:
        """Whether pictures are ordinary ones: three channels of 8 bits."""
        return self.num_channels == 3 and self.dtype == "uint8"

    def normalise(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) of `dtype` to the network's float32 input (N, C, H, W), on the same device."""
        assert str(images.dtype) == f"torch.{self.dtype}", (images.dtype, self.dtype)
        mean, std = (_on_device(values, images.device) for values in (self.mean, self.std))
        return (images.float() - mean) / std

    @property
    def mean_colour(self) -> Values:
        """The mean as a pixel of `dtype`, for padding pictures."""
        if self.dtype == "float32":
            return self.mean
        largest = 255 if self.dtype == "uint8" else 65535
        return tuple(min(max(round(value), 0), largest) for value in self.mean)

    def to_json(self) -> dict[str, Any]:
        """The form of `model.json`; of uint8 pictures, as of all before, the type is not named."""
        values: dict[str, Any] = {"mean": list(map(float, self.mean)), "std": list(map(float, self.std))}
        return values if self.dtype == "uint8" else values | {"dtype": self.dtype}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Preprocessing":
        """The inverse of `to_json`; raises `UserError` where it is something else."""
        lists = {key: entry for key, entry in value.items() if key != "dtype"}
        dtype = value.get("dtype", "uint8")
        if lists.keys() != {"mean", "std"} or not all(isinstance(entry, list) for entry in lists.values()):
            raise explain("preprocessing", found=str(value)[:80], needed="lists mean and std", fix="Correct it.")
        return cls(mean=tuple(value["mean"]), std=tuple(value["std"]), dtype=dtype)


def _is_number(value: Any, largest: float) -> bool:
    return isinstance(value, Real) and value is not True and value is not False and -largest <= float(value) <= largest


_ON_DEVICE: dict[tuple[Values, torch.device], Tensor] = {}


def _on_device(values: Values, device: torch.device) -> Tensor:
    """The values as (C, 1, 1), copied to each device once: a copy at every step would wait for the device."""
    if torch.compiler.is_compiling():  # a constant of the graph
        return torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1)
    if (values, device) not in _ON_DEVICE:
        with torch.inference_mode(False):  # so that training can use what prediction made
            _ON_DEVICE[values, device] = torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1)
    return _ON_DEVICE[values, device]


IMAGENET = Preprocessing(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
"""torchvision's ImageNet mean and standard deviation times 255."""

TENSORFLOW = Preprocessing(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
"""To -1..1, as TensorFlow's EfficientNets expect it."""
