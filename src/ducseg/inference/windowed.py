"""Label one picture by windows and write its files; a run that was killed goes on where it was.

What is finished lies in a hidden folder beside the results, .NAME.windows: the labels and what else is asked for, as
arrays in files, and how many rows are done of what with what. A later run goes on with it only if all of that is the
same, and the labeller still gives the same answer for the middle of the picture; else it starts anew. The files get
their names when all is done.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.data.files.rasters import INSTALL, Raster, is_placed, is_raster, open_raster
from ducseg.devices import available_memory
from ducseg.errors import UserError, explain
from ducseg.files import parse_json, remove_folder, write_whole
from ducseg.inference.labeller import AveragingLabeller, Labeller, each, pixels_of
from ducseg.inference.memory import memory_needed
from ducseg.inference.tiles import Answers, Block, PictureRows, PixelsInMemory, Tiling, answer_windows
from ducseg.inference.writers import (
    EXACT,
    Kind,
    Outlines,
    Picture,
    as_confidence,
    overlay_factor,
    write_raster_results,
    write_results,
)
from ducseg.version import __version__

__all__ = ["ByWindows", "WriteError", "grid_of", "write_windowed"]

_GRID = 32  # of labellers that do not say theirs: a multiple of all output strides
_PROBE = 128  # pixels on both sides
_SAME = 1e-4
_SMALL = 1 << 28  # bytes that are always taken to be there
_MOST_OF_MEMORY = 0.8
Show = Callable[[int, int], None]


class WriteError(UserError):
    """A disk that refuses results: no other picture's can be written either."""


def _quiet(_done: int, _total: int) -> None:
    """Show nothing."""


def grid_of(labeller: Labeller) -> int:
    """At multiples of what a labeller's windows start."""
    return labeller.grid if isinstance(labeller, AveragingLabeller) else _GRID


class ByWindows:
    """Labels pictures by windows where that is asked for, and where they would not fit in memory whole.

    Args:
        labeller: gives probabilities; of rasters that are not cut, labels do.
        tiling: of all pictures that are longer than a window; None: the labeller's own, else the usual one for those
            that would take more than 0.8 of the free memory.
        at_once: so many windows go through the network together; outlines: of polygons.

    Attributes:
        outlines: as given.
        notes: what a person should know of a picture: that it was cut without being asked, that its overlay is smaller.
    """

    def __init__(
        self, labeller: Labeller, tiling: Tiling | None = None, *, at_once: int = 1, outlines: Outlines = EXACT
    ) -> None:
        own = labeller.tiling if isinstance(labeller, AveragingLabeller) else None
        self._labeller, self._tiling, self._at_once, self.outlines = labeller, tiling or own, at_once, outlines
        self.notes: list[tuple[Path, str]] = []

    def note_place(self, file: Path) -> None:
        """Note of a file that is read as a plain picture that its place is lost, where it has one.

        Raises:
            UserError: a file that cannot be read any more.
        """
        if not is_placed(file):
            return
        reason = "out of tars and URLs" if is_raster(file) else f"without rasterio (pip install {INSTALL})"
        self.notes.append((file, f"where it lies is not kept {reason}"))

    def takes(self, picture: Path | Picture) -> bool:
        """Whether a picture goes by windows; a path is a raster, which is always read by rows."""
        if isinstance(picture, Path):
            return True
        size = picture.shape[0], picture.shape[1]
        tiling = self._tiling or (Tiling() if self._short_of(size) else None)
        return tiling is not None and tiling.cuts(size, grid_of(self._labeller))

    def write(self, file: Path, picture: Path | Picture, results: Mapping[Kind, Path], *, show: Show = _quiet) -> None:
        """Label a picture that `takes` took and write its files, as `write_windowed`."""
        if isinstance(picture, Path):
            with open_raster(picture, pixels_of(self._labeller)) as raster:
                self._write(file, raster, raster.size, results, show)
            return
        self._write(file, picture, (picture.shape[0], picture.shape[1]), results, show)

    def _write(
        self, file: Path, picture: Raster | Picture, size: tuple[int, int], results: Mapping[Kind, Path], show: Show
    ) -> None:
        tiling, short = self._tiling, self._tiling is None and self._short_of(size)
        if tiling is None:
            tiling = Tiling() if short else Tiling(max(size))
        if short:
            tile, overlap = tiling.on_grid(grid_of(self._labeller))
            about = f"in windows of {tile}, overlapping by {overlap} (--tile, --overlap): whole it takes about {short}"
            self.notes.append((file, f"{size[0]} x {size[1]} pixels {about}"))
        if isinstance(picture, Raster) and "overlay" in results and overlay_factor(size) > 1:
            self.notes.append((file, f"the overlay is 1/{overlay_factor(size)} of its width and height"))
        write_windowed(
            self._labeller, file, picture, results, tiling, at_once=self._at_once, outlines=self.outlines, show=show
        )

    def _short_of(self, size: tuple[int, int]) -> str:
        """Memory needed and free in words, where a whole picture would take too much of it; else ""."""
        needed = memory_needed(self._labeller, size)
        if needed < _SMALL:
            return ""
        free = available_memory(getattr(self._labeller, "device", None))
        if needed < _MOST_OF_MEMORY * free:
            return ""
        return f"{needed / 1e9:.1f} GB of memory, of which {free / 1e9:.1f} are free"


