"""Pictures without a mask that are to hold one class alone, as those of an inspection on which nothing is wrong.

Such a picture stands for its own mask among the files; `Filled` tells the two apart.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import ClassSet
from ducseg.data.files.reading import picture_size
from ducseg.data.layouts.layout import FoundFiles
from ducseg.data.layouts.splitting import are_splits_or_none
from ducseg.errors import explain

__all__ = ["Filled", "masked_by_themselves", "train_id_of"]


@dataclass(frozen=True)
class Filled:
    """What reads a mask file; of `pictures`, which have none, all pixels (H, W) are `train_id`."""

    read: Callable[[Path], NDArray[np.uint8]]
    pictures: frozenset[Path]
    train_id: int

    def __call__(self, path: Path) -> NDArray[np.uint8]:
        """Train ids (H, W); raises `UserError` as `read`, and for a picture that does not read."""
        return np.full(picture_size(path), self.train_id, np.uint8) if path in self.pictures else self.read(path)


def masked_by_themselves(found: FoundFiles, name: str) -> tuple[FoundFiles, frozenset[Path]]:
    """With each picture that has no mask as its own, and these pictures; a split of which none has stays as it is.

    Args:
        name: of the class that they hold, for the line that counts them.
    """
    splits, alone, may_stay = {}, list[Path](), are_splits_or_none(found.splits)
    for split, files in found.splits.items():
        masks = dict(files.labels or {})
        if masks or not may_stay:
            without = {one: path for one, path in files.images.items() if one not in masks}
            alone += without.values()
            files = replace(files, labels=masks | without)
        splits[split] = files
    line = f"{found.line}; without a mask, so all {name}: {len(alone)} pictures"
    return replace(found, splits=splits, line=line), frozenset(alone)


def train_id_of(name: str, classes: ClassSet) -> int:
    """Of the class that pictures without a mask hold; raises `UserError` where there is none of this name."""
    if name in classes.names:
        return classes.names.index(name)
    needed = f"one of the classes: {', '.join(classes.names)}"
    raise explain("--data.unmasked-as", found=name, needed=needed, fix="Give its name as it stands there.")
