"""Training runs on a tiny data set, by one process or two ranks, and what is left of them."""

import json
import shutil
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import children
import torch
from commands import complaints
from moments import Moment
from safetensors.numpy import load_file
from training_process import TrainingProcess

__all__ = ["Run", "broken", "differing"]


class Run:
    """`ducseg train` on the tiny data set, by one process or two ranks."""

    def __init__(self, base: Path, data: Path, options: str, ranks: int = 1) -> None:
        self.base, self.out, self.ranks = base, base / "run", ranks
        base.mkdir(parents=True, exist_ok=True)
        own = ["--model.width", "8", "--optimizer.epochs", "3", "--run.eval-every-epochs", "1", *options.split()]
        place = ["camvid-resnet18-duc", "--data.root", data, "--out", self.out]
        self.arguments = ["train", *place, *TrainingProcess.OPTIONS.split(), *own]

    def start(
        self,
        *extra: str,
        moment: Moment | None = None,
        whom: int = 0,
        before: Callable[[], None] | None = None,
        environment: Mapping[str, str] | None = None,
        clocked: bool = True,
    ) -> list[children.Child]:
        """Start it; the moment is of the rank `whom`."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        world = {"WORLD_SIZE": str(self.ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        return [
            children.start(
                [*self.arguments, *extra],
                self.base / f"said-{rank}.txt",
                moment=moment if rank == whom else None,
                environment={**(environment or {}), **(world | {"RANK": str(rank)} if self.ranks > 1 else {})},
                before=before,
                clocked=clocked,
            )
            for rank in range(self.ranks)
        ]

    def steps(self) -> list[int]:
        return [int(folder.name[5:]) for folder in sorted(self.out.glob("checkpoints/step-*"))]

    def logged(self) -> int:
        """The last step in the log."""
        path = self.out / "log.jsonl"
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        return max((json.loads(line)["step"] for line in lines), default=0)

    def check_whole(self) -> None:
        """What is there under a final name reads, and lacks but the step in hand."""
        for step in self.steps():
            read_checkpoint(self.out / "checkpoints" / f"step-{step:08d}")
        for name in ("last", "best"):
            if (self.out / name).is_symlink():
                assert (self.out / name / "model.json").is_file(), f"{name} leads nowhere"
        if (self.out / "config.json").exists():
            json.loads((self.out / "config.json").read_text())
        saved = max(self.steps(), default=0)
        assert saved >= self.logged() - 1, f"step {self.logged()} was logged, {saved} is saved"

    def result(self) -> dict[str, Any]:
        """All that a run leaves, without times."""
        log = [json.loads(line) for line in (self.out / "log.jsonl").read_text().splitlines()]
        timeless = [{key: value for key, value in line.items() if key not in TIMES} for line in log]
        files = sorted(path.relative_to(self.out).as_posix() for path in self.out.rglob("*"))
        found: dict[str, Any] = {"log": timeless, "files": [name for name in files if "tensorboard" not in name]}
        for step in self.steps():
            found[f"step {step}"] = read_checkpoint(self.out / "checkpoints" / f"step-{step:08d}")
        for picture in self.out.glob("samples/**/*.png"):
            found[picture.name] = picture.read_bytes()
        for name in ("last", "best"):  # a file that holds the path, where there are no links
            place = self.out / name
            found[name] = place.readlink().as_posix() if place.is_symlink() else place.read_text().strip()
        return found

    def undisturbed(self) -> children.Child:
        """It, run to its end by one process."""
        (child,) = self.start()
        assert child.wait() == 0, child.said()
        return child

    def after(self, moment: Moment, whole: "Run", statuses: Sequence[int] = (0, 1, 2)) -> list[str]:
        """What it does, disturbed at a moment, and then undisturbed, otherwise than end as the whole run."""
        shutil.rmtree(self.out, ignore_errors=True)
        (child,) = self.start(moment=moment)
        child.wait()
        found = complaints(child, statuses) + broken(self, [child])
        return [f"{moment}: {line}" for line in found + self.goes_on(whole)]

    def goes_on(self, whole: "Run") -> list[str]:
        """What the same command with --resume does otherwise than end as the whole run."""
        said = self.start("--resume")
        ended = [child.wait() for child in said]
        if ended != [0] * self.ranks:
            return [f"does not go on {ended}: {said[0].said()[-600:]}"]
        return differing(self.result(), whole.result())


TIMES = ("images_per_second", "waiting_share", "seconds")


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """Everything in it, without times."""
    state = torch.load(folder / "train_state.pt", weights_only=True)
    description = json.loads((folder / "model.json").read_text())
    weights = {key: torch.from_numpy(value) for key, value in load_file(folder / "model.safetensors").items()}
    del state["seconds"]
    return {"state": state, "weights": weights, "metrics": description["metrics"]}


def differing(one: Any, other: Any, place: str = "") -> list[str]:
    """Where two nests of values differ in a bit."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [line for key in one for line in differing(one[key], other[key], f"{place}.{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        return [line for at, (a, b) in enumerate(zip(one, other)) for line in differing(a, b, f"{place}[{at}]")]
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if one.dtype == other.dtype and torch.equal(one.nan_to_num(), other.nan_to_num()) else [place]
    return [] if one == other or (one != one and other != other) else [f"{place}: {one!r:.200} and {other!r:.200}"]


def broken(run: Run, said: Sequence[children.Child]) -> list[str]:
    """What a disturbed run left otherwise than promised; what a killed one's workers print then is no promise."""
    left = [child for child in said if child.process.exitcode != -signal.SIGKILL]
    found = ["a traceback: " + child.said()[-600:] for child in left if "Traceback" in child.said()]
    try:
        run.check_whole()
    except Exception as error:
        found.append(f"{type(error).__name__}: {error}")
    return found
