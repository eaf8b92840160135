"""Evaluation: one pass, every picture once, the data set's classes and labels checked."""

import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ducseg.classes import CAMVID, CITYSCAPES, ClassSet
from ducseg.data.sample import Sample
from ducseg.errors import Said, UserError, explain
from ducseg.figures.evaluation_folder import read_evaluations
from ducseg.inference.evaluate import evaluate
from ducseg.inference.labeller import AveragingLabeller
from ducseg.inference.memory import memory_needed
from ducseg.inference.predictor import Predictor
from ducseg.inference.read_ahead import read_ahead
from ducseg.inference.store import evaluate_and_store
from ducseg.metrics.boundary import BoundaryCounts
from ducseg.metrics.confusion import ConfusionMatrix


class Red:
    """The class is what the red channel says; remembers what it was asked."""

    def __init__(self, classes: ClassSet = CAMVID) -> None:
        self.classes = classes
        self.asked: list[int] = []

    def __call__(self, image: Any, /) -> Any:
        self.asked.append(int(image[0, 0, 2]))
        return image[..., 0]


class Scenes:
    """Pictures of different sizes; the red channel is a wrong label now and then, the blue one the index."""

    def __init__(self, count: int = 7, *, labelled: bool = True, stray: int | None = None) -> None:
        self.classes, self.ids = CAMVID, tuple(f"scene{index}" for index in range(count))
        self.labelled, self.stray = labelled, stray

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int, /) -> Sample:
        rng = np.random.default_rng(index)
        size = (int(rng.integers(4, 30)), int(rng.integers(4, 30)))
        label = np.full(size, rng.integers(11), np.uint8)
        label[: size[0] // 2] = rng.integers(11)
        image = np.full((*size, 3), index, np.uint8)
        image[..., 0] = np.where(rng.random(size) < 0.2, rng.integers(11), label)
        label[-1:] = 255 if self.stray is None else self.stray
        return Sample(image=image, label=label if self.labelled else None, id=self.ids[index], original_size=size)


def test_each_picture_counts_once_in_order_with_both_metrics() -> None:
    labeller, scenes, boundary = Red(), Scenes(), BoundaryCounts(11)
    found = evaluate(labeller, scenes, boundary=boundary)
    assert labeller.asked == list(range(7))
    assert found.num_images == 7
    assert found.seconds > 0
    confusion, expected = ConfusionMatrix(11), BoundaryCounts(11)
    for sample in (scenes[index] for index in range(7)):
        assert sample.label is not None
        confusion.update(sample.label, sample.image[..., 0])
        expected.update(sample.label, sample.image[..., 0])
    assert np.array_equal(found.matrix, confusion.matrix)
    assert np.array_equal(boundary.intersection, expected.intersection)
    assert np.array_equal(boundary.union, expected.union)
    assert expected.union.any()


@pytest.mark.parametrize(("keep", "again"), [(1 << 20, 0), (0, 6)])
def test_what_is_shown_was_scored_and_is_labelled_again_only_where_that_was_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: int, again: int
) -> None:
    monkeypatch.setattr("ducseg.inference.evaluate._KEPT", keep)
    labeller, scenes = Red(), Scenes()
    evaluate_and_store(tmp_path, "val", labeller, scenes, bf16=True)
    assert read_evaluations(tmp_path)["val"].about == {"split": "val", "bf16": True}
    assert len(labeller.asked) == 7 + again
    for one in read_evaluations(tmp_path)["val"].shown:
        assert np.array_equal(one.prediction, scenes[scenes.ids.index(one.id)].image[..., 0])


