"""An exported network as a file: ONNX, everything in it, and what it says of itself in its metadata.

One graph: pictures of any size to labels uint8 (N, H, W), or scores or probabilities float32 (N, L, H, W). Pictures are
(N, H, W, C) as stored: RGB uint8, or the channels and the type that "preprocessing" in the metadata says. Under the
metadata key "ducseg" is the JSON of `model.json` (`ducseg.weights.checkpoint`) with

    {"output": "labels" | "scores" | "probabilities", "int8": {...} or null, ...}

Nothing of a file is run before it is known to be one of these, and no other file is ever opened: a tensor that says
that its numbers are elsewhere ("external data") is refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ducseg.classes import ClassSet
from ducseg.data.files.channels import Pixels
from ducseg.errors import UserError, explain, package
from ducseg.files import parse_json
from ducseg.inference.taken import pixels_taken
from ducseg.models.preprocessing import Preprocessing
from ducseg.weights.model_json import FORMAT

__all__ = ["INSTALL", "METADATA", "OnnxFile", "Output", "parse_onnx", "read_onnx"]

Output = Literal["labels", "scores", "probabilities"]

METADATA = "ducseg"
"""The metadata key of the description."""

INSTALL = "'ducseg[export]'"

_MOST_BYTES = 2**31
"""Protobuf's own limit."""

_TYPES = {"float32": 1, "uint8": 2, "uint16": 4}
"""ONNX's numbers of them."""

_EXTERNAL = 1
_OTHERS = {
    b"PK\x03\x04": "a file that torch.save or torch.export wrote",
    b"\x80\x02": "a file that torch.save wrote",
    b"{": "a JSON file",
    **dict.fromkeys((b"\xff\xd8\xff", b"\x89PNG", b"II*\0", b"MM\0*"), "a picture, where the network comes first"),
}
"""How other files start that people have of networks; of safetensors' the ninth byte tells."""


@dataclass(frozen=True)
class OnnxFile:
    """One exported network, checked and not yet run.

    Attributes:
        path: where it was read.
        content: the whole file.
        description: the metadata, as `model.json` with "output" and "int8".
        classes: what labels and scores index.
        pixels: what the pictures hold that it takes.
        output: what the graph gives.
        opset: of its operators.
    """

    path: Path
    content: bytes
    description: dict[str, Any]
    classes: ClassSet
    pixels: Pixels
    output: Output
    opset: int


def read_onnx(path: Path | str) -> OnnxFile:
    """Read and check a file of `ducseg export`.

    Raises:
        UserError: no such file, a file of another kind (which), one cut short, an ONNX file of another program,
            numbers in other files, a newer format; the package onnx is missing.
    """
    path = Path(path).expanduser()
    return parse_onnx(path, _read(path))


def parse_onnx(path: Path, content: bytes) -> OnnxFile:
    """As `read_onnx`, of bytes that are or will be at `path`."""
    onnx = package("onnx", what="ONNX files", install=INSTALL)
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, RuntimeError) as error:
        raise _refused(path, "a file that is no ONNX, or was cut short") from error
    if not model.graph.node:
        raise _refused(path, "a file that is no ONNX, or was cut short")
    outside = [message.name for message in _tensors(model) if message.data_location == _EXTERNAL]
    if outside:
        raise _refused(path, f"an ONNX file whose numbers are in another file ({outside[0]})")
    entries = {entry.key: entry.value for entry in model.metadata_props}
    if METADATA not in entries:
        by = f" by {model.producer_name}" if model.producer_name else ""
        raise _refused(path, f"an ONNX file of another program{by}, or cut short: no description of classes in it")
    description, classes, pixels = _described(path, entries[METADATA])
    opsets = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if not opsets:
        raise _refused(path, "an ONNX file that does not say of which version its operators are")
    found = OnnxFile(path, content, description, classes, pixels, description["output"], max(opsets))
    _check_graph(found, model.graph)
    return found


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise _refused(path, "a folder" if path.is_dir() else "no such file")
    if path.stat().st_size >= _MOST_BYTES:
        raise _refused(path, f"{path.stat().st_size} bytes, more than an ONNX file can have")
    content = path.read_bytes()
    other = next((what for start, what in _OTHERS.items() if content.startswith(start)), None)
    if content[8:9] == b"{" and content[6:8] == b"\0\0":
        other = "a safetensors file"
    if other is not None:
        raise explain(
            f"network {path}",
            found=other,
            needed="a checkpoint folder, a Hub id or an ONNX file of `ducseg export`",
            fix="Of a checkpoint, give the folder that holds model.json and model.safetensors.",
        )
    if not content:
        raise _refused(path, "an empty file")
    return content


def _tensors(message: Any) -> Iterator[Any]:
    """Every TensorProto of a model, wherever it stands."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for below in value if field.is_repeated else (value,):
                yield from _tensors(below)


def _described(path: Path, text: str) -> tuple[dict[str, Any], ClassSet, Pixels]:
    try:
        found = parse_json(text)
        if found["format"] <= FORMAT:
            if found["output"] not in get_args(Output) or not isinstance(found.get("extra") or {}, dict):
                raise ValueError(f"output {found['output']!r}")
            pixels = pixels_taken(Preprocessing.from_json(found["preprocessing"]))
            return found, ClassSet.from_json(found["classes"]), pixels
    except (UserError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        said = str(error) if isinstance(error, UserError) else repr(error)
        raise _refused(path, f"a description in it that does not read ({said})") from error
    raise _refused(path, f"format {found['format']} of a newer ducseg, where this one reads {FORMAT}")


def _check_graph(file: OnnxFile, graph: Any) -> None:
    """The graph has the one input and the one output that its description says."""
    weights = {tensor.name for tensor in graph.initializer}
    takes, gives = (
        [(one.type.tensor_type.elem_type, one.type.tensor_type.shape.dim) for one in ends]
        for ends in ([one for one in graph.input if one.name not in weights], graph.output)
    )
    pixels = file.pixels
    right = [(kind, len(shape), shape[-1].dim_value) for kind, shape in takes if shape] == [
        (_TYPES[pixels.dtype], 4, pixels.channels)
    ]
    given = (_TYPES["uint8"], 3) if file.output == "labels" else (_TYPES["float32"], 4)
    if not right or [(kind, len(shape)) for kind, shape in gives] != [given]:
        wanted = f"{pixels.dtype} (N, H, W, {pixels.channels})"
        raise _refused(file.path, f"a graph that does not take {wanted} and give {file.output}")


def _refused(path: Path, found: str) -> UserError:
    fix = "Write it with `ducseg export CHECKPOINT --out FILE.onnx`, or copy it again."
    return explain(f"ONNX file {path}", found=found, needed="a file that `ducseg export` wrote, whole", fix=fix)
