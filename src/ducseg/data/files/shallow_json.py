"""JSON that is parsed as a stream, which takes memory by the square of its depth: too deep a file is refused first."""

import re
from typing import BinaryIO

import numpy as np

__all__ = ["Shallow"]

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_STEPS = np.zeros(256, np.int64)
_STEPS[[ord("["), ord("{")]], _STEPS[[ord("]"), ord("}")]] = 1, -1


class Shallow:
    """A file whose `read` raises `ValueError` where brackets are nested more than `most` deep, strings left out."""

    def __init__(self, file: BinaryIO, most: int = 100) -> None:
        self._file, self._most, self._depth, self._carried = file, most, 0, b""

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        chunk = self._file.read(size)
        left = _STRING.sub(b"", self._carried + chunk)
        begun = left.find(b'"')  # a string that goes on in the next chunk
        self._carried = b"" if begun < 0 else b'"' + b"\\" * ((len(left) - len(left.rstrip(b"\\"))) % 2)
        depths = self._depth + np.cumsum(_STEPS[np.frombuffer(left[: None if begun < 0 else begun], np.uint8)])
        if depths.max(initial=0) > self._most:
            raise ValueError(f"brackets nested more than {self._most} deep")
        self._depth = int(depths[-1]) if len(depths) else self._depth
        return chunk
