"""Exponential moving average of a network's weights."""

import copy

import torch

from ducseg.models.segmenter import Segmenter

__all__ = ["MovingAverage"]


class MovingAverage:
    """A second segmenter whose parameters follow the first's: average = decay * average + (1 - decay) * weights.

    Buffers (batch norm statistics) are averages already and are copied. Early on the decay is at most
    (1 + steps) / (10 + steps), so that the random start is soon forgotten.
    """

    def __init__(self, segmenter: Segmenter, decay: float) -> None:
        self.decay = decay
        self.segmenter = copy.deepcopy(segmenter).requires_grad_(False)

    @torch.no_grad()
    def update(self, segmenter: Segmenter, step: int) -> None:
        """Follow `segmenter` after optimizer step `step` (1-based)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.segmenter.parameters()), list(segmenter.parameters()), 1 - decay)
        if buffers := list(self.segmenter.buffers()):  # VGG-16 has none
            torch._foreach_copy_(buffers, list(segmenter.buffers()))
