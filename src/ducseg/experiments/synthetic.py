"""Procedural street scenes: a small encoder from scratch, minutes on two CPU cores. What `ducseg demo` runs."""

from dataclasses import replace

from ducseg.train.config import AugmentConfig, Config, DataConfig, ModelConfig, OptimizerConfig, RunConfig

__all__ = ["synthetic_bilinear", "synthetic_duc"]


def synthetic_duc() -> Config:
    """Street scenes 128x256, ResNet-18 at half width, DUC with cell 1, output stride 8, HDC "bigger".

    ducseg train synthetic-duc
    """
    return Config(
        name="synthetic-duc",
        model=ModelConfig(
            encoder="resnet18", width=32, head="duc", output_stride=8, cell=1, aspp=0, dilation="bigger"
        ),
        data=DataConfig(dataset="synthetic", workers=1, synthetic_scenes=(200, 40), synthetic_size=(128, 256)),
        augment=AugmentConfig(crop_size=(128, 256), scale=(1.0, 1.0), mirror=True),
        optimizer=OptimizerConfig(learning_rate=0.02, head_learning_rate_factor=10.0, epochs=16, batch_size=8),
        run=RunConfig(bf16=True, eval_every_epochs=4, keep_last=1, overlays=2),
    )  # fmt: skip


def synthetic_bilinear() -> Config:
    """The same scenes, encoder, schedule and budget with the bilinear head: the baseline of `synthetic_duc`.

    ducseg train synthetic-bilinear
    """
    base = synthetic_duc()
    return replace(base, name="synthetic-bilinear", model=replace(base.model, head="bilinear"))
