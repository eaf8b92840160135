"""The lattice score on maps whose lattice is known: planted dots in noise, decoupled grids, and maps without one."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ducseg.errors import UserError
from ducseg.metrics.gridding import GRIDS, Lattice

periods = st.sampled_from([2, 3, 4, 5, 9, 12])
few = settings(max_examples=12)


def scored(period: int, *maps: np.ndarray) -> Lattice:
    lattice = Lattice(period)
    for one in maps:
        lattice.add(one)
    assert lattice.windows > 0
    return lattice


def score(period: int, *maps: np.ndarray) -> float:
    found = scored(period, *maps).score
    assert found is not None
    return found


def dots(period: int, side: int = 72, shift: tuple[int, int] = (0, 0)) -> np.ndarray:
    """One place in each cell of a lattice, mean 0 and variance 1."""
    rows, columns = np.indices((side, side))
    found = ((rows + shift[0]) % period == 0) & ((columns + shift[1]) % period == 0)
    return (found - found.mean()) / found.std()


def noise(seed: int, side: int = 72, smooth: float = 0.0, count: int = 4) -> np.ndarray:
    """Maps (count, side, side) of variance 1, blurred so far."""
    maps = np.random.default_rng(seed).standard_normal((count, side, side))
    if smooth:
        maps = np.stack([cv2.GaussianBlur(one, (0, 0), smooth) for one in maps])
    return maps / maps.std()


def decoupled(period: int, seed: int, strength: float) -> np.ndarray:
    """A smooth map, and on each of the period's grids another smooth map: what layers of one rate make."""
    found = noise(seed, smooth=4)
    for row in range(period):
        for column in range(period):
            own = noise(1000 * seed + period * row + column + 1, smooth=2 * period)
            found[:, row::period, column::period] += strength * own[:, row::period, column::period]
    return found


@few
@given(periods, st.integers(0, 1000))
def test_more_of_a_lattice_never_scores_less(period: int, seed: int) -> None:
    strengths = (0.0, 0.3, 0.6, 1.2, 2.4)
    found = [score(period, noise(seed) + strength * dots(period)) for strength in strengths]
    assert found == sorted(found)
    assert found[0] < 2
    assert found[-1] > 9


@few
@given(periods, st.integers(0, 1000), st.floats(0.05, 1))
def test_the_share_is_that_of_the_planted_lattice(period: int, seed: int, strength: float) -> None:
    found = scored(period, noise(seed, count=8) + strength * dots(period)).share
    assert found == pytest.approx(strength**2 / (1 + strength**2), abs=0.04)


@few
@given(periods, st.tuples(st.integers(0, 20), st.integers(0, 20)), st.integers(0, 1000))
def test_where_the_lattice_lies_does_not_matter(period: int, shift: tuple[int, int], seed: int) -> None:
    maps = noise(seed, smooth=1)
    here, there = (score(period, maps + 0.7 * dots(period, shift=at)) for at in ((0, 0), shift))
    assert there == pytest.approx(here, abs=0.7)


@few
@given(periods, st.integers(0, 1000), st.tuples(st.integers(0, 12), st.integers(0, 12)))
def test_moving_the_map_does_not_matter(period: int, seed: int, shift: tuple[int, int]) -> None:
    whole = noise(seed, side=96, smooth=1.5, count=8) + 0.7 * dots(period, side=96)
    top, left = shift
    moved = whole[:, top : top + 84, left : left + 84]
    assert score(period, moved) == pytest.approx(score(period, whole[:, :84, :84]), abs=1.0)


@few
@given(periods, st.floats(1e-6, 1e6), st.floats(-100, 100))
def test_neither_scale_nor_level_matter(period: int, scale: float, level: float) -> None:
    maps = noise(3, smooth=1) + 0.5 * dots(period)
    assert score(period, scale * (maps + level)) == pytest.approx(score(period, maps), abs=1e-3)


