"""Networks built without initial values, for those that are filled from a file at once."""

from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["Unfilled"]


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
