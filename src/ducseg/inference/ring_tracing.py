"""The borders of the connected regions of a label map, as rings of pixel corners.

Regions are found from runs of equal pixels in rows, so the memory grows with the borders, not with the picture. A
walk keeps its region on the right-hand side (y runs down); where four pixels meet like a chessboard it goes on to the
diagonal one only if that is of the same region, so that no ring meets itself.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE
from ducseg.files import compiled

__all__ = ["rings_of"]

Ints = NDArray[Any]


def rings_of(
    labels: NDArray[np.uint8], *, with_junctions: bool = False
) -> tuple[NDArray[np.int32], NDArray[np.bool_], Ints, Ints, Ints]:
    """The rings of all regions of labels (H, W) but those of 255.

    Args:
        with_junctions: keep the corners where three or more borders meet, also on straight lines.

    Returns:
        points (n, 2), x and y of the corners, no ring closed; which of them are junctions (n); where each ring begins,
        and n last; the region of each ring, the outer ring before the holes; the pixels of each region.
    """
    labels = np.ascontiguousarray(labels)  # the kernels would be compiled anew for every other order
    starts, first = _runs(labels)
    regions, pixels = _regions(labels, starts, first)
    points, junctions, begins, owners = _trace(labels, starts, first, regions, with_junctions)
    return points, junctions, begins, owners, pixels


@compiled()
def _runs(labels: Any) -> Any:
    """Column where each run of equal pixels begins, and for each row its first run (H + 1)."""
    height, width = labels.shape
    first = np.zeros(height + 1, np.int64)
    for y in range(height):
        count = 1
        for x in range(1, width):
            count += labels[y, x] != labels[y, x - 1]
        first[y + 1] = first[y] + count
    starts = np.empty(first[height], np.int32)
    for y in range(height):
        place = first[y]
        for x in range(width):
            if x == 0 or labels[y, x] != labels[y, x - 1]:
                starts[place] = x
                place += 1
    return starts, first


@compiled()
def _root(parents: Any, run: Any) -> Any:
    while parents[run] != run:
        parents[run] = parents[parents[run]]
        run = parents[run]
    return run


@compiled()
def _regions(labels: Any, starts: Any, first: Any) -> Any:
    """The region of each run, numbered by first runs, and the pixels of each region."""
    height, width = labels.shape
    parents = np.arange(len(starts))
    for y in range(1, height):
        above, below = first[y - 1], first[y]
        while above < first[y] and below < first[y + 1]:
            if labels[y - 1, starts[above]] == labels[y, starts[below]]:
                one, other = _root(parents, above), _root(parents, below)
                parents[max(one, other)] = min(one, other)
            above_ends = starts[above + 1] if above + 1 < first[y] else width
            below_ends = starts[below + 1] if below + 1 < first[y + 1] else width
            above += above_ends <= below_ends
            below += below_ends <= above_ends
    regions = np.empty(len(starts), np.int32)
    count = 0
    for run in range(len(starts)):
        root = _root(parents, run)
        if root == run:
            regions[run] = count
            count += 1
        else:
            regions[run] = regions[root]
    pixels = np.zeros(count, np.int64)
    for y in range(height):
        for run in range(first[y], first[y + 1]):
            ends = starts[run + 1] if run + 1 < first[y + 1] else width
            pixels[regions[run]] += ends - starts[run]
    return regions, pixels


@compiled()
def _value(labels: Any, y: Any, x: Any) -> Any:
    height, width = labels.shape
    return np.int64(labels[y, x]) if 0 <= y < height and 0 <= x < width else np.int64(-1)


@compiled()
def _region_at(starts: Any, first: Any, regions: Any, y: Any, x: Any) -> Any:
    run = first[y] + np.searchsorted(starts[first[y] : first[y + 1]], x, side="right") - 1
    return regions[run]


@compiled()
def _is_junction(labels: Any, y: Any, x: Any) -> Any:
    """Whether three or more borders meet in a corner."""
    nw, ne = _value(labels, y - 1, x - 1), _value(labels, y - 1, x)
    sw, se = _value(labels, y, x - 1), _value(labels, y, x)
    return (nw != ne) + (ne != se) + (se != sw) + (sw != nw) >= 3


@compiled()
def _trace(labels: Any, starts: Any, first: Any, regions: Any, with_junctions: Any) -> Any:
    height, width = labels.shape
    done = np.zeros((height, width), np.bool_)  # top edges that a ring has passed
    points, junctions = np.empty((1024, 2), np.int32), np.empty(1024, np.bool_)
    begins, owners = np.empty(256, np.int64), np.empty(256, np.int32)
    # by direction (right, down, left, up): a step, and the pixels ahead on the right and on the left of a corner
    step_x, step_y = (1, 0, -1, 0), (0, 1, 0, -1)
    right_x, right_y = (0, -1, -1, 0), (0, 0, -1, -1)
    left_x, left_y = (0, 0, -1, -1), (-1, 0, 0, -1)
    count = rings = 0
    for row in range(height):
        for column in range(width):
            label = np.int64(labels[row, column])
            if done[row, column] or label == IGNORE or _value(labels, row - 1, column) == label:
                continue
            region = _region_at(starts, first, regions, row, column)
            if rings + 1 >= len(begins):
                begins = np.concatenate((begins, np.empty_like(begins)))
                owners = np.concatenate((owners, np.empty_like(owners)))
            begins[rings], owners[rings] = count, region
            rings += 1
            x, y, ahead = column, row, 0
            turned = True
            while True:
                junction = with_junctions and _is_junction(labels, y, x)
                if turned or junction:
                    if count >= len(points):
                        points = np.concatenate((points, np.empty_like(points)))
                        junctions = np.concatenate((junctions, np.empty_like(junctions)))
                    points[count, 0], points[count, 1], junctions[count] = x, y, junction
                    count += 1
                if ahead == 0:
                    done[y, x] = True
                x += step_x[ahead]
                y += step_y[ahead]
                on_right = _value(labels, y + right_y[ahead], x + right_x[ahead]) == label
                left_at_y, left_at_x = y + left_y[ahead], x + left_x[ahead]
                on_left = _value(labels, left_at_y, left_at_x) == label
                if on_left and not on_right:
                    on_left = _region_at(starts, first, regions, left_at_y, left_at_x) == region
                turned = on_left or not on_right
                if on_left:
                    ahead = (ahead + 3) % 4
                elif not on_right:
                    ahead = (ahead + 1) % 4
                if x == column and y == row and ahead == 0:
                    break
    begins[rings] = count
    return points[:count].copy(), junctions[:count].copy(), begins[: rings + 1].copy(), owners[:rings].copy()
