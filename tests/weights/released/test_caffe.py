"""Caffe's files: what each layer holds, and one clear error for everything hostile, in little time and memory."""

import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from caffe_files import blob, caffemodel, deeplab_layers, dilation_layers, fcn_layers
from hypothesis import given
from hypothesis import strategies as st
from mxnet_files import damage, field, varint

from ducseg.errors import UserError
from ducseg.weights.released import deeplabv2, dilation10, fcn8s
from ducseg.weights.released.caffe import index
from ducseg.weights.released.network import MAX_ARRAYS, BoundedFile, StoredArray

A = np.arange(24, dtype="<f4").reshape(2, 3, 2, 2)
B = np.arange(2, dtype="<f4")
LOADERS = {"fcn8s": fcn8s.load, "dilation10": dilation10.load, "deeplabv2": deeplabv2.load}


def read(tmp_path: Path, data: bytes) -> dict[str, tuple[StoredArray, ...]]:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(data)
    return index(path)


def layer(name: str, *blobs: bytes) -> bytes:
    return field(100, field(1, name.encode()) + b"".join(field(7, one) for one in blobs))


@pytest.mark.parametrize("old", [False, True])
def test_every_layers_blobs_are_found(tmp_path: Path, old: bool) -> None:
    found = read(tmp_path, caffemodel({"conv": [A, B], "scale": [B]}, old=old))
    assert list(found) == ["conv", "scale"], "layers without numbers are passed over"
    assert [one.shape for one in found["conv"]] == [(2, 3, 2, 2), (1, 1, 1, 2) if old else (2,)]
    with BoundedFile(tmp_path / "net.caffemodel", "file") as file:
        np.testing.assert_array_equal(file.float32(found["conv"][0]), A)
        np.testing.assert_array_equal(file.float32(found["scale"][0]).ravel(), B)


def test_packed_and_single_sides_and_gradients_are_read(tmp_path: Path) -> None:
    single = field(7, b"\x08\x02\x08\x0c") + field(5, A.tobytes()) + field(6, A.tobytes())
    assert read(tmp_path, layer("conv", single))["conv"][0].shape == (2, 12)


