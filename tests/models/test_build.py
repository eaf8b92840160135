"""build: every conflict at once, no option without an effect, and back from its own JSON."""

import json
from typing import Any

import pytest
import torch

from ducseg.classes import CAMVID, CITYSCAPES
from ducseg.errors import UserError
from ducseg.models import Preprocessing, Segmenter, build, generic_classes

SMALL: dict[str, Any] = {"encoder": "resnet50", "num_classes": 3, "output_stride": 8, "width": 4}


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"encoder": "vgg16"}, "encoder='vgg16' is not one of resnet18"),
        ({"head": "psp"}, "head='psp' is not one of bilinear, duc"),
        ({"output_stride": 12}, "output_stride=12 is not one of 32, 16, 8, 4"),
        ({"stem": "5x5"}, "stem='5x5'"),
        ({"stride_in": "2x2"}, "stride_in='2x2'"),
        ({"num_classes": 0}, "num_classes=0"),
        ({"num_classes": 256}, "num_classes=256"),
        ({"classes": CAMVID}, "num_classes=19 but classes names 11: pass num_classes=11"),
        ({"aspp": -1}, "aspp=-1"),
        ({"cell": 0}, "cell=0"),
        ({"cell": 3}, "cell=3 does not divide output_stride=8"),
        ({"cell": 8}, "leaves DUC nothing to upsample"),
        ({"cell": 2, "head": "bilinear"}, "head='bilinear', which would ignore it"),
        ({"cell": 3, "head": "deconv"}, "does not divide"),
        ({"dilation": "sawtooth"}, "dilation='sawtooth' is not one of none"),
        ({"output_stride": 32}, "dilation='bigger' would do nothing"),
        ({"dilation": ((1, 2),)}, "rates for 1 stages"),
        ({"dilation": ((1, 2), (1, 2, 3))}, "dilation of res4 has 2 rates for 23 blocks"),
        ({"encoder": "resnet18", "dilation": ((1, 0), (1, 2))}, "rate below 1"),
        ({"encoder": "mobilenet_v2", "stem": "3x3"}, "mobilenet_v2 would ignore it"),
        ({"encoder": "mobilenet_v2", "stride_in": "1x1"}, "mobilenet_v2 would ignore it"),
        ({"encoder": "mobilenet_v2", "pool_padding": False}, "mobilenet_v2 would ignore it"),
        ({"encoder": "mobilenet_v2", "width": 32}, "mobilenet_v2 would ignore it"),
        ({"encoder": "resnet34", "stride_in": "1x1"}, "resnet34 has no 1x1 convolution"),
        ({"pool_padding": False, "output_stride": 4}, "one place short"),
        ({"batch_norm_eps": 0.0}, "batch_norm_eps=0.0"),
        ({"width": 0}, "width=0"),
    ],
)
def test_conflict_is_named(arguments: dict[str, Any], part: str) -> None:
    with pytest.raises(UserError) as caught:
        build(**arguments)
    assert part in str(caught.value)
    assert str(caught.value).count(";") == 0, "one mistake, one complaint"


def test_all_conflicts_come_in_one_message() -> None:
    with pytest.raises(UserError) as caught:
        build(encoder="resnet18", head="bilinear", cell=2, stride_in="1x1", aspp=-1, dilation="wrong")
    for name in ("cell=2", "stride_in='1x1'", "aspp=-1", "dilation='wrong'"):
        assert name in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"head": "bilinear"},
        {"head": "deconv"},
        {"num_classes": 4},
        {"output_stride": 16},
        {"cell": 2},
        {"aspp": 0},
        {"aspp": 6},
        {"dilation": "none"},
        {"dilation": ((1,) * 6, (2, 2, 2))},
        {"stem": "3x3"},
        {"stride_in": "1x1"},
        {"pool_padding": False},
        {"batch_norm_eps": 1e-1},
        {"width": 8},
    ],
)
def test_every_option_changes_the_function(change: dict[str, Any]) -> None:
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def output(arguments: dict[str, Any]) -> torch.Tensor:
        torch.manual_seed(0)
        return build(**arguments).eval()(images)

    before, after = output(SMALL), output(SMALL | change)
    assert torch.equal(before, output(SMALL))
    assert before.shape != after.shape or not torch.allclose(before, after, rtol=1e-3)


def test_architecture_survives_json_and_builds_the_same() -> None:
    first = build(**SMALL, dilation=((1, 2, 5, 9, 1, 2), (5, 9, 17)), cell=2, head="duc")
    again = build(**json.loads(json.dumps(first.architecture)))
    assert again.architecture == first.architecture == json.loads(json.dumps(first.architecture))
    assert again.encoder.rates == first.encoder.rates
    again.load_state_dict(first.state_dict())
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(again.eval()(images), first.eval()(images))


def test_classes_and_preprocessing_are_carried() -> None:
    authors = Preprocessing(mean=(122.675, 116.669, 104.008), std=(1.0, 1.0, 1.0))
    segmenter = build(**{**SMALL, "num_classes": 19}, classes=CITYSCAPES, preprocessing=authors)
    assert isinstance(segmenter, Segmenter)
    assert segmenter.classes is CITYSCAPES and segmenter.preprocessing is authors
    assert authors.mean_colour == (123, 117, 104)


@pytest.mark.parametrize("count", [1, 2, 11, 255])
def test_generic_classes_have_distinct_colours(count: int) -> None:
    classes = generic_classes(count)
    assert len(classes) == len(set(classes.palette)) == count


def test_preprocessing_refuses_a_zero_std() -> None:
    with pytest.raises(UserError, match="std above 0"):
        Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 0.0, 1.0))


def test_normalise_is_per_channel_on_the_255_scale() -> None:
    images = torch.tensor([10, 20, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    normalised = Preprocessing(mean=(10.0, 10.0, 5.0), std=(1.0, 2.0, 50.0)).normalise(images)
    assert normalised.dtype == torch.float32
    assert normalised.flatten().tolist() == [0.0, 5.0, 5.0]
