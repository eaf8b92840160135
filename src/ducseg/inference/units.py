"""What inputs mean for many processes: units, each done by one process, sorted by name, the same for all of them.

A unit is a picture; or a tar of pictures; or, where results go into tars, so many pictures as go into one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ducseg.data.files.reading import PICTURE_SUFFIXES
from ducseg.errors import explain, whole
from ducseg.files import is_hidden, visible
from ducseg.inference.jobs import find_jobs
from ducseg.inference.manifest import digest, stamp
from ducseg.inference.places import Place, is_url, list_url, local_path
from ducseg.inference.sources import check_apart, find_pictures, masks_left_out
from ducseg.inference.tars import is_tar
from ducseg.inference.writers import Kind

__all__ = ["Source", "Unit", "find_units"]

_APART = "Give one folder that holds them all, or run it once for each."


@dataclass(frozen=True)
class Source:
    """A picture, or a tar of pictures.

    Attributes:
        where: path or URL.
        name: of its results, without suffix, with forward slashes.
        stamp: changes when it does.
        raster: a picture on a disk that is read by rows; None: it could not be looked at.
    """

    where: str
    name: str
    stamp: str
    raster: bool | None = False


@dataclass(frozen=True)
class Unit:
    """What one process does.

    Attributes:
        name: of the picture's results, of the tar, of the tar that they go into.
        sources: the pictures, or one tar.
        tar: whether the source is one.
        packed: whether the results go into one tar.
    """

    name: str
    sources: tuple[Source, ...]
    tar: bool = False
    packed: bool = False

    @property
    def stamp(self) -> str:
        """Changes when any of its sources does."""
        if len(self.sources) == 1:
            return self.sources[0].stamp
        return digest({"sources": [(one.name, one.stamp) for one in self.sources]})


def find_units(
    inputs: Sequence[str | Path], place: Place, kinds: Sequence[Kind], *, per_tar: int | None = None,
    mask_suffix: str | None = None,
) -> list[Unit]:  # fmt: skip
    """The units of pictures and tars, on a disk (as `find_pictures`, and names or globs of tars) or at URLs.

    Args:
        per_tar: the results of so many pictures go into one tar, those of a tar into one; None: files.
        mask_suffix: as `find_pictures`, for folders and globs at URLs too; not inside tars.

    Raises:
        UserError: as `find_jobs`; two inputs of one name.
    """
    tars = [given for given in inputs if not is_url(given) and is_tar(str(given))]
    urls = [str(given) for given in inputs if is_url(given)]
    files = [local_path(given) for given in inputs if given not in tars and given not in urls]
    pictures = _of_disk(files, place, kinds, mask_suffix) if files or not inputs else []
    archives = [_tar(str(file), file.name, stamp(file)) for given in tars for file in _tars_of_disk(local_path(given))]
    for url in urls:
        listed = list_url(url)
        alone = len(listed) == 1
        listed = [one for one in listed if alone or not is_hidden(PurePosixPath(one[1]))]
        masks = masks_left_out([PurePosixPath(name) for _, name, _ in listed], mask_suffix)
        for where, name, mark in listed:
            if PurePosixPath(name) in masks:
                continue
            if is_tar(name):
                archives.append(_tar(where, name, mark))
            elif alone or PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES:
                pictures.append(Source(where, str(PurePosixPath(name).with_suffix("")), mark))
    check_apart([(one.name, one.where) for one in (*pictures, *archives)], fix=_APART)
    pictures.sort(key=lambda one: one.name)
    if per_tar is None:
        units = [Unit(one.name, (one,)) for one in pictures]
    else:
        per_tar = whole("--tar", per_tar, least=1, fix="1000 is usual.")
        parts = [tuple(pictures[begin : begin + per_tar]) for begin in range(0, len(pictures), per_tar)]
        units = [Unit(f"{number:06d}", part, packed=True) for number, part in enumerate(parts)]
    units += [Unit(one.name, (one,), tar=True, packed=per_tar is not None) for one in archives]
    check_apart([(unit.name, unit.sources[0].where) for unit in units], fix=_APART)
    if not units:
        raise explain("inputs", found="no picture and no tar", needed="some", fix="Check the folder or the glob.")
    return sorted(units, key=lambda unit: unit.name)


def _of_disk(files: Sequence[Path], place: Place, kinds: Sequence[Kind], mask_suffix: str | None) -> list[Source]:
    if place.path is None:
        pictures = find_pictures(files, mask_suffix=mask_suffix)
        return [Source(str(file), name.as_posix(), stamp(file)) for file, name in pictures]
    jobs = find_jobs(files, place.path, kinds, rasters=True, mask_suffix=mask_suffix)
    return [Source(str(job.file), job.name.as_posix(), stamp(job.file), job.raster) for job in jobs]


def _tars_of_disk(given: Path) -> list[Path]:
    found = [given] if given.is_file() else visible(given.parent, given.name)
    if not found:
        raise explain(f"input {given}", found="no such tar", needed="a name or a glob of tars", fix="Check the path.")
    return found


def _tar(where: str, name: str, mark: str) -> Source:
    path = PurePosixPath(name)
    return Source(where, str(path.with_name(path.name.partition(".")[0] if path.suffix != ".tar" else path.stem)), mark)
