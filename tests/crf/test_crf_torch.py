"""The torch path: numba's answers, true gradients, batches, and the layer that is trained.

CUDA runs these same operations: test_crf_on_cuda.py.
"""

import numpy as np
import pytest
import torch
from crf_case import case
from torch import Tensor

from ducseg.crf import CrfParams, DenseCRF, dense_crf, torch_lattice
from ducseg.crf.dense_crf import _on_device
from ducseg.errors import UserError

PAPER = CrfParams()


@pytest.mark.parametrize("size", [(24, 30), (17, 19), (1, 30), (13, 1)])
@pytest.mark.parametrize("iterations", [0, 1, 4])
def test_torch_and_numba_agree(size: tuple[int, int], iterations: int) -> None:
    probabilities, images = case(3, *size)
    matrix = np.array([[0, 1, 2], [1, 0, 0.5], [2, 0.5, 0]], np.float32)
    for compatibility in (None, matrix):
        ours = dense_crf(probabilities[0], images[0].movedim(0, 2), PAPER, iterations, compatibility=compatibility)
        plain = _on_device(probabilities[0], images[0].movedim(0, 2), PAPER, iterations, compatibility)
        assert (ours - plain).abs().max() < 1e-4


@pytest.mark.parametrize("size", [(5, 8), (3, 7)])
def test_a_batch_is_its_images(size: tuple[int, int]) -> None:
    probabilities, images = case(3, *size, images=3)
    layer = DenseCRF(3, iterations=3)
    unary = -probabilities.log()
    together = layer(unary, images)
    with torch.no_grad():
        by_numba = layer(unary, images)
    assert together.requires_grad
    assert not by_numba.requires_grad
    for i in range(3):
        alone = dense_crf(probabilities[i], images[i].movedim(0, 2), iterations=3)
        assert (together[i] - alone).abs().max() < 1e-4
        assert (by_numba[i] - alone).abs().max() < 1e-4


def test_the_layer_takes_any_energies() -> None:
    _, images = case(4, 9, 11)
    unary = 40 * torch.randn(1, 4, 9, 11)  # far below the floor of dense_crf's probabilities
    layer = DenseCRF(4, iterations=2)
    with torch.no_grad():
        by_numba = layer(unary, images)
    assert (layer(unary, images) - by_numba).abs().max() < 1e-4
    assert (layer(unary + 7, images) - layer(unary, images)).abs().max() < 1e-4


