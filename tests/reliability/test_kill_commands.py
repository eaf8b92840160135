"""Kill -9 at random moments of every other command that writes: no file under its name is half-written, and the same
command, given again, ends with the very files of a run that no one disturbed, and nothing beside them.
"""

import random
import signal
from pathlib import Path
from typing import Any

import pytest
from commands import WORK, Trial
from moments import Moment


@pytest.mark.slow
@pytest.mark.parametrize("work", WORK)
def test_a_killed_command_leaves_whole_files_and_goes_on(
    work: str, tmp_path: Path, draw: random.Random, campaign: bool, book: Any
) -> None:
    trial, wrong = Trial(work, tmp_path), []
    left = kills = trial.job.kills if campaign else 3
    while left > 0:
        trial.clear()
        moments: list[Moment] = []
        while True:
            clock = draw.choice(("call", "file", "file"))
            moment = Moment(clock, draw.randint(1, trial.ticks[clock])) if left > 0 else None
            if trial.run(moment=moment, clocked=False).process.exitcode != -signal.SIGKILL:
                break
            assert moment is not None
            left -= 1
            moments.append(moment)
            wrong += [f"{moments}: {line}" for line in trial.unlike(whole=False)]
        wrong += [f"{moments}: {line}" for line in trial.goes_on()]
    book.add(f"kill: {work}", tried=kills, lost=len(wrong))
    assert not wrong, "\n".join(wrong)
