"""Anyone's backbone and head in a `Segmenter`: what the two protocols ask for, and a wrong stride said in words."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ducseg.classes import ClassSet
from ducseg.errors import UserError
from ducseg.models import HEADS, IMAGENET, Segmenter, build
from ducseg.models.architecture import ENCODER_ROWS, EncoderRow
from ducseg.models.head import HeadRow
from ducseg.models.heads import make_head
from ducseg.ops.duc import DenseUpsampling
from ducseg.weights import load_segmenter, save_segmenter

CLASSES = ClassSet(("a", "b", "c"), ((0, 0, 0), (255, 0, 0), (0, 255, 0)))


class Backbone(nn.Module):
    """Three convolutions to stride 8."""

    output_stride, out_channels = 8, 6

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(c, 6, 3, 2, padding=1) for c in (3, 6, 6))

    def forward(self, images: Tensor) -> Tensor:
        for layer in self.layers:
            images = layer(images).relu()
        return images


class NamedBackbone(Backbone):
    channels: Mapping[str, int] = {"stem": 6, "res2": 6, "res3": 6}
    strides: Mapping[str, int] = {"stem": 2, "res2": 4, "res3": 8}

    def intermediates(self, images: Tensor) -> dict[str, Tensor]:
        found = {}
        for name, layer in zip(self.channels, self.layers):
            found[name] = images = layer(images).relu()
        return found


class Joining(nn.Module):
    """A head that sums all maps at stride 2 and predicts 2 x 2 pixels a place."""

    takes_intermediates, grid_stride, factor = True, 2, 2

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Conv2d(6, 12, 1)

    def forward(self, maps: dict[str, Tensor]) -> Tensor:
        size = maps["stem"].shape[-2:]
        joined = torch.stack([F.interpolate(one, size) for name, one in maps.items() if name != "picture"]).sum(0)
        return self.score(joined).unflatten(1, (3, 4))


def segmenter(encoder: Backbone, head: nn.Module) -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(encoder, head, classes=CLASSES, preprocessing=IMAGENET)  # type: ignore[arg-type]


def test_a_backbone_with_two_attributes_is_an_encoder() -> None:
    found = segmenter(Backbone(), make_head("duc", 6, 3, output_stride=8, cell=1, aspp=0))
    assert found(torch.randn(2, 3, 19, 30)).shape == (2, 3, 19, 30)
    assert {name.partition(".")[0] for name in found.state_dict()} == {"encoder", "head"}


def test_a_head_that_asks_for_them_is_given_the_intermediates() -> None:
    found = segmenter(NamedBackbone(), Joining()).eval()
    images = torch.randn(1, 3, 19, 30)
    scores = found(images)
    assert scores.shape == (1, 3, 19, 30) and (found.grid_stride, found.factor, found.cell) == (2, 2, 1)
    assert torch.equal(found.predict_labels(images), scores.argmax(1).to(torch.uint8))
    padded = F.pad(images, (0, 2, 0, 5))
    assert torch.equal(found.folded(images), found.head({"picture": padded, **found.encoder.intermediates(padded)}))


def test_a_head_that_needs_more_than_the_encoder_has_is_refused() -> None:
    with pytest.raises(UserError, match=r"intermediates.*Backbone"):
        segmenter(Backbone(), Joining())


def test_a_stride_that_the_backbone_does_not_have_is_said() -> None:
    wrong = Backbone()
    wrong.output_stride = 4
    found = segmenter(wrong, make_head("duc", 6, 3, output_stride=4, cell=1, aspp=0))
    with pytest.raises(UserError, match=r"features \(1, 6, 2, 3\) from 16 x 24 pixels.*\(4, 6\).*output_stride"):
        found(torch.zeros(1, 3, 16, 24))


@pytest.mark.parametrize(("stride", "classes"), [(4, 3), (1, 3), (8, 5), (8, 2)])
def test_a_head_of_another_stride_or_of_other_classes_is_said(stride: int, classes: int) -> None:
    found = segmenter(Backbone(), make_head("duc", 6, classes, output_stride=stride, cell=1, aspp=0))
    for answer in (found, found.predict_labels, found.probabilities, found.folded, found.supervised):
        with pytest.raises(
            UserError, match=r"head FoldedHead: found folded scores \(1, .* from 16 x 24 pixels; needed"
        ):
            answer(torch.zeros(1, 3, 13, 24))


def test_a_deconvolution_of_another_stride_is_said() -> None:
    found = segmenter(Backbone(), make_head("deconv", 6, 3, output_stride=16, cell=1, aspp=0))
    with pytest.raises(UserError, match=r"found folded scores \(1, 3, 1, 32, 48\) .*needed \(1, 3, 1, 16, 24\)"):
        found(torch.zeros(1, 3, 16, 24))


def test_strides_that_cannot_fit_are_said_at_once() -> None:
    with pytest.raises(
        UserError, match=r"head FoldedHead: found grid_stride 16, factor 16, on output_stride 8; needed"
    ):
        segmenter(Backbone(), make_head("duc", 6, 3, output_stride=16, cell=1, aspp=0))
    head = make_head("duc", 6, 3, output_stride=8, cell=1, aspp=0)
    head.factor = 3
    with pytest.raises(UserError, match="factor 3"):
        segmenter(Backbone(), head)


def test_what_is_no_encoder_and_no_head_is_said() -> None:
    with pytest.raises(UserError, match=r"grid_stride of DenseUpsampling: found None; .*make_head"):
        segmenter(Backbone(), DenseUpsampling(6, 3, 8))
    with pytest.raises(UserError, match=r"output_stride of Conv2d: found None; .*ducseg\.models\.encoder"):
        segmenter(nn.Conv2d(3, 6, 1), make_head("duc", 6, 3, output_stride=8, cell=1, aspp=0))  # type: ignore[arg-type]
    for name, cell in (("dcu", 1), ("duc", 3), ("duc", 0)):
        with pytest.raises(UserError, match=r"head: found 'dcu'|cell: found"):
            make_head(name, 6, 3, output_stride=8, cell=cell, aspp=0)


def test_its_architecture_is_not_known() -> None:
    found = segmenter(Backbone(), make_head("duc", 6, 3, output_stride=8, cell=1, aspp=0))
    with pytest.raises(UserError, match="a backbone or head of your own"):
        found.architecture  # noqa: B018
    assert build("resnet18", width=2).architecture.encoder == "resnet18"


def test_parts_of_ones_own_have_names_for_build_and_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as tables:
        tables.setitem(ENCODER_ROWS, "own", EncoderRow(lambda _: (NamedBackbone(), IMAGENET), (), ()))
        tables.setitem(HEADS, "joining", HeadRow(lambda *_: Joining(), takes=()))
        made = build("own", "joining", 3, 8, aspp=0, dilation="none").eval()
        save_segmenter(tmp_path / "own", made)
        loaded, picture = load_segmenter(tmp_path / "own"), torch.randn(1, 3, 21, 30)
        with torch.no_grad():
            assert torch.equal(loaded(picture), made(picture))
        with pytest.raises(UserError, match=r"encoder='other' is not one of resnet18, .*, own, nor timm:NAME"):
            build("other", "joining", 3, 8, aspp=0, dilation="none")
    with pytest.raises(
        UserError, match=r"head='joining' is not one of .* a head or encoder of one's own is imported first"
    ):
        load_segmenter(tmp_path / "own")
