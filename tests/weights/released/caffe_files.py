"""Files as Caffe writes them, and small networks under the layer names and blob shapes of the released descriptions."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mxnet_files import field, varint
from torch import Tensor

Blobs = Sequence["np.ndarray[Any, Any]"]
Layers = Mapping[str, Blobs]

VGG = [f"conv{block + 1}_{number + 1}" for block, count in enumerate((2, 2, 3, 3, 3)) for number in range(count)]


def blob(values: "np.ndarray[Any, Any]", *, old: bool = False, doubles: bool = False) -> bytes:
    """A BlobProto; of before 2015 with four sides of its own, else with a shape."""
    data = field(8, values.astype("<f8").tobytes()) if doubles else field(5, values.astype("<f4").tobytes())
    if not old:
        return field(7, field(1, b"".join(map(varint, values.shape)))) + data
    sides = (1,) * (4 - values.ndim) + values.shape
    return b"".join(bytes([number << 3]) + varint(side) for number, side in enumerate(sides, 1)) + data


def caffemodel(layers: Layers, *, old: bool = False, doubles: bool = False) -> bytes:
    """A NetParameter with layers that hold these blobs, each followed by one that holds none."""
    content = field(1, b"a network")
    for name, blobs in layers.items():
        kind = b"\x28\x04" if old else field(2, b"Convolution")
        inside = [field(6 if old else 7, blob(one, old=old, doubles=doubles)) for one in blobs]
        relu = field(4 if old else 1, f"relu of {name}".encode())
        content += field(2 if old else 100, field(4 if old else 1, name.encode()) + kind + b"".join(inside))
        content += field(2 if old else 100, relu)
    return content


def _conv(rng: np.random.Generator, out: int, into: int, kernel: int = 3) -> list["np.ndarray[Any, Any]"]:
    scale = (2 / (into * kernel**2)) ** 0.5
    return [rng.normal(scale=scale, size=(out, into, kernel, kernel)), rng.normal(scale=0.1, size=out)]


def vgg_layers(width: int = 2, seed: int = 0) -> dict[str, Blobs]:
    """conv1_1 .. conv5_3."""
    rng, found, before = np.random.default_rng(seed), {}, 3
    for name in VGG:
        out = width * min(2 ** (int(name[4]) - 1), 8)
        found[name], before = _conv(rng, out, before), out
    return found


def fcn_layers(stride: int = 8, *, classes: int = 3, width: int = 2, at_once: bool = False) -> dict[str, Blobs]:
    """FCN-32s, -16s or -8s as voc-fcn8s/train.prototxt and its sisters name them."""
    rng, hidden = np.random.default_rng(1), 64 * width
    found = vgg_layers(width) | {
        "fc6": _conv(rng, hidden, 8 * width, 7),
        "fc7": _conv(rng, hidden, hidden, 1),
        "score_fr": _conv(rng, classes, hidden, 1),
    }
    pools = {32: (), 16: ("pool4",), 8: ("pool4", "pool3")}[stride]
    for pool, scale in zip(pools, (0.01, 0.0001)):
        channels = 8 * width if pool == "pool4" else 4 * width
        found[f"score_{pool}"] = _conv(rng, classes, channels, 1)
        if at_once:
            found[f"scale_{pool}"] = [np.full(channels, scale)]
    names = {
        32: {"upscore": 32},
        16: {"upscore2": 2, "upscore16": 16},
        8: {"upscore2": 2, "upscore_pool4": 2, "upscore8": 8},
    }
    for name, factor in names[stride].items():
        found[name] = [np.eye(classes)[:, :, None, None] * bilinear(2 * factor)]
    return found


def bilinear(size: int) -> "np.ndarray[Any, Any]":
    """Caffe's BilinearFiller: f = ceil(size / 2), c = (2f - 1 - f % 2) / 2f, (1 - |x/f - c|) (1 - |y/f - c|)."""
    f = -(-size // 2)
    c = (2 * f - 1 - f % 2) / (2 * f)
    line = np.array([1 - abs(x / f - c) for x in range(size)])
    return line[:, None] * line


def dilation_layers(context: Sequence[str] | None = None, *, classes: int = 3, width: int = 2) -> dict[str, Blobs]:
    """As dilation10_cityscapes_deploy.prototxt names them; `context`: ctx_conv layers, None: Dilation10's."""
    rng, hidden = np.random.default_rng(2), 64 * width
    found = vgg_layers(width) | {
        "fc6": _conv(rng, hidden, 8 * width, 7),
        "fc7": _conv(rng, hidden, hidden, 1),
        "final": _conv(rng, classes, hidden, 1),
    }
    if context is None:
        context = ("1_1", "1_2", "2_1", "3_1", "4_1", "5_1", "6_1", "7_1")
    if context:
        for name in context:
            found[f"ctx_conv{name}"] = _conv(rng, classes, classes)
        found["ctx_fc1"], found["ctx_final"] = _conv(rng, classes, classes), _conv(rng, classes, classes, 1)
        found["ctx_upsample"] = [np.broadcast_to(bilinear(16), (classes, 1, 16, 16))]
    return found


RESNET_50 = {2: "abc", 3: "abcd", 4: "abcdef", 5: "abc"}
RESNET_101 = {
    2: ["a", "b", "c"],
    3: ["a", "b1", "b2", "b3"],
    4: ["a", *(f"b{n}" for n in range(1, 23))],
    5: ["a", "b", "c"],
}


def resnet_layers(
    blocks: Mapping[int, Sequence[str]], *, width: int = 2, prefix: str = "", seed: int = 3
) -> dict[str, Blobs]:
    """conv1 .. res5c_branch2c with bn and scale layers; statistics are sums over 999.98 batches."""
    rng = np.random.default_rng(seed)
    found: dict[str, Blobs] = {}

    def add(name: str, suffix: str, out: int, into: int, kernel: int) -> None:
        found[prefix + name] = _conv(rng, out, into, kernel)[:1]
        sums = [999.98 * rng.normal(scale=0.1, size=out), 999.98 * rng.uniform(0.5, 1.5, out), np.array([999.98])]
        found[f"{prefix}bn{suffix}"] = sums
        found[f"{prefix}scale{suffix}"] = [rng.uniform(0.5, 1, out), rng.normal(scale=0.1, size=out)]

    add("conv1", "_conv1", width, 3, 7)
    before = width
    for stage, names in blocks.items():
        inner = width * 2 ** (stage - 2)
        for number, name in enumerate(names):
            branch = f"{stage}{name}_branch"
            if number == 0:
                add(f"res{branch}1", f"{branch}1", 4 * inner, before, 1)
            for part, (out, into, kernel) in zip("abc", ((inner, before, 1), (inner, inner, 3), (4 * inner, inner, 1))):
                add(f"res{branch}2{part}", f"{branch}2{part}", out, into, kernel)
            before = 4 * inner
    return found


def deeplab_layers(
    blocks: Mapping[int, Sequence[str]] = RESNET_50, *, classes: int = 3, width: int = 2, scales: bool = True
) -> dict[str, Blobs]:
    """On a ResNet, with the copies for the two smaller scales."""
    rng, found = np.random.default_rng(4), resnet_layers(blocks, width=width)
    for branch in range(4):
        found[f"fc1_voc12_c{branch}"] = _conv(rng, classes, 32 * width)
    if scales:
        found |= {
            re.sub(r"^(.*?)(_c\d)?$", rf"\1_res{scale}\2", name): blobs
            for scale in ("075", "05")
            for name, blobs in found.items()
        }
    return found


def gcrf_layers(*, classes: int = 3, width: int = 2) -> dict[str, Blobs]:
    """As test_rtf_release.prototxt names them: DeepLabv2, a second ResNet, one weight a pair of neighbours."""
    rng, found = np.random.default_rng(6), deeplab_layers(classes=classes, width=width)
    found |= resnet_layers(RESNET_50, width=width, prefix="PW_", seed=7)
    scale = 0.01
    found["vertical"] = [rng.normal(scale=scale, size=(1, 32 * width, 2, 1)), rng.normal(scale=scale, size=1)]
    found["horizontal"] = [rng.normal(scale=scale, size=(1, 32 * width, 1, 2)), rng.normal(scale=scale, size=1)]
    return found


def deeplab_vgg_layers(*, classes: int = 3, width: int = 2) -> dict[str, Blobs]:
    rng, found = np.random.default_rng(5), vgg_layers(width)
    for branch in (1, 2, 3, 4):
        found[f"fc6_{branch}"] = _conv(rng, 16 * width, 8 * width)
        found[f"fc7_{branch}"] = _conv(rng, 16 * width, 16 * width, 1)
        found[f"fc8_voc12_{branch}"] = _conv(rng, classes, 16 * width, 1)
    return found


class Caffe:
    """The layers of a description run one by one on B, G, R pictures, in float64, on the arrays as they are named."""

    def __init__(self, layers: Layers) -> None:
        self.blobs = {
            name: [torch.from_numpy(np.array(one, "<f4")).double() for one in blobs] for name, blobs in layers.items()
        }

    def conv(self, name: str, x: Tensor, *, relu: bool = False, **options: Any) -> Tensor:
        weight, *bias = self.blobs[name]
        x = F.conv2d(x, weight, *bias, **options)
        return x.relu() if relu else x

    def deconv(self, name: str, x: Tensor, **options: Any) -> Tensor:
        return F.conv_transpose2d(x, self.blobs[name][0], **options)

    def norm(self, suffix: str, x: Tensor) -> Tensor:
        mean, variance, count = self.blobs[f"bn{suffix}"]
        scale, shift = self.blobs[f"scale{suffix}"]
        mean, variance = ((one / count)[:, None, None] for one in (mean, variance))
        return (x - mean) / (variance + 1e-5).sqrt() * scale[:, None, None] + shift[:, None, None]

    def vgg(
        self,
        x: Tensor,
        *,
        pad_first: int = 1,
        pads: bool = True,
        rates: Sequence[int] = (1,) * 5,
        pools: str = "12345",
        pool3: bool = False,
    ) -> dict[str, Tensor]:
        """conv5_3 and every pooling's output."""
        found = {}
        for name in VGG:
            rate = rates[int(name[4]) - 1]
            padding = pad_first if name == "conv1_1" and pads else rate if pads else 0
            x = self.conv(name, x, relu=True, padding=padding, dilation=rate)
            if name[-1] == ("2" if name[4] in "12" else "3"):
                if pool3:
                    x = F.max_pool2d(x, 3, 2 if name[4] in "123" else 1, padding=1)
                elif name[4] in pools:
                    x = F.max_pool2d(x, 2, 2, ceil_mode=True)
                found[f"pool{name[4]}"] = x
        return found

    def resnet(self, x: Tensor, blocks: Mapping[int, Sequence[str]]) -> Tensor:
        """res5c, with res4 and res5 at the stride of res3."""
        x = self.norm("_conv1", self.conv("conv1", x, stride=2, padding=3)).relu()
        x = F.max_pool2d(x, 3, 2, padding=1)
        for stage, names in blocks.items():
            rate = {4: 2, 5: 4}.get(stage, 1)
            for number, name in enumerate(names):
                stride = 2 if stage == 3 and number == 0 else 1
                branch = f"{stage}{name}_branch"
                short = x
                if number == 0:
                    short = self.norm(f"{branch}1", self.conv(f"res{branch}1", x, stride=stride))
                y = self.norm(f"{branch}2a", self.conv(f"res{branch}2a", x, stride=stride)).relu()
                y = self.norm(f"{branch}2b", self.conv(f"res{branch}2b", y, padding=rate, dilation=rate)).relu()
                x = (short + self.norm(f"{branch}2c", self.conv(f"res{branch}2c", y))).relu()
        return x
