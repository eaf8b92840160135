"""Label files, folders and globs: what `ducseg predict` does."""

import glob
import os
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import ClassSet
from ducseg.data.files.reading import PICTURE_SUFFIXES, read_image
from ducseg.errors import UserError, explain
from ducseg.figures.label_maps import colourise, overlay, write_array, write_png
from ducseg.inference.predictor import Labeller
from ducseg.inference.read_ahead import read_ahead
from ducseg.progress import counted

__all__ = ["Kind", "PredictReport", "find_pictures", "predict_files", "write_each"]

Kind = Literal["labels", "color", "overlay", "probabilities"]
Picture = NDArray[np.uint8]

_DRAWN: dict[Kind, Callable[[Picture, Picture, ClassSet], Picture]] = {
    "labels": lambda _image, labels, _classes: labels,
    "color": lambda _image, labels, classes: colourise(labels, classes),
    "overlay": overlay,
}
_KINDS: tuple[Kind, ...] = (*_DRAWN, "probabilities")
_WRITES_AT_ONCE = 2


@dataclass(frozen=True)
class PredictReport:
    """What came of each picture.

    Attributes:
        written: pictures whose results are all written.
        failed: pictures that could not be read or labelled, with the reason.
    """

    written: tuple[Path, ...]
    failed: tuple[tuple[Path, str], ...]


def find_pictures(inputs: Sequence[str | Path], *, leave_out: Path | None = None) -> list[tuple[Path, Path]]:
    """The pictures that files, folders (searched recursively) and globs stand for.

    Hidden files are taken only where they are named.

    Args:
        leave_out: a folder whose content is not taken from folders and globs above it.

    Returns:
        (file, its name below the results folder without suffix): the path inside the given folder, the bare name for a
        file or glob; where two meet, their paths below the folder that they share. Each file once, in the order given.

    Raises:
        UserError: an input that stands for no picture, names that meet even so.
    """
    found: dict[Path, tuple[Path, Path]] = {}
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
        for file, name in files:
            found.setdefault(file.resolve(), (file, name))
    return _apart(list(found.values()))


def _files_of(given: str | Path, leave_out: Path | None) -> list[tuple[Path, Path]]:
    path = Path(given).expanduser()
    if path.is_file():  # whatever its suffix: if it is no picture, the report says so
        return [(path, Path(path.stem))]
    if path.is_dir():
        return _in_folder(path, _if_below(path, leave_out))
    leave_out = _if_below(Path(*takewhile(lambda part: not glob.has_magic(part), path.parts)), leave_out)
    files = []
    for match in map(Path, sorted(glob.glob(str(path), recursive=True))):  # noqa: PTH207
        if match.is_dir() and "**" not in path.parts:
            files += [(file, match.name / name) for file, name in _in_folder(match, leave_out)]
        elif _is_picture(match, leave_out):
            files.append((match, Path(match.stem)))
    return files


def _in_folder(folder: Path, leave_out: Path | None) -> list[tuple[Path, Path]]:
    files = (file for file in sorted(folder.rglob("*")) if _is_picture(file, leave_out))
    return [(file, file.relative_to(folder).with_suffix("")) for file in files]


def _if_below(folder: Path, leave_out: Path | None) -> Path | None:
    """`leave_out` where it lies below the folder; a folder inside it was asked for by name and is searched."""
    whole = folder.resolve()
    return leave_out if leave_out is not None and leave_out != whole and leave_out.is_relative_to(whole) else None


def _is_picture(file: Path, leave_out: Path | None) -> bool:
    if file.suffix.lower() not in PICTURE_SUFFIXES or file.name.startswith(".") or not file.is_file():
        return False
    return leave_out is None or not file.resolve().is_relative_to(leave_out)


