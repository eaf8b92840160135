"""Procedural street scenes: a small encoder from scratch, minutes on two CPU cores. What `ducseg demo` runs."""

from dataclasses import replace

from ducseg.data.config import DataConfig
from ducseg.train.config import AugmentConfig, Config, LossConfig, ModelConfig, OptimizerConfig, RunConfig

__all__ = ["synthetic_bilinear", "synthetic_duc", "synthetic_pyramid"]

# 1 / log(1.02 + share of the class among the scenes' labelled pixels), scaled so that the mean over pixels is 1
_CLASS_WEIGHTS = (
    0.35, 2.42, 0.47, 4.51, 4.25, 3.97, 5.38, 4.69, 1.55, 4.27, 0.97, 4.10, 4.87, 1.30, 4.14, 3.82, 4.85, 4.90, 4.70,
)  # fmt: skip


def synthetic_duc() -> Config:
    """Street scenes 128x256, ResNet-18 at a quarter of its width, DUC with cell 1, output stride 8, HDC "bigger".

    ducseg train synthetic-duc
    """
    return Config(
        name="synthetic-duc",
        model=ModelConfig(encoder="resnet18", width=16, head="duc", output_stride=8, cell=1, aspp=0, dilation="bigger"),
        data=DataConfig(dataset="synthetic", workers=1, synthetic_scenes=(200, 40), synthetic_size=(128, 256)),
        augment=AugmentConfig(crop_size=(128, 256), mirror=True),
        # each of DUC's 64 channel groups sees 1/64 of the pixels; half of that is made up for
        optimizer=OptimizerConfig(learning_rate=0.04, head_learning_rate_factor=32.0, epochs=16, batch_size=4),
        loss=LossConfig(class_weights=_CLASS_WEIGHTS),
        run=RunConfig(bf16=True, eval_every_epochs=6, keep_last=1, overlays=2, log_every_steps=50),
    )


def synthetic_bilinear() -> Config:
    """The same scenes, encoder, schedule and budget with the bilinear head: the baseline of `synthetic_duc`.

    ducseg train synthetic-bilinear
    """
    base = synthetic_duc()
    return replace(
        base,
        name="synthetic-bilinear",
        model=replace(base.model, head="bilinear"),
        optimizer=replace(base.optimizer, head_learning_rate_factor=1.0),
    )


def synthetic_pyramid() -> Config:
    """The same scenes, encoder and number of pictures with the network of `ducseg train DIR`: pyramid, AdamW, average.

    Output stride 32 without dilation: what is thin comes from the encoder's finer maps.

    ducseg train synthetic-pyramid
    """
    base = synthetic_duc()
    return replace(
        base,
        name="synthetic-pyramid",
        model=replace(base.model, head="pyramid", output_stride=32, dilation="none"),
        optimizer=OptimizerConfig(
            name="adamw",
            learning_rate=4e-3,  # of `train DIR` too: from scratch, half as much ends 5 points of mean IoU lower
            weight_decay=0.01,
            warmup_steps=30,
            ema_decay=0.99,
            epochs=base.optimizer.epochs,
            batch_size=base.optimizer.batch_size,
        ),
    )
