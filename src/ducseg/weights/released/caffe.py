"""Caffe's .caffemodel files: where the numbers of every layer are.

A walk over the protobuf fields that lead to the blobs (caffe.proto), and no others, without Caffe: no length leads past
the end of the file, what a blob claims to be is compared with what it holds, and no number is read.

    NetParameter      2 layers (V1LayerParameter, before 2015), 100 layer (LayerParameter)
    LayerParameter    1 name, 7 blobs          V1LayerParameter  4 name, 6 blobs
    BlobProto         1..4 num, channels, height, width (before 2015), 5 data, 7 shape, 8 double_data
    BlobShape         1 dim
"""

import math
from pathlib import Path

from ducseg.weights.released.network import MAX_ARRAYS, MAX_DIMENSIONS, BoundedFile, StoredArray
from ducseg.weights.released.protobuf import LENGTH, VARINT, Walk

__all__ = ["index"]

_MAX_FIELDS = 200_000
"""Five times what the largest network here has; bounds the time that a hostile file can take: seconds."""

_LAYERS = {100: (1, 7), 2: (4, 6)}
"""Fields of a layer's name and blobs by the field that it is in."""


def index(path: Path) -> dict[str, tuple[StoredArray, ...]]:
    """The blobs of every layer that has some, by the layer's name.

    Raises:
        UserError: no such file, not such a file, cut short, with shapes, names or counts that cannot be, or numbers
            that are not packed.
    """
    found: dict[str, tuple[StoredArray, ...]] = {}
    with BoundedFile(path, ".caffemodel file") as file:
        walk, count = Walk(file, _MAX_FIELDS), 0
        for field in walk.fields(file.size):
            if field.wire != LENGTH or field.number not in _LAYERS:
                continue
            name, blobs = _layer(walk, file.position + field.value, *_LAYERS[field.number])
            if not blobs:
                continue
            if not name or name in found:
                raise file.broken(f"more than one layer named {name}" if name else "a layer with numbers and no name")
            found[name] = blobs
            count += len(blobs)
            if count > MAX_ARRAYS:
                raise file.broken(f"more than {MAX_ARRAYS} blobs")
        if not found:
            raise file.broken("a file without layers that hold numbers")
    return found


def _layer(walk: Walk, end: int, name_field: int, blobs_field: int) -> tuple[str, tuple[StoredArray, ...]]:
    name = ""
    blobs: list[StoredArray] = []
    for field in walk.fields(end):
        if field.number == name_field and field.wire == LENGTH:
            name = walk.file.name(field.value)
        elif field.number == blobs_field and field.wire == LENGTH:
            blobs.append(_blob(walk, walk.file.position + field.value))
    return name, tuple(blobs)


def _blob(walk: Walk, end: int) -> StoredArray:
    file = walk.file
    old, shape = [1, 1, 1, 1], list[int]()
    data: list[tuple[str, int, int]] = []
    for number, wire, value in walk.fields(end):
        if number in (1, 2, 3, 4) and wire == VARINT:
            old[number - 1] = value
        elif number == 7 and wire == LENGTH:
            shape = _shape(walk, file.position + value)
        elif number in (5, 8) and wire == LENGTH and value:
            data.append(("float32" if number == 5 else "float64", file.position, value))
    sides = tuple(shape or old)
    if len(sides) > MAX_DIMENSIONS or any(not 1 <= side < 2**63 for side in sides):
        raise file.broken(f"a blob of shape {sides[: MAX_DIMENSIONS + 1]} before byte {file.position}")
    if len(data) != 1:
        raise file.broken(f"a blob before byte {file.position} whose numbers are not there, not packed or in parts")
    kind, offset, length = data[0]
    if length != (4 if kind == "float32" else 8) * math.prod(sides):
        raise file.broken(f"{length} bytes for a blob of shape {sides} before byte {file.position}")
    return StoredArray(sides, kind, offset)


def _shape(walk: Walk, end: int) -> list[int]:
    sides: list[int] = []
    for number, wire, value in walk.fields(end):
        if number != 1:
            continue
        if wire == VARINT:
            sides.append(value)
            continue
        stop = walk.file.position + value
        while walk.file.position < stop and len(sides) <= MAX_DIMENSIONS:
            sides.append(walk.varint(stop))
    return sides
