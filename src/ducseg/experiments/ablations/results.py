"""What several processes share: one file of results, a line a scored row, and claims, so that no two train the same.

OUT/results.jsonl      one JSON object a line, only ever added to
OUT/claims/KEY.lock    locked by the process that trains KEY; the system gives it up when that process ends
OUT/runs/NAME-KEY/     the run folders
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ducseg.errors import explain
from ducseg.experiments.ablations.identity import differing
from ducseg.metrics.confusion import to_json
from ducseg.train.run_folder import lock_file

__all__ = ["Results", "claimed", "same"]


class Results:
    """The lines of OUT/results.jsonl."""

    def __init__(self, out: Path) -> None:
        self.out, self.path = out, out / "results.jsonl"

    def lines(self, kind: str = "row") -> list[dict[str, Any]]:
        """Every whole line of a kind: "row" for scores, "widths" for those of thin objects, "time" for times."""
        found = []
        for text in self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []:
            with contextlib.suppress(ValueError):  # a line that a kill cut short
                line = json.loads(text)
                if isinstance(line, dict) and line.get("kind") == kind:
                    found.append(line)
        return found

    def add(self, line: dict[str, Any]) -> None:
        """Add one line, whole or not at all; waits for another process that adds one.

        Raises:
            UserError: a folder that cannot be written.
        """
        data = json.dumps(to_json(line), allow_nan=False).encode() + b"\n"
        while True:
            with claimed(self.out, "results") as mine:
                if mine:
                    with self.path.open("ab+") as file:
                        if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n":
                            data = b"\n" + data  # after a line that a kill cut short
                        file.write(data)
                        file.flush()
                        os.fsync(file.fileno())
                    return
            time.sleep(0.05)


def same(line: dict[str, Any], made_by: dict[str, Any], seed: int, scoring: dict[str, Any]) -> bool:
    """Whether a line has the numbers of exactly this training and scoring."""
    return line["seed"] == seed and line["scoring"] == scoring and not differing(made_by, line["made_by"])


@contextmanager
def claimed(out: Path, name: str) -> Iterator[bool]:
    """Whether OUT/claims/NAME.lock is this process's until the end, or another's.

    Raises:
        UserError: a folder that cannot be written.
    """
    path = out / "claims" / f"{name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        needed = "a folder that can be written"
        raise explain(f"--out {out}", found=error.strerror, needed=needed, fix="Choose another.") from error
    with file:
        mine = lock_file(file)
        if mine:
            file.truncate(0)
            file.write(json.dumps({"host": socket.gethostname(), "process": os.getpid()}) + "\n")
            file.flush()
        yield mine
        if mine:
            file.truncate(0)
