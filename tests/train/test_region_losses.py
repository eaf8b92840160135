"""Losses of regions against formulas written plainly, pixel by pixel; their gradients against finite differences."""

import dataclasses
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ducseg.errors import UserError
from ducseg.ops.duc import fold_labels, unfold
from ducseg.train.loss import FoldedLoss, auto_class_weights
from ducseg.train.region_losses import from_all_sums, lovasz_loss, overlap_sums, soft_skeleton, tversky_loss
from ducseg.train.sections import LossConfig

NAMES = ["ground", "wire", "crack"]


def make_case(*, seed: int = 0, height: int = 8, width: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Folded float64 scores (2, 3, 4, H/2, W/2) and folded targets with lines, void, and one class only once."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.zeros(2, height, width, dtype=torch.uint8)
    labels[0, 3, 1:10] = 1
    labels[1, 1:7, 5] = 1
    labels[1, 4, 8:11] = 2
    labels[:, -2:, :3] = 255
    shape = (2, 3, 4, height // 2, width // 2)
    return 2 * torch.randn(shape, generator=generator, dtype=torch.float64), fold_labels(labels, 2)


def plain(scores: torch.Tensor, targets: torch.Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
    """Probabilities (L, P) and labels (P,) of the valid pixels."""
    valid = (targets != 255).numpy().ravel()
    probabilities = scores.softmax(1).transpose(0, 1).flatten(1).numpy()
    return probabilities[:, valid], targets.numpy().ravel()[valid]


def value(config: LossConfig, scores: torch.Tensor, targets: torch.Tensor) -> float:
    total, normaliser = FoldedLoss(config, NAMES)(scores, targets, region_scale=float((targets != 255).sum()))
    return float(total / normaliser)


def only(**weights: Any) -> LossConfig:
    return LossConfig(cross_entropy=0.0, **weights)


@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.7), (0.5, 0.5), (1.0, 0.1)])
def test_tversky_is_its_formula_over_the_classes_that_are_there(alpha: float, beta: float) -> None:
    scores, targets = make_case()
    targets[targets == 2] = 0  # the third class is not there
    probabilities, labels = plain(scores, targets)
    losses = []
    for index in (0, 1):
        truth = labels == index
        hit = probabilities[index][truth].sum()
        false, missed = probabilities[index][~truth].sum(), (1 - probabilities[index][truth]).sum()
        losses.append(1 - hit / (hit + alpha * false + beta * missed))
    found = value(only(tversky=1.0, tversky_alpha=alpha, tversky_beta=beta), scores, targets)
    assert found == pytest.approx(np.mean(losses))
    if alpha == beta == 0.5:
        assert value(only(dice=1.0), scores, targets) == pytest.approx(found)


def test_dice_is_twice_the_overlap_over_both_sizes() -> None:
    scores, targets = make_case()
    probabilities, labels = plain(scores, targets)
    dice = [2 * p[labels == i].sum() / (p.sum() + (labels == i).sum()) for i, p in enumerate(probabilities)]
    assert value(only(dice=1.0), scores, targets) == pytest.approx(1 - np.mean(dice))


@pytest.mark.parametrize("gamma", [1.0, 2.0, 3.5])
def test_focal_is_its_formula(gamma: float) -> None:
    scores, targets = make_case()
    probabilities, labels = plain(scores, targets)
    true = probabilities[labels, np.arange(len(labels))]
    assert value(only(focal=1.0, focal_gamma=gamma), scores, targets) == pytest.approx(
        np.mean((1 - true) ** gamma * -np.log(true))
    )
    weights = np.array([0.5, 2.0, 3.0])
    weighted = value(only(focal=1.0, focal_gamma=gamma, class_weights=tuple(weights)), scores, targets)
    # region_scale is not used by it, and the divisor is the sum of weights
    expected = np.average((1 - true) ** gamma * -np.log(true), weights=weights[labels])
    assert weighted == pytest.approx(expected)


def test_lovasz_is_the_extension_of_the_jaccard_loss() -> None:
    scores, targets = make_case()
    probabilities, labels = plain(scores, targets)
    losses = []
    for index in range(3):
        truth = labels == index
        errors = np.abs(truth - probabilities[index])
        order = np.argsort(-errors)
        jaccard = [0.0]  # of the set of the k worst errors, taken as mispredicted
        for k in range(1, len(order) + 1):
            wrong = np.zeros(len(order), bool)
            wrong[order[:k]] = True
            jaccard.append(1 - (truth & ~wrong).sum() / (truth | wrong).sum())
        losses.append(float(np.dot(errors[order], np.diff(jaccard))))
    assert value(only(lovasz=1.0), scores, targets) == pytest.approx(np.mean(losses))


