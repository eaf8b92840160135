"""Variables of MATLAB's .mat files (version 5 to 7, little-endian): structs, text, numbers, read when asked for.

scipy's reader, compiled, ends the whole process on some damaged files; here every length is checked against what is
there before it is used, and nothing is unpacked beyond `MOST_BYTES`.

A file is 128 bytes of header, then parts: uint32 kind, uint32 length, bytes, up to a multiple of 8 bytes; one of at
most 4 bytes may put length and kind into one uint32. Kind 14 is an array: flags (class in the lowest byte), sides,
name, then its content; kind 15 an array compressed by zlib. A struct array's content is the length of a field's name,
the names, and an array for each field of each element.
"""

import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ducseg.errors import UserError, explain
from ducseg.weights.released.network import MAX_DIMENSIONS, BoundedFile

__all__ = ["MOST_BYTES", "MatlabArray", "read_variable"]

MOST_BYTES = 3 * 2**30
"""More than three times the largest network of weights here; what unpacks to more is damaged, or after one's memory."""

_MOST_ENTRIES = 100_000
_HEADER, _COMPRESSED, _ARRAY = 128, 15, 14
_STRUCT, _TEXT, _NUMBERS = 2, 4, range(6, 16)
_TYPES = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8", 16: "u1"}


class _Damaged(Exception):
    """What is wrong with a file, for `read_variable` to say."""


def read_variable(path: Path, name: str) -> "MatlabArray":
    """The variable of that name; its own content is read when it is asked for.

    Raises:
        UserError: no such file, none of MATLAB 5 to 7, one without that variable, a damaged one. The array's own
            methods raise it too.
    """
    with BoundedFile(path, ".mat file of MATLAB 5 to 7") as file:
        header = file.take(_HEADER, "the header")
        if header[124:128] == b"\x00\x02IM" or header[:4] == b"\x89HDF":
            raise file.broken("a file of MATLAB 7.3 (HDF5), which MATLAB saves as 7 with -v7")
        if header[124:128] != b"\x00\x01IM":
            raise file.broken("a file without MATLAB's header")
        while file.position < file.size:
            kind, length = file.numbers("2I", "a part's head")
            if kind == _COMPRESSED:
                found = _unpacked(file, length)
            elif kind == _ARRAY and length <= MOST_BYTES:
                found = memoryview(file.take(length, "an array"))
            else:
                raise file.broken(f"a part of kind {kind} and {length} bytes")
            array = MatlabArray.of(path, found)
            if array.name == name:
                return array
    raise file.broken(f"no variable {name}")


def _unpacked(file: BoundedFile, length: int) -> memoryview:
    """The array in a compressed part."""
    stream, content, left = zlib.decompressobj(), bytearray(), length
    while left:
        piece = file.take(min(left, 2**20), "a compressed part")
        left -= len(piece)
        while piece:
            try:
                content += stream.decompress(piece, 2**22)
            except zlib.error as error:
                raise file.broken(f"a part that does not unpack ({error})") from None
            if len(content) > MOST_BYTES:
                raise file.broken(f"a part that unpacks to more than {MOST_BYTES} bytes")
            piece = stream.unconsumed_tail
    if not stream.eof or len(content) < 8:
        raise file.broken("a compressed part that is cut short")
    kind, size = struct.unpack("<2I", content[:8])
    if kind != _ARRAY or size != len(content) - 8:
        raise file.broken(f"{size} bytes of a part of kind {kind} announced, {len(content) - 8} unpacked")
    return memoryview(content)[8:]


