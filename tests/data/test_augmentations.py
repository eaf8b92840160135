"""Turns and bends keep picture and label together, flaws leave the label alone, rare classes come with their share."""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ducseg.data.augmentations import (
    MovedCrop,
    RandomBlur,
    RandomElastic,
    RandomGamma,
    RandomJpeg,
    RandomNoise,
    RandomQuarterTurns,
    RandomRotation,
    RandomVerticalFlip,
    Sometimes,
)
from ducseg.data.moved import Moved
from ducseg.data.sample import Sample
from ducseg.data.transforms import Compose, RandomCrop, RandomMirror, RandomScaleCrop, Transform
from ducseg.errors import UserError


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def _scene(height: int = 40, width: int = 60) -> Sample:
    """Smooth blobs: the label is 1 where red is above 127, so image and label tell the same."""
    rng = _rng(height * 100 + width)
    image = cv2.resize(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    return Sample(image=image, label=(image[..., 0] > 127).astype(np.uint8), id="scene", original_size=(height, width))


def _label(sample: Sample) -> np.ndarray:
    assert sample.label is not None
    return sample.label


def _together(sample: Sample) -> None:
    """Where red is clearly above or below, the label says so; outside is 255."""
    red, label = sample.image[..., 0].astype(int), _label(sample)
    inside = cv2.erode((label != 255).astype(np.uint8), np.ones((3, 3))) > 0
    assert (label[inside & (red > 160)] == 1).all()
    assert (label[inside & (red < 95)] == 0).all()


seeds = st.integers(0, 10_000)
BENDS: list[Transform] = [RandomVerticalFlip(1.0), RandomQuarterTurns(), RandomRotation(), RandomElastic(3.0, 16.0)]
FLAWS: list[Transform] = [RandomBlur(), RandomNoise(), RandomGamma(), RandomJpeg()]
ALL = [*BENDS, *FLAWS, RandomRotation(reflect=True), RandomElastic(reflect=True), Sometimes(RandomBlur())]


# -- turns and bends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", BENDS, ids=lambda transform: type(transform).__name__)
@given(seed=seeds)
def test_label_and_picture_move_together(transform: Transform, seed: int) -> None:
    bent = transform(_scene(), _rng(seed))
    _together(bent)
    assert set(np.unique(_label(bent))) <= {0, 1, 255}


def test_flips_and_quarter_turns_are_exact() -> None:
    scene = _scene()
    np.testing.assert_array_equal(RandomVerticalFlip(1.0)(scene, _rng(0)).image, scene.image[::-1])
    np.testing.assert_array_equal(_label(RandomVerticalFlip(1.0)(scene, _rng(0))), _label(scene)[::-1])
    assert RandomVerticalFlip(0.0)(scene, _rng(0)) is scene
    seen = set()
    for seed in range(40):
        turned = RandomQuarterTurns()(scene, _rng(seed))
        (turns,) = [n for n in range(4) if np.array_equal(np.rot90(scene.image, n), turned.image)]
        np.testing.assert_array_equal(_label(turned), np.rot90(_label(scene), turns))
        seen.add(turns)
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize("reflect", [False, True])
def test_rotation_turns_about_the_centre_within_its_range(reflect: bool) -> None:
    image = np.zeros((61, 81, 3), np.uint8)
    image[28:33, 60:66] = 255  # 22.5 to the right of the centre
    scene = Sample(image=image, label=image[..., 0] // 255, id="dot", original_size=(61, 81))
    angles = []
    for seed in range(60):
        turned = RandomRotation(30.0, reflect=reflect, mean_colour=(0, 0, 0))(scene, _rng(seed))
        rows, columns = np.nonzero(_label(turned) == 1)
        down, across = rows.mean() - 30, columns.mean() - 40
        assert abs(np.hypot(down, across) - 22.5) < 0.6
        turns = np.rad2deg(np.arctan2(down, across))
        angles.append(turns)
        if reflect or abs(turns) > 3:
            assert (_label(turned) != 255).all() == reflect
    assert -30.5 < min(angles) < -22
    assert 22 < max(angles) < 30.5


@given(seed=seeds)
def test_elastic_moves_by_its_pixels_and_tears_nothing(seed: int) -> None:
    rows, columns = np.indices((80, 100)).astype(np.float32)
    place = np.dstack([2 * rows, 2 * columns, rows]).clip(0, 255).astype(np.uint8)
    scene = Sample(image=place, label=np.zeros((80, 100), np.uint8), id="places", original_size=(80, 100))
    bent = RandomElastic(2.0, 20.0, reflect=True)(scene, _rng(seed)).image.astype(float)
    moved = np.hypot(bent[..., 0] / 2 - rows, bent[..., 1] / 2 - columns)[10:-10, 10:-10]
    assert 0.5 < moved.mean() < 6
    assert moved.max() < 14
    assert (np.diff(bent[10:-10, 10:-10, 0], axis=0) > -6).all()


# -- flaws -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", FLAWS, ids=lambda transform: type(transform).__name__)
def test_flaws_change_the_picture_and_not_the_label(transform: Transform) -> None:
    scene = _scene()
    changed = transform(scene, _rng(3))
    assert changed.label is scene.label
    assert changed.image.shape == scene.image.shape
    difference = np.abs(changed.image.astype(int) - scene.image)
    assert 0 < difference.mean() < 60


def test_flaws_are_their_definitions() -> None:
    scene = _scene()
    blurred = RandomBlur((1.2, 1.2))(scene, _rng(0)).image
    np.testing.assert_array_equal(blurred, cv2.GaussianBlur(scene.image, (0, 0), 1.2))
    grey = Sample(image=np.full((100, 100, 3), 128, np.uint8), label=None, id="grey", original_size=(100, 100))
    noise = RandomNoise((6.0, 6.0))(grey, _rng(0)).image.astype(float) - 128
    assert abs(noise.mean()) < 0.2
    assert abs(noise.std() - 6) < 0.2
    assert np.abs(np.corrcoef(noise.reshape(-1, 3).T) - np.eye(3)).max() < 0.05
    brighter = RandomGamma((0.5, 0.5))(scene, _rng(0)).image
    assert np.abs(brighter - 255 * np.sqrt(scene.image / 255)).max() <= 0.5
    coarse, fine = (np.abs(RandomJpeg((q, q))(scene, _rng(0)).image.astype(int) - scene.image).mean() for q in (5, 95))
    assert fine < 3 < coarse


@given(low=st.floats(0.2, 0.9), seed=seeds)
def test_gamma_is_uniform_in_its_logarithm(low: float, seed: int) -> None:
    grey = Sample(image=np.full((1, 1, 3), 100, np.uint8), label=None, id="grey", original_size=(1, 1))
    value = int(RandomGamma((low, 1 / low))(grey, _rng(seed)).image[0, 0, 0])
    expected = 255 * (100 / 255) ** np.exp(_rng(seed).uniform(np.log(low), np.log(1 / low)))
    assert abs(value - expected) <= 0.5


def test_sometimes_has_its_probability() -> None:
    scene, rng = _scene(4, 4), _rng(0)
    assert 250 < sum(Sometimes(RandomMirror(1.0), 0.3)(scene, rng) is not scene for _ in range(1000)) < 350


# -- crops -------------------------------------------------------------------------------------------------------------


def _rare(height: int, width: int, seed: int, pixels: int = 2) -> Sample:
    """Class 0 with a few lone pixels of class 3 and a block of class 2."""
    rng = _rng(seed)
    label = np.zeros((height, width), np.uint8)
    label[: max(1, height // 6), : max(1, width // 6)] = 2
    label[rng.integers(0, height, pixels), rng.integers(0, width, pixels)] = 3
    return Sample(image=np.dstack([label * 9] * 3), label=label, id="rare", original_size=(height, width))


sizes = st.tuples(st.integers(1, 70), st.integers(1, 70))


@given(full=sizes, window=sizes, scale=st.floats(0.3, 2.5), seed=seeds, fused=st.booleans())
def test_a_crop_holds_a_rare_pixel_whenever_it_shall(
    full: tuple[int, int], window: tuple[int, int], scale: float, seed: int, fused: bool
) -> None:
    scene = _rare(*full, seed)
    crop: Transform = RandomCrop(window, rare=(3,), share=1.0)
    whole = scene
    if fused:
        crop = RandomScaleCrop(window, (scale, scale), rare=(3,), share=1.0)
        scaled = tuple(max(1, round(side * scale)) for side in full)
        whole = RandomScaleCrop((scaled[0], scaled[1]), (scale, scale))(scene, _rng(0))
    cut = crop(scene, _rng(seed))
    assert cut.image.shape[:2] == _label(cut).shape == window
    assert (_label(cut) == 3).any() == (_label(whole) == 3).any()


def test_the_share_of_crops_with_a_rare_class_and_their_places() -> None:
    label = np.zeros((200, 300), np.uint8)
    label[150, 40] = 1
    scene = Sample(image=np.dstack([label] * 3), label=label, id="one", original_size=(200, 300))
    crops = [RandomCrop((20, 30), rare=(1,), share=0.4)(scene, _rng(seed)) for seed in range(600)]
    found = [tuple(np.argwhere(_label(crop) == 1)[0]) for crop in crops if (_label(crop) == 1).any()]
    assert 0.36 < len(found) / 600 < 0.48
    rows, columns = zip(*found)
    assert (min(rows), max(rows), min(columns), max(columns)) == (0, 19, 0, 29)
    assert all((_label(crop) != 255).all() for crop in crops)


def test_each_rare_class_is_as_likely_however_few_its_pixels() -> None:
    scene = _rare(120, 120, 5, pixels=1)
    crop = RandomCrop((8, 8), rare=(2, 3), share=1.0)
    with_three = sum((_label(crop(scene, _rng(seed))) == 3).any() for seed in range(400))
    assert 160 < with_three < 240


def test_pictures_without_a_rare_class_and_without_label_are_cropped_as_before() -> None:
    scene = _rare(50, 60, 0)
    bare = Sample(image=scene.image, label=None, id="bare", original_size=(50, 60))
    expected = RandomCrop((9, 9))(bare, _rng(4))
    np.testing.assert_array_equal(RandomCrop((9, 9), rare=(3,), share=1.0)(bare, _rng(4)).image, expected.image)
    assert RandomCrop((9, 9), rare=(7,), share=1.0)(scene, _rng(4)).image.shape == (9, 9, 3)


@given(full=sizes, window=sizes, scale=st.floats(0.4, 2.0), seed=seeds)
def test_reflection_mirrors_picture_and_label(
    full: tuple[int, int], window: tuple[int, int], scale: float, seed: int
) -> None:
    scene = _scene(*full)
    plain = RandomScaleCrop(window, (scale, scale))(scene, _rng(seed))
    mirrored = RandomScaleCrop(window, (scale, scale), reflect=True)(scene, _rng(seed))
    inside = _label(plain) != 255
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    widths = [(kept[0], side - 1 - kept[-1]) for kept, side in zip((rows, columns), window)]
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    np.testing.assert_array_equal(_label(mirrored), np.pad(_label(plain)[part], widths, "reflect"))
    np.testing.assert_array_equal(mirrored.image, np.pad(plain.image[part], [*widths, (0, 0)], "reflect"))


@given(
    full=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    window=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    scale=st.floats(0.4, 2.0),
    turns=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_a_window_of_a_turned_view_is_that_of_the_turned_picture(
    full: tuple[int, int], window: tuple[int, int], scale: float, turns: int, seed: int
) -> None:
    scene = _scene(*full)
    view = replace(scene, image=np.rot90(scene.image, turns), label=np.rot90(_label(scene), turns))
    whole = replace(view, image=np.ascontiguousarray(view.image), label=np.ascontiguousarray(_label(view)))
    for crop in (RandomCrop(window), RandomScaleCrop(window, (scale, scale), reflect=True)):
        first, second = crop(view, _rng(seed)), crop(whole, _rng(seed))
        np.testing.assert_array_equal(first.image, second.image)
        np.testing.assert_array_equal(_label(first), _label(second))


@settings(max_examples=25)
@given(
    full=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    window=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    channels=st.integers(1, 5),
    reflect=st.booleans(),
    rare=st.sampled_from([(), (1,)]),
    seed=seeds,
)
def test_a_moved_crop_is_the_crop_of_the_moved_picture(
    full: tuple[int, int], window: tuple[int, int], channels: int, reflect: bool, rare: tuple[int, ...], seed: int
) -> None:
    rng, mean = _rng(seed), (9.0, 8.0, 7.0, 6.0, 5.0)[:channels]
    image, label = rng.integers(0, 60000, (*full, channels), np.uint16), rng.integers(0, 3, full, np.uint8)
    scene = Sample(image=image, label=label, id="noise", original_size=full)
    moves = RandomRotation(180.0, reflect, mean), RandomElastic(6.0, 24.0, reflect, mean)
    for crop in (RandomCrop(window, mean, rare), RandomScaleCrop(window, (0.4, 2.0), mean, rare=rare, reflect=reflect)):
        whole, part = (t(scene, _rng(seed)) for t in (Compose((*moves, crop)), MovedCrop(moves, crop)))
        np.testing.assert_array_equal(whole.image, part.image, strict=True)
        np.testing.assert_array_equal(_label(whole), _label(part), strict=True)


@pytest.mark.parametrize("size", [(40, 33_000), (33_000, 40)])
def test_sides_beyond_what_opencv_moves(size: tuple[int, int]) -> None:
    """Where the label is moved whole, to look for a rare class in it: in blocks, each as if all had been computed."""
    rng = _rng(0)
    scene = Sample(
        image=rng.integers(0, 256, (*size, 3), np.uint8), label=rng.integers(0, 2, size, np.uint8), id="long",
        original_size=size,
    )  # fmt: skip
    moves = RandomRotation(2.0), RandomElastic(3.0, 24.0)
    crop = RandomCrop((32, 32), rare=(1,), share=1.0)
    found = MovedCrop(moves, crop)(scene, _rng(1))
    assert found.image.shape == (32, 32, 3) and (_label(found) == 1).any()
    moved = Moved(_label(scene), moves[0].places(size, _rng(1)), reflect=False, fill=(0, 0, 0))
    whole, middle = moved[:, :], tuple(slice(side // 2 - 20, side // 2 + 20) for side in size)
    np.testing.assert_array_equal(whole[middle], moved[middle])
    around = tuple(slice(max(0, side // 8 - 30), side // 8 + 30) for side in size)  # across the edge of a block
    np.testing.assert_array_equal(whole[around], moved[around])


def test_the_elastic_field_is_the_cubic_one_of_opencv() -> None:
    size, bend = (150, 200), RandomElastic(4.0, 24.0)
    x, y = bend.places(size, _rng(3))(np.arange(150), np.arange(200))
    coarse = (4.0 * _rng(3).standard_normal((2, 7, 9))).astype(np.float32)
    down, across = (cv2.resize(field, (200, 150), interpolation=cv2.INTER_CUBIC) for field in coarse)
    np.testing.assert_allclose(x - np.arange(200), across, atol=1e-4)
    np.testing.assert_allclose(y - np.arange(150)[:, None], down, atol=1e-4)


@pytest.mark.parametrize("scale", [0.75, 1.0, 1.33])
def test_a_crop_computes_no_more_of_a_large_picture_than_it_shows(scale: float) -> None:
    image = np.lib.stride_tricks.as_strided(np.zeros(3, np.uint8), (1 << 16, 1 << 16, 3), (0, 0, 1))  # 12 GB if copied
    label = np.broadcast_to(np.zeros((), np.uint8), image.shape[:2])
    sample = Sample(image=image, label=label, id="large", original_size=(1 << 16, 1 << 16))
    crop = MovedCrop((RandomRotation(), RandomElastic(4.0, 4096.0)), RandomScaleCrop((64, 64), (scale, scale)))
    transform = Compose((RandomQuarterTurns(), crop, RandomVerticalFlip()))
    for seed in range(8):
        assert transform(sample, _rng(seed)).image.shape == (64, 64, 3)


# -- all ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", ALL, ids=repr)
def test_result_depends_on_sample_and_generator_alone(transform: Transform) -> None:
    scene = _scene()
    image, label = scene.image.copy(), _label(scene).copy()
    first, second = transform(scene, _rng(7)), transform(scene, _rng(7))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(_label(first), _label(second))
    assert first.image.dtype == _label(first).dtype == np.uint8
    assert first.image.shape == (*_label(first).shape, 3)
    assert first.image.flags.c_contiguous or isinstance(transform, RandomQuarterTurns)  # which gives views
    np.testing.assert_array_equal(scene.image, image)
    np.testing.assert_array_equal(_label(scene), label)
    bare = transform(Sample(image=scene.image, label=None, id="bare", original_size=(40, 60)), _rng(7))
    assert bare.label is None
    np.testing.assert_array_equal(bare.image, first.image)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomVerticalFlip(1.5),
        lambda: Sometimes(RandomBlur(), -0.1),
        lambda: RandomRotation(0.0),
        lambda: RandomRotation(200.0),
        lambda: RandomElastic(20.0, 30.0),
        lambda: RandomElastic(-1.0),
        lambda: RandomBlur((0.0, 1.0)),
        lambda: RandomNoise((5.0, 1.0)),
        lambda: RandomGamma((0.0, 1.0)),
        lambda: RandomJpeg((0, 50)),
        lambda: RandomJpeg((50, 101)),
        lambda: RandomCrop((8, 8), rare=(1,), share=1.5),
        lambda: RandomScaleCrop((8, 8), share=-0.5),
    ],
)
def test_impossible_parameters_are_refused(make: Callable[[], Transform]) -> None:
    with pytest.raises(UserError, match="needed"):
        make()
