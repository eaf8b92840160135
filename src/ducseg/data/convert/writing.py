"""Annotated pictures of any tool to the folder layout: images/, masks/ (palette PNGs of class indices), classes.json.

Pixels without an object are class 0, background. A picture's shapes are painted in their order, so a later one lies
over an earlier one; the report counts the pixels where that happened. Each tool's module gives the pictures.
Legend: H, W pixels of the picture as a viewer shows it.
"""

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from ducseg.classes import IGNORE, VOC_PALETTE, ClassSet, Colour
from ducseg.data.convert.coco import Mask, decode, draw_polygons
from ducseg.data.files.indexed_png import encode_indexed_png
from ducseg.data.files.reading import PICTURE_SUFFIXES, picture_size
from ducseg.data.processes import mapped
from ducseg.errors import MALFORMED, UserError, explain, listed
from ducseg.files import as_spelled, folded_name, is_there, whole_file, whole_folder, write_whole

__all__ = [
    "BACKGROUND", "Annotated", "Export", "Report", "Shape", "class_set", "file_names", "fill_polygons",
    "find_picture", "new_folder", "no_such_source", "write_folder",
]  # fmt: skip

BACKGROUND = "background"
_SPLIT = re.compile(r"[\w -]*")
_BACKGROUNDS = frozenset({BACKGROUND, "_background_", "__background__"})


@dataclass(frozen=True)
class Shape:
    """One object: its class's name, None: pixels to be ignored; and (H, W) -> mask, which can be pickled."""

    name: str | None
    draw: Callable[[int, int], Mask]


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """One picture with its shapes, the lowest first.

    Attributes:
        file: where the picture lies.
        name: what the tool calls it, a relative path.
        size: (H, W) as the tool has it; None: it does not say.
        split: sub-folder that it is for; "": none.
    """

    file: Path
    name: str
    shapes: tuple[Shape, ...]
    size: tuple[int, int] | None = None
    split: str = ""


@dataclass(frozen=True, kw_only=True)
class Export:
    """What a tool's export says; each tool's module has `read(source, images) -> Export`.

    Attributes:
        names: the classes, in the order of their indices from 1 on; a background among them is class 0.
        colours: of some of them; the others get VOC's.
        notes: what was left out, one line each.
    """

    pictures: Sequence[Annotated]
    names: Sequence[str]
    colours: Mapping[str, Colour] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a conversion wrote.

    Attributes:
        pictures: of them, so many for each split ("" where there are none).
        empty: pictures without an object: all background.
        objects: shapes painted.
        without_pixels: shapes that no pixel lies in.
        overlaps: pixels of a shape that a later one of another class lies over.
        notes: what was left out, one line each.
    """

    classes: ClassSet
    pictures: dict[str, int]
    empty: int
    objects: int
    overlaps: int
    without_pixels: int = 0
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For a person to read."""
        each = ", ".join(f"{count} {name}".strip() for name, count in self.pictures.items())
        nothing = f"{self.without_pixels} objects hold no pixel: boxes without an outline, no area, outside the picture"
        without_pixels = [nothing] if self.without_pixels else []
        return [
            f"{each} pictures with {self.objects} objects",
            f"{len(self.classes)} classes: {', '.join(self.classes.names)}",
            f"{self.empty} pictures show no object and are all {self.classes.names[0]}",
            f"{self.overlaps} pixels lie in objects of two classes; the later or smaller object is on top",
            *without_pixels,
            *self.notes,
        ]


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """As `whole_folder`; an empty one may be there."""
    if out.is_dir() and not any(out.iterdir()):
        out.rmdir()
    with whole_folder(out) as folder:
        yield folder


