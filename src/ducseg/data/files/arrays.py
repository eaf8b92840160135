"""Arrays of numpy's files, which hold numbers and nothing that is executed."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.errors import explain

__all__ = ["read_array", "read_arrays"]


def read_array(path: Path) -> NDArray[Any]:
    """The array of a .npy file.

    Raises:
        UserError: missing or damaged, an archive, an array of objects, one larger than memory.
    """
    found = _loaded(path)
    if not isinstance(found, np.ndarray):
        raise _no_array(path, "an archive of arrays")
    return found


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a .npz file; raises `UserError` as `read_array`."""
    found = _loaded(path)
    if not isinstance(found, dict):
        raise _no_array(path, "a single array")
    return found


def _loaded(path: Path) -> NDArray[Any] | dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file:  # numpy leaves its own open where it raises
            found = np.load(file, allow_pickle=False)
            return found if isinstance(found, np.ndarray) else dict(found)
    except Exception as error:  # damage ends in errors of a dozen types: of zip, zlib, Python's parser, memory
        raise _no_array(path, f"{type(error).__name__}: {error}") from error


def _no_array(path: Path, reason: str) -> Exception:
    return explain(f"file {path}", found=f"no array ({reason})", needed="a .npy file", fix="Write it with numpy.save.")
