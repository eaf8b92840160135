"""Adelaide context, LRR-4x and Deep G-CRF, trained as their authors did, as far as they say; none was run here.

What none of them states is said in each. Where theirs has a rate for single layers, ours has one for the head.
"""

from dataclasses import replace

from ducseg.data.config import DataConfig
from ducseg.experiments.comparisons import stage, voc2012_deeplabv2
from ducseg.train.config import AugmentConfig, Config, ModelConfig, OptimizerConfig, RunConfig

__all__ = [
    "cityscapes_adelaide",
    "cityscapes_lrr4x",
    "cityscapes_lrr32x",
    "voc2012_gcrf",
    "voc2012_lrr4x",
    "voc2012_lrr32x",
]


def cityscapes_adelaide() -> Config:
    """Table 4, Adelaide context on Cityscapes: patches of 614x614, scales 0.7 to 1.2: test 71.6 (authors).

    The rate, 1e-4 of Adam with decay 5e-4, picture by picture, and the 15 epochs are a port's, which halves the rate
    every third epoch; poly here. The number above has the authors' later refinement, which is not here.

    ducseg train cityscapes-adelaide --data.root DIR
    """
    return Config(
        name="cityscapes-adelaide",
        model=ModelConfig(
            encoder="vgg16", head="adelaide", output_stride=16, dilation="none", aspp=0, weights="imagenet"
        ),
        data=DataConfig(dataset="cityscapes"),
        augment=AugmentConfig(crop_size=(614, 614), scale=(0.7, 1.2)),
        optimizer=OptimizerConfig(name="adamw", learning_rate=1e-4, weight_decay=5e-4, epochs=15, batch_size=1),
        run=RunConfig(bf16=True),
    )


def voc2012_lrr32x() -> Config:
    """LRR-4x, stage 1 on VOC2012: the coarsest level alone, 65 epochs at 1e-3, batches of 20.

    Theirs halves the rate at epochs 51 and 61 and resizes a batch to one of 14 sizes from 288 to 704 pixels; its new
    layers learn at a tenth of the rate, fc6 and fc7 at all of it.

    ducseg train voc2012-lrr32x --data.root DIR
    """
    return Config(
        name="voc2012-lrr32x",
        model=ModelConfig(
            encoder="vgg16", head="lrr32x", output_stride=32, dilation="none", aspp=0, weights="imagenet"
        ),
        data=DataConfig(dataset="voc2012", train_split="train_aug", val_split="val"),
        augment=AugmentConfig(crop_size=(384, 384), scale=(0.75, 1.8)),
        optimizer=OptimizerConfig(
            learning_rate=1e-3,
            head_learning_rate_factor=0.1,
            bias_learning_rate_factor=2.0,
            schedule="constant",
            clip_norm=None,
            epochs=65,
            batch_size=20,
        ),
        run=RunConfig(bf16=True),
    )


def voc2012_lrr4x() -> Config:
    """LRR-4x, stage 2 on VOC2012: all levels, 16 epochs at a sixteenth of the rate.

    ducseg train voc2012-lrr4x --data.root DIR --model.weights runs/voc2012-lrr32x/last
    """
    return _all_levels(voc2012_lrr32x())


def cityscapes_lrr32x() -> Config:
    """LRR-4x, stage 1 on Cityscapes, fine labels: the recipe is not released; VOC2012's, on larger crops.

    ducseg train cityscapes-lrr32x --data.root DIR
    """
    base = voc2012_lrr32x()
    return replace(
        base,
        name="cityscapes-lrr32x",
        data=DataConfig(dataset="cityscapes"),
        augment=AugmentConfig(crop_size=(768, 768), scale=(0.75, 1.8)),
        optimizer=replace(base.optimizer, batch_size=5),
    )


def cityscapes_lrr4x() -> Config:
    """Table 4, LRR-4x, stage 2 on Cityscapes: test 69.7 with fine labels, 71.8 with coarse ones too (authors).

    ducseg train cityscapes-lrr4x --data.root DIR --model.weights runs/cityscapes-lrr32x/last
    """
    return _all_levels(cityscapes_lrr32x())


def voc2012_gcrf() -> Config:
    """Table 6, Deep G-CRF on VOC2012: 10,000 pictures one by one, from DeepLabv2: test 79.5, with CRF 80.2 (authors).

    The base rate is not released: DeepLabv2's times a hundredth, the factor that theirs has on most layers. Theirs also
    moves the last block of the first ResNet, and the pairs' convolutions ten times as fast.

    ducseg train voc2012-gcrf --data.root DIR --model.weights runs/voc2012-deeplabv2/last
    """
    base = stage(voc2012_deeplabv2(), "voc2012-gcrf", "gcrf", after="voc2012-deeplabv2", slower=100)
    return replace(
        base,
        augment=replace(base.augment, crop_size=(513, 513)),
        optimizer=replace(
            base.optimizer,
            head_learning_rate_factor=1.0,
            frozen=("encoder",),
            epochs=1,
            batch_size=1,
        ),
    )


def _all_levels(base: Config) -> Config:
    found = stage(base, base.name.replace("lrr32x", "lrr4x"), "lrr4x", after=base.name, slower=16)
    return replace(found, optimizer=replace(found.optimizer, epochs=16))