def write_windowed(
    labeller: Labeller,
    file: Path,
    picture: Raster | Picture,
    results: Mapping[Kind, Path],
    tiling: Tiling,
    *,
    at_once: int = 1,
    outlines: Outlines = EXACT,
    show: Show = _quiet,
) -> None:
    """Label a picture by windows, see `ducseg.inference.tiles`, and write its files.

    Args:
        labeller: one that cuts into windows itself is asked for less than its tile; one that gives labels alone does
            for what is one window, without confidence and probabilities.
        file: where the picture comes from.
        results: where each kind goes, all beside each other; outlines: of polygons.
        at_once: so many windows go through the network together.
        show: told of windows done and in all.

    Raises:
        UserError: the picture is damaged, the labeller gives no probabilities or has not enough memory.
        WriteError: a disk refuses the files or has no room for them; what is done stays for a later run.
    """
    pixels: PictureRows = picture if isinstance(picture, Raster) else PixelsInMemory(picture)
    part = _Unfinished(_folder_of(results), labeller, file, pixels, results, tiling)
    with _explained(part.folder):
        try:
            _label(part, labeller, pixels, tiling, at_once, show)
        except UserError:  # of the picture or the labeller
            remove_folder(part.folder)
            raise
        try:
            _write(part, labeller, picture, results, outlines)
        except UserError as error:
            raise WriteError(*error.args) from error
        remove_folder(part.folder)


def _folder_of(results: Mapping[Kind, Path]) -> Path:
    kind, path = next(iter(results.items()))
    return path.with_name(f".{path.stem.removesuffix(f'_{kind}')}.windows")


def _label(
    part: "_Unfinished", labeller: Labeller, pixels: PictureRows, tiling: Tiling, at_once: int, show: Show
) -> None:
    done = part.resume()
    if done == pixels.size[0]:
        return
    blocks = answer_windows(
        pixels, _answers(labeller, pixels.size, tiling), tiling, classes=len(labeller.classes),
        grid=grid_of(labeller), from_row=done, at_once=at_once, show=show,
    )  # fmt: skip
    for end, row in groupby(blocks, lambda block: block.rows.stop):
        with part.arrays() as arrays:
            for block in row:
                _put(arrays, block)
        part.finished(end)


def _answers(labeller: Labeller, size: tuple[int, int], tiling: Tiling) -> Answers:
    """A labeller's probabilities; of one that gives labels alone 1 for each label, where a picture is one window."""
    if getattr(labeller, "gives_probabilities", True) or tiling.cuts(size, grid_of(labeller)):
        return lambda images: each(labeller, images, probabilities=True)
    of_label = np.eye(len(labeller.classes), dtype=np.float32)
    return lambda images: [np.moveaxis(of_label[labels], 2, 0) for labels in each(labeller, images)]


def _put(arrays: Mapping[str, NDArray[Any]], block: Block) -> None:
    place = block.rows, block.columns
    arrays["labels"][place] = block.labels()
    if "confidence" in arrays:
        sure = as_confidence(block.probabilities)
        arrays["confidence"][place] = sure if block.known is None else sure * block.known
    if "probabilities" in arrays:
        arrays["probabilities"][:, *place] = block.probabilities


