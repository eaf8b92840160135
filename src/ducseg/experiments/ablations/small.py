"""From a row and a data set to the configuration that is run: the paper's own, or the same question made small.

Small keeps of the paper's configuration what the tables study: head, stride, cell, ASPP, rates, stem, depth, which of
the two patch sizes, the patches and coarse labels where the data set has them. All else comes from the data set's
recipe here: a small encoder, crops and epochs, AdamW, batch norm that learns.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ducseg.data.config import DataConfig
from ducseg.errors import explain
from ducseg.experiments.ablations.rows import Row, Table, changed
from ducseg.experiments.synthetic import synthetic_duc
from ducseg.models.vgg import VGGS
from ducseg.train.config import AugmentConfig, Config, ModelConfig, OptimizerConfig, RunConfig

__all__ = ["DATA", "Recipe", "Setting", "configure", "recipe_of"]

_NEVER = 10**9
_BIGGER = (880, 880)
_STUDIED = ("head", "output_stride", "cell", "aspp", "dilation", "stem")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where a table is run.

    Attributes:
        data: a name of `DATA`.
        root: its folder; None of synthetic data.
        small: the question made small; else the paper's own configuration.
    """

    data: str
    root: str | None
    small: bool


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a data set's rows are at small scale.

    Attributes:
        base: all that is not studied.
        patch, bigger: crops in place of the paper's 544x544 and 880x880.
        encoders: in place of the paper's two, and of VGG-16 (of a quarter of its channels, from scratch).
        of: the tables that it is for, by their data set.
    """

    base: Callable[[], Config]
    patch: tuple[int, int]
    bigger: tuple[int, int]
    encoders: Mapping[str, str]
    of: str = "cityscapes"


def configure(table: Table, row: Row, setting: Setting) -> Config | str:
    """The configuration of a row, without a seed; or why there is none.

    Raises:
        UserError: a data set that is none of the table's.
    """
    recipe = recipe_of(table, setting)
    if row.config is None:
        return "its training is not in this package"
    paper = row.config()
    if row.only_small and not setting.small:
        return row.only_small
    if not setting.small:
        return replace(changed(paper, row.change), data=replace(paper.data, root=setting.root))
    base = recipe.base()
    if paper.data.coarse and base.data.dataset != "cityscapes":
        return f"{setting.data} has no coarse labels"
    if paper.model.stem != base.model.stem and base.model.weights is not None:
        return f"there are no ImageNet weights for {base.model.encoder} with this stem"
    encoder = recipe.encoders[paper.model.encoder]
    model = replace(
        base.model if encoder not in VGGS else replace(base.model, **_NARROW_VGG),
        encoder=encoder,
        **{name: getattr(paper.model, name) for name in _STUDIED},
    )
    data = replace(base.data, root=setting.root)
    if base.data.dataset == "cityscapes" == paper.data.dataset:
        data = replace(data, patches=paper.data.patches, coarse=paper.data.coarse)
    crop = recipe.bigger if min(paper.augment.crop_size) >= min(_BIGGER) else recipe.patch
    augment = replace(base.augment, crop_size=crop)
    made = replace(base, name=f"{table.name}-{row.name}", model=model, data=data, augment=augment)
    instead = {} if data.dataset == "cityscapes" else row.small
    return changed(made, {**row.change, **instead})


def recipe_of(table: Table, setting: Setting) -> Recipe:
    """The data set's recipe; at full scale nothing of it is used.

    Raises:
        UserError: a data set that is none of the table's.
    """
    name = setting.data if setting.data != "synthetic" or table.data == "cityscapes" else f"synthetic-{table.data}"
    recipe = _RECIPES.get(name)
    full = not setting.small and setting.data != table.data
    if recipe is None or recipe.of != table.data or full:
        known = [name for name, one in _RECIPES.items() if one.of == table.data and name in DATA]
        raise explain(
            f"--data {setting.data}",
            found=f"{table.name} at {'small' if setting.small else 'full'} scale",
            needed=f"{table.data}, the paper's own" if full else f"one of {', '.join([*known, 'synthetic'])}",
            fix="Use --scale small (with --model.encoder resnet101 for the paper's network)."
            if full
            else "Correct it.",
        )
    return recipe


_RUN = RunConfig(
    bf16=True, eval_every_steps=_NEVER, save_every_steps=400, keep_last=1, overlays=0, tensorboard=False,
    log_every_steps=100,
)  # fmt: skip
"""Evaluated at the end only; nothing is drawn."""
_ADAMW = OptimizerConfig(name="adamw", learning_rate=1e-3, weight_decay=0.01, warmup_steps=50, epochs=30, batch_size=8)
_PRETRAINED = ModelConfig(encoder="resnet18", weights="imagenet", recalibrate_batches=8)
_FRESH = ModelConfig(encoder="resnet18", weights=None)
_ENCODERS = {"resnet101": "resnet18", "resnet152": "resnet34", "vgg16": "vgg16_bn"}
_NARROW_VGG: dict[str, Any] = {"width": 16, "weights": None, "recalibrate_batches": 0}
"""A quarter of VGG-16's channels; nobody has weights of that."""


