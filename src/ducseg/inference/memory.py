"""Whether a picture fits in memory whole, from a formula and from what the machine says is free."""

from pathlib import Path

import torch

from ducseg.inference.labeller import AveragingLabeller, Labeller

__all__ = ["available_memory", "memory_needed"]

_A_PIXEL, _A_CLASS = 600, 12
"""Bytes that a pixel takes, and each class at it. Measured for whole pictures: ResNet-18-DUC 300 (labels) and 390
(probabilities) in all with 19 classes, 1450 with 150; deeper networks have wider maps."""

_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)


def memory_needed(labeller: Labeller, size: tuple[int, int]) -> int:
    """Bytes that a picture takes whole, roughly: H W s^2 (600 + 12 L), L classes, s the largest scale above 1."""
    scale = max(1.0, *labeller.scales) if isinstance(labeller, AveragingLabeller) else 1.0
    return round(size[0] * size[1] * scale**2 * (_A_PIXEL + _A_CLASS * len(labeller.classes)))


def available_memory(device: torch.device | None = None) -> int | None:
    """Free bytes: of a GPU, else of the machine or of the control group that this process is in; None: nobody says."""
    if device is not None and device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found = [_free_of_group(*map(Path, files)) for files in _CGROUPS]
    lines = _read(Path("/proc/meminfo")).splitlines()
    found += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return min((one for one in found if one is not None), default=None)


def _free_of_group(limit: Path, used: Path, stat: Path) -> int | None:
    """What a control group may still take; what it holds of files that the system can drop counts as free."""
    most, now = _read(limit).strip(), _read(used).strip()
    if not (most.isdecimal() and now.isdecimal()):
        return None
    files = [int(line.split()[1]) for line in _read(stat).splitlines() if line.split()[:1] == ["inactive_file"]]
    return max(0, int(most) - int(now) + sum(files))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
