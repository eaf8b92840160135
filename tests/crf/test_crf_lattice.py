"""The lattice against its definition written out with a dictionary, and against itself on other numbers of threads."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ducseg.crf import torch_lattice
from ducseg.crf.distinct import distinct
from ducseg.crf.lattice import Lattice, build_lattice
from ducseg.crf.mean_field import Filter
from ducseg.crf.rows import RowShape
from ducseg.crf.simplex import STRIP, place
from ducseg.crf.workers import Workers

Doubles = npt.NDArray[np.float64]
BILATERAL, GAUSSIAN = (4.0, 4.0, 30.0, 30.0, 30.0), (1.5, 1.5)


def by_definition(features: Doubles, values: Doubles) -> Doubles:
    """Adams et al. 2010 word by word in float64: elevate, find the simplex, splat, blur along each axis, slice."""
    d = features.shape[1]
    scale = np.array([1 / np.sqrt((i + 1) * (i + 2)) for i in range(d)]) * np.sqrt(2 / 3) * (d + 1)
    elevate = np.zeros((d + 1, d))
    for j in range(d):
        elevate[: j + 1, j], elevate[j + 1, j] = 1, -(j + 1)
    grid: dict[tuple[int, ...], Doubles] = {}
    corners: list[list[tuple[tuple[int, ...], float]]] = []
    for feature, value in zip(features, values):
        point = elevate @ (feature * scale)
        corner = np.rint(point / (d + 1)).astype(int) * (d + 1)
        # coordinates equally far off, as for x = 0, keep their order: it decides which vertices exist
        rank = np.argsort(np.argsort(np.round(corner - point, 9), kind="stable")) + corner.sum() // (d + 1)
        shift = (rank < 0).astype(int) - (rank > d)
        rank, corner = rank + shift * (d + 1), corner + shift * (d + 1)
        vertices = [corner + k - (d + 1) * (rank > d - k) for k in range(d + 1)]
        weights = np.linalg.lstsq(np.array([*np.transpose(vertices), np.ones(d + 1)]), np.append(point, 1))[0]
        # what defines the simplex: the point is a convex combination of vertices of the lattice
        assert weights.min() > -1e-9
        assert np.abs(weights @ vertices - point).max() < 1e-9
        assert all(vertex.sum() == 0 and len(set(vertex % (d + 1))) == 1 for vertex in vertices)
        corners.append([(tuple(vertex.tolist()), weight) for vertex, weight in zip(vertices, weights)])
        for key, weight in corners[-1]:
            grid[key] = grid.get(key, 0) + weight * value
    for axis in range(d + 1):
        step = np.full(d + 1, -1)
        step[axis] = d
        nothing = np.zeros_like(values[0])
        grid = {
            key: value + sum(grid.get(tuple((np.array(key) + sign * step).tolist()), nothing) for sign in (1, -1)) / 2
            for key, value in grid.items()
        }
    sliced = [sum(weight * grid[key] for key, weight in simplex) for simplex in corners]
    return np.array(sliced) / (1 + 2.0**-d)


def features_of(image: npt.NDArray[np.uint8], sigmas: tuple[float, ...]) -> Doubles:
    height, width, _ = image.shape
    y, x = np.mgrid[:height, :width]
    return (np.concatenate([x[..., None], y[..., None], image], 2)[..., : len(sigmas)] / sigmas).reshape(
        -1, len(sigmas)
    )


def strip_order(height: int, width: int) -> npt.NDArray[np.int64]:
    return np.array([y * width + x for y, x in (place(n, height, width) for n in range(height * width))])


def splatted_and_sliced(lattice: Lattice, values: Doubles, threads: int) -> Doubles:
    """K values through numba's kernels: (N, 3) in strip order."""
    shape = RowShape(3)
    rows = np.zeros((len(values), shape.width), np.float32)
    rows[:, :3] = values
    with Workers(threads) as workers:
        filtering = Filter(lattice, shape, workers)
        for part in range(len(filtering.ranges)):
            filtering.run(part, rows.reshape(-1))
    blurred = filtering.values.reshape(-1, shape.width)[:, :3]
    return np.einsum("nk,nkl->nl", lattice.weights.astype(np.float64), blurred[lattice.offsets])


