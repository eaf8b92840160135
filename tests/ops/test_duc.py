import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ducseg.errors import UserError
from ducseg.ops.duc import DenseUpsampling, downsample_labels, fold_labels, unfold

sizes = st.integers(1, 4)


def folded_by_loops(labels: torch.Tensor, factor: int) -> torch.Tensor:
    number, height, width = labels.shape
    out = torch.empty(number, factor**2, height // factor, width // factor, dtype=labels.dtype)
    for n in range(number):
        for y in range(height):
            for x in range(width):
                channel = (y % factor) * factor + x % factor
                out[n, channel, y // factor, x // factor] = labels[n, y, x]
    return out


@given(sizes, sizes, sizes, st.integers(1, 5), st.sampled_from([torch.uint8, torch.int64, torch.float32]))
def test_fold_agrees_with_loops_and_unfold_is_its_inverse(
    number: int, h: int, w: int, factor: int, dtype: torch.dtype
) -> None:
    labels = torch.randint(0, 256, (number, h * factor, w * factor)).to(dtype)
    folded = fold_labels(labels, factor)
    assert folded.dtype == dtype
    assert torch.equal(folded, folded_by_loops(labels, factor))
    assert torch.equal(unfold(folded[:, None])[:, 0], labels)


@given(sizes, sizes, sizes, sizes, st.integers(1, 4))
def test_fold_is_the_inverse_of_unfold_for_every_class(number: int, classes: int, h: int, w: int, factor: int) -> None:
    folded = torch.randn(number, classes, factor**2, h, w)
    whole = unfold(folded)
    assert whole.shape == (number, classes, h * factor, w * factor)
    for index in range(classes):
        assert torch.equal(fold_labels(whole[:, index], factor), folded[:, index])


@given(sizes, sizes, sizes, st.integers(1, 4))
def test_argmax_and_unfold_commute(classes: int, h: int, w: int, factor: int) -> None:
    folded = torch.randn(2, classes, factor**2, h, w)
    assert torch.equal(unfold(folded).argmax(1), unfold(folded.argmax(1, keepdim=True))[:, 0])


def test_channels_are_those_of_pixel_shuffle() -> None:
    features = torch.randn(2, 6, 5, 7)
    head = DenseUpsampling(6, 3, 4)
    expected = F.pixel_shuffle(head.conv(features), 4)
    assert torch.equal(unfold(head(features)), expected)


@given(st.integers(1, 6), sizes, sizes)
def test_downsampling_takes_the_pixel_nearest_each_cells_centre(cell: int, h: int, w: int) -> None:
    labels = torch.arange(h * cell * w * cell).reshape(1, h * cell, w * cell)
    small = downsample_labels(labels, cell)
    assert small.shape == (1, h, w)
    for y in range(h):
        for x in range(w):
            row, column = divmod(int(small[0, y, x]), w * cell)
            for offset in (row - y * cell, column - x * cell):
                assert 0 <= offset < cell
                assert abs(offset - (cell - 1) / 2) <= 0.5


def test_downsampling_by_two_is_opencvs_nearest() -> None:
    import cv2
    import numpy as np

    labels = np.random.default_rng(0).integers(0, 19, (8, 12)).astype(np.uint8)
    expected = cv2.resize(labels, (6, 4), interpolation=cv2.INTER_NEAREST)
    assert np.array_equal(downsample_labels(torch.from_numpy(labels)[None], 2)[0].numpy(), expected)


@pytest.mark.parametrize("cell", [1, 2, 4, 8])
def test_training_starts_near_log_of_the_number_of_classes(cell: int) -> None:
    torch.manual_seed(0)
    factor = 8 // cell
    scores = DenseUpsampling(64, 19, factor)(torch.randn(2, 64, 6, 6).relu())
    targets = fold_labels(downsample_labels(torch.randint(0, 19, (2, 48, 48)), cell), factor)
    assert F.cross_entropy(scores, targets).item() == pytest.approx(math.log(19), rel=0.05)


def test_sizes_that_do_not_fit_name_the_padded_size() -> None:
    with pytest.raises(UserError, match=r"9x16 pixels; needed multiples of 4.*12x16"):
        fold_labels(torch.zeros(1, 9, 16), 4)
    with pytest.raises(UserError, match=r"multiples of 2.*10x16"):
        downsample_labels(torch.zeros(1, 9, 16), 2)
    with pytest.raises(UserError, match="square number"):
        unfold(torch.zeros(1, 2, 3, 4, 4))


def test_impossible_heads_are_refused() -> None:
    for factor in (0, 4.0, "4", True):
        with pytest.raises(UserError, match="factor of DenseUpsampling: found"):
            DenseUpsampling(4, 2, factor)  # type: ignore[arg-type]
    for kernel_size in (2, (3, 3)):
        with pytest.raises(UserError, match="kernel_size of DenseUpsampling: found"):
            DenseUpsampling(4, 2, 2, kernel_size=kernel_size)  # type: ignore[arg-type]
    assert DenseUpsampling(4, 2, np.int64(4)).factor == 4  # type: ignore[arg-type]


def test_what_is_no_tensor_or_no_batch_is_refused() -> None:
    for call in (lambda maps: fold_labels(maps, 2), unfold):
        with pytest.raises(UserError, match=r"found a ndarray; needed a tensor \(N, .*from_numpy"):
            call(np.zeros((1, 2, 4, 4, 4)))
    with pytest.raises(UserError, match=r"features: found shape \(3, 8, 8\); needed \(N, c, h, w\)"):
        DenseUpsampling(3, 2, 4)(torch.zeros(3, 8, 8))


def test_no_pictures_give_no_scores() -> None:
    features = torch.zeros(0, 3, 8, 8, requires_grad=True)
    scores = unfold(DenseUpsampling(3, 2, 4)(features))
    assert scores.shape == (0, 2, 32, 32)
    scores.sum().backward()
    assert fold_labels(torch.zeros(0, 8, 12), 4).shape == (0, 16, 2, 3)


@pytest.mark.parametrize("call", [fold_labels, downsample_labels])
def test_labels_of_another_shape_and_factors_that_are_none_are_refused(call: Callable[..., Tensor]) -> None:
    for shape in ((8, 8), (1, 1, 8, 8)):
        with pytest.raises(UserError, match=r"label map: found shape \(.*8, 8\); needed \(N, H, W\)"):
            call(torch.zeros(shape), 8)
    for factor in (0, -2, 2.0):
        with pytest.raises(UserError, match="factor: found"):
            call(torch.zeros(1, 8, 8), factor)


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (4, 8, 8), (1, 1, 1, 4, 8, 8)])
def test_what_is_not_folded_is_not_unfolded(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"folded scores: found shape .*; needed \(N, L, r\*r, h, w\)"):
        unfold(torch.zeros(shape))
    with pytest.raises(UserError, match="square number"):
        unfold(torch.zeros(1, 2, 0, 4, 4))


def test_a_network_with_duc_is_traced_by_fx_for_any_size() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.duc = DenseUpsampling(3, 2, 4)

        def forward(self, features: Tensor) -> Tensor:
            return unfold(self.duc(features))

    network = Network()
    traced = torch.fx.symbolic_trace(network)
    for shape in ((1, 3, 4, 5), (2, 3, 6, 2)):
        features = torch.randn(shape)
        assert torch.equal(traced(features), network(features))


def test_the_start_is_drawn_anew_after_to_empty() -> None:
    with torch.device("meta"):
        head = DenseUpsampling(64, 19, 4)
    head.to_empty(device="cpu").apply(lambda part: part.reset_parameters())  # type: ignore[operator]
    assert head.conv.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert head.conv.bias is not None and not head.conv.bias.any()
