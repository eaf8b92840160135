"""From data sets to training batches that depend on (seed, epoch, index) alone, whatever the workers and ranks.

Legend: B samples a rank and step, W ranks; batch {"image": (B, C, H, W) of the pictures'
type, RGB uint8 mostly, "label": uint8 (B, H, W), "ids": list}.
The global batch g of an epoch is order[g * B * W : (g + 1) * B * W]; rank r takes its r-th piece of B, so two ranks
with B see the batches of one rank with 2 B. What does not fill a global batch at an epoch's end is left out of it; of
fewer pictures than B * W each is drawn several times for the one batch of an epoch.
"""

import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from threading import current_thread, main_thread
from typing import Any, TypedDict
from weakref import WeakSet

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from ducseg.data.files.reading import check_label
from ducseg.data.paired import SegmentationDataset
from ducseg.data.processes import in_a_script
from ducseg.data.sample import Sample
from ducseg.data.transforms import Transform
from ducseg.errors import UserError, behind, explain, said_as_lines

__all__ = [
    "AugmentedDataset",
    "Batch",
    "EpochSampler",
    "SegmentationDataset",
    "TrainingLoader",
    "collate",
    "evaluation_indices",
    "steps_of_epoch",
    "training_loader",
    "workers_watched",
]

Key = tuple[int, int]
"""(epoch, index): which sample (counted around), in which of its random versions."""


class Batch(TypedDict):
    """What `collate` gives."""

    image: torch.Tensor
    label: torch.Tensor
    ids: list[str]


@dataclass(frozen=True)
class AugmentedDataset(Dataset[Sample]):
    """Samples by (epoch, index), transformed with a generator seeded by (seed, epoch, index).

    Raises:
        UserError: a sample that does not read, has no label, or has a label value that is no class.
    """

    dataset: SegmentationDataset
    transform: Transform
    seed: int

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Sample:
        epoch, index = key
        sample = self.dataset[index % len(self.dataset)]
        if sample.label is None:
            raise explain(
                f"sample {sample.id}", found="no label", needed="one to train on", fix="Use a labelled split."
            )
        check_label(sample.label, len(self.dataset.classes), sample.id)
        return self.transform(sample, np.random.default_rng([self.seed, epoch, index]))


