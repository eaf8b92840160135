"""Small networks whose answers differ from pixel to pixel, and pictures for them."""

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ducseg.models import COMPARISONS, Segmenter, build


def network(encoder: str = "resnet18", head: str = "duc", **options: Any) -> Segmenter:
    """Of 5 classes, in evaluation mode, with statistics as of its own features and a head that tells places apart."""
    torch.manual_seed(0)
    usual = {} if head in COMPARISONS else {"output_stride": 16, "aspp": 0}
    options = {**usual, **({"width": 4} if encoder.startswith(("resnet", "vgg")) else {}), **options}
    made = build(encoder, head, 5, **options)
    last = _last_layers(made.head)
    with torch.no_grad():
        made.train()
        for _ in range(3):
            made(torch.randn(2, 3, 96, 96))
        made.eval()
        if head in COMPARISONS and hasattr(last, "bias"):  # no class is the most probable everywhere
            last.bias -= made(torch.randn(1, 3, 96, 96)).mean((0, 2, 3))
        spread = made(torch.randn(1, 3, 96, 96)).std()
        for parameter in last.parameters():
            parameter.mul_(3 / spread)
        if head == "adelaide":  # what its nodes say to each other did not grow with its unary scores
            last.bias -= made(torch.randn(1, 3, 96, 96)).mean((0, 2, 3))
    return made


def _last_layers(head: Any) -> Any:
    """What gives the scores, of one kind of head or another."""
    if hasattr(head, "runs_encoder"):
        for score in head.modules():
            if isinstance(score, nn.Conv2d) and not score.weight.any():  # starts at zero
                nn.init.normal_(score.weight)
        if hasattr(head, "levels"):  # coefficients of LRR-4x, not classes
            return head.levels
        return [module for module in head.modules() if getattr(module, "out_channels", 0) == 5][-1]
    return head.last if hasattr(head, "last") else head.upsample[-1] if hasattr(head, "upsample") else head.paths


def picture(height: int = 90, width: int = 110, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
