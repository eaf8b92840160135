"""How many processors this process may use."""

import math
import os
from pathlib import Path

__all__ = ["available_cores"]

_QUOTAS = (("/sys/fs/cgroup/cpu.max",), ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"))
"""Microseconds in a period and the period, of Linux's control groups 2 and 1."""


def available_cores() -> int:
    """Those that it is bound to, as by a cluster's scheduler, and that its container has time on; else all."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([bound, *filter(None, map(_quota, _QUOTAS))])


def _quota(files: tuple[str, ...]) -> int | None:
    """Rounded up; None: there is none."""
    try:
        words = " ".join(Path(file).read_text(encoding="utf-8") for file in files).split()
    except OSError:
        return None
    if len(words) != 2 or not all(map(str.isdecimal, words)):  # "max", or -1
        return None
    return math.ceil(int(words[0]) / int(words[1]))
