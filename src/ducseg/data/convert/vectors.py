"""`data convert vectors`: polygons and lines drawn over orthophotos, as in QGIS, to the folder layout.

Which file is of which picture: one called like a picture (roof7.geojson or roof7_polygons.geojson, of roof7.tif) is of
that picture alone, every other one of all pictures that have a place on earth. A picture that no file is of is not
annotated and left out; a picture that no feature touches is all background.

Masks are GeoTIFFs of the picture's place, written by rows, or PNGs of pictures that have none. Legend: H, W pixels.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import starmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE, VOC_PALETTE, ClassSet, Colour
from ducseg.data.convert.rasterizing import Drawing
from ducseg.data.convert.vector_files import VECTOR_SUFFIXES, Vectors, read_vectors
from ducseg.data.convert.vector_places import Picture, box_of, extent_of, opened, parts_of, with_layers
from ducseg.data.convert.writing import Report, class_set, file_names, new_folder, no_such_source
from ducseg.data.files.indexed_png import encode_indexed_png
from ducseg.data.files.raster_writing import write_raster
from ducseg.data.files.rasters import INSTALL, is_raster, open_placed
from ducseg.data.files.reading import PICTURE_SUFFIXES
from ducseg.data.processes import mapped
from ducseg.errors import explain, package, real
from ducseg.files import composed, files_below, whole_file, write_whole

__all__ = ["convert"]

_SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class _Written:
    shown: frozenset[int]
    thin: frozenset[int]
    line_pixels: float | None
    overlaps: int
    void: int


def convert(
    source: Path,
    out: Path,
    *,
    images: Path | None = None,
    by: str | None = None,
    line_width: float | None = None,
    ignore: Sequence[str] = (),
    num_workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Write `out`, whole or not at all.

    Args:
        source: a file of vectors, or a folder with some; a classes.json in it gives the order and colours of classes.
        images: the pictures' folder; None: the source's.
        by: the field with a feature's class, as `read_vectors`.
        line_width: of lines, in metres, or in the units of pictures that have no coordinate system.
        ignore: names whose pixels become 255, as those of a raster without data do.

    Raises:
        UserError: no vectors or pictures, files that do not read, lines without a width, features of which none touches
            a picture; `out` is there already; rasterio not installed.
    """
    package("rasterio", what="vectors", install=INSTALL, needed="it to draw them")
    width = None if line_width is None else real("--line-width", line_width, positive=True, fix="0.1 is 10 cm.")
    files, pictures = _vector_files(source), _pictures(source if images is None else images)
    owners = _owners(files, source, pictures)
    vectors = read_vectors(files, by=by, of_pictures=frozenset(owners))
    _check_lines(vectors, source, width)
    classes = class_set(*_names(source, vectors), ignore)
    annotated = [with_layers(one, vectors.layers, owners, width or 0.0) for one in pictures]
    jobs = [one for one in annotated if one.layers]
    if not jobs:
        needed = "GeoTIFFs or world files, or vectors of the pictures' names"
        fix = "Give the rasters themselves with --images, or name the files as the pictures."
        raise explain(f"pictures of {source}", found="none with a place on earth", needed=needed, fix=fix)
    with new_folder(out) as folder:
        write = partial(_write, folder, classes, frozenset(ignore), width or 0.0)
        written = list(mapped(write, list(zip(jobs, file_names(jobs))), num_workers, progress, chunk=1))
        _check_shown(written, vectors, jobs)
        classes.write(folder / "classes.json")
    splits = [one.split for one in jobs]
    return Report(
        classes=classes,
        pictures={split: splits.count(split) for split in dict.fromkeys(splits)},
        empty=sum(not one.shown for one in written),
        objects=sum(len(one.shown) for one in written),
        overlaps=sum(one.overlaps for one in written),
        notes=(*vectors.notes, *vectors.left_out, *_notes(written, vectors, jobs, len(pictures) - len(jobs))),
    )


