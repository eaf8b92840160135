"""One optimizer step: one global batch, however many ranks and accumulation steps share it.

Order: count pixels to learn from over all ranks (none: skip) -> forward and backward of each micro-batch on loss *sums*
-> sums of loss and normaliser over ranks -> gradients divided by the normaliser -> clip -> finite? -> optimizer ->
average.
"""

import gc
import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ducseg.data.loading import Batch
from ducseg.devices import ran_out_of_memory, wide
from ducseg.errors import UserError, explain
from ducseg.models.head import OwnLosses
from ducseg.models.segmenter import Segmenter
from ducseg.ops.duc import downsample_labels
from ducseg.train.config import Config
from ducseg.train.distributed import Ranks
from ducseg.train.loss import FoldedLoss, fold_targets, pad_labels
from ducseg.train.optimizer import is_within
from ducseg.train.schedule import learning_rate
from ducseg.train.state import RunState

__all__ = ["TrainingStep"]

_SHARES_BUFFERS = "forward_sync_buffers"  # torch 2.13 warns of its earlier name
if _SHARES_BUFFERS not in inspect.signature(DistributedDataParallel).parameters:
    _SHARES_BUFFERS = "broadcast_buffers"


class _FoldedNetwork(nn.Module):
    """Normalisation and folded forward in one module, so that DDP and torch.compile see the whole step."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.segmenter.supervised(self.segmenter.preprocessing.normalise(images))


class TrainingStep:
    """A run's state with its loss; call it once per global batch.

    The host waits for the device once a step, for the numbers that decide whether weights change.

    Args:
        state: its network on its device already.
        num_steps, steps_per_epoch: of the whole run, for the schedule (an attribute, which may be fitted to the time)
            and for freezing batch norm.
    """

    def __init__(self, config: Config, state: RunState, ranks: Ranks, *, num_steps: int, steps_per_epoch: int) -> None:
        self.state, self.segmenter = state, state.network
        self._config, self._ranks = config, ranks
        self.num_steps, self._steps_per_epoch = num_steps, steps_per_epoch
        self._loss = FoldedLoss(
            config.loss, self.segmenter.classes.names, ranks.device, reduce=ranks.sum, world_size=ranks.world_size
        )
        self._frozen = (False, False)  # batch norms, the encoder
        self._network: nn.Module | None = None

    def __call__(self, batch: Batch) -> dict[str, float]:
        """Train on this rank's share of the global batch of the state's step, which is one more afterwards.

        Args:
            batch: "image" (n, C, H, W) of the pictures' type, "label" uint8 (n, H, W), "ids" n names.

        Returns:
            loss (over all ranks), learning_rate, gradient_norm (before clipping), valid_pixels.

        Raises:
            UserError: not enough memory; a loss or gradient that is not finite, on any rank: no weight has changed.
        """
        rate = self._set_rate()
        values = {"loss": 0.0, "learning_rate": rate, "gradient_norm": 0.0}
        labels = pad_labels(batch["label"], self.segmenter.output_stride)  # on the host, before it goes
        counts = self._loss.count(downsample_labels(labels, self.segmenter.cell))
        valid, weighted = self._ranks.sum(counts).tolist()
        if weighted == 0:
            self.state.skipped_batches += 1
        else:
            try:
                values |= self._learn(batch, weighted)
            except (MemoryError, RuntimeError) as error:
                if not ran_out_of_memory(error):
                    raise
                raise self._too_large(batch) from error
        self.state.step += 1
        if self.state.average is not None:
            self.state.average.update(self.segmenter, self.state.step)
        return {**values, "valid_pixels": valid}

    def _learn(self, batch: Batch, weighted: float) -> dict[str, float]:
        self._freeze_if_due()
        device = self._ranks.device
        at_once = device.type == "cuda"  # of page-locked memory; Apple's GPUs may read what has changed meanwhile
        images, labels = (batch[key].to(device, non_blocking=at_once) for key in ("image", "label"))
        self.state.optimizer.zero_grad(set_to_none=True)
        loss_sum, normaliser = self._backward(images, labels, weighted)
        norm = self._finish_gradients(normaliser)
        loss, norm_before = torch.stack([loss_sum / normaliser, norm.to(loss_sum)]).tolist()
        self._check_finite(loss, norm_before, batch["ids"])
        self.state.optimizer.step()
        return {"loss": loss, "gradient_norm": norm_before}

    def _backward(self, images: Tensor, labels: Tensor, weighted: float) -> tuple[Tensor, Tensor]:
        """Gradients of the loss sum of every micro-batch; loss sum and normaliser over all ranks.

        Args:
            weighted: what the normaliser over all ranks and micro-batches will be, but for OHEM.
        """
        assert self._network is not None
        count, device = self._config.optimizer.accumulation_steps, self._ranks.device
        totals = wide(torch.zeros(2, device=device))
        for piece, (image, label) in enumerate(zip(images.chunk(count), labels.chunk(count), strict=True)):
            with self._exchange(self._network, last=piece == count - 1):
                with torch.autocast(device.type, torch.bfloat16, enabled=self._config.run.bf16):
                    folded, *extras = self._network(image)
                loss_sum, normaliser = self._loss(folded, self._targets(label), region_scale=weighted / count)
                if extras:
                    loss_sum = loss_sum + self._own_loss(extras, label) * (weighted / count)
                loss_sum.backward()  # type: ignore[no-untyped-call]
            totals += torch.stack([loss_sum.detach(), normaliser.detach()]).to(totals)
        self._ranks.sum(totals)
        return totals[0], totals[1]

    def _targets(self, labels: Tensor) -> Tensor:
        network = self.segmenter
        return fold_targets(labels, output_stride=network.output_stride, cell=network.cell, factor=network.factor)

    def _own_loss(self, extras: list[Tensor], labels: Tensor) -> Tensor:
        """This rank's part of the mean, over ranks, of what the head learns from besides its scores."""
        padded = pad_labels(labels, self.segmenter.output_stride)
        return cast(OwnLosses, self.segmenter.head).extra_loss(extras, padded) / self._ranks.world_size

    @staticmethod
    def _exchange(network: nn.Module, *, last: bool) -> AbstractContextManager[None]:
        """Gradients travel between ranks once a step: with the last micro-batch."""
        inner = getattr(network, "_orig_mod", network)
        return inner.no_sync() if isinstance(inner, DistributedDataParallel) and not last else nullcontext()

    def rate(self, step: int) -> float:
        """The learning rate of step `step` (0-based)."""
        return learning_rate(step, self._config.optimizer, num_steps=self.num_steps)

    def _set_rate(self) -> float:
        rate = self.rate(self.state.step)
        for group in self.state.optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]
        return rate

    def _finish_gradients(self, normaliser: Tensor) -> Tensor:
        """Turn DDP's mean of loss-sum gradients into the gradient of the mean over pixels; clip; the norm before."""
        gradients = [p.grad for p in self.segmenter.parameters() if p.grad is not None]
        torch._foreach_mul_(gradients, (self._ranks.world_size / normaliser).float())
        norm = torch.nn.utils.get_total_norm(gradients)
        if self._config.optimizer.clip_norm is not None:
            torch._foreach_mul_(gradients, torch.clamp(self._config.optimizer.clip_norm / (norm + 1e-6), max=1.0))
        return norm

    def _check_finite(self, loss: float, norm: float, ids: list[str]) -> None:
        """The numbers are those over all ranks: all of them stop, or none."""
        if not (abs(loss) < float("inf") and norm < float("inf")):  # both comparisons are false for NaN
            raise explain(
                f"step {self.state.step + 1}",
                found=f"loss {loss}, gradient norm {norm} on pictures {', '.join(ids)}",
                needed="finite numbers",
                fix="No weights were changed by this step; look at those pictures or lower --optimizer.learning-rate, "
                "then go on with --resume.",
            )

    def _too_large(self, batch: Batch) -> UserError:
        count, _, height, width = batch["image"].shape
        count //= self._config.optimizer.accumulation_steps
        return explain(
            "not enough memory",
            found=f"{count} crops of {height} x {width} pixels at once, on {self._ranks.device}",
            needed="as many as fit",
            fix="Raise --optimizer.accumulation-steps (fewer at once, as many a step), lower --augment.crop-size or "
            "--optimizer.batch-size, or use --run.bf16.",
        )

    def release(self) -> None:
        """Let go of the gradient exchange, so that the process group ends before it, not with it.

        Where torch's reducer is the last to hold the group, its end joins a thread that waits for Python's lock, which
        the reducer has: the rank hangs (seen with gloo, 1 of 23 runs).
        """
        self._network = None
        if self._ranks.world_size > 1:
            gc.collect()  # DDP refers to itself

    def _freeze_if_due(self) -> None:
        """Wrap the network for ranks and compilation, anew where a part freezes or thaws: the gradients are others."""
        freeze_from, step = self._config.model.freeze_batch_norm_from_epoch, self.state.step
        norms = freeze_from is not None and step >= freeze_from * self._steps_per_epoch
        encoder = step < self._config.optimizer.freeze_encoder_steps
        if norms and not self.segmenter.batch_norm_frozen:
            self.segmenter.freeze_batch_norm()
        held = (*self._config.optimizer.frozen, *(["encoder"] if encoder else []))
        if self._network is None or (norms, encoder) != self._frozen:
            for name, parameter in self.segmenter.named_parameters():
                parameter.requires_grad_(not is_within(name, held))
            self._network = self._wrap()
        self._frozen = norms, encoder
        self.segmenter.train()
        for name, module in self.segmenter.named_modules() if held else ():
            if is_within(name, held):
                module.training = False

    def _wrap(self) -> nn.Module:
        network: nn.Module = _FoldedNetwork(self.segmenter)
        if self._ranks.world_size > 1:
            ids = [self._ranks.device.index] if self._ranks.device.type == "cuda" else None
            alike = self._config.run.sync_batch_norm  # then every rank has the same statistics
            network = DistributedDataParallel(network, device_ids=ids, **{_SHARES_BUFFERS: not alike})  # type: ignore[arg-type]
        return torch.compile(network) if self._config.run.compile else network  # type: ignore[return-value]
