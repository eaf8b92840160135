"""The look at one's pictures before training: sizes, shares, widths, up and down, on labels whose truth is known."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ducseg.classes import ClassSet
from ducseg.data.sample import Sample
from ducseg.metrics.widths import local_widths
from ducseg.train.survey import survey


class Labels:
    """A data set in memory."""

    classes = ClassSet(("ground", "wire", "disk"), ((0, 0, 0), (255, 0, 0), (0, 255, 0)))

    def __init__(self, labels: list[NDArray[np.uint8]]) -> None:
        self._labels, self.ids = labels, tuple(map(str, range(len(labels))))
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int, /) -> Sample:
        self.read.append(index)
        label = self._labels[index]
        size = (label.shape[0], label.shape[1])
        return Sample(image=np.zeros((*size, 3), np.uint8), label=label, id=self.ids[index], original_size=size)


def _picture(height: int = 60, width: int = 80, *, wire: int = 3, disk: int = 0) -> NDArray[np.uint8]:
    label = np.zeros((height, width), np.uint8)
    label[:, 20 : 20 + wire] = 1
    if disk:
        cv2.circle(label, (55, height // 2), disk, 2, -1)
    return label


def test_shares_widths_and_sizes() -> None:
    found = survey(Labels([_picture(), _picture(80, 80), _picture(30, 100)]))
    ground, wire, disk = found.classes
    assert wire.share == pytest.approx(3 * (60 + 80 + 30) / (60 * 80 + 80 * 80 + 30 * 100))
    assert ground.share + wire.share == pytest.approx(1) and disk.share == 0
    assert wire.median_width == 3 and disk.median_width is None
    assert found.smallest == (30, 80) and found.median == (60, 80)
    assert (found.pictures, found.looked_at) == (3, 3)


def test_how_many_crops_show_a_class() -> None:
    """Of 3 x 4 windows of 30 over 80 x 110 the wire is in one column, in 1 x 1 of a picture that is smaller in all."""
    found = survey(Labels([_picture(80, 110), _picture(20, 25)]), side=30)
    assert [one.seen for one in found.classes] == [1, 4 / 13, 0]
    assert survey(Labels([_picture(80, 110, disk=2)]), side=256).classes[2].seen == 1
    label = np.zeros((64, 64), np.uint8)
    label[63, 63] = 2
    assert survey(Labels([label]), side=32).classes[2].seen == 1 / 4, "to the last pixel"


def test_ignored_pixels_count_nowhere() -> None:
    label = _picture()
    label[:, 40:] = 255
    found = survey(Labels([label]))
    assert found.classes[1].share == pytest.approx(3 / 40)
    assert survey(Labels([np.full((8, 8), 255, np.uint8)])).classes[0].share == 0


def test_up_and_down() -> None:
    level = survey(Labels([_picture(disk=9), _picture(61, 80, disk=9)]))
    assert level.unevenness < 0.01
    street = np.zeros((60, 80), np.uint8)
    street[:30] = 2
    assert survey(Labels([street])).unevenness == 1
    street[:15] = 0
    assert survey(Labels([street])).unevenness == pytest.approx(0.5)


def test_at_most_64_pictures_spread_evenly_and_the_same_every_time() -> None:
    data = Labels([_picture(8, 30)] * 1000)
    assert survey(data) == survey(Labels([_picture(8, 30)] * 1000))
    assert len(data.read) == 64 and len(set(np.diff(data.read))) <= 2 and max(np.diff(data.read)) <= 16


def test_a_huge_picture_is_one_among_the_others() -> None:
    found = survey(Labels([_picture(), _picture(), _picture(400, 500, wire=20)]))
    assert found.classes[1].median_width == 3


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pixels of each part of a label whose widths a survey has measured."""
    sizes: list[int] = []

    def counted(label: NDArray[np.uint8], ladder: tuple[int, ...]) -> NDArray[np.uint8]:
        sizes.append(label.size)
        return local_widths(label, ladder)

    monkeypatch.setattr("ducseg.train.survey.local_widths", counted)
    return sizes


def test_of_large_pictures_few_are_measured(measured: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ducseg.train.survey._MOST_MEASURED", 20 * 60 * 80)
    found = survey(Labels([_picture()] * 64))
    assert (len(measured), found.looked_at, found.classes[1].median_width) == (16, 64, 3)
    measured.clear()
    survey(Labels([_picture(600, 800)] * 8))
    assert len(measured) == 4


def test_of_pictures_too_large_for_that_windows_with_every_class_are_measured(
    measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ducseg.train.survey._MOST_MEASURED", 16 * 128**2)
    monkeypatch.setattr("ducseg.train.survey._WINDOW", 128)
    large = _picture(600, 800)
    cv2.circle(large, (700, 500), 10, 2, -1)
    for number in (1, 3):
        measured.clear()
        ground, wire, disk = survey(Labels([large] * number)).classes
        assert wire.median_width == 3 and disk.median_width in range(12, 25) and ground.median_width == 64
        assert wire.share == pytest.approx(3 / 800)
        assert 3 <= len(measured) <= 9 and set(measured) == {128**2}
    assert survey(Labels([np.full((600, 800), 255, np.uint8)])).classes[0].median_width is None
