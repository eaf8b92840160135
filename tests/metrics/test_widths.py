"""Local widths against the rule written as loops, and straight lines of known width."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from ducseg.classes import IGNORE
from ducseg.errors import UserError
from ducseg.metrics.thin import WIDTH_BINS
from ducseg.metrics.widths import SLACK, local_widths, object_widths

BINS = tuple(WIDTH_BINS.values())


def widths_by_the_rule(label: NDArray[np.uint8], ladder: list[int]) -> NDArray[np.int64]:
    height, width = label.shape
    padded = np.full((height + 40, width + 40), IGNORE, int)
    padded[20:-20, 20:-20] = label
    ys, xs = np.mgrid[-20 : height + 20, -20 : width + 20]
    found = (label != IGNORE).astype(int)
    for size in ladder:
        for y in np.arange(0, height - 0.5, 0.5):
            for x in np.arange(0, width - 0.5, 0.5):
                disk = np.hypot(ys - y, xs - x) < (size + SLACK) / 2
                values = np.unique(padded[disk])
                if len(values) == 1 and values[0] != IGNORE:
                    found[disk[20:-20, 20:-20]] = size
    return found


@settings(max_examples=15)
@given(st.data())
def test_widths_are_those_of_the_rule(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    blocks = data.draw(arrays(np.uint8, (4, 4), elements=st.sampled_from([0, 0, 1, IGNORE])))
    side = data.draw(st.integers(1, 5))
    label = blocks[np.arange(shape[0]) // side % 4][:, np.arange(shape[1]) // side % 4]
    ladder = data.draw(st.sampled_from([[1, 2, 3, 4, 5, 6, 7], [3, 5, 9], [2]]))
    assert local_widths(label, ladder).tolist() == widths_by_the_rule(label, ladder).tolist()


def line(width: int, degrees: float, offset: float, size: int = 80) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Pixels whose centre is less than width / 2 from a straight line, and which of them are far from its ends."""
    angle = np.radians(degrees)
    y, x = np.mgrid[:size, :size] - size / 2
    across, along = x * np.sin(angle) - y * np.cos(angle) - offset, x * np.cos(angle) + y * np.sin(angle)
    on = (across >= -width / 2) & (across < width / 2)
    return on.astype(np.uint8), on & (np.abs(along) < size / 4)


@pytest.mark.parametrize("width", range(1, 21))
def test_a_line_along_the_grid_has_its_width_everywhere(width: int) -> None:
    label = np.zeros((40, 60), np.uint8)
    label[10 : 10 + width] = 1
    for turned in (label, label.T):
        assert (local_widths(turned)[15:-15, 15:-15][turned[15:-15, 15:-15] == 1] == width).all()
    at_the_border = np.roll(label, -10, axis=0)
    assert (local_widths(at_the_border)[: width // 2 + 1, 20:40] == width).all()


@settings(max_examples=60)
@given(width=st.integers(1, 20), degrees=st.floats(0, 180), offset=st.floats(-0.5, 0.5))
def test_a_line_at_any_angle_has_its_width(width: int, degrees: float, offset: float) -> None:
    label, inner = line(width, degrees, offset)
    found = np.median(local_widths(label, range(1, 30))[inner])
    drawn = inner.sum() / 40  # what the grid makes of it: pixels for each pixel of its length
    assert abs(found - width) <= (0 if abs(drawn - width) < 0.1 else 1), (found, drawn)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 15, 17, 20])
def test_lines_at_round_angles_are_in_the_right_bin(width: int) -> None:
    right = BINS[int(np.searchsorted(BINS, width, side="right")) - 1]
    for degrees in (0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 120, 150):
        label, inner = line(width, degrees, 0.21)
        assert (local_widths(label, BINS)[inner] == right).mean() > 0.95, degrees


def test_diagonals_one_and_two_pixels_wide() -> None:
    thin = np.eye(30, dtype=np.uint8)
    stairs = thin | np.eye(30, k=1, dtype=np.uint8)
    assert (local_widths(thin)[thin == 1] == 1).all()
    assert (local_widths(stairs)[stairs == 1] == 1).all()  # 1.4 px
    band = stairs | np.eye(30, k=-1, dtype=np.uint8)  # 2.1 px
    assert (local_widths(band)[4:-4][band[4:-4] == 1] == 2).all()


def test_a_disk_has_its_diameter_and_a_class_does_not_see_the_others() -> None:
    y, x = np.mgrid[:60, :60]
    label = np.zeros((60, 60), np.uint8)
    label[np.hypot(y - 30, x - 30) < 10] = 3
    label[30, 20:41] = IGNORE
    hole = object_widths(label, 3)
    assert hole.median < 10
    label[label == IGNORE] = 3
    whole = object_widths(label, 3)
    assert 18 <= whole.quantile(0.05) <= whole.median <= 20
    assert whole.pixels.sum() == (label == 3).sum()
    assert np.isnan(object_widths(label, 1).median)
    assert (hole + whole).pixels.tolist() == (hole.pixels + whole.pixels).tolist()
    assert object_widths(label, 3, widest=8).pixels[8] == pytest.approx(whole.pixels[8:].sum(), rel=0.05)


def test_other_arrays() -> None:
    assert local_widths(np.zeros((0, 5), np.uint8)).shape == (0, 5)
    assert local_widths(np.array([[7]], np.int64)).tolist() == [[1]]
    assert local_widths(np.full((9, 9), IGNORE)).max() == 0
    with pytest.raises(UserError, match="label"):
        local_widths(np.zeros((3, 3)))


@pytest.mark.parametrize("widest", [0, 255, 300, 2.5])
def test_a_widest_that_is_none_is_refused(widest: float) -> None:
    with pytest.raises(UserError, match="widest: found"):
        object_widths(np.zeros((3, 3), np.uint8), 0, widest=widest)  # type: ignore[arg-type]


def test_other_ladders_are_refused_and_histograms_of_them_not_mixed() -> None:
    label = np.zeros((3, 3), np.uint8)
    for ladder in ([0, 1], [2, 1], [1, 1], [300]):
        with pytest.raises(UserError, match="ladder of widths"):
            local_widths(label, ladder)
    with pytest.raises(UserError, match="widths to add: found widths up to 8; needed widths up to 64"):
        object_widths(label, 0) + object_widths(label, 0, widest=8)
