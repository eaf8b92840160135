"""Commands in processes of their own that start in a blink: forked from one that has imported all that they need."""

import ctypes
import faulthandler
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from moments import CLOCKS, Clock, Moment

__all__ = ["Child", "run", "start"]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "torch",
        "torch._dynamo",
        "torch.utils.tensorboard",
        "torch.distributed.fsdp",
        "cv2",
        "numba",
        "matplotlib.pyplot",
        "rasterio",
        "ijson",
        "yaml",
        "pycocotools.mask",
        "rich.progress",
        "rich.table",
        "tyro",
        "ducseg.cli.train",
        "ducseg.cli.predict",
        "ducseg.cli.ablate",
        "ducseg.cli.crf_tune",
        "ducseg.train.loop",
        "ducseg.inference.many",
        "ducseg.inference.predictor",
        "ducseg.experiments",
        "ducseg.experiments.ablations.running",
        "ducseg.experiments.ablations.page",
        "ducseg.crf.tune",
        "ducseg.figures.heatmap",
        "ducseg.figures.report",
        "ducseg.data.cut",
        "ducseg.data.synthetic.cityscapes",
    ]
)

HANGS_AFTER = 300
"""Seconds after which a command of a blink counts as hung."""


@dataclass
class Child:
    """A running command, or one that has ended."""

    process: BaseProcess
    place: Path

    def wait(self, seconds: float = HANGS_AFTER) -> int:
        """Its exit status, -N after signal N.

        Raises:
            AssertionError: it hangs; it is killed then.
        """
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"hangs: {self.said()}")
        return self.process.exitcode

    def said(self) -> str:
        """Standard output and error so far."""
        return self.place.read_text(errors="replace") if self.place.exists() else ""

    @property
    def ticks(self) -> dict[str, int]:
        """Of a command that ended by itself."""
        counts = self.place.with_suffix(".ticks").read_text().split()
        return dict(zip(CLOCKS, map(int, counts)))


def start(
    arguments: Sequence[object],
    place: Path,
    *,
    moment: Moment | None = None,
    environment: Mapping[str, str] | None = None,
    before: Callable[[], Any] | None = None,
    clocked: bool = True,
) -> Child:
    """Start `ducseg ARGUMENTS`; what it says goes to `place`.

    Args:
        moment: when it is killed; None: never.
        environment: added to its own.
        before: called in the process first; can be pickled.
        clocked: count its moments, which takes as long again.
    """
    place.unlink(missing_ok=True)
    given = [str(argument) for argument in arguments]
    process = _context.Process(
        target=_enter, args=(given, place, moment, dict(environment or {}), before, clocked or moment is not None)
    )
    process.start()
    return Child(process, place)


def run(arguments: Sequence[object], place: Path, **options: Any) -> Child:
    """As `start`, once it has ended."""
    child = start(arguments, place, **options)
    child.wait()
    return child


def _enter(
    arguments: list[str],
    place: Path,
    moment: Moment | None,
    environment: dict[str, str],
    before: Callable[[], Any] | None,
    clocked: bool,
) -> None:
    import cv2
    import torch

    from ducseg.cli import main

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: one that hangs ends with the tests
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    faulthandler.enable()  # says where a library reads at address 0
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    multiprocessing.set_start_method("fork", force=True)  # as in a process that a user starts
    os.environ.update(environment)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    if before is not None:
        before()
    clock = Clock(moment)
    if clocked:
        clock.start()
    try:
        status = main(arguments)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
        status = 1
    clock.stop()
    sys.stdout.flush()
    sys.stderr.flush()
    place.with_suffix(".ticks").write_text(" ".join(str(clock.ticks[name]) for name in CLOCKS))
    os._exit(status)  # as a process ends that waits for no thread of a library
