"""The pyramid of dense upsampling convolutions: shapes, its own definition, start, bad input, on anyone's backbone."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ducseg import UserError
from ducseg.models.pyramid import DenseUpsamplingPyramid, _shuffle, pyramid_widths
from ducseg.ops.duc import unfold


def _picture(features: list[Tensor], factor: int = 2) -> Tensor:
    """One that the features may be of."""
    return torch.randn(len(features[0]), 3, *(factor * side for side in features[0].shape[-2:]))


def _features(channels: list[int], height: int, width: int, number: int = 1) -> list[Tensor]:
    """Features from fine to coarse; `height` and `width` are the coarsest's."""
    steps = len(channels) - 1
    return [torch.randn(number, c, height << (steps - i), width << (steps - i)) for i, c in enumerate(channels)]


@given(
    channels=st.lists(st.integers(1, 5), min_size=2, max_size=5),
    size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    classes=st.integers(1, 4),
)
def test_folded_scores_of_any_features(channels: list[int], size: tuple[int, int], classes: int) -> None:
    head = DenseUpsamplingPyramid(channels, classes).eval()
    features = _features(channels, *size)
    scores = head(features, _picture(features))
    assert scores.shape == (1, classes, 4, *features[0].shape[-2:])
    assert unfold(scores).shape[-2:] == tuple(2 * side for side in features[0].shape[-2:])


@pytest.mark.parametrize("factor", [2, 4])
def test_equals_its_definition_step_by_step(factor: int) -> None:
    torch.manual_seed(0)
    head = DenseUpsamplingPyramid((3, 5, 4), 2, widths=(6, 7), finest_stride=factor).train()
    fine, middle, coarse = features = _features([3, 5, 4], 2, 3, number=2)
    picture = _picture(features, factor)
    scores = head(features, picture)

    def normed(x: Tensor) -> Tensor:  # a fresh batch norm in training mode
        return F.batch_norm(x, None, None, training=True)

    details = F.conv2d(fold_picture(picture, factor), head.details[0].weight, padding=1)
    fine = torch.cat([fine, normed(details).relu()], 1)
    x = coarse
    for step, lateral in ((head.steps[1], middle), (head.steps[0], fine)):
        up = normed(torch.einsum("oc,nchw->nohw", step.expand.weight[:, :, 0, 0], x))
        number, width = len(up), up.shape[1] // 4
        up = up.view(number, 2, 2, width, *x.shape[-2:]).permute(0, 3, 4, 1, 5, 2)  # row offset, column offset, channel
        up = up.reshape(number, width, *lateral.shape[-2:])
        x = (up + normed(step.lateral(lateral))).relu()
        x = normed(F.conv2d(x, step.conv.weight, padding=1)).relu()
    expected = head.last.conv(x).view(2, 2, factor**2, *fine.shape[-2:])
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-4)


def fold_picture(picture: Tensor, factor: int) -> Tensor:
    """(N, c, H, W) -> (N, c*r*r, H/r, W/r), row offset first, then column offset."""
    offsets = [picture[:, :, i::factor, j::factor] for i in range(factor) for j in range(factor)]
    return torch.stack(offsets, 2).flatten(1, 2)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_shuffle_is_pixel_shuffle_with_another_order_of_channels(order: torch.memory_format) -> None:
    x = torch.randn(2, 12, 3, 5).contiguous(memory_format=order)
    expected = F.pixel_shuffle(x.unflatten(1, (4, 3)).transpose(1, 2).flatten(1, 2), 2)
    assert torch.equal(_shuffle(x), expected)
    assert _shuffle(x).is_contiguous(memory_format=order)


def test_shuffles_and_scores_start_as_nearest_neighbour() -> None:
    torch.manual_seed(0)
    head = DenseUpsamplingPyramid((16, 24, 32, 96, 320), 2)
    for step in head.steps:
        grid = _shuffle(step.expand(torch.randn(1, step.expand.in_channels, 3, 3)))
        torch.testing.assert_close(grid, F.interpolate(grid[..., ::2, ::2], scale_factor=2, mode="nearest"))
    features = _features([16, 24, 32, 96, 320], 2, 2, number=2)
    scores = unfold(head(features, _picture(features)))
    assert torch.equal(scores, F.interpolate(scores[..., ::2, ::2], scale_factor=2, mode="nearest"))
    assert 0.5 < scores.std() < 2  # near even, what is rare is not found in few steps


