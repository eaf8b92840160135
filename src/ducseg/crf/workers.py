"""Run numba kernels on all cores from one Python thread per core.

The kernels release Python's lock, so plain threads run them side by side. Numba's own `prange` would do the same,
but its default threading layer aborts the process when two Python threads use it at once, and compiles several
times longer.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import TracebackType
from typing import Any, Self, TypeVar

import numba

__all__ = ["Workers"]

T = TypeVar("T")


class Workers:
    """A pool of threads: as many as numba is set to use (numba.set_num_threads, NUMBA_NUM_THREADS), else all cores."""

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or int(numba.get_num_threads())
        self._pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def each(self, function: Callable[..., T], count: int, *args: Any) -> tuple[T, ...]:
        """function(i, *args) for i below `count`, side by side; the results in order."""
        if self._pool is None or count == 1:
            return tuple(function(i, *args) for i in range(count))
        tasks = [self._pool.submit(function, i, *args) for i in range(count)]
        return tuple(task.result() for task in tasks)

    def ranges(self, function: Callable[..., T], total: int, *args: Any) -> tuple[T, ...]:
        """function(first, last, *args) over 0..total cut into one range per thread."""
        spans = self.spans(total)
        return self.each(lambda i: function(*spans[i], *args), len(spans))

    def spans(self, total: int) -> list[tuple[int, int]]:
        """0..total cut into one range per thread."""
        cuts = [total * i // self.threads for i in range(self.threads + 1)]
        return list(pairwise(cuts))
