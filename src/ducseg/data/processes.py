"""One function over many items on several processes."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, TypeVar

import cv2

from ducseg.errors import explain

__all__ = ["mapped"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_function: Callable[[Any], Any] | None = None  # of a worker process, received once


def mapped(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    num_workers: int,
    progress: Callable[[int, int], None] | None = None,
    *,
    chunk: int = 4,
) -> Iterator[Result]:
    """function(item) for each item, in order; the function travels to each process once.

    Args:
        function: can be pickled, with all it holds.
        num_workers: processes; 1: this one.
        progress: called with (done, total).
        chunk: items a process takes at a time.

    Raises:
        UserError: no worker, one that the system ends; what the function raises, whereupon items not begun are left.
    """
    if num_workers < 1:
        raise explain("workers", found=num_workers, needed="at least 1", fix="1 works in this process.")
    for done, result in enumerate(_results(function, items, num_workers, chunk), 1):
        if progress is not None:
            progress(done, len(items))
        yield result


def _results(
    function: Callable[[Item], Result], items: Sequence[Item], num_workers: int, chunk: int
) -> Iterator[Result]:
    if num_workers == 1 or len(items) < 2:
        yield from map(function, items)
        return
    context = _Spawning()
    pool = ProcessPoolExecutor(min(num_workers, len(items)), context, initializer=_start, initargs=(function,))
    try:
        yield from pool.map(_call, items, chunksize=chunk)
        context.kill()
    except BrokenProcessPool:
        context.kill()
        raise explain(
            "worker processes",
            found="one that the system ended, as it does where memory runs out",
            needed="all of them",
            fix="Use fewer: --workers.",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


class _Spawning(SpawnContext):
    """Spawns and knows what it spawned: a forked process would wait for ever on OpenCV's threads, which it lacks."""

    def __init__(self) -> None:
        super().__init__()
        self._spawned: list[SpawnProcess] = []

    def Process(self, *given: Any, **named: Any) -> SpawnProcess:  # type: ignore[override]
        """What a pool calls."""
        self._spawned.append(_Process(self, *given, **named))
        return self._spawned[-1]

    def started(self) -> list[SpawnProcess]:
        return [process for process in self._spawned if process.pid is not None]

    def kill(self) -> None:
        """The pool would wait for ever for one that it started while another died, or that waits for its lock."""
        for process in self.started():
            process.kill()


class _Process(SpawnProcess):
    """Where one dies, a thread of the pool closes the pipes that the next one is just being started with."""

    def __init__(self, context: _Spawning, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._context: _Spawning | None = context

    def start(self) -> None:
        """Raises BrokenProcessPool where it cannot be started because another has ended, whatever the cause reads."""
        context, self._context = self._context, None  # the context does not travel
        assert context is not None
        try:
            super().start()
        except (OSError, ValueError):
            if wait([process.sentinel for process in context.started()], timeout=0):
                raise BrokenProcessPool from None
            raise


def _start(function: Callable[[Any], Any]) -> None:
    global _function
    cv2.setNumThreads(0)
    _function = function


def _call(item: Any) -> Any:
    assert _function is not None
    return _function(item)
