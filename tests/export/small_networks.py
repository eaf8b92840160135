"""Small networks whose answers differ from pixel to pixel, and pictures for them."""

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ducseg.models import Segmenter, build


def network(encoder: str = "resnet18", head: str = "duc", **options: Any) -> Segmenter:
    """Of 5 classes, in evaluation mode, with statistics as of its own features and a head that tells places apart."""
    torch.manual_seed(0)
    options = {"output_stride": 16, "aspp": 0, **({"width": 4} if encoder.startswith("resnet") else {}), **options}
    made = build(encoder, head, 5, **options)
    head: Any = made.head
    last = head.last if hasattr(head, "last") else head.upsample[-1] if hasattr(head, "upsample") else head.paths
    with torch.no_grad():
        made.train()
        for _ in range(3):
            made(torch.randn(2, 3, 96, 96))
        made.eval()
        spread = made(torch.randn(1, 3, 96, 96)).std()
        for parameter in last.parameters():
            parameter.mul_(3 / spread)
    return made


def picture(height: int = 90, width: int = 110, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
