"""`ducseg data convert`: other tools' annotations to the folder layout."""

from dataclasses import dataclass
from importlib import import_module
from typing import Literal

import tyro

from ducseg.cli.options import File, Folder, Workers

__all__ = ["Options", "run"]

_MODULES = {"coco": "coco_folder", "label-studio": "label_studio"}


@dataclass(frozen=True, kw_only=True)
class Options(Workers):
    """Draw polygons and masks of an annotation tool as images/, masks/ and classes.json, whole or not at all."""

    tool: tyro.conf.Positional[Literal["coco", "labelme", "cvat", "yolo", "label-studio"]]
    """Whose export it is (docs/data.md)."""
    source: tyro.conf.Positional[File]
    """The export: its file or folder."""
    out: Folder
    """Folder to make."""
    images: Folder | None = None
    """The pictures' folder, where it is not beside the export."""
    ignore: tuple[str, ...] = ()
    """Classes whose pixels become 255, which neither trains nor scores."""


def run(options: Options) -> int:
    """Say what was written."""
    from ducseg.progress import counted

    module = import_module(f"ducseg.data.convert.{_MODULES.get(options.tool, options.tool)}")
    with counted("pictures") as progress:
        report = module.convert(
            options.source, options.out, images=options.images, ignore=options.ignore,
            num_workers=options.workers, progress=progress,
        )  # fmt: skip
    for line in report.lines():
        print(line)
    print(f"Look at them and train: ducseg data check folder {options.out}; ducseg train {options.out}")
    return 0
