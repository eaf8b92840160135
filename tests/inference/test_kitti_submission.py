"""KITTI road results: what is written, that scoring it gives the evaluation's number, and bad input."""

import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ducseg.classes import CAMVID, CITYSCAPES, KITTI_ROAD, VOC2012, ClassSet
from ducseg.data.birds_eye import BirdsEye
from ducseg.data.layouts.kitti_road import KittiRoad
from ducseg.data.synthetic.kitti_road import write_kitti_road
from ducseg.errors import Said, UserError
from ducseg.inference.evaluate import evaluate
from ducseg.inference.predictor import Predictor
from ducseg.inference.road import RoadEvaluation, evaluate_kitti_road, road_confidence
from ducseg.inference.submit import write_kitti_submission
from ducseg.metrics.kitti_road import road_scores
from ducseg.metrics.kitti_road_files import View, score_kitti_road
from ducseg.models import build


class Darkness:
    """As sure of road as the picture is dark, in class `index` of the classes."""

    def __init__(self, classes: ClassSet = KITTI_ROAD) -> None:
        self.classes = classes

    def __call__(self, image: Any, /) -> Any:
        return self.probabilities(image).argmax(0).astype(np.uint8)

    def probabilities(self, image: Any, /) -> Any:
        found = np.zeros((len(self.classes), *image.shape[:2]), np.float32)
        found[self.classes.names.index("road")] = 1 - image.mean(2) / 255
        return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kitti")
    write_kitti_road(folder, num_train=9, num_test=2, height=120, width=400, seed=1)
    return folder