def naive_skeleton(map_: NDArray[Any], iterations: int) -> NDArray[Any]:
    def around(image: NDArray[Any], places: list[tuple[int, int]], pick: Any) -> NDArray[Any]:
        out = np.empty_like(image)
        for y, x in np.ndindex(image.shape):
            near = [(y + dy, x + dx) for dy, dx in places]
            out[y, x] = pick(image[a, b] for a, b in near if 0 <= a < image.shape[0] and 0 <= b < image.shape[1])
        return out

    cross = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
    square = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    opened = lambda image: around(around(image, cross, min), square, max)  # noqa: E731
    skeleton = np.maximum(map_ - opened(map_), 0)
    for _ in range(iterations):
        map_ = around(map_, cross, min)
        left = np.maximum(map_ - opened(map_), 0)
        skeleton = skeleton + np.maximum(left - skeleton * left, 0)
    return skeleton


def test_the_soft_skeleton_is_algorithm_1() -> None:
    maps = torch.rand(1, 2, 9, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = soft_skeleton(maps, 3)[0].numpy()
    for index in range(2):
        np.testing.assert_allclose(found[index], naive_skeleton(maps[0, index].numpy(), 3))
    bar = torch.zeros(1, 1, 9, 15)
    bar[..., 3:6, 2:13] = 1
    line = soft_skeleton(bar, 3)[0, 0]
    assert line[4, 3:12].tolist() == [1.0] * 9 and line[[3, 5], 4:11].sum() == 0


@pytest.mark.parametrize("classes", [(), ("crack",)])
def test_cldice_is_its_formula_on_the_unfolded_map(classes: tuple[str, ...]) -> None:
    scores, targets = make_case()
    maps, labels = unfold(scores).softmax(1).numpy(), unfold(targets[:, None])[:, 0].numpy()
    losses = []
    for name in classes or ("wire", "crack"):
        index = NAMES.index(name)
        sums = np.zeros(4)
        for picture, label in zip(maps, labels):
            found, truth = picture[index] * (label != 255), (label == index).astype(float)
            mine, theirs = naive_skeleton(found, 2), naive_skeleton(truth, 2)
            sums += [(mine * truth).sum(), mine.sum(), (theirs * found).sum(), theirs.sum()]
        precision, sensitivity = (sums[0] + 1) / (sums[1] + 1), (sums[2] + 1) / (sums[3] + 1)
        losses.append(1 - 2 * precision * sensitivity / (precision + sensitivity))
    found = value(only(cldice=1.0, cldice_iterations=2, cldice_classes=classes), scores, targets)
    assert found == pytest.approx(np.mean(losses))


TERMS = {
    "cross_entropy": {},
    "dice": {},
    "focal": {},
    "lovasz": {},
    "tversky": {},
    "cldice": {"cldice_iterations": 2},
}


@pytest.mark.parametrize("term", TERMS)
def test_gradients_are_those_of_finite_differences(term: str) -> None:
    scores, targets = make_case(height=6, width=8)
    loss = FoldedLoss(LossConfig(**{"cross_entropy": 0.0, term: 1.0, **TERMS[term]}), NAMES)
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda given: loss(given, targets, region_scale=3.0)[0], [scores], atol=1e-6)


@pytest.mark.parametrize("term", TERMS)
def test_void_pixels_and_their_scores_do_not_matter(term: str) -> None:
    scores, targets = make_case()
    config = LossConfig(**{"cross_entropy": 0.0, term: 1.0, **TERMS[term]})
    void = (targets == 255)[:, None].expand_as(scores)
    other = torch.where(void, 9 * torch.randn_like(scores), scores).requires_grad_()
    assert value(config, other.detach(), targets) == pytest.approx(value(config, scores, targets))
    FoldedLoss(config, NAMES)(other, targets)[0].backward()
    assert other.grad is not None and other.grad[void].abs().sum() == 0 and other.grad[~void].abs().sum() > 0
    nothing = torch.full_like(targets, 255)
    total, normaliser = FoldedLoss(config, NAMES)(other.detach(), nothing)
    assert (float(total), float(normaliser)) == (0.0, 0.0)


def test_terms_add_up_by_their_weights() -> None:
    scores, targets = make_case()
    parts = {"cross_entropy": 0.5, "dice": 1.0, "focal": 2.0, "lovasz": 0.25, "tversky": 3.0, "cldice": 0.125}
    alone = [
        weight * value(LossConfig(**{"cross_entropy": 0.0, name: 1.0}), scores, targets)
        for name, weight in parts.items()
    ]
    assert value(LossConfig(**parts), scores, targets) == pytest.approx(sum(alone))


@pytest.mark.parametrize("term", ["dice", "tversky"])
def test_ranks_parts_are_the_loss_and_the_gradient_of_all_pixels(term: str) -> None:
    scores, targets = make_case()
    config, whole = only(**{term: 1.0}), scores.clone().requires_grad_()
    FoldedLoss(config, NAMES)(whole, targets)[0].backward()
    local = [overlap_sums(part.softmax(1), target) for part, target in zip(scores.split(1), targets.split(1))]
    parts = scores.clone().requires_grad_()
    total = 0.0
    for rank in range(2):
        loss = FoldedLoss(config, NAMES, reduce=lambda mine, rank=rank: mine + local[1 - rank], world_size=2)
        value_, _ = loss(parts[rank : rank + 1], targets[rank : rank + 1])
        value_.backward()
        total += float(value_.detach())
    assert total == pytest.approx(float(FoldedLoss(config, NAMES)(scores, targets)[0]))
    torch.testing.assert_close(parts.grad, whole.grad)