def test_every_parameter_gets_a_gradient() -> None:
    head = DenseUpsamplingPyramid((3, 4, 5), 3)
    features = _features([3, 4, 5], 2, 2, number=2)
    head(features, _picture(features)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


def test_three_lines_on_ones_own_backbone() -> None:
    class Backbone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stages = nn.ModuleList(nn.Conv2d(i, o, 3, 2, 1) for i, o in ((3, 8), (8, 12), (12, 16)))

        def forward(self, x: Tensor) -> list[Tensor]:
            features = []
            for stage in self.stages:
                x = stage(x).relu()
                features.append(x)
            return features

    backbone = Backbone()
    head = DenseUpsamplingPyramid(channels=(8, 12, 16), num_classes=2)
    picture = torch.randn(2, 3, 32, 48)
    scores = unfold(head(backbone(picture), picture))
    assert scores.shape == (2, 2, 32, 48)


@pytest.mark.parametrize(
    "bad",
    [
        {"channels": (8,)},
        {"channels": ()},
        {"widths": (8,)},
        {"widths": (8, 0)},
        {"channels": (0, 1, 2)},
        {"num_classes": 2.0},
        {"picture_channels": -1},
        {"finest_stride": "2"},
    ],
)
def test_sizes_that_cannot_be(bad: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"DenseUpsamplingPyramid.*found.*needed"):
        DenseUpsamplingPyramid(**{"channels": (8, 12, 16), "num_classes": 2, **bad})


def test_features_that_do_not_halve() -> None:
    head = DenseUpsamplingPyramid((3, 4, 5), 2)
    fine, middle, coarse = features = _features([3, 4, 5], 2, 2)
    picture = _picture(features)
    for wrong in ([fine, middle], [fine, middle, coarse[..., :1]], [coarse, middle, fine]):
        with pytest.raises(UserError, match="half as large"):
            head(wrong, picture)
    for wrong_picture in (None, picture[..., 1:], picture[..., ::2, ::2]):
        with pytest.raises(UserError, match="picture of a DenseUpsamplingPyramid"):
            head(features, wrong_picture)
    with pytest.raises(UserError, match=r"picture of .*found shape \(1, 1, .*needed \(1, 3, "):
        head(features, picture[:, :1])
    with pytest.raises(UserError, match="each half as large"):
        head([one[0] for one in features], picture)
    with pytest.raises(UserError, match="needed none"):
        DenseUpsamplingPyramid((3, 4, 5), 2, picture_channels=0)(features, picture)


def test_no_pictures_give_no_scores() -> None:
    features = [one.requires_grad_() for one in _features([3, 4, 5], 2, 2, number=0)]
    scores = DenseUpsamplingPyramid((3, 4, 5), 2).eval()(features, _picture(features))
    assert scores.shape == (0, 2, 4, 8, 8)
    scores.sum().backward()


def test_details_of_one_pixel_reach_the_scores_of_that_pixel() -> None:
    """A pixel reaches the scores within three places of 2 x 2 pixels, through three 3x3 convolutions."""
    torch.manual_seed(0)
    head = DenseUpsamplingPyramid((3, 4), 2).eval()
    features = _features([3, 4], 4, 4)
    picture = _picture(features)
    changed = picture.clone()
    changed[..., 7, 6] += 1
    change = (unfold(head(features, changed)) - unfold(head(features, picture))).abs().sum(1)[0]
    assert change[7, 6] > 0 and not change[:, 14:].any() and not change[14:].any()


def test_widths_for_any_number_of_steps() -> None:
    assert pyramid_widths(4) == (32, 48, 64, 96)
    assert pyramid_widths(1) == (32,)
    assert pyramid_widths(7) == (32, 48, 64, 96, 128, 128, 128)


def test_what_are_no_features_and_no_picture() -> None:
    head = DenseUpsamplingPyramid((3, 4), 2)
    features = _features([3, 4], 2, 3)
    for bad in (dict(enumerate(features)), iter(features), features[0], None, [features[0], None]):
        with pytest.raises(UserError, match=r"features of a Dense.*: found .*list\(features.values\(\)\)"):
            head(bad, _picture(features))
    with pytest.raises(UserError, match="picture of a DenseUpsamplingPyramid: found a ndarray"):
        head(features, _picture(features).numpy())


def test_it_is_traced_by_fx_and_taken_by_vmap() -> None:
    head = DenseUpsamplingPyramid((3, 4), 2).eval()
    features = _features([3, 4], 2, 3)
    picture = _picture(features)
    wanted = head(features, picture)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = head

        def forward(self, fine: Tensor, coarse: Tensor, picture: Tensor) -> Tensor:
            return self.head([fine, coarse], picture)  # type: ignore[no-any-return]

    torch.testing.assert_close(torch.fx.symbolic_trace(Network())(*features, picture), wanted)
    members = {name: torch.stack([values, values]) for name, values in head.state_dict().items()}
    both = torch.func.vmap(lambda one: torch.func.functional_call(head, one, (features, picture)))(members)
    torch.testing.assert_close(both, torch.stack([wanted, wanted]))


def test_the_start_is_drawn_anew_after_to_empty() -> None:
    with torch.device("meta"):
        head = DenseUpsamplingPyramid((8, 32), 3)
    head.to_empty(device="cpu")
    head.apply(lambda part: part.reset_parameters() if hasattr(part, "reset_parameters") else None)
    expand, last = head.steps[0].expand.weight, head.last.conv.weight
    assert torch.equal(expand[:32], expand[32:64]) and expand.std() > 0.1
    assert torch.equal(last[0], last[1]) and last.std() > 0.01
