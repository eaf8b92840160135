"""How fast a network labels pictures, and what it needs: latency, memory, arithmetic.

What is timed is all that a user waits for: from uint8 pictures to labels, on the host. Variants are run in turn, one
call each, round after round, so that what the machine does besides meets all of them alike; the median and the 95th
percentile over the rounds are kept.
"""

import ctypes
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ducseg.data.files.channels import RGB, Pixels
from ducseg.inference.labeller import AveragingLabeller
from ducseg.inference.predictor import Predictor
from ducseg.models.segmenter import Segmenter

__all__ = ["CompiledPredictor", "Timing", "flops", "measure", "parameters", "pictures_of"]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Of one variant.

    Attributes:
        median_ms, p95_ms: of a call with all pictures, in milliseconds.
        pictures_per_second: by the median.
        peak_mb: most memory of a first call in 10^6 bytes, above what lay there before it; on a GPU by its allocator,
            else by the system's resident pages, where it tells (Linux); None elsewhere.
        failed: why it did not run, in one line; the numbers are None then.
    """

    median_ms: float | None = None
    p95_ms: float | None = None
    pictures_per_second: float | None = None
    peak_mb: float | None = None
    failed: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)


class CompiledPredictor(Predictor):
    """A predictor, batch norms folded, whose network torch.compile has compiled for the size it sees first."""

    def __init__(self, segmenter: Segmenter, device: str | torch.device = "cpu", *, bf16: bool = False) -> None:
        super().__init__(segmenter, device, bf16=bf16, fused=True)
        self._compiled = torch.compile(self._network.predict_labels, dynamic=False)

    def _labels(self, pictures: NDArray[np.uint8]) -> Tensor:
        return self._compiled(self._input(pictures))


def pictures_of(count: int, height: int, width: int, pixels: Pixels = RGB) -> list[NDArray[Any]]:
    """Random pictures: what they show does not matter to the time."""
    shape = (count, height, width, pixels.channels)
    return list(np.random.default_rng(0).integers(0, 256, shape, np.uint8).astype(pixels.dtype, copy=False))


def measure(
    variants: Mapping[str, AveragingLabeller], count: int, height: int, width: int, *, rounds: int = 10
) -> dict[str, Timing]:
    """Time labelling pictures of one size at once, with each variant in turn.

    Args:
        variants: fresh ones: a first call, by which memory is measured, and a second one are not timed.
        count, height, width: of the pictures, random ones of the kind that each takes.
        rounds: calls of each that are timed.
    """
    found: dict[str, Timing] = {}
    peaks: dict[str, float | None] = {}
    kinds = {labeller.pixels for labeller in variants.values()}
    pictures = {pixels: pictures_of(count, height, width, pixels) for pixels in kinds}
    for name, labeller in variants.items():
        try:
            peaks[name] = _peak_mb(labeller, pictures[labeller.pixels])
            labeller.labels_of(pictures[labeller.pixels])
        except Exception as error:  # a compiler that is not there, no memory: the others are measured all the same
            found[name] = Timing(failed=f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:160]}")
    seconds: dict[str, list[float]] = {name: [] for name in peaks if name not in found}
    for _ in range(rounds):
        for name, taken in seconds.items():
            began = time.perf_counter()
            variants[name].labels_of(pictures[variants[name].pixels])
            taken.append(time.perf_counter() - began)
    for name, taken in seconds.items():
        median, p95 = np.percentile(taken, (50, 95))
        found[name] = Timing(
            median_ms=1e3 * float(median), p95_ms=1e3 * float(p95), pictures_per_second=count / float(median),
            peak_mb=peaks[name],
        )  # fmt: skip
    return {name: found[name] for name in variants}


def _peak_mb(labeller: AveragingLabeller, pictures: Sequence[NDArray[Any]]) -> float | None:
    device: torch.device = getattr(labeller, "device", torch.device("cpu"))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        labeller.labels_of(pictures)
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    before_kb = _reset_peak_kb()
    labeller.labels_of(pictures)
    return None if before_kb is None else (_status_kb("VmHWM") - before_kb) * 1024 / 1e6


def _reset_peak_kb() -> int | None:
    """Give freed memory back, forget the peak of resident memory, and return what is resident; None where it cannot."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        return _status_kb("VmRSS")
    except (OSError, AttributeError, TypeError):
        return None


def _status_kb(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


@torch.no_grad()
def flops(segmenter: Segmenter, count: int, height: int, width: int) -> int:
    """Floating-point operations of the convolutions and products for so many pictures, a multiplication and an addition
    as two; counted on shapes alone, of the network as it stands on the "meta" device."""
    with FlopCounterMode(display=False) as counter:
        segmenter.folded(torch.empty(count, segmenter.preprocessing.num_channels, height, width, device="meta"))
    return int(counter.get_total_flops())


def parameters(segmenter: Segmenter) -> int:
    """How many numbers training learns."""
    return sum(parameter.numel() for parameter in segmenter.parameters())
