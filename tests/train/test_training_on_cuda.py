"""Training on a GPU: the steps are the CPU's, a step waits once, a run goes on where it was, and who is out of memory
is told.

What a resumed run promises there: the same weights, optimizer, average, random numbers and pictures as without a stop;
sums on a GPU have no fixed order, so the losses that follow are the same to rounding, not bit for bit.
"""

import copy
import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.numpy import load_file

from ducseg.errors import UserError
from ducseg.train.config import Config
from ducseg.train.distributed import Ranks, join_ranks
from ducseg.train.loop import train
from ducseg.train.state import RunState
from ducseg.train.step import TrainingStep
from ducseg.train.sync_batch_norm import synchronise_batch_norm
from on_gpu import GPU, network, on_a_gpu, tiny_config, waits, write_data

pytestmark = on_a_gpu

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("lines") / "data")


def changed(config: Config, section: str, **values: Any) -> Config:
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **values)})


def batch(count: int = 4) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    label = torch.randint(0, 5, (count, 8, 12), generator=generator).to(torch.uint8)
    label = label.repeat_interleave(8, 1).repeat_interleave(8, 2)
    label[0, :20] = 255
    image = torch.randint(0, 256, (count, 3, 64, 96), generator=generator).to(torch.uint8)
    pinned = {"image": image.pin_memory(), "label": label.pin_memory()}
    return {**pinned, "ids": [str(number) for number in range(count)]}


def make_step(config: Config, device: torch.device, *, world_size: int = 1) -> TrainingStep:
    made = network("resnet18", "duc", cell=2).to(device=device, memory_format=torch.channels_last)
    ranks = Ranks(rank=0, world_size=world_size, device=device, restarts=0)
    state = RunState(made, config.optimizer, pictures=(8, 3))
    return TrainingStep(config, state, ranks, num_steps=100, steps_per_epoch=2)


STEPS: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("optimizer", {}),
    "AdamW": ("optimizer", {"name": "adamw", "learning_rate": 1e-3}),
    "moving average": ("optimizer", {"ema_decay": 0.9}),
    "pieces": ("optimizer", {"accumulation_steps": 2}),
    "layer decay": ("optimizer", {"layer_decay": 0.7, "clip_norm": None}),
    "frozen encoder": ("optimizer", {"freeze_encoder_steps": 2}),
    "frozen norms": ("model", {"freeze_batch_norm_from_epoch": 0}),
    "OHEM": ("loss", {"ohem_threshold": 0.5}),
    "regions": ("loss", {"dice": 1.0, "lovasz": 0.5, "cldice": 0.5, "cldice_iterations": 2}),
}


@pytest.mark.parametrize("how", STEPS)
def test_steps_are_the_cpus(how: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    section, values = STEPS[how]
    config = changed(tiny_config(data), section, **values)
    steps = [make_step(config, device) for device in (torch.device("cpu"), GPU)]
    found = [[step(batch()) for _ in range(3)] for step in steps]
    for theirs, mine in zip(*found):
        for name, value in theirs.items():
            assert mine[name] == pytest.approx(value, rel=5e-3), name
    assert found[0][-1]["loss"] < found[0][0]["loss"]
    weights = [step.state.evaluated.state_dict() for step in steps]
    for name, value in weights[0].items():
        assert weights[1][name].device == GPU
        assert (weights[1][name].cpu() - value).abs().max() <= 0.02 * max(float(value.abs().max()), 0.1), name


@pytest.mark.parametrize("how", STEPS)
@pytest.mark.parametrize("bf16", [False, True])
def test_the_host_waits_once_a_step(how: str, bf16: bool, data: Path) -> None:
    section, values = STEPS[how]
    step, given = make_step(changed(tiny_config(data, bf16=bf16), section, **values), GPU), batch()
    for _ in range(3):
        step(given)
    with waits("warn") as found:
        step(given)
    assert len(found) == 1, found


def losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "step"]


