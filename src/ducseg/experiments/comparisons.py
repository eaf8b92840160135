"""The systems that the paper compares with, trained as their authors did, as far as they say; none was run here.

Caffe's losses that are summed over pixels become means: the rate is multiplied, and the decay divided, by a picture's
pixels. A stage starts from the one before: `--model.weights` is where that ran.
"""

from dataclasses import replace

from ducseg.data.config import DataConfig
from ducseg.train.config import AugmentConfig, Config, ModelConfig, OptimizerConfig, RunConfig

__all__ = [
    "cityscapes_deeplabv2",
    "cityscapes_dilation10",
    "cityscapes_dilation_context",
    "cityscapes_dilation_front",
    "cityscapes_fcn8s",
    "cityscapes_fcn8s_at_once",
    "cityscapes_fcn16s",
    "cityscapes_fcn32s",
    "voc2012_deeplabv2",
    "voc2012_fcn8s",
    "voc2012_fcn8s_at_once",
    "voc2012_fcn16s",
    "voc2012_fcn32s",
]

_PIXELS = 375 * 500
"""Of a VOC picture."""


def voc2012_fcn32s() -> Config:
    """FCN-8s, stage 1 on VOC2012: FCN-32s from ImageNet, whole pictures one by one, 1e-10 on summed losses.

    100,000 pictures in the authors' code, here ten times the 10,582; they train on SBD's 8,498. Whole pictures are
    512x512 crops, padded.

    ducseg train voc2012-fcn32s --data.root DIR
    """
    return Config(
        name="voc2012-fcn32s",
        model=ModelConfig(
            encoder="vgg16", head="fcn32s", output_stride=32, dilation="none", aspp=0, weights="imagenet"
        ),
        data=DataConfig(dataset="voc2012", train_split="train_aug", val_split="val"),
        augment=AugmentConfig(crop_size=(512, 512), mirror=False),
        optimizer=OptimizerConfig(
            learning_rate=1e-10 * _PIXELS,
            weight_decay=5e-4 / _PIXELS,
            bias_learning_rate_factor=2.0,
            momentum=0.99,
            schedule="constant",
            clip_norm=None,
            epochs=10,
            batch_size=1,
        ),
    )


def voc2012_fcn16s() -> Config:
    """FCN-8s, stage 2 on VOC2012: pool4 joins, at a hundredth of the rate.

    ducseg train voc2012-fcn16s --data.root DIR --model.weights runs/voc2012-fcn32s/last
    """
    return stage(voc2012_fcn32s(), "voc2012-fcn16s", "fcn16s", after="voc2012-fcn32s", slower=100)


def voc2012_fcn8s() -> Config:
    """FCN-8s, stage 3 on VOC2012: pool3 joins, at a hundredth of that rate: test 67.2 (authors).

    ducseg train voc2012-fcn8s --data.root DIR --model.weights runs/voc2012-fcn16s/last
    """
    return stage(voc2012_fcn16s(), "voc2012-fcn8s", "fcn8s", after="voc2012-fcn16s", slower=100)


def voc2012_fcn8s_at_once() -> Config:
    """FCN-8s at once on VOC2012: pool4 scaled by 0.01, pool3 by 0.0001, three times the pictures of a stage.

    ducseg train voc2012-fcn8s-at-once --data.root DIR
    """
    base = voc2012_fcn32s()
    return replace(
        base,
        name="voc2012-fcn8s-at-once",
        model=replace(base.model, head="fcn8s_at_once"),
        optimizer=replace(base.optimizer, epochs=30),
    )


def cityscapes_fcn32s() -> Config:
    """FCN-8s, stage 1 on Cityscapes: 35 times both halves of a frame (Cityscapes paper, supplement D.1).

    Halves are 1024x1024 crops wherever they fall; the rate is not stated ("lower" than PASCAL-Context's): VOC's.

    ducseg train cityscapes-fcn32s --data.root DIR
    """
    base = voc2012_fcn32s()
    return replace(
        base,
        name="cityscapes-fcn32s",
        data=DataConfig(dataset="cityscapes"),
        augment=AugmentConfig(crop_size=(1024, 1024), mirror=False),
        optimizer=replace(base.optimizer, epochs=70),
    )


def cityscapes_fcn16s() -> Config:
    """FCN-8s, stage 2 on Cityscapes: pool4 joins, 10 times both halves.

    ducseg train cityscapes-fcn16s --data.root DIR --model.weights runs/cityscapes-fcn32s/last
    """
    base = stage(cityscapes_fcn32s(), "cityscapes-fcn16s", "fcn16s", after="cityscapes-fcn32s", slower=100)
    return replace(base, optimizer=replace(base.optimizer, epochs=20))


def cityscapes_fcn8s() -> Config:
    """Table 4, FCN-8s, stage 3 on Cityscapes: pool3 joins, 9 times both halves: test 65.3 (Cityscapes paper).

    Theirs trains on val too, and ends with one pass at a tenth of the rate.

    ducseg train cityscapes-fcn8s --data.root DIR --model.weights runs/cityscapes-fcn16s/last
    """
    base = stage(cityscapes_fcn16s(), "cityscapes-fcn8s", "fcn8s", after="cityscapes-fcn16s", slower=100)
    return replace(base, optimizer=replace(base.optimizer, epochs=18))


