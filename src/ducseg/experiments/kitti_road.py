"""KITTI road (paper section 4.2): road or not road. Not run here: it needs a GPU and the data set."""

from dataclasses import replace

from ducseg.data.config import DataConfig
from ducseg.experiments.cityscapes import cityscapes_duc
from ducseg.train.config import AugmentConfig, Config

__all__ = ["kitti_road_duc"]


def kitti_road_duc() -> Config:
    """Table 5, ResNet-101-DUC on 320x320 patches at stride 100, no CRF: its numbers are not recovered.

    Trains on four fifths of the frames of each category and validates on the last (--data.fold 0 to 4). "Other training
    settings are the same" (paper): its crop is the patch.

    ducseg train kitti-road-duc --data.root DIR
    """
    base = cityscapes_duc()
    return replace(
        base,
        name="kitti-road-duc",
        data=DataConfig(dataset="kitti-road", patches="320-at-100"),
        augment=AugmentConfig(crop_size=(320, 320)),
    )
