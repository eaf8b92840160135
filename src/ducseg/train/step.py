"""One optimizer step: one global batch, however many ranks and accumulation steps share it.

Order: count valid pixels over all ranks (none: skip) -> forward and backward of each micro-batch on loss *sums* ->
sums of loss and normaliser over ranks -> finite? -> gradients divided by the normaliser -> clip -> SGD.
"""

import gc
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ducseg.classes import IGNORE
from ducseg.errors import explain
from ducseg.models.segmenter import Segmenter
from ducseg.train.config import Config
from ducseg.train.distributed import Ranks
from ducseg.train.loss import FoldedCrossEntropy, fold_targets
from ducseg.train.schedule import poly_learning_rate
from ducseg.train.setup import parameter_groups

__all__ = ["TrainingStep"]


class _FoldedNetwork(nn.Module):
    """Normalisation and folded forward in one module, so that DDP and torch.compile see the whole step."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, images: Tensor) -> Tensor:
        return self.segmenter.folded(self.segmenter.preprocessing.normalise(images))


class TrainingStep:
    """The segmenter with its loss and optimizer; call it once per global batch.

    Args:
        segmenter: on its device already.
        num_steps, steps_per_epoch: of the whole run, for the schedule and for freezing batch norm.
    """

    def __init__(
        self, config: Config, segmenter: Segmenter, ranks: Ranks, *, num_steps: int, steps_per_epoch: int
    ) -> None:
        self.segmenter = segmenter
        self.skipped_batches = 0
        self._config, self._ranks = config, ranks
        self._num_steps, self._steps_per_epoch = num_steps, steps_per_epoch
        self._loss = FoldedCrossEntropy(config.loss, len(segmenter.classes), ranks.device)
        self.optimizer = torch.optim.SGD(
            parameter_groups(segmenter, config.optimizer),
            lr=config.optimizer.learning_rate,
            momentum=config.optimizer.momentum,
        )
        self._frozen = False
        self._network: nn.Module | None = None

    def __call__(self, batch: dict[str, Any], step: int) -> dict[str, float]:
        """Train on this rank's share of the global batch of optimizer step `step` (0-based).

        Args:
            batch: "image" uint8 (n, 3, H, W), "label" uint8 (n, H, W), "ids" n names.

        Returns:
            loss (over all ranks), learning_rate, gradient_norm (before clipping), valid_pixels.

        Raises:
            UserError: a loss or gradient that is not finite, on any rank; no weight has changed then.
        """
        self._freeze_if_due(step)
        device = self._ranks.device
        images = batch["image"].to(device, non_blocking=True)
        targets = fold_targets(
            batch["label"].to(device, non_blocking=True),
            output_stride=self.segmenter.output_stride,
            cell=self.segmenter.cell,
            factor=self.segmenter.factor,
        )
        rate = self._set_rate(step)
        valid = self._ranks.sum((targets != IGNORE).sum().double()).item()
        if valid == 0:
            self.skipped_batches += 1
            return {"loss": 0.0, "learning_rate": rate, "gradient_norm": 0.0, "valid_pixels": 0.0}
        self.optimizer.zero_grad(set_to_none=True)
        loss_sum, normaliser = self._backward(images, targets)
        norm = self._finish_gradients(normaliser)
        self._check_finite(loss_sum / normaliser, norm, step, batch["ids"])
        self.optimizer.step()
        return {"loss": loss_sum / normaliser, "learning_rate": rate, "gradient_norm": norm, "valid_pixels": valid}

    def _backward(self, images: Tensor, targets: Tensor) -> tuple[float, float]:
        """Gradients of the loss sum of every micro-batch; loss sum and normaliser over all ranks."""
        assert self._network is not None
        count, device = self._config.optimizer.accumulation_steps, self._ranks.device
        totals = torch.zeros(2, dtype=torch.float64, device=device)
        for piece, (image, target) in enumerate(zip(images.chunk(count), targets.chunk(count), strict=True)):
            with self._exchange(self._network, last=piece == count - 1):
                with torch.autocast(device.type, torch.bfloat16, enabled=self._config.run.bf16):
                    folded = self._network(image)
                loss_sum, normaliser = self._loss(folded, target)
                loss_sum.backward()  # type: ignore[no-untyped-call]
            totals += torch.stack([loss_sum.detach(), normaliser.detach()]).double()
        summed = self._ranks.sum(totals).tolist()
        return summed[0], summed[1]

    @staticmethod
    def _exchange(network: nn.Module, *, last: bool) -> AbstractContextManager[None]:
        """Gradients travel between ranks once a step: with the last micro-batch."""
        inner = getattr(network, "_orig_mod", network)
        return inner.no_sync() if isinstance(inner, DistributedDataParallel) and not last else nullcontext()

    def _set_rate(self, step: int) -> float:
        settings = self._config.optimizer
        rate = poly_learning_rate(step, initial=settings.learning_rate, num_steps=self._num_steps, power=settings.power)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]
        return rate

    def _finish_gradients(self, normaliser: float) -> float:
        """Turn DDP's mean of loss-sum gradients into the gradient of the mean over pixels; clip; the norm before."""
        gradients = [p.grad for p in self.segmenter.parameters() if p.grad is not None]
        torch._foreach_mul_(gradients, self._ranks.world_size / normaliser)
        norm = torch.nn.utils.get_total_norm(gradients)
        if self._config.optimizer.clip_norm is not None:
            torch._foreach_mul_(gradients, torch.clamp(self._config.optimizer.clip_norm / (norm + 1e-6), max=1.0))
        return norm.item()

    def _check_finite(self, loss: float, norm: float, step: int, ids: list[str]) -> None:
        finite = abs(loss) < float("inf") and norm < float("inf")  # both comparisons are false for NaN
        bad = torch.tensor(float(not finite), device=self._ranks.device)
        if self._ranks.sum(bad).item():
            raise explain(
                f"step {step + 1}",
                found=f"loss {loss}, gradient norm {norm} on pictures {', '.join(ids)}",
                needed="finite numbers",
                fix="No weights were changed by this step; look at those pictures or lower --optimizer.learning-rate, "
                "then go on with --resume.",
            )

    def release(self) -> None:
        """Let go of the gradient exchange, so that the process group ends before it, not with it.

        Where torch's reducer is the last to hold the group, its end joins a thread that waits for Python's lock, which
        the reducer has: the rank hangs (seen with gloo, 1 of 23 runs).
        """
        self._network = None
        gc.collect()  # DDP refers to itself

    def _freeze_if_due(self, step: int) -> None:
        """Wrap the network for ranks and compilation, anew when batch norm freezes: the set of gradients changes."""
        freeze_from = self._config.model.freeze_batch_norm_from_epoch
        due = freeze_from is not None and step >= freeze_from * self._steps_per_epoch
        if due and not self._frozen:
            self.segmenter.freeze_batch_norm()
        if self._network is None or due != self._frozen:
            self._network = self._wrap()
        self._frozen = due
        self.segmenter.train()

    def _wrap(self) -> nn.Module:
        network: nn.Module = _FoldedNetwork(self.segmenter)
        if self._ranks.world_size > 1:
            ids = [self._ranks.device.index] if self._ranks.device.type == "cuda" else None
            network = DistributedDataParallel(network, device_ids=ids)
        return torch.compile(network) if self._config.run.compile else network  # type: ignore[return-value]