def _write(
    part: "_Unfinished", labeller: Labeller, picture: Raster | Picture, results: Mapping[Kind, Path], outlines: Outlines
) -> None:
    drawn: dict[Kind, Path] = {kind: path for kind, path in results.items() if kind != "probabilities"}
    with part.arrays("r") as arrays:
        labels, sure = arrays["labels"], arrays.get("confidence")
        if isinstance(picture, Raster):
            write_raster_results(drawn, picture, labels, sure, labeller.classes, outlines=outlines)
        else:
            write_results(drawn, picture, np.asarray(labels), labeller.classes, confidence=sure, outlines=outlines)
    if "probabilities" in results:
        part.path("probabilities").replace(results["probabilities"])


class _Unfinished:
    """What is done of a picture, in a folder."""

    def __init__(
        self,
        folder: Path,
        labeller: Labeller,
        file: Path,
        pixels: PictureRows,
        results: Mapping[Kind, Path],
        tiling: Tiling,
    ) -> None:
        (height, width), count = pixels.size, len(labeller.classes)
        self.folder = folder
        self._forms: dict[str, tuple[type, tuple[int, ...]]] = {"labels": (np.uint8, (height, width))}
        if "confidence" in results:
            self._forms["confidence"] = (np.uint8, (height, width))
        if "probabilities" in results:
            self._forms["probabilities"] = (np.float16, (count, height, width))
        stat, grid = file.stat(), grid_of(labeller)
        self._of = {
            "version": __version__,
            "file": [str(file.absolute()), stat.st_size, stat.st_mtime_ns],
            "arrays": {name: list(shape) for name, (_, shape) in self._forms.items()},
            "windows": [*tiling.on_grid(grid), grid, *(["half"] * tiling.half)],
            "classes": labeller.classes.to_json(),
        }
        self._probe = _middle(labeller, pixels, tiling)

    def path(self, name: str) -> Path:
        """Of an array."""
        return self.folder / f"{name}.npy"

    def resume(self) -> int:
        """How many rows are done; all files are there afterwards, with all their room."""
        with suppress(FileNotFoundError, EOFError, ValueError, KeyError, TypeError):  # not a disk that fails for now
            state = parse_json((self.folder / "state.json").read_text(encoding="utf-8"))
            probe = np.load(self.path("probe"))
            if state["of"] == self._of and np.allclose(probe, self._probe, rtol=0, atol=_SAME):
                with self.arrays("r"):
                    return int(state["rows"])
        remove_folder(self.folder)
        self.folder.mkdir(parents=True)
        for name, (dtype, shape) in self._forms.items():
            _reserve(self.path(name), dtype, shape)
        np.save(self.path("probe"), self._probe)
        self.finished(0)
        return 0

    def finished(self, rows: int) -> None:
        """Note that so many rows are done and on the disk."""
        state = json.dumps({"of": self._of, "rows": rows})
        write_whole(self.folder / "state.json", state.encode())

    @contextmanager
    def arrays(self, mode: str = "r+") -> Iterator[dict[str, NDArray[Any]]]:
        """The arrays as memory maps; on the disk afterwards, and their pages given back."""
        found: dict[str, Any] = {}
        try:
            for name, (dtype, shape) in self._forms.items():
                found[name] = np.lib.format.open_memmap(self.path(name), mode=mode)
                if (found[name].dtype, found[name].shape) != (dtype, shape):
                    raise ValueError(name)
            yield found
        finally:
            while found:  # none is kept: Windows neither moves nor deletes a file that is mapped
                found.popitem()[1].flush()


def _middle(labeller: Labeller, pixels: PictureRows, tiling: Tiling) -> NDArray[np.float32]:
    """The labeller's answer for the middle of a picture, by which it is known again."""
    (top, bottom), (left, right) = (
        (max(0, (side - _PROBE) // 2), min(side, (side + _PROBE) // 2)) for side in pixels.size
    )
    window = np.ascontiguousarray(pixels.rows(top, bottom)[:, left:right])
    return np.asarray(_answers(labeller, pixels.size, tiling)([window])[0], np.float32)


def _reserve(path: Path, dtype: type, shape: tuple[int, ...]) -> None:
    """An array in a file that has its room on the disk: a memory map onto a full one would end the process."""
    np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape).flush()
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WriteError(
            *explain(
                f"unfinished results {folder}",
                found=error.strerror or str(error),
                needed="a folder that can be written, on a disk with room for all arrays",
                fix="Make room and start again: what is done is kept. Or choose another --out.",
            ).args
        ) from error
