"""ONNX files: where every initializer in one is.

A walk over the protobuf fields that lead to the initializers (onnx.proto), and no others: without the `onnx` package,
which would hold a whole file in memory twice to give the same, and without ever opening another file: an initializer
that says that its numbers are elsewhere ("external data") is refused.

    ModelProto   7 graph
    GraphProto   5 initializer, 15 sparse_initializer
    TensorProto  1 dims, 2 data_type, 3 segment, 4 float_data, 8 name, 9 raw_data, 13 external_data, 14 data_location
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ducseg.models import Segmenter
from ducseg.weights.released.network import MAX_ARRAYS, MAX_DIMENSIONS, BoundedFile, StoredArray, assemble

__all__ = ["index", "load"]

_MAX_FIELDS = 25_000
"""Three times what the deepest of the authors' networks has; bounds the time that a hostile file can take."""

_VARINT, _LENGTH, _FIXED = 0, 2, {1: 8, 5: 4}

_TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16",
}  # fmt: skip


class _Field(NamedTuple):
    number: int
    wire: int
    value: int
    """A varint's value; a length-delimited field's length, its bytes are next."""


def load(onnx_path: Path | str, *, num_classes: int | None = None) -> Segmenter:
    """Read the initializers of an ONNX file of the authors' network that MXNet exported.

    What the network is comes from their names and shapes, as in `ducseg.weights.tusimple.load`; the graph itself and
    its constants are not read.

    Args:
        onnx_path: such as ResNet101-DUC-7.onnx of the ONNX model zoo.
        num_classes: as in `ducseg.weights.tusimple.load`.

    Returns:
        The segmenter in evaluation mode, with the authors' preprocessing: RGB minus the mean.

    Raises:
        UserError: not such a file, a broken one, one of another network, or with numbers in other files.
    """
    path = Path(onnx_path)
    # the others are constants of the export: the shape of a Reshape, a temperature
    arrays = {name: array for name, array in index(path).items() if name.startswith(("conv", "fc1_"))}
    return assemble(path, arrays, num_classes)


def index(path: Path) -> dict[str, StoredArray]:
    """Where the initializers of an ONNX file are, by name; no number is read.

    Raises:
        UserError: no such file, not such a file, cut short, or with shapes, names or counts that cannot be, sparse
            initializers, or numbers in another file.
    """
    with BoundedFile(path, "ONNX file") as file:
        walk = _Walk(file)
        found: dict[str, StoredArray] = {}
        for field in walk.fields(file.size):
            if field.number == 7 and field.wire == _LENGTH:
                _graph(walk, file.position + field.value, found)
        if not found:
            raise file.broken("a file without initializers")
    return found


class _Walk:
    """Protobuf fields of a file, from front to back."""

    def __init__(self, file: BoundedFile) -> None:
        self.file = file
        self._fields = 0

    def fields(self, end: int) -> Iterator[_Field]:
        """The fields up to byte `end`; what a caller leaves unread of one is skipped."""
        while self.file.position < end:
            self._fields += 1
            if self._fields > _MAX_FIELDS:
                raise self.file.broken(f"more than {_MAX_FIELDS} fields")
            number, wire = divmod(self.varint(end), 8)
            if wire == _VARINT:
                yield _Field(number, wire, self.varint(end))
            elif wire in _FIXED:
                self._check(_FIXED[wire], end)
                self.file.skip(_FIXED[wire], "a number")
            elif wire == _LENGTH:
                length = self.varint(end)
                self._check(length, end)
                stop = self.file.position + length
                yield _Field(number, wire, length)
                self.file.skip(stop - self.file.position, "a field")
            else:
                raise self.file.broken(f"a field of kind {wire} before byte {self.file.position}")

    def varint(self, end: int) -> int:
        """An unsigned integer of up to 64 bits, in at most ten bytes before `end`."""
        value = 0
        for shift in range(0, 70, 7):
            self._check(1, end)
            (byte,) = self.file.take(1, "a field")
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise self.file.broken(f"an integer of more than ten bytes before byte {self.file.position}")

    def _check(self, count: int, end: int) -> None:
        left = end - self.file.position
        if count > left:
            raise self.file.broken(f"{count} bytes of a field announced at byte {self.file.position}, {left} are left")


def _graph(walk: _Walk, end: int, found: dict[str, StoredArray]) -> None:
    for field in walk.fields(end):
        if field.number == 15:
            raise walk.file.broken("sparse initializers, which the authors' network does not have")
        if field.number == 5 and field.wire == _LENGTH:
            name, array = _tensor(walk, walk.file.position + field.value)
            if name in found:
                raise walk.file.broken(f"more than one initializer named {name}")
            found[name] = array
            if len(found) > MAX_ARRAYS:
                raise walk.file.broken(f"more than {MAX_ARRAYS} initializers")


def _tensor(walk: _Walk, end: int) -> tuple[str, StoredArray]:
    file = walk.file
    name, code = "", 0
    shape: list[int] = []
    places: list[tuple[int, int]] = []
    elsewhere = False
    for number, wire, value in walk.fields(end):
        if number == 1:
            shape += _dimensions(walk, wire, value)
        elif number == 2 and wire == _VARINT:
            code = value
        elif number == 8 and wire == _LENGTH:
            name = file.name(value)
        elif number in (4, 9) and wire == _LENGTH:
            places.append((file.position, value))
        elif number in (3, 13) or (number == 14 and value):
            elsewhere = True
    what = f"initializer {name or 'without a name'}"
    if not name or code not in _TYPES:
        raise file.broken(f"{what} of type {code}")
    kind = _TYPES[code]
    if kind == "float32":
        if elsewhere or len(places) != 1:
            raise file.broken(f"{what}, whose numbers are not here, or in parts")
        if len(shape) > MAX_DIMENSIONS or any(not 1 <= side < 2**63 for side in shape):
            raise file.broken(f"shape {tuple(shape)} of {what}")
        if places[0][1] != 4 * math.prod(shape):
            raise file.broken(f"{places[0][1]} bytes for shape {tuple(shape)} of {what}")
    return name, StoredArray(tuple(shape), kind, places[0][0] if places else file.position)


def _dimensions(walk: _Walk, wire: int, value: int) -> list[int]:
    """A repeated integer: one in a field, or packed."""
    if wire == _VARINT:
        return [value]
    sides: list[int] = []
    end = walk.file.position + value
    while walk.file.position < end and len(sides) <= MAX_DIMENSIONS:
        sides.append(walk.varint(end))
    return sides
