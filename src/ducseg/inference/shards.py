"""Which part of the pictures a process takes: --shard I/N, or what SLURM or torchrun say of their processes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ducseg.errors import explain

__all__ = ["Shard", "parse_shard", "shard_from"]

Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, counted from 0.

    Attributes:
        source: the variables that said so; "" where an option did.
        local: which process of its machine this is, where that is known.
    """

    index: int
    count: int
    source: str = ""
    local: int | None = None

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def of(self, items: Sequence[Item]) -> list[Item]:
        """Every `count`-th item, from `index` on: over all shards each item once, and long and short ones mixed."""
        return list(items[self.index :: self.count])


def parse_shard(text: str) -> Shard:
    """I/N, with I from 0 to N - 1; raises UserError for anything else."""
    found = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text, re.ASCII)
    index, count = map(int, found.groups()) if found else (0, 0)
    if index >= count:
        raise explain(
            "--shard",
            found=repr(text),
            needed="I/N with I from 0 to N - 1",
            fix="The first of four is 0/4, the last 3/4.",
        )
    return Shard(index, count)


def shard_from(environment: Mapping[str, str]) -> Shard | None:
    """What torchrun (RANK, WORLD_SIZE) or srun (SLURM_PROCID, SLURM_NTASKS) say, where there are several processes.

    A batch script itself has SLURM's variables too, but runs once: what srun starts in it has SLURM_STEP_ID.

    Raises:
        UserError: variables that are no part of a whole.
    """
    in_script = "SLURM_JOB_ID" in environment and "SLURM_STEP_ID" not in environment
    for rank, world, local in (("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")):
        index, count = environment.get(rank, ""), environment.get(world, "")
        if not index or count in ("", "1") or (rank == "SLURM_PROCID" and in_script):
            continue
        if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise explain(
                f"{rank} and {world}",
                found=f"{index} and {count}",
                needed="the number of this process, from 0, and of all",
                fix="Give --shard I/N, or unset them.",
            )
        place = environment.get(local, "")
        return Shard(int(index), int(count), f"{rank} and {world}", int(place) if place.isdecimal() else None)
    return None