def _camvid() -> Config:
    """CamVid's 367 pictures of 360x480, scored on its test split: nothing is chosen by it."""
    return Config(
        name="camvid",
        model=_PRETRAINED,
        data=DataConfig(dataset="camvid", train_split="train", val_split="test"),
        augment=AugmentConfig(crop_size=(352, 448), scale=(0.5, 2.0), mirror=True, colour_jitter=0.2),
        optimizer=_ADAMW,
        run=_RUN,
    )


def _cityscapes() -> Config:
    """Cityscapes' own frames, crops of half the paper's side."""
    base = _camvid()
    return replace(
        base,
        name="cityscapes",
        data=DataConfig(dataset="cityscapes"),
        augment=AugmentConfig(crop_size=(448, 448), mirror=True, colour_jitter=0.2),
        optimizer=replace(_ADAMW, epochs=2),
    )


def _cityscapes256() -> Config:
    """Cityscapes squeezed to 256x256, with its classes and splits; a score on it is none of Cityscapes."""
    return replace(
        _camvid(),
        name="cityscapes256",
        data=DataConfig(dataset="split-folders", classes="cityscapes"),
        augment=AugmentConfig(crop_size=(256, 256), scale=(0.75, 1.5), mirror=True, colour_jitter=0.2),
        optimizer=replace(_ADAMW, epochs=8),
    )


def _folder() -> Config:
    """One's own pictures, in the `folder` layout."""
    return replace(
        _camvid(),
        name="folder",
        data=DataConfig(dataset="folder"),
        augment=AugmentConfig(crop_size=(320, 320), scale=(0.5, 2.0), mirror=True, colour_jitter=0.2),
    )


def _synthetic() -> Config:
    """Drawn street scenes of 128x256, ResNet-18 at a quarter of its width from scratch."""
    base = synthetic_duc()
    return replace(
        base,
        name="synthetic",
        augment=replace(base.augment, colour_jitter=0.2, scale=(0.75, 1.5)),
        optimizer=replace(_ADAMW, learning_rate=2e-3, epochs=16, batch_size=4),
        run=_RUN,
    )


def _kitti_road() -> Config:
    """KITTI road's frames, or scenes in their layout, in the paper's 320x320 patches."""
    return replace(
        _camvid(),
        name="kitti-road",
        data=DataConfig(dataset="kitti-road", patches="320-at-100"),
        augment=AugmentConfig(crop_size=(224, 224), mirror=True, colour_jitter=0.2),
        optimizer=replace(_ADAMW, epochs=2),
    )


def _voc2012() -> Config:
    """VOC2012's pictures, or drawn ones in their layout."""
    return replace(
        _camvid(),
        name="voc2012",
        data=DataConfig(dataset="voc2012"),
        augment=AugmentConfig(crop_size=(256, 256), scale=(0.5, 1.5), mirror=True, colour_jitter=0.2),
        optimizer=replace(_ADAMW, epochs=20),
    )


def _from_scratch(base: Callable[[], Config], crop: int) -> Callable[[], Config]:
    return lambda: replace(
        base(), model=replace(_FRESH, width=16), augment=replace(base().augment, crop_size=(crop, crop))
    )


_RECIPES = {
    "camvid": Recipe(base=_camvid, patch=(224, 288), bigger=(352, 448), encoders=_ENCODERS),
    "cityscapes": Recipe(base=_cityscapes, patch=(288, 288), bigger=(448, 448), encoders=_ENCODERS),
    "cityscapes256": Recipe(base=_cityscapes256, patch=(160, 160), bigger=(256, 256), encoders=_ENCODERS),
    "folder": Recipe(base=_folder, patch=(192, 192), bigger=(320, 320), encoders=_ENCODERS),
    "synthetic": Recipe(base=_synthetic, patch=(96, 160), bigger=(128, 256), encoders=_ENCODERS),
    "kitti-road": Recipe(
        base=_kitti_road, patch=(224, 224), bigger=(224, 224), encoders=_ENCODERS, of="kitti-road"
    ),
    "voc2012": Recipe(base=_voc2012, patch=(256, 256), bigger=(256, 256), encoders=_ENCODERS, of="voc2012"),
    "synthetic-kitti-road": Recipe(
        base=_from_scratch(_kitti_road, 160), patch=(160, 160), bigger=(160, 160), encoders=_ENCODERS, of="kitti-road"
    ),
    "synthetic-voc2012": Recipe(
        base=_from_scratch(_voc2012, 128), patch=(128, 128), bigger=(128, 128), encoders=_ENCODERS, of="voc2012"
    ),
}  # fmt: skip

DATA = ("cityscapes", "camvid", "cityscapes256", "synthetic", "folder", "kitti-road", "voc2012")
"""What --data takes."""
