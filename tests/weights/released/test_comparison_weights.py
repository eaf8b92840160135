"""Released files of the comparison networks: made under the names and shapes of the released descriptions, they answer
as those descriptions do, run layer by layer.

No released file could be had: docs/weights.md says so.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from caffe_files import (
    RESNET_50,
    RESNET_101,
    Caffe,
    caffemodel,
    deeplab_layers,
    deeplab_vgg_layers,
    dilation_layers,
    fcn_layers,
    gcrf_layers,
)
from torch import Tensor, nn

from ducseg.classes import CITYSCAPES, VOC2012
from ducseg.errors import UserError
from ducseg.models import Segmenter
from ducseg.models.comparisons.dilation10 import MARGIN, mirrored
from ducseg.models.comparisons.gcrf import gaussian_field
from ducseg.weights.checkpoint import load_segmenter
from ducseg.weights.released import deeplabv2, dilation10, fcn8s
from ducseg.weights.released.importing import Kind, import_file

BGR = torch.randn(1, 3, 64, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def loaded(tmp_path: Path, layers: Any, load: Callable[..., Segmenter], **options: Any) -> Segmenter:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(caffemodel(layers, **options))
    return load(path)


def answer(network: Segmenter) -> Tensor:
    """On the same picture in R, G, B."""
    with torch.no_grad():
        return network.double().folded(BGR.flip(1))[:, :, 0]


def fcn_by_hand(layers: Any, stride: int, scales: tuple[float, float] = (1, 1)) -> Tensor:
    net = Caffe(layers)
    pools = net.vgg(BGR, pad_first=100)
    x = net.conv("fc7", net.conv("fc6", pools["pool5"], relu=True), relu=True)
    x = net.conv("score_fr", x)
    steps = {32: [], 16: [("upscore2", "pool4", 5)], 8: [("upscore2", "pool4", 5), ("upscore_pool4", "pool3", 9)]}
    for (up, pool, offset), scale in zip(steps[stride], scales):
        x = net.deconv(up, x, stride=2)
        finer = net.conv(f"score_{pool}", pools[pool] * scale)
        x = x + finer[..., offset : offset + x.shape[2], offset : offset + x.shape[3]]
    name, crop = {32: ("upscore", 19), 16: ("upscore16", 27), 8: ("upscore8", 31)}[stride]
    return net.deconv(name, x, stride=stride)[..., crop : crop + 64, crop : crop + 96]


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_fcn(tmp_path: Path, stride: int) -> None:
    layers = fcn_layers(stride)
    network = loaded(tmp_path, layers, fcn8s.load)
    assert network.architecture.head == f"fcn{stride}s" and network.architecture.width == 2
    assert network.preprocessing.mean == (122.67892, 116.66877, 104.00699) and not network.training
    torch.testing.assert_close(answer(network), fcn_by_hand(layers, stride))


def test_fcn_of_a_file_of_before_2015(tmp_path: Path) -> None:
    layers = fcn_layers(8, classes=21)
    network = loaded(tmp_path, layers, fcn8s.load, old=True)
    assert network.classes is VOC2012
    torch.testing.assert_close(answer(network), fcn_by_hand(layers, 8))


def test_fcn_at_once_has_scaled_poolings(tmp_path: Path) -> None:
    layers = fcn_layers(8, at_once=True)
    network = loaded(tmp_path, layers, fcn8s.load)
    assert network.architecture.head == "fcn8s_at_once"
    torch.testing.assert_close(answer(network), fcn_by_hand(layers, 8, (0.01, 0.0001)))
    with pytest.raises(UserError, match=r"scale_pool3, which is not 0\.0001 throughout"):
        loaded(tmp_path, layers | {"scale_pool3": [np.full(8, 0.5)]}, fcn8s.load)


def test_fcn_with_learned_deconvolutions(tmp_path: Path) -> None:
    layers = fcn_layers(8)
    layers["upscore2"] = [layers["upscore2"][0] + np.random.default_rng(0).normal(scale=0.1, size=(3, 3, 4, 4))]
    network = loaded(tmp_path, layers, fcn8s.load)
    assert network.architecture.head == "fcn8s_learned"
    torch.testing.assert_close(answer(network), fcn_by_hand(layers, 8))


def marks(name: str) -> tuple[pytest.MarkDecorator, ...]:
    """What differs from others in a number alone is slow."""
    return (pytest.mark.slow,) if name in ("gcrf", "dilation8", "dilation7") else ()


CONTEXTS = {
    "dilation10": (None, (1, 1, 2, 4, 8, 16, 32, 64)),
    "dilation8": (("1_1", "1_2", "2_1", "3_1", "4_1", "5_1"), (1, 1, 2, 4, 8, 16)),
    "dilation7": (("1_1", "1_2", "2_1", "3_1", "4_1"), (1, 1, 2, 4, 8)),
    "dilation_front": ((), ()),
}


@pytest.mark.parametrize("head", [pytest.param(head, marks=marks(head)) for head in CONTEXTS])
def test_dilation(tmp_path: Path, head: str) -> None:
    names, rates = CONTEXTS[head]
    layers = dilation_layers(names)
    network, net = loaded(tmp_path, layers, dilation10.load), Caffe(layers)
    assert network.architecture.head == head
    x = net.vgg(mirrored(BGR, MARGIN), pads=False, rates=(1, 1, 1, 1, 2), pools="123")["pool5"]
    x = net.conv("fc7", net.conv("fc6", x, relu=True, dilation=4), relu=True)
    x = net.conv("final", x)
    for name, rate in zip([name for name in layers if name.startswith("ctx_conv")], rates, strict=True):
        x = net.conv(name, x, relu=True, padding=rate, dilation=rate)
    if rates:
        x = net.conv("ctx_final", net.conv("ctx_fc1", x, relu=True, padding=1))
    torch.testing.assert_close(answer(network), x)


def test_dilations_classes_and_means_are_their_data_sets(tmp_path: Path) -> None:
    cityscapes = loaded(tmp_path, dilation_layers(classes=19, width=1), dilation10.load)
    assert cityscapes.classes is CITYSCAPES and cityscapes.preprocessing.mean == (73.16, 82.91, 72.39)
    camvid = loaded(tmp_path, dilation_layers(CONTEXTS["dilation8"][0], classes=11, width=1), dilation10.load)
    assert camvid.classes.names[:3] == ("building", "tree", "sky")
    assert camvid.preprocessing.mean == (105.41212523, 108.77808759, 110.70313206)


def test_vocs_context_module_is_refused(tmp_path: Path) -> None:
    """models/dilation8_pascal_voc_deploy.prototxt: ct_conv..., with 2L, 4L ... 32L channels, unpadded."""
    layers = dilation_layers(()) | {"ct_conv1_1": [np.zeros((6, 3, 3, 3)), np.zeros(6)]}
    with pytest.raises(UserError, match="ct_conv1_1, which it does not have"):
        loaded(tmp_path, layers, dilation10.load)


def deeplab_by_hand(layers: Any, blocks: Any) -> Tensor:
    net, found = Caffe(layers), []
    for size in ((64, 96), (48, 72), (32, 48)):
        features = net.resnet(F.interpolate(BGR, size=size, mode="bilinear"), blocks)
        rates = (6, 12, 18, 24)
        scores = sum(net.conv(f"fc1_voc12_c{n}", features, padding=r, dilation=r) for n, r in enumerate(rates))
        found.append(F.interpolate(scores, size=(8, 12), mode="bilinear"))
    return torch.stack(found).amax(0)


@pytest.mark.parametrize("blocks", [RESNET_50, RESNET_101], ids=["resnet50", "resnet101"])
def test_deeplabv2(tmp_path: Path, blocks: Any) -> None:
    layers = deeplab_layers(blocks)
    network = loaded(tmp_path, layers, deeplabv2.load)
    assert network.architecture.head == "deeplabv2" and network.architecture.stride_in == "1x1"
    assert network.architecture.encoder == ("resnet50" if blocks is RESNET_50 else "resnet101")
    assert network.preprocessing.mean == (122.675, 116.669, 104.008)
    assert {"fc1_voc12_res05_c0", "res5c_branch2c_res075"} <= layers.keys(), "as in test_rtf_release.prototxt"
    torch.testing.assert_close(answer(network), deeplab_by_hand(layers, blocks), rtol=1e-4, atol=1e-4)


def test_gcrf_by_a_dense_solve(tmp_path: Path) -> None:
    """Its system, (I + W / 10) x = B - sum / (L - 1), twice, by a dense solve; the diagonal grows with the weights."""
    layers = gcrf_layers()
    network = loaded(tmp_path, layers, deeplabv2.load_gcrf)
    assert network.architecture.head == "gcrf" and network.architecture.encoder == "resnet50"
    net = Caffe(layers | {name[3:]: blobs for name, blobs in layers.items() if name.startswith("PW_")})
    features = net.resnet(BGR, RESNET_50)
    pairs = {(1, 0): net.conv("vertical", features)[0, 0] / 10, (0, 1): net.conv("horizontal", features)[0, 0] / 10}
    matrix = torch.zeros(8, 12, 8, 12, dtype=torch.float64)
    for (down, right), weights in pairs.items():
        for i in range(8 - down):
            for j in range(12 - right):
                matrix[i, j, i + down, j + right] = matrix[i + down, j + right, i, j] = weights[i, j]
    matrix = matrix.reshape(96, 96)
    matrix += torch.diag((1.1 * matrix.abs().sum(1)).clamp_min(1))
    x = deeplab_by_hand(layers, RESNET_50)[0].reshape(3, 96)
    for _ in range(2):
        x = torch.linalg.solve(matrix, (x - x.sum(0) / 2).T).T
    torch.testing.assert_close(answer(network)[0].reshape(3, 96), x, rtol=1e-3, atol=1e-3)


def test_deeplabv2_of_one_scale(tmp_path: Path) -> None:
    network = loaded(tmp_path, deeplab_layers(scales=False), deeplabv2.load)
    assert network.architecture.head == "deeplabv2_single"


def test_deeplabv2_on_vgg(tmp_path: Path) -> None:
    layers = deeplab_vgg_layers()
    network, net = loaded(tmp_path, layers, deeplabv2.load), Caffe(layers)
    assert (network.architecture.encoder, network.architecture.head) == ("vgg16", "deeplabv2_single")
    features: Any = net.vgg(BGR, rates=(1, 1, 1, 1, 2), pool3=True)["pool5"]
    wanted: Any = 0
    for number, rate in enumerate((6, 12, 18, 24), 1):
        x = net.conv(f"fc6_{number}", features, relu=True, padding=rate, dilation=rate)
        wanted = wanted + net.conv(f"fc8_voc12_{number}", net.conv(f"fc7_{number}", x, relu=True))
    torch.testing.assert_close(answer(network), wanted)


def test_gcrf(tmp_path: Path) -> None:
    layers = gcrf_layers()
    network, net = loaded(tmp_path, layers, deeplabv2.load_gcrf), Caffe(layers)
    assert (network.architecture.encoder, network.architecture.head) == ("resnet50", "gcrf")
    pairwise = Caffe({name.removeprefix("PW_"): blobs for name, blobs in layers.items() if name.startswith("PW_")})
    features = pairwise.resnet(BGR, RESNET_50)
    vertical, horizontal = net.conv("vertical", features), net.conv("horizontal", features)
    assert (vertical.shape[2:], horizontal.shape[2:]) == ((7, 12), (8, 11))
    wanted = gaussian_field(deeplab_by_hand(layers, RESNET_50), vertical, horizontal)
    torch.testing.assert_close(answer(network), wanted, rtol=1e-4, atol=1e-4)
    without = {name: blobs for name, blobs in layers.items() if name not in ("horizontal", "PW_conv1")}
    with pytest.raises(UserError, match="no PW_conv1, no horizontal"):
        loaded(tmp_path, without, deeplabv2.load_gcrf)


def ported(network: Segmenter, style: str) -> dict[str, Tensor]:
    """The network's tensors under the names of a PyTorch conversion; its first kernels are for B, G, R."""
    found = {}
    for key, value in network.float().state_dict().items():
        if key.startswith("head.branches."):
            _, _, path, tensor = key.split(".")
            name = {
                "kazuto": f"base.aspp.c{path}",
                "kazuto-2018": f"scale.aspp.stages.c{path}",
                "isht7": f"Scale.layer5.conv2d_list.{path}",
            }[style]
            found[f"{name}.{tensor}"] = value
            continue
        name = key.removeprefix("encoder.")
        if style != "isht7":
            prefix = "base" if style == "kazuto" else "scale"
            *parts, tensor = name.split(".")
            kind = "bn" if parts[-1].startswith("bn") or parts[-2:] == ["downsample", "1"] else "conv"
            if parts[0] in ("conv1", "bn1"):
                name = f"{prefix}.layer1.conv1.{kind}.{tensor}"
            else:
                part = "proj" if "downsample" in parts else ("reduce", "conv3x3", "increase")[int(parts[2][-1]) - 1]
                name = f"{prefix}.layer{int(parts[0][-1]) + 1}.block{int(parts[1]) + 1}.{part}.{kind}.{tensor}"
        else:
            name = f"Scale.{name}"
        found[name] = value.flip(1) if key == "encoder.conv1.weight" else value
    return found


