"""Everything that a run changes while it goes, in one object: made whole, written and read as one dictionary."""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from ducseg.models.segmenter import Segmenter
from ducseg.train.ema import MovingAverage
from ducseg.train.optimizer import make_optimizer
from ducseg.train.sections import OptimizerConfig

__all__ = ["Evaluations", "RunState"]


@dataclass(kw_only=True)
class Evaluations:
    """What the evaluations so far have shown; JSON-able by `dataclasses.asdict`."""

    step: int = 0
    """The last step that was scored; 0 before the first."""
    best_score: float | None = None
    """The highest deciding score; None as long as none was defined."""
    best_step: int | None = None
    without_gain: int = 0
    """Evaluations since the best one."""

    def add(self, step: int, score: float | None) -> None:
        """Note the deciding score of `step`, None where it is not defined."""
        self.step = step
        if score is not None and (self.best_score is None or score > self.best_score):
            self.best_score, self.best_step, self.without_gain = score, step, 0
        else:
            self.without_gain += 1


class RunState:
    """Step, network, average, optimizer, evaluations and random numbers of a run.

    Order and augmentation of the pictures follow from (seed, step), so the step is the sampler's position too.

    Args:
        network: on its device; with a moving average, that one starts as its copy.
        pictures: number of training and of validation pictures.

    Attributes:
        step: optimizer steps done.
        skipped_batches: batches from which nothing could be learned, so far.
        seconds: that the run has taken, as of its last save.
    """

    def __init__(self, network: Segmenter, optimizer: OptimizerConfig, *, pictures: tuple[int, int]) -> None:
        self.network, self.pictures = network, pictures
        device = next(network.parameters()).device
        self._gpu = device if device.type == "cuda" else None  # others are left alone: each touched takes memory there
        self.step = self.skipped_batches = 0
        self.seconds = 0.0
        self.evaluations = Evaluations()
        self.average = None if optimizer.ema_decay is None else MovingAverage(network, optimizer.ema_decay)
        self.optimizer = make_optimizer(network, optimizer)

    @property
    def evaluated(self) -> Segmenter:
        """What is scored and saved: the moving average where there is one, else the network."""
        return self.network if self.average is None else self.average.segmenter

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values: all but the saved model that is needed to go on bit for bit."""
        return {
            "step": self.step,
            "skipped_batches": self.skipped_batches,
            "seconds": self.seconds,
            "pictures": list(self.pictures),
            "evaluations": asdict(self.evaluations),
            "optimizer": self.optimizer.state_dict(),
            "network": None if self.average is None else self.network.state_dict(),
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": [torch.cuda.get_rng_state(self._gpu)] if self._gpu is not None else [],
        }

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Take over what `state_dict` gave, for a state whose network holds the saved model.

        Raises:
            Exception: of many types, where `values` are not of this run.
        """
        self.step, self.skipped_batches = int(values["step"]), int(values["skipped_batches"])
        self.seconds = float(values.get("seconds", 0.0))
        self.evaluations = Evaluations(**(values["evaluations"] if "evaluations" in values else _of_0_1_0(values)))
        self.optimizer.load_state_dict(values["optimizer"])
        if values["network"] is not None:
            self.network.load_state_dict(values["network"])
        torch.set_rng_state(values["torch_rng"])
        if self._gpu is not None and values.get("cuda_rng"):  # up to 0.1.0 of all GPUs, seeded alike
            torch.cuda.set_rng_state(values["cuda_rng"][0], self._gpu)


def _of_0_1_0(values: dict[str, Any]) -> dict[str, Any]:
    """The evaluations as version 0.1.0 wrote them."""
    return {
        "step": values["evaluated_step"],
        "best_score": values["best_mean_iou"],
        "best_step": values["best_step"],
    }