def test_a_picture_that_does_not_fit_is_scored_in_windows_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []

    class Cut(AveragingLabeller):
        classes, record = CAMVID, {}  # type: ignore[assignment]

        def _computing(self, _pictures: Any) -> Any:
            return nullcontext()

        def _labels(self, pictures: Any) -> Any:
            asked.append(pictures.shape)
            return torch.from_numpy(pictures[..., 0].copy())

        def _probabilities(self, pictures: Any) -> Any:
            return torch.nn.functional.one_hot(self._labels(pictures).long(), 11).movedim(-1, 1).float()

    class Long(Scenes):
        def __getitem__(self, index: int, /) -> Sample:
            sample = super().__getitem__(index)
            assert sample.label is not None
            parts = (np.repeat(np.repeat(part, 50, 0)[:, :1], 40, 1) for part in (sample.image, sample.label))
            image, label = (np.ascontiguousarray(part) for part in parts)
            return Sample(image=image, label=label, id=sample.id, original_size=label.shape[:2])

    labeller, scenes = Cut(scales=(1.0,), flip=False), Long(4)
    whole = evaluate(labeller, scenes).matrix
    assert max(shape[1] for shape in asked) > 1024
    asked.clear()
    free = memory_needed(labeller, (1024, 40)) // 2
    monkeypatch.setattr("ducseg.inference.memory.available_memory", lambda _device: free)
    with pytest.warns(Said, match=r"scored in windows of 1024: whole they would not fit"):
        cut = evaluate(labeller, scenes).matrix
    assert max(shape[1] for shape in asked) <= 1024
    assert np.array_equal(whole, cut) and labeller.tiling is None


def test_batches_of_one_size_count_the_same() -> None:
    asked: list[list[tuple[int, ...]]] = []

    class Batched(Predictor):
        def __init__(self) -> None:
            self.model: Any = SimpleNamespace(classes=CAMVID)
            self.scales, self.tiling, self.device = (1.0,), None, torch.device("cpu")

        def labels_of(self, images: Any) -> Any:
            asked.append([image.shape for image in images])
            return [image[..., 0] for image in images]

    class Twins(Scenes):
        """Each size three times in a row."""

        def __getitem__(self, index: int, /) -> Sample:
            return super().__getitem__(index // 3)

    found = evaluate(Batched(), Twins(8), batch_size=2)
    assert [len(shapes) for shapes in asked] == [2, 1, 2, 1, 2]
    assert all(len(set(shapes)) == 1 for shapes in asked)
    assert np.array_equal(found.matrix, evaluate(Red(), Twins(8)).matrix)


def test_shards_add_up_and_may_be_empty() -> None:
    whole = evaluate(Red(), Scenes()).matrix
    parts = [evaluate(Red(), Scenes(), indices=range(rank, 7, 10)) for rank in range(10)]
    assert [part.num_images for part in parts] == [1] * 7 + [0] * 3
    assert np.array_equal(sum(part.matrix for part in parts), whole)


def test_a_picture_cannot_count_twice() -> None:
    with pytest.raises(AssertionError, match="twice"):
        evaluate(Red(), Scenes(), indices=[0, 1, 0])


@pytest.mark.parametrize(
    ("labeller", "scenes", "words"),
    [
        (Red(CITYSCAPES), Scenes(), ["11 classes", "class 0 is sky", "model's 19", "class 0 is road"]),
        (Red(ClassSet(CAMVID.names[:10], CAMVID.palette[:10])), Scenes(), ["class 10 is bicyclist", "10 is missing"]),
        (Red(), Scenes(0), ["no picture"]),
        (Red(), Scenes(labelled=False), ["scene0", "no label"]),
        (Red(), Scenes(stray=40), ["label of scene0", "value 40"]),
    ],
    ids=["other-classes", "fewer-classes", "empty", "unlabelled", "stray-value"],
)
def test_what_cannot_be_scored_is_said(labeller: Red, scenes: Scenes, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        evaluate(labeller, scenes)
    assert all(word in str(caught.value) for word in words), caught.value


def test_names_decide_not_colours() -> None:
    recoloured = ClassSet(CAMVID.names, CAMVID.palette[::-1])
    assert evaluate(Red(recoloured), Scenes()).num_images == 7


def test_reading_runs_ahead_but_only_so_far_and_errors_come_in_their_turn() -> None:
    started: list[int] = []
    lock = threading.Lock()

    def read(item: int) -> int:
        with lock:
            started.append(item)
        if item == 4:
            raise explain("item 4", found="damage", needed="none", fix="-")
        return item * item

    done = []
    for item, get in read_ahead(read, range(10), ahead=2):
        if item == 4:
            with pytest.raises(UserError, match="item 4"):
                get()
            continue
        done.append((item, get()))
        assert max(started) <= item + 2
    assert done == [(item, item * item) for item in range(10) if item != 4]
    assert sorted(started) == list(range(10))
    nothing: Callable[[int], int] = abs
    assert list(read_ahead(nothing, [])) == []
