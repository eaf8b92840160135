"""Samples kept in memory are those that were read, in every process, until the memory is full."""

import pickle
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from ducseg.classes import ClassSet
from ducseg.data import kept as kept_module
from ducseg.data.config import DataConfig
from ducseg.data.kept import Kept, kept_in_memory, memory_for
from ducseg.data.layouts.opening import open_training_set
from ducseg.data.loading import TrainingLoader, training_loader
from ducseg.data.paired import SegmentationDataset
from ducseg.data.patches import Patches
from ducseg.data.sample import Sample
from ducseg.data.transforms import Compose, RandomCrop, RandomMirror
from ducseg.errors import UserError

CLASSES = ClassSet(("background", "line"), ((0, 0, 0), (255, 0, 0)))


class Drawn:
    """Samples of any sizes and types; counts how often each is read."""

    def __init__(self, sizes: list[tuple[int, int]], dtype: str = "uint8", channels: int = 3) -> None:
        self.classes, self.sizes = CLASSES, sizes
        self.ids = tuple(f"picture {number}" for number in range(len(sizes)))
        self.dtype, self.channels, self.reads = dtype, channels, [0] * len(sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int, /) -> Sample:
        self.reads[index] += 1
        rng, size = np.random.default_rng(index), self.sizes[index]
        image = rng.integers(0, 250, (*size, self.channels)).astype(self.dtype)
        label = None if index % 3 == 2 else rng.integers(0, 2, size).astype(np.uint8)
        return Sample(image=image, label=label, id=self.ids[index], original_size=size)


def _assert_same(one: Sample, other: Sample) -> None:
    assert_array_equal(one.image, other.image, strict=True)
    if other.label is None:
        assert one.label is None
    else:
        assert one.label is not None
        assert_array_equal(one.label, other.label, strict=True)
    assert (one.id, one.original_size) == (other.id, other.original_size)


@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    channels=st.integers(1, 5),
    room=st.integers(0, 8000),
    order=st.lists(st.integers(0, 5), max_size=20),
)
def test_any_samples_in_any_room_and_order(
    sizes: list[tuple[int, int]], dtype: str, channels: int, room: int, order: list[int]
) -> None:
    source, plain = Drawn(sizes, dtype, channels), Drawn(sizes, dtype, channels)
    kept = Kept(source, room)
    for index in (number % len(sizes) for number in order):
        _assert_same(kept[index], plain[index])


def test_each_is_read_once_where_there_is_room() -> None:
    source = Drawn([(20, 30)] * 5)
    kept = Kept(source, 1 << 20)
    for _ in range(3):
        for index in range(5):
            kept[index]
    assert source.reads == [1] * 5
    assert len(kept) == 5


def test_what_does_not_fit_is_read_each_time_and_the_rest_is_kept() -> None:
    source = Drawn([(20, 30), (200, 300), (20, 30)])
    kept = Kept(source, 10_000)
    for _ in range(3):
        for index in range(3):
            kept[index]
    assert source.reads == [1, 3, 1]


def test_kept_samples_cannot_be_changed() -> None:
    kept = Kept(Drawn([(20, 30)]), 1 << 20)
    kept[0]
    with pytest.raises(ValueError, match="read-only"):
        kept[0].image[:] = 0


def test_another_program_reads_for_itself() -> None:
    kept = pickle.loads(pickle.dumps(Kept(Drawn([(20, 30)]), 1 << 20)))
    for _ in range(2):
        _assert_same(kept[0], Drawn([(20, 30)])[0])
    assert kept.dataset.reads == [2]


def _read_all(kept: Kept, pipe: Connection) -> None:
    samples = [kept[index] for index in range(len(kept))]
    pipe.send((samples, kept.dataset.reads))  # type: ignore[attr-defined]


def test_workers_that_are_started_afresh_share_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS and Windows, where each of them read every picture again at every step."""
    monkeypatch.setattr(kept_module, "get_start_method", lambda **_: "spawn")
    source, context = Drawn([(20, 30)] * 3), get_context("spawn")
    kept = Kept(source, 1 << 20, num_workers=2)
    before = [kept[0], kept[2]]
    ours, theirs = context.Pipe()
    worker = context.Process(target=_read_all, args=(kept, theirs))
    worker.start()
    theirs.close()
    found, reads = ours.recv()
    worker.join()
    assert reads == [1, 1, 1], "those of both processes"
    _assert_same(kept[1], found[1])
    assert source.reads == [1, 0, 1]
    for one, other in zip(before, (found[0], found[2])):
        _assert_same(one, other)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_no_room_at_all(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_module, "get_start_method", lambda **_: method)
    source = Drawn([(20, 30)])
    for num_bytes in (0, 10, 1 << 62):  # the last is more than any system has
        _assert_same(Kept(source, num_bytes, num_workers=1)[0], Drawn([(20, 30)])[0])


def _write_folder(root: Path, number: int, side: int) -> None:
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for index in range(number):
        cv2.imwrite(str(root / "images" / f"{index}.png"), rng.integers(0, 256, (side, side, 3)).astype(np.uint8))
        cv2.imwrite(str(root / "masks" / f"{index}.png"), rng.integers(0, 2, (side, side)).astype(np.uint8))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_and_files_are_read_once(tmp_path: Path, workers: int) -> None:
    _write_folder(tmp_path, 8, 60)
    config = DataConfig(dataset="folder", root=str(tmp_path), val_fraction=0.25)
    train_set = open_training_set(config, (0, 0, 0))
    kept = kept_in_memory(train_set, 1 << 22, num_workers=workers)
    transform = Compose((RandomCrop((32, 32)), RandomMirror()))

    def loader(dataset: SegmentationDataset, first: int, count: int) -> TrainingLoader:
        return training_loader(
            dataset, transform, batch_size=3, num_steps=count, start_step=first, seed=5, num_workers=workers
        )

    expected = list(loader(train_set, 0, 12))
    found = list(loader(kept, 0, 8))
    for file in (tmp_path / "images").iterdir():
        file.unlink()
    found += list(loader(kept, 8, 4))  # other workers, which find what the first ones read
    for one, other in zip(found, expected, strict=True):
        assert one["ids"] == other["ids"]
        assert_array_equal(one["image"], other["image"])
        assert_array_equal(one["label"], other["label"])
    with pytest.raises(UserError):
        list(loader(train_set, 0, 1))


def test_of_patches_the_frames_are_kept() -> None:
    source = Drawn([(1024, 2048)] * 2)
    patches = Patches(source, "12-fold")
    kept = kept_in_memory(patches, 64 << 20)
    assert len(kept) == len(patches) == 24
    for index in (0, 5, 11, 13):
        _assert_same(kept[index], patches[index])
    source.reads = [0, 0]
    for index in range(24):
        kept[index]
    assert source.reads == [0, 0]


def test_a_share_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ducseg.data.kept.available_memory", lambda: 1000)
    assert memory_for(0.25) == 250
    assert memory_for(0) == 0
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "5")
    assert memory_for(0.25) == 50


def test_replacing_an_array_of_a_kept_sample_works() -> None:
    kept = Kept(Drawn([(20, 30)]), 1 << 20)
    kept[0]
    assert replace(kept[0], label=None).label is None
