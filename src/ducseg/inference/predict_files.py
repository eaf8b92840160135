"""Label files, folders and globs: what `ducseg predict` does."""

import glob
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import ClassSet
from ducseg.data.reading import PICTURE_SUFFIXES, read_image
from ducseg.errors import UserError, explain
from ducseg.inference.predictor import Labeller
from ducseg.inference.writers import colourise, overlay, write_png
from ducseg.progress import counted

__all__ = ["Kind", "PredictReport", "find_pictures", "predict_files"]

Kind = Literal["labels", "color", "overlay"]
Picture = NDArray[np.uint8]

_WRITERS: dict[str, Callable[[Picture, Picture, ClassSet], Picture]] = {
    "labels": lambda _image, labels, _classes: labels,
    "color": lambda _image, labels, classes: colourise(labels, classes),
    "overlay": overlay,
}


@dataclass(frozen=True)
class PredictReport:
    """What came of each picture.

    Attributes:
        written: pictures whose results are all written.
        failed: pictures that could not be read or labelled, with the reason.
    """

    written: tuple[Path, ...]
    failed: tuple[tuple[Path, str], ...]


def find_pictures(inputs: Sequence[str | Path]) -> list[tuple[Path, Path]]:
    """The pictures that files, folders (searched recursively) and globs stand for.

    Returns:
        (file, its name below the results folder without suffix): the path inside the given folder, the bare name for a
        file or glob; where two meet, their paths below the folder that they share. Each file once, in the order given.

    Raises:
        UserError: an input that stands for no picture.
    """
    found: dict[Path, Path] = {}
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            files = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in PICTURE_SUFFIXES]
            names = [file.relative_to(path).with_suffix("") for file in files]
        else:
            # a file is taken whatever its suffix: if it is no picture, the report says so
            matches = [str(path)] if path.is_file() else sorted(glob.glob(str(given), recursive=True))  # noqa: PTH207
            files = [Path(match) for match in matches if Path(match).is_file()]
            names = [Path(file.stem) for file in files]
        if not files:
            raise explain(
                f"input {given}",
                found="a folder without pictures" if path.is_dir() else "no such file, folder or glob",
                needed=f"pictures ({', '.join(sorted(PICTURE_SUFFIXES))})",
                fix=f"It was looked for in {Path.cwd()}.",
            )
        for file, name in zip(files, names):
            found.setdefault(file.resolve(), name)
    return _apart(list(found.items()))


def _apart(pictures: list[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """Names that meet become paths below the folder that those files share; a.png beside a.jpg keep their suffixes."""
    counts = Counter(name for _, name in pictures)
    clashing = [file for file, name in pictures if counts[name] > 1]
    if not clashing:
        return pictures
    shared = Path(os.path.commonpath([file.parent for file in clashing]))
    below = {file: file.relative_to(shared).with_suffix("") for file in clashing}
    again = Counter(below.values())
    below = {file: name if again[name] == 1 else file.relative_to(shared) for file, name in below.items()}
    return [(file, below.get(file, name)) for file, name in pictures]


def predict_files(
    labeller: Labeller,
    inputs: Sequence[str | Path],
    out: Path,
    *,
    kinds: Sequence[Kind] = ("labels", "color", "overlay"),
    progress: bool = True,
) -> PredictReport:
    """Label pictures of any size and write NAME_labels.png, NAME_color.png and NAME_overlay.png into `out`.

    A picture that cannot be read or labelled is reported and the others are still done.

    Args:
        inputs: files, folders and globs, see `find_pictures`.
        out: results; sub-folders of given folders are kept.
        kinds: which files: label indices (grey), classes' colours, the picture tinted with a legend.
        progress: draw a bar on a terminal.

    Raises:
        UserError: an input that stands for no picture, no kind or an unknown one, a disk that refuses the results.
    """
    unknown = [kind for kind in kinds if kind not in _WRITERS]
    if unknown or not kinds:
        raise explain("kinds", found=list(kinds), needed=f"some of {', '.join(_WRITERS)}", fix="Correct the list.")
    pictures = find_pictures(inputs)
    written: list[Path] = []
    failed: list[tuple[Path, str]] = []
    with counted("predicted") as show:
        for file, name in pictures:
            try:
                image = read_image(file)
                labels = labeller(image)
            except UserError as error:
                failed.append((file, str(error)))
            else:
                for kind in kinds:
                    target = out / name.with_name(f"{name.name}_{kind}.png")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    write_png(target, _WRITERS[kind](image, labels, labeller.model.classes))
                written.append(file)
            if progress:
                show(len(written) + len(failed), len(pictures))
    return PredictReport(tuple(written), tuple(failed))
