"""Label files, folders and globs: what `ducseg predict` does."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ducseg.classes import ClassSet
from ducseg.data.files.reading import read_image
from ducseg.errors import UserError
from ducseg.files import sweep_unfinished
from ducseg.inference.jobs import Job, check_looked_at, find_jobs
from ducseg.inference.labeller import Labeller, each, reader_for
from ducseg.inference.read_ahead import equal_batches, read_ahead
from ducseg.inference.tiles import Tiling
from ducseg.inference.windowed import ByWindows, WriteError
from ducseg.inference.writers import (
    EXACT,
    USUAL_KINDS,
    Kind,
    Outlines,
    Picture,
    needs_probabilities,
    write_results,
)
from ducseg.progress import counted_stages

__all__ = [
    "Answers", "Done", "PredictReport", "answers_of", "predict_files", "read_by", "write_each", "write_jobs",
]  # fmt: skip

_WRITES_AT_ONCE = 2

Answers = Callable[[Sequence[Path], Sequence[Picture]], Sequence[NDArray[Any]]]
"""Names below the results folder and pictures of one size, to labels (H, W) or probabilities (L, H, W) of each."""


Done = Callable[[Job, str | None, float], None]
"""Told of a job once its files are written, or of why it has none, and the seconds it took; from any thread."""


@dataclass(frozen=True)
class PredictReport:
    """What came of each picture.

    Attributes:
        written: pictures whose results are all written; those of URLs and tars as text.
        failed: pictures that could not be read or labelled, with the reason.
        notes: what a person should know of a picture's results, see `ByWindows`.
    """

    written: tuple[Path | str, ...]
    failed: tuple[tuple[Path | str, str], ...]
    notes: tuple[tuple[Path | str, str], ...] = ()


def predict_files(
    labeller: Labeller,
    inputs: Sequence[str | Path],
    out: Path,
    *,
    kinds: Sequence[Kind] = USUAL_KINDS,
    batch_size: int = 1,
    tiling: Tiling | None = None,
    mask_suffix: str | None = None, outlines: Outlines = EXACT, progress: bool = True,
) -> PredictReport:  # fmt: skip
    """Label pictures of any size and write NAME_labels.png, NAME_color.png and NAME_overlay.png into `out`.

    A picture that cannot be read or labelled is reported and the others are still done. Files are read and written in
    threads while the network works.

    Args:
        inputs, mask_suffix: as `find_pictures`; what lies in `out` is not taken from folders above it.
        out: results; sub-folders of given folders are kept; results of an earlier run are replaced.
        kinds: which files: label indices (grey), classes' colours, the picture tinted with a legend; confidence (grey,
            255 is a probability of 1); NAME_polygons.geojson; NAME_probabilities.npy, float16 (L, H, W). Of a TIFF that
            has a place on earth, or very many pixels, the pictures are TIFFs too, see `write_raster_results`.
        batch_size: so many pictures of one size, where they follow each other, go through the network at once, and so
            many windows of one picture.
        tiling: label by windows what is longer; None: what would not fit in memory. outlines: of polygons.
        progress: draw a bar on a terminal.

    Raises:
        UserError: an input that stands for no picture, no kind or an unknown one, results that would replace an input,
            a disk that refuses the results.
    """
    jobs = find_jobs(inputs, out, kinds, rasters=True, mask_suffix=mask_suffix)
    sweep_unfinished(path for job in jobs for path in job.results.values())
    return write_jobs(
        answers_of(labeller, kinds), labeller.classes, jobs, batch_size=batch_size, progress=progress,
        windows=ByWindows(labeller, tiling, at_once=batch_size, outlines=outlines), read=read_by(labeller),
    )  # fmt: skip


def read_by(labeller: Labeller) -> Callable[[Job], Path | Picture]:
    """What reads a job's picture as the labeller takes it; of rasters, their paths."""
    read = reader_for(labeller)
    return lambda job: job.file if job.raster else read(job.file)


def answers_of(labeller: Labeller, kinds: Sequence[Kind]) -> Answers:
    """A labeller's answers: probabilities where they are to be written, else labels."""
    return lambda _names, images: each(labeller, images, probabilities=needs_probabilities(kinds))


