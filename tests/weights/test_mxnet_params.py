"""MXNet's file format: what is read, and that nothing hostile gets further than one clear error."""

import pickle
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mxnet_files import list_of, ndarray, small_file

from ducseg.errors import UserError
from ducseg.weights.mxnet_params import read_params


def read(tmp_path: Path, data: bytes) -> dict[str, np.ndarray]:
    path = tmp_path / "file.params"
    path.write_bytes(data)
    return read_params(path)


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_every_layout_gives_names_and_values(version: int, tmp_path: Path) -> None:
    found = read(tmp_path, small_file(version))
    assert list(found) == ["a", "b/c"]
    np.testing.assert_array_equal(found["a"], np.arange(6, dtype=np.float32).reshape(2, 3))
    np.testing.assert_array_equal(found["b/c"], np.arange(4, dtype=np.float32) / 3)


@pytest.mark.parametrize("version", [0, 1, 2])
def test_a_truncated_file_is_refused_wherever_it_ends(version: int, tmp_path: Path) -> None:
    whole = small_file(version)
    for length in range(len(whole)):
        with pytest.raises(UserError, match=r"file\.params"):
            read(tmp_path, whole[:length])
    with pytest.raises(UserError, match="behind the last name"):
        read(tmp_path, whole + b"x")


def _header(*shape: int, kind: int = 0) -> bytes:
    return struct.pack(f"<IiI{len(shape)}q", 0xF993FAC9, 0, len(shape), *shape) + struct.pack("<iii", 1, 0, kind)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (_header(10 * 2**30 // 4), "10737418240 bytes"),
        (_header(2**40, 2**40), "bytes where"),
        (_header(2**62, 4), "bytes where"),
        (_header(-1), "positive lengths"),
        (_header(0, 5), "positive lengths"),
        (struct.pack("<IiI", 0xF993FAC9, 0, 2**31), "2147483648 dimensions"),
        (struct.pack("<Ii", 0xF993FAC9, 1) + bytes(40), "row-sparse"),
        (struct.pack("<Ii", 0xF993FAC9, 2) + bytes(40), "compressed sparse"),
        (struct.pack("<Ii", 0xF993FAC9, 77) + bytes(40), "storage type 77"),
        (_header(1, kind=9) + bytes(8), "element type 9"),
        (_header(2, kind=2) + bytes(4), "arg:evil is float16"),
        (_header(1, kind=1) + bytes(8), "arg:evil is float64"),
        (struct.pack("<IiI", 0xF993FAC9, 0, 0), "arg:evil is empty"),
    ],
)
def test_absurd_arrays_are_named_and_refused(array: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, list_of({"arg:evil": array}))


@pytest.mark.parametrize("name", ["evil", "weight:x", "arg:\x00", "arg:\u00e9", "arg:" + "x" * 2000])
def test_absurd_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name"):
        read(tmp_path, list_of({name: ndarray(np.zeros(1, "<f4"))}))


def test_a_name_twice_a_pickle_nothing_and_no_file_are_refused(tmp_path: Path) -> None:
    twice = small_file().replace(b"aux:b/c", b"arg:a\0\0")
    one = list_of({"arg:a": ndarray(np.zeros(1, "<f4"))})
    doubled = one[:16] + struct.pack("<Q", 2) + ndarray(np.zeros(1, "<f4")) * 2 + struct.pack("<Q", 2)
    doubled += (struct.pack("<Q", 5) + b"arg:a") * 2
    for data in (twice, doubled, pickle.dumps({"arg:a": 1}), b"", b"PK\x03\x04" + bytes(100)):
        with pytest.raises(UserError):
            read(tmp_path, data)
    with pytest.raises(UserError, match="No such file"):
        read_params(tmp_path / "none.params")


def test_what_a_header_claims_takes_no_memory(tmp_path: Path) -> None:
    claims = struct.pack("<QQQ", 0x112, 0, 2**40) + bytes(1000)
    tracemalloc.start()
    try:
        for data in (claims, list_of({"arg:evil": _header(10 * 2**30 // 4)}), claims[:16] + b"\xff" * 500):
            with pytest.raises(UserError):
                read(tmp_path, data)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@given(st.data())
def test_any_damage_is_an_error_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    raw = bytearray(small_file(data.draw(st.sampled_from([0, 1, 2]))))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(raw) - 1))
        match data.draw(st.sampled_from(["set", "delete", "insert"])):
            case "set":
                raw[at] = data.draw(st.integers(0, 255))
            case "delete":
                del raw[at : at + data.draw(st.integers(1, 9))]
            case _:
                raw[at:at] = data.draw(st.binary(max_size=9))
        if not raw:
            break
    path = tmp_path_factory.getbasetemp() / "fuzz.params"
    path.write_bytes(bytes(raw))
    try:
        found = read_params(path)
    except UserError:
        return
    assert all(array.dtype == np.float32 and array.nbytes <= len(raw) for array in found.values())
