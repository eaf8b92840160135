"""KITTI road from a checkpoint to a scored and submittable result."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

import ducseg
from ducseg.classes import KITTI_ROAD
from ducseg.cli import main
from ducseg.data.layouts.kitti_road import KittiRoad
from ducseg.data.synthetic.kitti_road import write_kitti_road
from ducseg.inference.road import evaluate_kitti_road
from ducseg.inference.submit import submit
from ducseg.metrics.kitti_road import road_scores
from ducseg.models import build
from ducseg.weights.checkpoint import save_segmenter


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("network") / "checkpoint"
    torch.manual_seed(0)
    save_segmenter(folder, build(encoder="resnet18", num_classes=2, aspp=0, width=8, classes=KITTI_ROAD))
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kitti")
    write_kitti_road(folder, num_train=6, num_test=3, height=64, width=200)
    return folder


@pytest.mark.filterwarnings("default::ducseg.errors.Said")
def test_score_of_what_was_predicted_is_the_evaluation(
    checkpoint: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    val = ["--format", "kitti-road", "--split", "val", "--flip", "--device", "cpu", "--out", str(tmp_path / "val")]
    assert main(["predict", str(checkpoint), str(root), *val]) == 0
    assert "3 results in" in capsys.readouterr().out
    folders = ["--pred", str(tmp_path / "val"), "--gt", str(root / "training" / "gt_image_2")]
    written = ["--json", str(tmp_path / "scores.json"), "--figure", str(tmp_path / "curves.png")]
    assert main(["score", "kitti-road", *folders, *written, "--subset", "--workers", "1"]) == 0
    said = capsys.readouterr()
    assert "urban_road" in said.out
    assert "left out: 3 of 6 without a prediction: um_road_000001, umm_road_000001" in said.err
    predictor = ducseg.load(checkpoint, flip=True)
    expected = road_scores(evaluate_kitti_road(predictor, KittiRoad(root, "val")))
    assert json.loads((tmp_path / "scores.json").read_text()) == expected
    with Image.open(tmp_path / "curves.png") as picture:
        assert min(picture.size) > 500


def test_val_is_the_fold_that_the_run_held_out(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_kitti_road(root, num_train=15, height=64, width=200)
    network = build(encoder="resnet18", num_classes=2, aspp=0, width=8, classes=KITTI_ROAD)
    save_segmenter(tmp_path / "run", network, extra={"config": {"data": {"dataset": "kitti-road", "fold": 1}}})
    for fold, number in ((None, 1), (0, 0)):
        out = tmp_path / f"fold-{fold}"
        submit("kitti-road", ducseg.load(tmp_path / "run"), root, out, split="val", fold=fold)
        assert {path.name for path in out.iterdir()} == {
            f"{kind}_road_{number:06d}.png" for kind in ("um", "umm", "uu")
        }


def test_the_servers_zip_and_the_figure(checkpoint: Path, root: Path, tmp_path: Path) -> None:
    archive, figure = tmp_path / "submission.zip", tmp_path / "roads.png"
    submit("kitti-road", ducseg.load(checkpoint), root, tmp_path / "out", archive=archive, figure=figure)
    with zipfile.ZipFile(archive) as content:
        assert content.namelist() == ["um_road_000000.png", "umm_road_000000.png", "uu_road_000000.png"]
    with Image.open(figure) as picture:
        assert picture.size == (2 * 640 + 4, 2 * 205 + 4)  # three frames of 64x200 in two rows
