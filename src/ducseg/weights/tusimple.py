"""The authors' weights as they released them: MXNet's .params files, read with numpy alone."""

import contextlib
from pathlib import Path
from typing import Literal

from ducseg.errors import explain
from ducseg.models import Segmenter
from ducseg.weights.checkpoint import save_segmenter
from ducseg.weights.released import onnx_zoo
from ducseg.weights.released.mxnet_params import index
from ducseg.weights.released.symbol import assemble

__all__ = ["import_file", "load"]


def load(params_path: Path | str, *, num_classes: int | None = None) -> Segmenter:
    """Read a .params file of the authors' network (TuSimple-DUC), as it is or trained further with their code.

    Classes, cell, depth, widths and ASPP paths come from the file; 19 classes get Cityscapes' names and colours, those
    of another known data set theirs where the head is named after it (the released code's `exp`).

    Args:
        params_path: NDArray list of MXNet, of any version (V0 to V3).
        num_classes: L, for a head whose channels fit more than one L and cell (L, cell 2 are 4L, cell 4); the error
            says when. None: as the file says.

    Returns:
        The segmenter in evaluation mode, with the authors' preprocessing: RGB minus the mean.

    Raises:
        UserError: not such a file, a broken one, or one of another network; sparse arrays or other numbers than
            float32 are named.
    """
    path = Path(params_path)
    stored = index(path)
    arrays = {name.removeprefix("arg:").removeprefix("aux:"): array for name, array in stored.items()}
    if len(arrays) < len(stored):
        twice = sorted(name for name in arrays if f"arg:{name}" in stored and f"aux:{name}" in stored)
        raise explain(
            f"weights {path}",
            found=f"{', '.join(twice[:10])} both as arg: and as aux:",
            needed="each array once",
            fix="Download the file again.",
        )
    return assemble(path, arrays, num_classes)


_LOADERS = {"tusimple": load, "onnx-zoo": onnx_zoo.load}


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