def write_each(
    answers: Answers,
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
        answers: as `write_jobs`.

    Raises:
        UserError: as `predict_files`.
    """
    jobs = find_jobs(inputs, out, kinds)
    sweep_unfinished(path for job in jobs for path in job.results.values())
    return write_jobs(answers, classes, jobs, batch_size=batch_size, progress=progress)


def write_jobs(
    answers: Answers,
    classes: ClassSet,
    jobs: Sequence[Job],
    *,
    batch_size: int = 1,
    progress: bool = True,
    read: Callable[[Job], Path | Picture] = lambda job: job.file if job.raster else read_image(job.file),
    windows: ByWindows | None = None,
    done: Done = lambda _job, _error, _seconds: None,
) -> PredictReport:
    """Label pictures in their order and write their results.

    Args:
        answers: of pictures of one size and their names; where it raises UserError for several, it is asked for each
            alone, and what it raises then is reported.
        read: in threads, ahead of the network, rasters as their paths; a UserError is reported.
        windows: labels the pictures that it takes, its outlines are all pictures'; None: all are whole, none a raster.
        done: told of each picture; what it raises stops the run.

    Raises:
        UserError: a disk that refuses the results.
    """
    work = _Work(answers, classes, windows, done)
    with ThreadPoolExecutor(_WRITES_AT_ONCE) as writers, _bars(progress) as show:
        ahead = read_ahead(read, jobs, ahead=max(2, batch_size))
        writing: deque[Future[None]] = deque()
        for batch in equal_batches(work.readable(ahead), lambda item: item[2], batch_size):
            job, image, together = batch[0]
            if together is job:
                work.by_windows(job, image, partial(show, "windows"))
            else:
                pictures = [(job, image) for job, image, _ in batch if not isinstance(image, Path)]
                for one in work.answered(pictures):
                    writing.append(writers.submit(work.write, *one))
                    work.written.append(one[0].file)
                    if len(writing) > _WRITES_AT_ONCE:
                        writing.popleft().result()
            show("predicted", len(work.written) + len(work.failed), len(jobs))
        for last in writing:
            last.result()
    return PredictReport(tuple(work.written), tuple(work.failed), () if windows is None else tuple(windows.notes))


class _Work:
    """What is done with jobs, as `write_jobs` says, and what came of them: files `written`, and `failed` with why."""

    def __init__(self, answers: Answers, classes: ClassSet, windows: ByWindows | None, done: Done) -> None:
        self._answers, self._classes, self._windows, self._done = answers, classes, windows, done
        self.written: list[Path] = []
        self.failed: list[tuple[Path, str]] = []

    def readable(
        self, ahead: Iterable[tuple[Job, Callable[[], Path | Picture]]]
    ) -> Iterator[tuple[Job, Path | Picture, object]]:
        """With what pictures that go together share: their shape, or the job of one that goes by windows."""
        windows = self._windows
        for job, result in ahead:
            try:
                image = result()
                check_looked_at(job)
                if windows is not None and not job.raster:
                    windows.note_place(job.file)
            except UserError as error:
                self._fail(job, error)
            else:
                yield job, image, job if windows is not None and windows.takes(image) else _shape(image)

    def answered(self, batch: list[tuple[Job, Picture]]) -> Iterator[tuple[Job, Picture, NDArray[Any], float]]:
        """Pictures of one size with their answers and the seconds of each."""
        began = time.monotonic()
        try:
            found = self._answers([job.name for job, _ in batch], [image for _, image in batch])
        except UserError as error:
            if len(batch) == 1:
                self._fail(batch[0][0], error)
            for one in batch if len(batch) > 1 else ():
                yield from self.answered([one])
        else:
            seconds = (time.monotonic() - began) / len(batch)
            yield from ((job, image, one, seconds) for (job, image), one in zip(batch, found))

    def write(self, job: Job, image: Picture, found: NDArray[Any], seconds: float) -> None:
        """The files of a picture that took so many seconds before."""
        began, outlines = time.monotonic(), EXACT if self._windows is None else self._windows.outlines
        write_results(job.results, image, found, self._classes, outlines=outlines)
        self._done(job, None, seconds + time.monotonic() - began)

    def by_windows(self, job: Job, image: Path | Picture, show: Callable[[int, int], None]) -> None:
        """The answers and files of a picture that goes by windows."""
        assert self._windows is not None
        began = time.monotonic()
        try:
            self._windows.write(job.file, image, job.results, show=show)
        except WriteError:
            raise
        except UserError as error:
            self._fail(job, error)
        else:
            self.written.append(job.file)
            self._done(job, None, time.monotonic() - began)

    def _fail(self, job: Job, error: UserError) -> None:
        self.failed.append((job.file, str(error)))
        self._done(job, str(error), 0.0)


def _shape(image: Path | Picture) -> tuple[int, ...]:
    assert not isinstance(image, Path), "rasters go by windows"
    return image.shape


@contextmanager
def _bars(progress: bool) -> Iterator[Callable[[str, int, int], None]]:
    """One of pictures and one of the windows of the picture in hand, on a terminal."""
    if not progress:
        yield lambda _stage, _done, _total: None
        return
    with counted_stages("predicted", "windows") as show:
        yield show
