"""Every benchmark through the command line: made, checked, trained on, predicted for its server, scored as by eval."""

import json
import zipfile
from pathlib import Path

import pytest

from ducseg.cli import main

SMALL = (  # a list literal would be one long line
    "--model.encoder resnet18 --model.width 8 --model.weights None --model.aspp 0 --optimizer.epochs 1 "
    "--optimizer.batch-size 2 --model.freeze-batch-norm-from-epoch None --data.workers 0 --run.device cpu "
    "--run.threads 1 --run.no-bf16 --run.no-tensorboard"
)
ONE = ["--workers", "1"]


def ok(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0, arguments


@pytest.fixture
def read_json(tmp_path: Path):
    return lambda name: json.loads((tmp_path / name).read_text())


@pytest.mark.filterwarnings("default::ducseg.errors.Said")
def test_cityscapes(tmp_path: Path, read_json) -> None:
    data, run, out = tmp_path / "data", tmp_path / "run", tmp_path / "out"
    ok("data", "synth", "cityscapes", data, "--num-train", 2, "--num-val", 2, "--size", 64, 128, *ONE)
    ok("data", "check", "cityscapes", data, *ONE, "--json", tmp_path / "check.json")
    ok("data", "patches", "cityscapes", data, "--out", tmp_path / "cut", "--scheme", "12-fold", *ONE)
    cut = ["--data.patches-root", tmp_path / "cut", "--augment.crop-size", 32, 32]
    ok("train", "cityscapes-duc", "--data.root", data, "--out", run, *SMALL.split(), *cut)
    ok("eval", run, "--json", tmp_path / "eval.json")
    ok("predict", run, data, "--format", "cityscapes", "--split", "val", "--out", out)
    ok("score", "cityscapes", "--pred", out, "--gt", data / "gtFine" / "val", *ONE, "--json", tmp_path / "score.json")
    assert read_json("score.json")["mean_iou"] == read_json("eval.json")["mean_iou"]
    assert "mean_iiou" in read_json("score.json")
    next(out.rglob("*.png")).unlink()
    gt = data / "gtFine" / "val"
    assert main(["score", "cityscapes", "--pred", str(out), "--gt", str(gt), *ONE]) == 2
    ok("score", "cityscapes", "--pred", out, "--gt", gt, *ONE, "--subset")
    assert main(["data", "check", "cityscapes", str(tmp_path / "cut"), *ONE]) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("default::ducseg.errors.Said")
def test_kitti_road(tmp_path: Path, read_json) -> None:
    data, run, out = tmp_path / "data", tmp_path / "run", tmp_path / "out"
    ok("data", "synth", "kitti-road", data, "--num-train", 15, "--num-test", 3, "--size", 120, 400, *ONE)
    ok("data", "check", "kitti-road", data, *ONE)
    ok("train", "kitti-road-duc", "--data.root", data, "--out", run, *SMALL.split(), "--augment.crop-size", 64, 64)
    ok("eval", run, "--json", tmp_path / "eval.json")
    val = ["--split", "val", "--fold", 0, "--zip", tmp_path / "results.zip", "--figure", tmp_path / "roads.png"]
    ok("predict", run, data, "--format", "kitti-road", "--out", out, *val)
    assert len(zipfile.ZipFile(tmp_path / "results.zip").namelist()) == len(list(out.rglob("*.png"))) > 0
    gt = data / "training" / "gt_image_2"
    curve = ["--figure", tmp_path / "curve.png", "--subset", *ONE]
    ok("score", "kitti-road", "--pred", out, "--gt", gt, "--json", tmp_path / "score.json", *curve)
    assert read_json("score.json").items() <= read_json("eval.json").items()
    assert {"um_road", "umm_road", "uu_road", "urban_road"} <= set(read_json("score.json"))
    ok("predict", run, data, "--format", "kitti-road", "--out", tmp_path / "test")
    assert len(list((tmp_path / "test").rglob("*.png"))) == 3


def test_voc2012(tmp_path: Path, read_json) -> None:
    data, run, out = tmp_path / "data", tmp_path / "run", tmp_path / "out"
    made = ["--num-train", 3, "--num-val", 2, "--num-test", 1, "--size", 60, 80]
    ok("data", "synth", "voc2012", data, *made, *ONE)
    ok("data", "check", "voc2012", data, *ONE)
    ok("train", "voc2012-resnet152-duc-finetune", "--data.root", data, "--data.train-split", "train", "--out", run,
       *SMALL.split(), "--augment.crop-size", 48, 48)  # fmt: skip
    ok("eval", run, "--json", tmp_path / "eval.json")
    ok("predict", run, data, "--format", "voc2012", "--split", "val", "--out", out, "--zip", tmp_path / "r.tar.gz")
    gt = data / "SegmentationClass"
    ok("score", "voc2012", "--pred", out, "--gt", gt, "--image-set", "val", *ONE, "--json", tmp_path / "score.json")
    assert read_json("score.json")["mean_iou"] == read_json("eval.json")["mean_iou"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("predict RUN pictures --out o --split val", "--split: found no --format"),
        ("predict RUN a b --out o --format voc2012", "found 2 inputs"),
        ("predict RUN a --out o --format cityscapes --fold 1", "found --fold"),
        ("predict RUN a --out o --format kitti-road --kinds labels", "found --kinds"),
        ("predict RUN a --out o --format cityscapes --resume --engine ray", "found --resume and --engine"),
        ("predict RUN a --out o --format cityscapes --shard 0/2 --smooth 0.5", "found --shard and --smooth"),
        ("data synth cityscapes d --num-test 3", "--num-test"),
        ("data synth kitti-road d --num-val 3", "--num-val"),
        ("data wash", "ducseg data: found 'wash'"),
        ("score ade20k", "ducseg score: found 'ade20k'"),
    ],
)
def test_options_that_do_not_belong_are_refused(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments.split()) == 2
    assert message in capsys.readouterr().err


def test_the_lists_of_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("data", "score"):
        assert main([name]) == 2 and main([name, "--help"]) == 0
        assert f"usage: ducseg {name} NAME" in capsys.readouterr().out
