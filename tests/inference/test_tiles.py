"""Windows against the whole picture: where the network sees no further than the windows' trim, both say the same."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ducseg.classes import CAMVID, ClassSet
from ducseg.errors import UserError
from ducseg.inference.labeller import AveragingLabeller
from ducseg.inference.predictor import Predictor
from ducseg.inference.tiles import PixelsInMemory, Tiling, Windows, answer_windows, assemble
from ducseg.models import build

REACH = 10
"""How far from a pixel `Convolutions` looks."""


class Convolutions(AveragingLabeller):
    """Three convolutions to strides 2, 4, 4, then a shuffle by 4, as DUC: 11 classes."""

    stride = 4

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"scales": (1.0,), "flip": False, **options})
        torch.manual_seed(0)
        wide = 11 * 16
        self.network = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, wide, 3, 1, 1),
            nn.PixelShuffle(4),
        )  # fmt: skip

    @property
    def classes(self) -> ClassSet:
        return CAMVID

    @property
    def record(self) -> Mapping[str, Any]:
        return {}

    def _labels(self, pictures: NDArray[np.uint8]) -> Tensor:
        return self._probabilities(pictures).argmax(1).to(torch.uint8)

    def _probabilities(self, pictures: NDArray[np.uint8]) -> Tensor:
        pixels = torch.tensor(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2) / 16
        height, width = pixels.shape[2:]
        scores = self.network(F.pad(pixels, (0, -width % 4, 0, -height % 4)))
        return scores[..., :height, :width].mul(3).softmax(1)

    @contextmanager
    def _computing(self, _pictures: NDArray[np.uint8]) -> Iterator[None]:
        with torch.inference_mode():
            yield


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def interior(size: tuple[int, int], cut: tuple[bool, bool], margin: int) -> tuple[slice, slice]:
    """All but a margin at the sides that are longer than a window."""
    rows, columns = (slice(margin, length - margin) if long else slice(None) for length, long in zip(size, cut))
    return rows, columns


@pytest.mark.parametrize("size", [(300, 400), (97, 203), (64, 500), (301, 50), (129, 129), (1, 333), (200, 2)])
def test_equals_the_whole_picture_where_the_trim_covers_the_reach(size: tuple[int, int]) -> None:
    tiled, whole, image = Convolutions(tile=128, overlap=64), Convolutions(), picture(*size)
    assert REACH <= 64 // 4
    found, expected = tiled.probabilities(image), whole.probabilities(image)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)
    inside = interior(size, (size[0] > 128, size[1] > 128), REACH)
    np.testing.assert_allclose(found[:, *inside], expected[:, *inside], atol=1e-6)
    labels = tiled(image)
    assert np.array_equal(labels, found.argmax(0))
    assert np.array_equal(labels[inside], whole(image)[inside])
    assert len(np.unique(labels)) > 1


def test_a_smaller_trim_than_the_reach_is_seen() -> None:
    """The comparison above would notice."""
    found = Convolutions(tile=64, overlap=16).probabilities(picture(200, 200))
    expected = Convolutions().probabilities(picture(200, 200))
    assert np.abs(found - expected)[:, REACH:-REACH, REACH:-REACH].max() > 1e-3


def test_with_flip_it_is_the_whole_pictures_average_too() -> None:
    image = picture(200, 308)  # a multiple of 4, so that the mirrored grid is the same
    found, expected = (Convolutions(flip=True, **cut).probabilities(image) for cut in ({"tile": 96, "overlap": 48}, {}))
    np.testing.assert_allclose(found[:, 12:-12, 12:-12], expected[:, 12:-12, 12:-12], atol=1e-6)
    assert not np.allclose(expected, Convolutions().probabilities(image), atol=1e-2)


def test_scales_are_averaged_inside_each_window() -> None:
    image = picture(256, 400)
    found, expected = (
        Convolutions(scales=(0.5, 1.0, 1.5), flip=True, **cut).probabilities(image)
        for cut in ({"tile": 192, "overlap": 96}, {})
    )
    np.testing.assert_allclose(found[:, 24:-24, 24:-24], expected[:, 24:-24, 24:-24], atol=1e-5)
    plain = Convolutions(tile=192).probabilities(image)
    assert np.abs(found - plain)[:, 24:-24, 24:-24].max() > 0.1


@pytest.mark.parametrize("tile", [128, 129, 4096])
def test_a_picture_not_longer_than_a_window_is_whole(tile: int) -> None:
    image = picture(127, 61)
    assert np.array_equal(Convolutions(tile=tile).probabilities(image), Convolutions().probabilities(image))


def test_a_real_network_and_pictures_at_once() -> None:
    torch.manual_seed(0)
    network = build("resnet18", num_classes=5, aspp=0, width=8, head="duc").eval()
    whole, tiled = Predictor(network), Predictor(network, tile=100, overlap=30)
    assert tiled.grid == 8
    assert [Convolutions(scales=scales).grid for scales in ((0.5, 1.25), (0.7,), (0.123,))] == [16, 40, 4]
    small, large = [picture(90, 104, seed) for seed in range(2)], [picture(90, 105, seed) for seed in range(2)]
    assert all(map(np.array_equal, tiled.labels_of(small), whole.labels_of(small)))
    for one, other in zip(tiled.probabilities_of(large), whole.probabilities_of(large)):
        assert one.shape == other.shape
        assert 0 < np.abs(one - other).max() < 0.2
    assert [labels.shape for labels in tiled.labels_of(large)] == [(90, 105)] * 2


@pytest.mark.parametrize("length", [1, 64, 65, 100, 128, 1000, 4097])
@pytest.mark.parametrize(
    ("tile", "overlap", "grid"), [(64, 16, 8), (64, 0, 1), (64, 48, 16), (60, 59, 4), (30, 31 - 2, 12)]
)
def test_windows_are_even_on_the_grid_and_cover_a_side(length: int, tile: int, overlap: int, grid: int) -> None:
    tiling = Tiling(tile, overlap)
    side, lap = tiling.on_grid(grid)
    assert side >= tile > overlap <= lap < side
    assert side % grid == lap % grid == 0
    windows = Windows(length, tiling, grid)
    steps = np.diff(windows.starts)
    assert all(start % grid == 0 for start in windows.starts)
    if length > side:
        assert windows.size == side
        assert steps.max() <= side - lap
        assert steps.max() - steps.min() <= grid
        assert windows.starts[0] + lap // 4 <= 0 < windows.starts[0] + lap // 4 + grid
        assert 0 <= windows.starts[-1] + side - lap // 4 - length < grid
    else:
        assert (windows.size, windows.starts) == (length, [0])
    total, done = np.zeros(length), 0
    for number in range(len(windows.starts)):
        begin, end = windows.used(number)
        assert begin == done, "what was unfinished"
        total[begin:end] += windows.weights(number)
        done = windows.finished(number)
        assert begin < done <= end
    assert done == length
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_weights_fall_towards_the_ends() -> None:
    windows = Windows(1000, Tiling(256, 64), 8)
    begin, end = windows.used(1)
    weights = windows.weights(1)
    overlapping = slice(0, windows.used(0)[1] - begin)
    assert (np.diff(weights[overlapping]) > 0).all()
    assert weights[0] < 0.1 < 0.9 < weights[overlapping][-1]
    assert (weights[overlapping.stop : windows.used(2)[0] - begin] == 1).all()
    assert end - begin == 256 - 2 * 16


@pytest.mark.parametrize("from_row", range(0, 400, 30))
def test_going_on_after_a_finished_row_gives_the_same_bits(from_row: int) -> None:
    labeller, image = Convolutions(), picture(400, 300)
    options: Any = {"classes": 11, "grid": 4}

    def blocks(**more: Any) -> list[Any]:
        answers = labeller.probabilities_of
        return list(answer_windows(PixelsInMemory(image), answers, Tiling(64, 40), **options, **more))

    whole = blocks()
    ends = sorted({block.rows.stop for block in whole})
    reached = max([end for end in ends if end <= from_row], default=0)
    rest = [block for block in whole if block.rows.start >= reached]
    for one, other in zip(blocks(from_row=reached), rest, strict=True):
        assert (one.rows, one.columns) == (other.rows, other.columns)
        assert np.array_equal(one.probabilities, other.probabilities)


def test_windows_go_together_where_asked() -> None:
    labeller, image, asked = Convolutions(), picture(150, 400), list[int]()

    def answers(images: Sequence[NDArray[np.uint8]]) -> Any:
        asked.append(len(images))
        assert len({one.shape for one in images}) == 1
        return labeller.probabilities_of(images)

    options: Any = {"tiling": Tiling(128, 32), "classes": 11, "grid": 4}
    together = assemble(answer_windows(PixelsInMemory(image), answers, at_once=3, **options), (150, 400), 11)
    assert asked == [3, 1] * 2
    alone = assemble(answer_windows(PixelsInMemory(image), labeller.probabilities_of, **options), (150, 400), 11)
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_unfinished_rows_are_kept_in_half_precision_where_asked() -> None:
    labeller, image = Convolutions(), picture(400, 150)

    def found(tiling: Tiling) -> Any:
        blocks = answer_windows(PixelsInMemory(image), labeller.probabilities_of, tiling, classes=11, grid=4)
        return assemble(blocks, (400, 150), 11)

    assert Tiling.given(None, None) is None and Tiling.given(None, 32, half=True) == Tiling(1024, 32, True)
    exact, half = found(Tiling(128, 32)), found(Tiling(128, 32, half=True))
    assert 0 < np.abs(half - exact).max() < 5e-4
    assert half.dtype == np.float32


def test_where_nothing_is_known_the_network_is_not_asked() -> None:
    labeller, image, asked = Convolutions(), picture(100, 500), list[int]()
    there = np.zeros((100, 500), bool)
    there[20:60, 400:470] = True

    class Known(PixelsInMemory):
        def known(self, begin: int, end: int) -> Any:
            return there[begin:end]

    def answers(images: Sequence[NDArray[np.uint8]]) -> Any:
        asked.append(len(images))
        return labeller.probabilities_of(images)

    options: Any = {"tiling": Tiling(128, 32), "classes": 11, "grid": 4}
    found = assemble(answer_windows(Known(image), answers, **options), (100, 500), None)
    assert asked == [1, 1]
    assert np.array_equal(found != 255, there)
    everywhere = assemble(answer_windows(PixelsInMemory(image), labeller.probabilities_of, **options), (100, 500), None)
    assert np.array_equal(found[there], everywhere[there])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 64, "overlap": 64}, r"^overlap 64: found not less than the tile, 64.* overlap 16"),
        ({"tile": 64, "overlap": 100}, "^overlap 100"),
        ({"overlap": 1024}, "not less than the tile, 1024"),
        ({"tile": 0}, "^tile: found 0"),
        ({"tile": -5}, "^tile: found -5"),
        ({"tile": 64, "overlap": -1}, "^overlap: found -1"),
        ({"tile": 64.5}, "^tile: found 64.5"),
    ],
)
def test_tiles_that_cannot_be_are_refused(options: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Convolutions(**options)


def test_no_seam_on_real_photographs(shared: Path) -> None:
    """Differences from the whole picture's answer, and steps from column to column, are no larger where windows end.

    The network looks much further than the trim, so there are differences.
    """
    torch.manual_seed(0)
    network = build("resnet18", num_classes=11, aspp=0, width=16, head="bilinear").eval()
    with torch.no_grad():
        for parameter in network.head.parameters():
            parameter.mul_(10)
    tiled, cut, whole = (
        Predictor(network, tile=96, overlap=32),
        Predictor(network, tile=96, overlap=0),
        Predictor(network),
    )
    files = sorted((shared / "data" / "camvid" / "images" / "test").iterdir())[:60:20]
    images = [np.asarray(cv2.imread(str(file))[:192, :480, ::-1]) for file in files]
    expected = whole.probabilities_of(images)

    def excess(labeller: Predictor, overlap: int) -> list[float]:
        """How far differences, and steps, at the columns where windows end are above the others', in deviations."""
        windows = Windows(480, Tiling(96, overlap), labeller.grid)
        ends = sorted({place for number in range(len(windows.starts)) for place in windows.used(number)} - {0, 480})
        assert len(ends) >= 4
        found = labeller.probabilities_of(images)
        away = np.mean([np.abs(one - other).mean(axis=(0, 1)) for one, other in zip(found, expected)], axis=0)
        steps = np.mean([np.abs(np.diff(one - other)).mean(axis=(0, 1)) for one, other in zip(found, expected)], axis=0)
        rest = [np.delete(away, ends), np.delete(steps, [end - 1 for end in ends])]
        at_ends = [away[ends], steps[[end - 1 for end in ends]]]
        return [float((one.mean() - other.mean()) / other.std()) for one, other in zip(at_ends, rest)]

    assert excess(cut, 0)[1] > 10, "side by side without an overlap seams show"
    assert max(excess(tiled, 32)) < 1, "blended they do not"
