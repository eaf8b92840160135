"""Which pictures are labelled, and where the results of each go."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ducseg.data.files.header import UnreadableError
from ducseg.data.files.rasters import is_raster
from ducseg.errors import explain
from ducseg.inference.sources import find_pictures
from ducseg.inference.writers import KINDS, Kind, result_name

__all__ = ["Job", "check_looked_at", "find_jobs", "open_folder"]


@dataclass(frozen=True)
class Job:
    """A picture to be labelled.

    Attributes:
        file: the picture.
        name: of its results below their folder, without suffix.
        results: where each kind goes.
        raster: read by rows, results are TIFFs; None: it could not be looked at, which fails if reading does not.
    """

    file: Path
    name: Path
    results: Mapping[Kind, Path]
    raster: bool | None = False


def find_jobs(
    inputs: Sequence[str | Path], out: Path, kinds: Sequence[Kind], *, rasters: bool = False,
    mask_suffix: str | None = None,
) -> list[Job]:  # fmt: skip
    """The pictures that inputs stand for, see `find_pictures`, with where their results go; `out` is made.

    Args:
        rasters: some are, see `is_raster`; else all are pictures. `mask_suffix`: as `find_pictures`.

    Raises:
        UserError: an input that stands for no picture, no kind or an unknown one, results that would replace an input,
            a folder that cannot be made.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise explain("kinds", found=list(kinds), needed=f"some of {', '.join(KINDS)}", fix="Correct the list.")
    whole = out.resolve()
    for given in inputs:
        if os.path.realpath(Path(given).expanduser()) == str(whole):
            raise explain(
                f"--out {out}",
                found="the folder that the pictures are read from",
                needed="another one",
                fix="The next run would take the results for pictures; a folder inside it is fine.",
            )
    pictures = find_pictures(inputs, leave_out=out, mask_suffix=mask_suffix)
    sources = {os.path.realpath(file) for file, _ in pictures}  # links in a circle, too
    jobs = []
    for file, name in pictures:
        raster = _is_raster(file) if rasters else False
        results = {kind: out / result_name(name, kind, raster=raster) for kind in kinds}
        jobs.append(Job(file, name, results, raster))
    for job in jobs:
        for result in job.results.values():
            if os.path.realpath(result) in sources:
                raise explain(
                    f"--out {out}",
                    found=f"{result}, a picture to be read, where a result of {job.file} would be written",
                    needed="results that replace no input",
                    fix="Choose another --out.",
                )
    open_folder(out)
    return jobs


def _is_raster(file: Path) -> bool | None:
    try:
        return is_raster(file)
    except UnreadableError:
        return None


def open_folder(out: Path) -> None:
    """Make the folder of the results; raises UserError where it cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain(
            f"--out {out}",
            found=error.strerror or str(error),
            needed="a folder that can be made or written",
            fix="Choose another --out.",
        ) from error


def check_looked_at(job: Job) -> None:
    """Raise `UserError` for a picture that could not be looked at, though it reads now."""
    if job.raster is None:
        raise explain(
            f"file {job.file}",
            found="one that could not be read when all were looked through, and now can",
            needed="to know whether it has a place on earth",
            fix="The same command again labels it.",
        )
