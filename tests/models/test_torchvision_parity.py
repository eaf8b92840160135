"""Our encoders equal torchvision's, where a torchvision is installed (any build: its operators are not needed)."""

import importlib.util
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest
import torch

from ducseg.models import build

TORCHVISIONS_RATES = {
    16: ((1,) * 6, (1, 2, 2)),
    8: ((1, 2, 2, 2, 2, 2), (2, 4, 4)),
}
"""`replace_stride_with_dilation` on ResNet-50: the first block of a dilated stage has the rate of the stage before."""


@pytest.fixture(scope="module")
def torchvision_models(shared: Path) -> ModuleType:
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    sys.path.insert(0, str(shared / "tools"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if "torchvision" not in sys.modules:
                importlib.import_module("torchvision_cpu_shim")
            return importlib.import_module("torchvision.models")
    finally:
        sys.path.pop(0)


@pytest.mark.parametrize("encoder", ["resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2"])
def test_equal_at_output_stride_32(torchvision_models: ModuleType, encoder: str) -> None:
    theirs = getattr(torchvision_models, encoder)().eval()
    ours = build(encoder=encoder, head="bilinear", aspp=0, output_stride=32, dilation="none").encoder.eval()
    state = {key: value for key, value in theirs.state_dict().items() if key in ours.state_dict()}
    ours.load_state_dict(state)
    images = torch.randn(1, 3, 64, 96)
    if encoder == "mobilenet_v2":
        assert torch.equal(ours(images), theirs.features[:18](images))
        return
    x = theirs.relu(theirs.bn1(theirs.conv1(images)))
    found = ours.intermediates(images)
    assert torch.equal(found["stem"], x)
    x = theirs.maxpool(x)
    for name, layer in zip(("res2", "res3", "res4", "res5"), ("layer1", "layer2", "layer3", "layer4")):
        x = getattr(theirs, layer)(x)
        assert torch.equal(found[name], x), name


@pytest.mark.parametrize("output_stride", [16, 8])
def test_equal_to_replaced_strides(torchvision_models: ModuleType, output_stride: int) -> None:
    replaced = [False, output_stride == 8, True]
    theirs = torchvision_models.resnet50(replace_stride_with_dilation=replaced).eval()
    rates = TORCHVISIONS_RATES[output_stride]
    ours = build("resnet50", head="bilinear", aspp=0, output_stride=output_stride, dilation=rates).encoder.eval()
    ours.load_state_dict({key: value for key, value in theirs.state_dict().items() if not key.startswith("fc.")})
    images = torch.randn(1, 3, 64, 96)
    x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
    x = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(x))))
    assert torch.equal(ours(images), x)
