"""Good and bad bits that several kinds of hostile files are made of."""

import io
import json
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from small_inputs import write_checkpoint

__all__ = [
    "Evil",
    "broken_safetensors",
    "by_hand",
    "evil_arrays",
    "evil_pickles",
    "good_checkpoint",
    "noise",
    "parts_of_checkpoint",
    "saved",
    "with_file",
]


def noise(height: int = 20, width: int = 26, channels: int = 3, dtype: Any = np.uint8) -> Any:
    values = np.random.default_rng(0).integers(0, 256, (height, width, channels)).astype(dtype)
    return values if channels > 1 else values[..., 0]


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


class Evil:
    """A pickle that runs a program."""

    def __reduce__(self) -> Any:
        return exec, ("open('/tmp/ducseg-was-run', 'w')",)


_HAND_JSON = {
    "deep": b"[" * 200_000, "deep objects": b'{"a":' * 100_000, "huge number": b"[" + b"9" * 100_000 + b"]",
    "infinite": b"[1e999]",
    "utf-16": "[]".encode("utf-16"), "nul": b"\0", "empty": b"", "surrogate": b'"\\ud800"', "NaN": b"NaN",
    "null": b"null", "list": b"[]",
    "object": b"{}", "text": b'"x"', "number": b"3", "twice": b'{"a":1,"a":2}', "half": b'{"a":',
    "bytes": b"\xff\xfe\xfd",
}  # fmt: skip


def by_hand(_folder: Path) -> dict[str, bytes]:
    return _HAND_JSON


def parts_of_checkpoint(*names: str) -> Callable[[Path], Sequence[bytes]]:
    def seeds(folder: Path) -> Sequence[bytes]:
        if not (folder / "checkpoint").exists():
            folder.mkdir(exist_ok=True)
            write_checkpoint(folder / "checkpoint")
        return [(folder / "checkpoint" / name).read_bytes() for name in names]

    return seeds


def good_checkpoint(folder: Path) -> Path:
    return folder / "good" if (folder / "good").exists() else write_checkpoint(folder / "good")


def with_file(good: Path, name: str, file: Path) -> Path:
    """The checkpoint with one file replaced."""
    bad = file.parent / "bad"
    shutil.rmtree(bad, ignore_errors=True)
    shutil.copytree(good, bad)
    shutil.copyfile(file, bad / name)
    return bad


def broken_safetensors(_folder: Path) -> dict[str, bytes]:
    made = {
        f"length {length}": struct.pack("<Q", length % 2**64) + b"{}"
        for length in (0, 1, 2, 100, 2**31, 2**63, 2**64 - 1)
    }
    for name, entry in {
        "overlap": {
            "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
            "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        },
        "beyond": {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}},
        "overflow": {"a": {"dtype": "F32", "shape": [2**62, 8], "data_offsets": [0, 0]}},
        "backwards": {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}},
        "unknown": {"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}},
        "empty": {},
        "path": {"../../x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
        "zero": {"a": {"dtype": "F32", "shape": [0, 2**50], "data_offsets": [0, 0]}},
        "many": {f"t{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(50_000)},
    }.items():
        header = json.dumps(entry).encode()
        made[name] = struct.pack("<Q", len(header)) + header + bytes(8)
    return made


def evil_pickles(_folder: Path) -> dict[str, bytes]:
    """Pickles that would run code, bombs of memory and time, archives that are none."""
    made = {"exec": pickle.dumps(Evil())}
    for name, code in {
        "os.system": b"cos\nsystem\n(S'touch /tmp/ducseg-was-run'\ntR.", "eval": b"c__builtin__\neval\n(S'1'\ntR.",
        "builtins": b"cbuiltins\nexec\n(S'1'\ntR.",
        "getattr": b"cbuiltins\ngetattr\n(ctorch\nload\nS'__globals__'\ntR.",
        "torch.load": b"ctorch\nload\n(S'/etc/passwd'\ntR.",
        "numpy": b"cnumpy.core.multiarray\n_reconstruct\n(tR.", "nested": b"(" * 100_000,
        "lists": b"]" + b"]q\x01a" * 50_000 + b".",
        "memo": b"\x80\x02]q\x00" + b"(" + b"h\x00" * 100_000 + b"e.", "long": b"\x80\x02\x8b\xff\xff\xff\x7f",
        "unicode": b"\x80\x02X\xff\xff\xff\xff", "stop": b".",
        "rebuild": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(tR.", "inst": b"(S'x'\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nS'x'\no.", "ext": b"\x80\x02\x82\x01.", "persistent": b"\x80\x02X\x01\0\0\0xQ.",
    }.items():  # fmt: skip
        made[name] = code
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            for member, content in (
                ("archive/data.pkl", code),
                ("archive/version", b"3\n"),
                ("archive/byteorder", b"little"),
            ):
                file.writestr(member, content)
        made[f"{name}, archived"] = archive.getvalue()
    for name, members in {
        "bomb": [("archive/data.pkl", bytes(1 << 27)), ("archive/version", b"3\n")], "out": [("../../outside", b"x")],
        "absolute": [("/tmp/ducseg-was-run", b"x")],
        "empty": [], "torchscript": [("archive/constants.pkl", b"."), ("archive/data.pkl", b".")],
        "same": [("archive/data.pkl", b"."), ("archive/data.pkl", b"x")],
    }.items():  # fmt: skip
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for member, content in members:
                file.writestr(member, content)
        made[f"zip, {name}"] = archive.getvalue()
    return made


def evil_arrays(_folder: Path) -> dict[str, bytes]:
    objects, zipped = io.BytesIO(), io.BytesIO()
    np.save(objects, np.array([Evil()], object), allow_pickle=True)
    np.savez(zipped, a=np.zeros(3))
    head = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 1000000), }"
    huge = b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head.encode()
    return {
        "objects": objects.getvalue(),
        "npz": zipped.getvalue(),
        "huge": huge + bytes(80),
        "pickle": pickle.dumps(Evil()),
        "empty": b"",
        "text": b"hello",
    }