# -- what goes together ------------------------------------------------------------------------------------------------


def _vector_files(source: Path) -> list[Path]:
    below = files_below(source) if source.is_dir() else [source] if source.is_file() else []
    suffixes = VECTOR_SUFFIXES | ({".json"} if source.is_file() else set())
    files = [file for file in below if file.suffix.lower() in suffixes]
    if not files:
        raise no_such_source(
            "vectors", source, f"a file of vectors or a folder with some ({', '.join(sorted(suffixes))})"
        )
    return files


def _pictures(source: Path) -> list[Picture]:
    """The pictures below a folder, or beside a file, with their places."""
    folder = source if source.is_dir() else source.parent
    below = files_below(folder) if folder.is_dir() else []
    results = {file.parent for file in below if file.name == "classes.json"} - {folder}  # of an earlier conversion
    files = [file for file in below if file.suffix.lower() in PICTURE_SUFFIXES]
    files = [file for file in files if results.isdisjoint(file.parents)]
    if not files:
        raise explain(
            f"pictures in {folder}", found="none", needed="those that were drawn on", fix="Give their folder: --images."
        )
    inside = [file.relative_to(folder) for file in files]
    in_splits = all(len(one.parts) > 1 and one.parts[0] in _SPLITS for one in inside)
    return [opened(file, one.as_posix(), one.parts[0] if in_splits else "") for file, one in zip(files, inside)]


def _owners(files: Sequence[Path], source: Path, pictures: Sequence[Picture]) -> dict[Path, Path]:
    """The picture of each file of vectors that is called like one."""
    owners: dict[Path, Path] = {}
    for file in files:
        whole = composed(file.stem)
        stem = whole.removesuffix("_polygons")
        alike = [one for one in pictures if composed(one.file.stem) in (stem, whole)]
        if len(alike) > 1 and source.is_dir():
            inside = file.relative_to(source).with_name(stem).as_posix()
            alike = [one for one in alike if Path(one.name).with_suffix("").as_posix() == inside] or alike
        if len(alike) > 1:
            found, fix = f"pictures {alike[0].name} and {alike[1].name}", "Rename one, or sort both into like folders."
            raise explain(f"file {file}", found=found, needed="one of its name", fix=fix)
        if alike:
            owners[file] = alike[0].file
    return owners


def _names(source: Path, vectors: Vectors) -> tuple[Sequence[str], Mapping[str, Colour]]:
    """The classes and their colours: of a classes.json beside the files, else as they were found."""
    file = source / "classes.json"
    if not file.is_file():
        return vectors.names, vectors.colours
    given = ClassSet.read(file)
    strange = sorted(set(vectors.names) - set(given.names))
    if strange:
        needed, fix = "every class in use", "Add it, or take the list away."
        raise explain(f"class list {file}", found=f"no {strange[0]!r}", needed=needed, fix=fix)
    return given.names, dict(zip(given.names, given.palette))


def _check_lines(vectors: Vectors, source: Path, width: float | None) -> None:
    if not vectors.num_features:
        needed, fix = "polygons or lines", "Draw outlines, or lines with --line-width."
        raise explain(f"vectors {source}", found="; ".join(vectors.left_out) or "no feature", needed=needed, fix=fix)
    lines = sum(part.is_line for layer in vectors.layers for part in layer.parts)
    if lines and width is None:
        fix = "Give it in metres: --line-width 0.1; in units of the pictures where they have no coordinate system."
        raise explain(f"vectors {source}", found=f"{lines} lines", needed="how wide they are", fix=fix)
    if width is not None and not lines:
        raise explain("--line-width", found=f"no line in {source}", needed="some", fix="Leave it out.")


# -- files -------------------------------------------------------------------------------------------------------------


