"""CamVid at 360x480, the 11 classes of the SegNet protocol: 367 training, 101 validation, 233 test pictures."""

from dataclasses import replace

from ducseg.data.config import DataConfig
from ducseg.train.config import AugmentConfig, Config, LossConfig, ModelConfig, OptimizerConfig, RunConfig

__all__ = [
    "camvid_pyramid",
    "camvid_resnet18_bilinear",
    "camvid_resnet18_duc",
    "camvid_resnet18_duc_stride8",
    "camvid_resnet101_duc_hdc",
    "streets256_pyramid",
    "streets256_resnet18_duc",
]


# 1 / log(1.1 + share of the class among the training split's labelled pixels), scaled so that the mean over pixels is 1
_CLASS_WEIGHTS = (0.98, 0.81, 2.28, 0.67, 1.74, 1.30, 2.24, 2.25, 1.60, 2.36, 2.43)


def camvid_resnet18_duc() -> Config:
    """CamVid, ResNet-18-DUC, output stride 16, cell 2: made for two CPU cores.

    ducseg train camvid-resnet18-duc --data.root DIR
    """
    return Config(
        name="camvid-resnet18-duc",
        model=ModelConfig(
            encoder="resnet18", head="duc", output_stride=16, cell=2, aspp=0, dilation="bigger",
            weights="imagenet", recalibrate_batches=8,
        ),
        data=DataConfig(dataset="camvid", train_split="train", val_split="val"),
        augment=AugmentConfig(crop_size=(288, 384), scale=(0.5, 2.0), mirror=True, colour_jitter=0.2),
        # each of DUC's (d / cell)^2 = 64 channel groups sees that share of the pixels: its gradient is 64 times smaller
        optimizer=OptimizerConfig(
            learning_rate=0.02, head_learning_rate_factor=64.0, weight_decay=5e-4, epochs=30, batch_size=4,
            clip_norm=5.0,
        ),
        loss=LossConfig(class_weights=_CLASS_WEIGHTS),
        run=RunConfig(bf16=True, eval_every_epochs=3),
    )  # fmt: skip


def streets256_resnet18_duc() -> Config:
    """Cityscapes squeezed to 256x256, ResNet-18-DUC at stride 16: pretraining for `camvid_resnet18_duc_stride8`.

    Its two folders are images/{train,val} and labels/{train,val} with train ids; trained widened to 2:1, validated as
    they lie. A score on it is none of Cityscapes.
    ducseg train streets256-resnet18-duc --data.root DIR
    """
    base = camvid_resnet18_duc()
    return replace(
        base,
        name="streets256-resnet18-duc",
        data=DataConfig(dataset="split-folders", classes="cityscapes", train_split="train", val_split="val"),
        augment=replace(base.augment, crop_size=(256, 384), scale=(0.75, 1.5), aspect=(2.0, 2.0)),
        optimizer=replace(base.optimizer, epochs=3),
        loss=LossConfig(),
        run=replace(base.run, eval_every_epochs=1),
    )


def camvid_resnet18_duc_stride8() -> Config:
    """CamVid, ResNet-18-DUC-HDC at output stride 8, cell 2, from the encoder of `streets256_resnet18_duc`.

    ducseg train camvid-resnet18-duc-stride8 --data.root DIR --model.weights runs/streets256-resnet18-duc/last
    """
    base = camvid_resnet18_duc()
    return replace(
        base,
        name="camvid-resnet18-duc-stride8",
        model=replace(
            base.model, output_stride=8, weights="runs/streets256-resnet18-duc/last", weights_scope="encoder",
            recalibrate_batches=0,
        ),
        optimizer=replace(base.optimizer, learning_rate=0.015, head_learning_rate_factor=16.0, epochs=14),
        run=replace(base.run, eval_every_epochs=7),
    )  # fmt: skip


def camvid_resnet18_bilinear() -> Config:
    """CamVid, ResNet-18 with the bilinear head: the baseline of `camvid_resnet18_duc`, only the head changed.

    ducseg train camvid-resnet18-bilinear --data.root DIR
    """
    base = camvid_resnet18_duc()
    return replace(
        base,
        name="camvid-resnet18-bilinear",
        model=replace(base.model, head="bilinear", cell=1),
        optimizer=replace(base.optimizer, head_learning_rate_factor=1.0),
    )


def camvid_resnet101_duc_hdc() -> Config:
    """CamVid, ResNet-101-DUC-HDC (dilation "bigger") at output stride 8: the paper's network on a GPU.

    ducseg train camvid-resnet101-duc-hdc --data.root DIR
    """
    base = camvid_resnet18_duc()
    return replace(
        base,
        name="camvid-resnet101-duc-hdc",
        model=replace(base.model, encoder="resnet101", output_stride=8, cell=1, aspp=4, recalibrate_batches=0),
        augment=replace(base.augment, crop_size=(352, 480)),
        optimizer=replace(base.optimizer, epochs=120),
    )


def streets256_pyramid() -> Config:
    """Cityscapes squeezed to 256x256, EfficientNet-Lite2 with the pyramid: pretraining for `camvid_pyramid`.

    Its two folders are images/{train,val} and labels/{train,val} with train ids; trained widened to 2:1, validated as
    they lie. A score on it is none of Cityscapes.
    ducseg train streets256-pyramid --data.root DIR
    """
    return Config(
        name="streets256-pyramid",
        model=ModelConfig(
            encoder="efficientnet_lite2", head="pyramid", output_stride=32, aspp=0, dilation="none", weights="imagenet",
        ),
        data=DataConfig(dataset="split-folders", classes="cityscapes", train_split="train", val_split="val"),
        augment=AugmentConfig(
            crop_size=(256, 416), scale=(0.75, 1.5), aspect=(2.0, 2.0), reflect=True, colour_jitter=0.3, gamma=0.3
        ),
        optimizer=OptimizerConfig(
            name="adamw", learning_rate=2e-3, weight_decay=0.01, warmup_steps=100, epochs=20, batch_size=16,
            ema_decay=0.998, schedule="cosine",
        ),
        loss=LossConfig(dice=0.5),
        run=RunConfig(bf16=True, eval_bf16=True, eval_every_epochs=5),
    )  # fmt: skip


def camvid_pyramid() -> Config:
    """CamVid, EfficientNet-Lite2 with the pyramid, from the encoder of `streets256_pyramid`.

    ducseg train camvid-pyramid --data.root DIR --model.weights runs/streets256-pyramid/last
    """
    base = streets256_pyramid()
    return replace(
        base,
        name="camvid-pyramid",
        model=replace(base.model, weights="runs/streets256-pyramid/last", weights_scope="encoder"),
        data=DataConfig(dataset="camvid", train_split="train", val_split="val"),
        augment=replace(
            base.augment, crop_size=(352, 480), scale=(0.75, 2.0), aspect=(0.9, 1.1), colour_jitter=0.4, gamma=0.4
        ),
        optimizer=replace(base.optimizer, learning_rate=1.5e-3, epochs=150),
        loss=LossConfig(dice=0.5, class_weights=_CLASS_WEIGHTS),
        run=replace(base.run, eval_every_epochs=30),
    )
