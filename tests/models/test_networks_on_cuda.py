"""Encoders, heads and the paper's operations on a GPU against the CPU.

In float64 both agree to 1e-8 of the largest value, gradients too, so nothing but rounding differs; in float32 without
TF32 scores do to 1e-4; in bfloat16 they are as near as the CPU's bfloat16 is, within a half.
"""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ducseg.models import Segmenter, depthwise
from ducseg.models.batch_norm import recalibrate_batch_norm
from ducseg.models.fuse import fuse_batch_norm
from ducseg.models.segmenter import most_probable
from ducseg.models.stages import parameters_by_stage
from ducseg.ops import summed
from ducseg.ops.dilate import strides_to_dilations
from ducseg.ops.duc import downsample_labels, fold_labels, unfold
from ducseg.ops.receptive_field import measured
from on_gpu import GPU, network, on_a_gpu

pytestmark = on_a_gpu

NETWORKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bilinear": ("resnet18", "bilinear", {}),
    "DUC": ("resnet18", "duc", {"output_stride": 8, "dilation": "bigger"}),
    "DUC, cell 2, ASPP": ("resnet50", "duc", {"output_stride": 8, "cell": 2, "aspp": 4}),
    "deconvolution": ("resnet18", "deconv", {}),
    "two deconvolutions": ("resnet18", "deconv2", {}),
    "3x3 stem": ("resnet34", "duc", {"stem": "3x3"}),
    "pyramid": ("resnet18", "pyramid", {"output_stride": 32, "dilation": "none"}),
    "MobileNetV2": ("mobilenet_v2", "pyramid", {"output_stride": 32, "dilation": "none"}),
    "MobileNetV2, dilated": ("mobilenet_v2", "duc", {"output_stride": 8}),
    "EfficientNet": ("efficientnet_lite0", "pyramid", {"output_stride": 32, "dilation": "none"}),
    "EfficientNet, dilated": ("efficientnet_lite0", "duc", {"output_stride": 8}),
    "VGG-16, FCN-8s": ("vgg16", "fcn8s", {"output_stride": 32, "dilation": "none", "width": 8}),
    "VGG-16, FCN-8s learned": ("vgg16_bn", "fcn8s_learned", {"output_stride": 32, "dilation": "none", "width": 8}),
    "five bands": ("resnet18", "pyramid", {"output_stride": 32, "dilation": "none", "num_channels": 5}),
}


@pytest.fixture(params=NETWORKS)
def segmenter(request: pytest.FixtureRequest) -> Segmenter:
    encoder, head, options = NETWORKS[request.param]
    return network(encoder, head, **options)


def images_for(segmenter: Segmenter) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, segmenter.preprocessing.num_channels, 70, 90, generator=generator)


def trained_on(segmenter: Segmenter, device: torch.device, dtype: torch.dtype, *, bf16: bool = False) -> list[Tensor]:
    """Folded scores in training mode, and the gradients of a weighted mean of them, on the CPU."""
    made = copy.deepcopy(segmenter).to(device=device, dtype=dtype, memory_format=torch.channels_last).train()
    for module in made.modules():
        if isinstance(module, nn.Dropout):  # each device draws its own
            module.eval()
    images = images_for(segmenter).to(device, dtype).contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        scores = made.folded(images)
    weights = torch.linspace(-1, 1, scores.numel(), dtype=torch.float64).reshape(scores.shape)
    (scores.double() * weights.to(device)).mean().backward()
    gradients = [p.grad.cpu() for p in made.parameters() if p.grad is not None]
    assert len(gradients) == len(list(made.parameters()))
    return [scores.detach().cpu(), *gradients]


def test_scores_and_gradients_are_the_cpus(segmenter: Segmenter) -> None:
    on_cpu, on_gpu = (trained_on(segmenter, device, torch.float64) for device in (torch.device("cpu"), GPU))
    for mine, theirs in zip(on_gpu, on_cpu, strict=True):
        assert (mine - theirs).abs().max() <= 1e-8 * max(theirs.abs().max(), 1e-3)


