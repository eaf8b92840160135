"""`ducseg import-weights`: the authors' files."""

from dataclasses import dataclass
from typing import Literal

import tyro

from ducseg.cli.options import File, Folder

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Turn the authors' released weights into a checkpoint: MXNet's .params file, or the ONNX zoo's export of it."""

    source: tyro.conf.Positional[Literal["tusimple", "onnx-zoo"]]
    """Which kind of file."""
    file: tyro.conf.Positional[File]
    """The file, such as ResNet_DUC_HDC_CityScapes-0000.params."""
    out: Folder
    """Folder to make."""
    num_classes: int | None = None
    """Number of classes, for a file that does not tell it."""


def run(options: Options) -> int:
    """Say what network was in the file."""
    from ducseg.weights.tusimple import import_file

    print(import_file(options.source, options.file, options.out, num_classes=options.num_classes))
    return 0