def cityscapes_fcn8s_at_once() -> Config:
    """FCN-8s at once on Cityscapes, as long as the three stages together.

    ducseg train cityscapes-fcn8s-at-once --data.root DIR
    """
    base = cityscapes_fcn32s()
    model = replace(base.model, head="fcn8s_at_once")
    return replace(
        base, name="cityscapes-fcn8s-at-once", model=model, optimizer=replace(base.optimizer, epochs=70 + 20 + 18)
    )


def cityscapes_dilation_front() -> Config:
    """Dilation10, stage 1 on Cityscapes: the front end, 40,000 batches of 8 crops (Cityscapes paper, supplement).

    Theirs are 628x628 with the margin inside; here 624x624, mirrored on top.

    ducseg train cityscapes-dilation-front --data.root DIR
    """
    return Config(
        name="cityscapes-dilation-front",
        model=ModelConfig(
            encoder="vgg16", head="dilation_front", output_stride=8, dilation="dilated", aspp=0, weights="imagenet"
        ),
        data=DataConfig(dataset="cityscapes"),
        augment=AugmentConfig(crop_size=(624, 624)),
        optimizer=OptimizerConfig(
            learning_rate=1e-4,
            bias_learning_rate_factor=2.0,
            momentum=0.99,
            schedule="constant",
            clip_norm=None,
            epochs=108,
            batch_size=8,
        ),
    )


def cityscapes_dilation_context() -> Config:
    """Dilation10, stage 2 on Cityscapes: the context module alone, from the identity, 24,000 batches of 100 frames.

    The front end stays as it is, and computes each frame anew (theirs were stored).

    ducseg train cityscapes-dilation-context --data.root DIR --model.weights runs/cityscapes-dilation-front/last
    """
    base = stage(
        cityscapes_dilation_front(), "cityscapes-dilation-context", "dilation10", after="cityscapes-dilation-front"
    )
    return replace(
        base,
        augment=AugmentConfig(crop_size=(1024, 2048), mirror=False),
        optimizer=replace(
            base.optimizer,
            frozen=("encoder", "head.classifier", "head.final"),
            epochs=807,
            batch_size=100,
            accumulation_steps=100,
        ),
    )


def cityscapes_dilation10() -> Config:
    """Table 4, Dilation10, stage 3 on Cityscapes: all of it, 60,000 half frames one by one: test 67.1 (authors).

    ducseg train cityscapes-dilation10 --data.root DIR --model.weights runs/cityscapes-dilation-context/last
    """
    base = stage(
        cityscapes_dilation_front(),
        "cityscapes-dilation10",
        "dilation10",
        after="cityscapes-dilation-context",
        slower=10,
    )
    return replace(
        base,
        augment=AugmentConfig(crop_size=(1024, 1024)),
        optimizer=replace(base.optimizer, epochs=20, batch_size=1),
    )


def voc2012_deeplabv2() -> Config:
    """Table 6, DeepLabv2-CRF on VOC2012: three scales, 20,000 batches of 10: val 76.35, with CRF 77.69 (authors' code).

    Theirs starts from COCO; from ImageNet here. The head's kernels learn ten times, its biases twenty times as fast.

    ducseg train voc2012-deeplabv2 --data.root DIR
    """
    return Config(
        name="voc2012-deeplabv2",
        model=ModelConfig(
            encoder="resnet101",
            head="deeplabv2",
            dilation="dilated",
            weights="imagenet",
            freeze_batch_norm_from_epoch=0,
        ),
        data=DataConfig(dataset="voc2012", train_split="train_aug", val_split="val"),
        augment=AugmentConfig(crop_size=(321, 321), scale=(0.5, 1.5)),
        optimizer=OptimizerConfig(
            learning_rate=2.5e-4,
            head_learning_rate_factor=10.0,
            bias_learning_rate_factor=2.0,
            clip_norm=None,
            epochs=19,
            batch_size=10,
        ),
        run=RunConfig(bf16=True),
    )


def cityscapes_deeplabv2() -> Config:
    """Table 4, DeepLabv2-CRF on Cityscapes: one scale, for want of memory: test 70.4 with CRF (authors).

    Neither crops nor length are stated: as the paper's DUC on bigger patches.

    ducseg train cityscapes-deeplabv2 --data.root DIR
    """
    base = voc2012_deeplabv2()
    return replace(
        base,
        name="cityscapes-deeplabv2",
        model=replace(base.model, head="deeplabv2_single"),
        data=DataConfig(dataset="cityscapes"),
        augment=replace(base.augment, crop_size=(880, 880)),
        optimizer=replace(base.optimizer, epochs=140, batch_size=4),
    )


def stage(base: Config, name: str, head: str, *, after: str, slower: float = 1) -> Config:
    """`base` with another head, from where the experiment `after` ran, at a rate that is so many times slower."""
    model = replace(base.model, head=head, weights=f"runs/{after}/last", allow_missing_weights=True)
    optimizer = replace(base.optimizer, learning_rate=base.optimizer.learning_rate / slower)
    return replace(base, name=name, model=model, optimizer=optimizer)
