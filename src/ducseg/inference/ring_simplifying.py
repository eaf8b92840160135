"""Douglas and Peucker's simplification of borders that two regions share, the same from both sides.

A ring is cut at its junctions, where three or more borders meet and which stay; each part is simplified by arithmetic
whose result does not depend on the direction, so that neighbours still meet.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.files import compiled

__all__ = ["points_kept"]


def points_kept(
    points: NDArray[np.int32], junctions: NDArray[np.bool_], begins: NDArray[Any], tolerance: float
) -> NDArray[np.bool_]:
    """Which points of rings stay, so that the others lie within the tolerance of what is left.

    Args:
        points: (n, 2), the rings one after the other, none closed.
        junctions: (n) points that stay.
        begins: where each ring begins, and n last.
        tolerance: in pixels, above 0.

    Returns:
        (n); all points of a ring where fewer than three points or no area would be left.
    """
    kept: NDArray[np.bool_] = _kept(points.astype(np.int64), junctions.copy(), begins, float(tolerance))
    return kept


@compiled()
def _kept(points: Any, kept: Any, begins: Any, tolerance: Any) -> Any:
    for ring in range(len(begins) - 1):
        part = points[begins[ring] : begins[ring + 1]]
        keep = kept[begins[ring] : begins[ring + 1]]
        if not keep.any():
            first = _furthest(part, 0, len(part), part[0], part[0], -1.0, True)
            keep[first] = True
            keep[_furthest(part, 0, len(part), part[first], part[first], -1.0, False)] = True
        anchors = np.flatnonzero(keep)
        stack = [(anchors[index], anchors[index + 1]) for index in range(len(anchors) - 1)]
        stack.append((anchors[-1], anchors[0] + len(part)))
        while stack:
            begin, end = stack.pop()
            ends = part[begin], part[end % len(part)]
            chosen = _furthest(part, begin + 1, end, ends[0], ends[1], tolerance * tolerance, False)
            if chosen >= 0:
                keep[chosen % len(part)] = True
                stack.append((begin % len(part), begin % len(part) + chosen - begin))
                stack.append((chosen % len(part), chosen % len(part) + end - chosen))
        if keep.sum() < 3 or _no_area(part[keep]):
            keep[:] = True
    return kept


@compiled()
def _furthest(points: Any, begin: Any, end: Any, one: Any, other: Any, least: Any, first: Any) -> Any:
    """The place, counted on round the ring, further than `least` (squared) from a segment; equally far: the first by x
    and y. With `first` the first by x and y of all. -1: none.
    """
    worst, chosen = least, -1
    for index in range(begin, end):
        point = points[index % len(points)]
        away = 0.0 if first else _squared_distance(point, one, other)
        if away < worst or (away == worst and chosen < 0):
            continue
        best = points[chosen % len(points)]
        if away > worst or point[0] < best[0] or (point[0] == best[0] and point[1] < best[1]):
            worst, chosen = away, index
    return chosen


@compiled()
def _no_area(ring: Any) -> Any:
    twice = 0
    for index in range(len(ring)):
        twice += ring[index - 1, 0] * ring[index, 1] - ring[index - 1, 1] * ring[index, 0]
    return twice == 0


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
    across = float((point[0] - begin[0]) * along_y - (point[1] - begin[1]) * along_x)
    return across * across / float(length)  # of 60,000 pixels a side the square is beyond 64 bits
