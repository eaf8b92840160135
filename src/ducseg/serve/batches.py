"""Jobs of one kind, done together: two threads take the oldest and whatever waits with the same key.

Nothing waits for company: batches form while the threads are busy. Two threads, so that one reads pictures and writes
answers while the other has the network.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, Protocol, TypeVar

__all__ = ["Batches", "Job"]

_THREADS = 2


class Job(Protocol):
    """What is to be done.

    Attributes:
        key: jobs of equal keys may be done together.
        future: gets the result, or the exception.
    """

    @property
    def key(self) -> object: ...

    @property
    def future(self) -> "Future[Any]": ...


J = TypeVar("J", bound=Job)


class Batches(Generic[J]):
    """A queue and its threads.

    Args:
        work: does jobs of one key and sets their futures; what it raises is set on those it left.
        most: jobs at once.

    Attributes:
        seconds: that a job took lately, with the others of its batch.
    """

    def __init__(self, work: Callable[[Sequence[J]], None], *, most: int) -> None:
        self._work, self._most = work, most
        self._waiting: deque[J] = deque()
        self._changed = threading.Condition()
        self._open = True
        self._threads = [threading.Thread(target=self._run, name=f"batches-{n}", daemon=True) for n in range(_THREADS)]
        self.seconds = 1.0

    def __len__(self) -> int:
        """How many jobs wait."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether every thread that was started is there."""
        return all(thread.is_alive() for thread in self._threads if thread.ident is not None)

    def start(self) -> None:
        """Begin to work; by itself at the first job."""
        with self._changed:
            for thread in self._threads:
                if thread.ident is None:
                    thread.start()

    def add(self, job: J) -> None:
        """Let it wait for its turn."""
        self.start()  # an application that this one is mounted in does not say that it begins
        with self._changed:
            self._waiting.append(job)
            self._changed.notify()

    def withdraw(self, job: J) -> None:
        """Nobody wants it any more; one that is being done is done."""
        job.future.cancel()
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)

    def close(self) -> None:
        """Do what waits, then end."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _take(self) -> list[J]:
        """The oldest and others of its key, in their order; none: closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self._open)
            alike = [job for job in self._waiting if job.key == self._waiting[0].key][: self._most]
            for job in alike:
                self._waiting.remove(job)
        return alike

    def _run(self) -> None:
        while taken := self._take():
            jobs = [job for job in taken if job.future.set_running_or_notify_cancel()]
            began = time.perf_counter()
            try:
                self._work(jobs)
            except Exception as error:
                logging.getLogger("ducseg.serve").exception("a batch failed")
                for job in jobs:
                    if not job.future.done():
                        job.future.set_exception(error)
            if jobs:
                self.seconds += 0.2 * ((time.perf_counter() - began) / len(jobs) - self.seconds)
