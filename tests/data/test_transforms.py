"""Joint transforms: image and label stay together, outside lie mean colour and 255, every parameter has its effect."""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ducseg.data.sample import Sample
from ducseg.data.transforms import (
    IMAGENET_MEAN_COLOUR,
    ColourJitter,
    Compose,
    RandomCrop,
    RandomMirror,
    RandomScaleCrop,
    Transform,
)
from ducseg.errors import UserError

WARP_TOLERANCE = 1 if int(cv2.__version__.split(".")[0]) >= 5 else 12


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def _scene(height: int, width: int, seed: int = 0) -> Sample:
    """A smooth image and blocks of labels, unrelated to each other."""
    rng = _rng(seed)
    image = cv2.resize(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    label = cv2.resize(rng.integers(0, 19, (7, 9), dtype=np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    return Sample(image=image, label=label, id="scene", original_size=(height, width))


def _painted(height: int, width: int, seed: int = 0) -> Sample:
    """An image whose red channel is 10 x label, so that any shift between the two shows."""
    scene = _scene(height, width, seed)
    assert scene.label is not None
    image = np.dstack([scene.label * 10, scene.label + 50, 255 - scene.label])
    return Sample(image=image, label=scene.label, id="painted", original_size=(height, width))


def _label(sample: Sample) -> np.ndarray:
    assert sample.label is not None
    return sample.label


def _scaled(sample: Sample, scale: tuple[float, float], rng: np.random.Generator, **more: object) -> Sample:
    """All of the picture that `RandomScaleCrop` scales: a window that is larger, without what it fills up."""
    crop = RandomScaleCrop((300, 300), scale, **more)(sample, rng)
    rows, columns = (np.flatnonzero((_label(crop) != 255).any(axis)) for axis in (1, 0))
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert (_label(crop)[part] != 255).all()
    return replace(sample, image=crop.image[part], label=_label(crop)[part])


sizes = st.tuples(st.integers(1, 50), st.integers(1, 50))
scales = st.tuples(st.floats(0.3, 1.0), st.floats(1.0, 2.5))
seeds = st.integers(0, 10_000)


# -- scale and crop ----------------------------------------------------------------------------------------------------


@given(full=sizes, window=sizes, scale=scales, aspect=st.sampled_from([(1.0, 1.0), (2.0, 2.0), (0.7, 1.4)]), seed=seeds)
def test_fused_scale_and_crop_is_scale_then_crop(
    full: tuple[int, int], window: tuple[int, int], scale: tuple[float, float], aspect: tuple[float, float], seed: int
) -> None:
    scene = _scene(*full)
    fused = RandomScaleCrop(window, scale, aspect=aspect)(scene, _rng(seed))
    rng = _rng(seed)
    for bounds in (scale,) if aspect == (1.0, 1.0) else (scale, aspect):
        rng.uniform(*bounds)  # the draws of scaling come first
    stepwise = RandomCrop(window)(_scaled(scene, scale, _rng(seed), aspect=aspect), rng)
    assert fused.image.shape == (*window, 3)
    np.testing.assert_array_equal(_label(fused), _label(stepwise))
    assert np.abs(fused.image.astype(int) - stepwise.image).max() <= WARP_TOLERANCE


@given(full=sizes, scale=scales, seed=seeds)
def test_scaled_image_is_opencv_bilinear(full: tuple[int, int], scale: tuple[float, float], seed: int) -> None:
    scene = _scene(*full)
    scaled = _scaled(scene, scale, _rng(seed))
    factor = _rng(seed).uniform(*scale)
    height, width = (max(1, round(side * factor)) for side in full)
    expected = cv2.resize(scene.image, (width, height), interpolation=cv2.INTER_LINEAR)
    assert scaled.image.shape == expected.shape
    assert np.abs(scaled.image.astype(int) - expected).max() <= WARP_TOLERANCE


@given(full=sizes, scale=scales, seed=seeds)
def test_scaled_label_takes_the_pixel_under_each_centre(
    full: tuple[int, int], scale: tuple[float, float], seed: int
) -> None:
    scene = _scene(*full)
    scaled = _label(_scaled(scene, scale, _rng(seed)))
    for y in range(0, scaled.shape[0], 3):
        for x in range(0, scaled.shape[1], 3):
            source_y, source_x = (
                (2 * y + 1) * full[0] // (2 * scaled.shape[0]),
                (2 * x + 1) * full[1] // (2 * scaled.shape[1]),
            )
            assert scaled[y, x] == _label(scene)[source_y, source_x]


@pytest.mark.parametrize("factor", [0.6, 0.7, 1.3, 2.0, 3.0])
def test_image_and_label_are_not_shifted_against_each_other(factor: float) -> None:
    """A vertical edge: where the bilinear image crosses half its height, the label must change, to half a pixel."""
    image = np.zeros((20, 60, 3), dtype=np.uint8)
    image[:, 23:] = 200
    scene = Sample(image=image, label=(image[..., 0] // 200), id="edge", original_size=(20, 60))
    scaled = _scaled(scene, (factor, factor), _rng(0))
    above = scaled.image[5, :, 0] >= 100
    assert abs(int(np.argmax(above)) - int(np.argmax(_label(scaled)[5]))) <= 1
    mirrored = _scaled(RandomMirror(1.0)(scene, _rng(0)), (factor, factor), _rng(0))
    np.testing.assert_array_equal(_label(mirrored), _label(scaled)[:, ::-1])


@given(full=sizes, window=sizes, seed=seeds)
def test_crop_keeps_pixels_together_and_fills_the_rest(
    full: tuple[int, int], window: tuple[int, int], seed: int
) -> None:
    crop = RandomCrop(window, mean_colour=(1, 2, 3))(_painted(*full), _rng(seed))
    inside = _label(crop) != 255
    assert crop.image.shape == (*window, 3)
    assert _label(crop).shape == window
    assert inside.sum() == min(full[0], window[0]) * min(full[1], window[1])
    np.testing.assert_array_equal(crop.image[inside][:, 0], _label(crop)[inside] * 10)
    assert (crop.image[~inside] == (1, 2, 3)).all()
    assert crop.original_size == full


def test_crop_reaches_every_place() -> None:
    column = np.arange(12, dtype=np.uint8)
    label = np.repeat(column[:, None], 4, axis=1)
    scene = Sample(image=np.dstack([label] * 3), label=label, id="rows", original_size=(12, 4))
    crops = [RandomCrop((5, 4))(scene, _rng(seed)) for seed in range(200)]
    assert {int(_label(crop)[0, 0]) for crop in crops} == set(range(8))
    padded = [_label(RandomCrop((14, 4))(scene, _rng(seed))) for seed in range(60)]
    assert {int(np.argmax(label[:, 0] == 0)) for label in padded} == {0, 1, 2}


def test_scale_covers_its_range() -> None:
    heights = [_scaled(_scene(100, 10), (0.5, 2.0), _rng(seed)).size[0] for seed in range(300)]
    assert min(heights) in range(50, 56)
    assert max(heights) in range(195, 201)
    assert 110 < np.mean(heights) < 140  # uniform: 125


def test_aspect_widens_and_one_to_one_draws_nothing() -> None:
    assert _scaled(_scene(10, 10), (1.0, 1.0), _rng(0), aspect=(2.0, 2.0)).image.shape == (10, 20, 3)
    widths = [_scaled(_scene(10, 100), (1.0, 1.0), _rng(seed), aspect=(0.5, 1.5)).image.shape for seed in range(300)]
    assert {height for height, _, _ in widths} == {10}
    assert min(width for _, width, _ in widths) in range(50, 56)
    assert max(width for _, width, _ in widths) in range(145, 151)
    one, other = _rng(3), _rng(3)
    RandomScaleCrop((1, 1), (0.5, 2.0))(_scene(10, 10), one)
    RandomCrop((1, 1))(_scene(round(10 * other.uniform(0.5, 2.0)), round(10 * _rng(3).uniform(0.5, 2.0))), other)
    assert one.random() == other.random()


# -- mirror ------------------------------------------------------------------------------------------------------------


def test_mirror_swaps_left_and_right_of_both() -> None:
    scene = _scene(9, 14)
    mirrored = RandomMirror(1.0)(scene, _rng(0))
    np.testing.assert_array_equal(mirrored.image, scene.image[:, ::-1])
    np.testing.assert_array_equal(_label(mirrored), _label(scene)[:, ::-1])
    assert RandomMirror(0.0)(scene, _rng(0)) is scene


def test_mirror_has_its_probability() -> None:
    scene = _scene(3, 4)
    rng = _rng(0)
    swapped = sum(RandomMirror(0.3)(scene, rng) is not scene for _ in range(1000))
    assert 250 < swapped < 350


# -- colour ------------------------------------------------------------------------------------------------------------


def _stepwise(image: np.ndarray, jitter: ColourJitter, rng: np.random.Generator) -> np.ndarray:
    """The documented definition, one property after the other, in floats."""
    draws = rng.uniform(-1.0, 1.0, 3)
    grey = np.array([0.299, 0.587, 0.114])
    pixels = image.astype(float)
    mean = float((pixels @ grey).mean())
    factor = 1 + jitter.brightness * draws[0]
    pixels, mean = pixels * factor, mean * factor
    pixels = mean + (1 + jitter.contrast * draws[1]) * (pixels - mean)
    own = (pixels @ grey)[..., None]
    pixels = own + (1 + jitter.saturation * draws[2]) * (pixels - own)
    return np.clip(np.rint(pixels), 0, 255)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), seeds)
def test_jitter_is_its_definition(brightness: float, contrast: float, saturation: float, seed: int) -> None:
    scene = _scene(12, 15, seed)
    jitter = ColourJitter(brightness, contrast, saturation)
    jittered = jitter(scene, _rng(seed))
    assert jittered.label is scene.label
    assert np.abs(jittered.image - _stepwise(scene.image, jitter, _rng(seed))).max() <= 1


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_each_strength_has_its_effect_and_none_without(name: str) -> None:
    scene = _scene(20, 20)
    np.testing.assert_array_equal(ColourJitter()(scene, _rng(3)).image, scene.image)
    assert (ColourJitter(**{name: 0.4})(scene, _rng(3)).image != scene.image).mean() > 0.3


def test_saturation_leaves_grey_alone() -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    scene = Sample(image=grey, label=None, id="grey", original_size=(16, 16))
    for seed in range(5):
        changed = ColourJitter(saturation=1.0)(scene, _rng(seed)).image
        assert np.abs(changed.astype(int) - grey).max() <= 1


# -- all ---------------------------------------------------------------------------------------------------------------

ALL: list[Transform] = [
    RandomCrop((10, 40)),
    RandomScaleCrop((24, 24)),
    RandomMirror(0.5),
    ColourJitter(0.3, 0.3, 0.3),
    Compose((RandomScaleCrop((16, 24)), RandomMirror(), ColourJitter(0.2, 0.2, 0.2))),
]


@pytest.mark.parametrize("transform", ALL, ids=lambda transform: type(transform).__name__)
def test_result_depends_on_sample_and_generator_alone(transform: Transform) -> None:
    scene = _scene(20, 30)
    image, label = scene.image.copy(), _label(scene).copy()
    first, second = transform(scene, _rng(7)), transform(scene, _rng(7))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(_label(first), _label(second))
    assert first.image.dtype == _label(first).dtype == np.uint8
    assert first.image.shape[:2] == _label(first).shape
    assert (first.id, first.original_size) == ("scene", (20, 30))
    np.testing.assert_array_equal(scene.image, image)  # the input is left as it was
    np.testing.assert_array_equal(_label(scene), label)


@pytest.mark.parametrize("transform", ALL, ids=lambda transform: type(transform).__name__)
def test_samples_without_label_get_the_same_image(transform: Transform) -> None:
    scene = _scene(20, 30)
    bare = transform(Sample(image=scene.image, label=None, id="bare", original_size=(20, 30)), _rng(5))
    assert bare.label is None
    np.testing.assert_array_equal(bare.image, transform(scene, _rng(5)).image)


@settings(max_examples=25)
@given(full=sizes, seed=seeds)
def test_labels_are_never_mixed(full: tuple[int, int], seed: int) -> None:
    scene = _scene(*full)
    result = _label(Compose((RandomScaleCrop((30, 30)), RandomMirror()))(scene, _rng(seed)))
    assert set(np.unique(result)) <= set(np.unique(_label(scene))) | {255}


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomScaleCrop((8, 8), (0.0, 1.0)),
        lambda: RandomScaleCrop((8, 8), (2.0, 0.5)),
        lambda: RandomScaleCrop((8, 8), (1.0, float("inf"))),
        lambda: RandomScaleCrop((0, 8)),
        lambda: RandomCrop((8, -1)),
        lambda: RandomMirror(1.5),
        lambda: RandomMirror(float("nan")),
        lambda: ColourJitter(brightness=-0.1),
        lambda: ColourJitter(contrast=1.1),
        lambda: ColourJitter(saturation=1.1),
    ],
)
def test_impossible_parameters_are_refused(make: Callable[[], Transform]) -> None:
    with pytest.raises(UserError, match="needed"):
        make()


def test_default_filling_is_the_imagenet_mean() -> None:
    crop = RandomCrop((4, 4))(_scene(1, 1), _rng(0))
    assert tuple(crop.image[_label(crop) == 255][0]) == IMAGENET_MEAN_COLOUR == (124, 116, 104)
