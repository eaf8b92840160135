"""Confusion counts and scores against loops over pixels."""

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from rich.console import Console

from ducseg.classes import CAMVID, IGNORE, ClassSet
from ducseg.errors import UserError
from ducseg.metrics.confusion import ConfusionMatrix, format_table, scores, to_json, write_json

Maps = tuple[int, list[tuple[NDArray[Any], NDArray[Any]]]]


def classes_of(count: int) -> ClassSet:
    return ClassSet(tuple(f"c{index}" for index in range(count)), ((0, 0, 0),) * count)


@st.composite
def label_maps(draw: st.DrawFn) -> Maps:
    """A number of classes and pictures with truth and prediction; the prediction is free where the truth is ignored."""
    count = draw(st.sampled_from([1, 2, 3, 5, 19, 255]))
    pairs = []
    for _ in range(draw(st.integers(0, 3))):
        shape = draw(st.tuples(st.integers(0, 5), st.integers(0, 5)))
        classes = st.integers(0, min(count, 6) - 1)
        label = draw(arrays(np.uint8, shape, elements=classes | st.just(IGNORE)))
        prediction = draw(arrays(np.uint8, shape, elements=classes))
        anything = draw(arrays(np.uint8, shape))
        pairs.append((label, np.where(label == IGNORE, anything, prediction)))
    return count, pairs


def counted_by_loop(count: int, pairs: list[tuple[NDArray[Any], NDArray[Any]]]) -> list[list[int]]:
    matrix = [[0] * count for _ in range(count)]
    for label, prediction in pairs:
        for true, predicted in zip(label.ravel().tolist(), prediction.ravel().tolist()):
            if true != IGNORE:
                matrix[true][predicted] += 1
    return matrix


@given(label_maps())
def test_counts_and_scores_are_those_of_a_loop(maps: Maps) -> None:
    count, pairs = maps
    confusion = ConfusionMatrix(count)
    for label, prediction in pairs:
        confusion.update(label, prediction)
    expected = counted_by_loop(count, pairs)
    assert confusion.matrix.dtype == np.int64
    assert confusion.matrix.tolist() == expected

    found = scores(confusion.matrix, classes_of(count))
    ious = []
    for j in range(count):
        union = sum(expected[j]) + sum(row[j] for row in expected) - expected[j][j]
        if union == 0:
            assert math.isnan(found["classes"][f"c{j}"]["iou"])
            assert f"c{j}" in found["absent"]
        else:
            ious.append(expected[j][j] / union)
            assert found["classes"][f"c{j}"]["iou"] == ious[-1]
            assert f"c{j}" not in found["absent"]
        assert found["classes"][f"c{j}"]["pixels"] == sum(expected[j])
    assert len(ious) + len(found["absent"]) == count
    assert found["num_pixels"] == sum(map(sum, expected))
    if ious:
        assert found["mean_iou"] == pytest.approx(sum(ious) / len(ious), abs=1e-15)
        assert found["pixel_accuracy"] == sum(expected[j][j] for j in range(count)) / found["num_pixels"]
        rows = {j: sum(expected[j]) for j in range(count)}
        recalls = [expected[j][j] / rows[j] for j in rows if rows[j]]
        assert found["mean_accuracy"] == pytest.approx(sum(recalls) / len(recalls))
        weighted = sum(rows[j] * found["classes"][f"c{j}"]["iou"] for j in rows if rows[j]) / found["num_pixels"]
        assert found["frequency_weighted_iou"] == pytest.approx(weighted)
    else:
        assert math.isnan(found["mean_iou"]) and math.isnan(found["pixel_accuracy"])


@given(label_maps(), st.integers(0, 3))
def test_parts_merge_to_the_whole(maps: Maps, cut: int) -> None:
    count, pairs = maps
    whole, first, second = (ConfusionMatrix(count) for _ in range(3))
    for index, pair in enumerate(pairs):
        whole.update(*pair)
        (first if index < cut else second).update(*pair)
    first.merge(second)
    assert np.array_equal(first.matrix, whole.matrix)


def test_a_perfect_prediction_scores_one_and_only_the_union_makes_a_class_present() -> None:
    matrix = np.diag([7, 0, 5]).astype(np.int64)
    found = scores(matrix, classes_of(3))
    assert found["mean_iou"] == found["pixel_accuracy"] == 1
    assert found["absent"] == ["c1"]
    matrix[0, 1] = 1  # now predicted once, still not in the truth: 0, and counted
    found = scores(matrix, classes_of(3))
    assert found["absent"] == []
    assert found["classes"]["c1"]["iou"] == 0
    assert found["mean_iou"] == pytest.approx((7 / 8 + 0 + 1) / 3)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint16])