def steps_of_epoch(length: int, global_batch: int) -> int:
    """How many whole batches `length` samples fill; one where they fill none."""
    return max(1, length // global_batch)


class EpochSampler(Sampler[list[Key]]):
    """The keys of this rank's batches from step `start_step` on, through as many epochs as `num_steps` steps take.

    Args:
        length: samples in the data set; of fewer than a global batch, index i + k * length is sample i once more.
        batch_size: samples a rank and step.
        num_steps: how many batches to give.
        seed: of the order; epoch e has the same order in every run with this seed.
        rank, world_size: which piece of each global batch.
        start_step: steps done before (resume): step s is batch s % steps_per_epoch of epoch s // steps_per_epoch.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        *,
        num_steps: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        start_step: int = 0,
    ) -> None:
        assert length >= 1, length
        assert batch_size >= 1, batch_size
        assert 0 <= rank < world_size, (rank, world_size)
        assert start_step >= 0, start_step
        assert num_steps >= 0, num_steps
        self.length, self.batch_size, self.num_steps, self.seed = length, batch_size, num_steps, seed
        self.rank, self.world_size, self.start_step = rank, world_size, start_step
        self.steps_per_epoch = steps_of_epoch(length, batch_size * world_size)

    def __len__(self) -> int:
        return self.num_steps

    def __iter__(self) -> Iterator[list[Key]]:
        order, order_epoch = self._order(0), 0
        for step in range(self.start_step, self.start_step + self.num_steps):
            epoch, batch = divmod(step, self.steps_per_epoch)
            if epoch != order_epoch:
                order, order_epoch = self._order(epoch), epoch
            first = (batch * self.world_size + self.rank) * self.batch_size
            yield [(epoch, int(index)) for index in order[first : first + self.batch_size]]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        # a spawn key, for [seed, epoch] would be the stream of sample 0: SeedSequence pads with zeros
        sequence = np.random.SeedSequence(self.seed, spawn_key=(epoch,))
        rng = np.random.default_rng(sequence)
        rounds = -(-self.batch_size * self.world_size // self.length)
        return np.concatenate([rng.permutation(self.length) + done * self.length for done in range(rounds)])


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples of one size, with labels, as one batch of tensors of their types."""
    sizes = {sample.image.shape[:2] for sample in samples}
    assert len(sizes) == 1, f"the transform must give one size, not {sizes}"
    labels = [sample.label for sample in samples if sample.label is not None]
    assert len(labels) == len(samples), "a sample without label"
    images = np.stack([sample.image for sample in samples])
    return {
        "image": torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(),
        "label": torch.from_numpy(np.stack(labels)),
        "ids": [sample.id for sample in samples],
    }


class TrainingLoader(DataLoader[Any]):
    """A `DataLoader` that raises a worker's `UserError` as it was, without torch's traceback in the message.

    Its iterator ends the workers when it is closed, in whatever state: they do not heed the signal by which torch and
    Python would end one that hangs while it leaves, and the program would wait for it for ever.
    """

    def __iter__(self) -> Generator[Batch, None, None]:  # type: ignore[override]
        batches = super().__iter__()
        workers: list[BaseProcess] = list(getattr(batches, "_workers", ()))
        _workers.update(workers)
        try:
            for batch in batches:
                if isinstance(batch, UserError):
                    raise batch
                yield batch
        except (EOFError, ConnectionError) as error:  # of a worker that ends while its batch is taken over
            if not wait([process.sentinel for process in workers], timeout=1):
                raise
            raise _one_was_ended() from error
        finally:
            getattr(batches, "_shutdown_workers", lambda: None)()
            for process in workers:
                process.kill()
                process.join()


_workers: WeakSet[BaseProcess] = WeakSet()


@contextmanager
def workers_watched() -> Iterator[None]:
    """Raise `UserError` where a loader's process is ended from outside; torch says so wherever this process is then."""
    try:
        yield
    except Exception as error:
        said = ("DataLoader worker", "Pin memory thread exited")  # the latter read from it
        if not any(isinstance(one, RuntimeError) and str(one).startswith(said) for one in behind(error)):
            raise
        _end_workers()
        raise _one_was_ended() from error


def _one_was_ended() -> UserError:
    return explain(
        "worker processes that read pictures",
        found="one that the system ended, as it does where memory runs out",
        needed="all of them",
        fix=f"Lower --data.workers (0: none), and go on with --resume where something was saved.{in_a_script()}",
    )


def _end_workers() -> None:
    """Kill the others, which may wait for a lock that the dead one held; torch's handler would raise for each."""
    handled = getattr(signal, "SIGCHLD", None) if current_thread() is main_thread() else None
    handler = None if handled is None else signal.signal(handled, signal.SIG_DFL)
    for process in list(_workers):
        process.kill()
        process.join()
    if handled is not None:
        signal.signal(handled, signal.SIG_DFL if handler is None else handler)


@dataclass(frozen=True)
class _ErrorsAsValues(Dataset["Sample | UserError"]):
    dataset: AugmentedDataset

    def __getitem__(self, key: Key) -> Sample | UserError:
        try:
            return self.dataset[key]
        except UserError as error:
            return error


def _collate_or_error(samples: Sequence[Sample | UserError]) -> Batch | UserError:
    good = []
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
        good.append(sample)
    return collate(good)


def _start_worker(_worker: int) -> None:
    for asked_to_stop in (signal.SIGINT, signal.SIGTERM):  # sent to all processes at once: the run saves, then ends us
        signal.signal(asked_to_stop, signal.SIG_IGN)
    said_as_lines()
    cv2.setNumThreads(0)  # the workers are the parallelism; OpenCV's pool also does not survive a fork
    torch.set_num_threads(1)


def training_loader(
    dataset: SegmentationDataset,
    transform: Transform,
    *,
    batch_size: int,
    num_steps: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    start_step: int = 0,
    num_workers: int = 2,
    pin_memory: bool = False,
) -> TrainingLoader:
    """Batches of steps start_step .. start_step + num_steps - 1; workers are started once and live through all epochs.

    Args:
        dataset, transform, seed: as `AugmentedDataset`.
        batch_size, num_steps, rank, world_size, start_step: as `EpochSampler`.
        num_workers: processes that read and transform; 0: in this process.
        pin_memory: batches in page-locked memory, for copies to a CUDA device.

    Raises:
        UserError: while iterating, for a sample that does not read.
    """
    sampler = EpochSampler(
        len(dataset),
        batch_size,
        num_steps=num_steps,
        seed=seed,
        rank=rank,
        world_size=world_size,
        start_step=start_step,
    )
    return TrainingLoader(
        _ErrorsAsValues(AugmentedDataset(dataset, transform, seed)),
        batch_sampler=sampler,
        collate_fn=_collate_or_error,
        num_workers=num_workers,
        worker_init_fn=_start_worker,
        pin_memory=pin_memory,
        # own generator: else the workers' base seed is drawn from torch's global state, which a resumed run restores
        generator=torch.Generator().manual_seed(seed),
    )


def evaluation_indices(length: int, rank: int = 0, world_size: int = 1) -> range:
    """This rank's samples: over all ranks each of 0..length-1 exactly once, without padding."""
    assert 0 <= rank < world_size, (rank, world_size)
    return range(rank, length, world_size)
