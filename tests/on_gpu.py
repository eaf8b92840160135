"""What the tests on a GPU share: the mark that skips them elsewhere, a network, pictures, a data set, a run."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ducseg.data.config import DataConfig
from ducseg.models import Segmenter, build
from ducseg.train.config import AugmentConfig, Config, ModelConfig, OptimizerConfig, RunConfig

__all__ = ["GPU", "network", "on_a_gpu", "picture", "tiny_config", "waits", "write_data"]

GPU = torch.device("cuda", 0)
on_a_gpu = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@contextmanager
def waits(mode: Literal["warn", "error"]) -> Iterator[list[str]]:
    """Where the host waits for the device is an error, or goes to the list, as file:line, when the block ends.

    torch warns once a process, after it has set the mode, that it is a prototype: were that an error, as pytest has it,
    the mode would stay, and every later test of the process would fail.
    """
    found: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode(mode)
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
    found += [f"{one.filename}:{one.lineno}" for one in caught if "called a synchronizing" in str(one.message)]


def network(encoder: str = "resnet18", head: str = "duc", classes: int = 5, **options: Any) -> Segmenter:
    """In evaluation mode on the CPU, with statistics of its own features and scores that tell places apart."""
    torch.manual_seed(0)
    options = {"output_stride": 16, "aspp": 0, **({"width": 8} if encoder.startswith("resnet") else {}), **options}
    made = build(encoder, head, classes, **options)
    channels = made.preprocessing.num_channels
    with torch.no_grad():
        for parameter in made.head.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
        made.train()
        for _ in range(3):
            made(torch.randn(2, channels, 96, 96))
        made.eval()
        spread = made(torch.randn(1, channels, 96, 96)).std()
        for parameter in list(made.head.parameters())[-2:]:
            parameter.mul_(3 / spread)
    return made


def picture(height: int = 90, width: int = 110, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def write_data(root: Path, *, pictures: int = 10, size: tuple[int, int] = (64, 80)) -> Path:
    """A folder of pictures and masks: bright lines on noise."""
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for index in range(pictures):
        mask = np.zeros(size, np.uint8)
        left = int(rng.integers(8, size[1] - 12))
        mask[:, left : left + 4] = 255
        image = rng.integers(60, 100, (*size, 3)).astype(np.uint8)
        image[mask > 0] += 120
        assert cv2.imwrite(str(root / "images" / f"{index}.png"), image)
        assert cv2.imwrite(str(root / "masks" / f"{index}.png"), mask)
    return root


def tiny_config(root: Path, device: str = "cuda", **run: Any) -> Config:
    """Three epochs of two steps."""
    return Config(
        name="tiny",
        model=ModelConfig(encoder="resnet18", width=16, head="duc", output_stride=16, cell=2, aspp=0),
        data=DataConfig(dataset="folder", root=str(root), workers=0),
        augment=AugmentConfig(crop_size=(32, 48), scale=(0.75, 1.5), colour_jitter=0.1),
        optimizer=OptimizerConfig(learning_rate=0.01, head_learning_rate_factor=1.0, epochs=3, batch_size=4),
        run=RunConfig(device=device, threads=1, tensorboard=False, keep_last=4, **run),
    )
