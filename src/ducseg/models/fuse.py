"""Batch norms folded into the convolutions before them, for inference."""

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ducseg.models.segmenter import Segmenter
from ducseg.ops.dilate import replace_modules

__all__ = ["fuse_batch_norm"]

_PROBE = (64, 96)  # pixels

_PLAIN = ("BatchNorm2d", "SyncBatchNorm", "CpuSyncBatchNorm2d")
_WITH_ACTIVATION = ("BatchNormAct2d", "SyncBatchNormAct", "_CpuSyncBatchNormAct2d")
"""Kinds of batch norms, over one rank or many; timm's hold what follows them too."""

Convolution = nn.Conv2d | nn.ConvTranspose2d


@torch.inference_mode(False)
@torch.no_grad()
def fuse_batch_norm(segmenter: Segmenter) -> Segmenter:
    """A copy in evaluation mode whose batch norms, with their running statistics, are part of the convolutions.

    The copy computes what `segmenter.eval()` computes, to rounding, with fewer passes over memory. It can be neither
    trained nor saved as a checkpoint; keep the original for that.

    One run on a small picture tells which batch norm always takes exactly what a convolution gave, in any encoder and
    head; norms on sums, shuffles or inputs stay. Where the copy then does not compute the same (a convolution's output
    was used elsewhere too), it is left unfused. The CPU computes this, wherever the segmenter is: a GPU's convolutions
    may round to TF32, and would seem others.
    """
    device = next(segmenter.parameters()).device
    fused = copy.deepcopy(segmenter).cpu().eval()
    fused.batch_norm_fused = True
    parameter = next(iter(fused.parameters()))
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, segmenter.preprocessing.num_channels, *_PROBE, generator=generator).to(parameter.dtype)
    wanted, pairs = _run(fused, images)
    replacements: dict[nn.Module, nn.Module] = {}
    for conv, norm in pairs:
        replacements[conv] = fuse_conv_bn_eval(conv, norm, isinstance(conv, nn.ConvTranspose2d))
        follows: Any = norm
        replacements[norm] = nn.Identity() if _kind(norm) in _PLAIN else nn.Sequential(follows.drop, follows.act)
    replace_modules(fused, replacements)
    off = (fused.folded(images) - wanted).abs().max()
    if off <= torch.finfo(wanted.dtype).eps ** 0.5 * wanted.abs().max():
        return fused.to(device)
    unfused = copy.deepcopy(segmenter).eval()
    unfused.batch_norm_fused = True
    return unfused


def _kind(module: nn.Module) -> str:
    return type(module).__name__


def _run(segmenter: Segmenter, images: Tensor) -> tuple[Tensor, list[tuple[Convolution, _BatchNorm]]]:
    """The scores, and the convolutions whose output one batch norm and no other takes as it is, whenever they run."""
    outputs: dict[int, tuple[Convolution, Tensor, int]] = {}
    calls: Counter[nn.Module] = Counter()
    pairs: list[tuple[Convolution, _BatchNorm]] = []

    def see(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        calls[module] += 1
        if isinstance(module, Convolution):
            outputs[id(output)] = (module, output, output._version)  # kept, so that no other tensor gets its id
        elif isinstance(module, _BatchNorm) and id(inputs[0]) in outputs:
            conv, tensor, version = outputs[id(inputs[0])]
            if tensor._version == version and _kind(module) in _PLAIN + _WITH_ACTIVATION:
                pairs.append((conv, module))

    handles = [module.register_forward_hook(see) for module in segmenter.modules()]
    try:
        scores = segmenter.folded(images)
    finally:
        for handle in handles:
            handle.remove()
    together = Counter(pairs)
    return scores, [
        (conv, norm)
        for (conv, norm), count in together.items()
        if calls[conv] == calls[norm] == count and norm.running_var is not None and norm.affine
    ]
