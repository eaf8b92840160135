"""build: every conflict at once, no option without an effect, and back from its own JSON."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from ducseg.classes import CAMVID, CITYSCAPES
from ducseg.errors import UserError
from ducseg.models import Architecture, Preprocessing, Segmenter, build, build_architecture, generic_classes

SMALL: dict[str, Any] = {"encoder": "resnet50", "num_classes": 3, "output_stride": 8, "width": 4}


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"encoder": "alexnet"}, "encoder='alexnet' is not one of resnet18"),
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
        ({"dilation": "1,2,5"}, "rates for 1 stages"),
        ({"dilation": "1,2/1,2,3"}, "dilation of res4 has 2 rates for 23 blocks"),
        ({"dilation": "1 2/3"}, "as 1,2,5,9,1,2/5,9,17 (23 and 3 blocks here)"),
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
        ({"head": "fcn8s"}, "encoder='resnet101' is not for head='fcn8s': use vgg16 or vgg16_bn"),
        ({"encoder": "vgg16", "head": "fcn8s", "output_stride": 8}, "output_stride=8 is not for head='fcn8s': use 32"),
        ({"encoder": "vgg16", "head": "fcn8s", "aspp": 4}, "aspp=4 is not for head='fcn8s', which would ignore it"),
        ({"encoder": "vgg16", "output_stride": 16}, "res5, which has no convolution here: dilation='bigger', use"),
        ({"encoder": "vgg16", "batch_norm_eps": 1e-6}, "vgg16 would ignore it"),
    ],
)
def test_conflict_is_named(arguments: dict[str, Any], part: str) -> None:
    with pytest.raises(UserError) as caught:
        build(**arguments)
    assert part in str(caught.value)
    assert str(caught.value).count(";") == 0, "one mistake, one complaint"


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ({"classes": ["a", "b", "c"]}, "classes: found ['a', 'b', 'c']; needed a ClassSet."),
        ({"preprocessing": "imagenet"}, "preprocessing: found 'imagenet'; needed a Preprocessing."),
        ({"head": ["duc"]}, "head=['duc']"),
        ({"encoder": {}}, "encoder={}"),
    ],
)
def test_an_argument_of_another_type_is_named(wrong: dict[str, Any], part: str) -> None:
    with pytest.raises(UserError) as caught:
        build(**{**SMALL, **wrong})
    assert part in str(caught.value)


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
    described = json.loads(json.dumps(first.architecture.to_json()))
    again = build_architecture(Architecture.from_json(described))
    assert again.architecture == first.architecture and again.architecture.to_json() == described
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


NUMBERS = {"num_classes": 3, "output_stride": 16, "cell": 2, "aspp": 1, "width": 4}


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.int32])
def test_numbers_of_numpy_are_numbers(kind: type) -> None:
    dilation = (tuple(map(kind, (1, 2))), [kind(2), kind(5)])
    given = {name: kind(value) for name, value in NUMBERS.items()}
    found = build("resnet18", **given, batch_norm_eps=np.float32(0.125), dilation=dilation)  # type: ignore[arg-type]
    described = json.loads(json.dumps(found.architecture.to_json()))
    assert described | {**NUMBERS, "batch_norm_eps": 0.125, "dilation": [[1, 2], [2, 5]]} == described


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"num_classes": "3"}, "num_classes='3' is not a whole number"),
        ({"num_classes": True}, "num_classes=True is not a whole number"),
        ({"num_classes": 3.0}, "num_classes=3.0 is not a whole number"),
        ({"width": None}, "width=None is not a whole number"),
        ({"aspp": [4]}, r"aspp=[4] is not a whole number"),
        ({"encoder": 18}, "encoder=18 is not a name"),
        ({"head": None}, "head=None is not a name"),
        ({"pool_padding": 1}, "pool_padding=1 is not True or False"),
        ({"batch_norm_eps": "1e-5"}, "batch_norm_eps='1e-5' is not a number"),
        ({"batch_norm_eps": float("nan")}, "batch_norm_eps=nan is not above 0"),
        ({"batch_norm_eps": float("inf")}, "batch_norm_eps=inf is not above 0, and at most 1"),
        ({"aspp": 10**9}, "aspp=1000000000 is not in 0..32"),
        ({"width": 10**9}, "width=1000000000 is not in 1..1024"),
        ({"dilation": 3}, "dilation=3 is neither the name of a schedule"),
        ({"dilation": [1, 2]}, "dilation=(1, 2) is neither the name of a schedule"),
        ({"dilation": [["a", 2], [1, 2]]}, "rates that are no whole numbers"),
        ({"dilation": [[1.5, 2], [1, 2]]}, "rates that are no whole numbers"),
        ({"dilation": [[True, 2], [1, 2]]}, "rates that are no whole numbers"),
        ({"dilation": ["12", "12"]}, "rates that are no whole numbers"),
        ({"dilation": [[1, 10**9], [1, 2]]}, "a rate above 1024"),
    ],
)
def test_another_type_or_an_absurd_value_is_named(changes: dict[str, Any], part: str) -> None:
    with pytest.raises(UserError) as caught:
        build(**{"encoder": "resnet18", "num_classes": 3, **changes})
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("value", "part"), [(3, "found 3"), (["encoder"], "found"), ({"encoder": "resnet18", "colour": 1}, "found colour")]
)
def test_a_description_with_other_names_is_refused(value: object, part: str) -> None:
    with pytest.raises(UserError, match=part):
        Architecture.from_json(value)


def test_what_a_description_leaves_out_has_its_default() -> None:
    assert Architecture.from_json({"encoder": "resnet18"}) == Architecture(encoder="resnet18")


def test_means_and_deviations_may_be_numpys() -> None:
    values = tuple(np.array([1, 2, 3], np.float32))
    made = Preprocessing(mean=values, std=values)
    assert json.loads(json.dumps(made.to_json())) == {"mean": [1, 2, 3], "std": [1, 2, 3]}
