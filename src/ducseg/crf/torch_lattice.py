"""The permutohedral lattice in torch operations: for CUDA, for gradients, and as a plain statement of what numba does.

Same lattice, same roundings and same answers as `ducseg.crf.lattice`; here the vertices are the sorted distinct
keys, and every step is one `embedding_bag` (a weighted sum of gathered rows): splatting gathers pixels per vertex,
blurring a vertex and its two neighbours, slicing the corners of a pixel's simplex. No atomics, so the same input
gives the same bits.

Legend: B images of P pixels each (raster order), N = B*P, d features, M vertices and one more row that stays zero,
where missing neighbours point. Example: one 512 x 1024 image has N = 524288 and, for place and colour, M of about
450000.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from ducseg.crf.simplex import KeyLayout, elevation

__all__ = ["TorchLattice", "build", "filter_pixels", "mean_field"]


@dataclass(frozen=True)
class TorchLattice:
    """Where each pixel goes, from where each vertex gathers, and which vertices are neighbours.

    offsets, weights (N, d+1): a pixel's vertices and its share of each. starts (M+1,), sources, source_weights
    (N*(d+1),): the same the other way round, as bags of pixels. around (d+1, M+1, 3): each vertex and its neighbours
    along each axis. The weights hold the symmetric normalisation 1 / sqrt(K 1) and the gain of slicing.
    """

    offsets: Tensor
    weights: Tensor
    starts: Tensor
    sources: Tensor
    source_weights: Tensor
    around: Tensor


def build(images: Tensor, sigmas: Sequence[float]) -> TorchLattice:
    """The lattices of (B, H, W, 3) uint8 images, as one: features x, y (and r, g, b), each divided by its sigma."""
    batch, height, width, _ = images.shape
    pixels, d = height * width, len(sigmas)
    layout = KeyLayout((width - 1, height - 1, 255, 255, 255)[:d], sigmas)
    assert batch * layout.span < 2**63, "split the batch: the keys of its images do not fit 63 bits"
    keys, weights = _embed(_features(images, d), sigmas, layout)
    keys = keys + layout.span * torch.arange(batch, device=images.device).repeat_interleave(pixels)[:, None]
    if pixels % 4:  # see build_lattice: the original fills up its last four pixels with zeros
        zero = torch.from_numpy(layout.simplex_of_zero()).to(images.device)
        keys = torch.cat([keys, zero + layout.span * torch.arange(batch, device=images.device)[:, None]])
    vertices, numbers = torch.unique(keys, return_inverse=True)
    offsets = numbers[: batch * pixels]

    flat, order = torch.sort(offsets.reshape(-1), stable=True)
    starts = torch.searchsorted(flat, torch.arange(len(vertices) + 1, device=images.device))
    lattice = TorchLattice(
        offsets, weights, starts, order // (d + 1), weights.reshape(-1)[order], _neighbours(vertices, layout)
    )
    return _normalised(lattice, order)


def _features(images: Tensor, d: int) -> Tensor:
    batch, height, width, _ = images.shape
    y, x = torch.meshgrid(
        torch.arange(height, device=images.device), torch.arange(width, device=images.device), indexing="ij"
    )
    places = torch.stack([x, y], -1).expand(batch, height, width, 2)
    return torch.cat([places, images], -1)[..., :d].reshape(-1, d).float()


def _embed(features: Tensor, sigmas: Sequence[float], layout: KeyLayout) -> tuple[Tensor, Tensor]:
    """(N, d+1) keys of the corners and barycentric weights; the same as `ducseg.crf.simplex.embed`."""
    device, d = features.device, features.shape[1]
    # sigmas as a tensor: dividing by a number, CUDA multiplies by its reciprocal and rounds differently
    parts = features / torch.tensor(sigmas, device=device) * torch.from_numpy(elevation(d)).to(device)
    running, columns = torch.zeros_like(parts[:, 0]), []
    for j in range(d, 0, -1):
        scaled = parts[:, j - 1] * j
        columns.append(running - scaled)
        running = running + parts[:, j - 1]
    point = torch.stack([running, *reversed(columns)], 1)

    down = torch.tensor(1.0, device=device) / (d + 1)
    nearest = torch.round(point * down)
    point = point - nearest * (d + 1)
    corner = nearest.long()
    rank = corner.sum(1, keepdim=True).expand(-1, d + 1).clone()
    for i in range(d):
        for j in range(i + 1, d + 1):
            less = point[:, i] < point[:, j]
            rank[:, i] += less
            rank[:, j] += ~less
    shift = (rank < 0).long() - (rank > d).long()
    rank, corner, point = rank + shift * (d + 1), corner + shift, point - shift * (d + 1.0)
    order = torch.empty_like(rank).scatter_(1, rank, torch.arange(d + 1, device=device).expand_as(rank)).flip(1)

    falls = torch.from_numpy(layout.step).to(device)[order].cumsum(1)
    first = layout.origin + (corner * torch.from_numpy(layout.unit).to(device)).sum(1, keepdim=True)
    keys = torch.cat([first, first - falls[:, :-1]], 1)
    heights = point.gather(1, order) * down
    weights = torch.cat([heights[:, :1] + (1 - heights[:, -1:]), heights[:, 1:] - heights[:, :-1]], 1)
    return keys, weights


def _neighbours(vertices: Tensor, layout: KeyLayout) -> Tensor:
    count = len(vertices)
    around = torch.full((len(layout.step), count + 1, 3), count, dtype=torch.long, device=vertices.device)
    here = torch.arange(count, device=vertices.device)
    for axis, step in enumerate(layout.step.tolist()):
        around[axis, :count, 0] = here
        place = torch.searchsorted(vertices, vertices + step).clamp_(max=count - 1)
        found = vertices[place] == vertices + step
        around[axis, here[found], 1] = place[found]
        around[axis, place[found], 2] = here[found]
    return around


def _normalised(lattice: TorchLattice, order: Tensor) -> TorchLattice:
    corners = lattice.offsets.shape[1]
    gain = 1.0 / (1.0 + 2.0 ** -(corners - 1))
    mass = _filtered(lattice, torch.ones_like(lattice.weights[:, :1]), backwards=False)
    weights = lattice.weights * (gain**0.5 / torch.sqrt(mass * gain + 1e-20))
    return TorchLattice(
        lattice.offsets, weights, lattice.starts, lattice.sources, weights.reshape(-1)[order], lattice.around
    )


def _filtered(lattice: TorchLattice, values: Tensor, *, backwards: bool) -> Tensor:
    """Splat, blur, slice (N, L) values; backwards along the axes gives the transposed filter."""
    kind = values.dtype
    source_weights, weights = lattice.source_weights.to(kind), lattice.weights.to(kind)
    # the last bag is empty and makes the row of zeros
    rows = embedding_bag(lattice.sources, values, lattice.starts, mode="sum", per_sample_weights=source_weights)
    blend = torch.tensor([1.0, 0.5, 0.5], dtype=kind, device=values.device).repeat(len(rows), 1)
    for around in reversed(lattice.around) if backwards else lattice.around:
        rows = embedding_bag(around, rows, mode="sum", per_sample_weights=blend)
    return embedding_bag(lattice.offsets, rows, mode="sum", per_sample_weights=weights)


class _Filter(torch.autograd.Function):
    """A linear map needs nothing saved for its gradient, which is the same map with the axes the other way round."""

    @staticmethod
    def forward(values: Tensor, lattice: TorchLattice, backwards: bool) -> Tensor:
        return _filtered(lattice, values.contiguous(), backwards=backwards)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, TorchLattice, bool], output: Tensor) -> None:
        _, ctx.lattice, ctx.backwards = inputs

    @staticmethod
    def vmap(
        _info: Any, in_dims: tuple[int, ...], values: Tensor, lattice: TorchLattice, backwards: bool
    ) -> tuple[Tensor, int]:
        columns = values.movedim(in_dims[0], 1)  # (N, many, L), each column on its own
        return filter_pixels(lattice, columns.flatten(1), backwards=backwards).reshape(columns.shape), 1

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        return filter_pixels(ctx.lattice, tangents[0], backwards=ctx.backwards)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return filter_pixels(ctx.lattice, grads[0], backwards=not ctx.backwards), None, None


def filter_pixels(lattice: TorchLattice, values: Tensor, *, backwards: bool = False) -> Tensor:
    """K values, (N, L) to (N, L), with the normalised Gaussian kernel of the lattice; differentiable in the values."""
    result: Tensor = _Filter.apply(values, lattice, backwards)  # type: ignore[no-untyped-call]
    return result


def mean_field(
    unary: Tensor,
    lattices: tuple[TorchLattice, TorchLattice],
    weights: tuple[Tensor | float, Tensor | float],
    compatibility: Tensor | None,
    iterations: int,
) -> Tensor:
    """Marginals (N, L) of (N, L) unary energies, differentiable in all but the lattices; without a matrix, Potts."""
    q = torch.softmax(-unary, 1)
    for _ in range(iterations):
        message = sum(w * filter_pixels(lattice, q) for lattice, w in zip(lattices, weights))
        assert isinstance(message, Tensor)
        q = torch.softmax(message - unary if compatibility is None else -unary - message @ compatibility.T, 1)
    return q
