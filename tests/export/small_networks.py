"""Small networks whose answers differ from pixel to pixel, and pictures for them."""

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ducseg.data.sample import as_type
from ducseg.models import COMPARISONS, Preprocessing, Segmenter, build


def network(encoder: str = "resnet18", head: str = "duc", **options: Any) -> Segmenter:
    """Of 5 classes, in evaluation mode, with statistics as of its own features and a head that tells places apart."""
    torch.manual_seed(0)
    usual = {} if head in COMPARISONS else {"output_stride": 16, "aspp": 0}
    options = {**usual, **({"width": 4} if encoder.startswith(("resnet", "vgg")) else {}), **options}
    made = build(encoder, head, 5, **options)
    channels = made.preprocessing.num_channels
    last = _last_layers(made.head)
    with torch.no_grad():
        made.train()
        for _ in range(3):
            made(torch.randn(2, channels, 96, 96))
        made.eval()
        if head in COMPARISONS and hasattr(last, "bias"):  # no class is the most probable everywhere
            last.bias -= made(torch.randn(1, channels, 96, 96)).mean((0, 2, 3))
        spread = made(torch.randn(1, channels, 96, 96)).std()
        for parameter in last.parameters():
            parameter.mul_(3 / spread)
        if head == "adelaide":  # what its nodes say to each other did not grow with its unary scores
            last.bias -= made(torch.randn(1, channels, 96, 96)).mean((0, 2, 3))
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


KINDS = {
    "grey": Preprocessing(mean=(120.0,), std=(50.0,)),
    "five of 16 bits": Preprocessing(
        mean=(3000.0, 9e3, 2e4, 4e4, 100.0), std=(300.0, 2e3, 9e3, 9e3, 30.0), dtype="uint16"
    ),
    "two of floats": Preprocessing(mean=(-0.5, 2e3), std=(0.1, 50.0), dtype="float32"),
}
"""Of pictures other than RGB of 8 bits."""


def network_of(kind: Preprocessing, head: str = "duc", **options: Any) -> Segmenter:
    """As `network`, for such pictures."""
    return network(head=head, num_channels=kind.num_channels, preprocessing=kind, **options)


def picture_of(kind: Preprocessing, height: int = 90, width: int = 110, seed: int = 0) -> NDArray[Any]:
    """Smooth noise of this kind."""
    channels = [picture(height, width, seed + number)[..., 0] for number in range(kind.num_channels)]
    return as_type(kind.mean + np.array(kind.std) * (np.stack(channels, -1) - 128.0) / 64, np.dtype(kind.dtype))
