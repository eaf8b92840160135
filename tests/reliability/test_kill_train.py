"""Kill -9 at random moments of training: what is saved is whole, and the resumed run ends bit for bit as another.

A run is killed at the n-th call of a function or at the n-th call that touches a file (inside a save, a link, a line of
the log), goes on by the same command with --resume, is killed again, until one comes to its end; then the next begins.
"""

import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import children
import pytest
from moments import Moment
from runs import Run, broken, differing

VARIANTS = {
    "plain": "",
    "average of weights, hard pixels, accumulation": (
        "--optimizer.ema-decay 0.9 --loss.ohem-threshold 0.7 --optimizer.accumulation-steps 2"
    ),
    "bf16, AdamW, auto weights, TensorBoard": (
        "--run.bf16 --optimizer.name adamw --loss.class-weights auto --run.tensorboard"
    ),
    "two workers": "--data.workers 2",
}
IN_ALL = {"plain": 80, "two workers": 30}
"""Kills of a campaign; 45 of the others."""


def ended(said: list[children.Child]) -> list[int]:
    """Statuses; once one is killed, those that do not notice within seconds are ended as torchrun would end them."""
    while not any(child.process.exitcode is not None for child in said):
        time.sleep(0.01)
    if len(said) > 1 and any(child.process.exitcode == -signal.SIGKILL for child in said):
        for child in said:
            child.process.join(15)
            child.process.kill()
    return [child.wait() for child in said]


def kill_and_resume(run: Run, whole: Run, kills: int, draw: random.Random) -> list[str]:
    """What went otherwise than promised in so many kills."""
    first = whole.start()
    assert [child.wait() for child in first] == [0] * run.ranks, first[0].said()
    expected, ticks, wrong = whole.result(), first[0].ticks, []
    while kills > 0:
        shutil.rmtree(run.out, ignore_errors=True)
        moments: list[Moment] = []
        while True:
            clock = draw.choice(("call", "file", "file"))
            moment = Moment(clock, draw.randint(1, ticks[clock])) if kills > 0 else None
            whom = draw.randrange(run.ranks)
            said = run.start("--resume", moment=moment, whom=whom)
            status = ended(said)
            if -signal.SIGKILL not in status:
                break
            assert moment is not None
            kills -= 1
            moments.append(moment)
            wrong += [f"{moments}: {line}" for line in broken(run, said)]
        if status != [0] * run.ranks:
            wrong.append(f"{moments}: does not go on: {said[0].said()[-600:]}")
        else:
            wrong += [f"{moments}: {line}" for line in differing(run.result(), expected)]
    return wrong


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_killed_run_resumes_bit_for_bit(
    variant: str, tiny_camvid: Path, tmp_path: Path, draw: random.Random, campaign: bool, book: Any
) -> None:
    kills = IN_ALL.get(variant, 45) if campaign else 4
    run, whole = (Run(tmp_path / name, tiny_camvid, VARIANTS[variant]) for name in ("killed", "whole"))
    wrong = kill_and_resume(run, whole, kills, draw)
    book.add(f"kill: train, {variant}", tried=kills, lost=len(wrong))
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_a_killed_rank_ends_the_others_and_all_resume_bit_for_bit(
    tiny_camvid: Path, tmp_path: Path, draw: random.Random, campaign: bool, book: Any
) -> None:
    kills = 40 if campaign else 2
    run, whole = (Run(tmp_path / name, tiny_camvid, "", ranks=2) for name in ("killed", "whole"))
    wrong = kill_and_resume(run, whole, kills, draw)
    book.add("kill: train, one of two ranks", tried=kills, lost=len(wrong))
    assert not wrong, "\n".join(wrong)
