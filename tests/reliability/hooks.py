"""What is done to a process before its command: other surroundings."""

import ctypes
import itertools
import os
import resource
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

__all__ = ["clock_goes_back", "in_network", "little_memory", "no_links", "slow_disk"]


def clock_goes_back() -> None:
    """Each time that somebody asks the time it is a minute earlier."""
    now, earlier = time.time(), itertools.count()
    time.time = lambda: now - 60 * next(earlier)
    time.time_ns = lambda: int(time.time() * 1e9)


def no_links() -> None:
    """As on FAT and some network disks."""

    def refuse(*_given: Any, **_options: Any) -> None:
        raise PermissionError(1, os.strerror(1))

    os.symlink = os.link = refuse
    Path.symlink_to = refuse  # type: ignore[assignment]


def _enter_network(name: str, seconds: float) -> None:
    from ducseg.train import distributed

    with Path(f"/var/run/netns/{name}").open() as namespace:
        assert ctypes.CDLL(None).setns(namespace.fileno(), 0x40000000) == 0
    distributed.TIMEOUT = timedelta(seconds=seconds)


def in_network(name: str, seconds: float) -> Any:
    """In a network of its own, where ranks wait so long for each other."""
    return partial(_enter_network, name, seconds)


def slow_disk() -> None:
    """20 ms for what goes to it."""
    sync = os.fsync
    os.fsync = lambda descriptor: (time.sleep(0.02), sync(descriptor))[1]


def _bound(extra: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    bound = pages * resource.getpagesize() + extra
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))


def little_memory(extra: int) -> Any:
    """So many bytes beside what the process has."""
    return partial(_bound, extra)