@pytest.mark.parametrize("style", ["kazuto", pytest.param("kazuto-2018", marks=pytest.mark.slow), "isht7"])
def test_deeplabv2_of_a_pytorch_conversion(tmp_path: Path, style: str) -> None:
    first = loaded(tmp_path, deeplab_layers(), deeplabv2.load)
    torch.save(ported(first, style), tmp_path / "deeplabv2.pth")
    again = deeplabv2.load(tmp_path / "deeplabv2.pth")
    assert again.architecture == first.architecture and again.preprocessing == first.preprocessing
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in first.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base.aspp.c9.weight": torch.zeros(1)}, "head.branches.9.weight, which it does not have"),
        ({"base.layer2.block1.reduce.conv.weight": torch.zeros(2, 2, 3, 3)}, "encoder.layer1.0.conv1.weight"),
        ({"base.decoder.weight": torch.zeros(1)}, "base.decoder.weight, which it does not have"),
        ({"base.layer2.block1.reduce.conv.weight": torch.full((2, 2, 1, 1), torch.nan)}, "undefined numbers"),
    ],
)
def test_another_conversion_is_refused(tmp_path: Path, change: dict[str, Tensor], message: str) -> None:
    tensors = ported(loaded(tmp_path, deeplab_layers(), deeplabv2.load), "kazuto") | change
    torch.save(tensors, tmp_path / "other.pth")
    with pytest.raises(UserError, match=message):
        deeplabv2.load(tmp_path / "other.pth")


