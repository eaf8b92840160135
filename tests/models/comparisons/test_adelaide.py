"""Adelaide's mathematics on plain tensors: neighbours and messages by loops, mean field against its definition."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ducseg.models.comparisons.adelaide import (
    mean_field,
    neighbours,
    pair_labels,
    pooled_pyramid,
    range_box,
    shifted_back,
    shifts,
)

AROUND, ABOVE = range_box(3)


def test_range_boxes() -> None:
    assert len(AROUND) == 8 and set(AROUND) == set(itertools.product((-1, 0, 1), repeat=2)) - {(0, 0)}
    assert set(ABOVE) == set(itertools.product((-3, -2, -1), (-1, 0, 1)))
    assert [len(offsets) for offsets in range_box(7)] == [48, 49]


@pytest.mark.parametrize("offsets", [AROUND, ABOVE])
@pytest.mark.parametrize("size", [(4, 5), (1, 2)])
def test_neighbours_and_their_adjoint(offsets: list[tuple[int, int]], size: tuple[int, int]) -> None:
    maps = torch.randn(2, 3, *size, dtype=torch.float64)
    found = neighbours(maps, shifts(offsets))
    for (index, (row, column)), i, j in itertools.product(enumerate(offsets), range(size[0]), range(size[1])):
        inside = 0 <= i + row < size[0] and 0 <= j + column < size[1]
        wanted = maps[..., i + row, j + column] if inside else torch.zeros(2, 3).double()
        assert torch.equal(found[:, :, index, i, j], wanted)
    messages = torch.randn(2, 3, len(offsets), *size, dtype=torch.float64)
    sent = (found * messages).sum()
    torch.testing.assert_close((maps * shifted_back(messages, shifts(offsets))).sum(), sent)


def energy_scores(unary: Tensor, pairwise: list[tuple[Tensor, list[tuple[int, int]]]], marginals: Tensor) -> Tensor:
    """One step by the definition: what of the expected score depends on each node's class, pair by pair."""
    scores = unary.clone()
    classes, height, width = unary.shape
    for pairs, offsets in pairwise:
        for (o, (row, column)), i, j in itertools.product(enumerate(offsets), range(height), range(width)):
            y, x = i + row, j + column
            if 0 <= y < height and 0 <= x < width:
                for k, l in itertools.product(range(classes), repeat=2):  # noqa: E741
                    scores[k, i, j] += pairs[k, l, o, i, j] * marginals[l, y, x]
                    scores[l, y, x] += pairs[k, l, o, i, j] * marginals[k, i, j]
    return scores


def test_mean_field_is_its_definition() -> None:
    torch.manual_seed(1)
    unary = torch.randn(1, 2, 3, 2, dtype=torch.float64)
    pairwise = [(torch.randn(1, 2, 2, len(o), 3, 2, dtype=torch.float64), o) for o in (AROUND, ABOVE)]
    looking = [(scores, shifts(offsets)) for scores, offsets in pairwise]
    plain = [(scores[0], offsets) for scores, offsets in pairwise]
    wanted = unary[0]
    for _ in range(3):
        wanted = energy_scores(unary[0], plain, wanted.softmax(0))
    torch.testing.assert_close(mean_field(unary, looking)[0], wanted)
    assert torch.equal(mean_field(unary, looking, steps=0), unary)


def test_autocast_does_not_take_its_precision() -> None:
    unary, looks = torch.randn(1, 2, 4, 5), shifts(AROUND)
    pairwise = [(torch.randn(1, 2, 2, len(AROUND), 4, 5), looks)]
    with torch.autocast("cpu", torch.bfloat16):
        found = mean_field(unary, pairwise)
    assert torch.equal(found, mean_field(unary, pairwise))


def test_pairs_that_do_not_care_change_nothing() -> None:
    unary = torch.randn(2, 3, 4, 4)
    even = torch.full((2, 3, 3, len(AROUND), 4, 4), 0.7)
    torch.testing.assert_close(mean_field(unary, [(even, shifts(AROUND))]).softmax(1), unary.softmax(1))
    alike = torch.eye(3).view(1, 3, 3, 1, 1, 1).expand(2, 3, 3, len(AROUND), 4, 4)
    assert mean_field(unary, [(alike, shifts(AROUND))]).argmax(1).unique().numel() <= unary.argmax(1).unique().numel()


def test_pair_labels() -> None:
    labels = torch.tensor([[[0, 2], [255, 1]]], dtype=torch.uint8)
    found = pair_labels(labels, shifts([(0, 1), (-1, 0)]), 3)
    assert found.tolist() == [[[[2, -1], [-1, -1]], [[-1, -1], [-1, 5]]]]


def test_pooled_pyramid() -> None:
    maps = torch.rand(1, 2, 11, 12)
    found = pooled_pyramid(maps)
    assert found.shape == (1, 6, 11, 12) and torch.equal(found[:, :2], maps)
    assert found[0, 2, 5, 6] == maps[0, 0, 3:8, 4:9].max() and found[0, 5, 0, 0] == maps[0, 1, :5, :5].max()
    assert F.max_pool2d(maps, 5, 1, 2).equal(found[:, 2:4])
