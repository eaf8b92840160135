"""The segmenter's contract: any size, folded space, labels, probabilities, frozen batch norm."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ducseg.models import Segmenter, build
from ducseg.models.segmenter import most_probable
from ducseg.ops.duc import downsample_labels, fold_labels, unfold

TOY: dict[str, Any] = {"encoder": "resnet18", "width": 4, "num_classes": 5, "aspp": 0, "dilation": "dilated"}
HEADS: dict[str, dict[str, Any]] = {
    "bilinear": {"head": "bilinear"},
    "duc": {"head": "duc", "cell": 1},
    "duc-cell2": {"head": "duc", "cell": 2},
    "deconv": {"head": "deconv"},
    "deconv2": {"head": "deconv2"},
}


def toy(name: str, **changes: Any) -> Segmenter:
    """A small segmenter whose scores differ clearly from pixel to pixel."""
    torch.manual_seed(0)
    segmenter = build(**{**TOY, **HEADS[name], **changes}).eval()
    with torch.no_grad():
        for parameter in segmenter.head.parameters():
            parameter.mul_(100)
    return segmenter


SEGMENTERS = {name: toy(name) for name in HEADS}


@settings(max_examples=25)
@given(name=st.sampled_from(sorted(HEADS)), height=st.integers(1, 40), width=st.integers(1, 40))
def test_any_size_in_is_the_size_out(name: str, height: int, width: int) -> None:
    segmenter = SEGMENTERS[name]
    images = torch.randn(1, 3, height, width)
    with torch.inference_mode():
        scores, labels = segmenter(images), segmenter.predict_labels(images)
        probabilities, folded = segmenter.probabilities(images), segmenter.folded(images)
    assert scores.shape == probabilities.shape == (1, 5, height, width)
    assert labels.shape == (1, height, width) and labels.dtype == torch.uint8
    padded = [-(-side // 8) * 8 // segmenter.grid_stride for side in (height, width)]
    assert folded.shape == (1, 5, segmenter.factor**2, *padded)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(1, height, width))
    # equal to rounding ties, the labels are the most probable classes
    chosen = probabilities.gather(1, labels.long()[:, None])[:, 0]
    torch.testing.assert_close(chosen, probabilities.amax(1))


@pytest.mark.parametrize("name", HEADS)
def test_folded_scores_meet_folded_labels(name: str) -> None:
    segmenter = SEGMENTERS[name]
    images, labels = torch.randn(2, 3, 24, 16), torch.randint(0, 5, (2, 24, 16))
    targets = fold_labels(downsample_labels(labels, segmenter.cell), segmenter.factor)
    scores = segmenter.folded(images)
    assert targets.shape == (2, *scores.shape[2:])
    assert F.cross_entropy(scores, targets).isfinite()
    assert segmenter.cell * segmenter.factor == segmenter.grid_stride


def test_padding_is_the_mean_colour_and_is_cropped() -> None:
    segmenter = SEGMENTERS["duc"]
    images = torch.randn(1, 3, 19, 13)
    padded = F.pad(images, (0, 3, 0, 5))
    torch.testing.assert_close(segmenter(images), segmenter(padded)[..., :19, :13])


@pytest.mark.parametrize("size", [(19, 45), (32, 33), (64, 32), (5, 3), (1, 1)])
def test_the_pyramids_padding_is_the_mirrored_picture_and_is_cropped(size: tuple[int, int]) -> None:
    options = {"encoder": "mobilenet_v2", "head": "pyramid", "dilation": "none", "output_stride": 32, "aspp": 0}
    segmenter, images = build(num_classes=5, **options).eval(), torch.randn(1, 3, *size)
    height, width = size
    padded = np.pad(images, ((0, 0), (0, 0), (0, -height % 32), (0, -width % 32)), "reflect")
    if min(size) < 17:  # numpy mirrors at both borders in turn; the first row or column is repeated here
        mirrored = [[max(0, min(i, 2 * (side - 1) - i)) for i in range(side + -side % 32)] for side in size]
        padded = images.numpy()[..., mirrored[0], :][..., mirrored[1]]
    torch.testing.assert_close(segmenter(images), segmenter(torch.from_numpy(padded))[..., :height, :width])


def test_cell_1_scores_are_the_unfolded_ones() -> None:
    segmenter, images = SEGMENTERS["duc"], torch.randn(1, 3, 16, 24)
    assert torch.equal(segmenter(images), unfold(segmenter.folded(images)))


def test_duc_with_cells_resizes_probabilities_and_the_baseline_scores() -> None:
    images = torch.randn(1, 3, 16, 24)
    duc, baseline = SEGMENTERS["duc-cell2"], SEGMENTERS["bilinear"]
    resized = F.interpolate(unfold(duc.folded(images)).softmax(1), scale_factor=2, mode="bilinear")
    torch.testing.assert_close(duc.probabilities(images), resized)
    resized = F.interpolate(baseline.folded(images)[:, :, 0], scale_factor=8, mode="bilinear")
    torch.testing.assert_close(baseline(images), resized)
    torch.testing.assert_close(baseline.probabilities(images), resized.softmax(1))
    assert {name: SEGMENTERS[name].resize_probabilities for name in HEADS} == {
        "bilinear": False, "duc": False, "duc-cell2": True, "deconv": False, "deconv2": False,
    }  # fmt: skip


def test_what_lies_wholly_in_the_padding_does_not_reach_the_picture() -> None:
    # 2 of the last 8 rows and columns are picture: one cell. The three cells of padding beyond are cut before the
    # resize, so the last pixel has its own cell's probabilities, unmixed.
    segmenter, images = SEGMENTERS["duc-cell2"], torch.randn(1, 3, 18, 18)
    own = unfold(segmenter.folded(images)).softmax(1)[..., 8, 8]
    torch.testing.assert_close(segmenter.probabilities(images)[..., 17, 17], own)


def statistics(segmenter: Segmenter) -> list[torch.Tensor]:
    return [buffer.clone() for name, buffer in segmenter.named_buffers() if "running" in name]


def test_frozen_batch_norm_stays_frozen_through_train() -> None:
    segmenter, images = toy("duc"), torch.randn(2, 3, 32, 32)
    segmenter.train().freeze_batch_norm()
    before = statistics(segmenter)
    for again in (segmenter, segmenter.train(), segmenter.eval().train(True)):
        again.folded(images)
    assert segmenter.training and segmenter.encoder.training
    assert not any(module.training for module in segmenter.modules() if isinstance(module, nn.BatchNorm2d))
    assert all(map(torch.equal, before, statistics(segmenter)))
    assert torch.equal(segmenter.folded(images), segmenter.eval().folded(images))


def test_frozen_batch_norm_still_learns_its_scale() -> None:
    segmenter = toy("duc").train()
    segmenter.freeze_batch_norm()
    segmenter.folded(torch.randn(1, 3, 32, 32)).square().mean().backward()
    assert segmenter.encoder.bn1.weight.grad is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_most_probable_is_the_first_of_the_largest(dtype: torch.dtype) -> None:
    scores = torch.randint(0, 3, (2, 5, 4, 7, 9), generator=torch.Generator().manual_seed(0)).to(dtype)
    wanted = scores.double().numpy().argmax(1)
    for each in (scores, scores.flatten(1, 2).contiguous(memory_format=torch.channels_last).unflatten(1, (5, 4))):
        assert most_probable(each).dtype == torch.uint8
        np.testing.assert_array_equal(most_probable(each).numpy(), wanted)
