"""Skeletons against scikit-image's, and what a skeleton is."""

import importlib
import importlib.util
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ducseg.classes import IGNORE
from ducseg.errors import UserError
from ducseg.metrics import skeleton
from ducseg.metrics.skeleton import skeletons


def blobs(rng: np.random.Generator) -> NDArray[np.bool_]:
    """Spots, lines and large regions with ragged and with smooth edges."""
    scale = int(rng.integers(1, 9))
    small = (rng.random((20, 24)) < rng.uniform(0.3, 0.8)).astype(np.uint8)
    large = cv2.resize(small, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    return np.asarray((cv2.medianBlur(large, 3) if scale > 3 else large) > 0)


def test_every_pixel_is_scikit_images() -> None:
    if importlib.util.find_spec("skimage") is None:
        pytest.skip("scikit-image is not installed (make test tries to)")
    skeletonize = importlib.import_module("skimage.morphology").skeletonize
    rng = np.random.default_rng(0)
    for _ in range(40):
        one, other = blobs(rng), rng.random((30, 40)) < 0.7
        for mask in (one, other):
            assert np.array_equal(skeletons(np.where(mask, 5, IGNORE).astype(np.uint8)), skeletonize(mask))


def test_classes_are_thinned_as_if_alone() -> None:
    rng = np.random.default_rng(1)
    label = rng.choice(np.array([0, 1, 2, IGNORE], np.uint8), (12, 15)).repeat(6, 0).repeat(5, 1)
    found = skeletons(label)
    for value in (0, 1, 2):
        alone = skeletons(np.where(label == value, 0, IGNORE).astype(np.uint8))
        assert np.array_equal(found & (label == value), alone)
    assert not found[label == IGNORE].any()


def test_maps_of_more_pixels_than_int32_counts_are_thinned_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    label = np.random.default_rng(2).choice(np.array([0, 1, IGNORE], np.uint8), (9, 8)).repeat(7, 0).repeat(6, 1)
    expected, types = skeletons(label), []
    thin = skeleton._thin

    def recorded(*given: NDArray[Any]) -> None:
        types.append(given[3].dtype)
        thin(*given)

    monkeypatch.setattr(skeleton, "_thin", recorded)
    for most, kind in ((65 * 50, np.int32), (65 * 50 - 1, np.int64)):
        monkeypatch.setattr(skeleton, "_MOST_OF_INT32", most)
        assert np.array_equal(skeletons(label), expected) and types[-1] == kind


def test_a_bar_becomes_its_middle_line() -> None:
    label = np.full((11, 40), IGNORE, np.uint8)
    label[3:8, 2:38] = 1
    rows, columns = np.nonzero(skeletons(label))
    assert set(rows[(columns > 6) & (columns < 34)]) == {5}
    assert len(columns) == len(set(columns)) > 28


@pytest.mark.parametrize("wrong", [np.ones((5, 5), bool), np.ones((5, 5)), np.ones((1, 5, 5), np.uint8)])
def test_what_is_no_label_map_is_refused(wrong: NDArray[Any]) -> None:
    """A mask of true and false among them: its border would be taken for an object, which was thinned without end."""
    with pytest.raises(UserError, match="one integer a pixel"):
        skeletons(wrong)
