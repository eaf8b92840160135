"""Whether this call is being recorded into a graph, where sizes are free and nothing may branch on them."""

import torch

__all__ = ["in_a_graph"]


def in_a_graph() -> bool:
    """Whether torch.compile, torch.export or a trace (as ONNX is made from) records what is computed now."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
