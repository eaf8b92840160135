"""Two gloo processes against one process with the same global batch."""

import copy
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from training_process import TrainingProcess

from ducseg.errors import UserError
from ducseg.models import build
from ducseg.train import distributed
from ducseg.train.config import Config
from ducseg.train.distributed import Ranks
from ducseg.train.state import RunState
from ducseg.train.step import TrainingStep
from ducseg.train.sync_batch_norm import CpuSyncBatchNorm2d, synchronise_batch_norm

TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def curve(process: Any, kind: str, value: str) -> list[float]:
    return [line[value] for line in process.log() if line["kind"] == kind]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [(), ("--optimizer.accumulation-steps", "2", "--model.freeze-batch-norm-from-epoch", "0")]
)
def test_two_ranks_follow_the_curve_of_one(
    training_process: Any, tiny_camvid: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    alone = TrainingProcess(tiny_camvid, tmp_path / "alone")
    alone.run(*options)
    training_process.run(*options, launcher=TWO)
    np.testing.assert_allclose(curve(training_process, "step", "loss"), curve(alone, "step", "loss"), rtol=1e-4)
    assert curve(training_process, "step", "valid_pixels") == curve(alone, "step", "valid_pixels")
    assert len(curve(training_process, "evaluation", "mean_iou")) == 3


@pytest.mark.slow
def test_torchrun_restarts_from_the_last_whole_checkpoint(
    training_process: Any, tiny_camvid: Path, tmp_path: Path
) -> None:
    alone = TrainingProcess(tiny_camvid, tmp_path / "alone")
    alone.run(launcher=TWO)
    process = training_process.start(launcher=(*TWO, "--max-restarts", "2"))
    while process.poll() is None and not training_process.steps():
        time.sleep(0.01)
    os.kill(_first_child(process), signal.SIGKILL)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    np.testing.assert_allclose(curve(training_process, "step", "loss"), curve(alone, "step", "loss"), rtol=1e-4)


@pytest.mark.slow
def test_recalibration_sees_the_pictures_of_all_ranks(training_process: Any, tiny_camvid: Path, tmp_path: Path) -> None:
    source = TrainingProcess(tiny_camvid, tmp_path / "source")
    source.run("--optimizer.epochs", "1")
    options = ("--model.weights", str(source.out), "--model.recalibrate-batches", "1", "--optimizer.epochs", "1")
    alone = TrainingProcess(tiny_camvid, tmp_path / "alone")
    alone.run(*options)
    training_process.run(*options, launcher=TWO)
    np.testing.assert_allclose(curve(training_process, "step", "loss"), curve(alone, "step", "loss"), rtol=1e-5)


@pytest.mark.slow
def test_without_synchronised_statistics_what_is_scored_is_what_is_saved(training_process: Any, tmp_path: Path) -> None:
    training_process.run("--run.no-sync-batch-norm", "--optimizer.learning-rate", "0.1", launcher=TWO)
    command = [
        sys.executable,
        "-m",
        "ducseg",
        "eval",
        str(training_process.out / "last"),
        "--json",
        str(tmp_path / "s"),
    ]
    subprocess.run(command, check=True, env=training_process.environment)
    scored = json.loads((tmp_path / "s").read_text())
    assert scored["mean_iou"] == curve(training_process, "evaluation", "mean_iou")[-1]


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["torchrun", "one rank", "one rank of a launch with restarts"])
def test_sigterm_among_ranks_saves_and_ends_as_documented(
    training_process: Any, tiny_camvid: Path, tmp_path: Path, whom: str
) -> None:
    restarts = ("--max-restarts", "2") if "restarts" in whom else ()
    process = training_process.start(launcher=(*TWO, *restarts))
    while process.poll() is None and not training_process.steps():
        time.sleep(0.01)
    os.kill(process.pid if whom == "torchrun" else _first_child(process), signal.SIGTERM)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == (0 if restarts else 1), output
    if not restarts:
        assert "stopped: step " in output
        assert len(training_process.log()) < 15
        training_process.run("--resume", launcher=TWO)
    alone = TrainingProcess(tiny_camvid, tmp_path / "alone")
    alone.run()
    np.testing.assert_allclose(curve(training_process, "step", "loss"), curve(alone, "step", "loss"), rtol=1e-4)


@pytest.mark.slow
def test_restarts_do_not_get_into_a_used_folder(training_process: Any, tiny_camvid: Path) -> None:
    training_process.run("--optimizer.epochs", "1")
    before = training_process.log()
    output = training_process.run(launcher=(*TWO, "--max-restarts", "1"), status=1)
    assert "earlier run" in output
    assert training_process.log() == before


def _first_child(process: subprocess.Popen[str]) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(children[0])


@pytest.fixture
def group_of_one() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group_of_one")
@pytest.mark.parametrize("options", [{}, {"affine": False}, {"track_running_stats": False}, {"momentum": None}])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_batch_norms_of_every_kind_are_synchronised(options: dict[str, Any], kind: torch.dtype) -> None:
    norm = nn.BatchNorm2d(3, **options).to(kind)
    (found,) = synchronise_batch_norm(nn.Sequential(copy.deepcopy(norm)), torch.device("cpu"))
    assert type(found) is CpuSyncBatchNorm2d
    for _ in range(2):
        images = 1 + torch.randn(2, 3, 4, 5, dtype=kind)
        torch.testing.assert_close(found(images), norm(images))
    torch.testing.assert_close(list(found.buffers()), list(norm.buffers()))
    torch.testing.assert_close(found.eval()(images), norm.eval()(images))


@pytest.mark.usefixtures("group_of_one")
def test_one_value_a_channel_has_no_variance() -> None:
    with pytest.raises(UserError, match="batch norm: found one value a channel"):
        CpuSyncBatchNorm2d(3)(torch.zeros(1, 3, 1, 1))


def test_a_second_run_of_a_process_does_not_look_for_the_ranks_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun's store outlives the runs: where it still told where the first one's ranks listened, all would wait."""
    kept, addresses = dist.HashStore(), []

    def join(_backend: str, *, store: dist.Store, **_options: Any) -> None:
        addresses.append(store.check(["address"]))
        store.set("address", "of a rank")

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(distributed, "rendezvous", lambda _url: iter([(kept, 0, 2)]))
    monkeypatch.setattr(dist, "init_process_group", join)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    for _ in range(2):
        with distributed.join_ranks("cpu"):
            pass
    assert addresses == [False, False]


@pytest.mark.usefixtures("group_of_one")
@pytest.mark.parametrize("together", [True, False])
def test_the_exchange_of_gradients_warns_of_nothing(tiny_config: Config, together: bool) -> None:
    segmenter = build(encoder="resnet18", head="duc", num_classes=11, output_stride=16, cell=2, aspp=0, width=8)
    config = dataclasses.replace(tiny_config, run=dataclasses.replace(tiny_config.run, sync_batch_norm=together))
    ranks = Ranks(rank=0, world_size=2, device=torch.device("cpu"), restarts=0)
    state = RunState(segmenter, config.optimizer, pictures=(8, 3))
    step = TrainingStep(config, state, ranks, num_steps=9, steps_per_epoch=3)
    images, labels = torch.zeros(4, 3, 32, 48, dtype=torch.uint8), torch.ones(4, 32, 48, dtype=torch.uint8)
    assert step({"image": images, "label": labels, "ids": ["a", "b", "c", "d"]})["loss"] > 0
    step.release()
