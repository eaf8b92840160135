"""Signals at any moment, and surroundings as they are not on a developer's machine."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import children
import hooks
import pytest
from commands import WORK, Trial, complaints
from moments import Moment
from runs import Run, broken, differing

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TRIED = ("predict, pictures", "predict --resume", "data patches", "data convert coco", "crf-tune")


@pytest.mark.slow
@pytest.mark.parametrize("work", WORK)
def test_a_signal_at_any_moment(work: str, tmp_path: Path, draw: random.Random, campaign: bool, book: Any) -> None:
    trial, wrong, count = Trial(work, tmp_path), [], 12 if campaign else 2
    for _ in range(count):
        moment = Moment("call", draw.randint(1, trial.ticks["call"]), signal=draw.choice(SIGNALS))
        wrong += trial.after(moment, (0, 75, 130, -moment.signal))
    book.add(f"a signal: {work}", tried=count, lost=len(wrong))
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_a_signal_at_any_moment_of_training(
    tiny_camvid: Path, tmp_path: Path, draw: random.Random, campaign: bool, book: Any
) -> None:
    """Saved and left with its status; SIGHUP, and what comes before the first step, ends it at once."""
    run, whole = (Run(tmp_path / name, tiny_camvid, "") for name in ("run", "whole"))
    undisturbed = whole.undisturbed()
    wrong, count = [], 60 if campaign else 3
    for _ in range(count):
        moment = Moment("call", draw.randint(1, undisturbed.ticks["call"]), signal=draw.choice(SIGNALS))
        wrong += run.after(moment, whole, (0, 75, 130, -moment.signal))
    book.add("a signal: train", tried=count, lost=len(wrong))
    assert not wrong, "\n".join(wrong)


SURROUNDINGS: dict[str, tuple[Callable[[], None] | None, dict[str, str]]] = {
    "a clock that goes back": (hooks.clock_goes_back, {}),
    "no links": (hooks.no_links, {}),
    "a slow disk": (hooks.slow_disk, {}),
    "no home": (None, {"HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none", "MPLCONFIGDIR": "", "TMPDIR": "/dev/shm"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("surrounding", SURROUNDINGS)
def test_surroundings_change_nothing(surrounding: str, tiny_camvid: Path, tmp_path: Path, book: Any) -> None:
    before, environment = SURROUNDINGS[surrounding]
    run, whole = (Run(tmp_path / name, tiny_camvid, "--run.tensorboard") for name in ("run", "whole"))
    whole.undisturbed()
    wrong = []
    (child,) = run.start(before=before, environment=environment)
    child.wait()
    wrong += complaints(child, (0,)) + run.goes_on(whole)
    for work in TRIED:
        trial = Trial(work, tmp_path / work)
        wrong += complaints(trial.run(before=before, environment=environment, clocked=False), (0,))
        wrong += trial.unlike(whole=True)
    book.add(f"surroundings: {surrounding}", tried=1 + len(TRIED), lost=len(wrong))
    assert not wrong, "\n".join(wrong)


IN_A_LIBRARY = (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, 127)
"""How a process ends when C++, LLVM, oneDNN or the loader gets no memory: they cannot tell us, so it is like a kill."""


@pytest.mark.slow
@pytest.mark.parametrize("work", ["train", *TRIED])
def test_too_little_memory_is_said(
    work: str, tiny_camvid: Path, tmp_path: Path, draw: random.Random, campaign: bool, book: Any
) -> None:
    wrong, by_library, count = [], 0, 8 if campaign else 2
    if work == "train":
        run, whole = (Run(tmp_path / name, tiny_camvid, "") for name in ("run", "whole"))
        whole.undisturbed()
    else:
        trial = Trial(work, tmp_path)
    for _ in range(count):
        memory = int(2 ** draw.uniform(20, 28))
        before = hooks.little_memory(memory)
        if work == "train":
            shutil.rmtree(run.out, ignore_errors=True)
            (child,) = run.start(before=before)
            child.wait()
        else:
            trial.clear()
            child = trial.run(before=before, clocked=False)
        by_library += child.process.exitcode in IN_A_LIBRARY
        found = [] if child.process.exitcode in IN_A_LIBRARY else complaints(child)
        if work == "train":
            found += broken(run, [child]) + run.goes_on(whole)
        else:
            found += trial.unlike(whole=False) + trial.goes_on()
        wrong += [f"{memory >> 20} MiB: {line}" for line in found]
    book.add(f"little memory: {work}", tried=count, lost=len(wrong), by_library=by_library)
    assert not campaign or by_library < count
    assert not wrong, "\n".join(wrong)


NAMES = [f"ducseg-{os.getpid()}-{rank}" for rank in range(2)]


@pytest.fixture
def two_networks() -> Iterator[None]:
    """Joined by a cable; skipped where none may be made."""
    first, second = NAMES
    commands = [f"netns add {first}", f"netns add {second}", "link add cable0 type veth peer name cable1"]
    for rank, name in enumerate(NAMES):
        commands += [
            f"link set cable{rank} netns {name}",
            f"-n {name} addr add 10.231.77.{rank + 1}/24 dev cable{rank}",
        ]
        commands += [f"-n {name} link set lo up", f"-n {name} link set cable{rank} up"]
    try:
        if shutil.which("ip") is None or any(not _ip(command) for command in commands):
            pytest.skip("no right to make a network")
        yield
    finally:
        for name in NAMES if shutil.which("ip") else ():
            _ip(f"netns del {name}")


def _ip(command: str) -> bool:
    return subprocess.run(["ip", *command.split()], capture_output=True).returncode == 0


@pytest.mark.slow
def test_a_cable_that_is_pulled_between_ranks(
    two_networks: None, tiny_camvid: Path, tmp_path: Path, campaign: bool, book: Any
) -> None:
    """Both ranks end after the time that they wait for each other, and joined again they go on from what is saved."""
    run, whole = (Run(tmp_path / name, tiny_camvid, "", ranks=2) for name in ("run", "whole"))
    assert [child.wait() for child in whole.start()] == [0, 0]
    wrong, count = [], 3 if campaign else 1
    for number in range(count):
        shutil.rmtree(run.out, ignore_errors=True)
        said = _joined(run)
        while number >= len(run.steps()) and said[0].process.exitcode is None:
            time.sleep(0.002)
        assert _ip(f"-n {NAMES[0]} link set cable0 down")
        for child in said:
            child.wait(60)
            wrong += complaints(child, (2,))
        assert _ip(f"-n {NAMES[0]} link set cable0 up")
        run.check_whole()
        assert [child.wait() for child in _joined(run, "--resume")] == [0, 0]
        wrong += differing(run.result(), whole.result())
    book.add("a cable pulled between two ranks", tried=count, lost=len(wrong))
    assert not wrong, "\n".join(wrong)


def _joined(run: Run, *extra: str) -> list[children.Child]:
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "10.231.77.1", "MASTER_PORT": "29731"}
    return [
        children.start(
            [*run.arguments, *extra],
            run.base / f"said-{rank}.txt",
            environment={**world, "RANK": str(rank), "GLOO_SOCKET_IFNAME": f"cable{rank}"},
            before=hooks.in_network(name, 8),
            clocked=False,
        )
        for rank, name in enumerate(NAMES)
    ]
