"""Losses on a GPU against the CPU, in float64 to 1e-9, and without a wait of the host for the device."""

from contextlib import nullcontext

import pytest
import torch

from ducseg.ops.duc import fold_labels
from ducseg.train.loss import FoldedLoss, fold_targets
from ducseg.train.sections import LossConfig
from on_gpu import GPU, on_a_gpu, waits

pytestmark = on_a_gpu

NAMES = ["ground", "wire", "crack"]
LOSSES = {
    "cross-entropy": LossConfig(),
    "class weights": LossConfig(class_weights=(0.5, 1.0, 3.0)),
    "OHEM": LossConfig(ohem_threshold=0.6, ohem_min_fraction=0.25),
    "OHEM with weights": LossConfig(ohem_threshold=0.2, class_weights=(0.5, 1.0, 3.0)),
    "focal": LossConfig(cross_entropy=0.0, focal=1.0),
    "Dice": LossConfig(cross_entropy=1.0, dice=1.0),
    "Tversky": LossConfig(cross_entropy=0.0, tversky=1.0),
    "Lovasz": LossConfig(cross_entropy=0.0, lovasz=1.0),
    "clDice": LossConfig(cross_entropy=0.5, cldice=1.0, cldice_iterations=3),
}


@pytest.fixture(params=LOSSES)
def config(request: pytest.FixtureRequest) -> LossConfig:
    return LOSSES[request.param]


def case() -> tuple[torch.Tensor, torch.Tensor]:
    """Folded scores (2, 3, 4, 16, 24) and folded targets with lines and void."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(2, 32, 48, dtype=torch.uint8)
    labels[0, 12:15, 4:40] = 1
    labels[1, 4:28, 20] = 1
    labels[1, 16, 32:44] = 2
    labels[:, -8:, :12] = 255
    scores = 2 * torch.randn((2, 3, 4, 16, 24), generator=generator, dtype=torch.float64)
    return scores, fold_labels(labels, 2)


def test_values_and_gradients_are_the_cpus(config: LossConfig) -> None:
    found = []
    for device in (torch.device("cpu"), GPU):
        scores, targets = (one.to(device) for one in case())
        scores.requires_grad_()
        total, normaliser = FoldedLoss(config, NAMES, device)(scores, targets, region_scale=100.0)
        total.backward()
        assert scores.grad is not None
        found.append((total.detach().cpu(), normaliser.cpu(), scores.grad.cpu()))
    for mine, theirs in zip(*found):
        torch.testing.assert_close(mine.double(), theirs.double(), rtol=1e-9, atol=1e-9)


def test_the_host_waits_for_nothing(config: LossConfig) -> None:
    scores, targets = (one.to(GPU) for one in case())
    loss = FoldedLoss(config, NAMES, GPU)
    for watched in (nullcontext(), waits("error")):  # what is made once, then none
        with watched:
            learning = scores.detach().float().requires_grad_()
            loss(learning, targets, region_scale=100.0)[0].backward()


def test_targets_are_folded_as_on_the_cpu() -> None:
    labels = torch.randint(0, 3, (2, 37, 50), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    wanted = fold_targets(labels, output_stride=16, cell=2, factor=8)
    assert torch.equal(fold_targets(labels.to(GPU), output_stride=16, cell=2, factor=8).cpu(), wanted)