LOADERS: dict[Kind, tuple[Callable[..., Segmenter], Any]] = {
    "fcn8s": (fcn8s.load, fcn_layers(width=1)),
    "dilation10": (dilation10.load, dilation_layers(width=1)),
    "deeplabv2": (deeplabv2.load, deeplab_layers(width=1, scales=False)),
    "gcrf": (deeplabv2.load_gcrf, gcrf_layers(width=1)),
}


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=marks(kind)) for kind in LOADERS])
def test_layers_that_do_not_fit_are_named(tmp_path: Path, kind: Kind) -> None:
    load, layers = LOADERS[kind]
    first = next(iter(layers))
    others = {name: blobs for name, blobs in layers.items() if name != first}
    for changed, message in (
        (others, f"no {first}"),
        ({"extra": layers[first], **layers}, "extra, which it does not have"),
        ({**layers, first: [np.zeros((9, 5, 3, 3)), *list(layers[first][1:])]}, "where .* is needed"),
        ({**layers, first: [np.zeros((2000, 3, 3, 3)), *list(layers[first][1:])]}, "width=2000"),
    ):
        with pytest.raises(UserError, match=message):
            loaded(tmp_path, changed, load)
    with pytest.raises(UserError, match="as float64 where float32 is needed"):
        loaded(tmp_path, layers, load, doubles=True)
    with pytest.raises(UserError, match="infinite or undefined"):
        loaded(tmp_path, {**layers, first: [np.full_like(one, np.inf) for one in layers[first]]}, load)
    with pytest.raises(UserError, match="--num-classes 4"):
        load(tmp_path / "net.caffemodel", num_classes=4)


def test_statistics_of_no_batch_are_refused(tmp_path: Path) -> None:
    layers = deeplab_layers(width=1, scales=False)
    mean, variance, _ = layers["bn_conv1"]
    with pytest.raises(UserError, match="bn_conv1, whose statistics are of 0 batches"):
        loaded(tmp_path, {**layers, "bn_conv1": [mean, variance, np.zeros(1)]}, deeplabv2.load)


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=marks(kind)) for kind in LOADERS])
def test_import_makes_a_checkpoint(tmp_path: Path, kind: Kind) -> None:
    load, layers = LOADERS[kind]
    (tmp_path / "net.caffemodel").write_bytes(caffemodel(layers))
    line = import_file(kind, tmp_path / "net.caffemodel", tmp_path / "out")
    again, first = load_segmenter(tmp_path / "out"), load(tmp_path / "net.caffemodel")
    assert first.architecture.head in line and "3 classes" in line
    assert again.architecture == first.architecture and again.preprocessing == first.preprocessing
    assert torch.equal(answer(again.eval()), answer(first))
    assert not any(isinstance(module, nn.Dropout) and module.training for module in first.modules())
