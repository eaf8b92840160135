"""The dense CRF on a GPU: numba's answers, the CPU's gradients, the same bits twice, and memory that is not there."""

import numpy as np
import pytest
import torch
from crf_case import case

from ducseg.crf import DenseCRF, dense_crf
from ducseg.errors import UserError
from on_gpu import GPU, on_a_gpu

pytestmark = on_a_gpu


@pytest.mark.parametrize("size", [(120, 161), (17, 19), (1, 30), (13, 1)])
@pytest.mark.parametrize("iterations", [0, 1, 10])
def test_marginals_are_numbas(size: tuple[int, int], iterations: int) -> None:
    probabilities, images = case(7, *size)
    image, matrix = images[0].movedim(0, 2), (1 - np.eye(7)) * np.linspace(0.5, 1, 7)
    for compatibility in (None, matrix):
        wanted = dense_crf(probabilities[0].numpy(), image.numpy(), iterations=iterations, compatibility=compatibility)
        for picture in (image, image.to(GPU), image.numpy()):
            found = dense_crf(probabilities[0].to(GPU), picture, iterations=iterations, compatibility=compatibility)
            assert found.device == GPU and np.abs(found.cpu().numpy() - wanted).max() < 1e-3


def test_the_same_input_gives_the_same_bits() -> None:
    probabilities, images = case(5, 60, 80)
    found = [dense_crf(probabilities[0].to(GPU), images[0].movedim(0, 2)) for _ in range(3)]
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_the_layers_gradients_are_the_cpus(where: str) -> None:
    probabilities, images = case(3, 9, 14, images=2)
    results = []
    for device, pictures in ((torch.device("cpu"), images), (GPU, images.to(where))):
        layer = DenseCRF(3, iterations=3).double().to(device)
        unary = (-probabilities.log().double()).to(device).requires_grad_()
        marginals = layer(unary, pictures)
        (marginals[:, 0] * torch.linspace(-1, 1, 14, dtype=torch.float64, device=device)).sum().backward()
        assert marginals.device == device and unary.grad is not None
        results.append([marginals, unary.grad, *(parameter.grad for parameter in layer.parameters())])
    for theirs, mine in zip(*results, strict=True):
        assert theirs is not None and mine is not None
        torch.testing.assert_close(mine.cpu(), theirs, rtol=1e-5, atol=1e-7)


def test_memory_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities, images = case(5, 60, 80)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (10_000, 10**10))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _device: 0)
    with pytest.raises(UserError, match="memory"):
        dense_crf(probabilities[0].to(GPU), images[0].movedim(0, 2))
