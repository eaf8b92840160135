"""What memory a picture takes whole, by a formula."""

import warnings
from copy import copy

from ducseg.devices import available_memory
from ducseg.errors import Said
from ducseg.inference.labeller import AveragingLabeller, Labeller
from ducseg.inference.tiles import TILE, Tiling

__all__ = ["memory_needed", "that_fits"]

_A_PIXEL, _A_CLASS = 600, 12
"""Bytes that a pixel takes, and each class at it. Measured for whole pictures: ResNet-18-DUC 300 (labels) and 390
(probabilities) in all with 19 classes, 1450 with 150; deeper networks have wider maps."""


def memory_needed(labeller: Labeller, size: tuple[int, int]) -> int:
    """Bytes that a picture takes whole, roughly: H W s^2 (600 + 12 L), L classes, s the largest scale above 1."""
    scale = max(1.0, *labeller.scales) if isinstance(labeller, AveragingLabeller) else 1.0
    return round(size[0] * size[1] * scale**2 * (_A_PIXEL + _A_CLASS * len(labeller.classes)))


def that_fits(labeller: Labeller, size: tuple[int, int]) -> Labeller:
    """The labeller; one that cuts into windows, and it is said, where a picture of this size (H, W) would end memory.

    Where half of `memory_needed` is not free: the formula is a generous one, and a system that runs out of memory ends
    the process without a word.
    """
    if not isinstance(labeller, AveragingLabeller) or labeller.tiling is not None:
        return labeller
    if memory_needed(labeller, size) <= 2 * available_memory(getattr(labeller, "device", None)):
        return labeller
    warnings.warn(
        f"pictures of {size[0]} x {size[1]} are scored in windows of {TILE}: whole they would not fit in memory",
        Said,
        stacklevel=3,
    )
    cutting = copy(labeller)
    cutting.tiling = Tiling()
    return cutting
