"""MXNet's file format: what is read, and that nothing hostile gets further than one clear error."""

import pickle
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mxnet_files import arrays_of, damage, header, list_of, ndarray, params_file, sparse

from ducseg.errors import UserError
from ducseg.weights.released.network import MAX_ARRAYS, StoredArray
from ducseg.weights.tusimple import index

A, B = np.arange(6, dtype="<f4").reshape(2, 3), np.arange(4, dtype="<f4") / 3


def small_file(version: int = 2) -> bytes:
    return params_file({"a_weight": A, "b/c_moving_mean": B}, version)


def read(tmp_path: Path, data: bytes) -> dict[str, StoredArray]:
    path = tmp_path / "file.params"
    path.write_bytes(data)
    return index(path)


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_every_layout_gives_names_and_values(version: int, tmp_path: Path) -> None:
    found = read(tmp_path, small_file(version))
    assert list(found) == ["arg:a_weight", "aux:b/c_moving_mean"]
    assert found["arg:a_weight"].shape == (2, 3) and found["arg:a_weight"].kind == "float32"
    values = arrays_of(tmp_path / "file.params")
    np.testing.assert_array_equal(values["a_weight"], A)
    np.testing.assert_array_equal(values["b/c_moving_mean"], B)
    assert all(array.dtype == np.float32 and array.flags.writeable for array in values.values())


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_a_truncated_file_is_refused_wherever_it_ends(version: int, tmp_path: Path) -> None:
    whole = small_file(version)
    for length in range(len(whole)):
        with pytest.raises(UserError, match=r"file\.params"):
            read(tmp_path, whole[:length])
    with pytest.raises(UserError, match="1 bytes after the end"):
        read(tmp_path, whole + b"x")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (header(10 * 2**30 // 4), "10737418240 bytes of array 0 announced"),
        (header(2**20, 2**20), "bytes of array 0 announced"),
        (header(2**62, 4), "bytes of array 0 announced"),
        (header(2**62, 2**62, 2**62, 2**62), "bytes of array 0 announced"),
        (header(2**32 - 1, version=0), "17179869180 bytes"),
        (header(-1), r"shape \(-1,\) of array 0"),
        (header(-4, -4, version=1), r"shape \(-4, -4\)"),
        (header(0, 5), r"shape \(0, 5\)"),
        (header(), "0 dimensions"),
        (header(), "0 dimensions"),
        (struct.pack("<IiI", 0xF993FAC9, 0, 2**31), "2147483648 dimensions"),
        (struct.pack("<I", 0x80000004), "2147483652 dimensions"),
        (struct.pack("<Ii", 0xF993FAC9, 77) + bytes(40), "storage type 77"),
        (struct.pack("<Ii", 0xF993FAC9, -1) + bytes(40), "storage type -1"),
        (struct.pack("<Ii", 0xF993FACA, 1) + bytes(40), "storage type 1"),
        (header(1, kind=9) + bytes(8), "number type 9"),
    ],
)
def test_absurd_arrays_are_refused(array: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, list_of({"arg:evil": array}))


def test_other_numbers_and_sparse_arrays_are_found_under_their_names(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        list_of(
            {
                "arg:half": ndarray(A.astype("<f2"), kind=2),
                "arg:double": ndarray(A.astype("<f8"), kind=1),
                "arg:rows": sparse(1, 6, 2),
                "arg:csr": sparse(2, 6, 10, 6),
                "arg:last": ndarray(B),
            }
        ),
    )
    assert [array.kind for array in found.values()] == ["float16", "float64", "row_sparse", "csr", "float32"]
    np.testing.assert_array_equal(np.fromfile(tmp_path / "file.params", "<f4", 4, offset=found["arg:last"].offset), B)


@pytest.mark.parametrize("name", ["", "arg:\x00", "arg:\x1b[31m", "arg:\u00e9", "arg:" + "x" * 2000])
def test_absurd_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="an array with a name of"):
        read(tmp_path, list_of({name: ndarray(B)}))


def test_a_name_twice_counts_that_differ_a_pickle_and_a_zip_are_refused(tmp_path: Path) -> None:
    one = list_of({"arg:a": ndarray(B)})
    body, name = ndarray(B), struct.pack("<Q", 5) + b"arg:a"
    twice = struct.pack("<QQQ", 0x112, 0, 2) + 2 * body + struct.pack("<Q", 2) + 2 * name
    fewer = struct.pack("<QQQ", 0x112, 0, 2) + 2 * body + struct.pack("<Q", 1) + name
    for data, message in (
        (twice, "2 arrays named arg:a"),
        (fewer, "another number of names"),
        (pickle.dumps({"arg:a": B}), "starts with"),
        (b"PK\x03\x04" + bytes(100), "starts with"),
        (one[:8] + b"\x01" + one[9:], "starts with"),
        (struct.pack("<QQQ", 0x112, 0, MAX_ARRAYS + 1) + body, f"{MAX_ARRAYS + 1} arrays announced"),
        (struct.pack("<QQQ", 0x112, 0, 0), "0 arrays announced"),
        (b"", "0 are left"),
    ):
        with pytest.raises(UserError, match=message):
            read(tmp_path, data)


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    for data in (pickle.dumps(Trap()), struct.pack("<QQQ", 0x112, 0, 1) + pickle.dumps(Trap())):
        with pytest.raises(UserError):
            read(tmp_path, data)
    assert not (tmp_path / "sprung").exists()


def test_no_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.params", Path("/dev/zero")):
        with pytest.raises(UserError, match="no such file"):
            index(path)


def test_what_a_header_claims_takes_neither_memory_nor_time(tmp_path: Path) -> None:
    huge = tmp_path / "huge.params"
    with huge.open("wb") as file:  # 10 GB that take no place on the disk
        file.write(struct.pack("<QQQ", 0x112, 0, 5_000))
        file.truncate(10 * 2**30)
    many = struct.pack("<QQQ", 0x112, 0, MAX_ARRAYS) + MAX_ARRAYS * ndarray(B[:1])
    started = time.process_time()
    tracemalloc.start()
    try:
        for data in (
            struct.pack("<QQQ", 0x112, 0, 2**60) + bytes(1000),
            struct.pack("<QQQ", 0x112, 0, 2**63) + b"\xff" * 500,
            list_of({"arg:evil": header(10 * 2**30 // 4)}).ljust(1000, b"\0"),
            struct.pack("<QQQ", 0x112, 0, 1) + ndarray(B) + struct.pack("<QQ", 1, 10 * 2**30) + bytes(900),
            many,
        ):
            with pytest.raises(UserError):
                read(tmp_path, data)
        with pytest.raises(UserError):
            index(huge)
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 6, "six files, a second each"


@given(st.data())
def test_any_damage_is_an_error_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    raw = bytearray(small_file(data.draw(st.sampled_from([0, 1, 2, 3]))))
    damage(raw, data)
    path = tmp_path_factory.getbasetemp() / "fuzz.params"
    path.write_bytes(bytes(raw))
    try:
        found = index(path)
    except UserError:
        return
    assert all(array.offset + 4 <= len(raw) for array in found.values())