def test_gradients_are_true() -> None:
    _, images = case(3, 2, 4)
    params = CrfParams(sigma_alpha=2, sigma_beta=40, w1=0.7, sigma_gamma=1.5, w2=0.4)
    layer = DenseCRF(3, params, iterations=3).double()
    unary = torch.randn(1, 3, 2, 4, dtype=torch.float64, requires_grad=True)

    def marginals(unary: Tensor, w1: Tensor, w2: Tensor, compatibility: Tensor) -> Tensor:
        values = {"w1": w1, "w2": w2, "compatibility": compatibility}
        result: Tensor = torch.func.functional_call(layer, values, (unary, images))
        return result

    matrix = (1 - torch.eye(3, dtype=torch.float64) + 0.1 * torch.rand(3, 3, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(marginals, (unary, layer.w1, layer.w2, matrix))


def test_the_filter_is_linear_with_its_transpose_as_gradient() -> None:
    _, images = case(1, 4, 7)
    lattice = torch_lattice.build(images.movedim(1, -1), (2.0, 2.0, 9.0, 9.0, 9.0))
    values = torch.rand(28, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: torch_lattice.filter_pixels(lattice, v), values)
    assert torch.autograd.gradgradcheck(lambda v: torch_lattice.filter_pixels(lattice, v) ** 2, values)


def test_the_layer_learns() -> None:
    """From equal unaries but for one corner, the labels of a two-coloured picture spread along its colours."""
    torch.manual_seed(0)
    images = torch.zeros(1, 3, 12, 16, dtype=torch.uint8)
    images[..., 8:] = 200
    target = (images[:, 0] > 100).long()
    unary = 0.3 * torch.randn(1, 2, 12, 16) - torch.nn.functional.one_hot(target, 2).movedim(-1, 1) * 0.3
    layer = DenseCRF(2, CrfParams(w1=0.1, w2=0.1), iterations=3)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.2)
    losses = []
    for _ in range(8):
        loss = torch.nn.functional.nll_loss(layer(unary, images).clamp_min(1e-9).log(), target)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_the_layer_keeps_its_parameters() -> None:
    layer = DenseCRF(3, CrfParams(w1=2.5), iterations=2)
    assert layer.w1.item() == 2.5
    assert (layer.compatibility == 1 - torch.eye(3)).all()
    other = DenseCRF(3)
    other.load_state_dict(layer.state_dict())
    assert other.w1.item() == 2.5
    assert "iterations=2" in repr(layer)


@pytest.mark.parametrize("where", ["unary", "w1", "compatibility"])
def test_nan_stays_with_gradients_and_without(where: str) -> None:
    probabilities, images = case(3, 6, 8)
    layer, unary = DenseCRF(3, iterations=2), -probabilities.log()
    with torch.no_grad():
        {"unary": unary, **dict(layer.named_parameters())}[where].view(-1)[0] = torch.nan
        without = layer(unary, images)
    assert without.isnan().any()
    torch.testing.assert_close(layer(unary, images).detach(), without, equal_nan=True)


def test_energies_without_bound_are_taken_where_a_class_is_left() -> None:
    """-log 0 of a class that cannot be; where no class is left there are no marginals."""
    probabilities, images = case(3, 6, 8)
    layer, unary = DenseCRF(3, iterations=2), -probabilities.log()
    unary[0, 0, :3] = torch.inf
    with torch.no_grad():
        found = layer(unary, images)
        unary[0, :, 0, 0] = torch.inf
        assert layer(unary, images).isnan().any()
    assert found.isfinite().all() and (found[0, 0, :3] == 0).all()


def test_no_pictures_give_no_marginals() -> None:
    layer, (_, images) = DenseCRF(3), case(3, 6, 8)
    with torch.no_grad():
        found = layer(torch.zeros(0, 3, 6, 8), images[:0])
    assert found.shape == layer(torch.zeros(0, 3, 6, 8), images[:0]).shape == (0, 3, 6, 8)


def test_autocast_does_not_take_its_precision() -> None:
    probabilities, images = case(3, 12, 16)
    layer, unary = DenseCRF(3, iterations=3), -probabilities.log()
    wanted = layer(unary, images)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(unary, images)
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_parameters_of_every_type_give_the_same_without_gradients(kind: torch.dtype) -> None:
    probabilities, images = case(3, 9, 11)
    matrix = np.array([[0, 1, 2], [1, 0, 0.5], [2, 0.5, 0]])
    layer, unary = DenseCRF(3, iterations=3, compatibility=matrix), -probabilities.log()
    wanted = layer(unary, images).detach()
    with torch.no_grad():
        assert (layer.to(kind)(unary, images) - wanted).abs().max() < 1e-4


def test_a_graph_does_not_keep_a_pictures_marginals() -> None:
    probabilities, images = case(3, 5, 6)
    layer = DenseCRF(3, iterations=1).requires_grad_(False)
    for record in (torch.jit.trace, torch.export.export):
        with pytest.raises(UserError, match=r"DenseCRF: found torch.export, .* a trace"):
            record(layer, (-probabilities.log(), images))
    with pytest.raises(UserError, match="dense_crf: found"):
        torch.jit.trace(lambda values: dense_crf(values, images[0].movedim(0, 2)), probabilities[0])


@pytest.mark.slow
def test_compiled_it_runs_outside_of_the_graph() -> None:
    layer = DenseCRF(3, iterations=2)
    compiled = torch.compile(layer, backend="eager")
    for height in (5, 7):
        probabilities, images = case(3, height, 6)
        unary = (-probabilities.log()).requires_grad_()
        torch.testing.assert_close(compiled(unary, images), layer(unary, images))
        with torch.no_grad():
            torch.testing.assert_close(compiled(unary, images), layer(unary, images))
        function, picture = torch.compile(dense_crf, backend="eager"), images[0].movedim(0, 2)
        torch.testing.assert_close(function(probabilities[0], picture), dense_crf(probabilities[0], picture))


def test_transforms_of_functions() -> None:
    probabilities, images = case(3, 4, 5)
    layer, unary = DenseCRF(3, iterations=2).double(), -probabilities.double().log()
    parameters = {name: values.detach() for name, values in layer.named_parameters()}

    def total(values: dict[str, Tensor], unary: Tensor) -> Tensor:
        found: Tensor = torch.func.functional_call(layer, values, (unary, images))
        return found.square().sum()

    found = torch.func.grad(total)(parameters, unary)
    wanted = torch.autograd.grad(layer(unary, images).square().sum(), list(layer.parameters()))
    torch.testing.assert_close(list(found.values()), list(wanted))
    many = torch.func.vmap(total, in_dims=(None, 0))(parameters, torch.stack([unary, 2 * unary]))
    torch.testing.assert_close(many, torch.stack([total(parameters, unary), total(parameters, 2 * unary)]))
    (slope,) = torch.autograd.grad(total(parameters, unary.requires_grad_()), unary)
    _, along = torch.func.jvp(lambda x: total(parameters, x), (unary.detach(),), (torch.ones_like(unary),))
    torch.testing.assert_close(along, slope.sum())


@pytest.mark.parametrize("matrix", [None, np.array([[0, 1, 2], [1, 0, 0.5], [2, 0.5, 0]], np.float32)])
def test_it_is_made_and_begun_anew_on_any_device(matrix: np.ndarray | None) -> None:
    wanted = DenseCRF(3, compatibility=matrix)
    with torch.device("meta"):
        layer = DenseCRF(3, compatibility=matrix)
    assert all(parameter.is_meta for parameter in layer.parameters())
    layer.to_empty(device="cpu").reset_parameters()
    torch.testing.assert_close(list(layer.parameters()), list(wanted.parameters()))
