"""Intervals over pictures against resampling written as loops."""

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from ducseg.classes import ClassSet
from ducseg.metrics.confusion import scores
from ducseg.metrics.intervals import (
    differences,
    format_differences,
    in_resamples,
    interval_line,
    intervals,
    overlap,
)

Numbers = NDArray[np.int64]
CLASSES = ClassSet(("ground", "wire", "absent", "rare"), ((0, 0, 0),) * 4)


def named(pictures: list[Numbers]) -> dict[str, Numbers]:
    return {f"{number // 2}_{number}": picture for number, picture in enumerate(pictures)}


def bounds(pictures: list[Numbers], **options: Any) -> dict[str, Any]:
    found = intervals(named(pictures), CLASSES, **options)
    assert found is not None
    return found


def bounds_between(pictures: list[Numbers], others: list[Numbers], **options: Any) -> dict[str, Any]:
    found = differences(named(pictures), dict(reversed(named(others).items())), CLASSES, **options)
    assert found is not None
    return found


def matrices(number: int) -> list[Numbers]:
    """Confusion matrices of pictures of which one alone has the last class, and none the third."""
    found = np.random.default_rng(1).integers(0, 50, (number, 4, 4))
    found[:, 2], found[:, :, 2] = 0, 0
    found[1:, 3], found[1:, :, 3] = 0, 0
    return list(found)


