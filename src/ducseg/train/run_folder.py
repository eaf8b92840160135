"""Who may write into a run folder, and whether what lies there is the run that is asked for."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import psutil
import torch

from ducseg.devices import has_bf16
from ducseg.errors import MALFORMED, UserError, explain, typed
from ducseg.files import parse_json
from ducseg.train.config import Config
from ducseg.train.distributed import Ranks
from ducseg.train.sections import in_minutes
from ducseg.weights.checkpoint import read_model_json

try:
    import fcntl

    locks: Any = fcntl
except ImportError:  # on Windows
    locks = None

__all__ = [
    "as_computed", "check_same_run", "check_unused", "checkpoint_to_resume", "hold_run_folder", "lock_file",
    "read_config", "said_if_over", "said_over",
]  # fmt: skip

_held: set[Path] = set()
"""Folders that this process holds: the system's locks are between processes only."""


@contextmanager
def hold_run_folder(run: Path) -> Iterator[None]:
    """Make the folder and keep every other run out of it until the end, also where this process is killed.

    A folder into which nothing was written is as it was before: gone, where it was made here.

    Raises:
        UserError: another run has it, or it cannot be made or written (it is a file, a read-only disk).
    """
    path = run.resolve() / ".lock"
    made = [folder for folder in (run, *run.parents) if not folder.exists()]
    if path in _held:  # before it is opened: closing it would give up this process's lock
        raise _in_use(run, path)
    try:
        run.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise explain(
            f"run folder {run}",
            found=error.strerror or str(error),
            needed="a folder that can be written",
            fix="Choose another --out.",
        ) from error
    with contextlib.ExitStack() as stack, file:
        if not lock_file(file):
            raise _in_use(run, path)
        stack.callback(_remove_unwritten, run, made)
        _held.add(path)
        try:
            file.truncate(0)
            file.write(json.dumps({"host": socket.gethostname(), "process": os.getpid()}) + "\n")
            file.flush()
            yield
        finally:
            _held.discard(path)
            file.truncate(0)


def _remove_unwritten(run: Path, made: list[Path]) -> None:
    """Remove the marks from a folder that holds nothing else, and the folders that were made for it."""
    with contextlib.suppress(OSError):
        if {entry.name for entry in run.iterdir()} <= {".lock", ".launch"}:
            for name in (".launch", ".lock"):
                (run / name).unlink(missing_ok=True)
            for folder in made:
                folder.rmdir()


