"""Your own pictures: the `folder` layout of docs/data.md."""

from dataclasses import replace

from ducseg.data.config import DataConfig
from ducseg.experiments.camvid import camvid_resnet18_duc
from ducseg.train.config import AugmentConfig, Config, LossConfig

__all__ = ["custom_resnet18_duc", "custom_resnet101_duc_hdc"]


def custom_resnet18_duc() -> Config:
    """Your own pictures, ResNet-18-DUC: a start that trains anywhere.

    ducseg train custom-resnet18-duc --data.root DIR
    """
    base = camvid_resnet18_duc()
    return replace(
        base,
        name="custom-resnet18-duc",
        data=DataConfig(dataset="folder"),
        augment=AugmentConfig(crop_size=(384, 384), scale=(0.5, 2.0), colour_jitter=0.2),
        optimizer=replace(base.optimizer, head_learning_rate_factor=None),
        loss=LossConfig(),
    )


def custom_resnet101_duc_hdc() -> Config:
    """Your own pictures, the paper's network: ResNet-101-DUC-HDC at output stride 8, for a GPU.

    ducseg train custom-resnet101-duc-hdc --data.root DIR
    """
    base = custom_resnet18_duc()
    model = replace(base.model, encoder="resnet101", output_stride=8, cell=2, aspp=4)
    return replace(base, name="custom-resnet101-duc-hdc", model=model)
