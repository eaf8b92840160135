"""Recalibration keeps the function and makes training mode start from it; fusing keeps it too."""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ducseg.models import Segmenter, batch_norm, build
from ducseg.models.batch_norm import recalibrate_batch_norm
from ducseg.models.fuse import fuse_batch_norm
from ducseg.weights.encoders import load_encoder


def as_if_trained(**arguments: object) -> Segmenter:
    torch.manual_seed(0)
    segmenter = build(**{"encoder": "resnet18", "width": 8, "num_classes": 3, "aspp": 0, **arguments})  # type: ignore[arg-type]
    with torch.no_grad():
        for module in segmenter.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.5)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.5)
    return segmenter


def photographs(shared: Path, segmenter: Segmenter) -> Tensor:
    paths = sorted((shared / "data" / "camvid" / "images" / "val").iterdir())[::30]
    pictures = [np.asarray(Image.open(path).convert("RGB").resize((160, 128))) for path in paths]
    return segmenter.preprocessing.normalise(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2))


def pretrained(shared: Path, encoder: str) -> Segmenter:
    torch.manual_seed(0)
    name = {"resnet18": "resnet18-imagenet-layers1to3", "mobilenet_v2": "mobilenet_v2-imagenet"}[encoder]
    segmenter = build(encoder, "bilinear", num_classes=11, aspp=0)
    load_encoder(segmenter, shared / "weights" / f"{name}.safetensors", allow_missing=encoder == "resnet18")
    return segmenter


def check_recalibration(segmenter: Segmenter, images: Tensor) -> None:
    before = segmenter.eval().encoder(images)
    scale = before.abs().max()
    off = copy.deepcopy(segmenter).train().encoder(images)
    assert (off - before).abs().max() > 0.05 * scale, "nothing to repair: the test would show nothing"
    segmenter.train()
    recalibrate_batch_norm(segmenter, [images, images])
    assert segmenter.training
    assert (segmenter.eval().encoder(images) - before).abs().max() < 1e-4 * scale
    assert (segmenter.train().encoder(images) - before).abs().max() < 1e-3 * scale


@torch.no_grad()
def test_recalibration_of_a_random_network() -> None:
    check_recalibration(as_if_trained(), torch.randn(4, 3, 64, 64))


@torch.no_grad()
def test_recalibration_where_there_is_no_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Apple's GPUs."""

    def refused(_tensor: Tensor) -> Tensor:
        raise TypeError("the MPS framework doesn't support float64")

    monkeypatch.setattr(Tensor, "double", refused)
    monkeypatch.setattr(batch_norm, "wide", Tensor.float)
    check_recalibration(as_if_trained(), torch.randn(4, 3, 64, 64))


@pytest.mark.parametrize("encoder", ["resnet18", pytest.param("mobilenet_v2", marks=pytest.mark.slow)])
@torch.no_grad()
def test_recalibration_of_the_folded_imagenet_files(shared: Path, encoder: str) -> None:
    segmenter = pretrained(shared, encoder)
    check_recalibration(segmenter, photographs(shared, segmenter))


@torch.no_grad()
def test_statistics_are_those_of_all_batches_together() -> None:
    whole, parts = as_if_trained(), as_if_trained()
    images = torch.randn(6, 3, 32, 32)
    recalibrate_batch_norm(whole, [images])
    recalibrate_batch_norm(parts, images.split([1, 5]))
    for one, other in zip(whole.state_dict().values(), parts.state_dict().values()):
        torch.testing.assert_close(one, other)
    stem_input = whole.encoder.conv1(images)
    torch.testing.assert_close(whole.encoder.bn1.running_mean, stem_input.mean((0, 2, 3)))


@torch.no_grad()
def test_an_encoder_that_runs_at_three_scales_is_fused_too() -> None:
    segmenter = as_if_trained(head="deeplabv2", dilation="dilated")
    images, fused = torch.randn(1, 3, 40, 48), fuse_batch_norm(segmenter)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    wanted = segmenter.eval()(images)
    assert (fused(images) - wanted).abs().max() < 1e-4 * wanted.abs().max()


