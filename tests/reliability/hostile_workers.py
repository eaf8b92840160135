"""Read many bad files in watched processes: what they raise, how long they take, where they write, what they run.

Each file is read with an alarm and a bound on memory. A process that dies or hangs is replaced, and the file in its
hands is a failure. Writes below the scratch folder alone are allowed, and no program, connection or pickled code.
"""

import multiprocessing
import os
import random
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import children  # its forkserver has all that is heavy
from mutations import mutated

__all__ = ["Findings", "Target", "read_many"]

SECONDS = 20.0
"""That one file may take; the machine may be busy."""
MEMORY = 3 << 30
"""Bytes that reading may take beside what the process has."""

_RUNS = {
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "subprocess.Popen", "socket.connect",
    "socket.bind", "ctypes.dlopen", "os.chdir", "pty.spawn",
}  # fmt: skip
_WRITES = {
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "shutil.rmtree",
    "os.chmod",
}


@dataclass(frozen=True)
class Target:
    """A reader and what it is tried on.

    Attributes:
        seeds: of a folder, good files, as bytes; drawn from.
        read: of what `prepare` gave and a file; raises what a user would get, or AssertionError for a wrong answer.
        suffix: of the file.
        kind: of mutation.
        prepare: once a process, in its scratch folder.
        made: files made by hand, by name.
    """

    seeds: Callable[[Path], Sequence[bytes]]
    read: Callable[[Any, Path], object]
    suffix: str
    kind: str = "bytes"
    prepare: Callable[[Path], Any] = lambda folder: folder
    made: Callable[[Path], dict[str, bytes]] = lambda _folder: {}
    may_run: frozenset[str] = frozenset()


@dataclass
class Findings:
    """What came of many files: counts by outcome, and the failures with how to see them again."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    memory: int = 0


def read_many(name: str, seed: int, count: int, folder: Path) -> Findings:
    """Read `count` mutations of a target's seeds, and all that is made by hand."""
    found, first = Findings(), 0
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        ours, theirs = multiprocessing.Pipe()
        process = children._context.Process(target=_work, args=(name, seed, first, count, folder, theirs))
        process.start()
        theirs.close()
        at, since = first, time.monotonic()
        while True:
            if ours.poll(1):
                try:
                    kind, value = ours.recv()
                except EOFError:
                    break
                since = time.monotonic()
                if kind == "at":
                    at = value
                elif kind == "outcome":
                    outcome, seconds = value
                    found.outcomes[outcome] += 1
                    found.slowest = max(found.slowest, seconds)
                elif kind == "failure":
                    found.failures.append(value)
                elif kind == "end":
                    found.memory = max(found.memory, value)
                    process.join()
                    if not found.outcomes["good and read"]:
                        found.failures.append(f"{name}: none of the good files was read")
                    return found
            elif time.monotonic() - since > 3 * SECONDS + 60:
                process.kill()
        process.join()
        found.failures.append(f"{name} {at}: the process ended by {process.exitcode} ({folder / f'{at}'}*)")
        found.outcomes["died or hung"] += 1
        first = at + 1


def inputs(target: Target, name: str, seed: int, first: int, count: int, folder: Path) -> Any:
    """(number, title, content) of every file from the `first` on."""
    seeds = list(target.seeds(folder / "seeds"))
    good = [(f"good {number}", seed) for number, seed in enumerate(seeds)]
    made = [*good, *target.made(folder / "seeds").items()]
    for number in range(first, count + len(made)):
        if number < len(made):
            yield number, *made[number]
        else:
            draw = random.Random(f"{seed} {name} {number}")
            yield number, str(number), mutated(draw.choice(seeds), draw, target.kind, seeds)


def _work(name: str, seed: int, first: int, count: int, folder: Path, pipe: Any) -> None:
    import cv2
    import numba  # noqa: F401 -- it and the one above open libraries and folders at the first import
    import torch
    import torch._dynamo
    from hostile_targets import TARGETS

    from ducseg.errors import UserError

    sys.stdout = sys.stderr = (folder / "said.txt").open("a")
    os.dup2(sys.stdout.fileno(), 1)
    os.dup2(sys.stdout.fileno(), 2)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    target, scratch = TARGETS[name], folder / "scratch"
    for made in (scratch, folder / "seeds"):
        made.mkdir(exist_ok=True)
    context = target.prepare(scratch)
    every = inputs(target, name, seed, first, count, folder)
    watch = _Watch(scratch, target.may_run)
    sys.addaudithook(watch)
    _bound_memory()
    for number, title, content in every:
        pipe.send(("at", number))
        file = scratch / f"input{target.suffix}"
        file.write_bytes(content)
        began, wrong = time.monotonic(), ""
        watch.said.clear()
        watch.armed = True
        try:
            target.read(context, file)
            outcome = "read"
        except UserError as error:
            outcome = "refused"
            if "\n" in str(error).strip():
                wrong = f"a message of several lines: {error}"
        except MemoryError:
            outcome = "too little memory"
        except BaseException:
            outcome, wrong = "traceback", traceback.format_exc(limit=-6)
        watch.armed = False
        seconds = time.monotonic() - began
        if seconds > SECONDS:
            wrong += f" took {seconds:.1f} s"
        if watch.said:
            wrong += f" did {watch.said[:3]}"
        if title.startswith("good "):
            outcome = f"good and {outcome}"
        pipe.send(("outcome", (outcome, seconds)))
        if wrong:
            kept = folder / f"{title[:40].replace(os.sep, '_')}{target.suffix}"
            kept.write_bytes(content)
            pipe.send(("failure", f"{name} {title} ({kept}): {wrong}"))
    pipe.send(("end", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def _bound_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    bound = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class _Watch:
    """An audit hook that notes what no reader may do."""

    def __init__(self, scratch: Path, may_run: frozenset[str]) -> None:
        self.scratch, self.armed, self.said, self.may_run = str(scratch.resolve()), False, [], may_run

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        if event == "open":
            path, _mode, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and self._outside(path):
                self.said.append(f"open {path} to write")
        elif event in _RUNS - self.may_run:
            self.said.append(f"{event} {str(arguments)[:200]}")
        elif event in _WRITES and not self._below_another(arguments) and self._outside(arguments[0]):
            self.said.append(f"{event} {arguments[0]}")

    def _below_another(self, arguments: tuple[Any, ...]) -> bool:
        """Whether a name is of an open folder, as shutil.rmtree has them; that one's own event has its path."""
        return isinstance(arguments[-1], int) and arguments[-1] != -1 and not Path(arguments[0]).is_absolute()

    def _outside(self, path: Any) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        place = os.path.realpath(os.fsdecode(path))
        allowed = (self.scratch, "/dev/null", "/dev/shm", "/tmp/ducseg-")
        return not place.startswith(allowed) and "__pycache__" not in place
