"""What a person sees of a run: a progress bar on a terminal, a line now and then elsewhere."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["TrainingProgress", "printable"]


@contextmanager
def printable(console: Console) -> Iterator[None]:
    """While inside, characters that the console's encoding lacks are printed as "?" instead of raising."""
    stream = console.file
    if not isinstance(stream, io.TextIOWrapper):
        yield
        return
    before = stream.errors
    stream.reconfigure(errors="replace")
    try:
        yield
    finally:
        stream.reconfigure(errors=before)


class TrainingProgress:
    """Shows epoch, step, loss, learning rate, images/s, time left and the share of time spent waiting for data."""

    def __init__(
        self, console: Console, *, num_steps: int, num_epochs: int | None, start_step: int, every_steps: int
    ) -> None:
        self._console = console
        self._num_steps, self._num_epochs, self._every_steps = num_steps, num_epochs, every_steps
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  lr {task.fields[rate]}  {task.fields[speed]} img/s"),
            TextColumn("waiting {task.fields[waiting]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        fields: dict[str, Any] = dict.fromkeys(("epoch", "loss", "rate", "speed", "waiting"), "-")
        self._task = self._bar.add_task("train", total=num_steps, completed=start_step, **fields)

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def update(self, step: int, epoch: int, values: dict[str, float], *, seconds_left: float, num_steps: int) -> None:
        """Show the state after optimizer step `step` (1-based) of `num_steps`, of epoch `epoch` (1-based)."""
        self._num_steps = num_steps
        shown: dict[str, Any] = {
            "epoch": f"{epoch}" if self._num_epochs is None else f"{epoch}/{self._num_epochs}",
            "loss": f"{values['loss']:.4f}",
            "rate": f"{values['learning_rate']:.2e}",
            "speed": f"{values['images_per_second']:.1f}",
            "waiting": f"{values['waiting_share']:.0%}",
        }
        self._bar.update(self._task, completed=step, total=num_steps, **shown)
        if not self._console.is_terminal and (step % self._every_steps == 0 or step == self._num_steps):
            self._console.print(
                f"epoch {shown['epoch']}  step {step}/{self._num_steps}  loss {shown['loss']}  lr {shown['rate']}  "
                f"{shown['speed']} img/s  waiting {shown['waiting']}  left {_clock(seconds_left)}",
                highlight=False,
                soft_wrap=True,
            )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
