"""Two gloo processes against one process with the same global batch."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_process import TrainingProcess

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


def _first_child(process: subprocess.Popen[str]) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(children[0])
