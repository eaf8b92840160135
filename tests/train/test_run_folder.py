import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ducseg.errors import UserError
from ducseg.models import build
from ducseg.models.segmenter import Segmenter
from ducseg.train import run_folder
from ducseg.train.checkpoint import CheckpointFolder
from ducseg.train.config import OptimizerConfig
from ducseg.train.distributed import Ranks
from ducseg.train.state import Evaluations, RunState
from ducseg.weights.checkpoint import checkpoint_folder, load_segmenter


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


# -- links, copies, damage --------------------------------------------------------------------------------------------


def test_where_links_are_refused_files_point(
    tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "symlink_to", refused)
    folder = CheckpointFolder(tmp_path, keep_last=1)
    save(folder, segmenter, 1, best_step=1)
    save(folder, segmenter, 2, best_step=1)
    assert (tmp_path / "last").read_text() == "checkpoints/step-00000002\n"
    assert checkpoint_folder(tmp_path) == checkpoint_folder(tmp_path / "best") == folder.path(1)
    assert checkpoint_folder(tmp_path / "last") == folder.path(2)


def test_links_follow_where_the_system_replaces_no_link_to_a_folder(
    tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows."""
    replace = Path.replace

    def refused(path: Path, target: Path) -> Path:
        if target.is_dir():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", refused)
    folder = CheckpointFolder(tmp_path, keep_last=1)
    for step in (1, 2):
        save(folder, segmenter, step, best_step=step)
    assert {(tmp_path / name).resolve() for name in ("last", "best")} == {folder.path(2).resolve()}
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("best_step", [1, None])
def test_a_run_copied_without_its_links_is_found_through_its_checkpoints(
    tmp_path: Path, segmenter: Segmenter, best_step: int | None
) -> None:
    folder = CheckpointFolder(tmp_path / "run", keep_last=2)
    save(folder, segmenter, 1, best_step=best_step)
    save(folder, segmenter, 2, best_step=best_step)
    for link in ("last", "best"):
        (tmp_path / "run" / link).unlink()
    assert checkpoint_folder(tmp_path / "run") == folder.path(best_step or 2)
    (folder.folder / ".writing-step-00000003").mkdir()
    assert checkpoint_folder(tmp_path / "run") == folder.path(best_step or 2)


def test_a_run_copied_with_its_links_followed_goes_on(tmp_path: Path, segmenter: Segmenter) -> None:
    save(CheckpointFolder(tmp_path / "run", keep_last=1), segmenter, 1, best_step=1)
    shutil.copytree(tmp_path / "run", tmp_path / "copy")  # `last` and `best` are folders now
    copied = CheckpointFolder(tmp_path / "copy", keep_last=1)
    save(copied, segmenter, 2, best_step=2)
    assert (tmp_path / "copy" / "last").resolve() == copied.path(2)
    assert checkpoint_folder(tmp_path / "copy") == tmp_path / "copy" / "best"


def damage_nothing(path: Path) -> None:
    path.unlink()


def damage_bytes(path: Path) -> None:
    path.write_bytes(b"not a state")


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_middle(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 4000] = bytes(4000)
    whole[:200] = bytes(200)
    path.write_bytes(bytes(whole))


def damage_keys(path: Path) -> None:
    torch.save({"step": 1}, path)


def damage_type(path: Path) -> None:
    torch.save([1, 2], path)


def damage_optimizer(path: Path) -> None:
    values = torch.load(path, weights_only=True)
    torch.save({**values, "optimizer": {"state": {}, "param_groups": []}}, path)


@pytest.mark.parametrize(
    "damage",
    [
        damage_nothing,
        damage_bytes,
        damage_empty,
        damage_middle,
        damage_keys,
        damage_type,
        damage_optimizer,
    ],
)
def test_every_damage_of_the_state_is_one_clear_error(
    tmp_path: Path, segmenter: Segmenter, damage: Callable[[Path], None]
) -> None:
    folder = CheckpointFolder(tmp_path, keep_last=2)
    path = save(folder, segmenter, 1)
    damage(path / "train_state.pt")
    with pytest.raises(UserError, match=r"cannot resume.*train_state.pt that does not load.*Delete that folder"):
        folder.load_state(make_state(segmenter, 0), path)


def test_other_numbers_of_pictures_are_refused(tmp_path: Path, segmenter: Segmenter) -> None:
    folder = CheckpointFolder(tmp_path, keep_last=2)
    path = save(folder, segmenter, 1)
    state = make_state(segmenter, 0)
    state.pictures = (9, 3)
    with pytest.raises(UserError, match=r"9 training and 3 validation.*the run's 8 and 3"):
        folder.load_state(state, path)


def test_a_state_of_0_1_0_goes_on(tmp_path: Path, segmenter: Segmenter) -> None:
    folder = CheckpointFolder(tmp_path, keep_last=1)
    path = save(folder, segmenter, 4)
    description = json.loads((path / "model.json").read_text())
    del description["extra"]["evaluations"]
    (path / "model.json").write_text(json.dumps(description))
    now = torch.load(path / "train_state.pt", weights_only=True)
    old = {name: now[name] for name in ("step", "skipped_batches", "optimizer", "network", "torch_rng")}
    torch.save({**old, "evaluated_step": 2, "best_mean_iou": 0.25, "best_step": 2}, path / "train_state.pt")
    state = make_state(segmenter, 0)
    folder.load_state(state, path)
    assert (state.step, state.evaluations.step, state.evaluations.best_score) == (4, 2, 0.25)


# -- who may write into it --------------------------------------------------------------------------------------------

HOLD = """
import sys, pathlib
from ducseg.train import run_folder
if sys.argv[2] == "no locks":
    run_folder.locks = None
with run_folder.hold_run_folder(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["locks", "no locks"])
def test_two_runs_on_one_folder_are_refused_until_the_first_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "no locks":
        monkeypatch.setattr(run_folder, "locks", None)
    run = tmp_path / "run"
    command = [sys.executable, "-c", HOLD, str(run), kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=rf"another run.*process {other.pid}"), run_folder.hold_run_folder(run):
            pass
        other.kill()
    again = run_folder.hold_run_folder(run)
    with run_folder.hold_run_folder(run), pytest.raises(UserError, match="another run"):
        again.__enter__()
    with run_folder.hold_run_folder(run):
        pass


def test_an_out_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    for run in (tmp_path / "run", tmp_path / "run" / "below"):
        with pytest.raises(UserError, match="--out"), run_folder.hold_run_folder(run):
            pass
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.parametrize("there", [(), ("run",), ("kept.txt",)])
def test_a_start_that_fails_leaves_what_was_there(tmp_path: Path, there: tuple[str, ...]) -> None:
    run = tmp_path / "runs" / "run"
    for path in (run.parent / name for name in there):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine") if path.suffix else path.mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="bad data"), run_folder.hold_run_folder(run):
        run_folder.checkpoint_to_resume(run, None, resume=False, ranks=ranks(0))
        raise UserError("bad data")
    assert sorted(tmp_path.rglob("*")) == before
    with run_folder.hold_run_folder(run):
        (run / "config.json").write_text("{}")
    assert (run / "config.json").is_file()


def ranks(restarts: int) -> Ranks:
    return Ranks(rank=0, world_size=1, device=torch.device("cpu"), restarts=restarts)


def test_a_restart_goes_on_with_its_own_run_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "one")
    last = tmp_path / "checkpoints" / "step-00000001"
    assert run_folder.checkpoint_to_resume(tmp_path, None, resume=False, ranks=ranks(0)) is None
    assert run_folder.checkpoint_to_resume(tmp_path, last, resume=False, ranks=ranks(1)) == last
    with pytest.raises(UserError, match="earlier run"):  # a second launch, of the same name
        run_folder.checkpoint_to_resume(tmp_path, last, resume=False, ranks=ranks(0))
    with pytest.raises(UserError, match="earlier run"):  # which torchrun restarts
        run_folder.checkpoint_to_resume(tmp_path, last, resume=False, ranks=ranks(1))
    assert run_folder.checkpoint_to_resume(tmp_path, last, resume=True, ranks=ranks(0)) == last
    assert run_folder.checkpoint_to_resume(tmp_path, last, resume=False, ranks=ranks(2)) == last
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "another")
    with pytest.raises(UserError, match="earlier run"):
        run_folder.checkpoint_to_resume(tmp_path, last, resume=False, ranks=ranks(1))