def write_folder(
    out: Path,
    export: Export,
    *,
    ignore: Sequence[str] = (),
    num_workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Write `out`, whole or not at all: images are copied, masks drawn.

    Args:
        ignore: names whose pixels become 255.

    Raises:
        UserError: no picture, pictures that are missing or do not read (all in one message), of another size than
            the tool's, classes in `ignore` that there are none of; `out` is there already.
    """
    pictures, names = export.pictures, export.names
    if not pictures:
        raise explain("annotations", found="no annotated picture", needed="one", fix="Export them from the tool.")
    classes = class_set(names, export.colours, ignore)
    _check_files(pictures)
    objects = overlaps = empty = without_pixels = 0
    with new_folder(out) as folder:
        write = partial(_write_picture, folder, classes, frozenset(ignore))
        items = list(zip(pictures, file_names(pictures)))
        for painted, twice, nothing in mapped(write, items, num_workers, progress):
            objects, overlaps, empty = objects + painted, overlaps + twice, empty + (painted == 0)
            without_pixels += nothing
        if sum(file.is_file() for file in (folder / "masks").rglob("*")) < len(pictures):
            raise explain(
                "annotated pictures",
                found="some whose names this disk takes for one, as it does not tell capitals from small letters",
                needed="one a name",
                fix="Rename one of them, in the tool too.",
            )
        classes.write(folder / "classes.json")
    splits = [picture.split for picture in pictures]
    return Report(
        classes=classes,
        pictures={split: splits.count(split) for split in dict.fromkeys(splits)},
        empty=empty,
        objects=objects,
        overlaps=overlaps,
        without_pixels=without_pixels,
        notes=tuple(export.notes),
    )


def class_set(names: Sequence[str], colours: Mapping[str, Colour], ignore: Sequence[str] = ()) -> ClassSet:
    """Background first; no two of one colour.

    Raises:
        UserError: classes in `ignore` that there are none of; more than 255.
    """
    strange = sorted(set(ignore) - set(names))
    if strange:
        raise explain("--ignore", found=strange[0], needed=f"one of {', '.join(names)}", fix="Correct the name.")
    names = [name for name in names if name not in ignore]
    background = next((name for name in names if name in _BACKGROUNDS), BACKGROUND)
    ordered = [background, *(name for name in names if name != background)]
    if len(ordered) > IGNORE:
        raise explain("classes", found=len(ordered), needed=f"at most {IGNORE}", fix="Merge or ignore some.")
    given = {colours.get(name) for name in ordered[1:]}
    free = [colour for colour in VOC_PALETTE[:IGNORE] if colour not in given]
    palette: list[Colour] = [colours.get(background) or (0, 0, 0)]
    for name in ordered[1:]:
        colour = colours.get(name)
        palette.append(next(one for one in (colour, *free) if one is not None and one not in palette))
    return ClassSet(tuple(ordered), tuple(palette))


def _check_files(pictures: Sequence[Annotated]) -> None:
    strange = sorted({picture.split for picture in pictures if not _SPLIT.fullmatch(picture.split)})
    if strange:
        needed = "a name of letters, digits, - and _, which becomes a folder"
        raise explain(
            "annotated pictures", found=f"a split {strange[0]!r}", needed=needed, fix="Rename it in the tool."
        )
    missing = [picture.name[:200] for picture in pictures if not is_there(picture.file)]
    if missing:
        raise explain(
            "annotated pictures",
            found=f"{len(missing)} missing: {listed(missing)} (looked for {str(pictures[0].file)[:300]})",
            needed="the picture of each annotation",
            fix="Give their folder with --images.",
        )


def file_names(pictures: Sequence[Annotated]) -> list[str]:
    """A name without ending for each: its stem where no other in its split has one alike, else with its folders."""
    paths = [PurePosixPath(picture.name.replace("\\", "/")) for picture in pictures]
    stems = [folded_name(f"{picture.split}/{path.stem}") for picture, path in zip(pictures, paths)]
    counts = Counter(stems)
    names = []
    for stem, path in zip(stems, paths):
        parts = [part for part in path.with_suffix("").parts if part not in ("/", "..", ".")]
        names.append(path.stem if counts[stem] == 1 else "__".join(parts))
    seen: dict[tuple[str, str], str] = {}
    for picture, name in zip(pictures, names):
        other = seen.setdefault((picture.split, name), picture.name)
        if other is not picture.name:
            raise explain(
                "annotated pictures",
                found=f"two of one name, {other} and {picture.name}",
                needed="one a name",
                fix="Rename one of them, in the tool too.",
            )
    return names


def _write_picture(
    folder: Path, classes: ClassSet, ignore: frozenset[str], item: tuple[Annotated, str]
) -> tuple[int, int, int]:
    """Objects, pixels painted twice, and objects that no pixel lies in."""
    picture, name = item
    height, width = picture_size(picture.file)
    if picture.size not in (None, (height, width)):
        raise explain(
            f"picture {picture.file}",
            found=f"{height} x {width} pixels (H x W) as a viewer shows it",
            needed=f"{picture.size[0]} x {picture.size[1]}, as it was annotated" if picture.size else "",
            fix="Give the pictures that were annotated (an EXIF orientation swaps the sides too).",
        )
    canvas = np.zeros((height, width), np.uint8)
    objects = overlaps = 0
    for shape in picture.shapes:
        try:
            mask = shape.draw(height, width)
        except UserError as error:
            raise UserError(f"picture {picture.name}: {error}") from None
        except MALFORMED as error:
            raise explain(
                f"picture {picture.name}", found=f"a shape that cannot be drawn ({error})", needed="an area in it",
                fix="Redraw it.",
            ) from None  # fmt: skip
        value = IGNORE if shape.name is None or shape.name in ignore else classes.names.index(shape.name)
        under = canvas[mask]
        overlaps += int(np.count_nonzero((under != 0) & (under != value)))
        canvas[mask] = value
        objects += bool(mask.any())
    suffix = picture.file.suffix.lower()
    image = folder / "images" / picture.split / f"{name}{suffix}"
    with whole_file(image) as temporary:
        shutil.copyfile(picture.file, temporary)
    palette = (*classes.palette, *VOC_PALETTE[len(classes) :])
    write_whole(folder / "masks" / picture.split / f"{name}.png", encode_indexed_png(canvas, palette))
    return objects, overlaps, len(picture.shapes) - objects


def fill_polygons(polygons: list[list[float]], height: int, width: int) -> Mask:
    """The union of outlines [x1, y1, ...] in pixels, as pycocotools fills them."""
    return decode(draw_polygons(polygons, height, width)["counts"], height, width)


def find_picture(name: str, folders: Sequence[Path]) -> Path:
    """The picture that a tool calls `name`: that path, or that name, below one of the folders; the first if in none."""
    path = PurePosixPath(name.replace("\\", "/"))
    tries = [as_spelled(folder / wanted) for folder in folders for wanted in (path, path.name)]
    return next((file for file in tries if file.suffix.lower() in PICTURE_SUFFIXES and is_there(file)), tries[0])


def no_such_source(tool: str, source: Path, needed: str) -> UserError:
    """The error of a source that does not hold a tool's export."""
    if source.suffix.lower() in {".zip", ".tar", ".gz", ".tgz"} and source.is_file():
        return explain(f"{tool} export {source}", found="an archive", needed=needed, fix="Unpack it.")
    found = "no such file or folder" if not source.exists() else "another file or folder"
    return explain(f"{tool} export {source}", found=found, needed=needed, fix="Check the path.")
