"""The authors' network from the ONNX model zoo: MXNet's export keeps MXNet's parameter names.

The `onnx` package reads the file; the graph is not looked at, for the parameters say which network it is. Its parser
stops at damage and takes memory in proportion to the file; tensors that point at other files are refused.
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ducseg.errors import explain
from ducseg.models import Segmenter
from ducseg.weights.tusimple import segmenter_of

__all__ = ["load", "read_initializers"]

_PARAMETER = re.compile(r".*_(weight|bias|gamma|beta|moving_mean|moving_var)")
_LARGEST = 2**31 - 1  # bytes that protobuf takes


def load(onnx_path: Path | str) -> Segmenter:
    """The network of MXNet's ONNX export, in evaluation mode.

    Raises:
        UserError: `onnx` is not installed; no ONNX file or a damaged one; not the released network's parameters.
    """
    return segmenter_of(read_initializers(Path(onnx_path)), f"weights {onnx_path}")


def read_initializers(path: Path) -> dict[str, NDArray[np.float32]]:
    """Parameters by name; constants of the graph (shapes, axes) are left out.

    Raises:
        UserError: as `load`.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise explain(
            "ONNX files", found="no onnx package", needed="it, to read them", fix='pip install "ducseg[export]"'
        ) from None
    try:
        if path.stat().st_size > _LARGEST:
            raise explain(f"weights {path}", found="more than 2 GiB", needed="an ONNX file", fix="Check the path.")
        model = onnx.load_model_from_string(path.read_bytes())
        tensors = [tensor for tensor in model.graph.initializer if _PARAMETER.fullmatch(tensor.name)]
        return {tensor.name: _array(tensor, path) for tensor in tensors}
    except OSError as error:
        raise explain(f"weights {path}", found=str(error), needed="an ONNX file", fix="Check the path.") from error
    except DecodeError as error:
        raise explain(
            f"weights {path}", found=f"no ONNX model ({error})", needed="one", fix="Download the file again."
        ) from error


def _array(tensor: "onnx.TensorProto", path: Path) -> NDArray[np.float32]:  # type: ignore[name-defined] # noqa: F821
    import onnx

    float32 = onnx.TensorProto.FLOAT
    if tensor.data_type != float32 or tensor.data_location == onnx.TensorProto.EXTERNAL:
        where = "in another file" if tensor.data_location == onnx.TensorProto.EXTERNAL else "of another type"
        raise explain(
            f"weights {path}",
            found=f"{tensor.name!r} {where}",
            needed="float32 numbers inside the file",
            fix="Download the ONNX zoo's ResNet101_DUC_HDC.",
        )
    values = np.frombuffer(tensor.raw_data, "<f4") if tensor.raw_data else np.array(tensor.float_data, np.float32)
    shape = tuple(tensor.dims)
    if any(length < 1 for length in shape) or int(np.prod(np.array(shape, object))) != values.size:
        raise explain(
            f"weights {path}",
            found=f"{tensor.name!r} with {values.size} numbers for shape {shape}",
            needed="a number for each place",
            fix="Download the file again.",
        )
    return values.reshape(shape)