def test_millions_of_pixels_are_summed_rightly() -> None:
    scores = torch.full((1, 2, 1, 1100, 2000), 0.0)
    scores[:, 0] = 3.5  # 0.97 of 2.2 million pixels, which added one by one would come to more than there is
    targets = torch.zeros(1, 1, 1100, 2000, dtype=torch.uint8)
    targets[..., :7] = 1
    probabilities = scores.softmax(1)
    truth = torch.stack([targets == 0, targets == 1], 1)
    exact = [(probabilities.double() * truth), probabilities.double(), truth.double()]
    right = torch.stack([values.sum((0, 2, 3, 4)) for values in exact])
    torch.testing.assert_close(overlap_sums(probabilities, targets).double(), right, rtol=1e-6, atol=0)


def test_sums_over_ranks_keep_a_value_where_the_loss_is_not_linear() -> None:
    sums = torch.tensor([[1.0, 2.0], [3.0, 4.0], [2.0, 3.0]], requires_grad=True)
    loss = from_all_sums(sums, lambda all_: tversky_loss(all_, alpha=0.5, beta=0.5), lambda mine: mine, 1)
    assert float(loss.detach()) == pytest.approx(1 - (2 / 5 + 4 / 7) / 2)


def test_lovasz_of_a_perfect_answer_is_0_and_of_a_wrong_one_1() -> None:
    truth = torch.tensor([[0, 1, 1, 255]], dtype=torch.uint8)
    right = torch.tensor([[[1.0, 0, 0, 1], [0, 1, 1, 0]]])
    assert lovasz_loss(right, truth) == 0
    assert lovasz_loss(1 - right, truth) == 1


def test_auto_weights_are_their_formula_with_mean_1_over_pixels() -> None:
    pixels = [900, 90, 10, 0]
    weights = np.array(auto_class_weights(pixels))
    raw = np.array([1 / math.log(1.1 + count / 1000) for count in pixels])
    np.testing.assert_allclose(weights / weights[0], raw / raw[0])
    assert np.average(weights, weights=pixels) == pytest.approx(1)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"cross_entropy": 0.0}, "--loss.cross-entropy 0"),
        ({"ohem_threshold": 0.5, "dice": 1.0}, "--loss.ohem-threshold is for cross-entropy alone"),
        ({"focal_gamma": 3.0}, "--loss.focal-gamma needs --loss.focal"),
        ({"tversky_beta": 0.5}, "--loss.tversky-beta needs --loss.tversky"),
        ({"cldice_classes": ("a",)}, "--loss.cldice-classes needs --loss.cldice"),
        ({"ohem_min_fraction": 0.5}, "--loss.ohem-min-fraction needs --loss.ohem-threshold"),
        ({"cross_entropy": 0.0, "dice": 1.0, "class_weights": (1.0,)}, "--loss.class-weights is for"),
    ],
)
def test_no_option_of_a_loss_is_ignored(values: dict[str, Any], said: str) -> None:
    assert any(said in line for line in LossConfig(**values).conflicts())
    assert dataclasses.replace(LossConfig(), dice=1.0).conflicts() == []


def test_a_thin_class_that_is_none_is_said() -> None:
    with pytest.raises(UserError, match=r"--loss.cldice-classes: found rope; needed some of ground, wire, crack"):
        FoldedLoss(only(cldice=1.0, cldice_classes=("rope",)), NAMES)


@pytest.mark.parametrize("term", TERMS)
def test_gradients_of_gradients_and_of_functions(term: str) -> None:
    scores, targets = (values[..., :2, :3] for values in make_case())
    loss = FoldedLoss(LossConfig(**{"cross_entropy": 0.0, term: 1.0}), NAMES)
    assert torch.autograd.gradgradcheck(lambda x: loss(x, targets)[0], scores.requires_grad_(), fast_mode=True)
    (wanted,) = torch.autograd.grad(loss(scores, targets)[0], scores)
    torch.testing.assert_close(torch.func.grad(lambda x: loss(x, targets)[0])(scores.detach()), wanted)


@pytest.mark.parametrize("term", TERMS)
def test_losses_without_gradients_and_from_another_process(term: str) -> None:
    scores, targets = make_case()
    loss = FoldedLoss(LossConfig(**{"cross_entropy": 0.0, term: 1.0}), NAMES)
    wanted = loss(scores, targets)
    with torch.inference_mode():
        torch.testing.assert_close(loss(scores, targets), wanted)
    torch.testing.assert_close(pickle.loads(pickle.dumps(loss))(scores, targets), wanted)


@pytest.mark.parametrize("term", TERMS)
def test_targets_of_every_type(term: str) -> None:
    scores, targets = make_case()
    loss = FoldedLoss(LossConfig(**{"cross_entropy": 0.0, term: 1.0}), NAMES)
    targets = targets.masked_fill(targets > 1, 0)
    wanted = loss(scores, targets)
    for kind in (torch.bool, torch.int32, torch.int64):
        torch.testing.assert_close(loss(scores, targets.to(kind)), wanted)