def _apart(pictures: list[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """Names that meet become paths below the folder that those files share; a.png beside a.jpg keep their suffixes."""
    counts = Counter(name for _, name in pictures)
    clashing = [file.absolute() for file, name in pictures if counts[name] > 1]
    if not clashing:
        return pictures
    shared = Path(os.path.commonpath([file.parent for file in clashing]))
    below = {file: file.relative_to(shared).with_suffix("") for file in clashing}
    again = Counter(below.values())
    below = {file: name if again[name] == 1 else file.relative_to(shared) for file, name in below.items()}
    named = [(file, below.get(file.absolute(), name)) for file, name in pictures]
    first: dict[Path, Path] = {}
    for file, name in named:
        if first.setdefault(name, file) != file:
            raise explain(
                "inputs",
                found=f"{first[name]} and {file}, which would both be written as {name}",
                needed="one name each",
                fix="Give one folder that holds them all: the results then keep its sub-folders.",
            )
    return named


def predict_files(
    labeller: Labeller,
    inputs: Sequence[str | Path],
    out: Path,
    *,
    kinds: Sequence[Kind] = ("labels", "color", "overlay"),
    progress: bool = True,
) -> PredictReport:
    """Label pictures of any size and write NAME_labels.png, NAME_color.png and NAME_overlay.png into `out`.

    A picture that cannot be read or labelled is reported and the others are still done. Files are read and written in
    threads while the network works.

    Args:
        inputs: files, folders and globs, see `find_pictures`; what lies in `out` is not taken from folders above it.
        out: results; sub-folders of given folders are kept; results of an earlier run are replaced.
        kinds: which files: label indices (grey), classes' colours, the picture tinted with a legend; and
            NAME_probabilities.npy, float16 (L, H, W).
        progress: draw a bar on a terminal.

    Raises:
        UserError: an input that stands for no picture, no kind or an unknown one, results that would replace an input,
            a disk that refuses the results.
    """
    if "probabilities" in kinds:
        return write_each(
            lambda _name, image: labeller.probabilities(image), labeller.model.classes, inputs, out, kinds, progress
        )
    return write_each(lambda _name, image: labeller(image), labeller.model.classes, inputs, out, kinds, progress)


def write_each(
    answer: Callable[[Path, Picture], NDArray[Any]],
    classes: ClassSet,
    inputs: Sequence[str | Path],
    out: Path,
    kinds: Sequence[Kind],
    progress: bool,
) -> PredictReport:
    """What `predict_files` does, with any source of labels (H, W) or probabilities (L, H, W).

    Args:
        answer: of a picture's name below the results folder and the picture; a UserError of it is reported.

    Raises:
        UserError: as `predict_files`.
    """
    unknown = [kind for kind in kinds if kind not in _KINDS]
    if unknown or not kinds:
        raise explain("kinds", found=list(kinds), needed=f"some of {', '.join(_KINDS)}", fix="Correct the list.")
    pictures, targets = _targets(inputs, out, kinds)
    _open_folder(out)
    written: list[Path] = []
    failed: list[tuple[Path, str]] = []
    writing: deque[Future[None]] = deque()
    with ThreadPoolExecutor(_WRITES_AT_ONCE) as writers, counted("predicted") if progress else nullcontext() as show:
        for file, read in read_ahead(read_image, list(targets)):
            try:
                image = read()
                found = answer(pictures[file], image)
            except UserError as error:
                failed.append((file, str(error)))
            else:
                writing.append(writers.submit(_write, targets[file], image, found, classes))
                written.append(file)
            if len(writing) > _WRITES_AT_ONCE:
                writing.popleft().result()
            if show is not None:
                show(len(written) + len(failed), len(targets))
        for last in writing:
            last.result()
    return PredictReport(tuple(written), tuple(failed))


def _targets(
    inputs: Sequence[str | Path], out: Path, kinds: Sequence[Kind]
) -> tuple[dict[Path, Path], dict[Path, dict[Kind, Path]]]:
    """Name and result files of each picture; no result is a picture to be read."""
    whole = out.resolve()
    for given in inputs:
        if Path(given).expanduser().resolve() == whole:
            raise explain(
                f"--out {out}",
                found="the folder that the pictures are read from",
                needed="another one",
                fix="The next run would take the results for pictures; a folder inside it is fine.",
            )
    pictures = find_pictures(inputs, leave_out=out)
    sources = {file.resolve() for file, _ in pictures}
    targets: dict[Path, dict[Kind, Path]] = {
        file: {kind: out / _named(name, kind) for kind in kinds} for file, name in pictures
    }
    for file, results in targets.items():
        for result in results.values():
            if result.resolve() in sources:
                raise explain(
                    f"--out {out}",
                    found=f"{result}, a picture to be read, where a result of {file} would be written",
                    needed="results that replace no input",
                    fix="Choose another --out.",
                )
    return dict(pictures), targets


def _named(name: Path, kind: Kind) -> Path:
    return name.with_name(f"{name.name}_{kind}.{'npy' if kind == 'probabilities' else 'png'}")


def _open_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain(
            f"--out {out}",
            found=error.strerror or str(error),
            needed="a folder that can be made or written",
            fix="Choose another --out.",
        ) from error


def _write(results: dict[Kind, Path], image: Picture, found: NDArray[Any], classes: ClassSet) -> None:
    labels = found if found.ndim == 2 else found.argmax(0).astype(np.uint8)
    for kind, path in results.items():
        if kind == "probabilities":
            write_array(path, found.astype(np.float16))
        else:
            write_png(path, _DRAWN[kind](image, labels, classes))
