"""A trained network for other classes: what belongs to a class goes with its name, all else stays as it is."""

from dataclasses import replace

import torch
from torch import Tensor

from ducseg.models import Segmenter
from ducseg.weights.structure import sketch

__all__ = ["take_all_but_other_classes"]


@torch.no_grad()
def take_all_but_other_classes(target: Segmenter, source: Segmenter) -> list[str]:
    """Load `source` into a network that differs from it by its classes alone: more, fewer, others, in another order.

    Which numbers belong to a class is seen by how shapes grow with the number of classes; those of classes that the
    source lacks, and tensors of which no axis grows in proportion to it, stay as `target` has them.

    Returns:
        The names of the classes that the source lacks.

    Raises:
        RuntimeError: the networks differ by more.
    """
    count = len(source.classes)
    fewer = count - 1 or 2
    grown = sketch(replace(source.architecture, num_classes=fewer)).state_dict()
    names = [name for name in target.classes.names if name in source.classes.names]
    to, of = ([classes.names.index(name) for name in names] for classes in (target.classes, source.classes))
    taken, own = {}, target.state_dict()
    for key, values in source.state_dict().items():
        axes = [axis for axis, size in enumerate(values.shape) if size != grown[key].shape[axis]]
        if key not in own or (not axes and values.shape == own[key].shape):
            taken[key] = values
        elif len(axes) == 1 and values.shape[axes[0]] * fewer == grown[key].shape[axes[0]] * count:
            taken[key] = _by_class(own[key], len(target.classes), to, values, count, of, axes[0])
    taken.pop("head.fitted", None)  # to the masks of all classes, anew
    target.load_state_dict(own | taken)
    return [name for name in target.classes.names if name not in names]


def _by_class(own: Tensor, count: int, to: list[int], values: Tensor, given: int, of: list[int], axis: int) -> Tensor:
    """`own` with the classes `to` as the classes `of` are in `values`; an axis holds one class after the other."""
    found, rows = own.movedim(axis, 0).clone(memory_format=torch.contiguous_format), values.movedim(axis, 0)
    found.view(count, -1, *found.shape[1:])[to] = rows.reshape(given, -1, *rows.shape[1:])[of]
    return found.movedim(0, axis)