@few
@given(periods, st.integers(0, 1000), st.sampled_from([0.0, 1.0, 2.0, 4.0]))
def test_noise_of_any_smoothness_has_no_lattice(period: int, seed: int, smooth: float) -> None:
    assert score(period, *(noise(seed + more, smooth=smooth) for more in range(3))) < GRIDS


@few
@given(periods, st.floats(0, 180), st.integers(-16, 16), st.floats(0, 3))
def test_edges_and_lines_have_no_lattice(period: int, angle: float, place: int, blur: float) -> None:
    rows, columns = np.indices((72, 72)) - 36
    across = np.cos(np.deg2rad(angle)) * columns + np.sin(np.deg2rad(angle)) * rows - place
    lines = np.stack([abs(across) < width / 2 for width in (2, 3, 5, 8)]).astype(float)
    for shapes in ((across > 0)[None].astype(float), lines):
        soft = np.stack([cv2.GaussianBlur(one, (0, 0), blur) if blur > 0.1 else one for one in shapes])
        assert score(period, soft) < GRIDS


@pytest.mark.parametrize("period", [2, 3, 4, 5])
@pytest.mark.parametrize("seed", range(2))
def test_grids_that_know_nothing_of_each_other_score(period: int, seed: int) -> None:
    """Their lattice changes from place to place, and has no phase that the whole map shares."""
    found = [score(period, decoupled(period, seed, strength)) for strength in (0, 0.1, 0.2, 0.4)]
    assert found == sorted(found)
    assert found[0] < GRIDS < found[2]


def test_a_lattice_is_found_at_its_own_period_alone() -> None:
    maps = [noise(seed, smooth=1) + dots(5) for seed in range(4)]
    assert score(5, *maps) > 9
    assert max(score(period, *maps) for period in (2, 3, 4, 9)) < GRIDS


def test_stripes_and_smooth_lattices_score_too() -> None:
    rows, columns = np.indices((72, 72))
    for lattice in (np.cos(2 * np.pi * columns / 6), np.cos(2 * np.pi * rows / 6) * np.cos(2 * np.pi * columns / 6)):
        assert score(6, noise(1) + 2 * lattice) > 2 * GRIDS


def test_maps_of_many_pictures_add_up_and_small_ones_are_left_out() -> None:
    lattice = Lattice(9)
    assert (lattice.window, lattice.score, lattice.share) == (36, None, None)
    lattice.add(noise(1, side=35))
    assert (lattice.windows, lattice.score) == (0, None)
    lattice.add(noise(1, side=36))
    lattice.add(np.stack([noise(2, side=72, count=1)[0][:40, :]]))
    assert lattice.windows == 1 + 2 * 3
    flat = Lattice(2)
    flat.add(np.zeros((1, 40, 40)))
    assert flat.score is None


def test_a_period_below_two_is_refused() -> None:
    with pytest.raises(UserError, match="at least 2 places"):
        Lattice(1)


@pytest.mark.parametrize("kind", ["images", "labels"])
@pytest.mark.parametrize("cell", [4, 8])
def test_photographs_and_their_classes_have_no_lattice(shared: Path, kind: str, cell: int) -> None:
    files = sorted((shared / "data" / "camvid" / kind / "val").iterdir())[::12]
    lattices = [Lattice(period) for period in (2, 3, 5, 9)]
    for file in files:
        picture = cv2.imread(str(file), cv2.IMREAD_COLOR if kind == "images" else cv2.IMREAD_GRAYSCALE)
        maps = picture.transpose(2, 0, 1) if kind == "images" else np.stack([picture == one for one in range(11)])
        size = (maps.shape[2] // cell, maps.shape[1] // cell)
        small = [cv2.resize(one.astype(np.float32), size, interpolation=cv2.INTER_AREA) for one in maps]
        for lattice in lattices:
            lattice.add(np.stack(small))
    assert max(lattice.score or 0 for lattice in lattices if lattice.windows) < 1
