"""What the masks of a class look like in a small window: per-class bases by principal components, from training masks.

Ghiasi and Fowlkes (ECCV 2016) reconstruct each class's map from ten basis functions. Windows of 32 x 32 pixels are cut
at random from the masks; those with at least 2 % of a class give that class's indicator, 0 or 1. Their mean is taken
away; base i is sqrt(S_i) V_i of the singular values and vectors of 10,000 windows, 8 x 8.

Here windows are brought to 8 x 8 (by averages) before the components are taken, not after, so that a class needs 64 x
64 sums, not its windows; S is scaled to 10,000 windows whatever their number. Worked example, L = 19: masks to
(19, 10, 8, 8).
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["BASES", "SIZE", "class_bases", "cosine_bases"]

BASES = 10
"""Bases of a class."""

SIZE = 8
"""Their side in places."""

_WINDOW, _LEAST_SHARE, _WINDOWS, _PER_MASK = 32, 0.02, 10_000, 100
_SHRINK = _WINDOW // SIZE


def class_bases(masks: Iterable[NDArray[np.uint8]], num_classes: int, *, seed: int = 0) -> Tensor:
    """Bases float32 (L, 10, 8, 8), the first the one with most variance; each one's largest value is positive.

    Args:
        masks: uint8 (H, W), classes 0..L-1, others of no class; read until every class has 10,000 windows, or all.
            Those under 32 pixels high or wide are passed over.
        num_classes: L.
        seed: of the windows' places.

    A class with fewer than two windows gets the bases of all classes together, and without any `cosine_bases`.
    """
    random = np.random.default_rng(seed)
    counts, sums = np.zeros(num_classes), np.zeros((num_classes, SIZE**2))
    squares = np.zeros((num_classes, SIZE**2, SIZE**2))
    for mask in masks:
        for label, windows in _windows(mask, num_classes, random):
            counts[label] += len(windows)
            sums[label] += windows.sum(0)
            squares[label] += windows.T @ windows
        if (counts >= _WINDOWS).all():
            break
    if counts.sum() < 2:
        return cosine_bases(num_classes)
    shared = _components(counts.sum(), sums.sum(0), squares.sum(0))
    found = [_components(n, s, q) if n >= 2 else shared for n, s, q in zip(counts, sums, squares)]
    return torch.from_numpy(np.stack(found)).float()


def _windows(
    mask: NDArray[np.uint8], num_classes: int, random: np.random.Generator
) -> Iterable[tuple[int, NDArray[np.float64]]]:
    """Each class's windows (n, 64) in up to 100 places of a mask."""
    height, width = mask.shape
    if min(height, width) < _WINDOW:
        return
    rows, columns = (random.integers(0, side - _WINDOW + 1, _PER_MASK) for side in (height, width))
    cut = np.stack([mask[row : row + _WINDOW, column : column + _WINDOW] for row, column in zip(rows, columns)])
    cells = cut.reshape(-1, SIZE, _SHRINK, SIZE, _SHRINK)
    for label in np.unique(cut[cut < num_classes]).tolist():
        windows = (cells == label).mean((2, 4)).reshape(-1, SIZE**2)
        yield label, windows[windows.mean(1) >= _LEAST_SHARE]


def _components(count: float, total: NDArray[np.float64], squares: NDArray[np.float64]) -> NDArray[np.float64]:
    mean = total / count
    values, vectors = np.linalg.eigh(squares / count - np.outer(mean, mean))
    values, vectors = values[::-1][:BASES].clip(min=0), vectors[:, ::-1].T[:BASES]
    # of 1024 pixels: 16 times the variance, and a quarter of each entry of a vector of length 1
    singular = np.sqrt(_WINDOWS * _SHRINK**2 * values)
    signs = np.sign(np.take_along_axis(vectors, np.abs(vectors).argmax(1)[:, None], 1))
    bases: NDArray[np.float64] = np.ascontiguousarray(np.sqrt(singular)[:, None] * vectors * signs / _SHRINK)
    return bases.reshape(BASES, SIZE, SIZE)


def cosine_bases(num_classes: int) -> Tensor:
    """(L, 10, 8, 8): the ten lowest products of cosines, falling with frequency; what a network has before any mask."""
    steps = (torch.arange(SIZE) + 0.5) * torch.pi / SIZE
    lowest = sorted(((i, j) for i in range(SIZE) for j in range(SIZE)), key=lambda ij: (sum(ij), ij))[:BASES]
    waves = [torch.outer((i * steps).cos(), (j * steps).cos()) / (1 + i + j) for i, j in lowest]
    return torch.stack(waves).repeat(num_classes, 1, 1, 1)
