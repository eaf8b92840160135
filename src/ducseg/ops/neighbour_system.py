"""Linear systems on a grid whose places meet their four neighbours, solved by conjugate gradients, no matrix made.

    (A x)_p = diagonal_p x_p + sum over the neighbours q of p of weight_pq x_q

Legend: N pictures, K right sides a picture (classes), h w places. A is symmetric: one weight for each pair of places,
`vertical` (N, 1, h-1, w) between a place and the one below, `horizontal` (N, 1, h, w-1) between it and the next. Worked
example, h = w = 2: unknowns a b / c d, A = [[d_a, h_ab, v_ac, 0], [h_ab, d_b, 0, v_bd], [v_ac, 0, d_c, h_cd],
[0, v_bd, h_cd, d_d]].

Gradients are implicit: those of the right side are the solution of the same system, g = A^-1 (dL/dx), and of an entry
A_pq they are -g_p x_q, so nothing of the steps is kept (Chandra and Kokkinos, ECCV 2016, section 3).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ducseg.ops.graphs import in_a_graph, in_a_transform

__all__ = ["diagonal_for", "neighbour_product", "solve_neighbours"]


def neighbour_product(diagonal: Tensor, vertical: Tensor, horizontal: Tensor, x: Tensor) -> Tensor:
    """A x for x (N, K, h, w)."""
    return _product(_stencil(diagonal, vertical, horizontal), x)


def _stencil(diagonal: Tensor, vertical: Tensor, horizontal: Tensor) -> tuple[Tensor, ...]:
    """Of each place the weight of itself, and those of the places below, above, after and before it: (N, 1, h, w)."""
    beside = F.pad(vertical, (0, 0, 0, 1)), F.pad(vertical, (0, 0, 1, 0)), F.pad(horizontal, (0, 1))
    return diagonal, *beside, F.pad(horizontal, (1, 0))


def _product(stencil: tuple[Tensor, ...], x: Tensor) -> Tensor:
    itself, below, above, after, before = stencil
    around = F.pad(x, (1, 1, 1, 1))
    of_rows = below * around[..., 2:, 1:-1] + above * around[..., :-2, 1:-1]
    return itself * x + of_rows + after * around[..., 1:-1, 2:] + before * around[..., 1:-1, :-2]


def diagonal_for(vertical: Tensor, horizontal: Tensor, *, margin: float) -> Tensor:
    """The diagonal (N, 1, h, w) that keeps A positive definite: 1, or 1 + `margin` times the sum of |weights|, if more.

    Divided by its diagonal, A's eigenvalues then lie between margin / (1 + margin) and 2 (Gershgorin), however large
    the weights are: that is what sets the number of steps.
    """
    _, below, above, after, before = _stencil(vertical, vertical.abs(), horizontal.abs())
    return ((1 + margin) * (below + above + after + before)).clamp_min(1)


def solve_neighbours(
    diagonal: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    right: Tensor,
    *,
    tolerance: float = 1e-5,
    max_steps: int = 20,
) -> Tensor:
    """x (N, K, h, w) with A x = `right`, each of the N * K systems on its own; `right` by the diagonal is the start.

    The diagonal is the preconditioner too.

    Args:
        diagonal: (N, 1, h, w); `diagonal_for` makes one that keeps A positive definite, which this needs.
        vertical, horizontal: (N, 1, h-1, w) and (N, 1, h, w-1); h and w may be 1.
        right: (N, K, h, w), float32 or float64 as the others.
        tolerance: of |A x - right| / |right|, each norm's squares divided by the diagonal, where every system stops.
        max_steps: no more than these; in a graph (compiled, exported) and torch.func all are taken, unrolled.
    """
    if in_a_graph() or in_a_transform():
        return _conjugate_gradients(diagonal, vertical, horizontal, right, tolerance, max_steps)
    parts = diagonal, vertical, horizontal, right
    solved: Tensor = _Solution.apply(*parts, tolerance, max_steps)  # type: ignore[no-untyped-call]
    return solved


class _Solution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, diagonal: Tensor, vertical: Tensor, horizontal: Tensor, right: Tensor, tolerance: float, steps: int
    ) -> Tensor:  # fmt: skip
        x = _conjugate_gradients(diagonal, vertical, horizontal, right, tolerance, steps)
        ctx.save_for_backward(diagonal, vertical, horizontal, x)
        ctx.limits = tolerance, steps
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        diagonal, vertical, horizontal, x = ctx.saved_tensors
        g = _conjugate_gradients(diagonal, vertical, horizontal, grad, *ctx.limits)
        of_vertical = g[..., 1:, :] * x[..., :-1, :] + g[..., :-1, :] * x[..., 1:, :]
        of_horizontal = g[..., :, 1:] * x[..., :, :-1] + g[..., :, :-1] * x[..., :, 1:]
        return -(g * x).sum(1, True), -of_vertical.sum(1, True), -of_horizontal.sum(1, True), g, None, None


def _conjugate_gradients(
    diagonal: Tensor, vertical: Tensor, horizontal: Tensor, right: Tensor, tolerance: float, steps: int
) -> Tensor:
    tiny = torch.finfo(right.dtype).tiny  # a system that is solved divides 0 by it

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum((-2, -1), keepdim=True)

    stencil, x = _stencil(diagonal, vertical, horizontal), right / diagonal
    residual = right - _product(stencil, x)
    direction = residual / diagonal
    left, goal = dot(residual, direction), tolerance**2 * dot(right, x)
    for _ in range(steps):
        if not (in_a_graph() or in_a_transform()) and bool((left <= goal).all()):
            break
        moved = _product(stencil, direction)
        rate = left / dot(direction, moved).clamp_min(tiny)
        x, residual = x + rate * direction, residual - rate * moved
        scaled = residual / diagonal
        before, left = left, dot(residual, scaled)
        direction = scaled + left / before.clamp_min(tiny) * direction
    return x
