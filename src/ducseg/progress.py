"""Counting progress for commands that work through many files: bars on a terminal, a line a minute in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["counted", "counted_stages"]

_LINE_EVERY = 60.0
"""Seconds."""


@contextmanager
def counted(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a callback (done, total) that draws a bar on a terminal; elsewhere it writes a line a minute to stderr."""
    with counted_stages(what) as show:
        yield partial(show, what)


@contextmanager
def counted_stages(*stages: str) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a callback (stage, done, total) that draws a bar for each stage that has begun.

    They are one display: before 14.1, rich refuses a second one.
    """
    text = TextColumn("{task.description}")
    bars = Progress(text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), transient=True)
    if not bars.console.is_terminal:
        yield _line_a_minute()
        return
    tasks = {stage: bars.add_task(stage, total=None, visible=len(stages) == 1) for stage in stages}
    with bars:
        yield lambda stage, done, total: bars.update(tasks[stage], completed=done, total=total, visible=True)


def _line_a_minute() -> Callable[[str, int, int], None]:
    written = time.monotonic()

    def show(stage: str, done: int, total: int) -> None:
        nonlocal written
        if time.monotonic() - written >= _LINE_EVERY:
            written = time.monotonic()
            print(f"{stage}: {done} of {total}", file=sys.stderr, flush=True)

    return show
