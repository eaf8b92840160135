"""Files of named arrays, read by people who do not trust them: first where each array is, then only what is wanted.

A reader of a format (`mxnet_params`, `onnx_initializers`) walks a file's headers and skips its numbers: it holds names
and shapes, never more of the file. Whether they are those of a network is decided on these; only then are numbers read.
"""

import math
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ducseg.errors import UserError, explain

__all__ = ["MAX_ARRAYS", "MAX_DIMENSIONS", "BoundedFile", "StoredArray"]

MAX_ARRAYS = 5_000
"""More than five times what the deepest network here has; bounds the time that a hostile file can take."""

MAX_DIMENSIONS = 8

_MAX_NAME = 500


class StoredArray(NamedTuple):
    """Where an array is in its file.

    Attributes:
        shape: every side above 0.
        kind: "float32", or what it is instead, such as "float16" or "row_sparse".
        offset: byte of its first number; C order, little-endian.
    """

    shape: tuple[int, ...]
    kind: str
    offset: int


class BoundedFile:
    """A file read from front to back that no length in it can lead past its end.

    Args:
        path: the file.
        format_name: what it should be, for messages.

    Attributes:
        position: byte that is read next.
        size: bytes of the file.

    Raises:
        UserError: it is not a readable file; and by every method, where the file is not what it should be.
    """

    def __init__(self, path: Path, format_name: str) -> None:
        self.path, self._format_name = path, format_name
        # A folder or a device is no file of weights, and reading a pipe could wait for ever.
        if not path.is_file():
            raise self.broken("no such file")
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise self.broken(f"a file that does not open ({error.strerror})") from error
        self.size = os.fstat(self._file.fileno()).st_size
        self.position = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self._file.close()

    def broken(self, found: str) -> UserError:
        """The error to raise where the file is not what it should be."""
        return explain(
            f"weights {self.path}",
            found=found,
            needed=f"a whole {self._format_name}",
            fix="Check the path and the kind of file, or download it again.",
        )

    def take(self, count: int, what: str) -> bytes:
        """The next `count` bytes."""
        self._check(count, what)
        data = self._file.read(count)
        self.position += len(data)
        if len(data) != count:  # it became shorter meanwhile
            raise self.broken(f"a file that ends at byte {self.position}, inside {what}")
        return data

    def skip(self, count: int, what: str) -> None:
        """Leave the next `count` bytes unread."""
        self._check(count, what)
        self.position += count
        self._file.seek(self.position)

    def numbers(self, code: str, what: str) -> tuple[int, ...]:
        """The next little-endian integers, `code` as for `struct`."""
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}"), what))

    def name(self, length: int) -> str:
        """The next `length` bytes as a name: printable ASCII, so that a message can show it as it is."""
        raw = self.take(min(length, _MAX_NAME + 1), "a name")
        text = raw.decode("ascii", errors="replace")
        if not 1 <= length <= _MAX_NAME or not text.isascii() or not text.isprintable():
            raise self.broken(f"an array with a name of {length} bytes, {raw[:40]!r}")
        return text

    def float32(self, array: StoredArray) -> NDArray[np.float32]:
        """Read one array, wherever it is; it belongs to the caller."""
        assert array.kind == "float32", array
        self.position = array.offset
        self._file.seek(array.offset)
        data = bytearray(self.take(4 * math.prod(array.shape), "an array"))
        values = np.frombuffer(data, "<f4").reshape(array.shape)
        if not np.isfinite(values).all():
            raise self.broken(f"infinite or undefined numbers in the array at byte {array.offset}")
        return values.astype(np.float32, copy=False)

    def _check(self, count: int, what: str) -> None:
        assert count >= 0, (count, what)
        left = self.size - self.position
        if count > left:
            raise self.broken(f"{count} bytes of {what} announced at byte {self.position}, where {left} are left")
