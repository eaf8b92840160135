"""MXNet `.params` files, written as MXNet wrote them in each of its layouts."""

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["list_of", "ndarray"]

MAGIC = {1: 0xF993FAC8, 2: 0xF993FAC9, 3: 0xF993FACA}


def ndarray(values: Any, version: int = 2, *, kind: int = 0) -> bytes:
    """One dense array in layout V0, V1, V2 or V3."""
    shape = values.shape
    head = struct.pack("<I", MAGIC[version]) if version else b""
    head += struct.pack("<i", 0) if version >= 2 else b""
    head += struct.pack(f"<I{len(shape)}{'q' if version else 'I'}", len(shape), *shape)
    return head + struct.pack("<iii", 1, 0, kind) + values.tobytes()


def list_of(arrays: Mapping[str, bytes]) -> bytes:
    """The file: arrays, then their names."""
    names = b"".join(struct.pack("<Q", len(name.encode())) + name.encode() for name in arrays)
    body = struct.pack("<QQQ", 0x112, 0, len(arrays)) + b"".join(arrays.values())
    return body + struct.pack("<Q", len(arrays)) + names


def small_file(version: int = 2) -> bytes:
    """Two arrays: arg:a (2, 3) and aux:b/c (4,)."""
    a, b = np.arange(6, dtype="<f4").reshape(2, 3), np.arange(4, dtype="<f4") / 3
    return list_of({"arg:a": ndarray(a, version), "aux:b/c": ndarray(b, version)})
