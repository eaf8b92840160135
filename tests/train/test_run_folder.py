import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ducseg.errors import UserError
from ducseg.models import build
from ducseg.models.segmenter import Segmenter
from ducseg.train.checkpoint import CheckpointFolder
from ducseg.train.config import OptimizerConfig
from ducseg.train.state import Evaluations, RunState
from ducseg.weights.checkpoint import load_segmenter


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return build(encoder="resnet18", head="bilinear", num_classes=3, output_stride=32, aspp=0, dilation="none")


def make_state(segmenter: Segmenter, step: int, *, best_step: int | None = None) -> RunState:
    state = RunState(segmenter, OptimizerConfig(), pictures=(8, 3))
    state.step, state.skipped_batches = step, 1
    state.evaluations = Evaluations(step=step, best_score=None if best_step is None else 0.5, best_step=best_step)
    return state


def save(folder: CheckpointFolder, segmenter: Segmenter, step: int, **state: Any) -> Path:
    return folder.save(make_state(segmenter, step, **state), extra={})


def test_keeps_the_last_k_and_the_best(tmp_path: Path, segmenter: Segmenter) -> None:
    folder = CheckpointFolder(tmp_path, keep_last=2)
    save(folder, segmenter, 10, best_step=10)
    for step in (20, 30, 40):
        save(folder, segmenter, step, best_step=10)
    assert folder.steps() == [10, 30, 40]
    assert (tmp_path / "best").resolve() == folder.path(10).resolve()
    assert (tmp_path / "last").resolve() == folder.path(40).resolve()
    assert not list(folder.folder.glob(".*"))


def test_state_comes_back_as_it_was(tmp_path: Path, segmenter: Segmenter) -> None:
    folder = CheckpointFolder(tmp_path, keep_last=1)
    state = make_state(segmenter, 7, best_step=7)
    first = next(segmenter.parameters())
    state.optimizer.state[first]["momentum_buffer"] = torch.full_like(first, 3.0)
    path = folder.save(state, extra={})
    loaded = make_state(segmenter, 0)
    folder.load_state(loaded, path)
    assert (loaded.step, loaded.evaluations.best_step, loaded.skipped_batches) == (7, 7, 1)
    assert (loaded.optimizer.state[first]["momentum_buffer"] == 3).all()
    assert load_segmenter(path).classes.names == segmenter.classes.names


@pytest.mark.parametrize("file", ["model.safetensors", "train_state.pt"])
def test_a_full_disk_is_said_and_the_earlier_checkpoint_stays(
    tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    folder = CheckpointFolder(tmp_path, keep_last=2)
    save(folder, segmenter, 1)
    write_bytes = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name == file:
            write_bytes(path, bytes(data)[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"step 2.*full.*--resume.*step-00000001 is whole"):
        save(folder, segmenter, 2)
    assert folder.steps() == [1]
    assert not list(folder.folder.glob(".*"))
    assert (tmp_path / "last").resolve() == folder.path(1).resolve()


def test_too_little_space_is_said_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=10 * 2**20))
    with pytest.raises(UserError, match=r"10 MiB free.*needed 400 MiB"):
        CheckpointFolder(tmp_path, keep_last=2).check_space(100 * 2**20)


def test_leftovers_of_a_killed_save_are_no_checkpoint(tmp_path: Path, segmenter: Segmenter) -> None:
    folder = CheckpointFolder(tmp_path, keep_last=2)
    save(folder, segmenter, 1)
    half = folder.folder / ".writing-step-00000002"
    half.mkdir()
    (half / "model.json").write_text("{")
    assert folder.last() == folder.path(1)
    save(folder, segmenter, 3)
    assert not half.exists()


def test_damaged_state_is_a_clear_error(tmp_path: Path, segmenter: Segmenter) -> None:
    folder = CheckpointFolder(tmp_path, keep_last=2)
    path = save(folder, segmenter, 1)
    whole = (path / "train_state.pt").read_bytes()
    (path / "train_state.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cannot resume.*Delete that folder"):
        folder.load_state(make_state(segmenter, 0), path)


def test_settling_does_what_a_killed_save_left_undone(tmp_path: Path, segmenter: Segmenter) -> None:
    folder = CheckpointFolder(tmp_path, keep_last=1)
    save(folder, segmenter, 1, best_step=1)
    shutil.copytree(folder.path(1), folder.path(2))  # renamed, but `last` not yet moved and step 1 not yet pruned
    shutil.copytree(folder.path(1), folder.folder / ".writing-old-0")
    folder.settle(best_step=2)
    assert [entry.name for entry in folder.folder.iterdir()] == ["step-00000002"]
    for link in ("last", "best"):
        assert (tmp_path / link).resolve() == folder.path(2).resolve()
