"""FCN-8s: Caffe's crop offsets and bilinear kernels worked by hand, sizes of the worked example, the three stages."""

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ducseg.models import build
from ducseg.models.comparisons.fcn8s import CROPS, BilinearDeconvolution, bilinear_kernel
from ducseg.models.vgg import Vgg


class Map:
    """Caffe's coordinate map (python/caffe/coord_map.py): place i of a layer lies at scale * i + first of the input."""

    def __init__(self, scale: Fraction = Fraction(1), first: Fraction = Fraction(0)) -> None:
        self.scale, self.first = scale, first

    def convolved(self, kernel: int, stride: int = 1, padding: int = 0) -> "Map":
        return Map(self.scale * stride, self.first + self.scale * (Fraction(kernel - 1, 2) - padding))

    def deconvolved(self, kernel: int, stride: int) -> "Map":
        scale = self.scale / stride
        return Map(scale, self.first - scale * Fraction(kernel - 1, 2))

    def offset_of(self, reference: "Map") -> Fraction:
        """The place of this one that lies where the reference's first does."""
        assert self.scale == reference.scale
        return (reference.first - self.first) / self.scale


def vgg_maps() -> dict[str, Map]:
    """pool1 .. pool5 and fc6, with conv1_1 padded by 100."""
    found, now = {}, Map().convolved(3, padding=100)
    for pool in range(1, 6):
        now = found[f"pool{pool}"] = now.convolved(2, 2)  # 3x3 convolutions padded by 1 move nothing
    return {**found, "fc6": now.convolved(7)}


def test_crops_are_caffes() -> None:
    maps = vgg_maps()
    assert Map().convolved(3, padding=1).first == 0
    direct = maps["fc6"].deconvolved(64, 32)
    by_two = maps["fc6"].deconvolved(4, 2)
    again = by_two.deconvolved(4, 2)
    picture = Map()
    assert CROPS[32] == (direct.offset_of(picture),)
    assert CROPS[16] == (maps["pool4"].offset_of(by_two), by_two.deconvolved(32, 16).offset_of(picture))
    assert CROPS[8] == (
        maps["pool4"].offset_of(by_two),
        maps["pool3"].offset_of(again),
        again.deconvolved(16, 8).offset_of(picture),
    )


@pytest.mark.parametrize("factor", [2, 8, 16, 32])
def test_the_kernel_interpolates(factor: int) -> None:
    """Away from the border it is bilinear resizing by the factor; its outer rows are the border's."""
    places = torch.randn(1, 3, 5, 6, dtype=torch.float64)
    upscore = BilinearDeconvolution(3, factor, learned=False).double()
    found = upscore(places)
    assert found.shape == (1, 3, 5 * factor + factor, 6 * factor + factor)
    half = factor // 2
    wanted = F.interpolate(places, scale_factor=factor, mode="bilinear", align_corners=False)
    inner = (..., slice(factor, -factor), slice(factor, -factor))
    torch.testing.assert_close(found[..., half:-half, half:-half][inner], wanted[inner])


def test_kernel_by_hand() -> None:
    """Caffe's bilinear filler, f = 2, c = 3/4: (1 - |x / f - c|) for x = 0..3."""
    line = torch.tensor([1 - abs(x / 2 - 0.75) for x in range(4)], dtype=torch.float32)
    torch.testing.assert_close(bilinear_kernel(4), line[:, None] * line)
    # an odd kernel has its centre on a place
    assert bilinear_kernel(3).tolist() == [[0.25, 0.5, 0.25], [0.5, 1.0, 0.5], [0.25, 0.5, 0.25]]


def test_a_learned_deconvolution_starts_as_the_fixed_one() -> None:
    places = torch.randn(2, 4, 3, 5)
    fixed, learned = (BilinearDeconvolution(4, 2, learned=learned) for learned in (False, True))
    torch.testing.assert_close(learned(places), fixed(places))
    assert not list(fixed.parameters()) and not fixed.state_dict()
    assert learned.weight.shape == (4, 4, 4, 4)


def test_sizes_of_the_worked_example() -> None:
    with torch.device("meta"):
        network = build("vgg16", "fcn8s", 21, width=4)
        seen: dict[str, tuple[int, ...]] = {}
        head = network.head
        for name, module in (("fr", head.score_fr), ("upscore", head.upscore), *head.scores.items()):
            module.register_forward_hook(lambda _, __, out, name=name: seen.update({name: tuple(out.shape[2:])}))
        folded = network.folded(torch.empty(1, 3, 512, 1024))
    assert folded.shape == (1, 21, 1, 512, 1024)
    assert seen == {"fr": (17, 33), "score_pool4": (45, 77), "score_pool3": (89, 153), "upscore": (600, 1112)}


def straight(network: nn.Module, images: Tensor) -> Tensor:
    """The released prototxt layer by layer, in float64, on ours' weights."""
    encoder, head = network.encoder, network.head
    assert isinstance(encoder, Vgg)
    x, pools = images, []
    for index, layer in enumerate(encoder.features):
        if index == 0:
            x = F.conv2d(x, layer.weight, layer.bias, padding=100)
        elif isinstance(layer, nn.MaxPool2d):
            x = F.max_pool2d(x, 2, 2, ceil_mode=True)
            pools.append(x)
        else:
            x = layer(x)
    x = F.conv2d(x, head.classifier.fc6.weight, head.classifier.fc6.bias).relu()
    x = head.score_fr(F.conv2d(x, head.classifier.fc7.weight, head.classifier.fc7.bias).relu())
    classes = x.shape[1]
    for pool, name, offset, scale in ((3, "score_pool4", 5, 0.01), (2, "score_pool3", 9, 0.0001)):
        kernel = torch.eye(classes, dtype=x.dtype)[:, :, None, None] * bilinear_kernel(4).double()
        x = F.conv_transpose2d(x, kernel, stride=2)
        finer = head.scores[name](pools[pool] * scale)
        x = x + finer[..., offset : offset + x.shape[2], offset : offset + x.shape[3]]
    kernel = torch.eye(classes, dtype=x.dtype)[:, :, None, None] * bilinear_kernel(16).double()
    x = F.conv_transpose2d(x, kernel, stride=8)
    return x[..., 31 : 31 + images.shape[2], 31 : 31 + images.shape[3]]


@torch.no_grad()
def test_at_once_is_the_released_network_layer_by_layer() -> None:
    torch.manual_seed(0)
    network = build("vgg16", "fcn8s_at_once", 4, width=2).double().eval()
    for parameter in network.head.parameters():
        parameter.normal_(std=0.2) if not parameter.any() else None
    images = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    torch.testing.assert_close(network(images), straight(network, images))


def test_every_stage_starts_from_the_one_before() -> None:
    """What a stage has more is only the score of one more pooling."""
    keys = [build("vgg16", head, 3, width=1).state_dict().keys() for head in ("fcn32s", "fcn16s", "fcn8s")]
    assert keys[1] - keys[0] == {"head.scores.score_pool4.weight", "head.scores.score_pool4.bias"}
    assert keys[2] - keys[1] == {"head.scores.score_pool3.weight", "head.scores.score_pool3.bias"}
    assert keys[0] <= keys[1] <= keys[2]
