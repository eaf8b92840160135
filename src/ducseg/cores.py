"""How many processors this process may use."""

import os

__all__ = ["available_cores"]


def available_cores() -> int:
    """Those that it is bound to, as by a cluster's scheduler or a container, where the system says; else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