class MatlabArray(NamedTuple):
    """One array of a file.

    Attributes:
        kind: MATLAB's class: 2 struct, 4 text, 6 to 15 numbers.
        shape: its sides, at least two.
        content: what follows its name, unread.
    """

    path: Path
    name: str
    kind: int
    shape: tuple[int, ...]
    content: memoryview

    @classmethod
    def of(cls, path: Path, data: memoryview) -> Self:
        """From the bytes of a part of kind 14."""
        try:
            parts = _Parts(data)
            flags, sides, name = (parts.next() for _ in range(3))
            if flags.kind != 6 or len(flags.data) != 8 or sides.kind != 5 or name.kind != 1:
                raise _Damaged("an array without flags, sides or name")
            shape = struct.unpack(f"<{len(sides.data) // 4}i", sides.data[: len(sides.data) // 4 * 4])
            if not 2 <= len(shape) <= MAX_DIMENSIONS or min(shape) < 0:
                raise _Damaged(f"an array of shape {shape}")
            text = bytes(name.data[:80]).decode("ascii", errors="replace")
            return cls(path, text, flags.data[0], shape, data[parts.position :])
        except _Damaged as error:
            raise _broken(path, str(error)) from None

    def elements(self) -> list[dict[str, "MatlabArray"]]:
        """A struct array's elements: their fields by name."""
        try:
            if self.kind != _STRUCT:
                raise _Damaged(f"{self._shown} of class {self.kind}, where a struct is needed")
            parts = _Parts(self.content)
            (length,), names = _integers(parts.next(), 1), parts.next()
            if not 1 <= length <= 80 or len(names.data) % length:
                raise _Damaged(f"fields of {self._shown} with names of {length} bytes")
            raw = bytes(names.data)
            fields = [raw[at : at + length].split(b"\0")[0].decode("latin-1") for at in range(0, len(raw), length)]
            if math.prod(self.shape) * len(fields) > min(_MOST_ENTRIES, len(self.content) // 8):
                raise _Damaged(f"{self._shown} of {self.shape} elements of {len(fields)} fields")
            return [
                {field: MatlabArray.of(self.path, parts.next(_ARRAY).data) for field in fields}
                for _ in range(math.prod(self.shape))
            ]
        except _Damaged as error:
            raise _broken(self.path, str(error)) from None

    def element(self) -> Mapping[str, "MatlabArray"]:
        """The fields of a struct of one element."""
        found = self.elements()
        if len(found) != 1:
            raise _broken(self.path, f"{self._shown} of {len(found)} elements, where one is needed")
        return found[0]

    def text(self) -> str:
        """A line of text."""
        try:
            part = _Parts(self.content).next()
            if self.kind != _TEXT or part.kind not in (1, 2, 4, 16) or len(part.data) > 1000:
                raise _Damaged(f"{self._shown} of class {self.kind}, where a line of text is needed")
            return bytes(part.data).decode("utf-16-le" if part.kind == 4 else "utf-8", errors="replace")
        except _Damaged as error:
            raise _broken(self.path, str(error)) from None

    def numbers(self) -> NDArray[np.float32]:
        """Real numbers, of `shape`; all of them finite."""
        try:
            part = _Parts(self.content).next()
            if self.kind not in _NUMBERS or part.kind not in _TYPES:
                raise _Damaged(f"{self._shown} of class {self.kind}, where numbers are needed")
            kind = np.dtype(_TYPES[part.kind])
            if math.prod(self.shape) * kind.itemsize != len(part.data):
                raise _Damaged(f"{len(part.data)} bytes of {kind} for shape {self.shape} of {self._shown}")
            with np.errstate(over="ignore"):
                values = np.frombuffer(part.data, kind).astype(np.float32).reshape(self.shape, order="F")
            if not np.isfinite(values).all():
                raise _Damaged(f"infinite or undefined numbers in {self._shown}")
            return values
        except _Damaged as error:
            raise _broken(self.path, str(error)) from None

    @property
    def _shown(self) -> str:
        return f"array {self.name!r}" if self.name else "an array"


class _Part(NamedTuple):
    kind: int
    data: memoryview


class _Parts:
    """Parts one after the other."""

    def __init__(self, data: memoryview) -> None:
        self._data, self.position = data, 0

    def next(self, kind: int | None = None) -> _Part:
        """The next part, of that kind if one is given."""
        first, length, at = self._word(self.position), 0, self.position + 4
        if first >> 16:
            first, length = first & 0xFFFF, first >> 16
            stop = at + 4
        else:
            length, at = self._word(at), at + 4
            stop = at + (length + 7) // 8 * 8
        if (kind is not None and first != kind) or at + length > len(self._data) or length > stop - at:
            raise _Damaged(f"{length} bytes of a part of kind {first}, where {max(len(self._data) - at, 0)} are left")
        self.position = min(stop, len(self._data))
        return _Part(first, self._data[at : at + length])

    def _word(self, at: int) -> int:
        if at + 4 > len(self._data):
            raise _Damaged("an array that is cut short")
        return int.from_bytes(self._data[at : at + 4], "little")


def _integers(part: _Part, count: int) -> tuple[int, ...]:
    if part.kind != 5 or len(part.data) != 4 * count:
        raise _Damaged("a struct without the length of its fields' names")
    return struct.unpack(f"<{count}i", part.data)


def _broken(path: Path, found: str) -> UserError:
    return explain(
        f"weights {path}",
        found=found,
        needed="a whole .mat file of MATLAB 5 to 7",
        fix="Check the path and the kind of file, or download it again.",
    )
