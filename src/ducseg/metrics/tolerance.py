"""Which pixels of one label map have their class within t pixels in another: matching by dilation with a disk.

Not one to one: whole objects are matched, not their centre lines, so a prediction that is a pixel too wide would leave
pixels without a partner and be counted wrong inside its own tolerance; and the papers on cracks count by dilation.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE
from ducseg.errors import explain
from ducseg.files import compiled
from ducseg.metrics.confusion import as_label_map, check_shape, check_values

__all__ = ["count_within"]

_compiled = compiled(nogil=True)


def count_within(
    source: NDArray[np.uint8], target: NDArray[np.uint8], tolerances: Sequence[float], num_classes: int
) -> NDArray[np.int64]:
    """Pixels of each class in `source` with a pixel of the same class in `target` at most t away.

    Args:
        source, target: label maps (H, W) of one size; 255 is no class.
        tolerances: T distances t in pixels, between pixel centres, ascending.

    Returns:
        int64 (T, L): what the closed disk of radius t around `target`'s pixels covers of `source`'s.

    Raises:
        UserError: not label maps, or of two shapes; a class outside 0..L-1 in `source`; no tolerances, or not ascending
            from 0 on.
    """
    source, target = (np.ascontiguousarray(as_label_map(one, "label map")) for one in (source, target))
    check_shape(target, source, "label map")
    check_values(np.bincount(source[source != IGNORE]), num_classes, "label map")
    if not len(tolerances) or list(tolerances) != sorted(tolerances) or tolerances[0] < 0:
        needed = "distances in pixels, ascending, none below 0"
        raise explain("tolerances", found=tolerances, needed=needed, fix="Take 0 1 2 5.")
    reach = int(tolerances[-1])
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    squares = rows**2 + columns**2
    nearest_first = np.argsort(squares, kind="stable")
    limits = np.array([t**2 for t in tolerances])
    nearest_first = nearest_first[squares[nearest_first] <= limits[-1]]
    offsets = np.stack([rows, columns], axis=1)[nearest_first]
    step = np.searchsorted(limits, squares[nearest_first])  # the first tolerance that reaches the offset
    first_reached: NDArray[np.int64] = np.zeros((len(limits), num_classes), np.int64)
    _count(source, target, offsets, step, first_reached)
    return first_reached.cumsum(axis=0)


@_compiled
def _count(
    source: NDArray[np.uint8],
    target: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    step: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> None:
    height, width = source.shape
    for i in range(height):
        for j in range(width):
            value = source[i, j]
            if value == IGNORE:
                continue
            for index in range(len(offsets)):
                y, x = i + offsets[index, 0], j + offsets[index, 1]
                if 0 <= y < height and 0 <= x < width and target[y, x] == value:
                    counts[step[index], value] += 1
                    break
