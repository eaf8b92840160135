"""Cityscapes and VOC2012 as the command line does them: from a checkpoint to results, their archive and their score."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from ducseg.classes import CITYSCAPES, VOC2012, ClassSet
from ducseg.cli import main
from ducseg.data.convert.coco_voc import CocoVoc
from ducseg.data.layouts.cityscapes import Cityscapes
from ducseg.data.layouts.voc2012 import Voc2012, image_set_file
from ducseg.data.synthetic.cityscapes import write_cityscapes
from ducseg.data.synthetic.voc2012 import write_voc2012
from ducseg.errors import UserError
from ducseg.inference.evaluate import evaluate
from ducseg.inference.predictor import Labeller, Predictor
from ducseg.inference.submit import submit
from ducseg.metrics.confusion import scores
from ducseg.models import build
from ducseg.weights.checkpoint import save_segmenter


def _checkpoint(folder: Path, classes: ClassSet) -> Labeller:
    torch.manual_seed(0)
    network = build(encoder="resnet18", num_classes=len(classes), classes=classes, width=8, aspp=0)
    save_segmenter(folder, network)
    return Predictor(network)


def ok(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0, arguments


def test_cityscapes_from_checkpoint_to_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cityscapes(tmp_path / "data", num_train=0, num_val=2, height=64, width=128)
    labeller, out = _checkpoint(tmp_path / "checkpoint", CITYSCAPES), tmp_path / "out"
    server = ["--format", "cityscapes", "--split", "val", "--device", "cpu"]
    ok("predict", tmp_path / "checkpoint", tmp_path / "data", "--out", out, *server)
    assert f"2 results in {out}" in capsys.readouterr().out
    gt, file = tmp_path / "data" / "gtFine" / "val", tmp_path / "scores.json"
    ok("score", "cityscapes", "--pred", out, "--gt", gt, "--json", file)
    assert "2 frames, predictions in label ids" in capsys.readouterr().out
    evaluated = scores(evaluate(labeller, Cityscapes(tmp_path / "data", "val")).matrix, CITYSCAPES)
    found = json.loads(file.read_text())
    assert found["mean_iou"] == evaluated["mean_iou"]
    assert set(found["categories"]["human"]) == {"iou", "iiou"}


def test_the_zip_is_refused_where_the_server_would_refuse_it(tmp_path: Path) -> None:
    write_cityscapes(tmp_path / "data", num_train=0, num_val=1, height=64, width=128)
    labeller = _checkpoint(tmp_path / "checkpoint", CITYSCAPES)
    with pytest.raises(UserError, match="needed 1024 x 2048"):
        submit("cityscapes", labeller, tmp_path / "data", tmp_path / "out", split="val", archive=tmp_path / "x.zip")
    with pytest.raises(UserError, match="the model's classes: found 19"):
        write_voc2012(tmp_path / "voc", num_train=0, num_val=1, height=40, width=40)
        submit("voc2012", labeller, tmp_path / "voc", tmp_path / "out", split="val")


def test_voc2012_from_checkpoint_to_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out, file = tmp_path / "VOC2012", tmp_path / "out", tmp_path / "scores.json"
    write_voc2012(root, num_train=1, num_val=3, num_test=2, height=40, width=56)
    labeller = _checkpoint(tmp_path / "checkpoint", VOC2012)
    network = ["predict", tmp_path / "checkpoint", root, "--format", "voc2012", "--device", "cpu"]
    ok(*network, "--out", out, "--split", "val")
    ok("score", "voc2012", "--pred", out, "--gt", root, "--image-set", "val", "--workers", 1, "--json", file)
    evaluated = scores(evaluate(labeller, Voc2012(root, "val")).matrix, VOC2012)
    assert json.loads(file.read_text())["mean_iou"] == evaluated["mean_iou"]
    archive = tmp_path / "results.tar.gz"
    ok(*network, "--out", tmp_path / "test", "--zip", archive)
    assert f"2 results in {tmp_path / 'test'}, packed as {archive}" in capsys.readouterr().out
    assert archive.is_file()
    assert not zipfile.is_zipfile(archive)


def test_sbd_and_coco_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    root, sbd = tmp_path / "VOC2012", tmp_path / "dataset"
    write_voc2012(root, num_train=2, num_val=1, num_test=1, height=40, width=56)
    (sbd / "cls").mkdir(parents=True)
    scipy_io.savemat(sbd / "cls" / "2009_000000.mat", {"GTcls": {"Segmentation": np.full((40, 56), 5, np.uint8)}})
    (sbd / "train.txt").write_text("2009_000000\n")
    (sbd / "val.txt").write_text("2007_000001\n")
    ok("data", "sbd", root, sbd, "--workers", 1)
    assert "train_aug: 3 pictures, trainval_aug: 4" in capsys.readouterr().out
    assert image_set_file(root, "trainval_aug").is_file()
    box = [0, 0, 50, 0, 50, 30, 0, 30]
    content = {
        "images": [{"id": 1, "file_name": "one.jpg", "height": 40, "width": 56}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "iscrowd": 0, "segmentation": [box]}],
        "categories": [{"id": 3, "name": "car"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    (tmp_path / "coco" / "images").mkdir(parents=True)
    (root / "JPEGImages" / "2007_000000.jpg").rename(tmp_path / "coco" / "images" / "one.jpg")
    ok("data", "coco-masks", tmp_path / "instances.json", tmp_path / "coco", "--workers", 1)
    assert "1 masks in" in capsys.readouterr().out
    assert CocoVoc(tmp_path / "coco").ids == ("one",)
