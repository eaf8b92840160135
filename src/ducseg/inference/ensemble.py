"""Several networks as one: their class probabilities are averaged, as of the folds of a cross-validation."""

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ducseg.classes import ClassSet
from ducseg.data.files.channels import Pixels
from ducseg.errors import explain
from ducseg.inference.labeller import AveragingLabeller
from ducseg.models.segmenter import most_probable

__all__ = ["Ensemble"]


class Ensemble(AveragingLabeller):
    """Labels pictures by the mean of several networks' softmax probabilities.

    Args:
        members: of the same classes, kind of pictures, scales, flip and windows; each gives probabilities.

    Raises:
        UserError: no member, or what is none; members that differ in these.
    """

    def __init__(self, members: Sequence[AveragingLabeller]) -> None:
        strange: list[Any] = [members]
        if isinstance(members, Sequence):
            strange = [member for member in members if not isinstance(member, AveragingLabeller)]
        if strange or not members:
            found = type(strange[0]).__name__ if strange else "no network"
            raise explain("ensemble", found=found, needed="networks", fix="Pass [ducseg.load(RUN), ...].")
        first = members[0]
        super().__init__(scales=first.scales, flip=first.flip)
        self.tiling, self.members = first.tiling, tuple(members)
        self.stride = math.lcm(*(member.stride for member in members))
        for member in members[1:]:
            _check_alike("classes", ", ".join(first.classes.names), ", ".join(member.classes.names))
            _check_alike("pictures", str(first.pixels), str(member.pixels))
            _check_alike("scales, flip and windows", *map(str, map(_look, (first, member))))

    @property
    def pixels(self) -> Pixels:
        """What the pictures hold that all take."""
        return self.members[0].pixels

    @property
    def classes(self) -> ClassSet:
        """What the labels index, with the first network's colours."""
        return self.members[0].classes

    @property
    def record(self) -> Mapping[str, Any]:
        """What training noted beside the first network."""
        return self.members[0].record

    def _labels(self, pictures: NDArray[np.uint8]) -> Tensor:
        return most_probable(self._probabilities(pictures))

    def _probabilities(self, pictures: NDArray[np.uint8]) -> Tensor:
        total: Tensor | None = None
        for member in self.members:
            with member._computing(pictures):
                found = member._probabilities(pictures)
                total = found if total is None else total.add_(found.to(total.device))
        assert total is not None
        return total.div_(len(self.members))

    def _both(self, pictures: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        probabilities = self._probabilities(pictures)
        return most_probable(probabilities), probabilities

    def _computing(self, pictures: NDArray[np.uint8]) -> AbstractContextManager[None]:
        return torch.inference_mode()  # the rest is each member's own


def _look(member: AveragingLabeller) -> tuple[object, ...]:
    return member.scales, member.flip, member.tiling


def _check_alike(what: str, first: str, other: str) -> None:
    if first != other:
        raise explain(
            f"{what} of an ensemble", found=f"{first}; {other}", needed="the same", fix="Train and open all alike."
        )