def test_files_are_what_the_server_takes(root: Path, tmp_path: Path) -> None:
    dataset, labeller = KittiRoad(root, "test"), Darkness()
    files = write_kitti_submission(labeller, dataset, tmp_path / "out", archive=tmp_path / "out.zip")
    assert [file.name for file in files] == ["um_road_000000.png", "umm_road_000000.png"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["um_road_000000.png", "umm_road_000000.png"]
    for index, file in enumerate(files):
        with Image.open(file) as picture:
            assert (picture.mode, picture.size) == ("L", (400, 800))
            written = np.asarray(picture)
        image = dataset[index].image
        confidence = np.rint((1 - image.mean(2) / 255).astype(np.float32) * 255).astype(np.uint8)
        np.testing.assert_array_equal(road_confidence(labeller, image), confidence)
        np.testing.assert_array_equal(written, BirdsEye.read(dataset.calibration_paths[index]).from_image(confidence))
    with zipfile.ZipFile(tmp_path / "out.zip") as content:
        assert content.namelist() == [file.name for file in files]
        assert all(content.read(file.name) == file.read_bytes() for file in files)
    before = (tmp_path / "out.zip").read_bytes()
    write_kitti_submission(labeller, dataset, tmp_path / "out", archive=tmp_path / "out.zip")  # again: replaced
    assert (tmp_path / "out.zip").read_bytes() == before


def test_an_archive_that_the_server_does_not_take_is_refused_before_anything_is_written(
    root: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"found the name out\.tar\.gz; needed \.zip"):
        write_kitti_submission(Darkness(), KittiRoad(root, "test"), tmp_path / "o", archive=tmp_path / "out.tar.gz")
    assert not list(tmp_path.iterdir())


def test_score_of_the_folder_is_the_evaluation(root: Path, tmp_path: Path) -> None:
    dataset = KittiRoad(root, "val", fold=1, folds=3)
    write_kitti_submission(Darkness(), dataset, tmp_path / "roads")
    found = road_scores(evaluate_kitti_road(Darkness(), dataset))
    assert list(found) == ["um_road", "umm_road", "uu_road", "urban_road"]
    assert 0.2 < found["urban_road"]["MaxF"] < 1
    with pytest.warns(Said, match=r"left out: \d+ of \d+ without a prediction"):
        assert found == score_kitti_road(tmp_path / "roads", root / "training" / "gt_image_2", subset=True)


@pytest.mark.parametrize("view", ["bev", "perspective"])
def test_score_of_a_network(root: Path, tmp_path: Path, view: View) -> None:
    """The whole way with a real predictor, every labelled frame, and confidences in the picture."""
    network = build(
        encoder="resnet18", head="duc", num_classes=2, output_stride=8, cell=2, aspp=0, width=8, classes=KITTI_ROAD
    )
    predictor, dataset = Predictor(network), KittiRoad(root, "trainval")
    if view == "bev":
        write_kitti_submission(predictor, dataset, tmp_path)
    else:
        for sample in (dataset[index] for index in range(len(dataset))):
            confidence = road_confidence(predictor, sample.image)
            Image.fromarray(confidence).save(tmp_path / f"{sample.id.replace('_', '_road_')}.png")
    expected = road_scores(evaluate_kitti_road(predictor, dataset, view=view))
    assert score_kitti_road(tmp_path, root / "training" / "gt_image_2", view=view, num_workers=1) == expected


def test_both_scores_come_from_one_look_at_each_frame(root: Path) -> None:
    class Counted(Darkness):
        asked = 0

        def probabilities(self, image: Any, /) -> Any:
            self.asked += 1
            return super().probabilities(image)

    labeller, dataset = Counted(), KittiRoad(root, "val")
    road = RoadEvaluation(KITTI_ROAD, dataset)
    found = evaluate(labeller, dataset, road=road)
    assert labeller.asked == len(dataset) == found.num_images
    assert np.array_equal(found.matrix, evaluate(Darkness(), dataset).matrix)
    assert road_scores(road.counts) == road_scores(evaluate_kitti_road(Darkness(), dataset))


def test_a_missing_calibration_is_said_before_anything_is_scored(root: Path) -> None:
    dataset = KittiRoad(root, "val")
    calibration = dataset.calibration_paths[-1]
    text = calibration.read_text()
    calibration.unlink()
    try:
        with pytest.raises(UserError, match=rf"1 files missing \({calibration.name}\)"):
            RoadEvaluation(KITTI_ROAD, dataset)
        assert RoadEvaluation(KITTI_ROAD, dataset, view="perspective").counts == {}
    finally:
        calibration.write_text(text)


def test_lanes(root: Path, tmp_path: Path) -> None:
    dataset = KittiRoad(root, "trainval", ground_truth="lane")
    files = write_kitti_submission(Darkness(), dataset, tmp_path)
    assert [file.name for file in files] == ["um_lane_000000.png", "um_lane_000001.png", "um_lane_000002.png"]
    found = score_kitti_road(tmp_path, root / "training" / "gt_image_2")
    assert list(found) == ["um_lane"]
    assert found == road_scores(evaluate_kitti_road(Darkness(), dataset))


def test_other_networks_with_a_road(root: Path) -> None:
    image = KittiRoad(root, "test")[0].image
    expected = road_confidence(Darkness(), image)
    for classes in (CITYSCAPES, CAMVID):
        np.testing.assert_array_equal(road_confidence(Darkness(classes), image), expected)
    with pytest.raises(UserError, match=r"found background, aeroplane, .*needed one with the name road"):
        road_confidence(SimpleNamespace(classes=VOC2012), image)  # type: ignore[arg-type]


def test_ground_truth_is_never_overwritten(root: Path, tmp_path: Path) -> None:
    truth = root / "training" / "gt_image_2"
    before = {file: file.read_bytes() for file in truth.iterdir()}
    with pytest.raises(UserError, match=r"gt_image_2: found 12 pictures that are no results .*Choose another --out"):
        write_kitti_submission(Darkness(), KittiRoad(root, "trainval"), truth)
    assert {file: file.read_bytes() for file in truth.iterdir()} == before
    write_kitti_submission(Darkness(), KittiRoad(root, "trainval"), tmp_path)
    with pytest.raises(UserError, match=r"found 7 pictures that are no results of these \(um_road_000001\.png"):
        write_kitti_submission(Darkness(), KittiRoad(root, "test"), tmp_path)


def test_bad_data(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"frame um_000000: found no ground truth"):
        evaluate_kitti_road(Darkness(), KittiRoad(root, "test"))
    dataset = KittiRoad(root, "trainval")
    calibration = dataset.calibration_paths[4]
    text = calibration.read_text()
    try:
        calibration.write_text(text.replace("Tr_cam_to_road", "Tr_cam_to_moon"))
        with pytest.raises(UserError, match=r"calib/umm_000001\.txt: found no Tr_cam_to_road"):
            write_kitti_submission(Darkness(), dataset, tmp_path / "out")
        calibration.unlink()
        with pytest.raises(UserError, match=r"training/calib: found 1 files missing \(umm_000001\.txt\)"):
            write_kitti_submission(Darkness(), dataset, tmp_path / "new")
        assert not (tmp_path / "new").exists()
    finally:
        calibration.write_text(text)
