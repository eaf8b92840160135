"""Files of weights as MXNet writes them, and a network of the authors that is small enough to write anew in a test."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ducseg.weights import tusimple
from ducseg.weights.released.network import BoundedFile

Arrays = Mapping[str, "np.ndarray[Any, Any]"]

MAGIC = {1: 0xF993FAC8, 2: 0xF993FAC9, 3: 0xF993FACA}


def ndarray(values: Any, version: int = 2, *, kind: int = 0) -> bytes:
    """One dense array in layout V0, V1, V2 or V3."""
    return header(*values.shape, version=version, kind=kind) + values.tobytes()


def header(*shape: int, version: int = 2, kind: int = 0) -> bytes:
    """What stands before an array's numbers."""
    head = struct.pack("<I", MAGIC[version]) if version else b""
    head += struct.pack("<i", 0) if version >= 2 else b""
    head += struct.pack(f"<I{len(shape)}{'q' if version else 'I'}", len(shape), *shape)
    return head + struct.pack("<iii", 1, 0, kind)


def sparse(storage: int, kept: int, *indices: int) -> bytes:
    """A float32 array of shape (9, 3) that keeps so many numbers: row_sparse (1) or csr (2), with its index arrays."""
    head = (
        struct.pack("<IiIq", MAGIC[2], storage, 1, kept) + struct.pack("<Iqq", 2, 9, 3) + struct.pack("<iii", 1, 0, 0)
    )
    head += b"".join(struct.pack("<iIq", 6, 1, count) for count in indices)
    return head + bytes(4 * kept + 8 * sum(indices))


def list_of(arrays: Mapping[str, bytes]) -> bytes:
    """The file: arrays, then their names."""
    names = b"".join(struct.pack("<Q", len(name.encode())) + name.encode() for name in arrays)
    body = struct.pack("<QQQ", 0x112, 0, len(arrays)) + b"".join(arrays.values())
    return body + struct.pack("<Q", len(arrays)) + names


def params_file(arrays: Arrays, version: int = 2) -> bytes:
    """A checkpoint: statistics are "aux:", all else "arg:"."""
    return list_of(
        {("aux:" if "_moving_" in name else "arg:") + name: ndarray(array, version) for name, array in arrays.items()}
    )


def onnx_file(arrays: Arrays, *, raw: bool = False) -> bytes:
    """An ONNX model of initializers alone, their numbers as float_data (as MXNet writes them) or as raw_data."""
    tensors = [tensor(name, array.shape, array.tobytes(), raw=raw) for name, array in arrays.items()]
    return onnx_model(*tensors)


def onnx_model(*tensors: bytes) -> bytes:
    """ir_version 10, and a graph of these initializers."""
    return b"\x08\x0a" + field(7, b"".join(field(5, one) for one in tensors))


def tensor(name: str, shape: tuple[int, ...], data: bytes, *, raw: bool = False, data_type: int = 1) -> bytes:
    """A TensorProto."""
    sides = b"".join(b"\x08" + varint(side) for side in shape)
    return sides + b"\x10" + varint(data_type) + field(9 if raw else 4, data) + field(8, name.encode())


def field(number: int, data: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    """An unsigned integer as protobuf has it."""
    parts = []
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def arrays_of(path: Path) -> "dict[str, np.ndarray[Any, Any]]":
    """Everything in a .params file, by name without "arg:" and "aux:"."""
    with BoundedFile(path, "file") as file:
        return {name[4:]: file.float32(array) for name, array in tusimple.index(path).items()}


def small_network(*, channels: int = 48, paths: int = 2, name: str = "fc1_toys") -> "dict[str, np.ndarray[Any, Any]]":
    """The authors' network with ResNet-50's depth and width 1: 40 kB a path of 48 channels (3 classes, cell 2)."""
    shapes: dict[str, tuple[int, ...]] = {
        "conv1_1_3x3_s2": (1, 3, 3, 3), "conv1_2_3x3": (1, 1, 3, 3), "conv1_3_3x3": (2, 1, 3, 3),
    }  # fmt: skip
    before = 2
    for stage, blocks in ((2, 3), (3, 4), (4, 6), (5, 3)):
        inner = 2 ** (stage - 2)
        for block in range(1, blocks + 1):
            shapes[f"conv{stage}_{block}_1x1_reduce"] = (inner, before, 1, 1)
            shapes[f"conv{stage}_{block}_3x3"] = (inner, inner, 3, 3)
            shapes[f"conv{stage}_{block}_1x1_increase"] = (4 * inner, inner, 1, 1)
            if block == 1:
                shapes[f"conv{stage}_{block}_1x1_proj"] = (4 * inner, before, 1, 1)
            before = 4 * inner
    random = np.random.default_rng(0)
    found = {}
    for layer, shape in shapes.items():
        found[f"{layer}_weight"] = random.normal(size=shape).astype("<f4")
        for part in ("gamma", "beta", "moving_mean", "moving_var"):
            found[f"{layer}/bn_{part}"] = random.uniform(0.5, 1.5, shape[0]).astype("<f4")
    for path in range(paths):
        found[f"{name}_c{path}_weight"] = random.normal(size=(channels, before, 3, 3)).astype("<f4")
        found[f"{name}_c{path}_bias"] = random.normal(size=channels).astype("<f4")
    return found


def damage(raw: bytearray, data: st.DataObject) -> None:
    """One to six places where bytes are other ones, gone or too many."""
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(raw)))
        match data.draw(st.sampled_from(["set", "delete", "insert"])):
            case "set":
                raw[at : at + 1] = data.draw(st.binary(min_size=1, max_size=8))
            case "delete":
                del raw[at : at + data.draw(st.integers(1, 9))]
            case _:
                raw[at:at] = data.draw(st.binary(max_size=9))
