"""Where a network's time goes: before it, each stage of its encoder, its head, and from scores to labels."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ducseg.models.depthwise import memory_order
from ducseg.models.encoder import num_channels_of, probe_side
from ducseg.models.fuse import fuse_batch_norm
from ducseg.models.segmenter import Segmenter

__all__ = ["stage_times"]


@torch.inference_mode()
def stage_times(
    segmenter: Segmenter,
    pictures: NDArray[Any],
    device: str | torch.device = "cpu",
    *,
    bf16: bool = False,
    rounds: int = 10,
) -> dict[str, float]:
    """Median milliseconds of each stage, with batch norms folded and channels last, as `ducseg.load` computes.

    Args:
        pictures: (N, H, W, C), as the network takes them.

    Returns:
        "input" (to the device, normalised, padded), the encoder's named stages in their order ("stem", "res2", ...;
        "encoder" where it names none), "head", "labels" (shuffle, resize, argmax, crop, back to the host).
    """
    device = torch.device(device)
    network = fuse_batch_norm(segmenter).to(device)
    order = memory_order(network, device)
    network = network.to(memory_format=order)  # type: ignore[call-overload]

    def run() -> None:
        pixels = torch.from_numpy(np.array(pictures, order="C")).to(device).permute(0, 3, 1, 2)
        images = network.preprocessing.normalise(pixels.contiguous(memory_format=order))
        network.predict_labels(images).cpu()

    rows: list[dict[str, float]] = []
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        ends = _ends_of_stages(network, device)
        for _ in range(rounds + 1):
            marks: list[tuple[str, float]] = []
            with _marking(network, ends, marks, device):
                began = time.perf_counter()
                run()
                marks.append(("labels", time.perf_counter()))
            times: dict[str, float] = {}
            for (name, _), taken in zip(marks, np.diff([began, *(end for _, end in marks)])):
                times[name] = times.get(name, 0.0) + float(taken)  # a head may run the encoder at several scales
            rows.append(times)
    return {name: 1e3 * float(np.median([row[name] for row in rows[1:]])) for name in rows[0]}


def _ends_of_stages(network: Segmenter, device: torch.device) -> dict[nn.Module, str]:
    """The modules that give the encoder's named maps, found by one run; a map that no module gives is left out."""
    encoder: Any = network.encoder
    if not hasattr(encoder, "intermediates"):
        return {}
    givers: dict[int, tuple[nn.Module, Tensor]] = {}

    def see(module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            givers[id(output)] = (module, output)  # kept, so that no other tensor gets its id

    handles = [module.register_forward_hook(see) for module in encoder.modules() if module is not encoder]
    side = probe_side(encoder)
    maps: dict[str, Tensor] = encoder.intermediates(torch.zeros(1, num_channels_of(encoder), side, side, device=device))
    for handle in handles:
        handle.remove()
    return {givers[id(found)][0]: name for name, found in maps.items() if id(found) in givers}


@contextmanager
def _marking(
    network: Segmenter, ends: dict[nn.Module, str], marks: list[tuple[str, float]], device: torch.device
) -> Iterator[None]:
    """Note the time at the end of each stage."""

    def mark(name: str) -> None:
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        marks.append((name, time.perf_counter()))

    encoder: Any = network.encoder
    head: Any = network.head
    first = next(iter(_leaves(encoder)))
    handles = [first.register_forward_pre_hook(lambda *_: mark("input"))]
    stages = ends or {encoder: "encoder"}
    handles += [module.register_forward_hook(lambda *_, name=name: mark(name)) for module, name in stages.items()]
    handles.append(head.register_forward_hook(lambda *_: mark("head")))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _leaves(module: nn.Module) -> Iterator[nn.Module]:
    return (one for one in module.modules() if not list(one.children()))
