"""Files that are whole or not there."""

import contextlib
import os
from pathlib import Path

from ducseg.errors import explain

__all__ = ["write_whole"]


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` under a temporary name in the same folder, made if need be, and rename it.

    Raises:
        UserError: the folder is not writable or the disk is full; what was there before stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise explain(
            f"output {path}",
            found=error.strerror or str(error),
            needed="a folder that can be written, on a disk with room",
            fix="Choose another --out.",
        ) from error
