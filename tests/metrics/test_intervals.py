"""Intervals over pictures against resampling written as loops."""

import numpy as np
import pytest

from ducseg.classes import ClassSet
from ducseg.metrics.confusion import scores
from ducseg.metrics.intervals import difference_intervals, interval_line, intervals, overlap

CLASSES = ClassSet(("ground", "wire", "absent", "rare"), ((0, 0, 0),) * 4)


def matrices(number: int) -> list[np.ndarray]:
    """Confusion matrices of pictures of which one alone has the last class, and none the third."""
    found = np.random.default_rng(1).integers(0, 50, (number, 4, 4))
    found[:, 2], found[:, :, 2] = 0, 0
    found[1:, 3], found[1:, :, 3] = 0, 0
    return list(found)


@pytest.mark.parametrize("block", [1, 7, 1 << 22])
def test_they_are_those_of_pooled_resamples(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr("ducseg.metrics.intervals._AT_ONCE", 12 * 6 * block)
    pictures, draw, resamples = matrices(6), np.random.default_rng(5), 40
    found = intervals([overlap(one) for one in pictures], CLASSES, resamples=resamples, level=0.9, seed=5)
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
    found = intervals([overlap(matrices(1)[0])] * 9, CLASSES)
    expected = scores(matrices(1)[0], CLASSES)["mean_iou"]
    assert found["mean_iou"] == pytest.approx([expected] * 2)
    shown = f"{100 * expected:.2f}"
    assert interval_line(found) == f"mean IoU {shown} to {shown} in 95 % of 1000 resamples of the 9 pictures"


def test_they_narrow_as_pictures_come() -> None:
    widths = [
        np.ptp(intervals([overlap(one) for one in matrices(n)], CLASSES)["classes"]["wire"]) for n in (5, 50, 500)
    ]
    assert widths[0] > 1.5 * widths[1] > 2 * widths[2] > 0


def test_nothing_counted_is_nothing_known() -> None:
    found = intervals([np.zeros((3, 4), np.int64)] * 2, CLASSES)
    assert np.isnan([*found["mean_iou"], *found["pixel_accuracy"]]).all()
    assert interval_line(found) == "mean IoU - to - in 95 % of 1000 resamples of the 2 pictures"


def test_of_two_networks_the_same_pictures_are_drawn() -> None:
    first, other = matrices(7), matrices(8)[1:]
    found = difference_intervals(
        [overlap(one) for one in first], [overlap(one) for one in other], CLASSES, resamples=40, level=0.9, seed=3
    )
    draw, drawn = np.random.default_rng(3), []
    for _ in range(40):
        times = draw.multinomial(7, [1 / 7] * 7)
        one, two = (scores(sum(count * m for count, m in zip(times, ms)), CLASSES) for ms in (first, other))
        drawn.append((two["mean_iou"] - one["mean_iou"], two["classes"]["wire"]["iou"] - one["classes"]["wire"]["iou"]))
    assert found["mean_iou"] == pytest.approx(np.quantile([mean for mean, _ in drawn], (0.05, 0.95)), abs=1e-12)
    assert found["classes"]["wire"] == pytest.approx(np.quantile([wire for _, wire in drawn], (0.05, 0.95)), abs=1e-12)


def test_a_network_beside_itself_differs_nowhere() -> None:
    pictures = [overlap(one) for one in matrices(9)]
    assert difference_intervals(pictures, pictures, CLASSES)["mean_iou"] == [0, 0]
