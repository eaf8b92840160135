"""One function over many items on several processes.

Each process has a pipe of its own and is handed so many items once it has answered: no thread and no lock is shared,
which a process that is killed could keep, and its end is the end of its pipe. (Python's own pool waits for ever, or
prints of its threads, where one dies while another starts or items are still being given.) They are spawned: a forked
one would wait for ever on OpenCV's threads, which it lacks.
"""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.pool import ExceptionWithTraceback  # type: ignore[attr-defined]
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, TypeVar, cast

import cv2

from ducseg.errors import explain, said_as_lines

__all__ = ["in_a_script", "mapped"]

_MOST_PROCESSES = 60
"""Windows waits for no more than 63 pipes at once."""

Item = TypeVar("Item")
Result = TypeVar("Result")


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
    parts = [items[first : first + chunk] for first in range(0, len(items), chunk)]
    to_do: Iterator[tuple[int, Sequence[Item]]] = iter(enumerate(parts))
    done: dict[int, list[Result] | Exception] = {}
    context, processes, pipes, failure = get_context("spawn"), list[SpawnProcess](), list[Connection](), None
    try:
        for part in islice(to_do, min(num_workers, _MOST_PROCESSES)):
            ours, theirs = context.Pipe()
            pipes.append(ours)
            processes.append(context.Process(target=_work, args=(function, theirs)))
            processes[-1].start()
            theirs.close()
            ours.send(part)
        for number in range(len(parts)):
            while number not in done:
                for pipe in wait(pipes):
                    index, done[index] = _answer(cast(Connection, pipe))
                    if isinstance(done[index], Exception):
                        to_do = iter(())
                    for part in islice(to_do, 1):
                        cast(Connection, pipe).send(part)
            found = done.pop(number)
            if isinstance(found, Exception):
                failure = found
                break
            yield from found
    except (EOFError, ConnectionError):
        for process in processes:
            if process.pid is not None:
                process.kill()
        raise explain(
            "worker processes",
            found="one that the system ended, as it does where memory runs out",
            needed="all of them",
            fix=f"Use fewer: --workers.{in_a_script()}",
        ) from None
    finally:
        for pipe in pipes:
            pipe.close()  # which ends them, once what they have begun is done
        for process in processes:
            if process.pid is not None:
                process.join()
    if failure is not None:
        raise failure


def in_a_script() -> str:
    """What else can be wrong with worker processes of somebody's script: each that is not forked runs it, too."""
    if str(getattr(sys.modules["__main__"], "__file__", "")).endswith("<stdin>"):
        return " A program that is read from standard input has no others: save it in a file."
    file = Path(sys.argv[0]).name
    if not file.endswith(".py") or file == "__main__.py":
        return ""
    return f' In {file}, put what starts them under `if __name__ == "__main__":`.'


def _answer(pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except OSError as error:  # in the midst of it
        raise EOFError from error


def _work(function: Callable[[Any], Any], pipe: Connection) -> None:
    """In a process of its own: items in, results or what was raised out, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command's own, which closes the pipe
    said_as_lines()
    cv2.setNumThreads(0)
    try:
        while True:
            index, part = pipe.recv()
            try:
                answer = ForkingPickler.dumps((index, [function(item) for item in part]))
            except Exception as error:
                answer = ForkingPickler.dumps((index, ExceptionWithTraceback(error, error.__traceback__)))
            pipe.send_bytes(answer)
    except (EOFError, ConnectionError):
        return
