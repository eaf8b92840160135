"""A network without its numbers: built unfilled, and compared by every module, its kind and its settings."""

import re
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ducseg.models import Architecture, Segmenter, build_architecture

__all__ = ["Unfilled", "differences", "sketch"]

_TRAINING_ONLY = re.compile(r",? ?(momentum|inplace)=[^,]*")


class Unfilled(TorchFunctionMode):
    """Leaves new tensors as they are allocated: all are read from the file, so initialising them would be lost time.

    (On the meta device, `normal_` imports 800 modules on first use: seconds.)
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_) or getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


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
    grid, factor = (getattr(segmenter.head, name, "unknown") for name in ("grid_stride", "factor"))
    whole = f"{len(segmenter.classes)} classes, stride {segmenter.output_stride}, grid {grid}, factor {factor}"
    found = ((name, _in_words(module)) for name, module in segmenter.named_modules() if name)
    return ("", whole), *found


def _in_words(module: nn.Module) -> str:
    kind = type(module).__name__
    if "BatchNorm" in kind:  # over one rank or many, it is the same network
        kind = re.sub(r"^_|Cpu|Sync|2d", "", kind)
    settings = "" if kind.startswith("Drop") else _TRAINING_ONLY.sub("", module.extra_repr())
    return f"{kind}({settings})" + (" with a forward of its own" if "forward" in vars(module) else "")
