"""VOC2012's score beside the rules written as loops, and what it says about results that are not as needed."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ducseg.classes import VOC2012
from ducseg.data.files.indexed_png import write_indexed_png
from ducseg.errors import Said, UserError
from ducseg.metrics.confusion import to_json
from ducseg.metrics.voc2012 import score_voc2012

SIZE = (9, 13)


def _by_the_rules(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    """IoU of each class: pixels of truth 255 left out, hits / (truth + result - hits) over all pictures."""
    found = []
    for label in range(21):
        hits = in_truth = in_result = 0
        for truth, result in pairs:
            counts = truth != 255
            hits += int((counts & (truth == label) & (result == label)).sum())
            in_truth += int((counts & (truth == label)).sum())
            in_result += int((counts & (result == label)).sum())
        together = in_truth + in_result - hits
        found.append(hits / together if together else float("nan"))
    return found


def _write_pair(root: Path, name: str, truth: np.ndarray, result: np.ndarray) -> None:
    write_indexed_png(root / "VOC2012" / "SegmentationClass" / f"{name}.png", truth.astype(np.uint8))
    write_indexed_png(root / "pred" / f"{name}.png", result.astype(np.uint8))


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**31),
    in_truth=st.lists(st.integers(0, 21), min_size=1, max_size=22, unique=True),
    predicted=st.lists(st.integers(0, 20), min_size=1, max_size=21, unique=True),
)
def test_equals_the_rules(
    seed: int, in_truth: list[int], predicted: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root, rng, pairs = tmp_path_factory.mktemp("voc"), np.random.default_rng(seed), []
    for name in ("2007_000001", "2008_000002"):
        truth = rng.choice([255 if value == 21 else value for value in in_truth], SIZE)
        result = np.where((rng.random(SIZE) < 0.5) & (truth < 255), truth, rng.choice(predicted, SIZE))
        _write_pair(root, name, truth, result)
        pairs.append((truth, result))
    found = score_voc2012(root / "pred", root / "VOC2012", num_workers=2)
    expected = _by_the_rules(pairs)
    assert [score["iou"] for score in found["classes"].values()] == pytest.approx(expected, abs=1e-12, nan_ok=True)
    defined = [value for value in expected if not np.isnan(value)]
    mean = sum(defined) / len(defined) if defined else float("nan")
    assert found["mean_iou"] == pytest.approx(mean, abs=1e-12, nan_ok=True)
    assert found["absent"] == [name for name, value in zip(VOC2012.names, expected) if np.isnan(value)]


def test_real_masks_against_themselves_and_shifted(shared: Path, tmp_path: Path) -> None:
    gt = shared / "data" / "voc2012" / "masks"
    pairs = []
    for file in sorted(gt.glob("*.png")):
        truth = np.asarray(Image.open(file))
        result = np.roll(np.where(truth == 255, 0, truth), (4, 9), (0, 1)).astype(np.uint8)
        write_indexed_png(tmp_path / "shifted" / file.name, result)
        write_indexed_png(tmp_path / "same" / file.name, np.where(truth == 255, 3, truth).astype(np.uint8))
        pairs.append((truth, result))
    assert score_voc2012(tmp_path / "same", gt)["mean_iou"] == 1.0
    found = score_voc2012(tmp_path / "shifted", gt)
    assert found["pictures"] == 30
    expected = _by_the_rules(pairs)
    assert [score["iou"] for score in found["classes"].values()] == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert 0.5 < found["mean_iou"] < 0.95


# -- which files -------------------------------------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """VOC2012/ with masks a, b, c and the image set val of a and b; pred/ with perfect results of a and b."""
    for index, name in enumerate("abc"):
        _write_pair(tmp_path, name, np.full(SIZE, index), np.full(SIZE, index))
    (tmp_path / "pred" / "c.png").unlink()
    lists = tmp_path / "VOC2012" / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("a\nb\n")
    return tmp_path


def test_an_image_set_by_name_or_file(three: Path) -> None:
    gt = three / "VOC2012"
    by_name = score_voc2012(three / "pred", gt, image_set="val")
    assert (by_name["pictures"], by_name["mean_iou"], len(by_name["absent"])) == (2, 1.0, 19)
    for masks, image_set in (
        (gt / "SegmentationClass", "val"),
        (gt, gt / "ImageSets" / "Segmentation" / "val.txt"),
    ):
        assert to_json(score_voc2012(three / "pred", masks, image_set=image_set)) == to_json(by_name)


def test_missing_and_surplus_results_in_one_message(three: Path) -> None:
    write_indexed_png(three / "pred" / "deeper" / "z.png", np.zeros(SIZE, np.uint8))
    with pytest.raises(UserError, match=r"1 of 3 without a prediction: c; 1 surplus files.*deeper/z\.png"):
        score_voc2012(three / "pred", three / "VOC2012")
    with pytest.warns(Said, match=r"^left out: 1 of 3 without a prediction: c; 1 surplus files.*deeper/z\.png$"):
        found = score_voc2012(three / "pred", three / "VOC2012", subset=True)
    assert (found["pictures"], found["pictures_without_prediction"]) == (2, 1)


def test_results_in_the_folders_of_a_submission_are_found(three: Path) -> None:
    folder = three / "out" / "results" / "VOC2012" / "Segmentation" / "comp6_test_cls"
    folder.parent.mkdir(parents=True)
    (three / "pred").rename(folder)
    assert score_voc2012(three / "out", three / "VOC2012", image_set="val")["mean_iou"] == 1.0


def test_an_image_set_that_is_not_there_or_has_no_masks(three: Path) -> None:
    with pytest.raises(UserError, match="image set trainval: found no such file"):
        score_voc2012(three / "pred", three / "VOC2012", image_set="trainval")
    (three / "test.txt").write_text("a\nunknown\n")
    with pytest.raises(UserError, match=r"1 of 2 ids without a mask.*unknown"):
        score_voc2012(three / "pred", three / "VOC2012", image_set=three / "test.txt")


def test_folders_without_masks(three: Path) -> None:
    with pytest.raises(UserError, match="found no PNG"):
        score_voc2012(three / "pred", three / "VOC2012" / "ImageSets")
    archive = three / "VOCtrainval_11-May-2012.tar"
    archive.write_bytes(b"tar")
    with pytest.raises(UserError, match=r"the archive VOCtrainval_11-May-2012.tar itself"):
        score_voc2012(three / "pred", archive)


# -- what the files hold -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda path: write_indexed_png(path, np.full(SIZE, 21, np.uint8)),
            "found value 21 in 117 pixels; needed 0..20",
        ),
        (lambda path: Image.open(path).convert("RGB").save(path), "found RGB colours; needed 8-bit palette or grey"),
        (lambda path: Image.open(path).convert("RGBA").save(path), "found RGBA colours"),
        (lambda path: cv2.imwrite(str(path), np.zeros(SIZE, np.uint16)), "found 16 bits a pixel"),
        (lambda path: write_indexed_png(path, np.zeros((4, 4), np.uint8)), "found 4 x 4 pixels.*needed 9 x 13"),
        (lambda path: path.write_bytes(path.read_bytes()[:-30]), "damaged, truncated"),
    ],
)
def test_a_bad_result_says_what_it_is(three: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(three / "pred" / "b.png")
    with pytest.raises(UserError, match=message) as caught:
        score_voc2012(three / "pred", three / "VOC2012", image_set="val")
    assert "b.png" in str(caught.value)


def test_255_in_a_result_is_refused_under_the_border_too(three: Path) -> None:
    border = np.zeros(SIZE, np.uint8)
    border[0] = 255
    _write_pair(three, "a", border, border)
    with pytest.raises(UserError, match="value 255 in 13 pixels"):
        score_voc2012(three / "pred", three / "VOC2012", image_set="val")


def test_a_mask_with_a_stray_value_names_it(three: Path) -> None:
    write_indexed_png(three / "VOC2012" / "SegmentationClass" / "b.png", np.full(SIZE, 30, np.uint8))
    with pytest.raises(UserError, match=r"label of b .*value 30 in 117 pixels"):
        score_voc2012(three / "pred", three / "VOC2012", image_set="val")
