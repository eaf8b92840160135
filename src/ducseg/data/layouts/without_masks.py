"""What is said where a folder holds no pictures and masks that go together: what lies there, and the way on."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from ducseg.data.files.header import tiff_header
from ducseg.data.files.reading import PICTURE_SUFFIXES
from ducseg.data.layouts.finding import likely_folders
from ducseg.data.paired import list_pictures, no_such_data
from ducseg.errors import UserError, explain, typed
from ducseg.files import is_hidden

__all__ = ["pictures_below", "without_masks"]

_DEEPEST = 3
"""Parts of the path below the root of what is found: images/train/x.png."""
_MOST_DEEP = 10_000
"""So many files are counted where none is found: a root may be a whole disk."""


def without_masks(root: Path, found: int, needed: str) -> UserError:
    """The error, with what could be meant, where no masks were found.

    Args:
        found: so many pictures were.
        needed: where pictures and masks must lie, in words.
    """
    there = list(list_pictures(root)[0].values()) if root.is_dir() else []
    stacks = [file for file in there if (header := tiff_header(file)) is not None and header.pages > 1]
    if stacks:
        return explain(
            f"images and masks in {root}",
            found=f"stacks of pages ({', '.join(file.name for file in stacks[:5])})",
            needed=needed,
            fix=f"Write a picture and a mask a page: ducseg data convert stack {typed(root)} "
            "--out OUT; then train on OUT.",
        )
    pictures = found or len(there)
    if (likely := likely_folders(root)) is not None:
        images, masks = map(typed, likely)
        return explain(
            f"images and masks in {root}",
            found="no folders that are called so",
            needed=needed,
            fix=f"Say which are meant, such as --data.images {images} --data.masks {masks}.",
        )
    if pictures:
        return explain(
            f"images and masks in {root}",
            found=f"{pictures} pictures and no masks",
            needed=needed,
            fix="Put the masks there, or say where they lie: --data.images DIR --data.masks DIR; what an "
            "annotation tool exported becomes masks by ducseg data convert.",
        )
    deeper = list(pictures_below(root))
    count = f"{len(deeper)}{' or more' if len(deeper) == _MOST_DEEP else ''}"
    if deeper and all(len(path.parts) > _DEEPEST for path in deeper):
        return explain(
            f"images and masks in {root}",
            found=f"{count} files of pictures or masks in deeper folders alone, such as {deeper[0]}",
            needed=f"{needed}, or folders inside these, at most three below each other",
            fix="Bring them up one level or more (images/P1_left/0.png for images/P1/left/0.png).",
        )
    if deeper:
        inside = ", ".join(dict.fromkeys(path.parts[0] for path in deeper))
        return explain(
            f"images and masks in {root}",
            found=f"{count} files of pictures or masks, such as {deeper[0]}, and no two folders (of {inside}) by whose "
            "names one holds the masks of the other",
            needed=needed,
            fix="Say which are meant: --data.images DIR --data.masks DIR.",
        )
    return no_such_data("images and masks", root, missing="no pictures", layout=needed)


def pictures_below(root: Path) -> Iterator[Path]:
    """Files of pictures anywhere below, relative to it, but for hidden ones; no more than `_MOST_DEEP`."""
    return islice(_all_below(root), _MOST_DEEP)


def _all_below(root: Path) -> Iterator[Path]:
    for folder, inside, names in os.walk(root):
        inside[:] = sorted(name for name in inside if not is_hidden(Path(name)))
        for name in sorted(names):
            if Path(name).suffix.lower() in PICTURE_SUFFIXES and not name.startswith("."):
                yield (Path(folder) / name).relative_to(root)
