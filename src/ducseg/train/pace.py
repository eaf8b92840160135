"""How many steps a run has: those of its epochs, or as many of them as fit into the time that it is given."""

import time

__all__ = ["Pace"]

_FIRST = 3
"""Steps of a session that are not measured: workers start, memory is found."""


class Pace:
    """Counts steps and seconds; with a limit, the number of steps is fitted to the time, anew after every step.

    Args:
        most: steps of all epochs.
        minutes: for everything, evaluations too; None: no limit.
        evaluations_too: else their time is not counted (that of the sessions before is).
        began: `time.monotonic()` at this session's start.
        spent: seconds of the sessions before, and `done`, the steps in them.
        steps_between_evaluations: how often one is due.

    Attributes:
        num_steps: the run's, as far as is known.
        evaluation_seconds: of one evaluation, measured or estimated; None: not known yet.
    """

    def __init__(
        self, *, most: int, minutes: float | None, began: float, spent: float, steps_between_evaluations: int,
        evaluations_too: bool = True, done: int = 0,
    ) -> None:  # fmt: skip
        self.most, self.num_steps = most, most
        self.evaluation_seconds: float | None = None
        self._limit = None if minutes is None else 60 * minutes
        if self._limit is not None and done and spent:  # at the pace so far, until there is a measured one
            self.num_steps = min(most, max(done, round(done * self._limit / spent)))
        self._began, self._spent = began, spent
        self._evaluations_too, self._apart = evaluations_too, 0.0
        self._between = steps_between_evaluations
        self._steps, self._seconds, self._shortest = 0, 0.0, 0.0

    @property
    def limited(self) -> bool:
        """Whether there is a limit."""
        return self._limit is not None

    @property
    def elapsed(self) -> float:
        """Seconds of this session and those before."""
        return self._spent + time.monotonic() - self._began

    @property
    def counted(self) -> float:
        """Those of `elapsed` that the limit is for."""
        return self.elapsed - self._apart

    @property
    def left(self) -> float | None:
        """Seconds to the limit; None without one."""
        return None if self._limit is None else max(0.0, self._limit - self.counted)

    @property
    def wants_estimate(self) -> bool:
        """Whether the length of an evaluation must be estimated now, for the number of steps to be fitted."""
        return self.limited and self._evaluations_too and self.evaluation_seconds is None and self._steps == _FIRST

    def note_step(self, seconds: float) -> None:
        """Note that a step took so long."""
        self._steps += 1
        self._shortest = seconds if self._steps == 1 else min(seconds, self._shortest)
        if self._steps > _FIRST:
            self._seconds += seconds

    def note_evaluation(self, seconds: float) -> None:
        """Note that an evaluation took so long."""
        if self._evaluations_too:
            self.evaluation_seconds = seconds
        else:
            self._apart += seconds

    @property
    def evaluation_is_too_long(self) -> bool:
        """Whether an evaluation takes more than half of the limit."""
        return self._limit is not None and (self.evaluation_seconds or 0.0) > self._limit / 2

    def minutes_for(self, more: int) -> float:
        """In which so many more steps fit besides what was done so far, at the pace of this session."""
        return (self.counted + more * self._seconds_a_step) / 60

    @property
    def _seconds_a_step(self) -> float:
        """The mean of those that are measured; before, the shortest: in the first ones other things happen too."""
        return self._seconds / (self._steps - _FIRST) if self._steps > _FIRST else self._shortest

    def fitted(self, step: int) -> int:
        """The number of steps, after `step` of them, that fits the time with a last evaluation: at least `step`.

        Steps get half of the time, however long an evaluation takes: the run then ends late.
        """
        if self._limit is None:
            return self.num_steps
        evaluation = min(self.evaluation_seconds or 0.0, self._limit / 2)
        left = self._limit - self.counted - evaluation
        if left <= 0 or (step % self._between == 0 and left <= evaluation):  # the one due now is the last
            return step
        if self._steps <= _FIRST:
            return self.num_steps
        return min(self.most, step + int(left / (self._seconds_a_step + evaluation / self._between)))