@pytest.mark.parametrize("kind", ["SGD", "AdamW and average, bfloat16"])
def test_a_run_goes_on_where_it_was(kind: str, data: Path, tmp_path: Path) -> None:
    config = tiny_config(data, bf16=kind != "SGD")
    if kind != "SGD":
        config = changed(config, "optimizer", name="adamw", learning_rate=1e-3, ema_decay=0.9)
    train(config, tmp_path / "whole", console=QUIET)
    shutil.copytree(tmp_path / "whole", tmp_path / "run", symlinks=True)
    steps = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert len(steps) == 3
    for later in steps[1:]:
        shutil.rmtree(later)
    outcome = train(config, tmp_path / "run", resume=True, console=QUIET)
    assert outcome.finished
    whole, resumed = losses(tmp_path / "whole"), losses(tmp_path / "run")
    assert len(whole) == len(resumed) == 6 and whole[:2] == resumed[:2]
    assert resumed[2] == pytest.approx(whole[2], rel=2e-3 if kind == "SGD" else 1e-2)
    assert resumed[-1] == pytest.approx(whole[-1], rel=0.05)
    one, other = (load_file(tmp_path / name / "last" / "model.safetensors") for name in ("whole", "run"))
    assert one.keys() == other.keys()
    state = torch.load(tmp_path / "run" / "last" / "train_state.pt", weights_only=True)
    assert len(state["cuda_rng"]) == 1


def test_a_run_on_the_gpu_goes_on_on_the_cpu_and_back(data: Path, tmp_path: Path) -> None:
    for device, epochs in (("cuda", 1), ("cpu", 2), ("cuda:0", 3)):
        config = changed(tiny_config(data, device=device), "optimizer", epochs=epochs)
        assert train(config, tmp_path / "run", resume=epochs > 1, console=QUIET).finished
    found = losses(tmp_path / "run")
    assert len(found) == 6 and found[-1] < found[0]


@pytest.mark.filterwarnings("ignore")  # of the compiler
def test_a_compiled_step_learns_the_same(data: Path) -> None:
    plain, compiled = (make_step(tiny_config(data, bf16=True, compile=one), GPU) for one in (False, True))
    found = [[step(batch())["loss"] for _ in range(4)] for step in (plain, compiled)]
    assert found[1] == pytest.approx(found[0], rel=0.05)


def test_reading_processes_and_page_locked_batches(data: Path, tmp_path: Path) -> None:
    config = changed(tiny_config(data), "data", workers=2)
    train(config, tmp_path / "run", console=QUIET)
    train(tiny_config(data), tmp_path / "alone", console=QUIET)
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "alone"), rel=0.05)


