"""`ducseg train` as a user starts it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

__all__ = ["TrainingProcess"]


class TrainingProcess:
    """`ducseg train` as a user starts it, on the tiny data set."""

    OPTIONS = (
        "--model.weights None --model.width 16 "
        "--augment.crop-size 32 48 --optimizer.batch-size 4 --optimizer.epochs 6 --data.workers 0 "
        "--optimizer.learning-rate 0.01 --optimizer.head-learning-rate-factor 1 --run.device cpu --run.threads 1 "
        "--run.no-bf16 --run.no-tensorboard --run.save-every-steps 1 --run.eval-every-epochs 2"
    )

    def __init__(self, data: Path, out: Path) -> None:
        self.out = out
        options = ["camvid-resnet18-duc", "--data.root", str(data), "--out", str(out), *self.OPTIONS.split()]
        self.arguments = ["-m", "ducseg", "train", *options]
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(self, *extra: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *launcher, *self.arguments, *extra],
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, *extra: str, launcher: tuple[str, ...] = (), status: int = 0) -> str:
        process = self.start(*extra, launcher=launcher)
        output, _ = process.communicate(timeout=240)
        assert process.returncode == status, output
        return output

    def stop_after(self, seconds: float, how: signal.Signals, *extra: str) -> int:
        """Start, wait for the first checkpoint and `seconds` more, send the signal; the exit status."""
        process = self.start(*extra)
        already = self.steps()
        while process.poll() is None and self.steps() == already:
            time.sleep(0.01)
        time.sleep(seconds)
        process.send_signal(how)
        process.communicate(timeout=240)
        return process.returncode

    def steps(self) -> list[str]:
        folder = self.out / "checkpoints"
        return sorted(p.name for p in folder.glob("step-*")) if folder.is_dir() else []

    def weights(self) -> dict[str, Any]:
        return load_file(self.out / "last" / "model.safetensors")

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / "log.jsonl").read_text().splitlines()]
