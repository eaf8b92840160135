"""What a user calls a device, and the one that torch has."""

import torch

from ducseg.errors import explain

__all__ = ["pick_device"]


def pick_device(name: str, local_rank: int = 0, *, local_ranks: int = 1, option: str = "--device") -> torch.device:
    """The device that `name` (auto, cpu, cuda, cuda:N, mps) means for one of the processes of this machine.

    Args:
        local_rank: which of them; with several, each takes the GPU of its number, whatever N is.
        option: what the message calls it.

    Raises:
        UserError: no such name, or a device that is not there.
    """
    kind, _, number = name.partition(":")
    if name == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind not in ("cpu", "cuda", "mps") or (number and (kind != "cuda" or not number.isdecimal())):
        raise explain(option, found=name, needed="auto, cpu, cuda, cuda:N or mps", fix="Leave it out for auto.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise explain(option, found="mps, but torch sees no Apple GPU", needed="cpu here", fix="Drop the option.")
    if kind != "cuda":
        return torch.device(kind)
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not seen:
        raise explain(option, found=f"{name}, but torch sees no GPU", needed="cpu here", fix="Drop the option.")
    index = local_rank if local_ranks > 1 or not number else int(number)
    if index >= seen:
        raise explain(
            option,
            found=f"{name} for process {local_rank}, GPU {index}",
            needed=f"one of the {seen} that torch sees",
            fix="Start as many processes as there are GPUs." if local_ranks > 1 else "Take cuda:0.",
        )
    return torch.device("cuda", index)
