"""`ducseg import-weights`: weights as they were released."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from ducseg.cli.options import File, Folder

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Turn released weights into a checkpoint: the authors' .params file of MXNet, or the ONNX zoo's export of it; the
    .caffemodel of FCN-8s, Dilation10, DeepLabv2 or G-CRF; a PyTorch conversion of DeepLabv2; the .mat of LRR-4x."""

    source: Annotated[
        tyro.conf.Positional[Literal["tusimple", "onnx-zoo", "fcn8s", "dilation10", "deeplabv2", "gcrf", "lrr4x"]],
        tyro.conf.arg(metavar="SOURCE"),
    ]
    """Which kind of file: tusimple, onnx-zoo, fcn8s, dilation10, deeplabv2, gcrf or lrr4x."""
    file: tyro.conf.Positional[File]
    """The file, such as ResNet_DUC_HDC_CityScapes-0000.params."""
    out: Folder
    """Folder to make."""
    num_classes: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Number of classes, for a file that does not tell it."""


def run(options: Options) -> int:
    """Say what network was in the file."""
    from ducseg.weights.released.importing import import_file

    print(import_file(options.source, options.file, options.out, num_classes=options.num_classes))
    return 0
