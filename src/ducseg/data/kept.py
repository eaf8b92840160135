"""Samples that are read and decoded once, and kept in memory that the processes of a loader share.

A crop of 256x256 pixels needs a thousandth of a picture of 12 megapixels, whose file has to be decoded whole: with the
pictures in memory training waits for none of them again.

Legend: the memory is one mapping, cut into a region for each worker. A region begins with the number of its bytes that
are taken; a sample lies there as a header (bytes of its description, number of arrays, bytes of each), its pickled
description and its arrays, each at a multiple of 64 bytes. A table says where each sample lies, 0 where nowhere. A
worker writes in its own region alone and reads in all of them, so nothing is locked: a sample's place is written last.
"""

import mmap
import os
import pickle
import shutil
import threading
from copy import copy
from multiprocessing import get_all_start_methods, get_start_method
from multiprocessing.context import get_spawning_popen
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

from ducseg.data.paired import SegmentationDataset
from ducseg.data.patches import Patches
from ducseg.data.sample import Sample
from ducseg.devices import available_memory

__all__ = ["Kept", "kept_in_memory", "memory_for"]

_ALIGNED = 64  # bytes
_BARRIER = threading.Lock()
_SHARED = Path("/dev/shm")  # where Linux has what is handed over


class Kept:
    """A `SegmentationDataset` that keeps the samples of another one, until its memory is full.

    Its samples' arrays are views of the shared memory, which cannot be written to. Worker processes share it, those too
    that are started afresh (on macOS and Windows); another program, that it is sent to, reads the files.

    Args:
        dataset: what is read.
        num_bytes: that the samples may take.
        num_workers: processes of the loader that reads it; 0: this one.

    Reading a sample raises what `dataset` raises.
    """

    def __init__(self, dataset: SegmentationDataset, num_bytes: int, *, num_workers: int = 0) -> None:
        self.dataset, self.classes, self.ids = dataset, dataset.classes, dataset.ids
        regions = max(1, num_workers)
        table = _aligned(8 * len(dataset))
        region = num_bytes // regions // _ALIGNED * _ALIGNED
        self._starts = [table + number * region for number in range(regions)]
        self._region = region
        self._take(_mapping(table + regions * region, to_workers=num_workers > 0) if region else None)

    def _take(self, memory: "mmap.mmap | torch.Tensor | None") -> None:
        self._shared = memory if isinstance(memory, torch.Tensor) else None
        self._memory = memory.numpy() if isinstance(memory, torch.Tensor) else memory
        if self._memory is not None:
            self._places = np.frombuffer(self._memory, np.int64, len(self.dataset))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getstate__(self) -> dict[str, Any]:
        """Without the memory, which another program does not have; a worker that is being started takes it over."""
        of_all = {key: value for key, value in vars(self).items() if key not in ("_memory", "_places")}
        return of_all if get_spawning_popen() is not None else of_all | {"_shared": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._take(self._shared)

    def __getitem__(self, index: int, /) -> Sample:
        if self._memory is None:
            return self.dataset[index]
        memory = memoryview(self._memory)  # type: ignore[arg-type]
        if place := int(self._places[index]):
            return _read(memory.toreadonly(), place)
        sample = self.dataset[index]
        worker = get_worker_info()
        start = self._starts[0 if worker is None else worker.id % len(self._starts)]
        if place := _write(memory[start : start + self._region], sample):
            with _BARRIER:  # what was written is seen before its place is
                self._places[index] = start + place
        return sample


def _read(memory: memoryview, place: int) -> Sample:
    description, count = np.frombuffer(memory, np.int64, 2, place).tolist()
    lengths = np.frombuffer(memory, np.int64, count, place + 16).tolist()
    first, *ends = _ends(place, description, lengths)
    arrays = [memory[end - length : end] for length, end in zip(lengths, ends)]
    sample: Sample = pickle.loads(memory[first - description : first], buffers=arrays)
    return sample


def _write(region: memoryview, sample: Sample) -> int:
    """Where in its region the sample lies now; 0: there is no room."""
    taken = np.frombuffer(region, np.int64, 1)
    place = max(_ALIGNED, _aligned(int(taken[0])))
    buffers: list[pickle.PickleBuffer] = []
    description = memoryview(pickle.dumps(sample, protocol=5, buffer_callback=buffers.append))
    arrays = [buffer.raw() for buffer in buffers]
    header = np.array([len(description), len(arrays), *map(len, arrays)], np.int64).tobytes()
    ends = _ends(place, len(description), [len(array) for array in arrays])
    if ends[-1] > len(region):
        return 0
    region[place : place + len(header)] = header
    for piece, end in zip((description, *arrays), ends):
        region[end - len(piece) : end] = piece
    taken[0] = ends[-1]
    return place


def kept_in_memory(dataset: SegmentationDataset, num_bytes: int, *, num_workers: int = 0) -> SegmentationDataset:
    """The same samples, kept; of patches that are cut on the fly the whole frames are."""
    if isinstance(dataset, Patches):
        patches = copy(dataset)
        patches.frames = Kept(dataset.frames, num_bytes, num_workers=num_workers)
        return patches
    return Kept(dataset, num_bytes, num_workers=num_workers)


def memory_for(share: float) -> int:
    """Bytes of a share of the memory that is free now, split among torchrun's processes on this machine."""
    return int(share * available_memory()) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _ends(place: int, description: int, lengths: list[int]) -> list[int]:
    """Where the description and each array of a sample at `place` end."""
    ends = [place + 16 + 8 * len(lengths) + description]
    for length in lengths:
        ends.append(_aligned(ends[-1]) + length)
    return ends


def _aligned(length: int) -> int:
    return -(-length // _ALIGNED) * _ALIGNED


def _mapping(num_bytes: int, *, to_workers: bool) -> "mmap.mmap | torch.Tensor | None":
    """Memory that this process and its workers share, taken as it is written to; None: the system has none.

    Workers that are forked inherit it; to others torch hands a tensor over.
    """
    try:
        if to_workers and (get_start_method(allow_none=True) or get_all_start_methods()[0]) != "fork":
            if _SHARED.is_dir() and shutil.disk_usage(_SHARED).free < 2 * num_bytes:
                return None  # small in containers, and whoever writes to a full one is ended
            storage = torch.UntypedStorage._new_shared(num_bytes, device="cpu")  # type: ignore[no-untyped-call]
            return torch.empty(0, dtype=torch.uint8).set_(storage)
        if hasattr(mmap, "MAP_SHARED"):
            flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
            return mmap.mmap(-1, num_bytes, flags=flags)
        return mmap.mmap(-1, num_bytes)
    except (OSError, ValueError, OverflowError, RuntimeError):
        return None
