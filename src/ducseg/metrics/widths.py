"""How wide an object is at each of its pixels, in pixels: local thickness (Hildebrand and Rüegsegger, 1997) on a grid.

The rule. A pixel is at least w wide where some open disk of diameter w + 0.25 px covers its centre and no pixel centre
of another class; the disk's own centre lies on a pixel's centre, between two, or where four meet, inside the picture.
The width of a pixel is the largest such w of a ladder of whole numbers; 1 for every pixel. The picture's border is an
edge, as for the Boundary IoU, and pixels of 255 belong to no object.

Such disks measure a straight line of w pixels as w, odd or even, and at any angle: a disk of diameter exactly w would
lose up to a pixel in lines that are not parallel to the grid, since pixels of another class reach into them; one of
w + 1 is wider than w rows. Where the line's own staircase has another width, as 45 degrees has steps of 0.7 px, the
staircase is measured. Ends and corners that a disk does not reach count as narrower.

Cost: each w looks at every pair of unlike neighbours once, so it is the length of all edges times w, plus the picture.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE
from ducseg.errors import explain, whole
from ducseg.files import compiled
from ducseg.metrics.confusion import as_label_map, check_alike

__all__ = ["SLACK", "WidthHistogram", "local_widths", "object_widths"]

SLACK = 0.25
"""What a disk is wider than the line it measures, in pixels: 0.2 to 0.3 measures random lines best."""

_compiled = compiled(nogil=True)


def local_widths(label: NDArray[Any], ladder: Sequence[int] = tuple(range(1, 65))) -> NDArray[np.uint8]:
    """The width at each pixel, of the object of its class.

    Args:
        label: classes (H, W), 255 for what belongs to none.
        ladder: ascending widths in pixels, 1 to 254, to choose from; what is wider than the last has the last.

    Returns:
        uint8 (H, W), the largest width of the ladder that holds at the pixel, at least 1; 0 where the label is 255.

    Raises:
        UserError: not a label map; a ladder of other numbers.
    """
    label = np.ascontiguousarray(as_label_map(label, "label"))
    if not all(1 <= size < IGNORE for size in ladder) or list(ladder) != sorted(set(ladder)):
        needed = f"ascending whole widths, 1 to {IGNORE - 1}"
        raise explain("ladder of widths", found=ladder, needed=needed, fix="Take range(1, 65).")
    widths = np.asarray(label != IGNORE, np.uint8)
    if not label.size:
        return widths
    for size in ladder:
        if size > 1 and not _open(label, _half_chords(size), size, widths):
            break
    return widths


class WidthHistogram:
    """How many pixels of a class have which width; histograms of several pictures are added with +.

    With another `widest` that raises `UserError`.

    Attributes:
        pixels: int64 (N + 1,), pixels by width 0..N in pixels; the last holds all from N on, the first nothing.
    """

    def __init__(self, pixels: NDArray[np.int64]) -> None:
        self.pixels = pixels

    def __add__(self, other: "WidthHistogram") -> "WidthHistogram":
        found, needed = (f"widths up to {len(one.pixels) - 1}" for one in (other, self))
        check_alike("widths to add", found, needed)
        return WidthHistogram(self.pixels + other.pixels)

    @property
    def median(self) -> float:
        """The width that half of the pixels do not exceed; NaN without pixels."""
        return self.quantile(0.5)

    def quantile(self, share: float) -> float:
        """The smallest width that this share of the pixels (0 to 1) does not exceed; NaN without pixels."""
        total = int(self.pixels.sum())
        return float(np.searchsorted(self.pixels.cumsum(), max(share * total, 1))) if total else float("nan")


def object_widths(label: NDArray[Any], class_index: int, *, widest: int = 64) -> WidthHistogram:
    """The widths of one class's objects in one picture, to every pixel; `widest` also stands for all that is wider.

    Raises:
        UserError: not a label map; a widest outside 1..254.
    """
    widest = whole("widest", widest, least=1, most=IGNORE - 1, fix="Take 64 pixels.")
    label = as_label_map(label, "label")
    alone = np.where(label == class_index, np.uint8(0), np.uint8(IGNORE))
    counts = np.bincount(local_widths(alone, range(1, widest + 1)).ravel(), minlength=widest + 1)
    counts[0] = 0
    return WidthHistogram(counts)


# -- disks, in units of half a pixel: pixel (i, j) lies at (2i, 2j), and a disk's centre at any whole (u, v) ----------


def _half_chords(size: int) -> NDArray[np.int64]:
    """Of the open disk of diameter size + SLACK: the largest offset inside it in the line at each distance 0, 1, ..."""
    square = (size + SLACK) ** 2  # of its radius, in half pixels
    lines = np.arange(int(np.ceil(np.sqrt(square))))
    return np.asarray(np.ceil(np.sqrt(square - lines**2)) - 1, np.int64)


@_compiled
def _open(label: NDArray[np.uint8], chords: NDArray[np.int64], size: int, widths: NDArray[np.uint8]) -> bool:
    """Write `size` into `widths` under every disk that lies in one class; False where none does."""
    height, width = label.shape
    top, last = len(chords) - 1, 2 * width - 2
    crossing = np.zeros((2 * height - 1, 2 * width), np.int32)  # differences along v of: edges that the disk crosses
    for i in range(height):
        for j in range(-1, width):
            if j < 0 or j == width - 1 or label[i, j] != label[i, j + 1]:  # both pixels inside: v - chord <= 2j, ...
                for u in range(max(0, 2 * i - top), min(2 * height - 2, 2 * i + top) + 1):
                    chord = chords[abs(u - 2 * i)]
                    first, end = max(0, 2 * j + 2 - chord), min(last, 2 * j + chord)
                    if first <= end:
                        crossing[u, first] += 1
                        crossing[u, end + 1] -= 1
    for i in range(-1, height):
        for j in range(width):
            if i < 0 or i == height - 1 or label[i, j] != label[i + 1, j]:
                for u in range(max(0, 2 * i + 2 - top), min(2 * height - 2, 2 * i + top) + 1):
                    chord = chords[max(abs(u - 2 * i), abs(u - 2 * i - 2))]
                    crossing[u, max(0, 2 * j - chord)] += 1
                    crossing[u, min(last, 2 * j + chord) + 1] -= 1
    covered = np.zeros((height, width + 1), np.int32)  # differences along j of: disks that cover the pixel
    found = False
    for u in range(2 * height - 1):
        crossed, start = 0, -1
        for v in range(last + 2):
            crossed += crossing[u, v]
            inside = crossed == 0 and v <= last
            if inside and start < 0:
                start = v
            elif not inside and start >= 0:  # centres start..v-1 are good
                if label[u // 2, start // 2] != IGNORE:
                    found = True
                    for i in range((max(0, u - top) + 1) // 2, min(2 * height - 2, u + top) // 2 + 1):
                        chord = chords[abs(u - 2 * i)]
                        first, end = max(0, (start - chord + 1) // 2), min(width - 1, (v - 1 + chord) // 2)
                        if first <= end:
                            covered[i, first] += 1
                            covered[i, end + 1] -= 1
                start = -1
    if found:
        for i in range(height):
            disks = 0
            for j in range(width):
                disks += covered[i, j]
                if disks > 0:
                    widths[i, j] = size
    return found
