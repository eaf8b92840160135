"""What the dense CRF refuses, and that it says what it got and what it needs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ducseg.crf import CrfParams, DenseCRF, checks, dense_crf
from ducseg.crf.dense_crf import _array, _pixels
from ducseg.crf.params import load_params
from ducseg.errors import UserError

IMAGE = np.zeros((4, 6, 3), np.uint8)
EVEN = np.full((2, 4, 6), 0.5, np.float32)


def changed(value: float) -> Any:
    probabilities = EVEN.copy()
    probabilities[:, 2, 3] = value
    return probabilities


@pytest.mark.parametrize(
    ("probabilities", "image", "told"),
    [
        (changed(np.nan), IMAGE, "NaN"),
        (changed(np.inf), IMAGE, "inf"),
        (np.stack([changed(-0.5)[0], changed(1.5)[1]]), IMAGE, "from -0.5 to 1.5"),
        (changed(0.4), IMAGE, "sum to 1 only within 0.2"),
        (np.zeros_like(EVEN), IMAGE, "sum to 1 only within 1"),
        (EVEN[0], IMAGE, r"shape \(4, 6\)"),
        (EVEN[None], IMAGE, r"shape \(1, 2, 4, 6\).*DenseCRF"),
        (EVEN[:0], IMAGE, r"shape \(0, 4, 6\)"),
        (EVEN[:, :, :0], IMAGE[:, :0], r"shape \(2, 4, 0\)"),
        (EVEN.astype(np.int64), IMAGE, "type int64"),
        (EVEN, IMAGE.astype(np.float32), "type float32.*uint8"),
        (EVEN, IMAGE[..., 0], r"shape \(4, 6\).*height, width, 3"),
        (EVEN, IMAGE.transpose(2, 0, 1), r"shape \(3, 4, 6\)"),
        (EVEN, IMAGE.transpose(1, 0, 2), "6 x 4 and 4 x 6"),
        (EVEN, IMAGE[:-1], "3 x 6 and 4 x 6"),
    ],
)
def test_refuses(probabilities: Any, image: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        dense_crf(probabilities, image)
    with pytest.raises(UserError, match=told):
        dense_crf(torch.from_numpy(np.ascontiguousarray(probabilities)), torch.from_numpy(image.copy()))


@pytest.mark.parametrize(
    ("probabilities", "image", "told"),
    [
        (None, IMAGE, r"probabilities: found shape \(\)"),
        ("p.npy", IMAGE, r"probabilities: found shape \(\)"),
        (EVEN, "x.png", r"image: found shape \(\)"),
        (EVEN, IMAGE[..., 0], r"image: found shape \(4, 6\).*convert\('RGB'\)"),
        (EVEN, np.zeros((4, 6, 4), np.uint8), r"image: found shape \(4, 6, 4\)"),
        (EVEN, Image.new("I;16", (6, 4)), r"image: found a PIL image of mode I;16"),
    ],
)
def test_refuses_what_is_no_array(probabilities: Any, image: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        dense_crf(probabilities, image)


def test_the_same_picture_and_probabilities_in_other_clothes() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (7, 9, 3), np.uint8)
    probabilities = rng.dirichlet((1.0,) * 3, (7, 9)).transpose(2, 0, 1).astype(np.float32)
    expected = dense_crf(probabilities, image)
    backwards = image[::-1, ::-1].copy()[::-1, ::-1]
    assert min(backwards.strides) < 0
    for other in (Image.fromarray(image), torch.from_numpy(image), backwards):
        np.testing.assert_array_equal(dense_crf(probabilities, other), expected)
        np.testing.assert_array_equal(dense_crf(torch.from_numpy(probabilities), other).numpy(), expected)
    np.testing.assert_array_equal(dense_crf(probabilities.tolist(), image), expected)
    for reversed_ in (backwards, image[:1][::-1], image[:, :1][:, ::-1]):
        assert torch.from_numpy(_pixels(reversed_)).shape == reversed_.shape, "what a GPU's path makes a tensor of"
    for mode in ("L", "P", "RGBA", "YCbCr", "HSV"):
        other = Image.fromarray(image).convert(mode)
        np.testing.assert_array_equal(_array(other), np.asarray(other.convert("RGB")))


@pytest.mark.parametrize("iterations", [-1, 2.0, True])
def test_refuses_iterations(iterations: Any) -> None:
    with pytest.raises(UserError, match="iterations"):
        dense_crf(EVEN, IMAGE, iterations=iterations)


@pytest.mark.parametrize("matrix", [np.eye(3), np.full((2, 2), np.nan), np.array([["a", "b"]] * 2)])
def test_refuses_a_compatibility(matrix: Any) -> None:
    with pytest.raises(UserError, match=r"compatibility.*\(2, 2\)"):
        dense_crf(EVEN, IMAGE, compatibility=matrix)


def test_refuses_to_drop_a_gradient() -> None:
    with pytest.raises(UserError, match="DenseCRF"):
        dense_crf(torch.from_numpy(EVEN).requires_grad_(), IMAGE)


def test_refuses_widths_beyond_the_lattice() -> None:
    wide = np.zeros((1, 6000, 3), np.uint8)
    probabilities = np.full((2, 1, 6000), 0.5, np.float32)
    with pytest.raises(UserError, match=r"too fine.*0\.001"):
        dense_crf(probabilities, wide, CrfParams(sigma_alpha=0.001, sigma_beta=0.001))


def test_says_how_much_memory_it_needs_before_taking_it() -> None:
    huge = np.broadcast_to(np.float32(0.001), (1000, 8000, 8000))
    with pytest.raises(UserError, match=r"1000 classes at 8000 x 8000.*GiB free.*about 9\d\d\.\d\d GiB"):
        dense_crf(huge, np.broadcast_to(np.uint8(0), (8000, 8000, 3)))


def test_checks_memory_again_when_it_knows_the_lattice(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([2**40, 100])
    monkeypatch.setattr(checks, "available_memory", lambda: next(answers))
    with pytest.raises(UserError, match="memory for a CRF over 2 classes at 4 x 6"):
        dense_crf(EVEN, IMAGE)


def test_memory_is_known_here() -> None:
    assert checks.available_memory() > 2**20


def test_the_layer_refuses() -> None:
    layer = DenseCRF(2)
    unary, images = torch.zeros(1, 2, 4, 6), torch.zeros(1, 3, 4, 6, dtype=torch.uint8)
    for bad_unary, bad_images, told in [
        (torch.zeros(1, 3, 4, 6), images, r"\(1, 3, 4, 6\).*2, height"),
        (unary[0], images, r"\(2, 4, 6\)"),
        (unary, images.repeat(2, 1, 1, 1), r"\(2, 3, 4, 6\)"),
        (unary, images.float(), "uint8"),
        (unary, images[..., :-1], "4 x 5 and 4 x 6"),
    ]:
        with pytest.raises(UserError, match=told):
            layer(bad_unary, bad_images)


def test_widths_beyond_single_precision_are_refused_before_anything_is_built() -> None:
    image, probabilities = np.zeros((375, 500, 3), np.uint8), np.full((2, 375, 500), 0.5, np.float32)
    with pytest.raises(UserError, match="too fine"):
        dense_crf(probabilities, image, CrfParams(sigma_gamma=1e-5))


def test_settings_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(UserError, match="no text"):
        load_params(tmp_path / "b.jpg")


@pytest.mark.parametrize("params", [{"w1": 2.0}, None, (15, 3, 3, 1, 3)])
def test_settings_are_parameters(params: Any) -> None:
    for call in (lambda: dense_crf(EVEN, IMAGE, params), lambda: DenseCRF(2, params)):
        with pytest.raises(UserError, match=r"CRF parameters: found .*; needed a CrfParams. CrfParams\("):
            call()


def test_the_layer_takes_tensors() -> None:
    unary, images = torch.zeros(1, 2, 4, 6), torch.zeros(1, 3, 4, 6, dtype=torch.uint8)
    with pytest.raises(UserError, match=r"unary energies .*found ndarray of shape \(1, 2, 4, 6\); needed a tensor"):
        DenseCRF(2)(unary.numpy(), images)
    with pytest.raises(UserError, match=r"images for .*found ndarray of shape \(1, 3, 4, 6\); needed a tensor"):
        DenseCRF(2)(unary, images.numpy())


def test_costs_in_bfloat16_are_taken() -> None:
    costs = torch.tensor([[0, 2.5], [0.5, 0]])
    expected = dense_crf(EVEN, IMAGE, compatibility=costs)
    assert np.array_equal(dense_crf(EVEN, IMAGE, compatibility=costs.bfloat16()), expected)
    assert torch.equal(DenseCRF(2, compatibility=costs.bfloat16()).compatibility, costs)
