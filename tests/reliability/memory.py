"""How the memory of a process goes while it works."""

import time
from collections.abc import Callable

import numpy as np

__all__ = ["Watched", "resident"]


def resident(process: int) -> int:
    """Bytes in memory now; 0 where it has ended."""
    try:
        with open(f"/proc/{process}/status") as file:  # noqa: PTH123
            lines = [line for line in file if line.startswith("RssAnon")]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(lines[0].split()[1]) << 10 if lines else 0


class Watched:
    """Memory by how much is done, asked for while `goes_on()`."""

    def __init__(self, process: int, done: Callable[[], int], goes_on: Callable[[], bool], every: float = 0.2) -> None:
        self.points: list[tuple[int, int]] = []
        while goes_on():
            taken = resident(process)
            if taken:
                self.points.append((done(), taken))
            time.sleep(every)

    def growth_per_thousand(self) -> float:
        """MiB that come with each thousand done, in the last two thirds: the median of all slopes (Theil, Sen).

        An evaluation takes memory and gives it back: a line of least squares through few steps follows that.
        """
        last = self.points[-1][0]
        kept = np.array([point for point in self.points if point[0] > last / 3], np.float64)
        kept = kept[:: 1 + len(kept) // 1000]
        first, second = np.triu_indices(len(kept), 1)
        done, taken = (kept[second] - kept[first]).T
        slopes = taken[done > 0] / done[done > 0]
        return float(np.median(slopes)) * 1000 / 2**20 if len(slopes) else float("nan")