@pytest.fixture
def image() -> npt.NDArray[np.uint8]:
    y, x = np.mgrid[:9, :44]
    noise = np.random.default_rng(0).integers(0, 20, (9, 44, 3))
    return (np.stack([x * 5, y * 20, x + y], 2) + noise).astype(np.uint8)


@pytest.mark.parametrize("sigmas", [BILATERAL, GAUSSIAN])
def test_both_lattices_filter_as_defined(image: npt.NDArray[np.uint8], sigmas: tuple[float, ...]) -> None:
    features, values = features_of(image, sigmas), np.random.default_rng(1).random((image[..., 0].size, 3))
    norm = 1 / np.sqrt(by_definition(features, np.ones((len(values), 1))) + 1e-20)
    expected = norm * by_definition(features, norm * values)
    order = strip_order(*image.shape[:2])
    with Workers(1) as workers:
        ours = splatted_and_sliced(build_lattice(image, sigmas, workers), values[order], 1)
    assert np.abs(ours - expected[order]).max() < 1e-4
    plain = torch_lattice.build(torch.from_numpy(image)[None], sigmas)
    assert np.abs(torch_lattice.filter_pixels(plain, torch.from_numpy(values)).numpy() - expected).max() < 1e-4


@pytest.mark.parametrize("sigmas", [BILATERAL, GAUSSIAN, (0.4, 0.4), (200.0, 200.0)])
@pytest.mark.parametrize("threads", [2, 5])
def test_ranges_of_columns_agree_with_one_walk(
    image: npt.NDArray[np.uint8], sigmas: tuple[float, ...], threads: int
) -> None:
    values = np.random.default_rng(2).random((image[..., 0].size, 3))
    results = []
    for count in (1, threads):
        with Workers(count) as workers:
            results.append(splatted_and_sliced(build_lattice(image, sigmas, workers), values, count))
    assert (results[0] == results[1]).all()


def test_a_lattice_reused_after_another_leaves_no_trace(image: npt.NDArray[np.uint8]) -> None:
    values = np.random.default_rng(3).random((image[..., 0].size, 3))
    with Workers(1) as workers:
        lattice = build_lattice(image, BILATERAL, workers)
    first = splatted_and_sliced(lattice, values, 1)
    splatted_and_sliced(lattice, 100 * values, 1)
    assert (splatted_and_sliced(lattice, values, 1) == first).all()


def test_strip_order_visits_every_pixel_once_and_stays_near() -> None:
    height, width = 5, 2 * STRIP + 3
    visited = strip_order(height, width)
    assert (np.sort(visited) == np.arange(height * width)).all()
    columns = visited[: STRIP * height] % width
    assert columns.max() == STRIP - 1


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=400), st.integers(1, 4), st.sampled_from([1, 10**15]))
@settings(max_examples=40)
def test_distinct_is_unique(values: list[int], threads: int, spread: int) -> None:
    entries = np.array(values, np.int64) * spread
    with Workers(threads) as workers:
        found = distinct(entries, 2, int(entries.max()) + 1, workers)
    keys, numbers = np.unique(entries, return_inverse=True)
    assert (found.keys == keys).all()
    assert (found.numbers == numbers).all()


def test_hash_tables_grow() -> None:
    entries = np.random.default_rng(4).integers(0, 2**61, 20_000)
    with Workers(1) as workers:
        found = distinct(np.repeat(entries, 3), 1, 2**61, workers)
    assert len(found.keys) == len(np.unique(entries))
    assert (found.keys[found.numbers] == np.repeat(entries, 3)).all()


def test_rows_waste_little_and_keep_groups_wide() -> None:
    for classes in range(1, 200):
        shape = RowShape(classes)
        assert shape.width >= classes
        assert shape.width % (4 * len(shape.kind)) == 0
        assert shape.width - classes < max(8, 0.25 * classes)
    assert [(RowShape(c).width, len(RowShape(c).kind)) for c in (2, 11, 19, 150)] == [
        (4, 1),
        (12, 3),
        (20, 5),
        (160, 8),
    ]


def test_workers_share_out_everything() -> None:
    for threads, total in itertools.product((1, 2, 3), (0, 1, 2, 7)):
        with Workers(threads) as workers:
            parts = workers.ranges(lambda first, last: list(range(first, last)), total)
        assert list(itertools.chain(*parts)) == list(range(total))
