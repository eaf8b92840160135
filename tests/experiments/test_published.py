"""Every published row builds the network that it says: stride, channels, schedule, parameters, training settings."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console

from ducseg.classes import CITYSCAPES, KITTI_ROAD, VOC2012
from ducseg.data.layouts.opening import open_training_set
from ducseg.data.synthetic.cityscapes import write_cityscapes
from ducseg.data.synthetic.kitti_road import write_kitti_road
from ducseg.data.synthetic.voc2012 import write_voc2012
from ducseg.experiments import EXPERIMENTS, cityscapes, kitti_road, voc2012
from ducseg.models import build, head_parameters
from ducseg.ops.hdc import schedule
from ducseg.train.config import Config
from ducseg.train.loop import train

PUBLISHED = [getattr(module, name) for module in (cityscapes, kitti_road, voc2012) for name in module.__all__]
BLOCKS = {"resnet101": (23, 3), "resnet152": (36, 3)}


@pytest.mark.parametrize(
    "experiment",
    [pytest.param(one, marks=pytest.mark.slow if number % 4 else ()) for number, one in enumerate(PUBLISHED)],
    ids=[one.__name__ for one in PUBLISHED],
)
def test_the_network_is_what_the_row_says(experiment: Callable[[], Config]) -> None:
    config, model = experiment(), experiment().model
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, root="somewhere"))
    config.check(world_size=1)
    classes = {"cityscapes": CITYSCAPES, "kitti-road": KITTI_ROAD, "voc2012": VOC2012}[config.data.dataset]
    with torch.device("meta"):
        segmenter = build(
            encoder=model.encoder, head=model.head, num_classes=len(classes), output_stride=model.output_stride,
            cell=model.cell, aspp=model.aspp, dilation=model.dilation, stem=model.stem,
        )  # fmt: skip
        side = 2 * model.output_stride
        folded = segmenter.eval().folded(torch.empty(1, 3, side, side))
    assert config.name == experiment.__name__.replace("_", "-") and EXPERIMENTS[config.name] is experiment
    assert config.name in (experiment.__doc__ or ""), "the docstring has the command"
    factor = model.output_stride // model.cell if model.head == "duc" else 1
    assert folded.shape[:3] == (1, len(classes), factor**2)
    counted = sum(parameter.numel() for parameter in segmenter.head.parameters())
    assert (
        counted
        == head_parameters(2048, len(classes), output_stride=model.output_stride, cell=model.cell, aspp=model.aspp)[
            model.head
        ]
    )
    stages = {name: getattr(segmenter.encoder, name) for name in ("layer3", "layer4")}
    rates = tuple(tuple(block.conv2.dilation[0] for block in stage) for stage in stages.values())
    assert rates == tuple(map(tuple, schedule(model.dilation, *BLOCKS[model.encoder])))
    assert (config.optimizer.learning_rate, config.optimizer.power) == (2.5e-4, 0.9)
    assert (config.optimizer.momentum, config.optimizer.weight_decay, config.optimizer.clip_norm) == (0.9, 5e-4, 5)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small synthetic data sets in each layout; Cityscapes' with coarse frames too."""
    root = tmp_path_factory.mktemp("sets")
    write_cityscapes(root / "cityscapes", num_train=2, num_val=1, height=64, width=128)
    for top, coarse in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtCoarse")):
        folder = root / "cityscapes" / coarse / "train_extra" / "extra"
        folder.mkdir(parents=True)
        for file in sorted((root / "cityscapes" / top / "train").rglob("*.png")):
            name = file.name.replace(file.parent.name, "extra").replace("gtFine", "gtCoarse")
            shutil.copy(file, folder / name)
    write_kitti_road(root / "kitti-road", num_train=15, height=80, width=330)
    write_voc2012(root / "voc2012", num_train=4, num_val=2, height=60, width=80)
    for split in ("train", "trainval"):
        lists = root / "voc2012" / "ImageSets" / "Segmentation"
        shutil.copy(lists / f"{split}.txt", lists / f"{split}_aug.txt")
    coco = root / "coco"
    shutil.copytree(root / "voc2012" / "SegmentationClass", coco / "masks")
    (coco / "images").mkdir()
    for picture in (root / "voc2012" / "JPEGImages").glob("*.jpg"):
        shutil.copy(picture, coco / "images" / f"coco_{picture.name}")
    for mask in (coco / "masks").glob("*.png"):
        mask.rename(mask.with_name(f"coco_{mask.name}"))
    return {name: root / name for name in ("cityscapes", "kitti-road", "voc2012", "coco")}


NUM_SAMPLES = {"12-fold": 24, "7-fold": 14, None: 2}


