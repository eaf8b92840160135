"""What inputs mean: files, folders and globs, as pictures with the names of their results."""

import glob
import os
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import takewhile
from pathlib import Path, PurePath
from typing import Any

from numpy.typing import NDArray

from ducseg.data.files.channels import Pixels
from ducseg.data.files.rasters import read_finite
from ducseg.data.files.reading import PICTURE_SUFFIXES
from ducseg.data.layouts.file_names import MASK_FOLDERS, masks_beside
from ducseg.errors import Said, explain, listed, whole
from ducseg.files import files_below, folded_name, is_hidden, is_listed

__all__ = ["check_apart", "check_inputs", "find_pictures", "masks_left_out", "some_pictures"]


def find_pictures(
    inputs: Sequence[str | Path], *, leave_out: Path | None = None, mask_suffix: str | None = None
) -> list[tuple[Path, Path]]:
    """The pictures that files, folders (searched recursively) and globs stand for.

    Hidden files, and masks beside their pictures (`masks_beside`; a line says so), are taken only where they are named.
    Links are files of their own names; those to nothing are taken too, and do not read.

    Args:
        leave_out: a folder whose content is not taken from folders and globs above it.
        mask_suffix: what masks' names end with too, beside words for masks.

    Returns:
        (file, its name below the results folder without suffix): the path inside the given folder, the bare name for a
        file or glob; where two meet, their paths below the folder that they share. Each file once, in the order given.

    Raises:
        UserError: an input that stands for no picture, names that meet even so, a folder that may not be listed.
    """
    found: dict[Path, tuple[Path, Path]] = {}
    for files in check_inputs(inputs, leave_out=leave_out):
        for file, name in files:
            found.setdefault(file.parent.resolve() / file.name, (file, name))
    named = {path for given in inputs if is_listed(path := Path(given).expanduser())}
    folders = [path for given in inputs if (path := Path(given).expanduser()).name.lower() in MASK_FOLDERS]
    named |= {file for file, _ in found.values() if any(file.is_relative_to(folder) for folder in folders)}
    masks = masks_left_out([file for file, _ in found.values()], mask_suffix, named=named)
    return _apart([(file, name) for file, name in found.values() if file not in masks])


def check_inputs(inputs: Sequence[str | Path], *, leave_out: Path | None = None) -> list[list[tuple[Path, Path]]]:
    """The files of each input with their names; raises `UserError` where one stands for no picture."""
    if not inputs:
        raise explain("inputs", found="none", needed="files, folders or globs of pictures", fix="Name some.")
    found = []
    for given in inputs:
        files = _files_of(given, None if leave_out is None else leave_out.resolve())
        if not files:
            folder = Path(given).expanduser().is_dir()
            raise explain(
                f"input {given}",
                found="a folder without pictures" if folder else "no such file, folder or glob of pictures",
                needed=f"pictures ({', '.join(sorted(PICTURE_SUFFIXES))})",
                fix=f"It was looked for at {Path(given).expanduser().absolute()}.",
            )
        found.append(files)
    return found


def masks_left_out(
    files: Collection[PurePath], mask_suffix: str | None, *, named: Collection[PurePath] = ()
) -> set[PurePath]:
    """The masks beside their pictures (`masks_beside`), but for those that were `named` themselves; a line says so."""
    masks = masks_beside(files, mask_suffix).difference(named)
    if masks:
        text = f"left out: {len(masks)} masks beside their pictures ({listed(sorted(one.name for one in masks), 3)})"
        warnings.warn(f"{text}; what is named itself is taken", Said, stacklevel=2)
    return masks


def _files_of(given: str | Path, leave_out: Path | None) -> list[tuple[Path, Path]]:
    path = Path(given).expanduser()
    if path.is_file() or _is_picture(path, None):  # whatever its suffix: if it is no picture, the report says so
        return [(path, Path(path.stem))]
    if path.is_dir():
        return _in_folder(path, _if_below(path, leave_out))
    above = Path(*takewhile(lambda part: not glob.has_magic(part), path.parts))
    leave_out = _if_below(above, leave_out)
    files = []
    for match in map(Path, sorted(glob.glob(str(path), recursive=True))):  # noqa: PTH207
        if is_hidden(match.relative_to(above)):
            continue
        if match.is_dir() and "**" not in path.parts:
            files += [(file, match.name / name) for file, name in _in_folder(match, leave_out)]
        elif _is_picture(match, leave_out):
            files.append((match, Path(match.stem)))
    return files


def _in_folder(folder: Path, leave_out: Path | None) -> list[tuple[Path, Path]]:
    files = (file for file in files_below(folder) if _is_picture(file, leave_out))
    return [(file, file.relative_to(folder).with_suffix("")) for file in files]


def _if_below(folder: Path, leave_out: Path | None) -> Path | None:
    """`leave_out` where it lies below the folder; a folder inside it was asked for by name and is searched."""
    whole = folder.resolve()
    return leave_out if leave_out is not None and leave_out != whole and leave_out.is_relative_to(whole) else None


def _is_picture(file: Path, leave_out: Path | None) -> bool:
    if file.suffix.lower() not in PICTURE_SUFFIXES or file.name.startswith(".") or not is_listed(file):
        return False
    return leave_out is None or not Path(os.path.realpath(file)).is_relative_to(leave_out)


def _apart(pictures: list[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """Names that meet become paths below the folder that those files share; a.png beside a.jpg keep their suffixes.

    Those that differ in capitals, or in how accents are stored, meet too: macOS and Windows take them for one.
    """
    counts = Counter(folded_name(name) for _, name in pictures)
    clashing = [file.absolute() for file, name in pictures if counts[folded_name(name)] > 1]
    if not clashing:
        return pictures
    shared = Path(os.path.commonpath([file.parent for file in clashing]))
    below = {file: file.relative_to(shared).with_suffix("") for file in clashing}
    again = Counter(map(folded_name, below.values()))
    below = {file: name if again[folded_name(name)] == 1 else file.relative_to(shared) for file, name in below.items()}
    named = [(file, below.get(file.absolute(), name)) for file, name in pictures]
    fix = "Give one folder that holds them all: the results then keep its sub-folders."
    check_apart([(name, file) for file, name in named], fix=fix)
    return named


def check_apart(names: Sequence[tuple[object, object]], *, fix: str) -> None:
    """Raise `UserError` where two inputs (name, where) would have results of one name."""
    first: dict[object, object] = {}
    for name, where in names:
        if first.setdefault(name, where) != where:
            raise explain(
                "inputs",
                found=f"{first[name]} and {where}, which would both be written as {name}",
                needed="one name each",
                fix=fix,
            )


def some_pictures(inputs: Sequence[str | Path], pixels: Pixels, *, most: int) -> Iterator[tuple[str, NDArray[Any]]]:
    """Names and pictures (H, W, C) of inputs, at most so many, spread evenly over them.

    Raises:
        UserError: as `find_pictures`; a number below 1; a picture that does not read or holds other pixels.
    """
    files = find_pictures(inputs)
    number = min(whole("--most", most, least=1, fix="20 is enough to tell."), len(files))
    for position in range(number):
        file, name = files[(2 * position + 1) * len(files) // (2 * number)]
        yield str(name), read_finite(file, pixels)
