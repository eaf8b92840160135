"""A picture in windows that overlap, their probabilities blended, finished parts handed out while the rest is to come.

Legend: H, W pixels of the picture, L classes, t side of a window, o overlap, d the network's grid.

- Windows have one size and start at multiples of d counted from the picture's corner, so the network sees each pixel
  at the place of its grid that it has in the whole picture. t and o are rounded up to multiples of d. A side not longer
  than t is one window; along a longer one the windows are spread evenly, so that they overlap by o or a little more.
- A quarter of the overlap (o / 4) at the sides of a window is not used: there the network sees the window's end and not
  what lies behind. At the picture's border the windows stick out by as much and show it reflected. So where a network
  looks no further than o / 4 (its receptive field is at most o / 2 wide), the answer is that of the whole picture,
  but within that distance of the border, where the whole picture ends and the reflected one goes on.
- What is left is weighted by a Gaussian around the window's middle (deviation t / 8), along each side; the weights of
  all windows add up to 1 at each pixel. A pixel of one window alone has that window's answer unchanged.

Windows go row by row. What a row of windows leaves unfinished is kept: L x (o / 2) x W numbers of 4 or 2 bytes, up to
rounding, beside one window's L x t x t and the 3 x t x W bytes of the pixels. Nothing grows with H.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import InitVar, dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ducseg.classes import IGNORE
from ducseg.errors import explain, whole
from ducseg.models.segmenter import most_probable

__all__ = ["TILE", "Answers", "Block", "PictureRows", "PixelsInMemory", "Tiling", "answer_windows", "assemble"]

TILE = 1024
"""Side of a window where none is given."""

Answers = Callable[[Sequence[NDArray[np.uint8]]], Sequence[NDArray[np.float32]]]
"""RGB uint8 (h, w, 3) of one size, to float32 probabilities (L, h, w) of each."""


class PictureRows(Protocol):
    """A picture that is read by rows, so that it need not be in memory."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""

    def rows(self, begin: int, end: int) -> NDArray[np.uint8]:
        """RGB uint8 (end - begin, W, 3)."""

    def known(self, begin: int, end: int) -> NDArray[np.bool_] | None:
        """Where the picture has pixels (end - begin, W); None: everywhere."""


@dataclass(frozen=True)
class PixelsInMemory:
    """A picture that is in memory, RGB uint8 (H, W, 3)."""

    image: NDArray[np.uint8]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.image.shape[0], self.image.shape[1]

    def rows(self, begin: int, end: int) -> NDArray[np.uint8]:
        """A view of some rows."""
        return self.image[begin:end]

    def known(self, begin: int, end: int) -> None:
        """Everywhere."""


