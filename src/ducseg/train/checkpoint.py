"""Checkpoints that are whole or not there: written under a temporary name, fsynced, renamed.

    RUN/checkpoints/step-00000120/   model.safetensors  model.json  train_state.pt
    RUN/last -> checkpoints/step-00000120        RUN/best -> checkpoints/step-00000090

`train_state.pt` holds tensors and plain values only and is read with `weights_only=True`.
"""

import errno
import io
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ducseg.errors import UserError, explain
from ducseg.models.segmenter import Segmenter
from ducseg.weights.checkpoint import write_model_files

__all__ = ["CheckpointFolder", "TrainState"]

_STEP = re.compile(r"step-(\d{8})")


@dataclass(kw_only=True)
class TrainState:
    """What besides the saved model a run needs to go on bit for bit.

    Attributes:
        step: optimizer steps done; also the sampler's position, since order and augmentation follow from (seed, step).
        evaluated_step: the last step that was scored on the validation split; 0 before the first.
        best_mean_iou, best_step: of the evaluations so far; None before the first.
        skipped_batches: batches without a valid pixel so far.
        optimizer: the optimizer's state dict.
        network: the trained weights where the saved model is their moving average, else None.
        torch_rng: state of torch's CPU generator.
    """

    step: int
    evaluated_step: int
    best_mean_iou: float | None
    best_step: int | None
    skipped_batches: int
    optimizer: dict[str, Any]
    network: dict[str, Tensor] | None
    torch_rng: Tensor


class CheckpointFolder:
    """The checkpoints of one run folder: saves, keeps the last k and the best, finds the newest whole one."""

    def __init__(self, run: Path, *, keep_last: int) -> None:
        self.run = run
        self.folder = run / "checkpoints"
        self._keep_last = keep_last

    def steps(self) -> list[int]:
        """Steps that have a whole checkpoint, ascending."""
        if not self.folder.is_dir():
            return []
        found = (_STEP.fullmatch(entry.name) for entry in self.folder.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def path(self, step: int) -> Path:
        """Where the checkpoint of `step` lies or will lie."""
        return self.folder / f"step-{step:08d}"

    def last(self) -> Path | None:
        """The newest whole checkpoint, None if there is none."""
        steps = self.steps()
        return self.path(steps[-1]) if steps else None

    def save(
        self, segmenter: Segmenter, state: TrainState, *, metrics: dict[str, Any] | None, extra: dict[str, Any]
    ) -> Path:
        """Write the checkpoint of `state.step`, move `last` (and `best`) to it, delete what is no longer kept.

        Raises:
            UserError: the disk is full; what was there before is untouched.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.clean()
        final = self.path(state.step)
        if not final.exists():  # the same step saved twice holds the same bits
            temporary = self.folder / f".writing-{final.name}"
            try:
                self._write(temporary, segmenter, state, metrics, extra)
                temporary.replace(final)
            except OSError as error:
                shutil.rmtree(temporary, ignore_errors=True)
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise self._disk_full(state.step) from error
            _sync_folder(self.folder)
        self.settle(state.best_step)
        return final

    def settle(self, best_step: int | None) -> None:
        """Delete leftovers and what is no longer kept, link `last` and `best`: what a killed save left undone."""
        self.clean()
        last = self.last()
        if last is not None:
            self._point("last", last)
        if best_step is not None and self.path(best_step).is_dir():
            self._point("best", self.path(best_step))
        self._prune(best_step)

    def load_state(self, checkpoint: Path) -> TrainState:
        """Read `train_state.pt`; raises `UserError` where it is missing (a checkpoint saved without one) or damaged."""
        path = checkpoint / "train_state.pt"
        try:
            return TrainState(**torch.load(path, map_location="cpu", weights_only=True))
        except (OSError, RuntimeError, TypeError, EOFError, ValueError) as error:
            raise explain(
                f"cannot resume from {checkpoint}",
                found=f"{path.name} that does not load ({error})",
                needed="a checkpoint that training wrote",
                fix="Delete that folder to resume from the one before it.",
            ) from error

    def clean(self) -> None:
        """Delete what an interrupted save left behind."""
        for leftover in self.folder.glob(".writing-*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def check_space(self, bytes_per_checkpoint: int) -> None:
        """Raise `UserError` before training where the disk cannot hold the checkpoints that the run keeps."""
        self.run.mkdir(parents=True, exist_ok=True)
        needed = bytes_per_checkpoint * (self._keep_last + 2)  # the best, and the one being written
        free = shutil.disk_usage(self.run).free
        if free < needed:
            raise explain(
                f"disk of {self.run}",
                found=f"{free / 2**20:.0f} MiB free",
                needed=f"{needed / 2**20:.0f} MiB for the last {self._keep_last}, the best and one being written",
                fix="Free some space, choose another --out or lower --run.keep-last.",
            )

    def _write(
        self,
        folder: Path,
        segmenter: Segmenter,
        state: TrainState,
        metrics: dict[str, Any] | None,
        extra: dict[str, Any],
    ) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        write_model_files(folder, segmenter, metrics=metrics, extra=extra)
        buffer = io.BytesIO()  # torch.save into a file hides the system's error code on a full disk
        torch.save(vars(state), buffer)
        (folder / "train_state.pt").write_bytes(buffer.getbuffer())
        for file in folder.iterdir():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        _sync_folder(folder)

    def _point(self, name: str, target: Path) -> None:
        temporary = self.run / f".{name}-new"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target.relative_to(self.run))
        temporary.replace(self.run / name)

    def _prune(self, best_step: int | None) -> None:
        for step in self.steps()[: -self._keep_last]:
            if step != best_step:
                doomed = self.folder / f".writing-old-{step}"
                self.path(step).replace(doomed)  # never half-deleted under a final name
                shutil.rmtree(doomed, ignore_errors=True)

    def _disk_full(self, step: int) -> UserError:
        last = self.last()
        kept = f"the checkpoint {last.name} is whole" if last else "no earlier checkpoint exists"
        return explain(
            f"saving the checkpoint of step {step}",
            found=f"the disk of {self.folder} full",
            needed="room for one more checkpoint",
            fix=f"Free some space and run the same command with --resume; {kept}.",
        )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
