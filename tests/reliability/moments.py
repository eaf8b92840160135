"""Moments of a program, counted, so that what is done to it there can be done there again.

Two clocks: "call" ticks at every call of a function, Python's or C's; "file" only at calls that touch files, before and
after each. An undisturbed run tells how many there are (`Clock.ticks`); another gets a signal at the n-th. Threads tick
too; worker processes do not.
"""

import itertools
import os
import signal
import sys
import threading
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal

__all__ = ["Clock", "Moment"]

FILES = frozenset(
    [
        "open",
        "write",
        "writelines",
        "flush",
        "close",
        "replace",
        "rename",
        "fsync",
        "mkdir",
        "rmdir",
        "unlink",
        "remove",
        "symlink",
        "truncate",
        "ftruncate",
        "lockf",
        "imwrite",
        "imencode",
        "sendfile",
        "copyfile",
        "copy_file_range",
        "utime",
        "chmod",
        "scandir",
        "iterdir",
        "read",
        "readinto",
        "stat",
    ]
)


@dataclass(frozen=True)
class Moment:
    """The `number`-th tick of a clock, from 1; what is done then, by default kill -9."""

    clock: Literal["call", "file"]
    number: int
    signal: int = signal.SIGKILL


class Clock:
    """Ticks in this process until it ends.

    Attributes:
        ticks: so far, by the clock's name.
    """

    def __init__(self, moment: Moment | None) -> None:
        self.moment, self.process = moment, os.getpid()
        self.ticks = {"call": 0, "file": 0}
        self._next = {name: itertools.count(1).__next__ for name in self.ticks}

    def start(self) -> None:
        threading.setprofile(self._tick)
        sys.setprofile(self._tick)

    def stop(self) -> None:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]

    def _tick(self, _frame: FrameType, event: str, what: Any) -> None:
        if event in ("call", "c_call"):
            self._strike("call")
        if event in ("c_call", "c_return") and what.__name__ in FILES:
            self._strike("file")

    def _strike(self, name: str) -> None:
        self.ticks[name] = number = self._next[name]()
        moment = self.moment
        if moment is not None and moment.clock == name and moment.number == number and os.getpid() == self.process:
            os.kill(self.process, moment.signal)
