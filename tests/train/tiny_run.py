"""A CamVid-like data set of a few small pictures that a network can learn, and a small configuration for it."""

from pathlib import Path

import cv2
import numpy as np

from ducseg.data.config import DataConfig
from ducseg.train.config import AugmentConfig, Config, ModelConfig, OptimizerConfig, RunConfig

__all__ = ["make_tiny_config", "write_tiny_camvid"]


def write_tiny_camvid(root: Path, *, num_train: int = 8, num_val: int = 3, size: tuple[int, int] = (40, 56)) -> Path:
    """Pictures of coloured rectangles whose colour tells the class; some void."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (12, 3))
    for split, count in (("train", num_train), ("val", num_val)):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for index in range(count):
            label = np.full(size, rng.integers(11), np.uint8)
            for _ in range(6):
                top, left = rng.integers(0, size[0] - 8), rng.integers(0, size[1] - 8)
                label[top : top + 16, left : left + 16] = rng.integers(12)  # 11 is void
            image = np.clip(colours[label] + rng.normal(0, 12, (*size, 3)), 0, 255).astype(np.uint8)
            assert cv2.imwrite(str(root / "images" / split / f"{index:03d}.png"), image)
            assert cv2.imwrite(str(root / "labels" / split / f"{index:03d}.png"), label)
    return root


def make_tiny_config(root: Path) -> Config:
    """Two epochs of two steps on the tiny data set."""
    return Config(
        name="tiny",
        model=ModelConfig(
            encoder="resnet18", width=16, head="duc", output_stride=16, cell=2, aspp=0, dilation="bigger"
        ),
        data=DataConfig(dataset="camvid", root=str(root), workers=0),
        augment=AugmentConfig(crop_size=(32, 48), scale=(0.75, 1.5), colour_jitter=0.1),
        optimizer=OptimizerConfig(learning_rate=0.01, head_learning_rate_factor=1.0, epochs=2, batch_size=4),
        run=RunConfig(device="cpu", threads=1, tensorboard=False, keep_last=2),
    )
