"""`ducseg data convert`: other tools' annotations to the folder layout."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from ducseg.cli.options import File, Folder, Workers

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Workers):
    """Draw polygons and masks of an annotation tool as images/, masks/ and classes.json, whole or not at all."""

    tool: Annotated[
        tyro.conf.Positional[Literal["coco", "labelme", "cvat", "yolo", "label-studio"]], tyro.conf.arg(metavar="TOOL")
    ]
    """Whose export it is: coco, labelme, cvat, yolo or label-studio (docs/data.md)."""
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
    from ducseg.data.convert import coco_folder, cvat, label_studio, labelme, yolo
    from ducseg.data.convert.writing import write_folder
    from ducseg.progress import counted

    tools = {"coco": coco_folder, "labelme": labelme, "cvat": cvat, "yolo": yolo, "label-studio": label_studio}
    with counted("pictures") as progress:
        export = tools[options.tool].read(options.source, options.images)
        report = write_folder(
            options.out, export, ignore=options.ignore, num_workers=options.workers, progress=progress
        )
    for line in report.lines():
        print(line)
    print(f"Look at them and train: ducseg data check folder {options.out}; ducseg train {options.out}")
    return 0
