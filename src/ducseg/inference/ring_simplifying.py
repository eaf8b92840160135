"""Douglas and Peucker's simplification of borders that two regions share, the same from both sides.

A ring is cut at its junctions, where three or more borders meet and which stay; each part is simplified by whole-number
arithmetic whose result does not depend on the direction, so that neighbours still meet.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.files import compiled

__all__ = ["simplified"]


def simplified(points: NDArray[np.int32], junctions: NDArray[np.bool_], tolerance: float) -> NDArray[np.int32]:
    """The ring (n, 2), not closed, without the points that lie within the tolerance of what is left.

    Args:
        junctions: (n) points that stay.
        tolerance: in pixels, above 0.

    Returns:
        (m, 2); the ring as it was where fewer than three points or no area would be left.
    """
    anchors = np.flatnonzero(junctions)
    if not anchors.size:
        x, y = points.astype(np.int64).T
        lowest = np.lexsort((y, x))[0]
        away = (x - x[lowest]) ** 2 + (y - y[lowest]) ** 2
        anchors = np.sort([lowest, np.lexsort((y, x, -away))[0]])
    ring = np.roll(points, -anchors[0], axis=0).astype(np.int64)
    closed = np.concatenate([ring, ring[:1]])
    ends = np.append(anchors - anchors[0], len(ring))
    kept = ring[_kept(closed, ends, float(tolerance))[:-1]]
    x, y = kept.T
    area = np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))
    return points if len(kept) < 3 or area == 0 else kept.astype(np.int32)


@compiled()
def _kept(points: Any, ends: Any, tolerance: Any) -> Any:
    """Which points stay of a closed ring, between neighbours of `ends`."""
    keep = np.zeros(len(points), np.bool_)
    keep[ends] = True
    stack = [(ends[index], ends[index + 1]) for index in range(len(ends) - 1)]
    while stack:
        begin, end = stack.pop()
        worst, chosen = tolerance * tolerance, -1
        for index in range(begin + 1, end):
            away = _squared_distance(points[index], points[begin], points[end])
            tie = chosen >= 0 and away == worst
            if away > worst or (tie and _comes_before(points[index], points[chosen])):
                worst, chosen = away, index
        if chosen >= 0:
            keep[chosen] = True
            stack.append((begin, chosen))
            stack.append((chosen, end))
    return keep


@compiled()
def _comes_before(one: Any, other: Any) -> Any:
    """Whether a point comes first by x, then y."""
    return one[0] < other[0] or (one[0] == other[0] and one[1] < other[1])


@compiled()
def _squared_distance(point: Any, begin: Any, end: Any) -> Any:
    """From a point to a segment; the same number with its ends swapped."""
    along_x, along_y = end[0] - begin[0], end[1] - begin[1]
    from_begin = (point[0] - begin[0]) * along_x + (point[1] - begin[1]) * along_y
    length = along_x * along_x + along_y * along_y
    if from_begin <= 0:
        return float((point[0] - begin[0]) ** 2 + (point[1] - begin[1]) ** 2)
    if from_begin >= length:
        return float((point[0] - end[0]) ** 2 + (point[1] - end[1]) ** 2)
    across = (point[0] - begin[0]) * along_y - (point[1] - begin[1]) * along_x
    return float(across * across) / float(length)
