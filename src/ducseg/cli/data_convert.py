"""`ducseg data convert`: others' annotations, several masks a picture, stacks of pages, to the folder layout."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from ducseg.cli.options import File, Folder, Workers
from ducseg.errors import explain

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Workers):
    """Polygons and masks of an annotation tool, or several masks a picture, as images/, masks/ and classes.json.

    It is written whole or not at all.
    """

    tool: Annotated[
        tyro.conf.Positional[Literal["coco", "labelme", "cvat", "yolo", "label-studio", "masks", "stack"]],
        tyro.conf.arg(metavar="TOOL"),
    ]
    """coco, labelme, cvat, yolo, label-studio; masks: several a picture; stack: volumes of pages (docs/data.md)."""
    source: tyro.conf.Positional[File]
    """The export: its file or folder."""
    out: Folder
    """Folder to make."""
    images: Folder | None = None
    """The pictures' folder, where it is not beside the export."""
    ignore: tuple[str, ...] = ()
    """Classes whose pixels become 255, which neither trains nor scores."""
    class_name: str | None = None
    """`masks`: the class of masks that are an object each; None: foreground."""


def run(options: Options) -> int:
    """Say what was written."""
    from ducseg.progress import counted

    if options.class_name is not None and options.tool != "masks":
        needed = "a class of masks, which may name none"
        raise explain(f"--class-name with {options.tool}", found="given", needed=needed, fix="Leave it out.")
    with counted("pictures") as progress:
        lines = _pages(options, progress) if options.tool == "stack" else _annotations(options, progress)
    print(*lines, sep="\n")
    print(f"Look at them and train: ducseg data check folder {options.out}; ducseg train {options.out}")
    return 0


def _annotations(options: Options, progress: Callable[[int, int], None]) -> list[str]:
    from ducseg.data.convert import coco_folder, cvat, label_studio, labelme, masks, yolo
    from ducseg.data.convert.writing import write_folder

    tools = {"coco": coco_folder, "labelme": labelme, "cvat": cvat, "yolo": yolo, "label-studio": label_studio}
    if options.tool == "masks":
        export = masks.read(options.source, options.images, class_name=options.class_name)
    else:
        export = tools[options.tool].read(options.source, options.images)
    return write_folder(
        options.out, export, ignore=options.ignore, num_workers=options.workers, progress=progress
    ).lines()


def _pages(options: Options, progress: Callable[[int, int], None]) -> list[str]:
    from ducseg.data.convert import stack

    if options.images is not None or options.ignore:
        given = "--ignore" if options.images is None else "--images"
        raise explain(
            f"{given} with stack", found="given", needed="pictures and masks in one folder", fix="Leave it out."
        )
    return stack.convert(options.source, options.out, num_workers=options.workers, progress=progress).lines()
