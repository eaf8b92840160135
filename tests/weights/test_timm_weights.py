"""timm's weights in our ResNets with the paper's stem and in encoders of timm: by name and by path, checked."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file
from torch import Tensor, nn

from ducseg.errors import UserError
from ducseg.models import IMAGENET, Preprocessing, Segmenter, build
from ducseg.train.config import ModelConfig
from ducseg.train.setup import build_network
from ducseg.weights.checkpoint import read_model_json, save_segmenter
from ducseg.weights.encoders import load_encoder

Publish = Callable[..., Path]


@pytest.fixture()
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """A Hub in a folder: what is published under a name is what hf_hub_download finds."""

    def download(repository: str, file: str) -> str:
        path = tmp_path / "hub" / repository / file
        if not path.is_file():
            raise LocalEntryNotFoundError("no such file")
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)

    def put(name: str, tensors: dict[str, Tensor], config: str | None = None) -> Path:
        folder = tmp_path / "hub" / "timm" / name
        folder.mkdir(parents=True)
        save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "model.safetensors")
        described = {"pretrained_cfg": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}}
        (folder / "config.json").write_text(json.dumps(described) if config is None else config)
        return folder / "model.safetensors"

    return put


def small(**changes: Any) -> Segmenter:
    return build(**{"encoder": "resnet18", "head": "bilinear", "num_classes": 3, "aspp": 0, **changes})


def file_of(encoder: nn.Module) -> dict[str, Tensor]:
    return {**encoder.state_dict(), "fc.weight": torch.zeros(1000, 8), "fc.bias": torch.zeros(1000)}


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


@torch.no_grad()
@pytest.mark.parametrize("encoder", ["resnet50", "resnet101", pytest.param("resnet152", marks=pytest.mark.slow)])
def test_the_papers_stem_equals_timms_network(timm: ModuleType, publish: Publish, encoder: str) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model(f"{encoder}s").eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    publish(f"{encoder}s.gluon_in1k", theirs.state_dict())
    ours = small(encoder=encoder, stem="3x3", output_stride=32, dilation="none").eval()
    report = load_encoder(ours, f"timm:{encoder}s.gluon_in1k")
    assert report.missing == () and report.unused == ("fc.bias", "fc.weight")
    images = torch.randn(1, 3, 64, 96)
    assert torch.equal(ours.encoder(images), theirs.forward_features(images))


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_an_encoder_of_timm_takes_its_own_weights(timm: ModuleType, publish: Publish, name: str) -> None:
    theirs = timm.create_model(name).eval()
    path = publish(f"{name}.r160_in1k", theirs.state_dict())
    images = torch.randn(1, 3, 64, 96)
    expected = theirs.forward_intermediates(images, intermediates_only=True)[-1]
    for source in ("imagenet", f"timm:{name}.r160_in1k", path):
        ours = small(encoder=f"timm:{name}", output_stride=32, dilation="none").eval()
        report = load_encoder(ours, source)
        assert torch.equal(ours.encoder(images), expected)
        assert (
            report.missing == ()
            and set(report.unused) == theirs.state_dict().keys() - ours.encoder.network.state_dict().keys()
        )


def test_tensors_must_fit(timm: ModuleType, tmp_path: Path) -> None:
    tensors = timm.create_model("test_resnet").state_dict()
    missing = tensors.pop("layer4.0.conv1.weight")
    save_file(tensors, tmp_path / "part.safetensors")
    ours = small(encoder="timm:test_resnet", output_stride=32, dilation="none")
    with pytest.raises(UserError, match=r"no layer4\.0\.conv1\.weight; needed all of timm:test_resnet"):
        load_encoder(ours, tmp_path / "part.safetensors")
    assert load_encoder(ours, tmp_path / "part.safetensors", allow_missing=True).missing == ("layer4.0.conv1.weight",)
    save_file(
        {**tensors, "layer4.0.conv1.weight": missing[:1].clone(), "extra": missing}, tmp_path / "wrong.safetensors"
    )
    with pytest.raises(UserError, match=r"layer4\.0\.conv1\.weight .* is needed, extra .no such tensor"):
        load_encoder(ours, tmp_path / "wrong.safetensors", allow_missing=True)


def test_preprocessing_comes_with_the_name(publish: Publish, tmp_path: Path) -> None:
    source = small()
    halves = json.dumps({"pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}})
    path = publish("resnet18.tv_in1k", file_of(source.encoder), halves)
    target = small()
    load_encoder(target, path)
    assert same(target.encoder, source.encoder) and target.preprocessing == IMAGENET, "a file does not tell"
    load_encoder(target, "timm:resnet18.tv_in1k")
    assert target.preprocessing == Preprocessing(mean=(127.5,) * 3, std=(63.75,) * 3)
    save_segmenter(tmp_path / "checkpoint", target)
    assert read_model_json(tmp_path / "checkpoint")["preprocessing"] == {"mean": [127.5] * 3, "std": [63.75] * 3}


def test_training_starts_from_them(publish: Publish) -> None:
    source = small()
    publish("resnet18.tv_in1k", file_of(source.encoder))
    config = ModelConfig(encoder="resnet18", head="bilinear", aspp=0, weights="timm:resnet18.tv_in1k")
    started, line, _ = build_network(config, source.classes)
    assert same(started.encoder, source.encoder) and line == "weights: encoder from timm:resnet18.tv_in1k"


@pytest.mark.usefixtures("timm")
def test_training_starts_an_encoder_of_timm(publish: Publish) -> None:
    source = small(encoder="timm:test_resnet")
    publish("test_resnet.r160_in1k", source.encoder.network.state_dict())  # type: ignore[union-attr]
    config = ModelConfig(encoder="timm:test_resnet", head="bilinear", aspp=0, weights="imagenet")
    started, line, _ = build_network(config, source.classes)
    assert same(started.encoder, source.encoder) and line == "weights: encoder from imagenet"


@pytest.mark.parametrize(
    ("changes", "name", "message"),
    [
        (
            {},
            "resnetaa18.x",
            "found encoder='resnet18', stem='7x7'; .*timm:resnet18.tv_in1k. Use encoder='timm:resnetaa18'",
        ),
        ({}, "resnet50.tv_in1k", "Use encoder='resnet50', stem='7x7'"),
        ({"encoder": "resnet101"}, "resnet101s.gluon_in1k", "Use encoder='resnet101', stem='3x3'"),
        ({"encoder": "resnet101", "stem": "3x3"}, "resnet101.tv_in1k", "as in timm:resnet101s.gluon_in1k"),
        ({}, "resnet18", "a tag behind its name, as in timm:resnet18.tv_in1k"),
        ({}, "../resnet18.tv_in1k", "a tag behind its name"),
        ({"batch_norm_eps": 1e-6}, "resnet18.tv_in1k", "batch_norm_eps=1e-06"),
        ({"pool_padding": False}, "resnet18.tv_in1k", "pool_padding=False"),
        ({"encoder": "mobilenet_v2"}, "mobilenetv2_100.ra_in1k", "Use encoder='timm:mobilenetv2_100'"),
    ],
)
def test_names_of_other_networks_are_refused(
    publish: Publish, changes: dict[str, Any], name: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load_encoder(small(**changes), f"timm:{name}")


@pytest.mark.usefixtures("timm")
def test_an_encoder_without_weights_says_so(publish: Publish) -> None:
    segmenter = small(encoder="timm:test_byobnet", output_stride=32, dilation="none")
    segmenter.encoder.network.pretrained_cfg["hf_hub_id"] = None  # type: ignore[union-attr]
    with pytest.raises(UserError, match="found none on the Hub"):
        load_encoder(segmenter, "imagenet")


@pytest.mark.parametrize("config", ["", "[]", "{}", '{"pretrained_cfg": {"mean": [0.5], "std": [0.5]}}'])
def test_a_broken_description_is_refused_and_nothing_is_loaded(publish: Publish, config: str) -> None:
    publish("resnet18.tv_in1k", file_of(small().encoder), config)
    target = small()
    before = {key: value.clone() for key, value in target.encoder.state_dict().items()}
    with pytest.raises(UserError, match=r"config\.json that does not read"):
        load_encoder(target, "timm:resnet18.tv_in1k")
    assert all(torch.equal(value, before[key]) for key, value in target.encoder.state_dict().items())


def test_no_network_says_how_to_go_on(publish: Publish) -> None:
    with pytest.raises(
        UserError, match=r"a download that failed .*https://huggingface.co/timm/resnet18.tv_in1k.*its path"
    ):
        load_encoder(small(), "timm:resnet18.tv_in1k")
