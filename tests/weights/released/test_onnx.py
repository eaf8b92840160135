"""ONNX files: the initializers that `onnx` itself finds, and one clear error for everything hostile."""

import pickle
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mxnet_files import damage, field, onnx_file, onnx_model, params_file, small_network, tensor, varint

from ducseg.errors import UserError
from ducseg.weights import tusimple
from ducseg.weights.released import onnx as onnx_zoo
from ducseg.weights.released.network import MAX_ARRAYS, BoundedFile, StoredArray
from ducseg.weights.released.onnx import index

A = np.arange(6, dtype="<f4").reshape(2, 3)


def read(tmp_path: Path, data: bytes) -> dict[str, StoredArray]:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    return index(path)


def test_initializers_are_those_that_onnx_finds(shared: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = shared / "fixtures" / "tusimple" / "narrow-mxnet.onnx"
    found, model = index(path), onnx.load(path)
    kinds = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.INT64: "int64"}
    assert {name: (array.shape, array.kind) for name, array in found.items()} == {
        one.name: (tuple(one.dims), kinds[one.data_type]) for one in model.graph.initializer
    }
    with BoundedFile(path, "ONNX file") as file:
        for one in model.graph.initializer:
            if one.data_type == onnx.TensorProto.FLOAT:
                np.testing.assert_array_equal(file.float32(found[one.name]), onnx.numpy_helper.to_array(one))


@pytest.mark.parametrize("raw", [False, True])
def test_the_network_is_that_of_the_params_file(tmp_path: Path, raw: bool) -> None:
    arrays = small_network()
    (tmp_path / "model.onnx").write_bytes(onnx_file(arrays | {"scale": A, "reshape": A}, raw=raw))
    (tmp_path / "model.params").write_bytes(params_file(arrays))
    found, other = onnx_zoo.load(tmp_path / "model.onnx"), tusimple.load(tmp_path / "model.params")
    assert found.architecture == other.architecture and found.preprocessing == other.preprocessing
    for name, value in found.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_onnx_own_writer_and_packed_dimensions_are_read(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    made = onnx.numpy_helper.from_array(A, "conv1")
    data = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [made])).SerializeToString()
    assert read(tmp_path, data)["conv1"].shape == (2, 3)
    packed = field(1, varint(2) + varint(3)) + tensor("conv1", (), A.tobytes())
    assert read(tmp_path, onnx_model(packed))["conv1"].shape == (2, 3)


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    whole = onnx_file({"conv1": A, "conv2": A})
    for length in range(len(whole)):
        with pytest.raises(UserError, match=r"model\.onnx"):
            read(tmp_path, whole[:length])


PLACE = field(13, field(1, b"location") + field(2, b"../../etc/passwd"))
EXTERNAL = b"\x70\x01"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (onnx_model(tensor("conv1", (2**40, 2**40), bytes(24))), "24 bytes for shape"),
        (onnx_model(tensor("conv1", (2**62, 4), bytes(0))), "0 bytes for shape"),
        (onnx_model(tensor("conv1", (2**64 - 6, 1), bytes(24))), r"shape \(18446744073709551610, 1\)"),
        (onnx_model(tensor("conv1", (0,), b"")), r"shape \(0,\)"),
        (onnx_model(tensor("conv1", (1,) * 9, bytes(4))), r"shape \(1, 1, 1, 1, 1, 1, 1, 1, 1\)"),
        (onnx_model(tensor("conv1", (6,), bytes(20))), "20 bytes for shape"),
        (onnx_model(tensor("conv1", (2,), bytes(8)) + field(4, bytes(8))), "in parts"),
        (onnx_model(tensor("conv1", (2,), bytes(8)) + b"\x1a\x00"), "in parts"),
        (onnx_model(b"\x08\x02\x10\x01" + field(8, b"conv1")), "not here"),
        (onnx_model(b"\x08\x02\x10\x01" + field(8, b"conv1") + PLACE + EXTERNAL), "not here"),
        (onnx_model(tensor("conv1", (2,), bytes(8)) + PLACE), "not here"),
        (onnx_model(tensor("conv1", (2,), bytes(8)) + EXTERNAL), "not here"),
        (onnx_model(b"\x08\x02\x10\x01" + field(8, b"conv1") + 2 * (b"\x25" + bytes(4))), "not here"),
        (onnx_model(tensor("", (2,), bytes(8))), "a name of 0 bytes"),
        (onnx_model(tensor("a\x1b[31m", (2,), bytes(8))), "a name of 6 bytes"),
        (onnx_model(tensor("a" * 501, (2,), bytes(8))), "a name of 501 bytes"),
        (onnx_model(tensor("conv1", (2,), bytes(8), data_type=99)), "initializer conv1 of type 99"),
        (onnx_model(*2 * [tensor("conv1", (2,), bytes(8))]), "more than one initializer named conv1"),
        (onnx_model(), "without initializers"),
        (field(7, field(15, b"")), "sparse initializers"),
        (field(7, b"\x2a\xff\xff\xff\xff\x7f" + bytes(900)), "34359738367 bytes of a field"),
        (b"\x3a" + b"\xff" * 9 + b"\x01" + bytes(900), "bytes of a field announced"),
        (b"\x3a" + b"\xff" * 20, "more than ten bytes"),
        (b"\x0b" + bytes(20), "a field of kind 3"),
        (field(7, b"\x2d\x00"), "4 bytes of a field announced"),
        (pickle.dumps({"conv1": 1}), "found"),
    ],
)
def test_absurd_files_are_refused(tmp_path: Path, model: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, model)