SAME_DATA = set(PUBLISHED) - {
    cityscapes.cityscapes_duc, cityscapes.cityscapes_duc_no_augmentation, cityscapes.cityscapes_duc_bigger_patch,
    cityscapes.cityscapes_duc_coarse,
    kitti_road.kitti_road_duc, voc2012.voc2012_resnet152_duc_pretrain, voc2012.voc2012_resnet152_duc_finetune,
}  # fmt: skip
"""Those that differ from one of these seven in the network alone, which the test above builds."""


@pytest.mark.parametrize(
    "experiment",
    [pytest.param(one, marks=pytest.mark.slow if one in SAME_DATA else ()) for one in PUBLISHED],
    ids=[one.__name__ for one in PUBLISHED],
)
def test_two_steps_through_the_ordinary_code(
    experiment: Callable[[], Config], roots: dict[str, Path], tmp_path: Path
) -> None:
    config = experiment()
    coco = str(roots["coco"]) if experiment is voc2012.voc2012_resnet152_duc_pretrain else None
    data = dataclasses.replace(config.data, root=str(roots[config.data.dataset]), workers=0, coco_root=coco)
    samples = open_training_set(data, (124, 116, 104))
    if config.data.dataset == "cityscapes":
        assert len(samples) == NUM_SAMPLES[config.data.patches] * (2 if config.data.coarse else 1)
    assert len(samples) >= 4 or config.data.patches is None
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, width=8, weights=None),
        data=data,
        augment=dataclasses.replace(config.augment, crop_size=(32, 32)),
        # twelve or more samples of a small set in two steps
        optimizer=dataclasses.replace(config.optimizer, batch_size=len(samples) // 2, epochs=1),
        run=dataclasses.replace(config.run, device="cpu", threads=1, bf16=False, tensorboard=False),
    )
    outcome = train(config, tmp_path / "run", console=Console(quiet=True))
    assert outcome.finished and outcome.best_score is not None
    steps = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if line["kind"] == "step"] == [1, 2]


def changes(experiment: Callable[[], Config], base: Callable[[], Config]) -> set[str]:
    ours, theirs = dataclasses.asdict(experiment()), dataclasses.asdict(base())
    return {
        f"{section}.{name}"
        for section in ("model", "data", "augment", "optimizer", "loss", "run")
        for name in ours[section]
        if ours[section][name] != theirs[section][name]
    }


@pytest.mark.parametrize(
    ("experiment", "base", "expected"),
    [
        ("duc", "baseline", {"model.head"}),
        ("duc_aspp0", "duc", {"model.aspp"}),
        ("duc_aspp6", "duc", {"model.aspp"}),
        ("duc_aspp6_cell2", "duc_aspp6", {"model.cell"}),
        ("duc_ds4", "duc", {"model.output_stride"}),
        ("duc_no_augmentation", "duc", {"data.patches", "optimizer.epochs", "run.eval_every_epochs"}),
        ("duc_bigger_patch", "duc_aspp6_cell2", {"data.patches", "augment.crop_size", "optimizer.batch_size"}),
        ("deconv", "duc_bigger_patch", {"model.head"}),
        ("deconv2", "duc_bigger_patch", {"model.head"}),
        ("hdc_none", "duc_bigger_patch", {"model.dilation"}),
        ("hdc_conv", "duc_bigger_patch", {"model.dilation"}),
        ("hdc_rf", "duc_bigger_patch", {"model.dilation"}),
        ("hdc_bigger", "duc_bigger_patch", {"model.dilation"}),
        ("hdc_bigger_coarse", "hdc_bigger", {"data.coarse"}),
        ("duc_coarse", "duc_bigger_patch", {"data.coarse"}),
        (
            "resnet152_duc",
            "duc_bigger_patch",
            {"model.encoder", "model.freeze_batch_norm_from_epoch", "optimizer.epochs"},
        ),
        ("resnet152_duc_coarse", "resnet152_duc", {"data.coarse"}),
        ("better_network", "hdc_bigger_coarse", {"model.stem", "model.weights"}),
    ],
)
def test_an_ablation_changes_what_it_studies_and_nothing_else(experiment: str, base: str, expected: set[str]) -> None:
    of = {name: getattr(cityscapes, f"cityscapes_{name}") for name in (experiment, base)}
    assert changes(of[experiment], of[base]) == expected


def test_the_deconvolutions_have_about_ducs_parameters() -> None:
    model = cityscapes.cityscapes_duc_bigger_patch().model
    counts = head_parameters(2048, 19, output_stride=model.output_stride, cell=model.cell, aspp=model.aspp)
    for head in ("deconv", "deconv2"):
        assert counts[head] == pytest.approx(counts["duc"], rel=2e-3)