@pytest.mark.parametrize(
    "arguments",
    [{}, {"stem": "3x3"}, {"encoder": "resnet50", "head": "deconv2"}, {"encoder": "mobilenet_v2", "width": 64}],
)
@torch.no_grad()
def test_fused_copy_is_equal(arguments: dict[str, object]) -> None:
    segmenter = as_if_trained(**arguments)
    images = torch.randn(2, 3, 40, 48)
    fused = fuse_batch_norm(segmenter)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    with torch.inference_mode():
        torch.testing.assert_close(fuse_batch_norm(segmenter).state_dict(), fused.state_dict())
    assert any(isinstance(module, nn.BatchNorm2d) for module in segmenter.modules()) and segmenter.training
    wanted = segmenter.eval()(images)
    assert (fused(images) - wanted).abs().max() < 1e-4 * wanted.abs().max()


class Pyramid(nn.Module):
    """A head with batch norms behind a convolution, a transposed one, a sum, a shuffle, an activation, and another."""

    takes_intermediates, grid_stride, factor = True, 2, 2

    def __init__(self, twice: bool) -> None:
        super().__init__()
        self.twice = twice
        self.up, self.lateral = nn.ConvTranspose2d(64, 16, 4, 4), nn.Conv2d(8, 16, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(size) for size in (16, 16, 4, 16, 16))
        self.relu = nn.ReLU(inplace=True)
        self.behind, self.last = nn.Conv2d(4, 16, 3, padding=1), nn.Conv2d(16, 16, 1)
        self.score = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, maps: dict[str, Tensor]) -> Tensor:
        x = self.norms[0](self.up(maps["res5"]))  # folded: 8 -> 2
        x = self.norms[1](x + self.lateral(maps["stem"]))
        x = self.norms[2](nn.functional.pixel_shuffle(x, 2))
        x = self.norms[3](self.relu(self.behind(x)))
        last = self.last(x)
        x = self.norms[4](last) + (last if self.twice else 0)
        scores = nn.functional.pixel_unshuffle(self.score(x), 2)
        return scores.unflatten(1, (3, 4))


@torch.no_grad()
@pytest.mark.parametrize("twice", [False, True])
def test_only_what_is_certain_is_fused_in_anyones_head(twice: bool) -> None:
    segmenter = as_if_trained()
    head = Pyramid(twice)
    for norm in head.norms:
        norm.running_mean.normal_(std=0.5)
        norm.running_var.uniform_(0.5, 2)
    own = Segmenter(segmenter.encoder, head, classes=segmenter.classes, preprocessing=segmenter.preprocessing).eval()
    images = torch.randn(2, 3, 40, 48)
    wanted, fused = own(images), fuse_batch_norm(own)
    assert (fused(images) - wanted).abs().max() < 1e-4 * wanted.abs().max()
    left = [isinstance(norm, nn.BatchNorm2d) for norm in fused.head.norms]
    assert left == [twice, True, True, True, twice], "where a convolution is used twice, nothing is fused"
    assert own.head is head and isinstance(head.norms[0], nn.BatchNorm2d)


@pytest.mark.parametrize("mode", [nn.Module.train, nn.Module.eval])
def test_recalibration_keeps_frozen_batch_norms_frozen(mode: Callable[[nn.Module], nn.Module]) -> None:
    segmenter = as_if_trained()
    mode(segmenter)
    segmenter.freeze_batch_norm()
    modes = [module.training for module in segmenter.modules()]
    recalibrate_batch_norm(segmenter, [torch.randn(1, 3, 32, 32)])
    assert modes == [module.training for module in segmenter.modules()]


def test_sums_over_processes_give_the_statistics_of_all_batches() -> None:
    alone = as_if_trained()
    one, other = copy.deepcopy(alone), copy.deepcopy(alone)
    batches = list(torch.randn(2, 3, 3, 32, 48).unbind())
    recalibrate_batch_norm(alone, batches)
    sums: list[Tensor] = []
    recalibrate_batch_norm(other, batches[1:], reduce=lambda mine: sums.append(mine) or mine)
    recalibrate_batch_norm(one, batches[:1], reduce=lambda mine: mine + sums.pop(0))
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(one.state_dict()[name], value)
    assert not torch.equal(other.state_dict()["encoder.bn1.running_mean"], alone.encoder.bn1.running_mean)
