"""What a user calls a device, the one that torch has, what it computes in, and the memory that is free there."""

import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import psutil
import torch

from ducseg.errors import Said, explain

__all__ = [
    "available_memory", "has_bf16", "in_bf16", "pick_device", "ran_out_of_memory", "torch_device", "wide",
    "without_autocast",
]  # fmt: skip

_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)

_OUT_OF_MEMORY = (
    "can't allocate ", "CUDA error: out of memory", "_ALLOC_FAILED", "bad_alloc", "can't start new thread",
    "could not create a primitive", "could not create a memory", "Cannot allocate memory", "MPS backend out of memory",
    "Invalid buffer size: ",
)  # fmt: skip


def pick_device(name: str, local_rank: int = 0, *, local_ranks: int = 1, option: str = "--device") -> torch.device:
    """The device that `name` (auto, cpu, cuda, cuda:N, mps) means for one of the processes of this machine.

    An Apple GPU is taken where it is asked for, not by auto: ducseg has not run on one, and torch's operations there
    have given wrong numbers without a word. That auto leaves it is said.

    Args:
        local_rank: which of them; with several, each takes the GPU of its number, whatever N is.
        option: what the message calls it.

    Raises:
        UserError: no such name, or a device that is not there.
    """
    kind, _, number = name.partition(":")
    if name == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
        if kind == "cpu" and torch.backends.mps.is_available():
            other = f"{option} mps takes the Apple GPU, on which ducseg has not been tried"
            text = f"{option} auto: the processor; {other} ({option} cpu: without this line)"
            warnings.warn(text, Said, stacklevel=1)
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


def torch_device(device: str | torch.device, *moved: torch.nn.Module) -> torch.device:
    """What torch calls the device, with modules moved there.

    Raises:
        UserError: torch has no such device, or it is one that holds no numbers.
    """
    try:
        chosen = torch.device(device)
        if chosen.type == "meta":
            raise TypeError("it holds no numbers")
        for module in moved:
            module.to(chosen)
    except (AssertionError, RuntimeError, TypeError) as error:  # torch built without CUDA raises the first
        raise explain(
            "device", found=f"{device} ({str(error).splitlines()[0]})", needed="one that torch sees", fix='Try "cpu".'
        ) from error
    return chosen


def has_bf16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16; others imitate it, a CPU in more than ten times what float32 takes."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and _cpu_has_bf16()


def _cpu_has_bf16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def in_bf16(wanted: bool, device: torch.device) -> bool:
    """Whether to compute in bfloat16: where it is wanted and the device has it; a warning says where it has not."""
    if not wanted or has_bf16(device):
        return wanted
    warnings.warn(
        f"float32 in place of bfloat16, which this {device.type} would only imitate, many times as slowly",
        Said,
        stacklevel=2,
    )
    return False


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """In float64; on Apple's GPUs, which have none, in float32."""
    return tensor.float() if tensor.device.type == "mps" else tensor.double()


def available_memory(device: torch.device | None = None) -> int:
    """Free bytes: of a GPU, else of the machine, of the control group that this process is in, of its address space."""
    if device is not None and device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # torch gives it out again
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    bounds = [_free_of_limit(), *(_free_of_group(*map(Path, files)) for files in _CGROUPS)]
    return min([int(psutil.virtual_memory().available), *(one for one in bounds if one is not None)])


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether memory ended, of the machine or of a GPU: Python, torch's allocators and CUDA's libraries each say it
    their own way."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


def _free_of_group(limit: Path, used: Path, stat: Path) -> int | None:
    """What a control group may still take; what it holds of files that the system can drop counts as free."""
    most, now = _read(limit).strip(), _read(used).strip()
    if not (most.isdecimal() and now.isdecimal()):
        return None
    files = [int(line.split()[1]) for line in _read(stat).splitlines() if line.split()[:1] == ["inactive_file"]]
    return max(0, int(most) - int(now) + sum(files))


def _free_of_limit() -> int | None:
    """Of the address space, as `ulimit -v` bounds it; None: nothing does."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else max(0, limit - int(psutil.Process().memory_info().vms))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Where what is computed on the device is in its inputs' types, whatever autocast says around it."""
    enabled = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if enabled else nullcontext()
