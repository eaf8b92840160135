"""Whether this call is recorded into a graph, where sizes are free and nothing may branch on them, or transformed."""

import torch
from torch.autograd import forward_ad
from torch.fx._symbolic_trace import is_fx_symbolic_tracing

__all__ = ["in_a_graph", "in_a_transform"]


def in_a_graph() -> bool:
    """Whether torch.compile, torch.export, torch.fx or a trace (as ONNX is made from) records what is computed now."""
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return recorded or is_fx_symbolic_tracing()


def in_a_transform() -> bool:
    """Whether torch.func (vmap, grad, jvp) or forward-mode differentiation computes this, for which torch's operations
    have more than a value and a gradient."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
