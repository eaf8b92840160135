"""SIGTERM and Ctrl-C ask a run to save and leave."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Stopping"]


class Stopping:
    """Whether a signal has asked to stop, and which; a second Ctrl-C interrupts at once, as usual."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    @property
    def requested(self) -> bool:
        """Whether one has."""
        return self.signal is not None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals until the end. Off the main thread none arrives: then nothing is changed."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {kind: signal.signal(kind, self._ask) for kind in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for kind, handler in previous.items():
                signal.signal(kind, signal.SIG_DFL if handler is None else handler)

    def _ask(self, number: int, _frame: object) -> None:
        if self.signal is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
