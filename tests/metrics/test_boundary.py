"""Boundary IoU against its definition, mask by mask and pixel by pixel."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from ducseg.classes import IGNORE, ClassSet
from ducseg.errors import UserError
from ducseg.metrics.boundary import BoundaryCounts, band_width

L = 3
CLASSES = ClassSet(("a", "b", "c"), ((0, 0, 0),) * L)


def band_by_definition(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Pixels of the mask with a pixel outside it, or outside the picture, at most `width` away in the maximum norm."""
    padded = np.pad(mask, width)
    band = np.zeros_like(mask)
    for y, x in zip(*np.nonzero(mask)):
        band[y, x] = not padded[y : y + 2 * width + 1, x : x + 2 * width + 1].all()
    return band


def counts_by_definition(label: NDArray[Any], prediction: NDArray[Any], width: int) -> tuple[list[int], list[int]]:
    valid = label != IGNORE
    intersection, union = [], []
    for j in range(L):
        true, predicted = (band_by_definition((m == j) & valid, width) for m in (label, prediction))
        intersection.append(int((true & predicted).sum()))
        union.append(int((true | predicted).sum()))
    return intersection, union


@settings(max_examples=30)
@given(st.data())
def test_counts_are_those_of_the_definition(data: st.DataObject) -> None:
    counts = BoundaryCounts(L, ratio=data.draw(st.sampled_from([0.02, 0.1, 0.2, 1.0])))
    intersection, union = np.zeros(L, int), np.zeros(L, int)
    for _ in range(data.draw(st.integers(1, 2))):
        shape = data.draw(st.tuples(st.integers(0, 14), st.integers(0, 14)))
        blocks = data.draw(arrays(np.uint8, (3, 3), elements=st.sampled_from([0, 1, 2, IGNORE])))
        label = blocks[np.arange(shape[0]) // 5][:, np.arange(shape[1]) // 5]
        prediction = np.where(data.draw(arrays(bool, shape)), label % L, data.draw(st.integers(0, L - 1)))
        counts.update(label, prediction)
        one = counts_by_definition(label, prediction, band_width(*shape, counts.ratio))
        intersection, union = intersection + one[0], union + one[1]
    assert counts.intersection.dtype == counts.union.dtype == np.int64
    assert counts.intersection.tolist() == intersection.tolist()
    assert counts.union.tolist() == union.tolist()


def test_width_follows_the_diagonal() -> None:
    assert [band_width(360, 480, 0.02), band_width(1024, 2048, 0.02), band_width(5, 5, 0.02)] == [12, 46, 1]


def test_a_shifted_square_loses_more_at_the_boundary_than_inside() -> None:
    label, prediction = np.zeros((2, 100, 100), np.uint8)
    label[20:80, 20:80], prediction[20:80, 22:82] = 1, 1
    counts = BoundaryCounts(L)
    counts.update(label, prediction)
    found = counts.scores(CLASSES)
    plain = (60 * 58) / (60 * 62)
    assert found["ratio"] == 0.02
    assert 0 < found["classes"]["b"]["boundary_iou"] < 0.7 < plain
    assert math.isnan(found["classes"]["c"]["boundary_iou"])
    assert found["mean_boundary_iou"] == pytest.approx(
        (found["classes"]["a"]["boundary_iou"] + found["classes"]["b"]["boundary_iou"]) / 2
    )
    assert math.isnan(BoundaryCounts(L).scores(CLASSES)["mean_boundary_iou"])


def test_values_that_are_no_class_are_refused() -> None:
    zeros = np.zeros((4, 4), np.uint8)
    with pytest.raises(UserError, match="prediction: found value 3 in 16 pixels"):
        BoundaryCounts(L).update(zeros, zeros + 3)
    with pytest.raises(UserError, match="label: found value 7"):
        BoundaryCounts(L).update(zeros + 7, zeros)


def test_what_does_not_fit_is_refused_and_not_counted() -> None:
    counts = BoundaryCounts(2, width=1)
    with pytest.raises(UserError, match=r"prediction: found shape \(4, 5\); needed the label's \(4, 4\)"):
        counts.update(np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8))
    for other in (BoundaryCounts(3, width=1), BoundaryCounts(2, width=2), BoundaryCounts(2, ratio=0.01)):
        with pytest.raises(UserError, match="counts to merge"):
            counts.merge(other)
    with pytest.raises(UserError, match="class list: found 1 classes; needed 2"):
        counts.scores(ClassSet(("a",), ((0, 0, 0),)))
    assert not counts.union.any()


@pytest.mark.parametrize("wrong", [{"num_classes": 0}, {"ratio": 0}, {"ratio": math.nan}, {"width": 0}, {"width": 1.5}])
def test_bands_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        BoundaryCounts(**{"num_classes": 2, **wrong})
