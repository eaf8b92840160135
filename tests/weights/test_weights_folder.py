"""DUCSEG_WEIGHTS: names are looked for in one's own folder first, and the report says what was taken."""

from pathlib import Path
from types import ModuleType
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file

from ducseg.errors import UserError
from ducseg.models import IMAGENET, Segmenter, build
from ducseg.train.config import ModelConfig
from ducseg.train.setup import build_network
from ducseg.weights.encoders import WeightsUnavailable, load_encoder


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("no network")

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)


def small(encoder: str, **changes: Any) -> Segmenter:
    options = {"head": "bilinear", "num_classes": 3, "aspp": 0, "output_stride": 32, "dilation": "none", **changes}
    return build(encoder, **options)


@pytest.mark.parametrize(
    ("encoder", "file"),
    [
        ("mobilenet_v2", "mobilenet_v2-imagenet"),
        ("resnet18", "resnet18-imagenet-layers1to3"),
        ("efficientnet_lite0", "tf_efficientnet_lite0-imagenet"),
        ("efficientnet_lite2", "tf_efficientnet_lite2-imagenet"),
    ],
)
def test_the_shared_folder_as_it_is(shared: Path, monkeypatch: pytest.MonkeyPatch, encoder: str, file: str) -> None:
    monkeypatch.setenv("DUCSEG_WEIGHTS", str(shared / "weights"))
    segmenter = small(encoder)
    expected = segmenter.preprocessing
    report = load_encoder(segmenter, "imagenet")
    stored, own = load_file(shared / "weights" / f"{file}.safetensors"), segmenter.encoder.state_dict()
    assert all(torch.equal(own[key], stored[key]) for key in own if key in stored)
    assert segmenter.preprocessing == expected
    assert f"imagenet: {shared / 'weights' / file}.safetensors (DUCSEG_WEIGHTS)" in str(report)
    fresh = {key.rsplit(".", 1)[0] for key in report.missing}
    parts = {f"layer4.{block}.{part}" for block in (0, 1) for part in ("conv1", "bn1", "conv2", "bn2")}
    assert fresh == (parts if encoder == "resnet18" else set())
    assert ("20 tensors start fresh: layer4.0.bn1.bias, " in str(report)) == (encoder == "resnet18")


@pytest.mark.parametrize("source", ["imagenet", "timm:tf_efficientnet_lite0.in1k"])
@pytest.mark.parametrize("encoder", ["timm:tf_efficientnet_lite0", "timm:tf_efficientnet_lite0.in1k"])
def test_timms_own_network_takes_it_too(
    timm: ModuleType, shared: Path, monkeypatch: pytest.MonkeyPatch, encoder: str, source: str
) -> None:
    monkeypatch.setenv("DUCSEG_WEIGHTS", str(shared / "weights"))
    segmenter = small(encoder)
    report = load_encoder(segmenter, source)
    assert report.missing == () and "tf_efficientnet_lite0-imagenet.safetensors" in str(report)
    assert segmenter.preprocessing.mean == segmenter.preprocessing.std == (127.5,) * 3


def test_training_says_which_file_it_took(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUCSEG_WEIGHTS", str(shared / "weights"))
    config = ModelConfig(encoder="mobilenet_v2", head="bilinear", aspp=0, weights="imagenet")
    line = build_network(config, small("mobilenet_v2").classes).line
    assert line.startswith("weights: encoder from imagenet: ") and line.endswith(
        "mobilenet_v2-imagenet.safetensors (DUCSEG_WEIGHTS)"
    )


@pytest.mark.parametrize(
    ("files", "taken"),
    [
        (["resnet18.pth"], "resnet18.pth"),
        (["resnet18-f37072fd.pth", "resnet18d.pth", "resnet18.txt"], "resnet18-f37072fd.pth"),
        (["resnet18-b.safetensors", "resnet18-a.safetensors"], "resnet18-a.safetensors"),
        (["resnet18.a1_in1k.safetensors"], "resnet18.a1_in1k.safetensors"),
        (["resnet18s.pth", "my-resnet18.pth"], None),
        ([], None),
    ],
)
def test_files_are_found_by_the_networks_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], taken: str | None
) -> None:
    monkeypatch.setenv("DUCSEG_WEIGHTS", str(tmp_path))
    source = small("resnet18")
    for name in files:
        tensors = dict(source.encoder.state_dict())
        save_file(tensors, tmp_path / name) if name.endswith("safetensors") else torch.save(tensors, tmp_path / name)
    target = small("resnet18")
    if taken is None:
        with pytest.raises(WeightsUnavailable, match="resnet18-f37072fd"):
            load_encoder(target, "imagenet")
    else:
        assert f"{tmp_path / taken} (DUCSEG_WEIGHTS)" in load_encoder(target, "imagenet").source


def test_a_file_of_another_network_is_refused_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUCSEG_WEIGHTS", str(tmp_path))
    save_file(dict(small("resnet34").encoder.state_dict()), tmp_path / "resnet18.safetensors")
    with pytest.raises(UserError, match="no such tensor in resnet18"):
        load_encoder(small("resnet18"), "imagenet")


def test_a_folder_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUCSEG_WEIGHTS", str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="DUCSEG_WEIGHTS: found no folder"):
        load_encoder(small("resnet18"), "imagenet")


@pytest.mark.parametrize(
    ("encoder", "source"),
    [
        ("resnet18", "imagenet"),
        ("mobilenet_v2", "imagenet"),
        ("efficientnet_lite0", "imagenet"),
        ("resnet18", "timm:resnet18.tv_in1k"),
        ("efficientnet_lite1", "timm:tf_efficientnet_lite1.in1k"),
    ],
)
def test_a_name_that_nobody_has_can_be_caught(encoder: str, source: str) -> None:
    segmenter = small(encoder)
    before = {key: value.clone() for key, value in segmenter.state_dict().items()}
    with pytest.raises(WeightsUnavailable, match=r"a download that failed .*DUCSEG_WEIGHTS"):
        load_encoder(segmenter, source)
    assert all(torch.equal(value, before[key]) for key, value in segmenter.state_dict().items())
    assert segmenter.preprocessing == (segmenter.preprocessing if "lite" in encoder else IMAGENET)


def test_a_mistake_is_another_error_than_a_missing_network() -> None:
    with pytest.raises(UserError) as caught:
        load_encoder(small("resnet18", stem="3x3"), "imagenet")
    assert not isinstance(caught.value, WeightsUnavailable)
