"""Ranks of one training run, as torchrun starts them; a single process is a world of one.

Sums over ranks go through `Ranks.sum`, so the loop has no branches for the number of processes. Tensors on the CPU
travel by gloo, beside NCCL too: counts that the host needs do not wait for the GPU.
"""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from ducseg.devices import pick_device
from ducseg.errors import explain

__all__ = ["Ranks", "join_ranks"]


TIMEOUT = timedelta(hours=1)
"""How long a rank waits for another: rank 0 saves, and shares of the validation pictures take unequally long."""

_runs = itertools.count()
"""Of this process; all ranks begin them together."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among all: its rank, how many there are, and the device it computes on."""

    rank: int
    world_size: int
    device: torch.device
    restarts: int
    """How often torchrun has restarted this worker group."""

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files and draws the progress bar."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """`values` summed over all ranks, in place; any shape, on any device."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return values

    def share_buffers(self, module: nn.Module) -> None:
        """Let every rank have rank 0's buffers: without synchronised batch norm each has running statistics of its own.

        DDP does the same before each step; this does it after the last one, for what is scored is what is saved.
        """
        if self.world_size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)

    def wait(self) -> None:
        """Return once every rank is here."""
        if self.world_size > 1:
            dist.barrier()


@contextmanager
def join_ranks(device: str) -> Iterator[Ranks]:
    """Join the process group of torchrun's environment (NCCL on CUDA, else gloo), and leave it at the end.

    Raises:
        UserError: another rank was ended, or cannot be reached (any more).
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = pick_device(
        device,
        int(os.environ.get("LOCAL_RANK", "0")),
        local_ranks=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        option="--run.device",
    )
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    ranks = Ranks(
        rank=int(os.environ.get("RANK", "0")),
        world_size=world_size,
        device=chosen,
        restarts=int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")),
    )
    if world_size == 1:
        yield ranks
        return
    with _others_watched(ranks):
        _init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
        try:
            yield ranks
        finally:
            dist.destroy_process_group()


@contextmanager
def _others_watched(ranks: Ranks) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo's is no class of its own
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise explain(
            f"rank {ranks.rank} of {ranks.world_size}",
            found=f"another one gone or out of reach ({str(error).splitlines()[0][:200]})",
            needed="all of them",
            fix="Look why that one ended, then go on with --resume (torchrun --max-restarts N does it by itself).",
        ) from error


def _init_process_group(backend: str) -> None:
    """`init_process_group`, with each restart's addresses under their own names, and those of each run in a process.

    torchrun's agent keeps one store over its restarts (pytorch issue 135712): a rank may find where another one
    listened before it was killed, and be refused; or where both did in the run before, and wait for ever. Over several
    nodes the counts of restarts may differ: there it is left as torch does it.
    """
    if os.environ.get("GROUP_WORLD_SIZE", "1") != "1":
        dist.init_process_group(backend, timeout=TIMEOUT)
        return
    store, rank, world_size = next(rendezvous("env://"))
    attempt = PrefixStore(f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}-{next(_runs)}", store)
    dist.init_process_group(backend, store=attempt, rank=rank, world_size=world_size, timeout=TIMEOUT)
