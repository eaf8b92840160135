"""Do units of work with one labeller: in this process, or in an actor of a cluster."""

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath

from ducseg.errors import UserError
from ducseg.files import sweep_unfinished
from ducseg.inference.jobs import Job
from ducseg.inference.labeller import Labeller
from ducseg.inference.manifest import Row, file_digest
from ducseg.inference.places import Place, fetch, is_url
from ducseg.inference.predict_files import PredictReport, answers_of, read_by, write_jobs
from ducseg.inference.tars import extract, list_members, pack
from ducseg.inference.tiles import Tiling
from ducseg.inference.units import Source, Unit
from ducseg.inference.windowed import ByWindows
from ducseg.inference.writers import EXACT, Kind, Outlines, Picture, result_name

__all__ = ["Counts", "UnitWorker", "is_done"]

_AT_ONCE = 64
"""Pictures of a tar that are unpacked and labelled together: their files lie in a temporary folder meanwhile."""

Add = Callable[[Row], None]


@dataclass
class Counts:
    """Of pictures (packed: of tars' sources) that were looked at before they were labelled."""

    skipped: int = 0
    changed: int = 0
    damaged: int = 0

    def add(self, state: str, number: int = 1) -> None:
        """Count pictures of a state that `is_done` gave."""
        self.skipped += number * (state == "done")
        self.changed += number * (state == "changed")
        self.damaged += number * (state == "damaged")


def is_done(row: Row | None, place: Place, wanted: Collection[str], *, stamp: str, settings: str) -> str:
    """ "done", "new", "changed" (input or settings) or "damaged" (files gone or different), of what a manifest says."""
    if row is None or row.error is not None:
        return "new"
    if row.settings != settings or row.stamp != stamp:
        return "changed"
    whole = set(row.outputs) == set(wanted) and all(
        (found := place.digest(name)) and found == row.sha256.get(kind) for kind, name in row.outputs.items()
    )
    return "done" if whole else "damaged"


@dataclass(frozen=True)
class _Item:
    """A picture in hand: what it is, and how its file is brought here; None: it is here."""

    source: Source
    bring: Callable[[Path], None] | None = None


@dataclass
class _Found:
    written: list[Path | str] = field(default_factory=list)
    failed: list[tuple[Path | str, str]] = field(default_factory=list)
    notes: list[tuple[Path | str, str]] = field(default_factory=list)


