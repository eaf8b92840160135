"""States of the whole process that several threads ask for at once: libraries' warnings off, Pillow's limit off.

Restored when the last is done. `warnings.catch_warnings` alone restores what it found: of two threads that overlap, the
first to leave ends the other's silence, and the second brings back a state that is over.
"""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import cv2
from PIL import Image

__all__ = ["Overlapping", "quiet", "silent_opencv", "unbounded"]


class Overlapping:
    """A context that threads may be in at the same time: the first enters `make()`, the last leaves it."""

    def __init__(self, make: Callable[[], AbstractContextManager[object]]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._inside = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._state = self._make()
                self._state.__enter__()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._state.__exit__(None, None, None)


@contextmanager
def _without_pillows_limit() -> Iterator[None]:
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def _without_opencvs_log() -> Iterator[None]:
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


quiet = Overlapping(lambda: warnings.catch_warnings(action="ignore"))
"""No warnings: of rasters without coordinates, of what decoders think of a file."""

silent_opencv = Overlapping(_without_opencvs_log)
"""Without the lines that OpenCV prints, such as of GeoTIFFs' tags: what is wrong is told in our own words."""

unbounded = Overlapping(_without_pillows_limit)
"""Pillow without its own limit of pixels: `header.check_header`'s limit is the one."""