@pytest.mark.parametrize("block", [1, 7, 1 << 22])
def test_they_are_those_of_pooled_resamples(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr("ducseg.metrics.intervals._AT_ONCE", 12 * 6 * block)
    pictures, draw, resamples = matrices(6), np.random.default_rng(5), 40
    found = bounds([overlap(one) for one in pictures], resamples=resamples, level=0.9, seed=5)
    drawn = []
    for _ in range(resamples):
        times = draw.multinomial(6, [1 / 6] * 6)
        drawn.append(scores(sum(count * one for count, one in zip(times, pictures)), CLASSES))
    for key in ("mean_iou", "pixel_accuracy"):
        assert found[key] == pytest.approx(np.quantile([one[key] for one in drawn], (0.05, 0.95)), abs=1e-12)
    for name in ("ground", "wire", "rare"):
        values = [one["classes"][name]["iou"] for one in drawn if not np.isnan(one["classes"][name]["iou"])]
        assert found["classes"][name] == pytest.approx(np.quantile(values, (0.05, 0.95)), abs=1e-12)
    assert np.isnan(found["classes"]["absent"]).all()
    assert (found["level"], found["resamples"], found["pictures"]) == (0.9, 40, 6)


def test_pictures_that_are_alike_leave_no_doubt() -> None:
    found = bounds([overlap(matrices(1)[0])] * 9)
    expected = scores(matrices(1)[0], CLASSES)["mean_iou"]
    assert found["mean_iou"] == pytest.approx([expected] * 2)
    shown = f"{100 * expected:.2f}"
    assert interval_line(found) == f"mean IoU {shown} to {shown} in 95 % of 1000 resamples of the 9 pictures"


def test_they_narrow_as_pictures_come() -> None:
    widths = [np.ptp(bounds([overlap(one) for one in matrices(n)])["classes"]["wire"]) for n in (5, 50, 500)]
    assert widths[0] > 1.5 * widths[1] > 2 * widths[2] > 0


def test_nothing_counted_is_nothing_known() -> None:
    found = bounds([np.zeros((3, 4), np.int64)] * 2)
    assert np.isnan([*found["mean_iou"], *found["pixel_accuracy"]]).all()
    assert interval_line(found) == "mean IoU - to - in 95 % of 1000 resamples of the 2 pictures"


def test_groups_are_drawn_whole() -> None:
    pictures = [overlap(one) for one in matrices(6)]
    found = bounds(pictures, group=lambda name: name[0])
    pooled = bounds([pictures[n] + pictures[n + 1] for n in (0, 2, 4)])
    assert (found.pop("pictures"), found.pop("groups"), pooled.pop("pictures")) == (6, 3, 3)
    np.testing.assert_equal(found, pooled)
    assert in_resamples(found | {"pictures": 6, "groups": 3}) == "95 % of 1000 resamples of the 3 groups of 6 pictures"
    apart = bounds_between(pictures, pictures[::-1], group=lambda name: name[0])
    assert apart["groups"] == 3 and np.ptp(apart["mean_iou"]) != np.ptp(
        bounds_between(pictures, pictures[::-1])["mean_iou"]
    )


def test_groups_that_are_alike_inside_are_not_surer_than_a_picture_of_each() -> None:
    pictures = [overlap(one) for one in matrices(6)]
    each, twice = bounds(pictures), bounds([one for one in pictures for _ in range(2)], group=lambda name: name[0])
    assert (each["mean_iou"], each["classes"]["wire"]) == (twice["mean_iou"], twice["classes"]["wire"])


@pytest.mark.parametrize(("number", "group"), [(1, str), (4, lambda name: "one clip"), (0, str)])
def test_of_one_picture_or_group_nothing_is_known(number: int, group: Any) -> None:
    pictures = named([overlap(one) for one in matrices(5)[:number]])
    assert intervals(pictures, CLASSES, group=group) is differences(pictures, pictures, CLASSES, group=group) is None


def test_differences_are_of_both_networks_on_the_same_resamples() -> None:
    pictures, rng, draw = matrices(6), np.random.default_rng(2), np.random.default_rng(5)
    others = [one + np.diag([*rng.integers(0, 9, 2), 0, 0]) for one in pictures]
    counts = [[overlap(one) for one in network] for network in (others, pictures)]
    found = bounds_between(*counts, resamples=40, level=0.9, seed=5)
    drawn = []
    for _ in range(40):
        times = draw.multinomial(6, [1 / 6] * 6)
        better, worse = (
            scores(sum(count * one for count, one in zip(times, network)), CLASSES) for network in (others, pictures)
        )
        drawn.append(
            (better["mean_iou"] - worse["mean_iou"], better["classes"]["wire"]["iou"] - worse["classes"]["wire"]["iou"])
        )
    expected = np.quantile(drawn, (0.05, 0.95), axis=0)
    assert found["mean_iou"] == pytest.approx(expected[:, 0], abs=1e-12)
    assert found["classes"]["wire"] == pytest.approx(expected[:, 1], abs=1e-12)
    assert np.isnan(found["classes"]["absent"]).all()
    assert np.ptp(found["mean_iou"]) < np.ptp(bounds(counts[0], level=0.9)["mean_iou"])
    same = bounds_between(counts[0], counts[0])
    assert same["mean_iou"] == same["classes"]["ground"] == [0, 0]


def test_differences_are_shown_with_their_signs() -> None:
    mixed = np.diag([3, 1, 0, 0])
    mixed[0, 1] = 1  # a pixel of the ground is taken for wire
    found, other = (scores(matrix, CLASSES) for matrix in (mixed, np.diag([4, 1, 0, 0])))
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(format_differences(found, other, None))
    lines = [line.replace(" ", "").split("│")[1:-1] for line in console.export_text().splitlines() if "│" in line]
    assert lines == [
        ["ground", "75.00", "100.00", "-25.00"],
        ["wire", "50.00", "100.00", "-50.00"],
        ["absent", "-", "-", "-"],
        ["rare", "-", "-", "-"],
        ["meanIoU", "62.50", "100.00", "-37.50"],
        ["pixelaccuracy", "80.00", "100.00", "-20.00"],
    ]
    pictures = [overlap(mixed), overlap(np.diag([4, 1, 0, 0]))]
    console.print(format_differences(found, other, bounds_between(pictures, pictures[::-1])))
    assert "in 95 % of 1000 resamples" in console.export_text()
