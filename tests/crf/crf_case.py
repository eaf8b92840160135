"""A scene that the tests of the torch path share, on the CPU and on a GPU."""

import torch
from torch import Tensor

__all__ = ["case"]


def case(classes: int, height: int, width: int, images: int = 1) -> tuple[Tensor, Tensor]:
    """Probabilities (images, L, H, W) and photographs (images, 3, H, W) of a smooth scene with noise."""
    generator = torch.Generator().manual_seed(images * height + width)
    probabilities = torch.softmax(3 * torch.randn(images, classes, height, width, generator=generator), 1)
    ramp = torch.linspace(0, 200, width).expand(images, 3, height, width)
    noise = torch.randint(0, 12, (images, 3, height, width), generator=generator)
    return probabilities, (ramp + noise).to(torch.uint8)
