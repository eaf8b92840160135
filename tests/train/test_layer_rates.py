"""Layer-wise learning rates: which parameters are a stage's, and the rate of each stage, for every kind of encoder."""

import re
from types import ModuleType

import pytest
import torch
from torch import nn

from ducseg.models import build
from ducseg.models.segmenter import Segmenter
from ducseg.models.stages import parameters_by_stage
from ducseg.train.optimizer import make_optimizer
from ducseg.train.sections import OptimizerConfig

OURS = {
    "resnet18": ("conv1 bn1", "layer1", "layer2", "layer3", "layer4"),
    "mobilenet_v2": (
        r"features.[01]\b",
        r"features.[23]\b",
        "features.[456]",
        r"features.([789]|1[0123])\b",
        "features.1",
    ),
    "efficientnet_lite0": ("conv_stem bn1 blocks.0", "blocks.1", "blocks.2", "blocks.[34]", "blocks.[56]"),
}
TIMM = {
    "timm:resnet18": ("conv1 bn1", "layer1", "layer2", "layer3", "layer4"),
    "timm:convnext_atto": ("stem stages.0", "stages.1", "stages.2", "stages.3"),  # no map at stride 2
}


def network(encoder: str, output_stride: int = 32) -> Segmenter:
    dilation = "none" if output_stride == 32 else "bigger"
    return build(encoder, "bilinear", 2, output_stride=output_stride, aspp=0, dilation=dilation)


def rate_by_name(segmenter: Segmenter, config: OptimizerConfig) -> dict[str, float]:
    groups = make_optimizer(segmenter, config).param_groups
    rates = {id(parameter): group["rate_factor"] for group in groups for parameter in group["params"]}
    assert len(rates) == sum(len(group["params"]) for group in groups) == len(list(segmenter.parameters()))
    names = {name.removeprefix("encoder.").removeprefix("network."): one for name, one in segmenter.named_parameters()}
    return {name: rates[id(parameter)] for name, parameter in names.items()}


def check_rates(encoder: str, stages: tuple[str, ...], output_stride: int = 32) -> None:
    config = OptimizerConfig(
        name="adamw", layer_decay=0.5, encoder_learning_rate_factor=0.8, head_learning_rate_factor=3.0
    )
    for name, rate in rate_by_name(network(encoder, output_stride), config).items():
        if name.startswith("head."):
            assert rate == 3.0
            continue
        stage = next(i for i, starts in enumerate(stages) if any(re.match(one, name) for one in starts.split()))
        assert rate == pytest.approx(0.8 * 0.5 ** (len(stages) - 1 - stage)), name


@pytest.mark.parametrize("head", ["bilinear", "dilation10"])
def test_vggs_stages_padded_or_not(head: str) -> None:
    network = build("vgg16", head, 2, width=1, dilation="dilated")
    found = {name: {id(one) for one in part} for name, part in parameters_by_stage(network.encoder).items()}
    assert [len(part) for part in found.values()] == [8, 6, 6, 6, 0], "conv1 and 2, conv3, conv4, conv5, pool5"


@pytest.mark.parametrize("encoder", OURS)
@pytest.mark.parametrize("output_stride", [32, 8])
def test_each_stage_has_the_next_ones_rate_times_the_decay(encoder: str, output_stride: int) -> None:
    check_rates(encoder, OURS[encoder], output_stride)


@pytest.mark.parametrize("encoder", TIMM)
def test_timms_stages_too(encoder: str, timm: ModuleType) -> None:
    check_rates(encoder, TIMM[encoder])


def test_a_decay_of_one_changes_no_group() -> None:
    """So that earlier runs go on: their optimizer's state has these groups."""
    groups = make_optimizer(network("resnet18"), OptimizerConfig(encoder_learning_rate_factor=0.1)).param_groups
    assert [group["rate_factor"] for group in groups] == [0.1, 0.1, 1.0, 1.0]


def test_looking_for_the_stages_leaves_the_encoder_as_it_was() -> None:
    encoder = network("resnet18").encoder.train()
    assert isinstance(encoder, nn.Module)
    encoder.bn1.eval()
    encoder.conv1.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    modes = [module.training for module in encoder.modules()]
    found = parameters_by_stage(encoder)
    assert list(found) == ["stem", "res2", "res3", "res4", "res5"]
    assert [module.training for module in encoder.modules()] == modes
    assert not encoder.conv1.weight.requires_grad and encoder.bn1.weight.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert all(parameter.grad is None for parameter in encoder.parameters())