def _write(
    folder: Path, classes: ClassSet, ignore: frozenset[str], line_width: float, item: tuple[Picture, str]
) -> _Written:
    picture, name = item
    parts = parts_of(picture)
    values = [IGNORE if one.name is None or one.name in ignore else classes.names.index(one.name) for one in parts]
    drawing = Drawing(parts, values, picture.place, picture.pixels, line_width)
    palette, as_raster, void = (*classes.palette, *VOC_PALETTE[len(classes) :]), is_raster(picture.file), 0

    with open_placed(picture.file) as raster:

        def rows(begin: int, end: int) -> NDArray[np.uint8]:
            nonlocal void
            labels = drawing.rows(begin, end)
            known = raster.with_data(begin, end) if as_raster else None  # as training takes it
            if known is not None:
                labels[~known] = IGNORE
                void += int(np.count_nonzero(~known))
            return labels

        mask = folder / "masks" / picture.split / name
        if as_raster or picture.place.is_known:
            colours = dict(enumerate(palette))
            write_raster(
                mask.with_name(f"{name}.tif"), picture.pixels, picture.place, rows, nodata=IGNORE, palette=colours
            )
        else:
            write_whole(mask.with_name(f"{name}.png"), encode_indexed_png(rows(0, picture.pixels[0]), palette))
        for file in raster.files:
            if file.name.startswith(picture.file.stem):
                ending = file.name.removeprefix(picture.file.stem).lower()
                with whole_file(folder / "images" / picture.split / f"{name}{ending}") as temporary:
                    shutil.copyfile(file, temporary)
    return _Written(
        shown=frozenset(drawing.shown), thin=frozenset(drawing.thin), line_pixels=drawing.line_pixels,
        overlaps=drawing.overlaps, void=void,
    )  # fmt: skip


# -- what is said ------------------------------------------------------------------------------------------------------


def _check_shown(written: Sequence[_Written], vectors: Vectors, pictures: Sequence[Picture]) -> None:
    """Refuse what shows nothing at all, with where the features lie and where the pictures."""
    if any(one.shown for one in written):
        return
    layer, picture = next(one for one in vectors.layers if one.parts), pictures[0]
    boxes = (layer.file.name, extent_of(layer), layer.crs), (picture.name, box_of(picture), picture.place.name)
    raise explain(
        "vectors",
        found=f"no feature in any picture ({'; '.join(starmap(_shown, boxes))})",
        needed="features that touch one",
        fix="Check that they belong together, and the coordinate system that each says.",
    )


def _shown(name: str, box: tuple[float, float, float, float], crs: str | None) -> str:
    west, south, east, north = (f"{value:.8g}" for value in box)
    return f"{name}: x {west} to {east}, y {south} to {north}, {crs or 'no coordinate system'}"


def _notes(written: Sequence[_Written], vectors: Vectors, pictures: Sequence[Picture], left_out: int) -> Iterator[str]:
    for how, count in Counter(how for picture in pictures for how in picture.how).items():
        yield f"coordinates: {how} ({count} pictures)"
    unseen = vectors.num_features - len(frozenset().union(*(one.shown for one in written)))
    if unseen:
        yield f"{unseen} features show in no picture: outside all of them, or below smaller ones"
    lines = [one.line_pixels for one in written if one.line_pixels is not None]
    if lines:
        least, most = min(lines), max(lines)
        wide = f"{least:.1f}" if f"{least:.1f}" == f"{most:.1f}" else f"{least:.1f} to {most:.1f}"
        yield f"lines are {wide} pixels wide{'; narrower than a pixel they are drawn one wide' if least < 1 else ''}"
    thin = len(frozenset().union(*(one.thin for one in written)))
    if thin:
        yield f"{thin} polygons are narrower than a pixel: of these each pixel that they touch"
    void = sum(one.void for one in written)
    if void:
        yield f"{void} pixels without data are 255"
    if left_out:
        yield f"{left_out} pictures that no file is of are left out: no place on earth, or no file of their name"
