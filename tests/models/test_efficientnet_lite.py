"""EfficientNet-Lite: timm's outputs bit for bit, with ImageNet's weights, at every output stride and schedule."""

from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from ducseg.models.dilation import stage_rates
from ducseg.models.efficientnet_lite import EFFICIENTNET_LITES, EfficientNetLite
from ducseg.models.timm_encoder import TimmEncoder


def _make(name: str, output_stride: int, dilation: str) -> EfficientNetLite:
    layout = EFFICIENTNET_LITES[f"efficientnet_{name}"]
    rates = stage_rates(dilation, output_stride, layout.blocks)
    return EfficientNetLite(layout, output_stride=output_stride, rates=rates)


@pytest.mark.parametrize(
    "output_stride, dilation", [(32, "none"), (16, "bigger"), (8, "none"), (8, "rf"), (4, "dilated")]
)
@pytest.mark.parametrize("name", ["lite0", "lite2"])
def test_is_timms_network_with_the_real_weights(
    timm: ModuleType, shared: Path, name: str, output_stride: int, dilation: str
) -> None:
    weights = load_file(shared / "weights" / f"tf_efficientnet_{name}-imagenet.safetensors")
    theirs = TimmEncoder(f"tf_efficientnet_{name}", output_stride=output_stride, dilation=dilation).eval()
    ours = _make(name, output_stride, dilation).eval()
    theirs.network.load_state_dict(weights)
    ours.load_state_dict(weights)  # strictly: the same names
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected, found = theirs.intermediates(image), ours.intermediates(image)
    assert ours.rates == theirs.rates
    assert list(found) == list(expected)
    for stage, features in found.items():
        assert torch.equal(features, expected[stage])
        assert features.shape[1] == ours.channels[stage]


def test_lite1_is_timms_too(timm: ModuleType) -> None:
    theirs = TimmEncoder("tf_efficientnet_lite1", output_stride=32, dilation="none").eval()
    ours = _make("lite1", 32, "none").eval()
    ours.load_state_dict(theirs.network.state_dict())
    image = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        assert torch.equal(ours(image), theirs(image))
