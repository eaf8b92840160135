"""The Gaussian field: against a direct solve, what no pull and a strong pull do, gradients through both rounds."""

import pytest
import torch

from ducseg.models.comparisons.gcrf import gaussian_field


def test_no_pull_is_the_scores_less_their_mean() -> None:
    scores = torch.randn(2, 5, 4, 6)
    field = gaussian_field(scores, torch.zeros(2, 1, 3, 6), torch.zeros(2, 1, 4, 5))
    once = scores - scores.sum(1, keepdim=True) / 4
    torch.testing.assert_close(field, once - once.sum(1, keepdim=True) / 4)
    assert torch.equal(field.argmax(1), scores.argmax(1))


@pytest.mark.parametrize("weight", [-1.5, 0.8, -40.0])
def test_against_a_direct_solve(weight: float) -> None:
    """A row of three places with weight w between: diagonal max(1, 2.2|w|/10), at the ends max(1, 1.1|w|/10)."""
    scores = torch.randn(1, 4, 1, 3, dtype=torch.float64)
    field = gaussian_field(scores, torch.zeros(1, 1, 0, 3).double(), torch.full((1, 1, 1, 2), weight).double())
    w = weight / 10
    end, middle = max(1, 1.1 * abs(w)), max(1, 2.2 * abs(w))
    matrix = torch.tensor([[end, w, 0], [w, middle, w], [0, w, end]], dtype=torch.float64)
    wanted = scores[0, :, 0]
    for _ in range(2):
        wanted = torch.linalg.solve(matrix, (wanted - wanted.sum(0) / 3).T).T
    torch.testing.assert_close(field[0, :, 0], wanted, rtol=1e-4, atol=1e-4)


def test_negative_weights_smooth() -> None:
    scores = torch.randn(1, 3, 12, 12)
    pulls = torch.full((1, 1, 11, 12), -2.4), torch.full((1, 1, 12, 11), -2.4)
    field = gaussian_field(scores, *pulls)
    rough = [(maps.diff(dim=-1).square().mean() / maps.var()).item() for maps in (scores, field)]
    assert rough[1] < 0.5 * rough[0]


def test_gradients_and_narrow_types() -> None:
    scores = torch.randn(1, 3, 3, 3, dtype=torch.bfloat16)
    vertical, horizontal = torch.randn(1, 1, 2, 3).bfloat16(), torch.randn(1, 1, 3, 2).bfloat16()
    parts = [part.requires_grad_() for part in (scores, vertical, horizontal)]
    field = gaussian_field(*parts)
    assert field.dtype == torch.float32
    field.square().sum().backward()
    assert all(part.grad is not None and part.grad.any() for part in parts)
