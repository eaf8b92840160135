"""Label files, folders and globs: what `ducseg predict` does."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ducseg.classes import ClassSet
from ducseg.data.files.reading import read_image
from ducseg.errors import UserError, explain
from ducseg.inference.labeller import Labeller, each
from ducseg.inference.read_ahead import equal_batches, read_ahead
from ducseg.inference.sources import find_pictures
from ducseg.inference.writers import KINDS, Kind, Picture, result_name, write_results
from ducseg.progress import counted

__all__ = ["PredictReport", "predict_files", "write_each"]

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


def predict_files(
    labeller: Labeller,
    inputs: Sequence[str | Path],
    out: Path,
    *,
    kinds: Sequence[Kind] = ("labels", "color", "overlay"),
    batch_size: int = 1,
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
        batch_size: so many pictures of one size, where they follow each other, go through the network at once.
        progress: draw a bar on a terminal.

    Raises:
        UserError: an input that stands for no picture, no kind or an unknown one, results that would replace an input,
            a disk that refuses the results.
    """

    def answers(_names: Sequence[Path], images: Sequence[Picture]) -> Sequence[NDArray[Any]]:
        return each(labeller, images, probabilities="probabilities" in kinds)

    classes = labeller.classes
    return write_each(answers, classes, inputs, out, kinds=kinds, batch_size=batch_size, progress=progress)


def write_each(
    answers: Callable[[Sequence[Path], Sequence[Picture]], Sequence[NDArray[Any]]],
    classes: ClassSet,
    inputs: Sequence[str | Path],
    out: Path,
    *,
    kinds: Sequence[Kind],
    batch_size: int = 1,
    progress: bool = True,
) -> PredictReport:
    """What `predict_files` does, with any source of labels (H, W) or probabilities (L, H, W).

    Args:
        answers: of pictures of one size and their names below the results folder, one each; where it raises UserError
            for several, it is asked for each alone, and what it raises then is reported.

    Raises:
        UserError: as `predict_files`.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise explain("kinds", found=list(kinds), needed=f"some of {', '.join(KINDS)}", fix="Correct the list.")
    pictures, targets = _targets(inputs, out, kinds)
    _open_folder(out)
    written: list[Path] = []
    failed: list[tuple[Path, str]] = []
    writing: deque[Future[None]] = deque()

    def readable() -> Iterator[tuple[Path, Picture]]:
        for file, read in read_ahead(read_image, list(targets), ahead=max(2, batch_size)):
            try:
                yield file, read()
            except UserError as error:
                failed.append((file, str(error)))

    def answered(batch: list[tuple[Path, Picture]]) -> Iterator[tuple[Path, Picture, NDArray[Any]]]:
        try:
            found = answers([pictures[file] for file, _ in batch], [image for _, image in batch])
        except UserError as error:
            if len(batch) == 1:
                failed.append((batch[0][0], str(error)))
            for one in batch if len(batch) > 1 else ():
                yield from answered([one])
        else:
            yield from ((file, image, one) for (file, image), one in zip(batch, found))

    with ThreadPoolExecutor(_WRITES_AT_ONCE) as writers, counted("predicted") if progress else nullcontext() as show:
        for batch in equal_batches(readable(), lambda item: item[1].shape, batch_size):
            for file, image, found in answered(batch):
                writing.append(writers.submit(write_results, targets[file], image, found, classes))
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
        file: {kind: out / result_name(name, kind) for kind in kinds} for file, name in pictures
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
