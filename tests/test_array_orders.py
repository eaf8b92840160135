"""What takes arrays gives the same for all that hold the same, however they lie in memory.

Of Fortran's order (a transposed picture, `tensor.T.numpy()`), with negative strides (BGR to RGB, a flip), cut from a
larger array, and not to be written to (a memory map).
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ducseg.classes import CITYSCAPES, IGNORE, ClassSet
from ducseg.crf import CrfParams, dense_crf
from ducseg.crf.dense_crf import marginals_under_each
from ducseg.data.files.indexed_png import encode_indexed_png
from ducseg.data.files.png import encode_png
from ducseg.figures.errors_overlay import draw_errors
from ducseg.figures.label_maps import colourise, overlay, present_classes, tint
from ducseg.figures.road_overlay import road_in_red
from ducseg.inference.polygons import feature_collection
from ducseg.metrics.boundary import BoundaryCounts
from ducseg.metrics.confusion import ConfusionMatrix, scores
from ducseg.metrics.gridding import Lattice
from ducseg.metrics.kitti_road import RoadCounts
from ducseg.metrics.skeleton import skeletons
from ducseg.metrics.thin import ThinCounts
from ducseg.metrics.tolerance import count_within
from ducseg.metrics.widths import local_widths, object_widths
from ducseg.models.comparisons.class_bases import class_bases
from ducseg.ops.receptive_field import side_of

CLASSES = ClassSet(CITYSCAPES.names[:3], CITYSCAPES.palette[:3])
SIZE = (36, 50)
Arrays = dict[str, NDArray[Any]]


def scene() -> Arrays:
    """Lines and blocks of three classes with some of no class, a guess, probabilities (L, H, W), a picture."""
    rng = np.random.default_rng(0)
    truth = np.zeros(SIZE, np.uint8)
    truth[5:12, 3:40], truth[20:23, 8:], truth[:, 45:47], truth[30:, :9] = 1, 2, 1, IGNORE
    guess = np.roll(truth, 2, 1) % 3
    probabilities = rng.random((3, *SIZE), np.float32)
    return {
        "truth": truth,
        "guess": guess,
        "probabilities": probabilities / probabilities.sum(0),
        "picture": rng.integers(0, 256, (*SIZE, 3), np.uint8),
        "field": rng.random((21, 21)),
        "matrix": rng.integers(0, 9, (3, 3)),
    }


def in_fortrans_order(array: NDArray[Any]) -> NDArray[Any]:
    return np.asfortranarray(array)


def with_negative_strides(array: NDArray[Any]) -> NDArray[Any]:
    return np.flip(np.flip(array).copy())


def cut_from_a_larger_one(array: NDArray[Any]) -> NDArray[Any]:
    larger = np.ones([2 * side + 1 for side in array.shape], array.dtype)
    part = larger[(slice(1, None, 2),) * array.ndim]
    part[:] = array
    return part


def not_to_be_written_to(array: NDArray[Any]) -> NDArray[Any]:
    kept = array.copy()
    kept.flags.writeable = False
    return kept


def of_thin(truth: Any, guess: Any, probabilities: Any) -> Any:
    counts = ThinCounts(3)
    counts.add(truth, guess, probabilities)
    return counts.scores(CLASSES)


def of_boundary(truth: Any, guess: Any) -> Any:
    counts = BoundaryCounts(3, width=2)
    counts.update(truth, guess)
    return counts.scores(CLASSES)


def of_pixels(truth: Any, guess: Any) -> Any:
    counts = ConfusionMatrix(3)
    counts.update(truth, guess)
    return counts.matrix


def of_road(truth: Any, guess: Any) -> Any:
    counts = RoadCounts()
    counts.update(truth, guess)
    return counts.scores()


def of_lattice(probabilities: Any) -> Any:
    lattice = Lattice(2)
    lattice.add(probabilities)
    return round(lattice.score or 0, 9)  # sums in another order


def of_settings(probabilities: Any, picture: Any) -> Any:
    return [found for *_, found in marginals_under_each(probabilities, picture, [CrfParams()], [0, 2])]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "skeletons": lambda truth: skeletons(truth),
    "thin": of_thin,
    "boundary": of_boundary,
    "pixels": of_pixels,
    "road": of_road,
    "lattice": of_lattice,
    "within": lambda truth, guess: count_within(guess, truth, (0, 1, 2, 5), 3),
    "widths": lambda truth: local_widths(truth),
    "widths of one class": lambda truth: object_widths(truth, 1).pixels,
    "scores": lambda matrix: scores(matrix, CLASSES),
    "CRF": lambda probabilities, picture: dense_crf(probabilities, picture, iterations=2),
    "CRF with costs": lambda probabilities, picture, matrix: dense_crf(probabilities, picture, compatibility=matrix),
    "CRF of settings": of_settings,
    "polygons": lambda truth: feature_collection(truth, CLASSES),
    "simple polygons": lambda truth: feature_collection(truth, CLASSES, tolerance=1.5),
    "colours": lambda truth: colourise(truth, CLASSES),
    "classes": lambda truth: present_classes(truth, CLASSES),
    "overlay": lambda picture, truth: overlay(picture, truth, CLASSES),
    "tint": lambda picture, truth: tint(picture, truth, CLASSES),
    "errors": lambda picture, truth, guess: draw_errors(picture, truth, guess, 1),
    "red road": lambda picture, truth: road_in_red(picture, truth == 1, edge=1),
    "PNG": lambda picture: list(encode_png(picture)),
    "indexed PNG": lambda truth: list(encode_indexed_png(truth)),
    "field": lambda field: side_of(field, share=0.5),
    "bases": lambda truth: class_bases([truth], 3),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_how_arrays_lie_in_memory_changes_nothing(name: str) -> None:
    function = FUNCTIONS[name]
    taken = {key: value for key, value in scene().items() if key in function.__code__.co_varnames}
    expected = plain(function(**taken))
    for way in (in_fortrans_order, with_negative_strides, cut_from_a_larger_one, not_to_be_written_to):
        given = {key: way(value) for key, value in taken.items()}
        assert plain(function(**given)) == expected, way.__name__
        assert all((given[key] == value).all() for key, value in scene().items() if key in given), way.__name__


def plain(found: Any) -> str:
    """As text that is equal where all numbers are, NaN too."""
    return json.dumps(found, default=lambda one: np.asarray(one).tolist())
