"""ImageNet files by path and by name: strict but for the classifier, and what is missing is said."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ducseg.errors import UserError
from ducseg.models import Preprocessing, Segmenter, build
from ducseg.models.resnet import RESNETS
from ducseg.models.vgg import VGGS
from ducseg.train.config import ModelConfig
from ducseg.train.setup import build_network
from ducseg.weights.checkpoint import read_model_json, save_segmenter
from ducseg.weights.encoders import IMAGENET_URLS, load_encoder


def small(**changes: Any) -> Segmenter:
    return build(**{"encoder": "resnet18", "num_classes": 3, "aspp": 0, "width": 4, "head": "bilinear", **changes})


def classifier_file(segmenter: Segmenter) -> dict[str, Tensor]:
    """What torchvision's file of this encoder would hold, with the encoder's own random weights."""
    tensors = {key: value.clone() for key, value in segmenter.encoder.state_dict().items()}
    prefix = "classifier.1" if segmenter.architecture.encoder == "mobilenet_v2" else "fc"
    return {**tensors, f"{prefix}.weight": torch.zeros(1000, 8), f"{prefix}.bias": torch.zeros(1000)}


def same_encoder(one: Segmenter, other: Segmenter) -> bool:
    return all(map(torch.equal, one.encoder.state_dict().values(), other.encoder.state_dict().values()))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_loads_strictly_but_for_the_classifier(tmp_path: Path, suffix: str) -> None:
    source, target = small(), small()
    path = tmp_path / f"resnet18{suffix}"
    tensors = classifier_file(source)
    save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)
    assert not same_encoder(source, target)
    report = load_encoder(target, path)
    assert same_encoder(source, target)
    assert report.missing == () and report.unused == ("fc.bias", "fc.weight")


def test_training_from_a_file_records_torchvisions_preprocessing(tmp_path: Path) -> None:
    source = small(width=64)
    save_file(classifier_file(source), tmp_path / "resnet18.safetensors")
    path = str(tmp_path / "resnet18.safetensors")
    config = ModelConfig(encoder="resnet18", head="bilinear", aspp=0, weights=path)
    started, line, _ = build_network(config, source.classes)
    assert same_encoder(source, started) and line == f"weights: encoder from {path}"
    save_segmenter(tmp_path / "checkpoint", started)
    recorded = read_model_json(tmp_path / "checkpoint")["preprocessing"]
    assert recorded == {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}


def test_files_older_than_the_batch_counter_load(tmp_path: Path) -> None:
    tensors = {key: value for key, value in classifier_file(small()).items() if "num_batches" not in key}
    save_file(tensors, tmp_path / "old.safetensors")
    assert load_encoder(small(), tmp_path / "old.safetensors").missing == ()


def test_missing_tensors_must_be_allowed(tmp_path: Path) -> None:
    source, target = small(), small()
    tensors = classifier_file(source)
    del tensors["layer4.0.conv1.weight"]
    save_file(tensors, tmp_path / "part.safetensors")
    before = {key: value.clone() for key, value in target.encoder.state_dict().items()}
    with pytest.raises(UserError, match=r"no layer4.0.conv1.weight; .*allow-missing-weights"):
        load_encoder(target, tmp_path / "part.safetensors")
    assert all(torch.equal(value, before[key]) for key, value in target.encoder.state_dict().items())
    report = load_encoder(target, tmp_path / "part.safetensors", allow_missing=True)
    assert report.missing == ("layer4.0.conv1.weight",)
    assert torch.equal(target.encoder.state_dict()["layer4.0.conv1.weight"], before["layer4.0.conv1.weight"])
    assert torch.equal(target.encoder.state_dict()["conv1.weight"], tensors["conv1.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv1.weight": torch.zeros(4, 3, 3, 3)}, r"conv1.weight \(4, 3, 3, 3\) where \(4, 3, 7, 7\) is needed"),
        ({"layer5.0.weight": torch.zeros(1)}, "layer5.0.weight .no such tensor in resnet18"),
    ],
)
def test_what_does_not_fit_is_refused_even_if_missing_is_allowed(
    tmp_path: Path, change: dict[str, Tensor], message: str
) -> None:
    save_file({**classifier_file(small()), **change}, tmp_path / "wrong.safetensors")
    with pytest.raises(UserError, match=message):
        load_encoder(small(), tmp_path / "wrong.safetensors", allow_missing=True)


def test_a_file_with_nothing_of_the_encoder_is_refused(tmp_path: Path) -> None:
    save_file({"fc.bias": torch.zeros(3)}, tmp_path / "head.safetensors")
    with pytest.raises(UserError, match="none of the encoder's tensors"):
        load_encoder(small(), tmp_path / "head.safetensors", allow_missing=True)


class _Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("executed"),))


@pytest.mark.parametrize("name", ["absent.pth", "text.pth", "text.safetensors", "pickle.pth", "list.pth", "cut.pth"])
def test_what_is_no_weight_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    for suffix in ("pth", "safetensors"):
        (tmp_path / f"text.{suffix}").write_text("<html>404</html>")
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps(_Payload(), protocol=2))
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    torch.save(classifier_file(small()), tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:5000])
    with pytest.raises(UserError, match=f"weights {name}"):
        load_encoder(small(), Path(name), allow_missing=True)
    assert not (tmp_path / "executed").exists()


@pytest.fixture()
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    return tmp_path / "cache"


def publish(folder: Path, segmenter: Segmenter, digest: str | None = None) -> dict[str, str]:
    torch.save(classifier_file(segmenter), folder / "made.pth")
    digest = digest or hashlib.sha256((folder / "made.pth").read_bytes()).hexdigest()[:8]
    named = (folder / "made.pth").rename(folder / f"encoder-{digest}.pth")
    return {segmenter.architecture.encoder: named.as_uri()}


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2"])
def test_imagenet_by_name_is_downloaded_once_and_checked(
    tmp_path: Path, cache: Path, capfd: pytest.CaptureFixture[str], encoder: str
) -> None:
    changes = {"encoder": encoder, "width": 64}
    source, target = small(**changes), small(**changes)
    urls = publish(tmp_path, source)
    load_encoder(target, "imagenet", urls=urls)
    assert same_encoder(source, target)
    assert "100%" in capfd.readouterr().err, "a progress bar"
    next(tmp_path.glob("encoder-*.pth")).unlink()
    again = small(**changes)
    load_encoder(again, "imagenet", urls=urls)  # from the cache
    assert same_encoder(source, again)
    assert len(list(cache.rglob("*.pth"))) == 1


def test_a_download_with_the_wrong_hash_is_refused(tmp_path: Path, cache: Path) -> None:
    segmenter = small(width=64)
    with pytest.raises(UserError, match="invalid hash value"):
        load_encoder(segmenter, "imagenet", urls=publish(tmp_path, segmenter, digest="0badc0de"))
    assert not list(cache.rglob("*.pth"))


def test_no_network_says_how_to_go_on(tmp_path: Path, cache: Path) -> None:
    url = (tmp_path / "nothing-00000000.pth").as_uri()
    with pytest.raises(UserError, match=r"a download that failed .* by other means"):
        load_encoder(small(width=64), "imagenet", urls={"resnet18": url})


def test_every_encoder_has_an_address_with_a_hash() -> None:
    assert set(IMAGENET_URLS) == {*RESNETS, *VGGS, "mobilenet_v2"}
    for encoder, url in IMAGENET_URLS.items():
        assert torch.hub.HASH_REGEX.search(url) and f"/{encoder}-" in url


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "resnet50", "stride_in": "1x1"}, "stride_in='1x1'"),
        ({"stem": "3x3"}, "stem='3x3'"),
        ({"pool_padding": False}, "pool_padding=False"),
        ({"batch_norm_eps": 1e-6}, "batch_norm_eps=1e-06"),
        ({"width": 4}, "width=4"),
        ({"preprocessing": Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))}, "preprocessing mean"),
    ],
)
def test_imagenet_by_name_is_for_torchvisions_own_network(cache: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_encoder(small(**{"width": 64, **changes}), "imagenet", urls={})


def test_the_resnet18_file_lacks_the_kernels_of_res5(shared: Path) -> None:
    segmenter = build("resnet18", num_classes=11, aspp=0)
    path = shared / "weights" / "resnet18-imagenet-layers1to3.safetensors"
    with pytest.raises(UserError, match=r"no layer4.0.bn1.bias, .*layer4.1.conv2.weight; needed all of resnet18"):
        load_encoder(segmenter, path)
    report = load_encoder(segmenter, path, allow_missing=True)
    assert {key.rsplit(".", 1)[0] for key in report.missing} == {
        f"layer4.{block}.{part}" for block in (0, 1) for part in ("conv1", "bn1", "conv2", "bn2")
    }
    assert report.unused == ()
    state = segmenter.encoder.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in load_file(path).items())
    fresh = state["layer4.1.conv2.weight"]
    assert fresh.std().item() == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.01)


def test_the_mobilenet_file_is_complete(shared: Path) -> None:
    segmenter = build("mobilenet_v2", num_classes=11, aspp=0)
    report = load_encoder(segmenter, shared / "weights" / "mobilenet_v2-imagenet.safetensors")
    assert report.missing == () and all(key.startswith("features.18.") for key in report.unused)


@torch.no_grad()
@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2"])
def test_imagenet_features_with_a_fresh_head_start_near_log_of_the_class_count(shared: Path, encoder: str) -> None:
    name = {"resnet18": "resnet18-imagenet-layers1to3", "mobilenet_v2": "mobilenet_v2-imagenet"}[encoder]
    for head in ("bilinear", "duc", "deconv", "deconv2"):
        segmenter = build(encoder, head, 11, aspp=0).eval()
        load_encoder(segmenter, shared / "weights" / f"{name}.safetensors", allow_missing=True)
        images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
        scores = segmenter.folded(segmenter.preprocessing.normalise(images))
        targets = torch.randint(0, 11, (1, *scores.shape[2:]))
        loss = torch.nn.functional.cross_entropy(scores, targets).item()
        assert loss == pytest.approx(torch.tensor(11.0).log().item(), rel=0.05), head
