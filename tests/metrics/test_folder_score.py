"""The score of a folder of masks against another of one's own."""

import unicodedata
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ducseg.classes import ClassSet
from ducseg.errors import Said, UserError
from ducseg.metrics.cityscapes import score_cityscapes
from ducseg.metrics.confusion import ConfusionMatrix, scores, to_json
from ducseg.metrics.folder import score_folder
from ducseg.metrics.kitti_road_files import score_kitti_road
from ducseg.metrics.thin import ThinCounts
from ducseg.metrics.voc2012 import score_voc2012

CLASSES = ClassSet(("ground", "crack", "leaf"), ((90, 90, 90), (220, 40, 40), (30, 160, 60)))
NAMES = ("a", "deeper/b", "deeper/c")


def masks(seed: int, *, void: bool = False) -> dict[str, NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    made = {name: rng.integers(0, 3, (7 + len(name), 9), np.uint8) for name in NAMES}
    if void:
        made["a"][:3] = 255
    return made


def write(folder: Path, labels: dict[str, NDArray[np.uint8]], *, form: str = "index", ending: str = "") -> Path:
    for name, label in labels.items():
        path = folder / f"{name}{ending}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if form == "index":
            Image.fromarray(label).save(path)
        elif form == "palette":
            picture = Image.fromarray(label).convert("P")
            picture.putpalette(np.array(CLASSES.palette, np.uint8).tobytes())
            picture.putdata(label.ravel().tolist())
            picture.save(path)
        else:
            Image.fromarray(np.array(CLASSES.palette, np.uint8)[label]).save(path)
    return folder


def expected() -> dict[str, object]:
    total, truth, predicted = ConfusionMatrix(3), masks(0, void=True), masks(1)
    for name in NAMES:
        total.update(truth[name], predicted[name])
    return scores(total.matrix, CLASSES)


@pytest.mark.parametrize("form", ["index", "palette", "colour"])
@pytest.mark.parametrize("ending", ["", "_labels"])
def test_pooled_counts_of_all_masks(tmp_path: Path, form: str, ending: str) -> None:
    gt = write(tmp_path / "gt", masks(0, void=True))
    pred = write(tmp_path / "pred", masks(1), form=form, ending=ending)
    if ending:  # what `ducseg predict` writes beside them
        write(tmp_path / "pred", masks(2), form="colour", ending="_color")
    found = score_folder(pred, gt, CLASSES, csv=tmp_path / "each.csv", num_workers=2)
    pixels = [int(line.rsplit(",", 2)[1]) for line in (tmp_path / "each.csv").read_text().splitlines()[1:]]
    assert (len(pixels), sum(pixels)) == (9, found["num_pixels"])
    line = "masks: values 0, 1, 2 -> ground, crack, leaf; 255 ignored"
    bounds = found.pop("intervals")
    assert bounds["pictures"] == 3 and bounds["mean_iou"][0] <= found["mean_iou"] <= bounds["mean_iou"][1]
    assert found == {**expected(), "pictures": 3, "pictures_without_prediction": 0, "masks": line}
    assert 0 < found["mean_iou"] < 1


def test_accents_apart_or_not_are_the_same_letters(tmp_path: Path) -> None:
    label = {"\u00e9": masks(0)["a"], "b": masks(0)["deeper/b"]}
    pred = write(tmp_path / "pred", {unicodedata.normalize("NFD", name): one for name, one in label.items()})
    assert score_folder(pred, write(tmp_path / "gt", label), CLASSES)["pictures"] == 2


def test_thin_objects_are_pooled_over_all_masks(tmp_path: Path) -> None:
    gt, pred = write(tmp_path / "gt", masks(0, void=True)), write(tmp_path / "pred", masks(1))
    total = ThinCounts(3, tolerances=(1,))
    for name in NAMES:
        total.add(masks(0, void=True)[name], masks(1)[name])
    found = score_folder(pred, gt, CLASSES, thin=lambda num_classes: ThinCounts(num_classes, tolerances=(1,)))
    assert to_json(found["thin"]) == to_json(total.scores(CLASSES))
    assert {key: value for key, value in found.items() if key in expected()} == expected()


def test_colour_masks_as_truth(tmp_path: Path) -> None:
    gt, pred = write(tmp_path / "gt", masks(0), form="colour"), write(tmp_path / "pred", masks(0))
    assert score_folder(pred, gt, CLASSES)["mean_iou"] == 1


@pytest.mark.parametrize("ending", ["", "_labels"])
def test_two_values_are_two_classes_on_either_side(tmp_path: Path, ending: str) -> None:
    two = ClassSet(("ground", "crack"), ((0, 0, 0), (255, 255, 255)))
    truth = {name: (label > 0).astype(np.uint8) for name, label in masks(0).items()}
    gt = write(tmp_path / "gt", {name: 255 * label for name, label in truth.items()})
    predicted = {name: (label > 1).astype(np.uint8) for name, label in masks(0).items()}
    pred = write(tmp_path / "pred", predicted, ending=ending)
    found, total = score_folder(pred, gt, two), ConfusionMatrix(2)
    for name in NAMES:
        total.update(truth[name], predicted[name])
    assert found["mean_iou"] == scores(total.matrix, two)["mean_iou"]
    assert found["masks"] == "masks: values 0, 255 -> ground, crack"


def test_the_options_of_the_layout(tmp_path: Path) -> None:
    shifted = {name: label + np.uint8(1) for name, label in masks(0).items()}
    gt, pred = write(tmp_path / "gt", shifted), write(tmp_path / "pred", masks(0), ending="_labels")
    meant = ("1=ground", "2=crack", "3=leaf")
    assert score_folder(pred, gt, CLASSES, values=meant)["mean_iou"] == 1
    assert score_folder(pred, gt, CLASSES, values=("1=ground", "2=crack", "3=ignore"))["absent"] == ["leaf"]
    index = write(tmp_path / "index", masks(0))
    assert score_folder(index, index, CLASSES, ignore_value=2)["absent"] == ["leaf"]
    with pytest.raises(UserError, match="RGB pixels"):
        score_folder(write(tmp_path / "rgb", masks(0), form="colour"), gt, CLASSES, masks_as="index")


def test_missing_and_surplus_masks(tmp_path: Path) -> None:
    gt, pred = write(tmp_path / "gt", masks(0)), write(tmp_path / "pred", masks(0))
    (pred / "a.png").rename(pred / "x.png")
    with pytest.raises(UserError, match=r"1 of 3 without a prediction: a; 1 surplus files.*x\.png.*--subset"):
        score_folder(pred, gt, CLASSES)
    with pytest.warns(Said, match="left out: 1 of 3 without a prediction: a"):
        found = score_folder(pred, gt, CLASSES, subset=True)
    assert (found["pictures"], found["pictures_without_prediction"], found["mean_iou"]) == (2, 1, 1)


@pytest.mark.parametrize("endings", [("_labels", "_label"), ("", "_label"), ("_pred", "_gt"), ("_pred", "")])
def test_names_that_differ_by_an_ending_are_paired(tmp_path: Path, endings: tuple[str, str]) -> None:
    pred, gt = (write(tmp_path / side, masks(0), ending=end) for side, end in zip(("pred", "gt"), endings))
    found = score_folder(pred, gt, CLASSES)
    assert (found["mean_iou"], found["pictures"]) == (1, 3)
    assert found["names"] == f"names: paired by what they share (a{endings[0]}.png with a{endings[1]}.png)"
    (pred / f"a{endings[0]}.png").unlink()
    with pytest.raises(UserError, match=rf"1 of 3 without a prediction: a{endings[1]}; .*--subset"):
        score_folder(pred, gt, CLASSES)
    with pytest.warns(Said, match="left out: 1 of 3 without a prediction: a"):
        found = score_folder(pred, gt, CLASSES, subset=True)
    assert (found["mean_iou"], found["pictures"], found["pictures_without_prediction"]) == (1, 2, 1)
    assert "names" not in score_folder(gt, gt, CLASSES)


def test_pictures_beside_the_masks_are_no_truth(tmp_path: Path) -> None:
    write(tmp_path / "pred", masks(1), ending="_labels")
    write(tmp_path / "gt", masks(0, void=True), ending="_mask")
    write(tmp_path / "gt", masks(2))  # the pictures, called as the predictions are
    found = score_folder(tmp_path / "pred", tmp_path / "gt", CLASSES, subset=True)
    assert found["pictures"] == 3 and found["mean_iou"] == expected()["mean_iou"]


def test_what_is_set_is_no_advice(tmp_path: Path) -> None:
    gt = write(tmp_path / "gt", masks(0))
    pred = write(tmp_path / "pred", {f"x{index}": mask for index, mask in enumerate(masks(0).values())})
    with pytest.raises(UserError, match=r"3 of 3 without .*3 surplus files.*x0\.png") as said:
        score_folder(pred, gt, CLASSES, subset=True)
    assert "--subset" not in str(said.value)


def test_what_cannot_be_scored_is_said(tmp_path: Path) -> None:
    gt, pred = write(tmp_path / "gt", masks(0)), write(tmp_path / "pred", masks(0))
    for folders in ((tmp_path / "nowhere", gt), (pred, tmp_path / "nowhere")):
        with pytest.raises(UserError, match="nowhere does not exist"):
            score_folder(*folders, CLASSES)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no picture"):
        score_folder(pred, tmp_path / "empty", CLASSES)
    with pytest.raises(UserError, match="3 of 3 without a prediction"):
        score_folder(tmp_path / "empty", gt, CLASSES, subset=True)
    assert cv2.imwrite(str(pred / "a.png"), np.zeros((3, 3), np.uint8))
    with pytest.raises(UserError, match=r"prediction of a: found shape \(3, 3\); needed the label's \(8, 9\)"):
        score_folder(pred, gt, CLASSES)
    assert cv2.imwrite(str(pred / "a.png"), np.full((8, 9), 7, np.uint8))
    with pytest.raises(UserError, match=r"mask .*a\.png: found value 7 in 72 pixels; needed 0\.\.2"):
        score_folder(pred, gt, CLASSES)
    (pred / "a.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"a\.png"):
        score_folder(pred, gt, CLASSES)


@pytest.mark.parametrize(
    "score",
    [partial(score_folder, classes=CLASSES), score_voc2012, score_cityscapes, score_kitti_road],
)
def test_folders_may_be_text(tmp_path: Path, score: Callable[..., object]) -> None:
    (tmp_path / "pred").mkdir()
    with pytest.raises(UserError, match=r"absent|no PNG"):
        score(f"{tmp_path}/pred", f"{tmp_path}/absent")
