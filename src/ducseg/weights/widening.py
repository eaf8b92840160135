"""The first convolution of RGB weights for pictures of other channels."""

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["spread_over", "widened"]


def widened(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors, kernels of RGB where `own` has as many for C channels `spread_over` these; and which they are."""
    fitted, changed = dict(tensors), []
    for key in own.keys() & tensors.keys():
        kernel, wanted = tensors[key], own[key].shape
        if kernel.ndim == len(wanted) == 4 and kernel.shape == (wanted[0], 3, *wanted[2:]) and wanted[1] != 3:
            fitted[key] = spread_over(kernel, wanted[1])
            changed.append(key)
    return fitted, changed


def spread_over(kernel: Tensor, num_channels: int) -> Tensor:
    """Kernels of RGB (n, 3, k, k) for C channels (n, C, k, k), whose sum over the channels is the same.

    So the answer to a picture whose normalised channels are equal, a grey one, is the same. Channel c gets the kernel
    of colour c modulo 3, divided by the number of channels that get that colour's; one or two channels get the sum of
    the three, divided by C.
    """
    if num_channels < 3:
        return kernel.sum(1, keepdim=True).repeat(1, num_channels, 1, 1) / num_channels
    colours = torch.arange(num_channels) % 3
    return kernel[:, colours] / colours.bincount()[colours].to(kernel)[:, None, None]
