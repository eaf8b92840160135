"""Give batch norms that were stored folded their statistics back, without changing what the network computes."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from ducseg.devices import wide

__all__ = ["recalibrate_batch_norm"]


class _InputMoments:
    """Running sums over (N, H, W) of a batch norm's input, `wide`."""

    def __init__(self) -> None:
        self.count = 0
        self.total: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = wide(inputs[0].detach())
        self.count += values.numel() // values.shape[1]
        self.total = self.total + values.sum((0, 2, 3))
        self.squares = self.squares + values.square().sum((0, 2, 3))

    def mean_and_variance(self, reduce: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        assert isinstance(self.total, Tensor) and isinstance(self.squares, Tensor), "no batch was seen"
        count = torch.full_like(self.total, self.count)
        count, total, squares = reduce(torch.stack([count, self.total, self.squares]))
        mean = total / count
        return mean, (squares / count - mean.square()).clamp_min(0)


@torch.no_grad()
def recalibrate_batch_norm(
    segmenter: nn.Module, batches: Iterable[Tensor], *, reduce: Callable[[Tensor], Tensor] = lambda sums: sums
) -> None:
    """Set every batch norm's running statistics to those of its input, and its weight and bias so that nothing changes.

    A network whose batch norms were folded into the convolutions has mean 0 and variance 1 stored; in training mode the
    batch's own statistics would replace them and the network would become another. After this, training mode starts
    from the same function. One pass is enough, because the function of the layers before does not change.

    Args:
        segmenter: any network with `nn.BatchNorm2d`; its mode is kept.
        batches: normalised images (N, C, H, W), a few batches as they will be trained on.
        reduce: sums a tensor over processes that each saw batches of their own, and all get these statistics.
    """
    norms = [module for module in segmenter.modules() if isinstance(module, nn.BatchNorm2d)]
    moments = {norm: _InputMoments() for norm in norms}
    modes = {module: module.training for module in segmenter.modules()}
    handles = [norm.register_forward_pre_hook(moments[norm]) for norm in norms]
    segmenter.eval()
    try:
        for images in batches:
            segmenter(images)
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    for norm in norms:
        _set_statistics(norm, *moments[norm].mean_and_variance(reduce))


def _set_statistics(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    slope = wide(norm.weight) / (wide(norm.running_var) + norm.eps).sqrt()
    offset = wide(norm.bias) - slope * wide(norm.running_mean)
    norm.weight.copy_(slope * (variance + norm.eps).sqrt())
    norm.bias.copy_(offset + slope * mean)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
