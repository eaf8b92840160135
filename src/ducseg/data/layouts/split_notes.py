"""What is to be said of training and validation pictures that have something in common: each note is None where not."""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.data.files.raster_places import Place
from ducseg.data.files.rasters import place_of
from ducseg.data.layouts.grouping import FOLDER, group_function, matched
from ducseg.errors import listed

__all__ = ["copies_note", "folder_note", "group_note", "overlap_note", "series_note", "split_note"]

_SERIES = r"^(.*\D)\d+$"
"""A `group_by` that keeps together what differs in the last number of its name alone: clip7_0001 and clip7_0002."""
_SAME_GROUND = 0.01
"""Of a picture's area, as tiles that only touch never share."""


def group_note(pattern: str, train: Iterable[str], validation: Iterable[str]) -> str | None:
    """What is to be said where ids of one group are in both splits, as folders and lists can have it."""
    group = group_function(pattern)
    mine, others = ({group(name) for name in names if matched(pattern, name)} for names in (train, validation))
    both = sorted(mine & others)
    more = f" and {len(both) - 3} more" if len(both) > 3 else ""
    named = f"{', '.join(both[:3])}{more}"
    return f"groups of --data.group-by with training and validation pictures: {named}" if both else None


def folder_note(folders: Mapping[str, Iterable[Path]], train: Iterable[Path], validation: Iterable[Path]) -> str | None:
    """What is to be said where folders, no splits but such as patients, have pictures in both splits."""
    if len(folders) < 2:
        return None
    train, validation = set(train), set(validation)
    both = [folder for folder, files in folders.items() if train & (here := set(files)) and validation & here]
    if not both:
        return None
    return (
        f"groups: none; {listed(both, 3)} of {len(folders)} folders with training and validation pictures. If the "
        f"pictures of a folder belong together, as a patient's do: --data.group-by '{FOLDER}'"
    )


def series_note(train: Sequence[str], validation: Sequence[str]) -> str | None:
    """What is to be said where ids run in three series or more, clip7_0001, clip7_0002, ..., cut by the splits."""
    mine, others = (
        [match[1] for name in names if (match := re.search(_SERIES, name))] for names in (train, validation)
    )
    both = sorted(set(mine) & set(others))
    if len({*mine, *others}) < 3 or 2 * sum(series in both for series in others) < len(validation):
        return None
    return (
        f"groups: none; {listed(both, 3)}, series of names, with training and validation pictures. If a series belongs "
        f"together, as frames of a clip or tiles of a picture do: --data.group-by '{_SERIES}'"
    )


def split_note(train: Sequence[Path], validation: Sequence[Path]) -> str | None:
    """What is to be said where the pictures of one split are also in the other."""
    both = len(set(train) & set(validation))
    if not both:
        return None
    if both == len(set(validation)) == len(set(train)):
        return f"the {both} validation pictures are the training pictures: scores say nothing about other pictures"
    return f"{both} of the {len(set(validation))} validation pictures are training pictures too"


def copies_note(train: Iterable[Path], validation: Iterable[Path]) -> str | None:
    """What is to be said where files of both splits are equal byte by byte."""
    train = set(train)
    learned, held = sorted(train), sorted(set(validation) - train)
    told_by: Callable[[Path], object]
    for told_by in (_size, _middle, _digest):  # each of them of those that the one before did not tell apart
        ours, theirs = ({path: told_by(path) for path in paths} for paths in (learned, held))
        both = {*ours.values()} & {*theirs.values()}
        learned, held = ([path for path, told in of.items() if told in both] for of in (ours, theirs))
    if not held:
        return None
    first = {told: path for path, told in reversed(ours.items())}
    other, path = held[0], first[theirs[held[0]]]
    return (
        f"copies: validation pictures that are training pictures too, byte by byte: {len(held)}, such as {other} and "
        f"{path}; scores are too good for that, and ducseg data check names them all"
    )


def overlap_note(train: Iterable[Path], validation: Iterable[Path]) -> str | None:
    """What is to be said where pictures of both splits show the same ground, as tiles that overlap do."""
    train = set(train)
    held = {path: found for path in sorted(set(validation) - train) if (found := place_of(path)) is not None}
    learned: dict[str | None, list[tuple[Path, NDArray[np.float64]]]] = {}
    for path in sorted(train) if held else ():
        if (found := place_of(path)) is not None:
            learned.setdefault(found[0].name, []).append((path, _corners(*found)))
    both: list[tuple[float, Path, Path]] = []
    for path, (place, size) in held.items():
        near = learned.get(place.name)
        if near is None:
            continue
        in_pixels = (np.stack([corners for _, corners in near]) @ np.linalg.inv(place.matrix).T)[..., :2]
        boxes = np.ptp(np.clip(in_pixels, 0, size[::-1]), axis=1).prod(1)
        height, width = size
        picture = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
        shares = [
            (cv2.intersectConvexConvex(picture, in_pixels[index].astype(np.float32))[0] / (size[0] * size[1]), index)
            for index in np.flatnonzero(boxes).tolist()
        ]
        if shares and max(shares)[0] > _SAME_GROUND:
            share, index = max(shares)
            both.append((share, path, near[index][0]))
    if not both:
        return None
    share, other, path = max(both)
    return (
        f"places: {len(both)} of {len(held)} validation pictures show ground that training pictures show too, such as "
        f"{other}, {100 * share:.0f} % of it in {path}; scores are too good for that. Hold out an area of its own: "
        "--data.val-split FOLDER, or a list of names (val.txt)"
    )


def _corners(place: Place, size: tuple[int, int]) -> NDArray[np.float64]:
    """Of a picture, one after the other, (4, 3) with 1."""
    height, width = size
    return np.array([(0, 0, 1), (width, 0, 1), (width, height, 1), (0, height, 1)], np.float64) @ place.matrix.T


def _size(path: Path) -> int:
    return path.stat().st_size


def _middle(path: Path) -> tuple[int, bytes]:
    """The size, and some bytes in which pictures differ: not the header, and no border."""
    size = _size(path)
    with path.open("rb") as file:
        file.seek(size // 2)
        return size, file.read(1 << 12)


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
