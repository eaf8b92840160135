"""timm's convolutional networks as encoders: timm's own features, exact dilation, a rate per block, refusals."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ducseg.errors import UserError
from ducseg.models import HEADS, IMAGENET, Segmenter, build
from ducseg.models.fuse import fuse_batch_norm
from ducseg.models.timm_encoder import TimmEncoder
from ducseg.ops.dilate import strides_to_dilations
from ducseg.ops.receptive_field import measured
from ducseg.ops.spatial_layers import spatial_layers
from ducseg.train.sync_batch_norm import synchronise_batch_norm
from ducseg.weights.checkpoint import load_segmenter, save_segmenter

NETWORKS = (
    "resnet18",
    "tf_efficientnet_b0",  # windows off their centre ("same" padding)
    "convnext_atto",  # 7x7 depthwise, 2x2 between stages, layer norm
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("resnet50d", "regnetx_002", "mobilenetv3_small_100", "efficientnet_b0", "densenet121")
    ),
)
SMALL = "timm:test_efficientnet"  # timm's own for tests: 0.4 million parameters

pytestmark = pytest.mark.usefixtures("timm")


def encoder(name: str, output_stride: int = 32, dilation: Any = "none") -> TimmEncoder:
    torch.manual_seed(0)
    return TimmEncoder(name, output_stride=output_stride, dilation=dilation).eval()


@torch.no_grad()
def with_statistics(network: nn.Module) -> None:
    """Random statistics for batch norms and layer scales, which start where they would hide a mistake."""
    for name, parameter in network.named_parameters():
        if name.endswith("gamma"):
            nn.init.normal_(parameter)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_equal_to_timms_own_features_at_stride_32(timm: ModuleType, name: str) -> None:
    ours, theirs = encoder(name), timm.create_model(name, features_only=True).eval()
    state = {key.replace(".", "_"): value for key, value in ours.network.state_dict().items()}
    theirs.load_state_dict({key: state[key.replace(".", "_")] for key in theirs.state_dict()})
    images = torch.randn(1, 3, 64, 96)
    features = theirs(images)
    assert torch.equal(ours(images), features[-1])
    assert ours.out_channels == features[-1].shape[1]
    found = ours.intermediates(images)
    for stride, stage in zip(theirs.feature_info.reduction(), features, strict=True):
        assert torch.equal(found[{2: "stem", 4: "res2", 8: "res3", 16: "res4", 32: "res5"}[stride]], stage)


@torch.no_grad()
@pytest.mark.parametrize("output_stride", [32, 16, 8])
@pytest.mark.parametrize("name", [*NETWORKS, "tf_efficientnet_lite0"])
def test_channels_and_strides_of_the_intermediates(name: str, output_stride: int) -> None:
    body = encoder(name, output_stride)
    found = body.intermediates(torch.randn(1, 3, 64, 96))
    assert list(found) == list(body.channels) == list(body.strides)
    assert list(found)[-4:] == ["res2", "res3", "res4", "res5"]
    for key, grid in found.items():
        assert grid.shape == (1, body.channels[key], 64 // body.strides[key], 96 // body.strides[key])
        assert body.strides[key] == min({"stem": 2, "res2": 4, "res3": 8, "res4": 16, "res5": 32}[key], output_stride)
    assert ("stem" in found) == (name != "convnext_atto")


@torch.no_grad()
@pytest.mark.parametrize("output_stride", [8, 4])
@pytest.mark.parametrize("name", NETWORKS)
def test_strided_features_are_the_dilated_ones_at_every_fth_place(name: str, output_stride: int) -> None:
    strided = encoder(name)
    for module in list(strided.modules()):  # squeeze-and-excitation sees the whole picture: more places, another mean
        for child_name, child in module.named_children():
            if type(child).__name__ == "SqueezeExcite":
                setattr(module, child_name, nn.Identity())
    with_statistics(strided)
    images = torch.randn(1, 3, 64, 96)
    old = strided(images)
    strides_to_dilations(strided.network, output_stride, layers=spatial_layers(strided.network, strided))
    new = strided(images)
    step = 32 // output_stride
    assert new.shape[-2:] == (64 // output_stride, 96 // output_stride)
    torch.testing.assert_close(new[..., ::step, ::step], old, rtol=1e-4, atol=1e-5 * float(old.abs().max()))


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "output_stride", "dilation"),
    [
        ("resnet18", 32, "none"),
        ("resnet18", 16, "rf"),
        ("resnet18", 8, "none"),
        ("resnet18", 8, ((1, 2), (3, 4))),
        ("resnet50", 8, "bigger"),
        pytest.param("resnet50", 4, "conv", marks=pytest.mark.slow),
    ],
)
def test_timms_resnet_is_our_resnet(name: str, output_stride: int, dilation: Any) -> None:
    theirs = encoder(name, output_stride, dilation)
    ours = build(name, "bilinear", 3, output_stride=output_stride, dilation=dilation, aspp=0).encoder.eval()
    with_statistics(ours)
    theirs.network.load_state_dict(ours.state_dict())
    images = torch.randn(1, 3, 64, 96)
    assert torch.equal(theirs(images), ours(images))
    assert theirs.rates == ours.rates


def rates_of(network: nn.Module, block: str) -> set[int]:
    modules = network.get_submodule(block).modules()
    return {conv.dilation[0] for conv in modules if isinstance(conv, nn.Conv2d) and max(conv.kernel_size) > 1}


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("regnetx_002", (1, 1, 4, 7)),
        ("mobilenetv3_small_100", (1, 2, 5, 3)),
        ("convnext_atto", (2, 2, 6, 2)),
        ("densenet121", (6, 12, 24, 16)),
        ("resnetaa50", (3, 4, 6, 3)),  # its strides are poolings behind the convolutions
        ("mixnet_s", (2, 4, 6, 3)),  # several kernels in a block
    ],
)
def test_a_rate_per_block(name: str, blocks: tuple[int, ...]) -> None:
    made = encoder(name, 8, "bigger")
    assert tuple(map(len, made.rates)) == tuple(map(len, made.block_names)) == blocks
    assert made.rates[2][:4] == (1, 2, 5, 9)[: blocks[2]] and made.rates[3][:3] == (5, 9, 17)[: blocks[3]]
    for names, rates in zip(made.block_names, made.rates):
        for block, rate in zip(names, rates):
            assert rates_of(made.network, block) == {rate}, block
    assert made(torch.zeros(1, 3, 64, 96)).shape == (1, made.out_channels, 8, 12)


def test_explicit_rates_and_what_lies_between_blocks() -> None:
    made = encoder("convnext_atto", 8, ((1, 2, 3, 1, 2, 3), (4, 7)))
    assert made.rates[2:] == ((1, 2, 3, 1, 2, 3), (4, 7))
    assert made.network.stages[3].blocks[1].conv_dw.padding == (21, 21)
    between = made.network.stages[3].downsample[1]
    assert between.dilation == (2, 2), "the convolution between stages follows the strides"


def test_hdc_widens_the_field() -> None:
    sides = []
    for dilation in ("none", "dilated", "bigger"):
        made = encoder("regnetx_002", 8, dilation)
        columns = measured(made, (8, 1600)).any(0).nonzero()[0]
        sides.append((columns[-1] - columns[0] + 1, sum(made.rates[2] + made.rates[3])))
    assert sides[0][1] < sides[1][1] < sides[2][1]
    (side, total), *wider = sides
    for other, larger in wider:
        assert other - side == 2 * 8 * (larger - total), "each unit of a rate adds two places of 8 pixels"


@pytest.mark.parametrize("head", [head for head, row in HEADS.items() if "encoder" not in row.needs])
def test_every_head_trains_on_it_at_any_size(head: str) -> None:
    segmenter = build(SMALL, head, 3, aspp=0)
    images = torch.randn(2, 3, 37, 50)
    scores: Tensor = segmenter(images)
    assert scores.shape == (2, 3, 37, 50)
    scores.square().sum().backward()
    assert all(parameter.grad is not None for parameter in segmenter.parameters()), "no parameter is left unused"
    segmenter.freeze_batch_norm()
    assert not any(module.training for module in segmenter.modules() if isinstance(module, _BatchNorm))


@pytest.mark.parametrize("name", [SMALL, "timm:test_convnext"])
def test_saved_and_loaded_is_the_same(tmp_path: Path, name: str) -> None:
    segmenter = build(name, "duc", 3, aspp=0, cell=2, dilation="rf")
    with_statistics(segmenter)
    save_segmenter(tmp_path / "checkpoint", segmenter.eval())
    again = load_segmenter(tmp_path / "checkpoint")
    images = torch.randn(1, 3, 32, 48)
    assert torch.equal(again(images), segmenter(images))
    assert again.architecture.encoder == name and again.encoder.rates == segmenter.encoder.rates


FOLDED = {
    "resnetv2_18": 8,  # norm and activation come first, in one module: only those behind a convolution
    "resnet50d": 55,
    "tf_efficientnet_lite0": 48,
    "densenet121": None,
    "mobilenetv3_small_100": 34,
    "convnext_atto": 0,
}


_SLOW = {"resnet50d", "densenet121"}


@torch.no_grad()
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in _SLOW else []) for name in FOLDED]
)
def test_folding_batch_norm_leaves_its_function(name: str) -> None:
    segmenter = build(f"timm:{name}", "bilinear", 3, aspp=0, dilation="none").eval()
    with_statistics(segmenter)
    images = torch.randn(2, 3, 41, 57)
    wanted = segmenter(images)
    fused = fuse_batch_norm(segmenter)
    assert (fused(images) - wanted).abs().max() < 1e-4 * wanted.abs().max()
    counts = [sum(isinstance(module, _BatchNorm) for module in one.modules()) for one in (segmenter, fused)]
    if FOLDED[name] is not None:
        assert counts[0] - counts[1] == FOLDED[name]
    with pytest.raises(AssertionError, match="fuse_batch_norm"):
        save_segmenter(Path("nowhere"), fused)


@torch.no_grad()
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_synchronised_batch_norms_keep_the_activations_in_them(device: str) -> None:
    segmenter = build(SMALL, "bilinear", 3, aspp=0).eval()
    with_statistics(segmenter)
    images = torch.randn(2, 3, 32, 48)
    before, names = segmenter(images), list(segmenter.state_dict())
    synchronised = synchronise_batch_norm(segmenter, torch.device(device))
    torch.testing.assert_close(synchronised(images), before)
    assert list(synchronised.state_dict()) == names
    norms = {type(module).__name__ for module in synchronised.modules() if isinstance(module, _BatchNorm)}
    assert norms and all("Sync" in norm for norm in norms)


def test_preprocessing_is_that_of_timms_weights() -> None:
    assert build("timm:resnet18", "bilinear", 3, aspp=0).preprocessing == IMAGENET
    halves = build("timm:resnetv2_18", "bilinear", 3, aspp=0).preprocessing
    assert halves.mean == (127.5,) * 3 and halves.std == (127.5,) * 3
    assert build("timm:resnetv2_18", "bilinear", 3, aspp=0, preprocessing=IMAGENET).preprocessing == IMAGENET


REFUSED = [
    ({"encoder": "timm:resnet1"}, "no such network in timm"),
    ({"encoder": "timm:../resnet18"}, "no such network in timm"),
    ({"encoder": "timm:hf-hub:timm/resnet18"}, "no such network in timm"),
    ({"encoder": "timm:resnet18.b1_in1k"}, r"no weights of that name, 'b1_in1k', for resnet18; .*resnet18\.a1_in1k"),
    ({"encoder": "timm:vit_tiny_patch16_224"}, r"stages at strides \[16, 16, .*Choose one with stages at strides 4, 8"),
    ({"encoder": "timm:edgenext_xx_small"}, r"attention \(6 times\)"),
    ({"encoder": "timm:test_maxvit"}, "does not run on 64 x 96 pixels"),
    ({"encoder": "timm:resnetblur18"}, r"not torch's modules, such as .*layer3.0.aa \(BlurPool2d\)"),
    ({"encoder": "timm:poolformer_s12"}, "no block of res4 and res5 has a convolution with a kernel above 1"),
    ({"encoder": "timm:hrnet_w18_small"}, "resizing"),
    ({"dilation": "sawtooth"}, "dilation='sawtooth' is not one of"),
    ({"dilation": ((1, 2), (1, 2, 3))}, "dilation of res4 has 2 rates for 1 blocks.*dilation of res5 has 3 rates"),
    ({"output_stride": 32}, "dilation='bigger' would do nothing"),
    ({"stem": "3x3", "width": 32}, "stem='3x3' is for ResNets only.*width=32 is for ResNets only"),
    ({"stride_in": "1x1"}, "would ignore it"),
    ({"pool_padding": False}, "would ignore it"),
    ({"batch_norm_eps": 1e-6}, "would ignore it"),
]


@pytest.mark.parametrize(("arguments", "reason"), REFUSED)
def test_refused_with_the_reason(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        build(**{"encoder": "timm:test_resnet", "head": "bilinear", "num_classes": 3, "aspp": 0, **arguments})


@pytest.fixture()
def checkpoint(tmp_path: Path) -> Path:
    save_segmenter(tmp_path / "checkpoint", build(SMALL, "bilinear", 3, aspp=0))
    return tmp_path / "checkpoint"


def test_without_timm_it_says_what_to_install(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    for use in (lambda: build(SMALL), lambda: load_segmenter(checkpoint)):
        with pytest.raises(UserError, match=r"pip install 'timm>=1.0.31'$"):
            use()


def test_an_old_timm_is_refused(timm: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm, "__version__", "1.0.12")
    with pytest.raises(UserError, match=r"found 1\.0\.12; needed timm 1\.0\.31 or later\. pip install"):
        build(SMALL)


def test_a_stride_that_is_in_no_layer_is_refused(timm: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = timm.models.resnet.ResNet.forward_intermediates

    def subsampled(*arguments: Any, **named: Any) -> list[Tensor]:
        return [grid[..., ::2, ::2] for grid in forward(*arguments, **named)]

    monkeypatch.setattr(timm.models.resnet.ResNet, "forward_intermediates", subsampled)
    with pytest.raises(UserError, match="strides that are not in its layers"):
        build("timm:test_resnet", "bilinear", 3, aspp=0)


def test_with_a_torchvision_of_another_torch_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.delitem(sys.modules, "timm")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"nms does not exist.*a torchvision made for the torch that is installed"):
        build(SMALL)


def test_a_segmenter_of_a_timm_encoder_is_a_segmenter() -> None:
    assert isinstance(build(SMALL, aspp=0), Segmenter)
