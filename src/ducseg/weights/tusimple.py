"""The authors' weights as they released them: MXNet's .params files.

A file is a list of NDArrays, numbers little-endian: uint64 0x112, uint64 0, uint64 n, n NDArrays, uint64 n, then n
names, each a uint64 length and bytes ("arg:NAME" or "aux:NAME"). An NDArray is (MXNet's src/ndarray/ndarray.cc):

| layout | from its first uint32 |
|---|---|
| V0, the oldest | number of sides, uint32 sides, context, type, numbers |
| V1, MXNet 0.11's | 0xF993FAC8, uint32 number of sides, int64 sides, context, type, numbers |
| V2, MXNet 1's | 0xF993FAC9, int32 storage (0 dense), then as V1; sparse ones have more fields |
| V3, with NumPy's shapes | 0xF993FACA, then as V2; storage is always 0 |

The context is two int32 (device), the type one int32.
"""

import math
from collections import Counter
from pathlib import Path

from ducseg.errors import explain
from ducseg.models import Segmenter
from ducseg.weights.released.network import MAX_ARRAYS, MAX_DIMENSIONS, BoundedFile, StoredArray, assemble

__all__ = ["index", "load"]

_LIST = 0x112
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA

_TYPES = {
    0: ("float32", 4), 1: ("float64", 8), 2: ("float16", 2), 3: ("uint8", 1), 4: ("int32", 4), 5: ("int8", 1),
    6: ("int64", 8), 7: ("bool", 1), 12: ("bfloat16", 2),
}  # fmt: skip

_STORAGE = {0: ("dense", 0), 1: ("row_sparse", 1), 2: ("csr", 2)}
"""Name, and number of index arrays, of each storage type."""


def load(params_path: Path | str, *, num_classes: int | None = None) -> Segmenter:
    """Read a .params file of the authors' network (TuSimple-DUC), as it is or trained further with their code.

    Classes, cell, depth, widths and ASPP paths come from the file; 19 classes get Cityscapes' names and colours, those
    of another known data set theirs where the head is named after it (the released code's `exp`).

    Args:
        params_path: NDArray list of MXNet, of any version (V0 to V3).
        num_classes: L, for a head whose channels fit more than one L and cell (L, cell 2 are 4L, cell 4); the error
            says when. None: as the file says.

    Returns:
        The segmenter in evaluation mode, with the authors' preprocessing: RGB minus the mean.

    Raises:
        UserError: not such a file, a broken one, or one of another network; sparse arrays or other numbers than
            float32 are named.
    """
    path = Path(params_path)
    stored = index(path)
    arrays = {name.removeprefix("arg:").removeprefix("aux:"): array for name, array in stored.items()}
    if len(arrays) < len(stored):
        twice = sorted(name for name in arrays if f"arg:{name}" in stored and f"aux:{name}" in stored)
        raise explain(
            f"weights {path}",
            found=f"{', '.join(twice[:10])} both as arg: and as aux:",
            needed="each array once",
            fix="Download the file again.",
        )
    return assemble(path, arrays, num_classes)


def index(path: Path) -> dict[str, StoredArray]:
    """Where the arrays of a .params file are, by name ("arg:conv1_weight"); no array is read.

    Raises:
        UserError: no such file, not such a file, cut short, or with shapes, names or counts that cannot be.
    """
    with BoundedFile(path, ".params file of MXNet") as file:
        magic, reserved = file.numbers("QQ", "the list's head")
        if magic != _LIST or reserved:
            raise file.broken(f"a file that starts with {magic:#x}, not with {_LIST:#x}")
        arrays = [_array(file, f"array {number}") for number in range(_count(file, "arrays"))]
        if _count(file, "names") != len(arrays):
            raise file.broken(f"another number of names than of arrays ({len(arrays)})")
        names = [file.name(*file.numbers("Q", "a name's length")) for _ in arrays]
        if file.position != file.size:
            raise file.broken(f"{file.size - file.position} bytes after the end of the list")
        most_common, times = Counter(names).most_common(1)[0]
        if times > 1:
            raise file.broken(f"{times} arrays named {most_common}")
    return dict(zip(names, arrays, strict=True))


def _count(file: BoundedFile, what: str) -> int:
    (count,) = file.numbers("Q", f"the number of {what}")
    if not 1 <= count <= MAX_ARRAYS:
        raise file.broken(f"{count} {what} announced at byte {file.position - 8}")
    return count


def _array(file: BoundedFile, what: str) -> StoredArray:
    (magic,) = file.numbers("I", what)
    storage, index_arrays, stored_shape = "dense", 0, None
    if magic in (_V2, _V3):
        (code,) = file.numbers("i", what)
        if code not in _STORAGE or (magic == _V3 and code):
            raise file.broken(f"storage type {code} of {what}")
        storage, index_arrays = _STORAGE[code]
        stored_shape = _shape(file, what) if index_arrays else None
    shape = _shape(file, what) if magic in (_V1, _V2, _V3) else _sides(file, magic, "I", what)
    file.numbers("2i", what)
    kind, width = _type(file, what)
    # of a sparse array: type and shape of each index array, the kept numbers, then the index arrays' own
    sizes = [width * math.prod(stored_shape or shape)]
    for _ in range(index_arrays):
        index_width = _type(file, what)[1]
        sizes.append(index_width * math.prod(_shape(file, what)))
    offset = file.position
    file.skip(sum(sizes), what)
    return StoredArray(shape, kind if storage == "dense" else storage, offset)


def _type(file: BoundedFile, what: str) -> tuple[str, int]:
    (code,) = file.numbers("i", what)
    if code not in _TYPES:
        raise file.broken(f"number type {code} of {what}")
    return _TYPES[code]


def _shape(file: BoundedFile, what: str) -> tuple[int, ...]:
    return _sides(file, file.numbers("I", what)[0], "q", what)


def _sides(file: BoundedFile, dimensions: int, code: str, what: str) -> tuple[int, ...]:
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise file.broken(f"{dimensions} dimensions of {what}")
    sides = file.numbers(f"{dimensions}{code}", what)
    if min(sides) < 1:
        raise file.broken(f"shape {sides} of {what}")
    return sides
