"""Any file of released weights into a checkpoint: which kinds there are, and what reads each."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from ducseg.errors import explain
from ducseg.models import Segmenter
from ducseg.weights import tusimple
from ducseg.weights.checkpoint import save_segmenter
from ducseg.weights.released import deeplabv2, dilation10, fcn8s, matconvnet, onnx

__all__ = ["Kind", "import_file"]

Kind = Literal["tusimple", "onnx-zoo", "fcn8s", "dilation10", "deeplabv2", "gcrf", "lrr4x"]
"""Of file, by whose network is in it."""

_LOADERS: dict[Kind, Callable[..., Segmenter]] = {
    "tusimple": tusimple.load,
    "onnx-zoo": onnx.load,
    "fcn8s": fcn8s.load,
    "dilation10": dilation10.load,
    "deeplabv2": deeplabv2.load,
    "gcrf": deeplabv2.load_gcrf,
    "lrr4x": matconvnet.load,
}


def import_file(source: Kind, file: Path, out: Path, *, num_classes: int | None = None) -> str:
    """Make a checkpoint folder of a file of released weights: what `ducseg import-weights` does.

    Args:
        source: "tusimple", the authors' .params file of MXNet; "onnx-zoo", MXNet's export of it; "fcn8s", "dilation10",
            "deeplabv2", "gcrf": Caffe's .caffemodel of those networks, of DeepLabv2 also PyTorch's conversions;
            "lrr4x": MatConvNet's .mat file.
        file: the weights.
        out: a new folder, or an empty one; it is written whole or not at all.
        num_classes: L, for a file that does not tell it (`ducseg.weights.tusimple.load`).

    Returns:
        One line: the folder and what network is in it.

    Raises:
        UserError: the file is not of that network or is broken; `out` holds something or cannot be written.
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
    head = f"DUC with cell {chosen.cell}" if chosen.head == "duc" else chosen.head
    aspp = f", ASPP {chosen.aspp}" if chosen.aspp else ""
    return (
        f"{chosen.encoder}{width}, {head}{aspp}, "
        f"{len(names)} classes ({names[0]}, ... {names[-1]}), {count:,} parameters"
    )
