"""ONNX files: where every initializer in one is.

A walk over the protobuf fields that lead to the initializers (onnx.proto), and no others: without the `onnx` package,
which would hold a whole file in memory twice to give the same, and without ever opening another file: an initializer
that says that its numbers are elsewhere ("external data") is refused.

    ModelProto   7 graph
    GraphProto   5 initializer, 15 sparse_initializer
    TensorProto  1 dims, 2 data_type, 3 segment, 4 float_data, 8 name, 9 raw_data, 13 external_data, 14 data_location
"""

import math
from pathlib import Path

from ducseg.models import Segmenter
from ducseg.weights.released.network import MAX_ARRAYS, MAX_DIMENSIONS, BoundedFile, StoredArray, assemble
from ducseg.weights.released.protobuf import LENGTH, VARINT, Walk

__all__ = ["index", "load"]

_MAX_FIELDS = 25_000
"""Three times what the deepest of the authors' networks has; bounds the time that a hostile file can take."""

_TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16",
}  # fmt: skip


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
        walk = Walk(file, _MAX_FIELDS)
        found: dict[str, StoredArray] = {}
        for field in walk.fields(file.size):
            if field.number == 7 and field.wire == LENGTH:
                _graph(walk, file.position + field.value, found)
        if not found:
            raise file.broken("a file without initializers")
    return found


def _graph(walk: Walk, end: int, found: dict[str, StoredArray]) -> None:
    for field in walk.fields(end):
        if field.number == 15:
            raise walk.file.broken("sparse initializers, which the authors' network does not have")
        if field.number == 5 and field.wire == LENGTH:
            name, array = _tensor(walk, walk.file.position + field.value)
            if name in found:
                raise walk.file.broken(f"more than one initializer named {name}")
            found[name] = array
            if len(found) > MAX_ARRAYS:
                raise walk.file.broken(f"more than {MAX_ARRAYS} initializers")


def _tensor(walk: Walk, end: int) -> tuple[str, StoredArray]:
    file = walk.file
    name, code = "", 0
    shape: list[int] = []
    places: list[tuple[int, int]] = []
    elsewhere = False
    for number, wire, value in walk.fields(end):
        if number == 1:
            shape += _dimensions(walk, wire, value)
        elif number == 2 and wire == VARINT:
            code = value
        elif number == 8 and wire == LENGTH:
            name = file.name(value)
        elif number in (4, 9) and wire == LENGTH:
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


def _dimensions(walk: Walk, wire: int, value: int) -> list[int]:
    """A repeated integer: one in a field, or packed."""
    if wire == VARINT:
        return [value]
    sides: list[int] = []
    end = walk.file.position + value
    while walk.file.position < end and len(sides) <= MAX_DIMENSIONS:
        sides.append(walk.varint(end))
    return sides