class UnitWorker:
    """Labels units and writes their results to a place.

    Args:
        labeller: of all of them.
        kinds, batch_size, tiling, outlines, progress: as `predict_files`.
        settings: digest that every row carries.
        resume: leave the pictures of a tar that are done.
    """

    def __init__(
        self,
        labeller: Labeller,
        place: Place,
        *,
        kinds: Sequence[Kind],
        settings: str,
        batch_size: int = 1,
        tiling: Tiling | None = None,
        outlines: Outlines = EXACT,
        resume: bool = True,
        progress: bool = False,
    ) -> None:
        self.labeller, self.place, self.kinds, self.settings = labeller, place, tuple(kinds), settings
        self.batch_size, self.tiling, self.resume, self.progress = batch_size, tiling, resume, progress
        self.outlines = outlines

    def do(self, units: Sequence[Unit], add: Add, counts: Counts | None = None) -> PredictReport:
        """Label units; pictures that are units of their own go through together.

        Args:
            add: takes the row of each picture once its files are there, and of each tar that is written.
            counts: of what a tar's pictures were found as.

        Raises:
            UserError: a place that cannot be written.
        """
        found, counts = _Found(), Counts() if counts is None else counts
        alone = [unit.sources[0] for unit in units if not (unit.tar or unit.packed)]
        rows = self.place.rows() if self.resume and any(unit.tar and not unit.packed for unit in units) else {}
        with tempfile.TemporaryDirectory(prefix="ducseg-") as folder:
            scratch = Path(folder)
            if alone:
                self._label([_item(source) for source in alone], scratch, add, found)
            for unit in units:
                if unit.packed:
                    self._do_packed(unit, scratch, add, found)
                elif unit.tar:
                    self._do_tar(unit.sources[0], scratch, add, found, rows, counts)
        return PredictReport(tuple(found.written), tuple(found.failed), tuple(found.notes))

    def _do_tar(
        self, tar: Source, scratch: Path, add: Add, found: _Found, rows: Mapping[str, Row], counts: Counts
    ) -> None:
        """A tar's pictures to files below a folder of its name."""

        def wanted(source: Source) -> bool:
            row = rows.get(source.name)
            state = is_done(row, self.place, self.kinds, stamp=source.stamp, settings=self.settings)
            counts.add(state)
            return state != "done"

        for items in self._unpacked(tar, scratch, add, found, prefix=f"{tar.name}/", wanted=wanted):
            if self.place.path is not None:
                names = (result_name(Path(item.source.name), kind) for item in items for kind in self.kinds)
                sweep_unfinished(map(self.place.path.joinpath, names))
            self._label(items, scratch, add, found)

    def _do_packed(self, unit: Unit, scratch: Path, add: Add, found: _Found) -> None:
        """A tar's pictures, or so many pictures, to one tar."""
        rows: list[Row] = []
        before, results = len(found.failed), scratch / "packed"
        if unit.tar:
            for items in self._unpacked(unit.sources[0], scratch, rows.append, found, prefix=""):
                self._label(items, scratch, rows.append, found, results)
        else:
            self._label([_item(source) for source in unit.sources], scratch, rows.append, found, results)
        whole = f"{unit.name}.tar"
        files = {(row.name, name): results / name for row in rows for name in row.outputs.values()}
        file = scratch / "whole.tar" if self.place.path is None else self.place.path / whole
        pack(file, {_member(output, name): path for (name, output), path in files.items()})
        digest = file_digest(file)
        if self.place.path is None:
            self.place.put(file, whole)
        for one in files.values():
            one.unlink()
        for row in rows:
            inside = {kind: f"{whole}/{_member(name, row.name)}" for kind, name in row.outputs.items()}
            add(replace(row, outputs=inside, name=f"{whole}/{row.name}"))
        wrong = len(found.failed) - before
        add(
            Row(
                name=whole, input=unit.sources[0].where if unit.tar else f"{len(unit.sources)} pictures",
                stamp=unit.stamp, settings=self.settings, outputs={"tar": whole}, sha256={"tar": digest},
                seconds=round(sum(row.seconds for row in rows), 4),
                error=f"{wrong} of its pictures failed" if wrong else None,
            )
        )  # fmt: skip

    def _unpacked(
        self,
        tar: Source,
        scratch: Path,
        add: Add,
        found: _Found,
        *,
        prefix: str,
        wanted: Callable[[Source], bool] = lambda _source: True,
    ) -> Iterator[list[_Item]]:
        """Pictures of a tar, so many at once, as files; what is refused is a failure and has a row.

        A tar that cannot be read to its end is a failure without one: done whole later, nothing would replace it.
        """
        items: list[_Item] = []
        try:
            file = Path(tar.where)
            if is_url(tar.where):
                file = scratch / "input.tar"
                fetch(tar.where, file)
            for member, info, archive in list_members(file):
                source = Source(f"{tar.where}/{member.name}", prefix + member.key, f"{tar.stamp}-{member.index}")
                if member.refused is not None:
                    reason = f"{source.where}: refused: {member.refused}"
                    found.failed.append((source.where, reason))
                    add(self._row(source, {}, {}, 0.0, reason))
                    continue
                if not wanted(source):
                    continue
                unpacked = scratch / f"member-{member.index}{PurePosixPath(member.name).suffix}"
                extract(archive, info, unpacked)
                items.append(_Item(source, lambda target, unpacked=unpacked: _move(unpacked, target)))  # type: ignore[misc]
                if len(items) == _AT_ONCE:
                    yield items
                    items = []
        except UserError as error:
            found.failed.append((tar.where, f"{tar.where}: {error}"))
        yield items

    def _label(
        self, items: Sequence[_Item], scratch: Path, add: Add, found: _Found, packed: Path | None = None
    ) -> None:
        """Label pictures to where the place is, or below `packed`."""
        if not items:
            return
        here = self.place.path if packed is None else packed
        base = scratch / "results" if here is None else here
        sources: dict[Path, _Item] = {}
        jobs = []
        for number, item in enumerate(items):
            suffix = PurePosixPath(item.source.where).suffix
            file = Path(item.source.where) if item.bring is None else scratch / f"input-{number}{suffix}"
            name = Path(item.source.name)
            results = {kind: base / result_name(name, kind, raster=item.source.raster) for kind in self.kinds}
            sources[file] = item
            jobs.append(Job(file, name, results, item.source.raster))

        from_file = read_by(self.labeller)

        def read(job: Job) -> Path | Picture:
            bring = sources[job.file].bring
            if bring is not None:
                bring(job.file)
            return from_file(job)

        def done(job: Job, error: str | None, seconds: float) -> None:
            item = sources[job.file]
            outputs: dict[str, str] = {}
            digests: dict[str, str] = {}
            for kind, path in (job.results if error is None else {}).items():
                outputs[kind], digests[kind] = path.relative_to(base).as_posix(), file_digest(path)
                if here is None:
                    self.place.put(path, outputs[kind])
            if item.bring is not None:
                job.file.unlink(missing_ok=True)
                error = error and error.replace(str(job.file), item.source.where)
            add(self._row(item.source, outputs, digests, seconds, error))

        windows = ByWindows(self.labeller, self.tiling, at_once=self.batch_size, outlines=self.outlines)
        report = write_jobs(
            answers_of(self.labeller, self.kinds), self.labeller.classes, jobs, batch_size=self.batch_size, read=read,
            windows=windows, done=done, progress=self.progress,
        )  # fmt: skip

        def named(pairs: Sequence[tuple[Path | str, str]]) -> list[tuple[Path | str, str]]:
            items = [(Path(file), sources[Path(file)], text) for file, text in pairs]
            return [(_shown(item, file), text.replace(str(file), item.source.where)) for file, item, text in items]

        found.written += [_shown(sources[Path(one)], Path(one)) for one in report.written]
        found.failed += named(report.failed)
        found.notes += named(report.notes)

    def _row(
        self,
        source: Source,
        outputs: Mapping[str, str],
        digests: Mapping[str, str],
        seconds: float,
        error: str | None,
    ) -> Row:
        return Row(
            name=source.name, input=source.where, stamp=source.stamp, settings=self.settings, outputs=outputs,
            sha256=digests, seconds=round(seconds, 4), error=error,
        )  # fmt: skip


def _item(source: Source) -> _Item:
    return _Item(source, partial(fetch, source.where) if is_url(source.where) else None)


def _shown(item: _Item, file: Path) -> Path | str:
    return file if item.bring is None else item.source.where


def _move(file: Path, target: Path) -> None:
    file.replace(target)


def _member(output: str, name: str) -> str:
    """street/0001_labels.png of street/0001 is street/0001.labels.png in a tar."""
    return f"{name}.{output[len(name) + 1 :]}"
