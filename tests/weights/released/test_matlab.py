"""MATLAB's files against scipy's reader, and what scipy does not survive."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mxnet_files import damage

from ducseg.errors import UserError
from ducseg.weights.released import matlab
from ducseg.weights.released.matlab import MatlabArray, read_variable

scipy_io = pytest.importorskip("scipy.io")

HEAD = bytes(124) + b"\x00\x01IM"
TYPES = ("float32", "float64", "uint8", "int16", "int32", "uint32", "int64", "bool")


def saved(path: Path, value: Any, *, compress: bool) -> Path:
    scipy_io.savemat(path, {"before": "x", "value": value}, do_compression=compress)
    return path


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (2, 3, 4, 5), (1, 1, 1, 3)])
def test_numbers(tmp_path: Path, kind: str, shape: tuple[int, ...], compress: bool) -> None:
    value = np.random.default_rng(0).integers(0, 2 if kind == "bool" else 100, shape).astype(kind)
    found = read_variable(saved(tmp_path / "a.mat", value, compress=compress), "value")
    assert found.name == "value" and found.numbers().dtype == np.float32
    np.testing.assert_array_equal(found.numbers(), value.astype(np.float32))


@pytest.mark.parametrize("compress", [False, True])
def test_structs_and_text(tmp_path: Path, compress: bool) -> None:
    entries = np.empty((1, 3), dtype=[("name", object), ("value", object)])
    for index, name in enumerate(("a", "four", "longer name")):
        entries[0, index] = (name, np.full((index + 1, 2), index, np.float32))
    path = saved(tmp_path / "a.mat", {"list": entries, "deep": {"deeper": "text"}, "none": ""}, compress=compress)
    found = read_variable(path, "value").element()
    assert list(found) == ["list", "deep", "none"]
    listed = found["list"].elements()
    assert [entry["name"].text() for entry in listed] == ["a", "four", "longer name"]
    assert [entry["value"].numbers().tolist() for entry in listed][1] == [[1.0, 1.0], [1.0, 1.0]]
    assert found["deep"].element()["deeper"].text() == "text" and found["none"].text() == ""


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"\x89HDF" + bytes(200), "MATLAB 7.3"),
        (bytes(124) + b"\x00\x02IM" + bytes(400), "MATLAB 7.3"),
        (b"nothing", "announced"),
        (bytes(300), "without MATLAB's header"),
        (HEAD, "no variable value"),
        (HEAD + b"\x0e\x00\x00\x00\xff\xff\x00\x00", "announced"),
        (HEAD + b"\x07\x00\x00\x00\x04\x00\x00\x00abcd", "kind 7"),
        (HEAD + b"\x0e\x00\x00\x00\x08\x00\x00\x00\x06\x00\x00\x00\x08\x00\x00\x00", "are left"),
        (HEAD + b"\x0f\x00\x00\x00\x04\x00\x00\x00abcd", "does not unpack"),
        (HEAD + b"\x0f\x00\x00\x00\x0b\x00\x00\x00" + zlib.compress(b"abc"), "cut short"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, part: str) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(content)
    with pytest.raises(UserError, match=part):
        read_variable(path, "value")
    with pytest.raises(UserError, match="no such file"):
        read_variable(tmp_path / "none.mat", "value")


def test_what_is_asked_of_another_kind(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "a.mat",
        {"text": "x", "numbers": np.ones((2, 2)), "cells": np.array([[1, "a"]], object)},
        compress=False,
    )
    found = read_variable(path, "value")
    fields = found.element()
    for read, needed in (
        (found.numbers, "numbers are"), (found.text, "text is"), (fields["text"].numbers, "numbers are"),
        (fields["numbers"].elements, "a struct is"), (fields["cells"].text, "text is"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"where (a line of )?{needed} needed"):
            read()


def test_unpacking_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matlab, "MOST_BYTES", 2**20)
    packed = zlib.compress(bytes(2**24))
    path = tmp_path / "bomb.mat"
    path.write_bytes(HEAD + b"\x0f\x00\x00\x00" + len(packed).to_bytes(4, "little") + packed)
    with pytest.raises(UserError, match="unpacks to more than"):
        read_variable(path, "value")


def all_of(array: MatlabArray) -> int:
    """Bytes of all numbers in it."""
    if array.kind == 2:
        return sum(all_of(field) for element in array.elements() for field in element.values())
    return array.numbers().nbytes if array.kind in range(6, 16) else len(array.text())


@given(st.data())
def test_any_damage_is_an_error_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    entries = np.empty((1, 2), dtype=[("name", object), ("value", object)])
    entries[0, 0], entries[0, 1] = ("a", np.ones((3, 3, 2), np.float32)), ("b", np.ones(3))
    path = saved(tmp_path_factory.getbasetemp() / "fuzz.mat", {"list": entries}, compress=data.draw(st.booleans()))
    raw = bytearray(path.read_bytes())
    damage(raw, data)
    path.write_bytes(bytes(raw))
    try:
        assert all_of(read_variable(path, "value")) <= 8 * len(raw)
    except UserError:
        return