def test_protobufs_own_writer_is_read(tmp_path: Path) -> None:
    descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")
    from google.protobuf import descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for message, fields in {
        "BlobShape": [("dim", 1, kinds.TYPE_INT64, "")],
        "BlobProto": [("data", 5, kinds.TYPE_FLOAT, ""), ("shape", 7, kinds.TYPE_MESSAGE, "BlobShape")],
        "LayerParameter": [("name", 1, kinds.TYPE_STRING, ""), ("blobs", 7, kinds.TYPE_MESSAGE, "BlobProto")],
        "NetParameter": [("layer", 100, kinds.TYPE_MESSAGE, "LayerParameter")],
    }.items():
        made = file.message_type.add(name=message)
        for name, number, kind, of in fields:
            one = made.field.add(name=name, number=number, type=kind)
            one.label = kinds.LABEL_REPEATED if name in ("dim", "data", "blobs", "layer") else kinds.LABEL_OPTIONAL
            if of:
                one.type_name = f".caffe.{of}"
            if name in ("dim", "data"):
                one.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    net = message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))()
    entry = net.layer.add(name="conv1_1").blobs.add()
    entry.data.extend(A.ravel().tolist())
    entry.shape.dim.extend(A.shape)
    (found,) = read(tmp_path, net.SerializeToString())["conv1_1"]
    assert found.shape == A.shape
    with BoundedFile(tmp_path / "net.caffemodel", "file") as stored:
        np.testing.assert_array_equal(stored.float32(found), A)


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    """But where a whole layer ends, as any file may: what it lacks is then missing from the network."""
    whole = caffemodel({"conv1": [A], "conv2": [B]})
    relu = len(field(100, field(1, b"relu of conv1")))
    one = len(caffemodel({"conv1": [A]}))
    ends = {one - relu, one, len(whole) - relu}
    for length in sorted({*range(0, len(whole), 3), *ends}):
        if length in ends:
            assert set(read(tmp_path, whole[:length])) <= {"conv1", "conv2"}
            continue
        with pytest.raises(UserError, match=r"net\.caffemodel"):
            read(tmp_path, whole[:length])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "without layers"),
        (b"PK\x03\x04 a zip", "field"),
        (layer("conv", field(7, field(1, varint(2**40) * 2)) + field(5, bytes(24))), "24 bytes for a blob of shape"),
        (layer("conv", field(7, field(1, varint(2**63) + varint(1))) + field(5, bytes(24))), "a blob of shape"),
        (layer("conv", field(7, field(1, varint(0))) + field(5, bytes(24))), r"shape \(0,\)"),
        (
            layer("conv", field(7, field(1, b"\x01" * 100_000)) + field(5, bytes(4))),
            r"shape \(1, 1, 1, 1, 1, 1, 1, 1, 1\)",
        ),
        (layer("conv", field(7, field(1, varint(6)))), "not there, not packed or in parts"),
        (layer("conv", field(7, field(1, varint(2))) + b"\x2d" + bytes(4) + b"\x2d" + bytes(4)), "not packed"),
        (layer("conv", field(5, bytes(4)) + field(5, bytes(4))), "in parts"),
        (layer("conv", blob(A)) * 2, "more than one layer named conv"),
        (field(100, field(7, blob(A))), "no name"),
        (layer("x" * 600, blob(A)), "name of 600 bytes"),
        (varint(100 << 3 | 2) + varint(2**62), "announced"),
        (varint(100 << 3 | 2) + b"\xff" * 11, "more than ten bytes"),
        (varint(100 << 3 | 3), "kind 3"),
        (field(100, field(1, b"a") + field(7, varint(5 << 3 | 2) + varint(2**40))), "announced"),
    ],
)
def test_what_is_no_such_file_is_said(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, content)


@pytest.mark.slow
def test_what_hostile_files_cost(tmp_path: Path) -> None:
    """Many fields, many blobs, deep nesting: refused or passed over in bounded time, and never held in memory."""
    deep = b""
    for _ in range(2_000):
        deep = field(7, deep)
    contents = {
        "fields": b"\x08\x00" * 300_000,
        "blobs": b"".join(layer(f"c{number}", field(5, bytes(4))) for number in range(MAX_ARRAYS + 1)),
        "deep": field(100, field(1, b"a") + field(7, deep)),
        "zeros": bytes(4_000_000),
        "long": layer(
            "conv", field(7, field(1, varint(1_000_000))) + field(5, bytes(4_000_000)), field(7, field(9, b""))
        ),
    }
    for name, content in contents.items():
        path = tmp_path / f"{name}.caffemodel"
        path.write_bytes(content)
        tracemalloc.start()
        started = time.process_time()
        with pytest.raises(UserError, match=f"{name}.caffemodel"):
            fcn8s.load(path)
        assert time.process_time() - started < 15, name
        assert tracemalloc.get_traced_memory()[1] < 30e6, name
        tracemalloc.stop()


FILES = {
    "fcn8s": caffemodel(fcn_layers(width=1, classes=2)),
    "dilation10": caffemodel(dilation_layers(width=1, classes=2)),
    "deeplabv2": caffemodel(deeplab_layers(width=1, classes=2, scales=False)),
}


@pytest.mark.slow
@given(data=st.data(), kind=st.sampled_from(sorted(FILES)))
def test_a_damaged_file_loads_or_says_what_is_wrong(
    data: st.DataObject, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    raw = bytearray(FILES[kind])
    damage(raw, data)
    path = tmp_path_factory.mktemp("damaged") / "net.caffemodel"
    path.write_bytes(raw)
    try:
        LOADERS[kind](path)
    except UserError as error:
        assert "net.caffemodel" in str(error) and "\n" not in str(error)
