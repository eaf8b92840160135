"""Weights out under torchvision's names: torchvision's networks load them strictly and compute the same."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ducseg.errors import UserError
from ducseg.models import Segmenter, build
from ducseg.ops.hdc import set_dilations
from ducseg.weights.encoders import load_encoder
from ducseg.weights.torchvision import save_torchvision, to_torchvision


def small(**changes: Any) -> Segmenter:
    torch.manual_seed(0)
    segmenter = build(**{"encoder": "resnet18", "head": "duc", "num_classes": 3, "aspp": 0, **changes}).eval()
    for module in segmenter.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return segmenter


def split(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The encoder's tensors and the head's."""
    head = {key.removeprefix("head."): value for key, value in tensors.items() if key.startswith("head.")}
    return {key: value for key, value in tensors.items() if not key.startswith("head.")}, head


def features(resnet: nn.Module, images: Tensor) -> Tensor:
    x = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(images))))
    result: Tensor = resnet.layer4(resnet.layer3(resnet.layer2(resnet.layer1(x))))
    return result


@torch.no_grad()
@pytest.mark.parametrize("encoder", ["resnet18", pytest.param("resnet50", marks=pytest.mark.slow)])
def test_torchvision_loads_it_and_computes_the_same(torchvision: ModuleType, encoder: str) -> None:
    segmenter = small(encoder=encoder, output_stride=32, dilation="none")
    tensors, head = split(to_torchvision(segmenter))
    theirs = getattr(torchvision.models, encoder)().eval()
    result = theirs.load_state_dict(tensors, strict=False)
    assert result.unexpected_keys == [] and result.missing_keys == ["fc.weight", "fc.bias"]
    images = torch.randn(1, 3, 64, 96)
    assert torch.equal(features(theirs, images), segmenter.encoder(images))
    assert head.keys() == segmenter.head.state_dict().keys()


@torch.no_grad()
def test_with_hdc_torchvisions_network_takes_the_rates(torchvision: ModuleType) -> None:
    segmenter = small(encoder="resnet50", output_stride=8, dilation="bigger")
    theirs = torchvision.models.resnet50(replace_stride_with_dilation=[False, True, True]).eval()
    theirs.load_state_dict(split(to_torchvision(segmenter))[0], strict=False)
    for stage, rates in zip((theirs.layer3, theirs.layer4), segmenter.encoder.rates[2:]):
        set_dilations(stage, rates)
    images = torch.randn(1, 3, 64, 96)
    assert torch.equal(features(theirs, images), segmenter.encoder(images))


@torch.no_grad()
def test_mobilenet_lacks_only_its_last_convolution_and_classifier(torchvision: ModuleType) -> None:
    segmenter = small(encoder="mobilenet_v2", output_stride=32, dilation="none")
    theirs = torchvision.models.mobilenet_v2().eval()
    result = theirs.load_state_dict(split(to_torchvision(segmenter))[0], strict=False)
    assert result.unexpected_keys == []
    assert {key.rpartition(".")[0].rpartition(".")[0] for key in result.missing_keys} <= {
        "features.18",
        "classifier",
        "",
    }
    images = torch.randn(1, 3, 64, 96)
    assert torch.equal(theirs.features[:18](images), segmenter.encoder(images))


@torch.no_grad()
def test_timm_takes_the_papers_stem_and_its_own_encoders(timm: ModuleType) -> None:
    images = torch.randn(1, 3, 64, 96)
    for name, changes in (
        ("resnet50s", {"encoder": "resnet50", "stem": "3x3"}),
        ("test_resnet", {"encoder": "timm:test_resnet"}),
    ):
        segmenter = small(output_stride=32, dilation="none", **changes)
        theirs = timm.create_model(name, num_classes=0).eval()
        theirs.load_state_dict(split(to_torchvision(segmenter))[0], strict=True)
        assert torch.equal(theirs.forward_features(images), segmenter.encoder(images))


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_a_written_file_comes_back(tmp_path: Path, ending: str) -> None:
    segmenter, other = small(), build("resnet18", "bilinear", 5, aspp=0)
    path = tmp_path / "new" / f"resnet18{ending}"
    save_torchvision(path, segmenter)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    tensors = load_file(path) if ending == ".safetensors" else torch.load(path, weights_only=True)
    head = {key: value for key, value in tensors.items() if key.startswith("head.")}
    assert set(head) == {f"head.{key}" for key in segmenter.head.state_dict()}
    report = load_encoder(other, path)
    assert report.unused == tuple(sorted(head)) and report.missing == ()
    assert all(map(torch.equal, other.encoder.state_dict().values(), segmenter.encoder.state_dict().values()))


@pytest.mark.usefixtures("timm")
def test_a_written_file_of_an_encoder_of_timm_comes_back(tmp_path: Path) -> None:
    segmenter, other = small(encoder="timm:test_convnext"), build("timm:test_convnext", "bilinear", 5, aspp=0)
    save_torchvision(tmp_path / "out.safetensors", segmenter)
    assert load_encoder(other, tmp_path / "out.safetensors").missing == ()
    assert all(map(torch.equal, other.encoder.state_dict().values(), segmenter.encoder.state_dict().values()))


def test_a_safetensors_file_says_what_it_is(tmp_path: Path) -> None:
    segmenter = small(cell=2)
    save_torchvision(tmp_path / "out.safetensors", segmenter)
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["architecture"]) == segmenter.architecture.to_json()
    assert json.loads(metadata["preprocessing"]) == segmenter.preprocessing.to_json()
    assert json.loads(metadata["classes"]) == segmenter.classes.to_json()


def test_the_dict_is_the_callers() -> None:
    segmenter = small()
    tensors = to_torchvision(segmenter)
    before = segmenter.encoder.state_dict()["conv1.weight"].clone()
    tensors["conv1.weight"].zero_()
    assert torch.equal(segmenter.encoder.state_dict()["conv1.weight"], before)
    assert not any(value.requires_grad for value in tensors.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "resnet50", "stride_in": "1x1", "batch_norm_eps": 1e-6}, "stride_in='1x1', batch_norm_eps=1e-06"),
        ({"pool_padding": False}, "pool_padding=False; .*under encoder. and head."),
    ],
)
def test_what_torchvision_would_compute_otherwise_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        save_torchvision(tmp_path / "out.pth", small(**changes))
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_taken_or_no_weight_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.pth").write_text("mine")
    with pytest.raises(UserError, match="that name taken"):
        save_torchvision(tmp_path / "mine.pth", small())
    with pytest.raises(UserError, match=r"the ending '.onnx'; needed .safetensors or .pth"):
        save_torchvision(tmp_path / "mine.onnx", small())
    assert (tmp_path / "mine.pth").read_text() == "mine"
