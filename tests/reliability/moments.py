"""Moments of a program, counted, so that what is done to it there can be done there again.

    clock    ticks
    call     at every call of a function, Python's or C's
    file     before and after each call that touches a file
    write    before each call that makes, writes, moves or removes a file; "read": before each that looks at one;
             but for Python's own, of modules

An undisturbed run tells how many there are (`Clock.ticks`); another gets a signal at the n-th, or is told by the system
that it cannot be. Threads tick too; worker processes do not.
"""

import contextlib
import io
import itertools
import multiprocessing
import os
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

__all__ = ["CLOCKS", "FILLER", "Clock", "Moment"]

CLOCKS = ("call", "file", "write", "read")

_WRITES = {
    "open", "write", "writelines", "flush", "close", "replace", "rename", "fsync", "mkdir", "rmdir", "unlink", "remove",
    "symlink", "truncate", "ftruncate", "lockf", "imwrite", "sendfile", "copyfile", "copy_file_range", "utime", "chmod",
    "posix_fallocate",
}  # fmt: skip
_READS = {
    "open", "read", "readinto", "readline", "scandir", "listdir", "stat", "lstat", "imread", "load_file", "safe_open",
}  # fmt: skip
_FILES = _WRITES | _READS | {"imencode"}


_OWNERS = (ModuleType, io.IOBase)
"""Of functions and of methods that touch files: a list's `remove` is none."""


@dataclass(frozen=True)
class Moment:
    """The `number`-th tick of a clock, from 1, and what is done then.

    Attributes:
        signal: sent then, by default kill -9.
        error: raised then in its place: errno of an `OSError`.
        fill: a folder whose disk is filled then, in its place, by a file `FILLER` there.
        of_worker: one of the process's own gets the signal, then or as soon as there is one.
    """

    clock: str
    number: int
    signal: int = signal.SIGKILL
    error: int | None = None
    fill: str | None = None
    of_worker: bool = False


FILLER = "filler"


class Clock:
    """Ticks in this process until it ends.

    Attributes:
        ticks: so far, by the clock's name.
    """

    def __init__(self, moment: Moment | None) -> None:
        self.moment, self.process = moment, os.getpid()
        self.ticks = dict.fromkeys(CLOCKS, 0)
        self._next = {name: itertools.count(1).__next__ for name in CLOCKS}

    def start(self) -> None:
        threading.setprofile(self._tick)
        sys.setprofile(self._tick)

    def stop(self) -> None:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]

    def _tick(self, frame: FrameType, event: str, what: Any) -> None:
        if event in ("call", "c_call"):
            self._strike("call")
        if event in ("c_call", "c_return") and what.__name__ in _FILES and isinstance(what.__self__, _OWNERS):
            self._strike("file")
            refusable = event == "c_call" and not frame.f_code.co_filename.startswith("<frozen importlib")
            if refusable and what.__name__ in _WRITES:
                self._strike("write")
            if refusable and what.__name__ in _READS:
                self._strike("read")

    def _strike(self, name: str) -> None:
        self.ticks[name] = number = self._next[name]()
        moment = self.moment
        if moment is None or moment.clock != name or os.getpid() != self.process:
            return
        if moment.of_worker and number >= moment.number and (workers := multiprocessing.active_children()):
            self.moment = None
            os.kill(workers[0].pid or 0, moment.signal)
        if moment.number != number or moment.of_worker:
            return
        if moment.error is not None:
            raise OSError(moment.error, os.strerror(moment.error))
        if moment.fill is not None:
            _fill(Path(moment.fill))
            return
        os.kill(self.process, moment.signal)


def _fill(folder: Path) -> None:
    with contextlib.suppress(OSError), (folder / FILLER).open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
