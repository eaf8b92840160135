"""One suite for every kind of segmenter: a variant is a subclass that names its arguments of `build`."""

import math
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ducseg.models import COMPARISONS, Segmenter, build
from ducseg.weights.checkpoint import load_segmenter, save_segmenter


def check_one_graph(segmenter: Segmenter) -> None:
    images = torch.randn(1, 3, 48, 56)
    torch.compiler.reset()
    compiled = torch.compile(segmenter.eval().folded, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(images), segmenter.folded(images))


class VariantSuite:
    """What holds for all; `arguments` is what the variant changes of a narrow ResNet-18-DUC."""

    arguments: ClassVar[dict[str, Any]] = {}
    starts_at_zero: ClassVar[bool] = False
    """Score layers start at 0, as their authors have it: what is before them learns from the next step on."""
    first_spread: ClassVar[float] = 0.0
    """Standard deviation of the first scores."""

    @pytest.fixture()
    def segmenter(self) -> Segmenter:
        torch.manual_seed(0)
        toy = {"encoder": "resnet18", "width": 8, "num_classes": 7, "dilation": "dilated"}
        if self.arguments.get("encoder", "resnet18")[:6] != "resnet":
            del toy["width"]
        if self.arguments.get("head") in COMPARISONS:
            del toy["dilation"]
        return build(**{**toy, **self.arguments})

    @pytest.mark.parametrize(("height", "width"), [(64, 96), (33, 47), (3, 5)])
    def test_forward(self, segmenter: Segmenter, height: int, width: int) -> None:
        with torch.inference_mode():
            scores = segmenter.eval()(torch.randn(2, 3, height, width))
        assert scores.shape == (2, 7, height, width) and scores.isfinite().all()

    def test_every_parameter_gets_a_gradient(self, segmenter: Segmenter) -> None:
        if self.starts_at_zero:
            for parameter in segmenter.head.parameters():
                nn.init.normal_(parameter, std=0.1) if not parameter.any() else None
        outputs = segmenter.train().supervised(torch.randn(2, 3, 64, 96))
        sum(output.square().sum() for output in outputs).backward()
        for name, parameter in segmenter.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name

    def test_loss_starts_near_log_of_the_class_count(self, segmenter: Segmenter) -> None:
        scores = segmenter.train().folded(torch.randn(2, 3, 64, 96))
        targets = torch.randint(0, 7, (2, *scores.shape[2:]))
        excess = F.cross_entropy(scores, targets).item() - math.log(7)
        assert -0.1 < excess < 0.1 + self.first_spread**2 / 2  # what scores that know nothing cost on average

    def test_save_and_load(self, segmenter: Segmenter, tmp_path: Path) -> None:
        images = torch.randn(1, 3, 40, 48)
        segmenter.train().folded(images)  # moves the running statistics off their defaults
        save_segmenter(tmp_path / "checkpoint", segmenter)
        again = load_segmenter(tmp_path / "checkpoint")
        with torch.inference_mode():
            assert torch.equal(again(images), segmenter.eval()(images))
        assert again.architecture == segmenter.architecture and again.classes == segmenter.classes
        assert again.preprocessing == segmenter.preprocessing

    @pytest.mark.slow()
    def test_compiles_to_one_graph(self, segmenter: Segmenter) -> None:
        check_one_graph(segmenter)


class TestBilinear(VariantSuite):
    arguments: ClassVar = {"head": "bilinear"}


class TestDuc(VariantSuite):
    arguments: ClassVar = {"head": "duc", "cell": 1}


class TestDucCell2Stride16(VariantSuite):
    arguments: ClassVar = {"head": "duc", "cell": 2, "output_stride": 16}


class TestDucStride4(VariantSuite):
    arguments: ClassVar = {"head": "duc", "output_stride": 4}


class TestDucWithoutAspp(VariantSuite):
    arguments: ClassVar = {"head": "duc", "aspp": 0}


class TestDeconvolution(VariantSuite):
    arguments: ClassVar = {"head": "deconv"}


class TestDeconvolutionInTwoSteps(VariantSuite):
    arguments: ClassVar = {"head": "deconv2", "aspp": 0}


class TestBottlenecks(VariantSuite):
    arguments: ClassVar = {"encoder": "resnet50", "dilation": "bigger"}


