"""Batch norm whose statistics span all ranks, also where torch's own SyncBatchNorm does not run (gloo, CPU)."""

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ducseg.errors import explain
from ducseg.models.timm_encoder import import_timm

__all__ = ["CpuSyncBatchNorm2d", "synchronise_batch_norm"]


class CpuSyncBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` with mean and variance over the batches of all ranks; differentiable through the exchange.

    (N, C, H, W) -> (N, C, H, W). Equal to `nn.BatchNorm2d` on the ranks' batches laid together.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not dist.is_initialized():
            return super().forward(input)
        count = torch.tensor(float(input.numel() // input.shape[1]), device=input.device)
        dist.all_reduce(count)
        if count < 2:
            raise explain("batch norm", found="one value a channel, of all ranks", needed="two", fix="Train on more.")
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        mean = _summed_over_ranks(values.sum((0, 2, 3))) / count
        centred = values - mean[None, :, None, None]
        variance = _summed_over_ranks(centred.square().sum((0, 2, 3))) / count
        if self.track_running_stats:
            self._update_running(mean.detach(), variance.detach(), float(count))
        scale = torch.rsqrt(variance + self.eps)
        normalised = centred * (scale * self.weight if self.affine else scale)[None, :, None, None]
        return (normalised + self.bias[None, :, None, None] if self.affine else normalised).to(input.dtype)

    def _update_running(self, mean: Tensor, variance: Tensor, count: float) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_((variance * (count / (count - 1))).to(self.running_var.dtype), share)


class _SumOverRanks(torch.autograd.Function):
    """Of what each rank holds; the gradients of all ranks reach each."""

    @staticmethod
    def forward(_ctx: Any, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        return _summed_over_ranks(gradients[0])


def _summed_over_ranks(values: Tensor) -> Tensor:
    summed: Tensor = _SumOverRanks.apply(values)  # type: ignore[no-untyped-call]
    return summed


class _CpuSyncBatchNormAct2d(CpuSyncBatchNorm2d):
    """As timm's `BatchNormAct2d`, which also holds what follows it."""

    drop: nn.Module
    act: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        activated: Tensor = self.act(self.drop(super().forward(input)))
        return activated


def synchronise_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """Let every batch norm of `module` take its statistics over all ranks; parameters and their names stay."""
    if device.type == "cuda":
        if any(_activates(child) for child in module.modules()):  # torch's own conversion would drop the activations
            return cast(nn.Module, import_timm().layers.convert_sync_batchnorm(module))
        return cast(nn.Module, nn.SyncBatchNorm.convert_sync_batchnorm(module))  # type: ignore[no-untyped-call]
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if _activates(child):
                setattr(parent, name, _taking_over(_CpuSyncBatchNormAct2d, child, "drop", "act"))
            elif type(child) is nn.BatchNorm2d:
                setattr(parent, name, _taking_over(CpuSyncBatchNorm2d, child))
    return module


def _activates(module: nn.Module) -> bool:
    """Whether it is timm's batch norm with the activation inside."""
    return type(module).__name__ == "BatchNormAct2d"


def _taking_over(kind: type[CpuSyncBatchNorm2d], old: Any, *others: str) -> CpuSyncBatchNorm2d:
    """A batch norm with the very parameters, statistics and settings of `old`."""
    new = kind(old.num_features, old.eps, old.momentum, old.affine, old.track_running_stats)
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked", *others):
        setattr(new, name, getattr(old, name))
    return new.train(old.training)
