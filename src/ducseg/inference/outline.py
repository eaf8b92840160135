"""The maps of a network from the picture to the labels, as it is built: one run without numbers."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ducseg.errors import explain
from ducseg.figures.architecture import Map
from ducseg.models.encoder import num_channels_of
from ducseg.models.segmenter import Segmenter
from ducseg.models.stages import parameters_by_stage

__all__ = ["outline_of"]


def outline_of(segmenter: Segmenter, size: tuple[int, int]) -> list[Map]:
    """Picture, encoder's maps, head's maps, scores, labels, for a picture of that height and width.

    Raises:
        UserError: a size that is no multiple of the network's output stride.
    """
    stride = segmenter.output_stride
    if min(size) < 1 or any(side % stride for side in size):
        raise explain("--size", found=size, needed=f"multiples of {stride}", fix="For example --size 512 1024.")
    rates = _rates_by_stage(segmenter)
    network = copy.deepcopy(segmenter).to("meta").eval()
    picture = torch.empty(1, num_channels_of(segmenter.encoder), *size, device="meta")
    with torch.inference_mode():
        grids = {"picture": picture} | _encoder_maps(network.encoder, picture)
        calls, scores = _run_head(network, picture, grids)
    maps = [_map("picture", "picture", picture, ())]
    maps += [_map(name, "encoder", grid, rates.get(name, ())) for name, grid in grids.items() if name != "picture"]
    return [*maps, *_head_maps(segmenter, grids, calls, scores), *_answers(segmenter, scores, size)]


class _Call(NamedTuple):
    """A part of the head as it was run."""

    name: str
    rates: tuple[int, ...]
    inputs: list[Tensor]
    output: Tensor


def _encoder_maps(encoder: Any, picture: Tensor) -> dict[str, Tensor]:
    return dict(encoder.intermediates(picture)) if hasattr(encoder, "intermediates") else {"features": encoder(picture)}


def _run_head(network: Segmenter, picture: Tensor, grids: dict[str, Tensor]) -> tuple[list[_Call], Tensor]:
    head: Any = network.head
    calls: list[_Call] = []

    def see(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim in (4, 5):
            calls.append(_Call(name, _rates(module), [one for one in inputs if isinstance(one, Tensor)], output))

    handles = [module.register_forward_hook(partial(see, name)) for name, module in _parts(head)]
    try:
        if network.runs_encoder:
            return calls, network.folded(picture)
        return calls, head(grids if network.takes_intermediates else list(grids.values())[-1])
    finally:
        for handle in handles:
            handle.remove()


def _rates_by_stage(segmenter: Segmenter) -> dict[str, tuple[int, ...]]:
    """One a block where the encoder says them, else one a convolution."""
    encoder: Any = segmenter.encoder
    if not hasattr(encoder, "intermediates"):
        return {}
    given = getattr(encoder, "rates", None)
    if given is not None:  # one a block
        return dict(zip(("res2", "res3", "res4", "res5"), given))
    of_module = {id(m.weight): max(m.dilation) for m in encoder.modules() if isinstance(m, nn.Conv2d)}
    stages = parameters_by_stage(encoder)
    return {name: tuple(of_module[id(p)] for p in inside if id(p) in of_module) for name, inside in stages.items()}


def _parts(head: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules that a head is made of, lists taken apart."""
    for name, module in head.named_children():
        if isinstance(module, nn.ModuleList):
            yield from ((f"{name} {index + 1}", child) for index, child in enumerate(module))
        else:
            yield name, module


def _head_maps(segmenter: Segmenter, grids: dict[str, Tensor], calls: list[_Call], scores: Tensor) -> Iterator[Map]:
    """What the head makes on the way, parallel paths as one; the last, if it is the scores, as these."""
    parts: list[_Call] = []
    for call in calls:
        before, kind = parts[-1] if parts else None, call.name.split()[0]
        if before and before.output.shape == call.output.shape and before.name.split()[0] == kind:
            parts[-1] = _Call(kind, before.rates + call.rates, call.inputs, call.output)
        else:
            parts.append(call)
    last = _rates(segmenter.head) if not parts else ()  # paths whose convolutions alone are called
    if parts and parts[-1].output.shape[-2:] == scores.shape[-2:] and parts[-1].output.numel() == scores.numel():
        last = parts.pop().rates
    beside = 0  # channels of the picture, folded, that join a map
    for part in parts:
        if [one.numel() for one in part.inputs] == [grids["picture"].numel()] and segmenter.takes_intermediates:
            beside = part.output.shape[1]
            continue
        joins = tuple(name for one in part.inputs for name in _joined(one, grids, beside))
        follows = list(grids)[-1]
        grids[part.name] = part.output
        yield replace(_map(part.name, "head", part.output, part.rates), joins=tuple(n for n in joins if n != follows))
    yield replace(_map("scores", "scores", scores, last), how="summed" if len(last) > 1 else "")


def _joined(grid: Tensor, grids: dict[str, Tensor], beside: int) -> list[str]:
    """The maps that an input is, or, with the picture folded beside it, is made of."""
    itself = [name for name, one in grids.items() if one is grid]
    if itself or not beside:
        return itself
    sized = [name for name, one in grids.items() if one.shape[-2:] == grid.shape[-2:]]
    return ["picture", *(name for name in sized if grids[name].shape[1] + beside == grid.shape[1])]


def _rates(module: Any) -> tuple[int, ...]:
    """Of its convolutions of kernels above 1."""
    convolutions = (m for m in module.modules() if isinstance(m, nn.Conv2d))
    return tuple(max(conv.dilation) for conv in convolutions if max(conv.kernel_size) > 1)


def _answers(segmenter: Segmenter, scores: Tensor, size: tuple[int, int]) -> Iterator[Map]:
    classes, factor, cell = scores.shape[1], segmenter.factor, segmenter.cell
    steps = [f"shuffle by {factor}"] * (factor > 1) + [f"bilinear by {cell}"] * (cell > 1)
    if steps:
        yield Map(
            name="probabilities", kind="labels", channels=classes, height=size[0], width=size[1], how="\n".join(steps)
        )


def _map(name: str, kind: Any, grid: Tensor, rates: tuple[int, ...]) -> Map:
    channels = int(grid.shape[1:-2].numel())
    return Map(name=name, kind=kind, channels=channels, height=grid.shape[-2], width=grid.shape[-1], rates=rates)
