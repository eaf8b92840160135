"""COCO's segmentations as masks: polygons and run-length codes, pixel for pixel as COCO's own maskApi draws them.

Legend: H, W pixels. Run-length codes count along the columns, from the top left, first pixels outside the object.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.errors import UserError, explain

__all__ = ["decode_counts", "decode_segmentation", "draw_polygon"]

Mask = NDArray[np.bool_]

_SCALE = 5.0  # maskApi walks along the outline in steps of a fifth of a pixel


def decode_segmentation(segmentation: Any, height: int, width: int) -> Mask:
    """The mask (H, W) of an annotation's "segmentation": a list of polygons, or a run-length code.

    Raises:
        UserError: another form, a run-length code of another size.
    """
    if isinstance(segmentation, list):
        mask = np.zeros((height, width), np.bool_)
        for polygon in segmentation:
            mask |= draw_polygon(polygon, height, width)
        return mask
    try:
        size, counts = tuple(segmentation["size"]), segmentation["counts"]
    except (KeyError, TypeError):
        raise _no_segmentation(f"{str(segmentation)[:60]!r}") from None
    if size != (height, width):
        raise _no_segmentation(f"a run-length code of size {size} in a picture of {height} x {width}")
    return _from_runs(decode_counts(counts) if isinstance(counts, str) else np.array(counts, np.int64), height, width)


def _from_runs(runs: NDArray[np.int64], height: int, width: int) -> Mask:
    if (runs < 0).any() or runs.sum() != height * width:
        raise _no_segmentation(f"a run-length code of {runs.sum()} pixels in a picture of {height} x {width}")
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T


def decode_counts(text: str) -> NDArray[np.int64]:
    """The runs of a compressed code (maskApi, rleFrString): 5 bits a character, from the third run on differences."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise _no_segmentation(f"the character {character!r} in a run-length code")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return np.array(runs, np.int64)


def draw_polygon(polygon: Sequence[float], height: int, width: int) -> Mask:
    """The mask (H, W) of one outline x1, y1, x2, y2, ... in pixels (maskApi, rleFrPoly).

    The outline is walked in steps of 1/5 pixel; where it passes from one column's centre line to the next, a pixel
    boundary in that column is noted; inside is below an odd number of boundaries.

    Raises:
        UserError: not at least three points.
    """
    if len(polygon) < 6 or len(polygon) % 2:
        raise _no_segmentation(f"a polygon of {len(polygon)} numbers")
    points = np.trunc(np.asarray(polygon, np.float64).reshape(-1, 2) * _SCALE + 0.5).astype(np.int64)
    u, v = _outline(points)
    crossing = u[1:] != u[:-1]
    column = np.where(u[1:] < u[:-1], u[1:], u[1:] - 1)[crossing]
    x = (column + 0.5) / _SCALE - 0.5
    y = (np.minimum(v[1:], v[:-1])[crossing] + 0.5) / _SCALE - 0.5
    within = (np.floor(x) == x) & (x >= 0) & (x <= width - 1)
    first_row = np.ceil(np.clip(y[within], 0, height)).astype(np.int64)
    boundaries = np.bincount(x[within].astype(np.int64) * height + first_row, minlength=height * width + 1)
    inside = np.asarray(np.cumsum(boundaries[: height * width]) % 2, np.bool_)
    return inside.reshape(width, height).T


def _outline(points: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every grid point on the closed outline, edge by edge: whole steps along the longer side, the other rounded."""
    start, end = points, np.roll(points, -1, axis=0)
    across = np.abs(end - start)[:, 0] >= np.abs(end - start)[:, 1]
    lengths = np.abs(end - start).max(1)
    edge = np.repeat(np.arange(len(points)), lengths + 1)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(lengths + 1) - lengths - 1, lengths + 1)
    # each edge is walked from its smaller coordinate, so that both directions round alike
    along = np.where(across, 0, 1)
    rows = np.arange(len(points))
    backwards = start[rows, along] > end[rows, along]
    low = np.where(backwards[:, None], end, start)
    high = np.where(backwards[:, None], start, end)
    rise = (high - low)[rows, 1 - along] / np.maximum(lengths, 1)
    step = np.where(backwards[edge], lengths[edge] - step, step)
    main = low[rows, along][edge] + step
    other = np.trunc(low[rows, 1 - along][edge] + rise[edge] * step + 0.5).astype(np.int64)
    return np.where(across[edge], main, other), np.where(across[edge], other, main)


def _no_segmentation(found: str) -> UserError:
    return explain(
        "segmentation",
        found=found,
        needed='polygons [[x1, y1, x2, y2, x3, y3, ...], ...] or {"size": [H, W], "counts": ...}',
        fix="Use COCO's instances_*.json.",
    )
