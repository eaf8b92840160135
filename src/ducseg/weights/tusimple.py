"""The authors' weights as they released them, into a segmenter or a checkpoint; read with numpy alone."""

import contextlib
from pathlib import Path
from typing import Literal

from ducseg.errors import explain
from ducseg.models import Segmenter
from ducseg.weights.checkpoint import save_segmenter
from ducseg.weights.released import onnx
from ducseg.weights.released.mxnet import load

__all__ = ["import_file", "load"]


_LOADERS = {"tusimple": load, "onnx-zoo": onnx.load}


def import_file(
    source: Literal["tusimple", "onnx-zoo"], file: Path, out: Path, *, num_classes: int | None = None
) -> str:
    """Make a checkpoint folder of a file of the authors' weights: what `ducseg import-weights` does.

    Args:
        source: "tusimple", MXNet's .params file; "onnx-zoo", MXNet's export to ONNX.
        file: the weights.
        out: a new folder, or an empty one; it is written whole or not at all.
        num_classes: L, for a file that does not tell it (`ducseg.weights.tusimple.load`).

    Returns:
        One line: the folder and what network is in it.

    Raises:
        UserError: the file is not of the authors' network or is broken; `out` holds something or cannot be written.
    """
    file, out = Path(file), Path(out)
    _check_free(out)
    segmenter = _LOADERS[source](file, num_classes=num_classes)
    with contextlib.suppress(OSError):  # an empty folder makes way; whatever else is there, save_segmenter refuses
        out.rmdir()
    save_segmenter(out, segmenter, extra={"command": f"ducseg import-weights {source} {file.name} --out {out.name}"})
    return f"{out}: {_summary(segmenter)}"


def _check_free(out: Path) -> None:
    if not out.exists():
        return
    try:
        found = "a file there" if not out.is_dir() else "files in it" if any(out.iterdir()) else ""
    except OSError as error:
        found = f"a folder that does not open ({error.strerror})"
    if found:
        raise explain(f"--out {out}", found=found, needed="a new or empty folder", fix="Choose another --out.")


def _summary(segmenter: Segmenter) -> str:
    """One line: encoder, head, classes, parameters."""
    chosen = segmenter.architecture
    names = segmenter.classes.names
    count = sum(parameter.numel() for parameter in segmenter.parameters())
    width = "" if chosen.width == 64 else f", width {chosen.width}"
    return (
        f"{chosen.encoder}{width}, DUC with cell {chosen.cell}, ASPP {chosen.aspp}, "
        f"{len(names)} classes ({names[0]}, ... {names[-1]}), {count:,} parameters"
    )