def test_ranks_over_nccl(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group of one rank that says it has two: sums and means are over one, so gradients are twice those of one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {"WORLD_SIZE": "1", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl", rank=0, world_size=1, device_id=GPU)
    try:
        alone, ranked = make_step(tiny_config(data), GPU), make_step(tiny_config(data), GPU, world_size=2)
        synchronise_batch_norm(ranked.segmenter, GPU)
        one, two = alone(batch()), ranked(batch())
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-3)
        assert two["gradient_norm"] == pytest.approx(2 * one["gradient_norm"], rel=1e-2)
        ranks = ranked._ranks
        ranks.share_buffers(ranked.segmenter)
        assert ranks.sum(torch.ones(2)).tolist() == [1, 1] == ranks.sum(torch.ones(2, device=GPU)).tolist()
        ranks.wait()
        ranked.release()
    finally:
        torch.distributed.destroy_process_group()


def test_more_ranks_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    count = torch.cuda.device_count()
    given = {"WORLD_SIZE": count + 1, "LOCAL_WORLD_SIZE": count + 1, "RANK": count, "LOCAL_RANK": count}
    for name, value in given.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(UserError, match=r"--run\.device.*as many processes as there are GPUs"), join_ranks("auto"):
        pass


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    here = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", here + code, *arguments]
    return subprocess.run(command, text=True, capture_output=True, timeout=120, env=environment)


TOO_LITTLE = """
import numpy as np, pytest, torch
from pathlib import Path
from ducseg.cli import main
from ducseg.errors import UserError
from ducseg.inference.predictor import Predictor
from on_gpu import network
torch.cuda.set_per_process_memory_fraction(1e9 / torch.cuda.mem_get_info()[1])
root, out = sys.argv[1:]
crops = ["--augment.crop-size", "1024", "1024", "--optimizer.batch-size", "8", "--run.device", "cuda"]
options = ["--data.dataset", "folder", "--data.root", root, "--model.weights", "None", "--data.workers", "0"]
options += ["--loss.class-weights", "None"]
status = main(["train", "camvid-resnet18-duc", "--out", out, *options, *crops])
print("status", status)
predictor = Predictor(network(width=64), "cuda", fused=True)
try:
    predictor(np.zeros((6000, 6000, 3), np.uint8))
except UserError as error:
    print("refused", error)
print("afterwards", predictor(np.zeros((64, 64, 3), np.uint8)).shape)
"""


def test_too_little_memory_is_said_in_a_line(data: Path, tmp_path: Path) -> None:
    done = python(TOO_LITTLE, str(data), str(tmp_path / "run"))
    assert "status 2" in done.stdout, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "not enough memory: found 8 crops of 1024 x 1024 pixels" in line and "accumulation-steps" in line
    assert "refused not enough memory: found a picture of 6000 x 6000 pixels (H x W) on cuda" in done.stdout
    assert "afterwards (64, 64)" in done.stdout


ON_THE_CPU = """
import torch
from pathlib import Path
from rich.console import Console
from ducseg.train.loop import train
from on_gpu import tiny_config
train(tiny_config(Path(sys.argv[1]), device="cpu"), Path(sys.argv[2]), console=Console(quiet=True))
print("touched", torch.cuda.is_initialized())
"""


def test_a_run_on_the_cpu_touches_no_gpu(data: Path, tmp_path: Path) -> None:
    done = python(ON_THE_CPU, str(data), str(tmp_path / "run"))
    assert "touched False" in done.stdout, done.stderr


def test_a_killed_run_goes_on(data: Path, tmp_path: Path) -> None:
    options = f"--data.dataset folder --data.root {data} --model.weights None "
    options += "--loss.class-weights None --optimizer.learning-rate 0.01 --optimizer.head-learning-rate-factor 1 "
    options += "--model.width 16 --augment.crop-size 32 48 --optimizer.batch-size 4 --optimizer.epochs 40 "
    options += "--data.workers 1 --run.bf16 --run.no-tensorboard --run.save-every-steps 5 --run.eval-every-epochs 20"
    run = tmp_path / "run"
    command = [sys.executable, "-m", "ducseg", "train"]
    begun = subprocess.Popen([*command, "camvid-resnet18-duc", "--out", str(run), *options.split()])
    while begun.poll() is None and not list(run.glob("checkpoints/step-*")):
        time.sleep(0.01)
    begun.send_signal(signal.SIGKILL)
    begun.wait()
    done = subprocess.run([*command, "--resume", str(run)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "1 x cuda" in done.stdout
    found = losses(run)
    assert len(found) == 80 and np.isfinite(found).all() and np.mean(found[-10:]) < np.mean(found[:10])


def test_a_worker_that_is_killed_is_an_error_in_words(data: Path) -> None:
    from ducseg.data.config import DataConfig
    from ducseg.data.layouts.opening import open_training_set
    from ducseg.data.loading import _workers, training_loader, workers_watched
    from ducseg.data.transforms import RandomCrop

    dataset = open_training_set(DataConfig(dataset="folder", root=str(data)), (0, 0, 0))
    settings = {"batch_size": 4, "num_steps": 1000, "seed": 0, "num_workers": 2, "pin_memory": True}
    with pytest.raises(UserError, match=r"--data\.workers"), workers_watched():
        for number, one in enumerate(training_loader(dataset, RandomCrop((32, 48), (0, 0, 0)), **settings)):
            assert one["image"].is_pinned()
            if number == 3:
                for process in _workers:
                    if process.is_alive():
                        process.kill()


def test_copies_of_a_state_are_on_the_gpu(data: Path) -> None:
    step = make_step(changed(tiny_config(data), "optimizer", ema_decay=0.9), GPU)
    step(batch())
    values = copy.deepcopy(step.state.state_dict())
    other = make_step(changed(tiny_config(data), "optimizer", ema_decay=0.9), GPU)
    other.state.load_state_dict(values)
    assert other.state.step == 1
    for one, two in zip(step.state.network.parameters(), other.state.network.parameters()):
        assert torch.equal(one, two)