def test_any_integer_type_and_any_strides(dtype: type) -> None:
    rng = np.random.default_rng(0)
    label, prediction = rng.integers(0, 4, (2, 6, 8)).astype(dtype)
    expected, found = ConfusionMatrix(4), ConfusionMatrix(4)
    expected.update(label.astype(np.uint8), prediction.astype(np.uint8))
    found.update(label[:, ::-1], np.asfortranarray(prediction)[:, ::-1])
    assert np.array_equal(found.matrix, expected.matrix)


@pytest.mark.parametrize(
    ("label", "prediction", "words"),
    [
        (np.full((2, 2), 3), np.zeros((2, 2), int), ["label of x", "value 3 in 4 pixels", "0..2", "255"]),
        (np.zeros((2, 2), int), np.full((2, 2), 255), ["prediction of x", "value 255 in 4 pixels", "0..2"]),
        (np.full((2, 2), -1), np.zeros((2, 2), int), ["label of x", "-1..-1"]),
        (np.zeros((2, 2), int), np.zeros((2, 3), int), ["prediction of x", "(2, 3)", "(2, 2)"]),
        (np.zeros((2, 2)), np.zeros((2, 2), int), ["label of x", "float64"]),
        (np.zeros((2, 2), int), np.zeros((2, 2, 3), int), ["prediction of x", "(2, 2, 3)"]),
    ],
)
def test_bad_input_is_named_and_not_counted(label: NDArray[Any], prediction: NDArray[Any], words: list[str]) -> None:
    confusion = ConfusionMatrix(3)
    with pytest.raises(UserError) as caught:
        confusion.update(label, prediction, name="x")
    assert all(word in str(caught.value) for word in words), caught.value
    assert not confusion.matrix.any()


def test_json_is_strict_with_null_and_written_whole(tmp_path: Path) -> None:
    matrix = np.diag([3, 0]).astype(np.int64)
    found = scores(matrix, classes_of(2))
    assert to_json(found)["classes"]["c1"]["iou"] is None
    path = tmp_path / "scores.json"
    path.write_text("old")
    write_json(path, found)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    read = json.loads(path.read_text(), parse_constant=refuse)
    assert read["mean_iou"] == 1 and read["absent"] == ["c1"]
    assert read["classes"] == {"c0": {"iou": 1.0, "pixels": 3}, "c1": {"iou": None, "pixels": 0}}
    assert [file.name for file in tmp_path.iterdir()] == ["scores.json"]
    with pytest.raises(UserError, match="no-folder"):
        write_json(path / "no-folder" / "scores.json", found)


def test_json_takes_numpys_numbers_at_any_depth(tmp_path: Path) -> None:
    found = {"iou": np.float32(0.5), "pixels": np.int64(3), "rows": [{"iou": np.float32("nan")}, (math.nan, 1)]}
    write_json(tmp_path / "scores.json", found)
    read = json.loads((tmp_path / "scores.json").read_text())
    assert read == {"iou": 0.5, "pixels": 3, "rows": [{"iou": None}, [None, 1]]}
    palette = np.array([[1, 2, 3]], np.uint8)
    assert json.dumps(ClassSet(("a",), tuple(map(tuple, palette))).to_json())


def test_the_table_names_absent_classes() -> None:
    matrix = np.zeros((11, 11), np.int64)
    matrix[3, 3], matrix[3, 8] = 3, 1
    console = Console(width=60, file=io.StringIO())
    with console.capture() as captured:
        console.print(format_table({**scores(matrix, CAMVID), "mean_boundary_iou": 0.5, "boundary_ratio": 0.02}))
    lines = [line for line in captured.get().splitlines() if "│" in line]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
    assert ["road", "75.00", "100.00"] in rows
    assert ["car", "0.00", "0.00"] in rows
    assert ["pole", "absent", "0.00"] in rows
    assert ["mean IoU over 2 classes", "37.50", ""] in rows
    assert ["pixel accuracy", "75.00", ""] in rows
    assert ["mean boundary IoU, 2 % of diagonal", "50.00", ""] in rows


@pytest.mark.parametrize("number", [0, -1, 256, 2.5, True, "3"])
def test_a_number_of_classes_that_is_none_is_refused(number: Any) -> None:
    with pytest.raises(UserError, match="number of classes: found"):
        ConfusionMatrix(number)


def test_counts_of_other_classes_are_not_mixed() -> None:
    counts = ConfusionMatrix(2)
    with pytest.raises(UserError, match="counts to merge: found 3 classes; needed 2 classes"):
        counts.merge(ConfusionMatrix(3))
    with pytest.raises(UserError, match=r"confusion matrix: found shape \(2, 2\); needed 3 x 3"):
        scores(counts.matrix, ClassSet(("a", "b", "c"), ((0, 0, 0),) * 3))


def test_json_is_written_to_a_path_that_is_text(tmp_path: Path) -> None:
    write_json(f"{tmp_path}/found.json", {"mean": 1})
    assert json.loads((tmp_path / "found.json").read_text()) == {"mean": 1}