@torch.no_grad()
def test_scores_in_float32_are_the_cpus(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    images = images_for(segmenter)
    wanted, probabilities = segmenter(images), segmenter.probabilities(images)
    segmenter.to(GPU)
    for order in (torch.contiguous_format, torch.channels_last):
        segmenter.to(memory_format=order)
        on_gpu = images.to(GPU).contiguous(memory_format=order)
        assert (segmenter(on_gpu).cpu() - wanted).abs().max() < 1e-4 * wanted.abs().max()
        assert (segmenter.probabilities(on_gpu).cpu() - probabilities).abs().max() < 1e-3
        agreement = (segmenter.predict_labels(on_gpu).cpu() == probabilities.argmax(1)).double().mean()
        assert agreement > 0.999


def test_bfloat16_is_as_near_as_the_cpus_and_takes_none_of_its_paths(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = torch.device("cpu")
    exact, on_cpu = (trained_on(segmenter, cpu, torch.float32, bf16=bf16) for bf16 in (False, True))

    def wrong(*_arguments: object) -> Tensor:
        raise AssertionError("what was made for processors, on a GPU")

    monkeypatch.setattr(depthwise._Depthwise, "apply", wrong)
    monkeypatch.setattr(summed._SummedTaps, "apply", wrong)
    on_gpu = trained_on(segmenter, GPU, torch.float32, bf16=True)

    def away(found: list[Tensor]) -> tuple[float, float]:
        """Of the scores and of all gradients together: the relative distance from those in float32."""
        pairs = [(found[0], exact[0]), tuple(torch.cat([one.flatten() for one in all_[1:]]) for all_ in (found, exact))]
        return tuple(float((mine - true).norm() / true.norm()) for mine, true in pairs)  # type: ignore[return-value]

    for mine, theirs in zip(away(on_gpu), away(on_cpu), strict=True):
        assert mine < 1.5 * theirs, (mine, theirs)


def test_folding_batch_norms_leaves_as_many_as_on_the_cpu(segmenter: Segmenter) -> None:
    def norms(one: nn.Module) -> int:
        return sum(isinstance(module, nn.BatchNorm2d) for module in one.modules())

    wanted = norms(fuse_batch_norm(segmenter))
    segmenter.to(GPU)
    fused = fuse_batch_norm(segmenter)  # TF32 is torch's default for convolutions
    assert norms(fused) == wanted
    assert {value.device for value in [*fused.state_dict().values(), *segmenter.state_dict().values()]} == {GPU}


def test_the_papers_operations_on_labels_are_the_cpus() -> None:
    labels = torch.randint(0, 256, (2, 24, 48), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    for factor in (2, 4, 8):
        folded = fold_labels(labels.to(GPU), factor)
        assert torch.equal(folded.cpu(), fold_labels(labels, factor))
        assert torch.equal(unfold(folded[:, None]).cpu()[:, 0], labels)
        assert torch.equal(downsample_labels(labels.to(GPU), factor).cpu(), downsample_labels(labels, factor))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_of_equal_scores_the_first_wins_as_on_the_cpu(dtype: torch.dtype) -> None:
    scores = torch.randint(0, 4, (2, 19, 40, 50), generator=torch.Generator().manual_seed(0)).to(dtype)
    labels = most_probable(scores.to(GPU))
    assert labels.dtype == torch.uint8 and torch.equal(labels.cpu(), scores.float().argmax(1).to(torch.uint8))


def test_networks_that_are_on_a_gpu_are_looked_at_and_changed_there() -> None:
    made = network("resnet18", "bilinear", output_stride=32, dilation="none").to(GPU)
    on_cpu = copy.deepcopy(made).cpu()
    assert (measured(made.encoder, (64, 64)) == measured(on_cpu.encoder, (64, 64))).all()
    stages = [{k: len(v) for k, v in parameters_by_stage(one.encoder).items()} for one in (made, on_cpu)]
    assert stages[0] == stages[1]
    images = torch.randn(1, 3, 64, 64)
    for one in (made, on_cpu):
        strides_to_dilations(one.encoder, 8)
    dense = made.double().encoder(images.double().to(GPU)).cpu()
    assert (dense - on_cpu.double().encoder(images.double())).abs().max() < 1e-8


def test_recalibrated_statistics_are_the_cpus() -> None:
    batches = [torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed)).double() for seed in range(2)]
    on_cpu, on_gpu = network().double(), network().double().to(GPU)
    recalibrate_batch_norm(on_cpu, batches)
    recalibrate_batch_norm(on_gpu, [batch.to(GPU) for batch in batches])
    for name, value in on_cpu.state_dict().items():
        torch.testing.assert_close(on_gpu.state_dict()[name].cpu(), value, rtol=1e-8, atol=1e-8)