def lock_file(file: IO[str]) -> bool:
    """Whether the file could be locked, by the system, or where it has no locks by the process it names being dead.

    A lock of `lockf` belongs to one process: worker processes that outlive a killed run do not keep it.
    """
    if locks is not None:
        try:
            locks.lockf(file, locks.LOCK_EX | locks.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        except OSError:  # a file system without locks
            return not _holder_lives(file)
        return True
    return not _holder_lives(file)


def _holder_lives(file: IO[str]) -> bool:
    file.seek(0)
    try:
        holder = parse_json(file.read())
        host, process = str(holder["host"]), int(holder["process"])
    except MALFORMED:
        return False  # empty: who had it is done
    return host != socket.gethostname() or (psutil.pid_exists(process) and process != os.getpid())


def _in_use(run: Path, path: Path) -> UserError:
    who = ""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        holder = parse_json(path.read_text(encoding="utf-8"))
        who = f" (process {holder['process']} on {holder['host']})"
    return explain(
        f"run folder {run}",
        found=f"another run that is writing into it{who}",
        needed="one run a folder",
        fix=f"Wait for it, stop it, or choose another --out; if there is none, delete {path}.",
    )


def checkpoint_to_resume(run: Path, last: Path | None, *, resume: bool, ranks: Ranks) -> Path | None:
    """The checkpoint to go on from: the newest, where `resume` is asked for or torchrun restarted this very run.

    Raises:
        UserError: there is an earlier run in the folder, and it is not asked for.
    """
    mark, ours = run / ".launch", _launch()
    restarted = ranks.restarts > 0 and mark.is_file() and mark.read_text(encoding="utf-8") == ours
    if last is not None and not resume and not restarted:
        if ranks.is_main:
            mark.unlink(missing_ok=True)  # so that a restart is refused too
        raise _used(run, last)
    if ranks.is_main:
        mark.write_text(ours, encoding="utf-8")
    return last


def check_unused(run: Path, last: Path | None) -> None:
    """Raise `UserError` where a new run would be refused its folder, before its data is looked at.

    What torchrun started is let pass: whether it is a restart, `checkpoint_to_resume` tells.
    """
    if last is not None and "TORCHELASTIC_RUN_ID" not in os.environ:
        raise _used(run, last)


def _used(run: Path, last: Path) -> UserError:
    return explain(
        f"run folder {run}",
        found=f"the checkpoint {last.name} of an earlier run",
        needed="an empty folder",
        fix=f"Go on with that run by `ducseg train --resume {run}`, or choose another --out.",
    )


def _launch() -> str:
    """What tells this start of torchrun from any other, the same over its restarts."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "")
    if os.environ.get("GROUP_WORLD_SIZE", "1") == "1":
        name += f" {socket.gethostname()} {os.getppid()}"  # over several nodes rank 0 may move
    return name


def as_computed(config: Config, device: torch.device) -> Config:
    """In float32 where the device would only imitate bfloat16: what config.json is to say."""
    return config if has_bf16(device) else replace(config, run=replace(config.run, bf16=False, eval_bf16=False))


def check_same_run(asked: Config, computed: Config, checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint recorded of its run, {} if nothing; `UserError` where this one would train otherwise.

    Args:
        asked, computed: a run that was moved to a device without bfloat16 goes on there, and back.
    """
    recorded: dict[str, Any] = read_model_json(checkpoint).get("extra") or {}
    differing = min((config.unlike(recorded.get("config") or {}) for config in (asked, computed)), key=len)
    if differing:
        raise explain(
            f"cannot resume from {checkpoint}",
            found=", ".join(differing),
            needed="the run's own options",
            fix=f"Leave them out, or start another --out with --model.weights {checkpoint}.",
        )
    return recorded


def said_if_over(config: Config, checkpoint: Path, earlier: dict[str, Any]) -> str | None:
    """A line about a run that its minutes ended, with the configuration `earlier`, where it has no more now."""
    minutes, had = config.run.minutes, (earlier.get("run") or {}).get("minutes")
    if minutes is None or had is None:
        return None
    was, now = earlier.get("optimizer") or {}, config.optimizer
    if minutes > had or (was.get("epochs"), was.get("steps")) != (now.epochs, now.steps):
        return None
    return said_over(config, checkpoint, minutes=had)


def said_over(config: Config, checkpoint: Path, *, minutes: float | None = None) -> str:
    """A line about a run that its steps, its epochs or `minutes` ended before, with the command for twice as much."""
    kind = "epochs" if config.optimizer.steps is None else "steps"
    most, more = getattr(config.optimizer, kind), []
    if minutes is not None:
        more.append(f"--run.minutes {2 * minutes:g}")
    if most is not None:
        more.append(f"--optimizer.{kind} {2 * most}")
    length = f"{most} {kind}" if minutes is None else in_minutes(minutes)
    again = f"ducseg train --resume {typed(checkpoint.parents[1])} {' '.join(more)}"
    return f"done before, at {checkpoint.name}, within its {length}, and left as it is; for more in all: {again}"


def read_config(run: Path) -> Config:
    """The configuration of a run folder, for `train --resume RUN`.

    Raises:
        UserError: there is none, or one that does not read.
    """
    path = run / "config.json"
    try:
        return Config.from_json(parse_json(path.read_text(encoding="utf-8")))
    except UserError:
        raise
    except (OSError, *MALFORMED) as error:
        raise explain(
            f"run folder {run}",
            found="no config.json" if isinstance(error, FileNotFoundError) else f"a config.json that fails: {error}",
            needed="a folder that `ducseg train` wrote",
            fix="Give the run folder itself, the one that holds config.json and checkpoints/.",
        ) from error
