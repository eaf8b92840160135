"""Batches depend on (seed, epoch, index) alone; ranks share global batches; every picture is evaluated once."""

import multiprocessing
import os
import pickle
import signal
import time
from collections import Counter
from dataclasses import dataclass, replace
from multiprocessing.util import Finalize
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ducseg.classes import ClassSet
from ducseg.data.loading import (
    AugmentedDataset,
    EpochSampler,
    collate,
    evaluation_indices,
    training_loader,
    workers_watched,
)
from ducseg.data.processes import mapped
from ducseg.data.sample import Sample
from ducseg.data.transforms import ColourJitter, Compose, RandomMirror, RandomScaleCrop
from ducseg.errors import UserError

TRANSFORM = Compose((RandomScaleCrop((16, 24)), RandomMirror(), ColourJitter(0.2, 0.2, 0.2)))


CLASSES = ClassSet(names=("a", "b", "c"), palette=((1, 1, 1), (2, 2, 2), (3, 3, 3)))


@dataclass(frozen=True)
class Scenes:
    """Made-up samples; `bad` has a label value that is no class, `bare` has no label."""

    length: int
    bad: int | None = None
    bare: int | None = None
    classes: ClassSet = CLASSES

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(f"scene{index}" for index in range(self.length))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int, /) -> Sample:
        rng = np.random.default_rng(index)
        label = rng.integers(0, 3, (20, 30)).astype(np.uint8)
        if index == self.bad:
            label[4, 5:8] = 7
        return Sample(
            image=rng.integers(0, 256, (20, 30, 3)).astype(np.uint8),
            label=None if index == self.bare else label,
            id=self.ids[index],
            original_size=(20, 30),
        )


def _loader(dataset: Scenes | None = None, **changes: object) -> list[dict[str, object]]:
    settings: dict[str, object] = {"batch_size": 2, "num_steps": 7, "seed": 3, "num_workers": 0, **changes}
    return list(training_loader(dataset or Scenes(10), TRANSFORM, **settings))


def _assert_same(first: list, second: list) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second):
        assert one["ids"] == other["ids"]
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["label"], other["label"])


# -- order -------------------------------------------------------------------------------------------------------------


@given(
    length=st.integers(1, 60),
    batch_size=st.integers(1, 6),
    world_size=st.integers(1, 4),
    seed=st.integers(0, 2**40),
    start_step=st.integers(0, 40),
)
def test_ranks_share_the_batches_of_one_process(
    length: int, batch_size: int, world_size: int, seed: int, start_step: int
) -> None:
    common = {"num_steps": 9, "seed": seed, "start_step": start_step}
    one = list(EpochSampler(length, batch_size * world_size, **common))
    ranks = [
        list(EpochSampler(length, batch_size, rank=rank, world_size=world_size, **common)) for rank in range(world_size)
    ]
    assert one == [[key for piece in pieces for key in piece] for pieces in zip(*ranks)]


