"""Cityscapes' score beside cityscapesScripts itself, and what it says about predictions that are not as needed."""

import importlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ducseg.classes import CITYSCAPES
from ducseg.data.layouts.cityscapes import LABEL_ID_TO_TRAIN_ID, LABELS
from ducseg.data.paired import table
from ducseg.data.synthetic.cityscapes import write_cityscapes
from ducseg.errors import Said, UserError
from ducseg.metrics.cityscapes import format_cityscapes_table, score_cityscapes
from ducseg.metrics.confusion import to_json

SIZE = (24, 40)
TRAIN_IDS = table(LABEL_ID_TO_TRAIN_ID)
WITH_INSTANCES = [label.id for label in LABELS if label.has_instances]


@pytest.fixture(scope="module")
def official() -> Iterator[ModuleType]:
    """cityscapesScripts' evaluation; it asks numpy for in1d, which numpy 2.4 has under the name isin alone."""
    name = "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling"
    pytest.importorskip("pyquaternion")  # which it imports for boxes in 3D
    pytest.importorskip("cityscapesscripts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "in1d", np.isin, raising=False)
        yield importlib.import_module(name)


def _official_scores(official: ModuleType, pred: Path, gt: Path) -> dict[str, Any]:
    truth = sorted(gt.rglob("*_gtFine_labelIds.png"))
    official.args.predictionPath, official.args.predictionWalk = str(pred), None
    predictions = [official.getPrediction(official.args, str(file)) for file in truth]
    official.args.quiet, official.args.JSONOutput = True, False
    return official.evaluateImgLists(predictions, list(map(str, truth)), official.args)


def _assert_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    pairs = {
        "mean iou": (found["mean_iou"], expected["averageScoreClasses"]),
        "mean iiou": (found["mean_iiou"], expected["averageScoreInstClasses"]),
        "mean category iou": (found["mean_category_iou"], expected["averageScoreCategories"]),
        "mean category iiou": (found["mean_category_iiou"], expected["averageScoreInstCategories"]),
    }
    for name, score in found["classes"].items():
        pairs[f"{name} iou"] = score["iou"], expected["classScores"][name]
        pairs[f"{name} iiou"] = score["iiou"], expected["classInstScores"][name]
    for name, score in found["categories"].items():
        pairs[f"category {name} iou"] = score["iou"], expected["categoryScores"][name]
        pairs[f"category {name} iiou"] = score["iiou"], expected["categoryInstScores"][name]
    assert len(pairs) == 4 + 2 * 19 + 2 * 7
    for what, (mine, theirs) in pairs.items():
        both_undefined = math.isnan(mine) and math.isnan(theirs)
        assert both_undefined or abs(mine - theirs) <= 1e-12, (what, mine, theirs)


def _write(folder: Path, name: str, values: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(folder / name), values)
    return folder / name


def _write_truth(gt: Path, frame: str, label_ids: np.ndarray, instance_ids: np.ndarray) -> None:
    city = gt / frame.partition("_")[0]
    _write(city, f"{frame}_gtFine_labelIds.png", label_ids.astype(np.uint8))
    _write(city, f"{frame}_gtFine_instanceIds.png", instance_ids.astype(np.uint16))


def _random_truth(rng: np.random.Generator, labels: list[int], size: tuple[int, int] = SIZE) -> tuple[Any, Any]:
    """Blocks of labels with an instance number each, some of them regions without one (groups)."""
    coarse = rng.choice(labels, (size[0] // 4, size[1] // 4))
    number = rng.integers(0, 4, coarse.shape)
    instance = np.where(np.isin(coarse, WITH_INSTANCES) & (number > 0), coarse * 1000 + number - 1, coarse)
    return np.kron(coarse, np.ones((4, 4), int)), np.kron(instance, np.ones((4, 4), int))


def _made_up(kind: str, label_ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if kind == "shifted":
        return np.roll(label_ids, (3, 5), (0, 1))
    if kind == "one class":
        return np.full_like(label_ids, 26)
    if kind == "vehicles mixed up":
        table = np.arange(256)
        table[26:34] = [28, 29, 27, 30, 26, 24, 33, 25]
        return table[label_ids].astype(np.uint8)
    assert kind == "any label"
    wrong = cv2.resize(
        rng.integers(0, 34, (16, 32), dtype=np.uint8), label_ids.shape[::-1], interpolation=cv2.INTER_NEAREST
    )
    return np.where(rng.random(label_ids.shape) < 0.3, wrong, label_ids).astype(np.uint8)


# -- beside the original -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["shifted", "any label", "vehicles mixed up"])
def test_equals_cityscapesscripts_on_real_frames(kind: str, shared: Path, official: ModuleType, tmp_path: Path) -> None:
    _compare_real(kind, shared / "data" / "cityscapes" / "gtFine" / "val", official, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["shifted", "one class", "any label", "vehicles mixed up"])
def test_equals_cityscapesscripts_on_all_real_frames(
    kind: str, shared: Path, official: ModuleType, tmp_path: Path
) -> None:
    _compare_real(kind, shared / "data" / "cityscapes" / "gtFine", official, tmp_path)


def _compare_real(kind: str, gt: Path, official: ModuleType, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for file in sorted(gt.rglob("*_labelIds.png")):
        label_ids = np.asarray(Image.open(file))
        _write(tmp_path, file.name.replace("_gtFine_labelIds", ""), _made_up(kind, label_ids, rng))
    _assert_equal(score_cityscapes(tmp_path, gt, ids="label"), _official_scores(official, tmp_path, gt))


def test_equals_cityscapesscripts_on_synthetic_streets(official: ModuleType, tmp_path: Path) -> None:
    write_cityscapes(tmp_path / "data", num_train=0, num_val=4, height=96, width=192)
    gt = tmp_path / "data" / "gtFine" / "val"
    for file in gt.rglob("*_labelIds.png"):
        _write(tmp_path / "pred", file.name.replace("_gtFine", ""), np.roll(np.asarray(Image.open(file)), 4, 1))
    found = score_cityscapes(tmp_path / "pred", gt)
    _assert_equal(found, _official_scores(official, tmp_path / "pred", gt))
    assert found["ids"] == "label"


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**31),
    in_truth=st.lists(st.integers(0, 33), min_size=1, max_size=34, unique=True),
    predicted=st.lists(st.integers(0, 33), min_size=1, max_size=34, unique=True),
    right=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_equals_cityscapesscripts_whatever_classes_there_are(
    seed: int,
    in_truth: list[int],
    predicted: list[int],
    right: float,
    official: ModuleType,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder, rng = tmp_path_factory.mktemp("frames"), np.random.default_rng(seed)
    for frame in ("a_000000_000000", "b_000001_000019"):
        label_ids, instance_ids = _random_truth(rng, in_truth)
        _write_truth(folder / "gt", frame, label_ids, instance_ids)
        wrong = rng.choice(predicted, SIZE)
        prediction = np.where(rng.random(SIZE) < right, label_ids, wrong)
        _write(folder / "pred", f"{frame}_x.png", prediction.astype(np.uint8))
    expected = _official_scores(official, folder / "pred", folder / "gt")
    _assert_equal(score_cityscapes(folder / "pred", folder / "gt", ids="label"), expected)


def test_every_class_perfect_is_one_and_json_is_as_documented(tmp_path: Path) -> None:
    label_ids, instance_ids = _all_labels()
    _write_truth(tmp_path / "gt", "a_000000_000000", label_ids, instance_ids)
    _write(tmp_path / "pred", "a_000000_000000.png", label_ids)
    found = score_cityscapes(tmp_path / "pred", tmp_path / "gt")
    assert found["absent"] == []
    assert [found[key] for key in ("mean_iou", "mean_iiou", "pixel_accuracy")] == [1.0, 1.0, 1.0]
    assert [found[key] for key in ("mean_category_iou", "mean_category_iiou")] == [1.0, 1.0]
    written = json.loads(json.dumps(to_json(found), allow_nan=False))
    assert written["classes"]["car"] == {"iou": 1.0, "iiou": 1.0, "pixels": 16}
    assert written["classes"]["road"]["iiou"] is None
    assert written["categories"]["vehicle"] == {"iou": 1.0, "iiou": 1.0}
    assert written["categories"]["flat"] == {"iou": 1.0, "iiou": None}
    assert list(written["categories"]) == ["flat", "construction", "object", "nature", "sky", "human", "vehicle"]


def _all_labels() -> tuple[np.ndarray, np.ndarray]:
    """Each label in a 4x4 block; those with instances as one."""
    labels = np.arange(34).reshape(2, 17)
    instances = np.where(np.isin(labels, WITH_INSTANCES), labels * 1000 + 1, labels)
    block = np.ones((4, 4), int)
    return np.kron(labels, block).astype(np.uint8), np.kron(instances, block)


def test_absent_classes_are_named_and_drawn(tmp_path: Path) -> None:
    label_ids = np.full(SIZE, 7, np.uint8)
    _write_truth(tmp_path / "gt", "a_000000_000000", label_ids, label_ids)
    _write(tmp_path / "pred", "a_000000_000000.png", np.where(np.arange(40) < 10, 8, label_ids))
    found = score_cityscapes(tmp_path / "pred", tmp_path / "gt", ids="label")
    assert (found["mean_iou"], found["classes"]["road"]["iou"]) == (0.375, 0.75)
    assert found["absent"] == [name for name in CITYSCAPES.names if name not in ("road", "sidewalk")]
    assert math.isnan(found["mean_iiou"])
    assert format_cityscapes_table(found).row_count == 19 + 2 + 7 + 1


# -- label ids and train ids -------------------------------------------------------------------------------------------


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """gt/ of three frames with all labels, each in blocks of another order."""
    for index, frame in enumerate(("a_000000_000000", "a_000000_000001", "b_000000_000000")):
        label_ids, instance_ids = _all_labels()
        _write_truth(tmp_path / "gt", frame, np.roll(label_ids, index * 8, 1), np.roll(instance_ids, index * 8, 1))
    return tmp_path


def _predict(root: Path, change: Callable[[int, np.ndarray], np.ndarray]) -> Path:
    """Predictions made of the truth: change(number of the frame, label ids)."""
    for index, file in enumerate(sorted((root / "gt").rglob("*_labelIds.png"))):
        prediction = change(index, np.asarray(Image.open(file)).copy())
        _write(root / "pred", file.name.replace("_gtFine_labelIds", ""), prediction)
    return root / "pred"


def test_train_ids_are_recognised_and_score_the_same(frames: Path) -> None:
    def nearly_right(_: int, label_ids: np.ndarray) -> np.ndarray:
        return np.where(np.arange(label_ids.shape[1]) % 7 == 0, 7, label_ids).astype(np.uint8)

    as_label_ids = score_cityscapes(_predict(frames, nearly_right), frames / "gt")
    pred = _predict(frames, lambda index, label_ids: TRAIN_IDS[nearly_right(index, label_ids)])
    as_train_ids = score_cityscapes(pred, frames / "gt")
    assert (as_label_ids.pop("ids"), as_train_ids.pop("ids")) == ("label", "train")
    assert to_json(as_label_ids) == to_json(as_train_ids)
    assert 0.5 < as_label_ids["mean_iou"] < 1


def test_train_ids_without_255_are_recognised_by_agreement(frames: Path) -> None:
    pred = _predict(frames, lambda _, label_ids: np.minimum(TRAIN_IDS[label_ids], 18))
    found = score_cityscapes(pred, frames / "gt")
    assert (found["ids"], found["pixel_accuracy"]) == ("train", 1.0)


@pytest.mark.parametrize(("value", "ids"), [(7, "label"), (0, "train")])
def test_a_constant_prediction_of_road_is_recognised(frames: Path, value: int, ids: str) -> None:
    found = score_cityscapes(_predict(frames, lambda _, labels: np.full_like(labels, value)), frames / "gt")
    assert found["ids"] == ids
    assert found["classes"]["road"]["iou"] == pytest.approx(1 / 19)


def test_mixed_ids_are_refused_naming_both_files(frames: Path) -> None:
    pred = _predict(frames, lambda index, label_ids: TRAIN_IDS[label_ids] if index == 1 else label_ids)
    with pytest.raises(UserError, match=r"train ids in .*a_000000_000001\.png \(value 255 in 240 pixels\)") as caught:
        score_cityscapes(pred, frames / "gt")
    assert "label ids in" in str(caught.value)
    pred = _predict(frames, lambda index, ids: np.minimum(TRAIN_IDS[ids], 18) if index == 1 else ids)
    with pytest.raises(UserError, match=r"a_000000_000001\.png \(value 0 in 16 pixels, none above 18\)"):
        score_cityscapes(pred, frames / "gt")
    assert score_cityscapes(pred, frames / "gt", ids="label")["ids"] == "label"


def test_ids_that_were_named_wrongly_are_refused(frames: Path) -> None:
    pred = _predict(frames, lambda _, label_ids: label_ids)
    with pytest.raises(UserError, match=r"--ids train: found .*value 19 in 16 pixels"):
        score_cityscapes(pred, frames / "gt", ids="train")
    pred = _predict(frames, lambda _, label_ids: TRAIN_IDS[label_ids])
    with pytest.raises(UserError, match=r"--ids label: found .*value 255 in 240 pixels"):
        score_cityscapes(pred, frames / "gt", ids="label")


def test_a_value_of_no_label_names_file_value_and_pixels(frames: Path) -> None:
    def stray(index: int, label_ids: np.ndarray) -> np.ndarray:
        label_ids[0, :3] = 100 + index if index else label_ids[0, :3]
        return label_ids

    with pytest.raises(UserError, match=r"2 of 3 .*a_000000_000001\.png: found value 101 in 3 pixels.* \| .*102 in 3"):
        score_cityscapes(_predict(frames, stray), frames / "gt")


# -- files -------------------------------------------------------------------------------------------------------------


def test_all_missing_and_surplus_files_in_one_message(frames: Path) -> None:
    pred = _predict(frames, lambda _, label_ids: label_ids)
    (pred / "a_000000_000001.png").rename(pred / "c_000000_000001.png")
    (pred / "b_000000_000000.png").unlink()
    (pred / "notes.txt").write_text("not a picture")
    with pytest.raises(UserError) as caught:
        score_cityscapes(pred, frames / "gt")
    message = str(caught.value)
    assert "2 of 3 without a prediction: a_000000_000001, b_000000_000000" in message
    assert "1 surplus files" in message
    assert "c_000000_000001.png" in message
    assert "--subset" in message


def test_a_subset_is_scored_on_request(frames: Path) -> None:
    pred = _predict(frames, lambda _, label_ids: label_ids)
    (pred / "b_000000_000000.png").rename(pred / "elsewhere_000000_000000.png")
    seen: list[tuple[int, int]] = []
    with pytest.warns(Said, match="1 of 3 without a prediction: b_000000_000000; 1 surplus"):
        found = score_cityscapes(pred, frames / "gt", subset=True, progress=lambda *at: seen.append(at))
    assert (found["frames"], found["frames_without_prediction"], found["mean_iou"]) == (2, 1, 1.0)
    assert seen == [(1, 2), (2, 2)]


def test_several_predictions_of_a_frame_are_refused(frames: Path) -> None:
    pred = _predict(frames, lambda _, label_ids: label_ids)
    _write(pred / "more", "a_000000_000001_color.png", np.zeros(SIZE, np.uint8))
    with pytest.raises(UserError, match=r"several predictions of one frame: .*a_000000_000001"):
        score_cityscapes(pred, frames / "gt", subset=True)


def _as_16_bit(path: Path) -> None:
    cv2.imwrite(str(path), np.asarray(Image.open(path)).astype(np.uint16))


def _as_mode(mode: str) -> Callable[[Path], None]:
    return lambda path: Image.open(path).convert(mode).save(path)


def _cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    middle = data.index(b"IDAT") + 12
    data[middle : middle + 8] = bytes(8)
    path.write_bytes(data)


def _halve(path: Path) -> None:
    picture = Image.open(path)
    picture.resize((picture.width // 2, picture.height // 2)).save(path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_as_16_bit, "found 16 bits a pixel; needed 8-bit grey"),
        (_as_mode("RGB"), "found RGB colours; needed 8-bit grey"),
        (_as_mode("RGBA"), "found RGBA colours; needed 8-bit grey"),
        (_as_mode("LA"), "found grey with an alpha channel"),
        (_cut_off, "damaged, truncated"),
        (_damage, "damaged, truncated"),
        (_halve, "found 4 x 34 pixels.*needed 8 x 68, the size of its ground truth"),
        (lambda path: path.write_bytes(b""), "0 bytes"),
    ],
)
def test_a_bad_prediction_says_what_it_is(frames: Path, spoil: Callable[[Path], None], message: str) -> None:
    pred = _predict(frames, lambda _, label_ids: label_ids)
    spoil(pred / "a_000000_000001.png")
    with pytest.raises(UserError, match=message) as caught:
        score_cityscapes(pred, frames / "gt")
    assert "a_000000_000001.png" in str(caught.value)


def test_palette_and_one_bit_pngs_hold_indices(frames: Path) -> None:
    pred = _predict(frames, lambda _, label_ids: label_ids)
    for file in pred.iterdir():
        picture = Image.open(file).convert("P")
        picture.putdata(list(np.asarray(Image.open(file)).ravel()))
        picture.save(file)
    assert score_cityscapes(pred, frames / "gt")["mean_iou"] == 1.0


def test_ground_truth_that_is_not_as_shipped(frames: Path) -> None:
    pred = _predict(frames, lambda _, label_ids: label_ids)
    truth = frames / "gt" / "a" / "a_000000_000001_gtFine_labelIds.png"
    instances = truth.with_name("a_000000_000001_gtFine_instanceIds.png")
    label_ids, instance_ids = np.asarray(Image.open(truth)), cv2.imread(str(instances), -1)
    _write(truth.parent, truth.name, TRAIN_IDS[label_ids])
    with pytest.raises(UserError, match=r"labelIds\.png: found value 255 in 240 pixels"):
        score_cityscapes(pred, frames / "gt")
    _write(truth.parent, truth.name, label_ids)
    _write(truth.parent, instances.name, np.where(instance_ids == 26001, 7001, instance_ids).astype(np.uint16))
    with pytest.raises(UserError, match=r"instanceIds\.png: found instance ids 7001"):
        score_cityscapes(pred, frames / "gt")
    _write(truth.parent, instances.name, instance_ids[:4])
    with pytest.raises(UserError, match=r"instanceIds\.png: found 4 x 68 pixels"):
        score_cityscapes(pred, frames / "gt")
    instances.unlink()
    with pytest.raises(UserError, match=r"1 frames without an instance map: .*a_000000_000001_gtFine_instanceIds"):
        score_cityscapes(pred, frames / "gt")


def test_an_archive_or_an_empty_folder_in_place_of_the_files(frames: Path, tmp_path: Path) -> None:
    pred = _predict(frames, lambda _, label_ids: label_ids)
    archive = tmp_path / "gtFine.zip"
    archive.write_bytes(b"PK")
    with pytest.raises(UserError, match=r"the archive gtFine.zip itself.*Unpack it"):
        score_cityscapes(pred, archive)
    with pytest.raises(UserError, match=r"no \*_gtFine_labelIds\.png"):
        score_cityscapes(pred, pred)
    with pytest.raises(UserError, match="does not exist"):
        score_cityscapes(tmp_path / "nothing", frames / "gt")
    with pytest.raises(UserError, match="workers: found 0"):
        score_cityscapes(pred, frames / "gt", num_workers=0)
