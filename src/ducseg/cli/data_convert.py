"""`ducseg data convert`: others' annotations, vectors over rasters, several masks a picture, stacks, to one layout."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from ducseg.cli.options import File, Folder, Workers
from ducseg.errors import explain

__all__ = ["Options", "run"]


_OF_ONE = {"class_name": "masks", "by": "vectors", "line_width": "vectors", "side": "tiles"}
"""Options that belong to one tool."""


@dataclass(frozen=True, kw_only=True)
class Options(Workers):
    """Polygons and masks of an annotation tool, many masks a picture, large pictures in tiles, as images/ and masks/.

    It is written whole or not at all.
    """

    tool: Annotated[
        tyro.conf.Positional[
            Literal["coco", "labelme", "cvat", "yolo", "label-studio", "vectors", "masks", "stack", "tiles"]
        ],
        tyro.conf.arg(metavar="TOOL"),
    ]
    """Whose export it is; vectors: QGIS's, over GeoTIFFs; masks: several a picture; stack: volumes of TIFF pages;
    tiles: large pictures with masks, cut (docs/data.md)."""
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
    by: Annotated[str | None, tyro.conf.arg(metavar="FIELD")] = None
    """Of vectors: the field with the class (default: class, label, category or name, else a class a file)."""
    line_width: Annotated[float | None, tyro.conf.arg(metavar="METRES")] = None
    """Of vectors: how wide lines are, in metres; in the rasters' own units where they have no coordinate system."""
    side: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Of tiles: their height and width at the most (default: 1024)."""


def run(options: Options) -> int:
    """Say what was written."""
    from ducseg.progress import counted

    given = {
        name: tool for name, tool in _OF_ONE.items() if getattr(options, name) is not None and tool != options.tool
    }
    if given:
        names = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        needed = " and ".join(dict.fromkeys(given.values()))
        raise explain(names, found=options.tool, needed=needed, fix="Leave it out.")
    convert = {"stack": _pages, "tiles": _tiles, "vectors": _vectors}.get(options.tool, _annotations)
    with counted("pictures") as progress:
        lines = convert(options, progress)
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


def _vectors(options: Options, progress: Callable[[int, int], None]) -> list[str]:
    from ducseg.data.convert import vectors

    return vectors.convert(
        options.source, options.out, images=options.images, by=options.by, line_width=options.line_width,
        ignore=options.ignore, num_workers=options.workers, progress=progress,
    ).lines()  # fmt: skip


def _pages(options: Options, progress: Callable[[int, int], None]) -> list[str]:
    from ducseg.data.convert import stack

    _check_alone(options)
    return stack.convert(options.source, options.out, num_workers=options.workers, progress=progress).lines()


def _tiles(options: Options, progress: Callable[[int, int], None]) -> list[str]:
    from ducseg.data.convert import tiles

    _check_alone(options)
    side = 1024 if options.side is None else options.side
    return tiles.convert(options.source, options.out, side=side, num_workers=options.workers, progress=progress).lines()


def _check_alone(options: Options) -> None:
    if options.images is not None or options.ignore:
        given = "--ignore" if options.images is None else "--images"
        raise explain(
            f"{given} with {options.tool}", found="given", needed="pictures and masks in one folder",
            fix="Leave it out.",
        )  # fmt: skip
