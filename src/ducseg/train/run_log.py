"""What a run leaves for people and programs: one JSON line a step, TensorBoard scalars and overlays, versions."""

import contextlib
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from numpy.typing import NDArray

from ducseg.errors import MALFORMED
from ducseg.files import parse_json, write_whole
from ducseg.metrics.confusion import to_json
from ducseg.version import __version__

__all__ = ["RunLog", "versions"]


def versions() -> dict[str, str]:
    """Versions of ducseg, python, torch and numpy, the machine, and the commit where ducseg runs from a checkout."""
    found = {
        "ducseg": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # else the run does without
        found["gpu"] = torch.cuda.get_device_name()
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude", "*"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):  # installed as a package: the version says it
        found["commit"] = subprocess.run(git, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    return found


class RunLog:
    """Writes RUN/log.jsonl (kinds "step" and "evaluation") and, if wanted, RUN/tensorboard.

    Resuming at step s first drops the lines after s, and evaluations after the last whole one: an interrupted run and
    an uninterrupted one leave the same log.
    """

    def __init__(self, run: Path, *, tensorboard: bool, resume_step: int, evaluated_step: int) -> None:
        self._path = run / "log.jsonl"
        self._drop_after({"step": resume_step, "evaluation": evaluated_step})
        self._file: TextIO = self._path.open("a", encoding="utf-8")
        self._board: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(run / "tensorboard"), purge_step=resume_step + 1)

    def step(self, step: int, values: dict[str, float], *, board: bool) -> None:
        """Record one optimizer step; `board`: in TensorBoard too."""
        self._line({"kind": "step", "step": step, **values})
        if board and self._board is not None:
            for name in ("loss", "learning_rate", "images_per_second", "gradient_norm", "waiting_share"):
                self._board.add_scalar(f"train/{name}", values[name], step)

    def evaluation(self, step: int, scores: dict[str, Any], overlays: list[tuple[str, NDArray[np.uint8]]]) -> None:
        """Record one evaluation: its scores, and pictures (H, W, 3) by name."""
        self._line({"kind": "evaluation", "step": step, **scores})
        if self._board is None:
            return
        self._board.add_scalar("val/mean_iou", scores["mean_iou"], step)
        self._board.add_scalar("val/pixel_accuracy", scores["pixel_accuracy"], step)
        for name, picture in overlays:
            shown = name.encode(errors="replace").decode()
            self._board.add_image(f"val/{shown}", picture, step, dataformats="HWC")

    def close(self) -> None:
        """Flush and close."""
        self._file.close()
        if self._board is not None:
            self._board.close()

    def _line(self, values: dict[str, Any]) -> None:
        self._file.write(json.dumps(to_json(values)) + "\n")
        self._file.flush()

    def _drop_after(self, last: dict[str, int]) -> None:
        if not self._path.is_file():
            return
        kept = []
        for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                values = parse_json(line)
                if values["step"] <= last[values["kind"]]:
                    kept.append(line + "\n")
            except MALFORMED:
                continue  # the line that a kill cut short
        write_whole(self._path, "".join(kept).encode())
