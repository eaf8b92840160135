"""Counting progress bars for commands that work through many files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["counted", "counted_stages"]


@contextmanager
def counted(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a callback (done, total) that draws a bar on a terminal and nothing elsewhere."""
    with counted_stages(what) as show:
        yield partial(show, what)


@contextmanager
def counted_stages(*stages: str) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a callback (stage, done, total) that draws a bar for each stage that has begun.

    They are one display: before 14.1, rich refuses a second one.
    """
    text = TextColumn("{task.description}")
    bars = Progress(text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), transient=True)
    bars.disable = not bars.console.is_terminal
    tasks = {stage: bars.add_task(stage, total=None, visible=len(stages) == 1) for stage in stages}
    with bars:
        yield lambda stage, done, total: bars.update(tasks[stage], completed=done, total=total, visible=True)