@dataclass(frozen=True)
class Tiling:
    """How a picture is cut.

    Attributes:
        tile: t, side of a window in pixels.
        overlap: o, of neighbours, in pixels; None: a quarter of the tile.
        half: keep what a row of windows leaves unfinished in float16, half of that memory, right to about 0.0005.
        dashes: before the names in messages: "--" where they are options.

    Raises:
        UserError: a tile below 1, an overlap below 0 or not below the tile.
    """

    tile: int = TILE
    overlap: int | None = None
    half: bool = False
    dashes: InitVar[str] = ""

    def __post_init__(self, dashes: str) -> None:
        whole(f"{dashes}tile", self.tile, least=1, fix="1024 is usual; a smaller one takes less memory.")
        if self.overlap is not None:
            whole(f"{dashes}overlap", self.overlap, fix="A quarter of the tile is usual.")
            if self.overlap >= self.tile:
                raise explain(
                    f"{dashes}overlap {self.overlap}",
                    found=f"not less than the tile, {self.tile}",
                    needed="less, or the windows would not get on",
                    fix=f"A quarter of the tile is usual: {dashes}overlap {self.tile // 4}.",
                )

    @classmethod
    def given(cls, tile: int | None, overlap: int | None, *, half: bool = False, dashes: str = "") -> "Tiling | None":
        """None where none is given."""
        if (tile, overlap, half) == (None, None, False):
            return None
        return cls(TILE if tile is None else tile, overlap, half, dashes)

    def on_grid(self, grid: int) -> tuple[int, int]:
        """t and o in multiples of the grid, t above o."""
        overlap = -(-(self.tile // 4 if self.overlap is None else self.overlap) // grid) * grid
        return max(-(-self.tile // grid) * grid, overlap + grid), overlap

    def cuts(self, size: tuple[int, int], grid: int) -> bool:
        """Whether a picture (H, W) is more than one window."""
        return max(size) > self.on_grid(grid)[0]


@dataclass(frozen=True)
class Block:
    """A finished part of a picture.

    Attributes:
        rows, columns: where.
        probabilities: float32 (L, h, w); the receiver's own.
        known: where there are pixels (h, w); None: everywhere.
    """

    rows: slice
    columns: slice
    probabilities: NDArray[np.float32]
    known: NDArray[np.bool_] | None

    def labels(self) -> NDArray[np.uint8]:
        """The most probable classes, uint8 (h, w); 255 where nothing is known."""
        labels: NDArray[np.uint8] = most_probable(torch.from_numpy(self.probabilities)[None])[0].numpy()
        if self.known is not None:
            labels[~self.known] = IGNORE
        return labels


class Windows:
    """The windows along one side of a picture.

    Attributes:
        length: of the side; size: of a window; starts: of the windows, the first may be below 0, the last may end
        beyond the side; trim: what is not used of a window at both ends.
    """

    def __init__(self, length: int, tiling: Tiling, grid: int) -> None:
        tile, overlap = tiling.on_grid(grid)
        self.length, self.size, self.starts, self.trim = length, length, [0], 0
        if length > tile:
            self.size, self.trim = tile, overlap // 4
            before = -(-self.trim // grid)
            steps = before + -(-(length + self.trim - tile) // grid)
            last = -(-steps * grid // (tile - overlap))
            self.starts = [grid * (steps * number // last - before) for number in range(last + 1)]
        self._total = np.zeros(length)
        for number in range(len(self.starts)):
            begin, end = self.used(number)
            self._total[begin:end] += self._bell(number)

    def used(self, number: int) -> tuple[int, int]:
        """The part of the side that a window answers for."""
        start = self.starts[number]
        return max(0, start + self.trim), min(self.length, start + self.size - self.trim)

    def finished(self, number: int) -> int:
        """How much of the side is finished with a window."""
        return self.length if number + 1 == len(self.starts) else self.starts[number + 1] + self.trim

    def weights(self, number: int) -> NDArray[np.float32]:
        """Of the used part of a window; those of all windows add up to 1."""
        begin, end = self.used(number)
        return (self._bell(number) / self._total[begin:end]).astype(np.float32)

    def _bell(self, number: int) -> NDArray[np.float64]:
        begin, end = self.used(number)
        places = (np.arange(begin, end) - self.starts[number] - (self.size - 1) / 2) / self.size
        return np.exp(-0.5 * (8 * places) ** 2)


def answer_windows(
    pixels: PictureRows,
    answers: Answers,
    tiling: Tiling,
    *,
    classes: int,
    grid: int,
    from_row: int = 0,
    at_once: int = 1,
    show: Callable[[int, int], None] = lambda _done, _total: None,
) -> Iterator[Block]:
    """The probabilities of a picture, finished block by finished block: all blocks of a row of windows, then the next.

    Args:
        answers: asked for windows, reflected beyond the picture's border; not for windows of which nothing is known.
        classes: L.
        grid: d.
        from_row: go on after this row, which earlier blocks ended with; the rest is what it would have been.
        at_once: so many windows of a row are asked for together.
        show: told after each window of how many are done.
    """
    height, width = pixels.size
    down, across = Windows(height, tiling, grid), Windows(width, tiling, grid)
    numbers = [number for number in range(len(down.starts)) if down.used(number)[1] > from_row]
    most_left = max(down.used(number)[1] - down.finished(number) for number in numbers)
    kept, left = np.empty((classes, most_left, width), np.float16 if tiling.half else np.float32), 0
    for number in numbers:
        start, (begin, end), finished = down.starts[number], down.used(number), down.finished(number)
        first, last, rows = _reflected(start, down.size, height)
        image, known = pixels.rows(first, last)[rows], pixels.known(first, last)
        known = None if known is None else known[rows]
        weights = down.weights(number)[:, None]
        done = len(across.starts) * number

        def told(windows: int, done: int = done) -> None:
            show(done + windows, len(across.starts) * len(down.starts))

        used = slice(begin - start, end - start)
        for columns, found in _across(image, known, used, across, answers, classes, at_once, told):
            found *= weights
            found[:, :left] += kept[:, :left, columns]
            ready = finished - begin
            kept[:, : end - finished, columns] = found[:, ready:]
            if finished > from_row:
                there = None if known is None else known[used][:ready, columns]
                yield Block(slice(begin, finished), columns, found[:, :ready], there)
        left = end - finished


def assemble(blocks: Iterator[Block], size: tuple[int, int], classes: int | None) -> NDArray[np.generic]:
    """Labels uint8 (H, W) of all blocks of a picture, or with the number of classes probabilities float32 (L, H, W)."""
    if classes is None:
        labels = np.empty(size, np.uint8)
        for block in blocks:
            labels[block.rows, block.columns] = block.labels()
        return labels
    probabilities = np.empty((classes, *size), np.float32)
    for block in blocks:
        probabilities[:, block.rows, block.columns] = block.probabilities
    return probabilities


def _across(
    image: NDArray[np.uint8],
    known: NDArray[np.bool_] | None,
    used: slice,
    across: Windows,
    answers: Answers,
    classes: int,
    at_once: int,
    told: Callable[[int], None],
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Finished columns of a row of windows, (L, used rows, columns) each."""
    kept = np.empty((classes, used.stop - used.start, 0), np.float32)
    for first in range(0, len(across.starts), at_once):
        numbers = range(first, min(first + at_once, len(across.starts)))
        windows, wanted = [], []
        for number in numbers:
            low, high, columns = _reflected(across.starts[number], across.size, across.length)
            if known is None or known[:, low:high].any():
                windows.append(np.ascontiguousarray(image[:, low:high][:, columns]))
                wanted.append(number)
        answered = dict(zip(wanted, answers(windows))) if windows else {}
        for number in numbers:
            start, (begin, end), finished = across.starts[number], across.used(number), across.finished(number)
            found = np.zeros((classes, len(kept[0]), end - begin), np.float32)
            if number in answered:
                np.multiply(
                    answered.pop(number)[:, used, begin - start : end - start], across.weights(number), out=found
                )
            found[:, :, : kept.shape[2]] += kept
            kept = found[:, :, finished - begin :].copy()
            told(number + 1)
            yield slice(begin, finished), found[:, :, : finished - begin]


def _reflected(start: int, size: int, length: int) -> tuple[int, int, NDArray[np.int64]]:
    """What lies in a window that may stick out of 0..length: the part to be read, first and last + 1, and the places
    in it of the window's pixels, reflected at the border without doubling it.
    """
    period = max(1, 2 * length - 2)
    places = np.abs((np.arange(start, start + size) + length - 1) % period - (length - 1))
    first, last = int(places.min()), int(places.max()) + 1
    return first, last, places - first