def test_other_numbers_and_left_out_layers_are_named(tmp_path: Path) -> None:
    arrays = small_network()
    tensors = [
        tensor(name, array.shape, array.tobytes()) for name, array in arrays.items() if name != "conv2_1_3x3_weight"
    ]
    tensors.append(tensor("conv2_1_3x3_weight", (1, 1, 3, 3), bytes(18), raw=True, data_type=10))
    tensors.append(tensor("conv9_weight", (1,), bytes(4)))
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_model(*tensors))
    with pytest.raises(UserError, match="conv9_weight, which it does not have, conv2_1_3x3_weight as float16"):
        onnx_zoo.load(path)


def test_what_a_file_claims_takes_neither_memory_nor_time(tmp_path: Path) -> None:
    huge = tmp_path / "huge.onnx"
    with huge.open("wb") as file:  # 10 GB that take no place on the disk
        file.write(onnx_file({"conv1": A}) + b"\x00\x00")
        file.truncate(10 * 2**30)
    tracemalloc.start()
    try:
        for data in (
            onnx_model(*(tensor(f"a{number}", (1,), bytes(4)) for number in range(MAX_ARRAYS + 1))),
            field(7, b"\x08\x00" * 1_000_000),
            field(7, (b"\x08" + b"\x80" * 9 + b"\x00") * 100_000),
            field(7, field(5, b"\x08\x01" * 1_000_000)),
            field(7, field(5, field(1, b"\x01" * 1_000_000) + tensor("a", (1,), bytes(4)))),
            field(7, field(5, field(8, b"a" * 10_000_000))),
        ):
            path = tmp_path / "model.onnx"
            path.write_bytes(data)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            with pytest.raises(UserError):
                index(path)
            assert tracemalloc.get_traced_memory()[1] - before < 8 * 2**20
            tracemalloc.stop()  # which makes all of it slower
            started = time.process_time()
            with pytest.raises(UserError):
                index(path)
            assert time.process_time() - started < 1
            tracemalloc.start()
        with pytest.raises(UserError):
            index(huge)
    finally:
        tracemalloc.stop()


@given(st.data())
def test_any_damage_is_an_error_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    raw = bytearray(onnx_file({"conv1": A, "conv2": A[0]}, raw=data.draw(st.booleans())))
    damage(raw, data)
    path = tmp_path_factory.getbasetemp() / "fuzz.onnx"
    path.write_bytes(bytes(raw))
    try:
        found = index(path)
    except UserError:
        return
    with BoundedFile(path, "ONNX file") as file:
        for array in found.values():
            if array.kind == "float32":
                try:
                    assert file.float32(array).nbytes <= len(raw)
                except UserError as error:
                    assert "infinite or undefined" in str(error)
