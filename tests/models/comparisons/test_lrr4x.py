"""LRR-4x's mathematics: reconstruction and masks by loops, levels, the losses' values, bases from masks."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ducseg.models import Segmenter, build
from ducseg.models.comparisons.class_bases import cosine_bases
from ducseg.models.comparisons.lrr4x import _Doubling, _Reconstruction, boundary_mask, dilated_and_eroded


@pytest.fixture()
def network() -> Segmenter:
    torch.manual_seed(0)
    return build("vgg16", "lrr4x", 3, width=2)


def test_reconstruction_is_the_sum_of_bases_at_four_places_apart() -> None:
    layer = _Reconstruction(5, 2, bias=True)
    torch.nn.init.normal_(layer.coefficients.weight)
    layer.bases.normal_()
    features = torch.randn(1, 5, 3, 2)
    coefficients = layer.coefficients(features)[0].unflatten(0, (2, 10))
    wanted = torch.zeros(2, 3 * 4 + 4, 2 * 4 + 4)
    for label in range(2):
        for basis in range(10):
            for i in range(3):
                for j in range(2):
                    shape = coefficients[label, basis, i, j] * layer.bases[10 * label + basis, 0]
                    wanted[label, 4 * i : 4 * i + 8, 4 * j : 4 * j + 8] += shape
    biased = wanted[:, 2:-2, 2:-2] + torch.tensor([1.0, -1.0])[:, None, None]  # the background's bias is 1
    torch.testing.assert_close(layer(features)[0], biased, rtol=1e-4, atol=1e-4)


def test_doubling_is_bilinear_inside() -> None:
    scores = torch.randn(1, 2, 6, 5)
    wanted = F.interpolate(scores, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(_Doubling(2)(scores)[..., 1:-1, 1:-1], wanted[..., 1:-1, 1:-1])


def test_boundary_mask() -> None:
    scores = torch.zeros(1, 2, 9, 20)
    scores[:, 1, :, 10:] = 100
    mask = boundary_mask(scores)[0]
    near = [abs(column - 9.5) < 4 for column in range(20)]  # 9 x 9 places reach four to each side
    assert torch.equal(mask[0], mask[1]) and torch.equal(mask[0][4] > 0.4, torch.tensor(near))
    assert boundary_mask(torch.randn(1, 3, 1, 1).expand(1, 3, 6, 6)).max() < 1e-6
    random = torch.randn(2, 3, 12, 12)
    assert boundary_mask(random).min() >= 0 and boundary_mask(random).max() <= 1


def test_dilated_and_eroded_by_the_definition() -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, 3, (1, 4, 4)).repeat_interleave(4, 1).repeat_interleave(4, 2).to(torch.uint8)
    labels[0, :2, :2] = 255
    dilated, eroded = dilated_and_eroded(labels, 3, 2)
    for label in range(3):
        for i in range(16):
            for j in range(16):
                near = [
                    labels[0, y, x].item() == label
                    for y in range(max(0, i - 2), min(16, i + 3))
                    for x in range(max(0, j - 2), min(16, j + 3))
                    if (y - i) ** 2 + (x - j) ** 2 <= 4
                ]
                assert (dilated[0, label, i, j].item(), eroded[0, label, i, j].item()) == (any(near), all(near))


def test_levels_add_detail_only_near_boundaries(network: Segmenter) -> None:
    head = network.head
    for level in head.levels.values():
        torch.nn.init.normal_(level.coefficients.weight, std=0.1)
    features = head._features(torch.randn(1, 3, 64, 96), network.encoder)
    coarse, *finer = head.pyramid(features)
    assert [tuple(scores.shape[2:]) for scores in (coarse, *finer)] == [(8, 12), (16, 24), (32, 48), (64, 96)]
    doubled = head.doublings["32"](coarse)
    torch.testing.assert_close(finer[0], doubled + boundary_mask(doubled) * head.levels["16"](features[1]))
    with torch.no_grad():  # certain of one class everywhere: no boundary, so no detail
        head.levels["32"].coefficients.weight.zero_()
        head.levels["32"].bases.fill_(1)
        head.levels["32"].coefficients.bias.copy_(torch.tensor([90.0, 0, 0]).repeat_interleave(10))
    coarse, fine, *_ = head.pyramid(features)
    inside = fine[..., 4:-4, 4:-4]  # a border is half as large: nothing lies outside
    torch.testing.assert_close(inside, head.doublings["32"](coarse)[..., 4:-4, 4:-4])


def test_losses_at_the_start(network: Segmenter) -> None:
    """Scores of 0: log 3 at each of three levels; the logistic ones from their biases 1, -1, -1."""
    labels = torch.full((2, 64, 96), 1, dtype=torch.uint8)
    labels[1] = 255
    scores, *extras = network.train().supervised(torch.randn(2, 3, 64, 96))
    assert not scores.any() and len(extras) == 5
    of_label, of_others = F.softplus(torch.tensor(1.0)), F.softplus(torch.tensor([1.0, -1.0]))
    wanted = 3 * math.log(3) + 2 * (of_label + of_others.sum())
    assert network.head.extra_loss(extras, labels).item() == pytest.approx(wanted.item(), rel=1e-5)
    nothing = network.head.extra_loss(extras, torch.full_like(labels, 255))
    assert nothing == 0


def test_bases_come_from_masks_and_stay_with_the_weights(network: Segmenter) -> None:
    head = network.head
    assert not head.fitted and torch.equal(head.dilation.bases[:10, 0], cosine_bases(1)[0])
    head.fit_to_masks([np.tile(np.repeat([[0, 1, 2]], 20, 1), (64, 1)).astype(np.uint8)])
    assert head.fitted and torch.equal(head.levels["4"].bases, head.erosion.bases)
    assert not torch.equal(head.levels["4"].bases[:10], head.levels["4"].bases[10:20])
    again = build("vgg16", "lrr4x", 3, width=2)
    again.load_state_dict(network.state_dict())
    assert again.head.fitted and torch.equal(again.head.levels["32"].bases, head.erosion.bases)
    assert "head.levels.32.bases" not in dict(network.named_parameters())
