"""The dense CRF gives pydensecrf's answers, whatever the shape, type and layout of what it gets."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ducseg.crf import CrfParams, dense_crf

Floats = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]
TOLERANCE = 2e-3
PAPER = CrfParams()


def random_probabilities(classes: int, height: int, width: int, seed: int = 0) -> Floats:
    values = np.random.default_rng(seed).random((classes, height, width)).astype(np.float32) ** 4 + 1e-3
    return values / values.sum(0)


def picture(kind: str, height: int, width: int) -> Image:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:height, :width]
    pictures = {
        "noise": rng.integers(0, 256, (height, width, 3)),
        "dark": rng.integers(0, 9, (height, width, 3)),
        "black": np.zeros((height, width, 3)),
        "constant": np.full((height, width, 3), 201),
        "grey": np.repeat(rng.integers(0, 256, (height, width, 1)), 3, 2),
        "smooth": np.stack([x * 3 % 256, y * 2 % 256, (x + y) % 256], 2),
    }
    return pictures[kind].astype(np.uint8)


def pydensecrf(
    probabilities: Floats, image: Image, params: CrfParams, iterations: int, matrix: Floats | None = None
) -> Floats:
    densecrf = pytest.importorskip("pydensecrf.densecrf", reason="pydensecrf2 is not installed")
    classes, height, width = probabilities.shape
    crf = densecrf.DenseCRF2D(width, height, classes)
    crf.setUnaryEnergy(np.ascontiguousarray(-np.log(np.clip(probabilities, 1e-5, 1)).reshape(classes, -1)))
    first, second = (params.w1, params.w2) if matrix is None else (params.w1 * matrix, params.w2 * matrix)
    crf.addPairwiseGaussian(sxy=params.sigma_gamma, compat=second)
    crf.addPairwiseBilateral(
        sxy=params.sigma_alpha, srgb=params.sigma_beta, rgbim=np.ascontiguousarray(image), compat=first
    )
    return np.array(crf.inference(iterations), np.float32).reshape(classes, height, width)


def assert_same(ours: Floats, theirs: Floats) -> None:
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < TOLERANCE
    assert (ours.argmax(0) == theirs.argmax(0)).mean() >= 0.9995


@pytest.mark.shared
@pytest.mark.parametrize("name", ["paper", "wide"])
def test_gives_the_answers_of_pydensecrf_on_photographs(shared: Path, name: str) -> None:
    answers = np.load(shared / "fixtures" / "crf" / f"{name}.npz")
    *values, iterations = answers["params"].tolist()
    ours = dense_crf(answers["prob"], answers["image"], CrfParams(*values), int(iterations))
    assert_same(ours, answers["expected_q"].astype(np.float32))
    assert (ours.argmax(0) == answers["expected_argmax"]).mean() >= 0.9995


@pytest.mark.parametrize("iterations", range(6))
def test_equals_pydensecrf_after_each_iteration(iterations: int) -> None:
    probabilities, image = random_probabilities(3, 31, 37), picture("smooth", 31, 37)
    assert_same(dense_crf(probabilities, image, PAPER, iterations), pydensecrf(probabilities, image, PAPER, iterations))


@pytest.mark.parametrize("size", [(24, 28), (17, 19), (1, 101), (101, 1), (1, 1), (2, 3)])
@pytest.mark.parametrize("kind", ["noise", "dark", "black", "constant", "grey"])
def test_equals_pydensecrf_on_odd_pictures(kind: str, size: tuple[int, int]) -> None:
    probabilities, image = random_probabilities(2, *size), picture(kind, *size)
    assert_same(dense_crf(probabilities, image, PAPER, 4), pydensecrf(probabilities, image, PAPER, 4))


@pytest.mark.parametrize("classes", [1, 2, pytest.param(150, marks=pytest.mark.slow)])
def test_equals_pydensecrf_for_any_number_of_classes(classes: int) -> None:
    probabilities, image = random_probabilities(classes, 20, 23), picture("smooth", 20, 23)
    assert_same(dense_crf(probabilities, image, PAPER, 3), pydensecrf(probabilities, image, PAPER, 3))


@given(
    height=st.integers(1, 24),
    width=st.integers(1, 90),
    seed=st.integers(0, 99),
    sigmas=st.tuples(*[st.floats(0.6, 90)] * 3),
    weights=st.tuples(*[st.floats(0, 5)] * 2),
)
@settings(max_examples=25)
def test_equals_pydensecrf_for_any_parameters(
    height: int, width: int, seed: int, sigmas: tuple[float, float, float], weights: tuple[float, float]
) -> None:
    params = CrfParams(sigmas[0], sigmas[1], weights[0], sigmas[2], weights[1])
    probabilities = random_probabilities(3, height, width, seed)
    image = picture(["noise", "smooth", "grey", "dark"][seed % 4], height, width)
    assert_same(dense_crf(probabilities, image, params, 2), pydensecrf(probabilities, image, params, 2))


def test_equals_pydensecrf_with_a_compatibility_matrix() -> None:
    matrix = np.random.default_rng(3).random((3, 3)).astype(np.float32)
    matrix += matrix.T
    probabilities, image = random_probabilities(3, 22, 26), picture("smooth", 22, 26)
    ours = dense_crf(probabilities, image, PAPER, 4, compatibility=matrix)
    assert_same(ours, pydensecrf(probabilities, image, PAPER, 4, matrix))
    assert np.abs(ours - dense_crf(probabilities, image, PAPER, 4)).max() > 0.1


def test_potts_is_its_matrix_and_a_matrix_need_not_be_symmetric() -> None:
    probabilities, image = random_probabilities(3, 22, 26), picture("smooth", 22, 26)
    potts = dense_crf(probabilities, image, PAPER, 4)
    assert np.abs(dense_crf(probabilities, image, PAPER, 4, compatibility=1 - np.eye(3)) - potts).max() < 1e-4
    # label 0 pays beside label 1, but not the other way round: it loses ground
    one_way = 1 - np.eye(3)
    one_way[0, 1], one_way[1, 0] = 2, 0
    assert dense_crf(probabilities, image, PAPER, 4, compatibility=one_way)[0].sum() < potts[0].sum()


def test_marginals_are_probabilities_and_the_input_is_left_alone() -> None:
    probabilities, image = random_probabilities(3, 40, 70), picture("noise", 40, 70)
    before = probabilities.copy()
    marginals = dense_crf(probabilities, image)
    assert marginals.dtype == np.float32
    assert marginals.min() >= 0
    assert np.abs(marginals.sum(0) - 1).max() < 1e-5
    assert (probabilities == before).all()


def test_no_iterations_and_no_weights_give_the_input() -> None:
    probabilities, image = random_probabilities(3, 9, 11), picture("noise", 9, 11)
    assert np.abs(dense_crf(probabilities, image, iterations=0) - probabilities).max() < 1e-6
    assert np.abs(dense_crf(probabilities, image, CrfParams(w1=0, w2=0)) - probabilities).max() < 1e-6


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_any_layout_and_floating_type(kind: str) -> None:
    probabilities, image = random_probabilities(3, 18, 21).astype(kind), picture("smooth", 18, 21)
    expected = dense_crf(np.ascontiguousarray(probabilities, np.float32), image)
    turned = np.asfortranarray(probabilities)[:, ::-1][:, ::-1]
    wide = np.repeat(image, 2, 1)[:, ::2]
    turned.flags.writeable = wide.flags.writeable = False
    assert not turned.flags.c_contiguous
    assert not wide.flags.c_contiguous
    assert (dense_crf(turned, wide) == expected).all()
    assert (dense_crf(probabilities.astype(">" + probabilities.dtype.str[1:]), image) == expected).all()


def test_torch_in_torch_out() -> None:
    probabilities, image = random_probabilities(3, 18, 21), picture("smooth", 18, 21)
    expected = dense_crf(probabilities, image)
    tensor = torch.from_numpy(probabilities).movedim(0, 2).contiguous().movedim(2, 0)
    assert not tensor.is_contiguous()
    for pixels in (image, torch.from_numpy(image)):
        marginals = dense_crf(tensor, pixels)
        assert isinstance(marginals, torch.Tensor)
        assert (marginals.numpy() == expected).all()
    assert dense_crf(tensor.to(torch.bfloat16), image).dtype == torch.float32


def test_the_number_of_threads_does_not_change_a_bit() -> None:
    probabilities, image = random_probabilities(3, 60, 200), picture("grey", 60, 200)
    most = numba.get_num_threads()
    if most == 1:
        pytest.skip("one core")
    expected = dense_crf(probabilities, image)
    numba.set_num_threads(1)
    try:
        assert (dense_crf(probabilities, image) == expected).all()
    finally:
        numba.set_num_threads(most)


def test_works_from_several_threads_at_once() -> None:
    cases = [(random_probabilities(3, 30, 40, seed), picture("smooth", 30, 40)) for seed in range(4)]
    expected = [dense_crf(*case) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        for ours, alone in zip(pool.map(lambda case: dense_crf(*case), cases * 2), expected * 2):
            assert (ours == alone).all()


def with_exact_sums(probabilities: Floats, image: Image, params: CrfParams, matrix: Floats) -> Floats:
    """Ten iterations of mean field over all pairs of pixels: what the lattice approximates."""
    classes, height, width = probabilities.shape
    places = np.indices((height, width)).reshape(2, -1).T.astype(np.float64)
    colours = image.reshape(-1, 3).astype(np.float64)

    def kernel(*features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        squares = sum(((one[:, None] - one[None]) ** 2).sum(2) for one in features)
        values = np.exp(-squares / 2)
        scale = values.sum(1) ** -0.5
        return scale[:, None] * values * scale

    pairs = params.w1 * kernel(places / params.sigma_alpha, colours / params.sigma_beta)
    pairs += params.w2 * kernel(places / params.sigma_gamma)
    unary = np.log(np.clip(probabilities, 1e-5, 1)).reshape(classes, -1).astype(np.float64)
    marginals = np.exp(unary)
    for _ in range(10):
        scores = unary - matrix @ (marginals @ pairs)
        marginals = np.exp(scores - scores.max(0))
        marginals /= marginals.sum(0)
    return marginals.reshape(classes, height, width).astype(np.float32)


@pytest.mark.parametrize("params", [PAPER, CrfParams(sigma_alpha=8, sigma_beta=20, w1=2, sigma_gamma=2, w2=1)])
@pytest.mark.parametrize("potts", [True, False])
def test_the_lattice_is_near_the_sums_over_all_pairs(params: CrfParams, potts: bool) -> None:
    rng = np.random.default_rng(3)
    truth = (np.indices((24, 32)).sum(0) // 9 + (np.indices((24, 32))[0] > 11)) % 3
    image = (60 * truth[..., None] + rng.normal(40, 6, (24, 32, 3))).astype(np.uint8)
    scores = 1.5 * np.eye(3)[truth].transpose(2, 0, 1) + rng.normal(0, 1, (3, 24, 32))
    probabilities = (np.exp(scores) / np.exp(scores).sum(0)).astype(np.float32)
    matrix = 1 - np.eye(3, dtype=np.float32)
    if not potts:
        matrix[0, 1], matrix[2, 0] = 0.3, 1.5
    found = dense_crf(probabilities, image, params, compatibility=None if potts else matrix)
    exact = with_exact_sums(probabilities, image, params, matrix)
    assert (found.argmax(0) == exact.argmax(0)).mean() >= 0.97
    assert np.abs(found - exact).mean() <= 0.02
