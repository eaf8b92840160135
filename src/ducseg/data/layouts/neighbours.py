"""Whether frames of a clip validate whose neighbours, which look alike, are trained on."""

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.data.files.reading import picture_size
from ducseg.errors import UserError

__all__ = ["neighbours_note"]

_NUMBERED = re.compile(r"(.*?)(\d+)\D*")
_LOOKED_AT = 10  # validation pictures, each with a neighbour
_LARGEST = 1 << 24  # pixels of a picture: of larger ones, rarely of a clip, reading some takes too long
_SIDE = 32  # pixels that a picture is looked at with
_ALIKE = 0.5
"""Of the distance to other pictures: CamVid's frames 1/15 s apart have 0.05, 1 s 0.3 to 0.7; others 0.7 to 1.1."""


def neighbours_note(
    train: Sequence[Path], validation: Sequence[Path], read: Callable[[Path], NDArray[Any]]
) -> str | None:
    """What is to be said where most validation pictures have the next number to a training picture's and look like it.

    Args:
        read: file -> picture (H, W, C); of a few, those that do not read end it.
    """
    beside = _beside(train, validation)
    if len(beside) < 3 or 2 * len(beside) < len(validation):
        return None
    chosen = [
        beside[index] for index in np.linspace(0, len(beside) - 1, min(_LOOKED_AT, len(beside))).round().astype(int)
    ]
    try:
        if math.prod(picture_size(chosen[0][0])) > _LARGEST:
            return None
        looks = [[_look(read(path)) for path in pair] for pair in chosen]
    except UserError:  # said when it is trained on
        return None
    if len({look.shape for pair in looks for look in pair}) > 1:
        return None
    near = [_apart(one, neighbour) for one, neighbour in looks]
    far = [np.median([_apart(one, other) for other, _ in looks if other is not one]) for one, _ in looks]
    if np.median(np.divide(near, np.maximum(far, 1e-6))) > _ALIKE:
        return None
    (one, neighbour), *_ = chosen
    return (
        f"neighbours: validation pictures beside training pictures that look alike, such as {one.name} and "
        f"{neighbour.name}: scores are too good for other places.{_advice([*train, *validation])}"
    )


def _beside(train: Sequence[Path], validation: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Validation pictures, each with a training picture that has the number before or after its own in its series."""
    held, series = {*validation}, dict[str, list[tuple[int, Path]]]()
    for path in {*train, *validation}:
        if (match := _NUMBERED.fullmatch(path.stem)) is not None:
            series.setdefault(match[1], []).append((int(match[2]), path))
    found = []
    for numbered in series.values():
        files = [path for _, path in sorted(numbered)]
        for before, path, after in zip([None, *files], files, [*files[1:], None]):
            neighbour = next((one for one in (after, before) if one is not None and one not in held), None)
            if path in held and neighbour is not None:
                found.append((path, neighbour))
    return found


def _look(picture: NDArray[Any]) -> NDArray[np.float32]:
    small = cv2.resize(picture[..., :3].astype(np.float32), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    look = np.nan_to_num(np.asarray(small, np.float32))
    return np.asarray(look - look.mean((0, 1)))


def _apart(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """One minus the correlation; 1 where a picture is all of one colour."""
    size = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return 1 - float((one * other).sum()) / size if size else 1


def _advice(pictures: Sequence[Path]) -> str:
    """How blocks of frames are kept together: by all but as many last digits as leave some blocks."""
    for digits in (3, 2, 1):
        pattern = rf"^(.*)\d{{{digits}}}\D*$"
        blocks = {match[1] for path in pictures if (match := re.search(pattern, path.stem)) is not None}
        if len(blocks) >= 4:
            return f" Blocks of frames are kept together by --data.group-by '{pattern}'"
    return " Name those that validate in a list: --data.val-split FILE"
