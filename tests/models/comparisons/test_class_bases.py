"""Bases of classes from masks: principal components against an SVD of the windows, and what has no masks."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ducseg.models.comparisons import class_bases as module
from ducseg.models.comparisons.class_bases import class_bases, cosine_bases


def disks(count: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Masks of class 1 on class 0, 96 x 80, with a stripe of 255 that is no class."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:96, :80]
    masks = []
    for _ in range(count):
        middle, radius = random.uniform(10, 80, 2), random.uniform(8, 30)
        mask = (((rows - middle[0]) ** 2 + (columns - middle[1]) ** 2) < radius**2).astype(np.uint8)
        mask[:3] = 255
        masks.append(mask)
    return masks


def released(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The release's own order: the SVD of whole windows (n, 1024), sqrt(S) V, then to 8 x 8, for n = 10,000."""
    centred = windows - windows.mean(0)
    _, singular, vectors = np.linalg.svd(centred * np.sqrt(10_000 / len(windows)), full_matrices=False)
    bases = np.sqrt(singular[:10])[:, None] * vectors[:10]
    return bases.reshape(10, 8, 4, 8, 4).mean((2, 4))


def test_as_the_svd_of_whole_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    cut: list[NDArray[np.float64]] = []
    original = module._windows

    def keeping(mask, num_classes, random):  # type: ignore[no-untyped-def]
        state = random.bit_generator.state
        rows, columns = (random.integers(0, side - 31, 100) for side in mask.shape)
        windows = np.stack([mask[r : r + 32, c : c + 32] == 1 for r, c in zip(rows, columns)]).reshape(100, -1)
        cut.append(windows[windows.mean(1) >= 0.02].astype(float))
        random.bit_generator.state = state
        return original(mask, num_classes, random)

    monkeypatch.setattr(module, "_windows", keeping)
    found = class_bases(disks(4), 2)[1].double().numpy()
    wanted = released(np.concatenate(cut))
    for mine, theirs in zip(found[:3], wanted[:3]):  # further ones are nearly as large as each other, and mix
        norms = np.linalg.norm(mine), np.linalg.norm(theirs)
        assert norms[0] == pytest.approx(norms[1], rel=0.03)
        assert abs((mine * theirs).sum()) / (norms[0] * norms[1]) > 0.98


def test_bases_are_orthogonal_ordered_and_determined() -> None:
    found = class_bases(disks(4), 2)
    assert found.shape == (2, 10, 8, 8) and found.dtype == torch.float32
    products = found[1].flatten(1) @ found[1].flatten(1).T
    off = products - torch.diag(products.diag())
    assert off.abs().max() < 1e-4 * products.diag().max()
    assert (products.diag().diff() <= 0).all() and products[0, 0] > 3 * products[9, 9]
    assert torch.equal(found, class_bases(iter(disks(4)), 2))
    assert (found.flatten(2).max(2).values >= -found.flatten(2).min(2).values - 1e-6).all()


def test_the_number_of_windows_does_not_scale_them() -> None:
    masks = disks(4)
    few, many = (class_bases(masks * times, 2)[1, 0].norm().item() for times in (1, 4))
    assert few == pytest.approx(many, rel=0.03)


def test_a_class_without_windows_and_masks_without_classes() -> None:
    found = class_bases(disks(3), 3)
    both = class_bases([np.where(mask < 2, 0, mask).astype(np.uint8) for mask in disks(3)], 1)
    assert found[2].isfinite().all() and found[2, 0].abs().max() > 0 and not torch.equal(found[2], found[1])
    assert both.isfinite().all()
    for nothing in ([], [np.full((64, 64), 255, np.uint8)], [np.zeros((31, 200), np.uint8)]):
        assert torch.equal(class_bases(nothing, 2), cosine_bases(2))


def test_no_more_is_read_than_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WINDOWS", 150)
    masks = iter([np.repeat([[0, 1]], 40, 0).repeat(20, 1).astype(np.uint8)] * 50)
    class_bases(masks, 2)
    assert len(list(masks)) >= 45
