"""ImageNet's fully connected layers of VGG-16 as the convolutions fc6 and fc7 of a head."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ducseg.models.encoder import Part
from ducseg.models.vgg import FullyConvolutional

__all__ = ["fill_fully_convolutional"]


@torch.no_grad()
def fill_fully_convolutional(head: Part, tensors: Mapping[str, Tensor], prefix: str = "") -> tuple[str, ...]:
    """Copy torchvision's `classifier.0` and `classifier.3` into every fc6 and fc7 of a head that are as large.

    A fully connected layer on 512 x 7 x 7 features is a 7x7 convolution of 512 channels, number by number.

    Args:
        tensors: of a file, whose names may begin with `prefix`.

    Returns:
        The file's names that were taken; none where the head has no such layers, or the file not all of them.
    """
    names = [f"{prefix}classifier.{layer}.{part}" for layer in (0, 3) for part in ("weight", "bias")]
    given = [tensors[name] for name in names if name in tensors]
    taken: tuple[str, ...] = ()
    for module in head.modules():
        if not isinstance(module, FullyConvolutional) or len(given) != len(names):
            continue
        own = [parameter for layer in (module.fc6, module.fc7) for parameter in (layer.weight, layer.bias)]
        fits = all(
            mine is not None and value.numel() == mine.numel() and value.is_floating_point() and value.isfinite().all()
            for mine, value in zip(own, given)
        )
        if fits:
            for mine, value in zip(own, given):
                assert mine is not None
                mine.copy_(value.reshape(mine.shape))
            taken = tuple(names)
    return taken
