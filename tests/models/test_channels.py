"""Networks of other than three channels, and pictures of other than 8 bits: built, fed, weights widened, kept."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from ducseg.errors import UserError
from ducseg.models import Preprocessing, Segmenter, build
from ducseg.weights.checkpoint import load_segmenter, save_segmenter
from ducseg.weights.encoders import load_encoder
from ducseg.weights.torchvision import to_torchvision
from ducseg.weights.widening import spread_over

ENCODERS: dict[str, dict[str, Any]] = {
    "resnet18": {"encoder": "resnet18", "width": 64},
    "3x3 stem": {"encoder": "resnet18", "stem": "3x3"},
    "mobilenet_v2": {"encoder": "mobilenet_v2"},
    "efficientnet_lite0": {"encoder": "efficientnet_lite0"},
}
TIMM = {"timm": {"encoder": "timm:test_efficientnet"}, "timm's ConvNeXt": {"encoder": "timm:test_convnext"}}


def network(head: str = "pyramid", **arguments: Any) -> Segmenter:
    return build(head=head, num_classes=2, output_stride=32, aspp=0, dilation="none", **arguments).eval()


def check_widened(arguments: dict[str, Any], num_channels: int, folder: Path) -> None:
    """Weights of RGB in an encoder of C channels: the same features of a picture whose channels are all equal."""
    torch.manual_seed(0)
    rgb, wide = network(**arguments), network(num_channels=num_channels, **arguments)
    own = getattr(rgb.encoder, "network", rgb.encoder)
    torch.save(own.state_dict(), folder / "rgb.pth")
    before = wide.preprocessing
    report = load_encoder(wide, folder / "rgb.pth")
    assert len(report.widened) == 1 and "spread over the channels" in str(report)
    assert wide.preprocessing == before
    grey = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        wanted, found = rgb.encoder(grey.expand(1, 3, 64, 64)), wide.encoder(grey.expand(1, num_channels, 64, 64))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))
    assert wide(torch.randn(2, num_channels, 40, 70)).shape == (2, 2, 40, 70)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("num_channels", [1, 5])
def test_a_widened_encoder_sees_a_grey_picture_as_before(name: str, num_channels: int, tmp_path: Path) -> None:
    check_widened(ENCODERS[name], num_channels, tmp_path)


@pytest.mark.parametrize("name", TIMM)
@pytest.mark.parametrize("num_channels", [1, 5])
def test_so_does_one_of_timm(name: str, num_channels: int, timm: ModuleType, tmp_path: Path) -> None:
    check_widened(TIMM[name], num_channels, tmp_path)


def test_colours_go_round_the_channels() -> None:
    kernel = torch.tensor([3.0, 30.0, 300.0]).view(1, 3, 1, 1)
    assert spread_over(kernel, 5).flatten().tolist() == [1.5, 15, 300, 1.5, 15]
    assert spread_over(kernel, 2).flatten().tolist() == [166.5, 166.5]
    assert spread_over(kernel, 1).flatten().tolist() == [333]
    for channels in range(1, 17):
        assert float(spread_over(kernel, channels).sum()) == pytest.approx(333)


def test_weights_by_name_leave_the_measured_preprocessing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUCSEG_WEIGHTS", str(tmp_path))
    torch.save(network(encoder="mobilenet_v2").encoder.state_dict(), tmp_path / "mobilenet_v2.pth")
    for channels, dtype in ((5, "uint16"), (3, "uint16"), (1, "uint8")):
        measured = Preprocessing((7.0,) * channels, (2.0,) * channels, dtype)
        target = network(encoder="mobilenet_v2", num_channels=channels, preprocessing=measured)
        load_encoder(target, "imagenet")
        assert target.preprocessing == measured


@pytest.mark.parametrize("head", ["pyramid", "duc"])
def test_the_checkpoint_carries_channels_and_type(head: str, tmp_path: Path) -> None:
    measured = Preprocessing((1.0, -2.0), (0.5, 3.0), "float32")
    first = network(head, encoder="resnet18", width=4, num_channels=2, preprocessing=measured)
    save_segmenter(tmp_path / "checkpoint", first)
    again = load_segmenter(tmp_path / "checkpoint")
    assert again.preprocessing == measured and again.architecture.num_channels == 2
    images = torch.randn(1, 2, 33, 40)
    assert torch.equal(again(images), first(images))


def test_ordinary_networks_are_described_as_before() -> None:
    described = json.loads(json.dumps(network(encoder="resnet18", width=4).architecture.to_json()))
    assert "num_channels" not in described
    assert network(encoder="resnet18", width=4).preprocessing.to_json().keys() == {"mean", "std"}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_normalise_takes_each_type(dtype: str) -> None:
    pixels = torch.from_numpy(np.array([[10, 20, 200, 3]], dtype).reshape(1, 4, 1, 1))
    made = Preprocessing((10.0, 10.0, 100.0, 0.0), (1.0, 2.0, 50.0, 3.0), dtype)
    normalised = made.normalise(pixels)
    assert normalised.dtype == torch.float32 and normalised.flatten().tolist() == [0, 5, 2, 1]
    assert Preprocessing.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_the_mean_is_a_pixel_of_the_type() -> None:
    assert Preprocessing((70000.0, 3.6), (1.0, 1.0), "uint16").mean_colour == (65535, 4)
    assert Preprocessing((-0.25,), (1.0,), "float32").mean_colour == (-0.25,)


@pytest.mark.parametrize(
    ("mean", "std", "dtype"),
    [((), (), "uint8"), ((1.0,) * 17, (1.0,) * 17, "uint8"), ((1.0, 2.0), (1.0,), "uint8"), ((1.0,), (1.0,), "int16"),
     ((1e7,), (1.0,), "uint16"), ((float("nan"),), (1.0,), "float32")],
)  # fmt: skip
def test_what_no_preprocessing_can_be(mean: tuple[float, ...], std: tuple[float, ...], dtype: str) -> None:
    with pytest.raises(UserError, match="one value each for every channel"):
        Preprocessing(mean, std, dtype)


def test_channels_that_do_not_fit_are_named() -> None:
    with pytest.raises(UserError, match=r"num_channels=17 is not in 1\.\.16"):
        build("resnet18", num_channels=17)
    with pytest.raises(UserError, match="found 3 values; needed num_channels=5 of them"):
        build("resnet18", num_channels=5, preprocessing=Preprocessing((1.0,) * 3, (1.0,) * 3))
    with pytest.raises(UserError, match="num_channels=5"):
        to_torchvision(network(encoder="resnet18", num_channels=5))
