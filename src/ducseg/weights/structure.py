"""What two networks must share to compute the same from the same tensors: every module, its kind and its settings."""

import re
from functools import lru_cache

import torch
from torch import nn

from ducseg.models import Architecture, Segmenter, build_architecture
from ducseg.weights.unfilled import Unfilled

__all__ = ["differences", "sketch"]

_TRAINING_ONLY = re.compile(r",? ?(momentum|inplace)=[^,]*")


def sketch(architecture: Architecture) -> Segmenter:
    """The network without its numbers: names, shapes and settings, in next to no memory."""
    with torch.device("meta"), Unfilled():
        return build_architecture(architecture)


def differences(segmenter: Segmenter) -> list[str]:
    """Where a segmenter is another network than its architecture says: changed after it was built."""
    described, own = dict(_described(segmenter.architecture)), dict(_modules(segmenter))
    return [
        f"{name or 'the network'} is {own.get(name, 'not there')}, described as {described.get(name, 'not there')}"
        for name in {**described, **own}
        if own.get(name) != described.get(name)
    ]


@lru_cache(maxsize=8)
def _described(architecture: Architecture) -> tuple[tuple[str, str], ...]:
    return _modules(sketch(architecture))


def _modules(segmenter: Segmenter) -> tuple[tuple[str, str], ...]:
    whole = f"{len(segmenter.classes)} classes, stride {segmenter.output_stride}, grid {segmenter.head.grid_stride}"
    found = ((name, _in_words(module)) for name, module in segmenter.named_modules() if name)
    return ("", f"{whole}, factor {segmenter.head.factor}"), *found


def _in_words(module: nn.Module) -> str:
    kind = type(module).__name__
    if "BatchNorm" in kind:  # over one rank or many, it is the same network
        kind = re.sub(r"^_|Cpu|Sync|2d", "", kind)
    settings = "" if kind.startswith("Drop") else _TRAINING_ONLY.sub("", module.extra_repr())
    return f"{kind}({settings})"
