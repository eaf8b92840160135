"""One array out of a MATLAB 5 file. scipy would read all of it, and ends the process at some kinds of damage.

    file      128 bytes of header, then elements: type, size (both uint32), content, filled up to 8 bytes
    matrix    class of the values, sides, name, then the values; of a struct its fields' names, and a matrix for each
    packed    an element that zlib has packed

No length leads past the end of what holds it. Numbers are little-endian, arrays run along their columns.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_field"]

_BYTES, _MATRIX, _PACKED = 2, 14, 15
_STRUCT, _UINT8 = 2, 9
_CLASSES = {
    6: "float64",
    7: "float32",
    8: "int8",
    _UINT8: "uint8",
    10: "int16",
    11: "uint16",
    12: "int32",
    13: "uint32",
}
_MOST_BYTES = 1 << 28


class _Element(NamedTuple):
    kind: int
    content: bytes


class _Matrix(NamedTuple):
    kind: int
    sides: tuple[int, ...]
    name: str
    rest: list[_Element]


def read_field(path: Path, name: str, field: str) -> NDArray[np.uint8]:
    """The uint8 matrix (rows, columns) that is the field of a struct.

    Raises:
        OSError: a file that cannot be read.
        KeyError: no such struct or field.
        ValueError: another file, a damaged one, another kind of numbers.
    """
    data = path.read_bytes()
    if data[124:128] != b"\x00\x01IM":
        raise ValueError("no MATLAB 5 file")
    for element in _elements(data[128:]):
        matrix = _matrix(_unpacked(element))
        if matrix.name == name and matrix.kind == _STRUCT:
            return _bytes_of(_matrix(_fields(matrix)[field]))
    raise KeyError(name)


def _elements(data: bytes) -> Iterator[_Element]:
    """One after the other; content of up to 4 bytes may stand in place of the second number."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        start, most = at + 8, len(data) - at - 8
        if kind >> 16:
            kind, size, start, most = kind & 0xFFFF, kind >> 16, at + 4, 4
        if size > most:
            raise ValueError("an element that is cut off")
        yield _Element(kind, data[start : start + size])
        at = start + (4 if most == 4 and start == at + 4 else size + (-size % 8 if kind != _PACKED else 0))


def _unpacked(element: _Element) -> _Element:
    if element.kind != _PACKED:
        return element
    return next(_elements(zlib.decompressobj().decompress(element.content, _MOST_BYTES)))


def _matrix(element: _Element) -> _Matrix:
    parts = list(_elements(element.content)) if element.kind == _MATRIX else []
    if len(parts) < 3:
        raise ValueError("something else than a matrix")
    (flags, sides, name), rest = (part.content for part in parts[:3]), parts[3:]
    return _Matrix(flags[0], struct.unpack(f"<{len(sides) // 4}i", sides), name.decode("latin-1"), rest)


def _fields(matrix: _Matrix) -> dict[str, _Element]:
    """Of a struct, or of the first of several."""
    (length,) = struct.unpack("<i", matrix.rest[0].content)
    if length < 1:
        raise ValueError("a struct without names")
    names = matrix.rest[1].content
    each = (names[at : at + length].partition(b"\0")[0].decode("latin-1") for at in range(0, len(names), length))
    return dict(zip(each, matrix.rest[2:]))


def _bytes_of(matrix: _Matrix) -> NDArray[np.uint8]:
    kind, values = _CLASSES.get(matrix.kind, f"class {matrix.kind}"), matrix.rest[0] if matrix.rest else None
    if matrix.kind != _UINT8 or values is None or values.kind != _BYTES:
        raise ValueError(f"values of type {kind}")
    return np.frombuffer(values.content, np.uint8).reshape(matrix.sides, order="F")
