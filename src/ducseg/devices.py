"""What a user calls a device, and the one that torch has."""

import torch

from ducseg.errors import explain

__all__ = ["pick_device"]


def pick_device(name: str, local_rank: int) -> torch.device:
    """The device that `name` (auto, cpu, cuda, cuda:N) means on this rank; `UserError` where it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise explain("--run.device", found=f"{name}, but torch sees no GPU", needed="cpu here", fix="Drop the option.")
    return torch.device("cuda", local_rank) if name == "cuda" else torch.device(name)
