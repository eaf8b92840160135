"""PASCAL VOC2012 (paper section 4.3). Not run here: it needs GPUs and the data sets."""

from dataclasses import replace

from ducseg.data.config import DataConfig
from ducseg.experiments.cityscapes import cityscapes_resnet152_duc
from ducseg.train.config import AugmentConfig, Config

__all__ = ["voc2012_resnet152_duc_finetune", "voc2012_resnet152_duc_pretrain"]


def voc2012_resnet152_duc_pretrain() -> Config:
    """Section 4.3, pretraining: ResNet-152-DUC on VOC's 10,582 augmented pictures and COCO, 512x512 zero-padded crops.

    --data.coco-root holds images/ and masks/ of `ducseg data coco-masks`; no score is published for this step.

    ducseg train voc2012-resnet152-duc-pretrain --data.root VOC2012 --data.coco-root COCO
    """
    base = cityscapes_resnet152_duc()
    return replace(
        base,
        name="voc2012-resnet152-duc-pretrain",
        data=DataConfig(dataset="voc2012", train_split="train_aug", val_split="val"),
        augment=AugmentConfig(crop_size=(512, 512)),
        optimizer=replace(base.optimizer, batch_size=12),
    )


def voc2012_resnet152_duc_finetune() -> Config:
    """Table 6, fine-tuning on the augmented trainval pictures: test 83.1 (paper), one model, one scale.

    VOC's val is part of what it trains on: its score says nothing, the server's does.

    ducseg train voc2012-resnet152-duc-finetune --data.root VOC2012 --model.weights PRETRAINED
    """
    base = voc2012_resnet152_duc_pretrain()
    return replace(
        base,
        name="voc2012-resnet152-duc-finetune",
        model=replace(base.model, freeze_batch_norm_from_epoch=0),
        data=replace(base.data, train_split="trainval_aug"),
        optimizer=replace(base.optimizer, epochs=20),
    )