@given(length=st.integers(4, 60), batch_size=st.integers(1, 4), seed=st.integers(0, 1000))
def test_an_epoch_has_no_picture_twice_and_leaves_out_less_than_a_batch(
    length: int, batch_size: int, seed: int
) -> None:
    sampler = EpochSampler(length, batch_size, num_steps=3 * (length // batch_size), seed=seed)
    keys = [key for batch in sampler for key in batch]
    assert len(sampler) == len(list(sampler)) == 3 * sampler.steps_per_epoch
    for epoch in range(3):
        indices = [index for its_epoch, index in keys if its_epoch == epoch]
        assert len(indices) == sampler.steps_per_epoch * batch_size > length - batch_size
        assert len(set(indices)) == len(indices)
        assert set(indices) <= set(range(length))


@given(start=st.integers(0, 30), steps=st.integers(0, 30))
def test_a_resumed_sampler_goes_on_where_the_first_would(start: int, steps: int) -> None:
    whole = list(EpochSampler(17, 3, num_steps=start + steps, seed=5))
    assert list(EpochSampler(17, 3, num_steps=steps, seed=5, start_step=start)) == whole[start:]


def test_order_changes_with_epoch_and_seed() -> None:
    first = [[index for _, index in batch] for batch in EpochSampler(40, 20, num_steps=4, seed=0)]
    assert first[:2] != first[2:]
    assert first != [[index for _, index in batch] for batch in EpochSampler(40, 20, num_steps=4, seed=1)]
    keys = [key for batch in EpochSampler(4, 2, num_steps=4, seed=0) for key in batch]
    assert sorted(keys) == [(epoch, index) for epoch in range(2) for index in range(4)]


@given(length=st.integers(0, 50), world_size=st.integers(1, 6))
def test_every_picture_is_evaluated_exactly_once(length: int, world_size: int) -> None:
    shards = [evaluation_indices(length, rank, world_size) for rank in range(world_size)]
    assert sorted(index for shard in shards for index in shard) == list(range(length))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


# -- content -----------------------------------------------------------------------------------------------------------


def test_a_sample_depends_on_seed_epoch_and_index_alone() -> None:
    def image(seed: int, key: tuple[int, int]) -> np.ndarray:
        return AugmentedDataset(Scenes(4), TRANSFORM, seed)[key].image

    np.testing.assert_array_equal(image(1, (2, 3)), image(1, (2, 3)))
    for seed, key in ((2, (2, 3)), (1, (1, 3)), (1, (2, 2))):
        assert (image(1, (2, 3)) != image(seed, key)).any()


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_change_nothing(num_workers: int) -> None:
    _assert_same(_loader(num_workers=num_workers), _loader())


@pytest.mark.parametrize("num_workers", [0, 2])
def test_two_ranks_give_the_global_batches_of_one(num_workers: int) -> None:
    whole = _loader(batch_size=4)
    ranks = [_loader(rank=rank, world_size=2, num_workers=num_workers) for rank in range(2)]
    joined = [
        {
            "ids": one["ids"] + other["ids"],
            "image": torch.cat([one["image"], other["image"]]),
            "label": torch.cat([one["label"], other["label"]]),
        }
        for one, other in zip(*ranks)
    ]
    _assert_same(joined, whole)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_loader_gives_the_remaining_batches(num_workers: int) -> None:
    _assert_same(_loader(start_step=5, num_steps=4, num_workers=num_workers), _loader(num_steps=9)[5:])


def test_batches_are_contiguous_uint8_channels_first() -> None:
    batch = _loader()[0]
    assert batch["image"].dtype == batch["label"].dtype == torch.uint8
    assert batch["image"].shape == (2, 3, 16, 24)
    assert batch["label"].shape == (2, 16, 24)
    assert batch["image"].is_contiguous()
    assert batch["label"].is_contiguous()
    samples = [Scenes(2)[0], Scenes(2)[1]]
    collated = collate(samples)
    assert collated["ids"] == ["scene0", "scene1"]
    for n, sample in enumerate(samples):
        np.testing.assert_array_equal(collated["image"][n].permute(1, 2, 0).numpy(), sample.image)
        np.testing.assert_array_equal(collated["label"][n].numpy(), sample.label)


def test_the_global_random_state_of_torch_is_left_alone() -> None:
    state = torch.get_rng_state()
    _loader(num_workers=1)
    assert torch.equal(torch.get_rng_state(), state)


@dataclass(frozen=True)
class _StampProcess:
    """Writes the process id into the picture."""

    def __call__(self, sample: Sample, rng: np.random.Generator, /) -> Sample:
        stamp = np.frombuffer(np.int64(os.getpid()).tobytes(), np.uint8)
        return replace(sample, image=np.tile(stamp, 3).reshape(2, 4, 3), label=np.zeros((2, 4), np.uint8))


def test_workers_live_through_all_epochs() -> None:
    batches = list(training_loader(Scenes(4), _StampProcess(), batch_size=2, num_steps=12, seed=0, num_workers=2))
    stamps = {batch["image"][0].permute(1, 2, 0).contiguous().numpy().tobytes() for batch in batches}
    assert len(stamps) == 2  # six epochs


def test_data_sets_and_samplers_can_be_sent_to_a_process() -> None:
    dataset = AugmentedDataset(Scenes(4), TRANSFORM, 1)
    again = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(again[(2, 3)].image, dataset[(2, 3)].image)


# -- bad samples -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_bad_label_stops_with_the_name_and_the_value_on_one_line(num_workers: int) -> None:
    with pytest.raises(UserError) as caught:
        _loader(Scenes(10, bad=6), num_workers=num_workers)
    message = str(caught.value)
    assert message.startswith("label of scene6: found value 7 in 3 pixels; needed 0..2")
    assert "\n" not in message


def test_batches_before_a_bad_label_still_come() -> None:
    order = [index for batch in EpochSampler(10, 2, num_steps=5, seed=3) for _, index in batch]
    loader = iter(
        training_loader(Scenes(10, bad=order[4]), TRANSFORM, batch_size=2, num_steps=5, seed=3, num_workers=2)
    )
    assert [next(loader)["ids"], next(loader)["ids"]] == [
        [f"scene{i}" for i in order[:2]],
        [f"scene{i}" for i in order[2:4]],
    ]
    with pytest.raises(UserError, match=f"scene{order[4]}"):
        next(loader)


def test_a_sample_without_label_is_refused() -> None:
    with pytest.raises(UserError, match="sample scene6: found no label"):
        _loader(Scenes(10, bare=6))


@given(length=st.integers(1, 9), more=st.integers(0, 30), seed=st.integers(0, 1000))
def test_fewer_pictures_than_a_batch_are_drawn_evenly_and_each_time_otherwise(
    length: int, more: int, seed: int
) -> None:
    sampler = EpochSampler(length, length + more, num_steps=2, seed=seed)
    assert sampler.steps_per_epoch == 1
    for epoch, keys in enumerate(sampler):
        assert {its_epoch for its_epoch, _ in keys} == {epoch} and len(set(keys)) == length + more
        times = Counter(index % length for _, index in keys)
        assert set(times) == set(range(length)) and max(times.values()) - min(times.values()) <= 1


def test_a_picture_twice_in_a_batch_is_cropped_twice() -> None:
    (batch,) = training_loader(Scenes(1), TRANSFORM, batch_size=4, num_steps=1, seed=0, num_workers=0)
    assert batch["ids"] == ["scene0"] * 4
    assert len({image.numpy().tobytes() for image in batch["image"]}) > 1


class Ending(Scenes):
    """Its worker process is killed at the third sample, as the system does where memory runs out."""

    def __getitem__(self, index: int, /) -> Sample:
        if index == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def test_a_worker_that_the_system_ends_is_one_clear_error_and_leaves_none_behind() -> None:
    loader = training_loader(Ending(8), TRANSFORM, batch_size=2, num_steps=40, seed=0, num_workers=2)
    with pytest.raises(UserError, match=r"worker processes.*--data\.workers"), workers_watched():
        list(loader)
    assert not multiprocessing.active_children()
    with pytest.raises(UserError, match=r"--data\.workers"), workers_watched():  # of the thread that reads from it
        raise RuntimeError("Pin memory thread exited unexpectedly")
    with pytest.raises(RuntimeError, match="another"), workers_watched():
        raise RuntimeError("another")


@pytest.mark.parametrize("error", [EOFError(), ConnectionResetError("gone"), ConnectionRefusedError("gone")])
def test_a_worker_that_ends_while_its_batch_is_taken_over(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection breaks in this process, before torch notices."""
    for killed in (False, True):
        batches = iter(training_loader(Scenes(8), TRANSFORM, batch_size=2, num_steps=40, seed=0, num_workers=2))
        next(batches)

        def breaks(iterator: Any, killed: bool = killed) -> Any:
            if killed:
                iterator._workers[0].kill()
            raise error

        with monkeypatch.context() as patch:
            patch.setattr("torch.utils.data.dataloader._MultiProcessingDataLoaderIter._next_data", breaks)
            with pytest.raises(UserError if killed else type(error)) as caught, workers_watched():
                next(batches)
        assert not killed or "--data.workers" in str(caught.value)
        assert not multiprocessing.active_children()


class Lingering(Scenes):
    """Its worker processes hang when they leave, as one does that inherited a lock which a thread held."""

    def __getitem__(self, index: int, /) -> Sample:
        Finalize(None, time.sleep, args=(600,), exitpriority=1)
        return super().__getitem__(index)


def test_a_worker_that_hangs_while_it_leaves_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)
    loader = training_loader(Lingering(8), TRANSFORM, batch_size=2, num_steps=40, seed=0, num_workers=2)
    batches = iter(loader)
    next(batches)
    batches.close()
    assert not multiprocessing.active_children()


def end_this_process(item: int) -> int:
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_a_script_is_told_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where processes are not forked, each runs the script that starts them, and ends."""
    guard = r"In mine\.py, put what starts them under `if __name__ == \"__main__\":`\."
    monkeypatch.setattr("sys.argv", ["scripts/mine.py"])
    with pytest.raises(UserError, match=rf"--data\.workers.*{guard}"), workers_watched():
        raise RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")
    monkeypatch.setattr("sys.argv", ["site-packages/ducseg/__main__.py"])
    with pytest.raises(UserError, match=r"was saved\.$"), workers_watched():
        raise RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")


@pytest.mark.slow
def test_a_process_of_a_pool_that_the_system_ends_is_one_clear_error() -> None:
    with pytest.raises(UserError, match=r"worker processes.*Use fewer: --workers"):
        list(mapped(end_this_process, range(8), 2))
