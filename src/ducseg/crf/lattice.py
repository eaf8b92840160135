"""The permutohedral lattice of an image's pixels, built with numba on all cores.

Adams, Baek, Davis: "Fast High-Dimensional Filtering Using the Permutohedral Lattice" (2010), with the scaling and
the normalisation of Kraehenbuehl and Koltun's dense CRF (2011) and its public implementation, so that the answers
agree. A Gaussian filter over d-dimensional features becomes: *splat* each pixel onto the d + 1 corners of its
simplex, *blur* along the d + 1 axes of the lattice with (1/2, 1, 1/2), *slice* back. Only corners that a pixel
touches exist; a missing neighbour counts as zero.

Vertices are ordered by their place in the image: in *columns* along y, and within a column in *chunks* of whole
rows of the lattice. Blurring along axes 0 and 1 reaches into the next column, along axis 2 into the next chunk,
along axes 3 and up no further than the chunk; so each pass over memory can do several axes while their rows are in
the cache.

Legend: N pixels in strip order, d feature dimensions (2: place; 5: place and colour), R rows of values. A row
belongs to a vertex, or is the first of its column and stays zero: there missing neighbours point.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ducseg.crf.distinct import distinct
from ducseg.crf.simd import compiled
from ducseg.crf.simplex import KeyLayout, elevation, embed
from ducseg.crf.workers import Workers

__all__ = ["Lattice", "build_lattice"]

CHUNK = 64  # vertices in a chunk, at least: enough to keep the bookkeeping small, few enough for the nearest cache
BLOCK = 1024  # pixels of which the least and greatest row are known
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Keys = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Lattice:
    """Where each pixel goes, from where each vertex gathers, and which vertices are neighbours.

    offsets (N, d+1) int32 and weights (N, d+1) float32: a pixel's rows and its share of each. starts (R+1,) int32,
    sources, source_weights (N*(d+1),): the same the other way round, row r gathering
    sources[starts[r]:starts[r+1]]. neighbours (d+1, R, 2) int32: the next and the previous row along each axis;
    counted from the start of the neighbour's column for axes 0 to 2, and from one before the chunk's first row for
    axes 3 and up; 0 is the missing one. columns (C+1,) int32: first rows of the columns; the first and last column
    hold no vertex. chunks int32: first rows of the chunks, of which column c owns first_chunks[c] to first_chunks[c
    + 1]. The weights hold the symmetric normalisation: filtering is splat, blur, slice and nothing else.
    """

    offsets: Ints
    weights: Floats
    starts: Ints
    sources: Ints
    source_weights: Floats
    neighbours: Ints
    columns: Ints
    chunks: Ints
    first_chunks: Ints

    @property
    def num_rows(self) -> int:
        return int(self.columns[-1])

    @property
    def num_axes(self) -> int:
        return int(self.offsets.shape[1])


def build_lattice(image: npt.NDArray[np.uint8], sigmas: Sequence[float], workers: Workers) -> Lattice:
    """The lattice of an (H, W, 3) image for features x, y (and r, g, b), each divided by its sigma.

    Raises UserError when the widths are so small that the lattice's coordinates do not fit 62 bits.
    """
    height, width = image.shape[:2]
    count, corners = height * width, len(sigmas) + 1
    layout = KeyLayout((width - 1, height - 1, 255, 255, 255)[: len(sigmas)], sigmas)
    # The original takes pixels in fours and fills up the last four with black ones at (0, 0), which weigh nothing;
    # but their corners exist and pass values on, which shows in dark and in tiny images.
    keys = np.empty((count + (count % 4 > 0), corners), np.int64)
    keys[-1] = layout.simplex_of_zero()
    weights = np.empty((count, corners), np.float32)
    widths, scale = np.array(sigmas, np.float32), elevation(len(sigmas))
    spots = (layout.origin, layout.unit, layout.step)
    workers.ranges(embed, count, image, widths, scale, *spots, keys, weights, (0,) * corners)
    vertices = distinct(keys.reshape(-1), corners, layout.span, workers)
    del keys

    rows, columns, chunks, first_chunks = _arrange(vertices.keys, layout)
    offsets = vertices.numbers[: count * corners].reshape(count, corners)
    workers.ranges(_replace, count, offsets, rows)
    row_columns, row_chunks = _bases(columns, chunks)
    neighbours = np.zeros((corners, columns[-1], 2), np.int32)
    for axis in range(corners):
        bases = columns[row_columns] if axis < 3 else row_chunks
        spans = workers.spans(len(rows))
        others = np.searchsorted(vertices.keys, vertices.keys[[first for first, _ in spans]] + layout.step[axis])
        workers.each(
            lambda i: _link(*spans[i], vertices.keys, layout.step[axis], others[i], rows, bases, neighbours[axis]),  # noqa: B023
            len(spans),
        )

    starts, sources, source_weights = _gather_lists(offsets, weights, int(columns[-1]), workers)
    lattice = Lattice(offsets, weights, starts, sources, source_weights, neighbours, columns, chunks, first_chunks)
    _normalise(lattice, row_columns, row_chunks, workers)
    return lattice


@compiled
def _replace(first: int, last: int, offsets: Any, rows: Any) -> None:
    """Numbers of vertices become their rows."""
    for n in range(first, last):
        for k in range(offsets.shape[1]):
            offsets[n, k] = rows[offsets[n, k]]


def _arrange(keys: Keys, layout: KeyLayout) -> tuple[Ints, Ints, Ints, Ints]:
    """Give the vertices, in order of their keys, their rows: (rows, columns, chunks, first_chunks) as in `Lattice`."""
    x = keys // layout.column_stride
    ends = np.flatnonzero(np.diff(x)) + 1
    # every column begins with a row of its own that is no vertex, and an empty column stands on either side
    cuts = np.array([0, 0, *ends, len(keys), len(keys)], np.int64)
    columns = (cuts + np.arange(len(cuts))).astype(np.int32)
    rows = (np.arange(1, len(keys) + 1) + np.repeat(np.arange(len(cuts) - 1), np.diff(cuts))).astype(np.int32)
    cells = np.empty(columns[-1], np.int64)
    cells[rows] = keys // layout.row_stride
    chunks, count, first_chunks = _cut_chunks(columns, cells)
    return rows, columns, chunks[: count + 1].copy(), first_chunks


def _bases(columns: Ints, chunks: Ints) -> tuple[Ints, Ints]:
    """For each row, its column and the row that neighbours within its chunk are counted from."""
    row_columns = np.repeat(np.arange(len(columns) - 1, dtype=np.int32), np.diff(columns))
    return row_columns, np.repeat(chunks[:-1], np.diff(chunks)) - 1


@compiled
def _cut_chunks(columns: Any, row_cells: Any) -> Any:
    """Cut each column where the cell changes, once a chunk has `CHUNK` rows."""
    chunks = np.empty(len(row_cells) + 1, np.int32)
    first_chunks = np.empty(len(columns), np.int32)
    count = 0
    for column in range(len(columns) - 1):
        first_chunks[column] = count
        begin = columns[column]
        chunks[count] = begin
        count += 1
        for row in range(begin + 2, columns[column + 1]):
            if row - begin >= CHUNK and row_cells[row] != row_cells[row - 1]:
                begin = row
                chunks[count] = begin
                count += 1
    first_chunks[-1] = count
    chunks[count] = len(row_cells)
    return chunks, count, first_chunks


@compiled
def _link(first: int, last: int, keys: Any, step: int, other: int, rows: Any, bases: Any, neighbours: Any) -> None:
    """Find the vertex one step further along an axis; that vertex's previous one is this one.

    Keys ascend, so the keys sought ascend too, and one walk along both, from `other` on, finds them.
    """
    for vertex in range(first, last):
        sought = keys[vertex] + step
        while other < len(keys) and keys[other] < sought:
            other += 1
        if other < len(keys) and keys[other] == sought:
            here, there = rows[vertex], rows[other]
            neighbours[here, 0] = there - bases[there]
            neighbours[there, 1] = here - bases[here]


def _gather_lists(offsets: Ints, weights: Floats, rows: int, workers: Workers) -> tuple[Ints, Ints, Floats]:
    """Invert `offsets`: for each row its pixels and weights, in pixel order whatever the number of threads."""
    blocks = -(-len(offsets) // BLOCK)
    lows, highs = np.empty(blocks, np.int32), np.empty(blocks, np.int32)
    workers.ranges(_reach, blocks, offsets, lows, highs)
    starts = np.zeros(rows + 1, np.int32)
    workers.ranges(_count_sources, rows, offsets, lows, highs, starts)
    np.cumsum(starts, out=starts)
    sources = np.empty(offsets.size, np.int32)
    source_weights = np.empty(offsets.size, np.float32)
    workers.ranges(_fill_sources, rows, offsets, lows, highs, weights, starts, sources, source_weights)
    return starts, sources, source_weights


@compiled
def _reach(first: int, last: int, offsets: Any, lows: Any, highs: Any) -> None:
    """The least and the greatest row of each block of pixels first..last: threads skip what is not theirs."""
    for block in range(first, last):
        low = high = offsets[block * BLOCK, 0]
        for n in range(block * BLOCK, min((block + 1) * BLOCK, len(offsets))):
            for k in range(offsets.shape[1]):
                low, high = min(low, offsets[n, k]), max(high, offsets[n, k])
        lows[block], highs[block] = low, high


@compiled
def _count_sources(first: int, last: int, offsets: Any, lows: Any, highs: Any, starts: Any) -> None:
    for block in range(len(lows)):
        if highs[block] < first or lows[block] >= last:
            continue
        for n in range(block * BLOCK, min((block + 1) * BLOCK, len(offsets))):
            for k in range(offsets.shape[1]):
                if first <= offsets[n, k] < last:
                    starts[offsets[n, k] + 1] += 1


@compiled
def _fill_sources(
    first: int, last: int, offsets: Any, lows: Any, highs: Any, weights: Any, starts: Any, sources: Any,
    source_weights: Any,
) -> None:  # fmt: skip
    fill = np.empty(last - first, np.int64)
    for row in range(first, last):
        fill[row - first] = starts[row]
    for block in range(len(lows)):
        if highs[block] < first or lows[block] >= last:
            continue
        for n in range(block * BLOCK, min((block + 1) * BLOCK, len(offsets))):
            for k in range(offsets.shape[1]):
                row = offsets[n, k]
                if first <= row < last:
                    entry = fill[row - first]
                    fill[row - first] = entry + 1
                    sources[entry] = n
                    source_weights[entry] = weights[n, k]


def _normalise(lattice: Lattice, row_columns: Ints, row_chunks: Ints, workers: Workers) -> None:
    """Put the symmetric normalisation 1 / sqrt(K 1) on both sides, and the blur's gain, into the weights.

    The gain 1 / (1 + 2^-d) of slicing is the original's: it only matters beside its 1e-20 against division by zero.
    """
    values, spare = np.empty(lattice.num_rows, np.float32), np.empty(lattice.num_rows, np.float32)
    workers.ranges(_splat_ones, lattice.num_rows, lattice.starts, lattice.source_weights, values)
    for axis in range(lattice.num_axes):
        workers.ranges(
            _blur_single, lattice.num_rows, axis, lattice.neighbours[axis], lattice.columns, row_columns, row_chunks,
            values, spare,
        )  # fmt: skip
        values, spare = spare, values
    gain = np.float32(1.0 / (1.0 + 2.0 ** -(lattice.num_axes - 1)))
    factors = np.empty(len(lattice.offsets), np.float32)
    workers.ranges(_scale_pixels, len(factors), lattice.offsets, lattice.weights, values, gain, factors)
    workers.ranges(_scale_sources, len(lattice.sources), lattice.sources, lattice.source_weights, factors)


@compiled
def _splat_ones(first: int, last: int, starts: Any, source_weights: Any, values: Any) -> None:
    for row in range(first, last):
        value = np.float32(0)
        for entry in range(starts[row], starts[row + 1]):
            value += source_weights[entry]
        values[row] = value


@compiled
def _blur_single(
    first: int, last: int, axis: int, neighbours: Any, columns: Any, row_columns: Any, row_chunks: Any, values: Any,
    out: Any,
) -> None:  # fmt: skip
    shift = 1 if axis == 0 else -1 if axis == 1 else 0
    for row in range(first, last):
        around = np.float32(0)
        for side in range(2):
            if neighbours[row, side] > 0:
                base = row_chunks[row] if axis > 2 else columns[row_columns[row] + shift * (1 - 2 * side)]
                around += values[base + neighbours[row, side]]
        out[row] = values[row] + np.float32(0.5) * around


@compiled
def _scale_pixels(first: int, last: int, offsets: Any, weights: Any, values: Any, gain: Any, factors: Any) -> None:
    for n in range(first, last):
        mass = np.float32(0)
        for k in range(offsets.shape[1]):
            mass += weights[n, k] * values[offsets[n, k]]
        factors[n] = np.sqrt(gain) / np.sqrt(mass * gain + np.float32(1e-20))
        for k in range(offsets.shape[1]):
            weights[n, k] *= factors[n]


@compiled
def _scale_sources(first: int, last: int, sources: Any, source_weights: Any, factors: Any) -> None:
    for entry in range(first, last):
        source_weights[entry] *= factors[sources[entry]]
