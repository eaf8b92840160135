"""Conjugate gradients on a grid against the matrix itself: product, solution, implicit gradients, the edge cases."""

import pytest
import torch
from torch import Tensor

from ducseg.ops.neighbour_system import diagonal_for, neighbour_product, solve_neighbours


def system(n: int, k: int, h: int, w: int, scale: float = 0.2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(h * w)
    vertical = scale * torch.randn(n, 1, h - 1, w, dtype=torch.float64)
    horizontal = scale * torch.randn(n, 1, h, w - 1, dtype=torch.float64)
    right = torch.randn(n, k, h, w, dtype=torch.float64)
    return diagonal_for(vertical, horizontal, margin=0.1), vertical, horizontal, right


def dense(diagonal: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """The matrix of the first picture, (h*w, h*w), from the definition."""
    h, w = diagonal.shape[-2:]
    matrix = torch.diag(diagonal[0, 0].flatten())
    for row in range(h):
        for column in range(w):
            here = row * w + column
            if row + 1 < h:
                matrix[here, here + w] = matrix[here + w, here] = vertical[0, 0, row, column]
            if column + 1 < w:
                matrix[here, here + 1] = matrix[here + 1, here] = horizontal[0, 0, row, column]
    return matrix


SIZES = [(1, 1), (1, 5), (4, 1), (2, 2), (7, 6)]


@pytest.mark.parametrize(("h", "w"), SIZES)
def test_product_and_solution_are_the_matrix(h: int, w: int) -> None:
    diagonal, vertical, horizontal, right = system(1, 3, h, w)
    matrix, flat = dense(diagonal, vertical, horizontal), right.reshape(3, -1).T
    product = neighbour_product(diagonal, vertical, horizontal, right)
    torch.testing.assert_close(product.reshape(3, -1).T, matrix @ flat)
    found = solve_neighbours(diagonal, vertical, horizontal, right, tolerance=1e-13, max_steps=200)
    torch.testing.assert_close(found.reshape(3, -1).T, torch.linalg.solve(matrix, flat), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("scale", [0.1, 1.0, 50.0])
def test_the_diagonal_keeps_every_system_positive_definite_and_easy(scale: float) -> None:
    diagonal, vertical, horizontal, _ = system(1, 1, 6, 7, scale)
    root = diagonal[0, 0].flatten().rsqrt()
    values = torch.linalg.eigvalsh(root[:, None] * dense(diagonal, vertical, horizontal) * root)
    assert values.min() >= 0.1 / 1.1 - 1e-9 and values.max() < 2
    small = diagonal_for(0.01 * vertical.sign(), 0.01 * horizontal.sign(), margin=0.1)
    assert torch.equal(small, torch.ones_like(small))  # as released where the weights are small


@pytest.mark.parametrize(("h", "w"), [(1, 3), (3, 4)])
def test_implicit_gradients(h: int, w: int) -> None:
    inputs = [one.requires_grad_() for one in system(2, 2, h, w)]
    assert torch.autograd.gradcheck(lambda *of: solve_neighbours(*of, tolerance=1e-14, max_steps=100), inputs)


def test_each_system_stops_for_itself() -> None:
    diagonal, vertical, horizontal, right = system(2, 3, 5, 5)
    right[0, 1] = 0  # solved from the start, beside others
    right[1] *= 1e6
    found = solve_neighbours(diagonal, vertical, horizontal, right, max_steps=100)
    error = neighbour_product(diagonal, vertical, horizontal, found) - right
    norms = [(of.square() / diagonal).sum((-2, -1)).sqrt() for of in (error, right)]
    assert (norms[0] <= 1e-5 * norms[1]).all() and not found[0, 1].any()


@pytest.mark.parametrize(("scale", "wanted"), [(0.1, 1.2e-5), (3.0, 3e-3), (1000.0, 3e-3)])
def test_what_twenty_steps_reach_in_float32(scale: float, wanted: float) -> None:
    """The tolerance where weights are as at the start of training, under a hundredth however large they are."""
    diagonal, vertical, horizontal, right = (one.float() for one in system(1, 4, 32, 48, scale))
    found = solve_neighbours(diagonal, vertical, horizontal, right)
    error = neighbour_product(diagonal, vertical, horizontal, found) - right
    assert error.norm() <= wanted * right.norm()


def test_in_a_graph_the_steps_are_unrolled_and_the_answer_the_same() -> None:
    parts = system(1, 2, 5, 6)
    traced = torch.jit.trace(lambda *of: solve_neighbours(*of), parts, check_trace=False)
    others = system(1, 2, 3, 9)
    torch.testing.assert_close(traced(*others), solve_neighbours(*others), rtol=1e-4, atol=1e-4)


def test_autocast_does_not_take_its_precision() -> None:
    vertical, horizontal, right = torch.randn(2, 1, 4, 6), torch.randn(2, 1, 5, 5), torch.randn(2, 3, 5, 6)
    parts = diagonal_for(vertical, horizontal, margin=0.1), vertical, horizontal, right.requires_grad_()
    wanted = solve_neighbours(*parts)
    with torch.autocast("cpu", torch.bfloat16):
        found = solve_neighbours(*parts)
        (slope,) = torch.autograd.grad(found.square().sum(), right)
    assert torch.equal(found, wanted)
    assert torch.equal(slope, torch.autograd.grad(wanted.square().sum(), right)[0])


def test_transforms_of_functions() -> None:
    parts = system(2, 1, 4, 5)
    wanted = torch.autograd.grad(solve_neighbours(*parts[:3], right := parts[3].requires_grad_()).sum(), right)
    found = torch.func.grad(lambda right: solve_neighbours(*parts[:3], right).sum())(right.detach())
    torch.testing.assert_close((found,), wanted, rtol=1e-4, atol=1e-4)
    each = torch.func.vmap(lambda *one: solve_neighbours(*(part[None] for part in one))[0])(*parts)
    torch.testing.assert_close(each, solve_neighbours(*parts), rtol=1e-4, atol=1e-4)
