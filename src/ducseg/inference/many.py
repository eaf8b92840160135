"""Many pictures by many processes: each takes its part, skips what is done and whole, and writes down what it did.

A result is done when its files are what its line in a manifest says (SHA-256), made with the same settings and
checkpoint of the same input. Files are written under a temporary name and renamed, then the line is added: a process
killed at any time loses the pictures in hand (the tar in hand, where results go into tars) and nothing else, and the
same command goes on.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ducseg.files import sweep_unfinished
from ducseg.inference.jobs import open_folder
from ducseg.inference.labeller import Labeller
from ducseg.inference.manifest import file_digest
from ducseg.inference.opening import recorded
from ducseg.inference.places import Place
from ducseg.inference.predict_files import PredictReport
from ducseg.inference.shards import Shard
from ducseg.inference.tiles import Tiling
from ducseg.inference.unit_worker import Counts, UnitWorker, is_done
from ducseg.inference.units import Unit, find_units
from ducseg.inference.writers import EXACT, Kind, Outlines, result_name

__all__ = ["Part", "ShardReport", "network_digest", "part_of", "predict_shard", "sweep"]

_CHECKS_AT_ONCE = 4


@dataclass(frozen=True)
class ShardReport:
    """What came of a shard.

    Attributes:
        report: of the pictures that this run labelled.
        total: units of all shards: pictures, and tars.
        units: of them, of this shard.
        skipped: pictures of this shard, done before and whole.
        changed: of those labelled, with a result by other settings or of an input that has changed since.
        damaged: of those labelled, with a line in a manifest but files that are gone or differ.
    """

    report: PredictReport
    total: int
    units: int
    skipped: int
    changed: int
    damaged: int

    @property
    def labelled(self) -> int:
        """Pictures that this run labelled, or tried to."""
        return len(self.report.written) + len(self.report.failed)


@dataclass(frozen=True)
class Part:
    """The units of a shard.

    Attributes:
        total: units of all shards.
        units: of this one.
        todo: of them, not done.
        counts: of those that are.
    """

    total: int
    units: list[Unit]
    todo: list[Unit]
    counts: Counts


def predict_shard(
    make: Callable[[], Labeller],
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    kinds: Sequence[Kind],
    shard: Shard,
    settings: str,
    batch_size: int = 1,
    tiling: Tiling | None = None,
    outlines: Outlines = EXACT,
    per_tar: int | None = None,
    mask_suffix: str | None = None,
    resume: bool = True,
    progress: bool = True,
) -> ShardReport:
    """As `predict_files`, for the part `shard` of the units sorted by name, and only what is not done.

    Args:
        make: opens the labeller, once the inputs are known to be there.
        inputs, per_tar, mask_suffix: as `find_units`.
        out: a folder or a URL of fsspec.
        settings: digest of the checkpoint and of all that changes a result.
        resume: leave what is done; False: do all anew.

    Raises:
        UserError: as `predict_files`; a manifest that cannot be written; a place that cannot be read or written.
    """
    place = Place(out)
    part = part_of(
        inputs, place, kinds=kinds, shard=shard, settings=settings, per_tar=per_tar, mask_suffix=mask_suffix,
        resume=resume,
    )  # fmt: skip
    worker = UnitWorker(
        make(), place, kinds=kinds, settings=settings, batch_size=batch_size, tiling=tiling, resume=resume,
        outlines=outlines, progress=progress,
    )  # fmt: skip
    with place.manifest(shard) as manifest:
        report = worker.do(part.todo, manifest.add, part.counts)
    counts = part.counts
    return ShardReport(report, part.total, len(part.units), counts.skipped, counts.changed, counts.damaged)


def part_of(
    inputs: Sequence[str | Path],
    place: Place,
    *,
    kinds: Sequence[Kind],
    shard: Shard,
    settings: str,
    per_tar: int | None = None,
    mask_suffix: str | None = None,
    resume: bool = True,
) -> Part:
    """Find a shard's units and look which are done; what a killed process left half-written of the others is removed.

    Raises:
        UserError: as `predict_shard`.
    """
    every = find_units(inputs, place, kinds, per_tar=per_tar, mask_suffix=mask_suffix)
    if place.path is not None:
        open_folder(place.path)
    units, rows, counts = shard.of(every), place.rows() if resume else {}, Counts()

    def state(unit: Unit) -> str:
        if unit.tar and not unit.packed:
            return "new"  # its pictures are looked at when it is opened
        name, wanted = (f"{unit.name}.tar", {"tar"}) if unit.packed else (unit.name, set(kinds))
        return is_done(rows.get(name), place, wanted, stamp=unit.stamp, settings=settings)

    with ThreadPoolExecutor(_CHECKS_AT_ONCE) as pool:
        states = list(pool.map(state, units))
    for unit, found in zip(units, states):
        counts.add(found, len(unit.sources))
    todo = [unit for unit, found in zip(units, states) if found != "done"]
    sweep(todo, place, kinds)
    return Part(len(every), units, todo, counts)


def sweep(units: Sequence[Unit], place: Place, kinds: Sequence[Kind]) -> None:
    """Remove what killed processes left half-written of units that no process is at."""
    if place.path is not None:
        folder = place.path
        sweep_unfinished(folder / name for unit in units for name in _result_names(unit, kinds))


def _result_names(unit: Unit, kinds: Sequence[Kind]) -> list[Path]:
    if unit.packed:
        return [Path(f"{unit.name}.tar")]
    return [result_name(Path(one.name), kind, raster=one.raster) for one in unit.sources for kind in kinds]


def network_digest(path_or_hub_id: str | Path) -> str:
    """SHA-256 of the files of a checkpoint, or of an exported file; raises UserError as `recorded`."""
    place = recorded(path_or_hub_id)[0]
    files = [place] if place.is_file() else sorted(file for file in place.iterdir() if file.name.startswith("model."))
    return " ".join(map(file_digest, files))