class TestReleasedNetwork(VariantSuite):
    """The authors' network (three 3x3, stride in the 1x1, unpadded pooling, eps 1e-6) on 50 layers."""

    arguments: ClassVar = {
        "encoder": "resnet50", "cell": 2, "stem": "3x3", "dilation": "released", "stride_in": "1x1",
        "pool_padding": False, "batch_norm_eps": 1e-6,
    }  # fmt: skip


class TestUndilated(VariantSuite):
    arguments: ClassVar = {"encoder": "resnet34", "output_stride": 32, "dilation": "none", "cell": 4, "aspp": 0}


class TestMobileNet(VariantSuite):
    arguments: ClassVar = {"encoder": "mobilenet_v2", "dilation": "bigger", "cell": 2}


class TestPyramid(VariantSuite):
    first_spread = 1.0
    arguments: ClassVar = {"head": "pyramid", "output_stride": 32, "dilation": "none", "aspp": 0}


class TestPyramidOfMobileNetStride8(VariantSuite):
    first_spread = 1.0
    arguments: ClassVar = {"encoder": "mobilenet_v2", "head": "pyramid", "dilation": "bigger", "aspp": 0}


class TestPyramidOfEfficientNetLite(VariantSuite):
    first_spread = 1.0
    arguments: ClassVar = {
        "encoder": "efficientnet_lite0", "head": "pyramid", "output_stride": 16, "dilation": "rf", "aspp": 0,
    }  # fmt: skip


class TestEfficientNetLite(VariantSuite):
    arguments: ClassVar = {"encoder": "efficientnet_lite2", "dilation": "bigger", "aspp": 0}


class TestVggDuc(VariantSuite):
    arguments: ClassVar = {"encoder": "vgg16_bn", "aspp": 0, "width": 8}


class TestFcn8s(VariantSuite):
    arguments: ClassVar = {"encoder": "vgg16", "head": "fcn8s", "width": 4}
    starts_at_zero = True


@pytest.mark.slow
class TestFcn32s(TestFcn8s):
    arguments: ClassVar = {"encoder": "vgg16_bn", "head": "fcn32s", "width": 4}


@pytest.mark.slow
class TestFcn16s(TestFcn8s):
    arguments: ClassVar = {"encoder": "vgg16", "head": "fcn16s", "width": 4}


@pytest.mark.slow
class TestFcn8sLearned(TestFcn8s):
    arguments: ClassVar = {"encoder": "vgg16", "head": "fcn8s_learned", "width": 4}


class TestDilation10(VariantSuite):
    arguments: ClassVar = {"encoder": "vgg16", "head": "dilation10", "width": 4}


@pytest.mark.slow
class TestDilationFrontEnd(VariantSuite):
    arguments: ClassVar = {"encoder": "vgg16_bn", "head": "dilation_front", "width": 4}


class TestDeepLabV2(VariantSuite):
    arguments: ClassVar = {"encoder": "resnet50", "head": "deeplabv2"}


@pytest.mark.slow
class TestDeepLabV2OnVgg(VariantSuite):
    arguments: ClassVar = {"encoder": "vgg16", "head": "deeplabv2", "width": 4}


class TestLrr4x(VariantSuite):
    arguments: ClassVar = {"encoder": "vgg16", "head": "lrr4x", "width": 4}
    starts_at_zero = True


class TestLrr32x(TestLrr4x):
    arguments: ClassVar = {"encoder": "vgg16_bn", "head": "lrr32x", "width": 2}


class TestAdelaide(VariantSuite):
    arguments: ClassVar = {"encoder": "vgg16", "head": "adelaide", "width": 2}


class TestGcrf(VariantSuite):
    arguments: ClassVar = {"head": "gcrf", "aspp": 2}
    starts_at_zero = True


def test_the_default_head_compiles_to_one_graph() -> None:
    check_one_graph(build("resnet18", num_classes=7, width=8))


@pytest.mark.slow()
@pytest.mark.parametrize("head", ["bilinear", "duc", "deconv", "deconv2", "pyramid"])
def test_inductor_computes_the_same(head: str) -> None:
    torch.manual_seed(0)
    segmenter = build("resnet18", head, 7, width=8, aspp=0).eval()
    images = torch.randn(1, 3, 64, 64)
    torch.compiler.reset()
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(segmenter)(images), segmenter(images), rtol=1e-3, atol=1e-4)
