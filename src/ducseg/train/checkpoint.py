"""Checkpoints that are whole or not there: written under a temporary name, fsynced, renamed.

    RUN/checkpoints/step-00000120/   model.safetensors  model.json  train_state.pt
    RUN/last -> checkpoints/step-00000120        RUN/best -> checkpoints/step-00000090

`train_state.pt` holds tensors and plain values only and is read with `weights_only=True`. A checkpoint is saved before
it is scored: `score` adds what the evaluation found to its `model.json`. Where the file system refuses links, `last`
and `best` are text files that hold the path.
"""

import errno
import io
import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ducseg.errors import UserError, explain
from ducseg.files import parse_json, remove_folder, rename, sweep_folder, sync, whole_file
from ducseg.models.segmenter import Segmenter
from ducseg.train.state import Evaluations, RunState
from ducseg.weights.checkpoint import read_model_json, write_model_files

__all__ = ["CheckpointFolder"]

_STEP = re.compile(r"step-(\d{8})")


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

    def save(self, state: RunState, *, extra: dict[str, Any]) -> Path:
        """Write the checkpoint of `state.step`, move `last` (and `best`) to it, delete what is no longer kept.

        Raises:
            UserError: the disk is full; what was there before is untouched.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.clean()
        final = self.path(state.step)
        if not final.exists():  # the same step saved twice holds the same bits
            temporary = self.folder / f".writing-{final.name}"
            extra = {**extra, "evaluations": asdict(state.evaluations)}
            try:
                self._write(temporary, state.evaluated, state.state_dict(), extra)
                rename(temporary, final)
            except OSError as error:
                remove_folder(temporary)
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise self._disk_full(state.step) from error
            sync(self.folder)
        self.settle(state.evaluations.best_step)
        return final

    def score(self, evaluations: Evaluations, metrics: dict[str, Any]) -> None:
        """Write an evaluation into the checkpoint of its step, and let `best` follow.

        Args:
            metrics: JSON-able scores.
        """
        self._note(evaluations.step, {"metrics": metrics}, {"evaluations": asdict(evaluations)})
        self.settle(evaluations.best_step)

    def end(self, step: int, seconds: float) -> None:
        """Write into the checkpoint of the last step that its time was up, and how much that was."""
        self._note(step, {}, {"ended": True, "seconds": seconds})

    def _note(self, step: int, values: dict[str, Any], extra: dict[str, Any]) -> None:
        path = self.path(step) / "model.json"
        description = parse_json(path.read_text(encoding="utf-8")) | values
        description["extra"] |= extra
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(description, indent=1, allow_nan=False) + "\n", encoding="utf-8")
            sync(temporary)

    def settle(self, best_step: int | None) -> None:
        """Delete leftovers and what is no longer kept, point `last` and `best`: what a killed save left undone.

        Without a best one, `best` follows `last`.
        """
        self.clean()
        last = self.last()
        if last is None:
            return
        self._point("last", last)
        best = last if best_step is None else self.path(best_step)
        if best.is_dir():
            self._point("best", best)
        self._prune(best_step)

    def load_state(self, state: RunState, checkpoint: Path) -> None:
        """Read `train_state.pt` into `state`, and what an evaluation added later.

        Raises:
            UserError: it is missing (a checkpoint saved without one), damaged, or of other numbers of pictures.
        """
        path = checkpoint / "train_state.pt"
        try:
            values = torch.load(path, map_location="cpu", weights_only=True)
            state.load_state_dict(values)
            pictures = tuple(values.get("pictures", state.pictures))
            later = (read_model_json(checkpoint).get("extra") or {}).get("evaluations")
            if later is not None:
                state.evaluations = Evaluations(**later)
        except Exception as error:  # a damaged file ends in errors of a dozen types
            raise explain(
                f"cannot resume from {checkpoint}",
                found=f"{path.name} that does not load ({type(error).__name__})",
                needed="a checkpoint that training wrote",
                fix="Delete that folder to resume from the one before it.",
            ) from error
        if pictures != state.pictures:
            raise explain(
                f"cannot resume from {checkpoint}",
                found="{} training and {} validation pictures".format(*state.pictures),
                needed="the run's {} and {}".format(*pictures),
                fix=f"Bring the data back, or start another --out with --model.weights {checkpoint}.",
            )

    def clean(self) -> None:
        """Delete what an interrupted save left behind."""
        for leftover in self.folder.glob(".writing-*"):
            remove_folder(leftover)
        for step in self.steps():
            sweep_folder(self.path(step))

    def check_space(self, bytes_per_checkpoint: int) -> None:
        """Raise `UserError` before training where the disk cannot hold the checkpoints that the run keeps."""
        there = len(self.steps())  # of a run that goes on
        needed = bytes_per_checkpoint * max(1, self._keep_last + 2 - there)  # the best, and the one being written
        free = shutil.disk_usage(self.run).free
        if free < needed:
            raise explain(
                f"disk of {self.run}",
                found=f"{free / 2**20:.0f} MiB free",
                needed=f"{needed / 2**20:.0f} MiB for the last {self._keep_last}, the best and one being written",
                fix="Free some space, choose another --out or lower --run.keep-last.",
            )

    def _write(self, folder: Path, model: Segmenter, state: dict[str, Any], extra: dict[str, Any]) -> None:
        remove_folder(folder)
        folder.mkdir()
        write_model_files(folder, model, metrics=None, extra=extra)
        buffer = io.BytesIO()  # torch.save into a file hides the system's error code on a full disk
        torch.save(state, buffer)
        (folder / "train_state.pt").write_bytes(buffer.getbuffer())
        sync(folder / "train_state.pt")
        sync(folder)

    def _point(self, name: str, target: Path) -> None:
        """Make RUN/name lead to a checkpoint: a link, or a file with its path where links are refused."""
        temporary, place = self.run / f".{name}-new", self.run / name
        temporary.unlink(missing_ok=True)
        relative = target.relative_to(self.run)
        try:
            temporary.symlink_to(relative)
        except (OSError, NotImplementedError):
            temporary.write_text(relative.as_posix() + "\n", encoding="utf-8")
        if place.is_dir() and not place.is_symlink():  # a copied run: its links became copies of checkpoints
            shutil.rmtree(place)
        try:
            temporary.replace(place)
        except PermissionError:  # Windows replaces no link to a folder
            if not place.is_symlink():
                raise
            place.unlink()
            temporary.replace(place)

    def _prune(self, best_step: int | None) -> None:
        for step in self.steps()[: -self._keep_last]:
            if step != best_step:
                doomed = self.folder / f".writing-old-{step}"
                rename(self.path(step), doomed)  # never half-deleted under a final name
                remove_folder(doomed)

    def _disk_full(self, step: int) -> UserError:
        last = self.last()
        kept = f"the checkpoint {last.name} is whole" if last else "no earlier checkpoint exists"
        return explain(
            f"saving the checkpoint of step {step}",
            found=f"the disk of {self.folder} full",
            needed="room for one more checkpoint",
            fix=f"Free some space and run the same command with --resume; {kept}.",
        )
