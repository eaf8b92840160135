"""Many pictures by many processes: each takes its part, skips what is done and whole, and writes down what it did.

A result is done when its files are what its line in a manifest says (SHA-256), made with the same settings and
checkpoint of the same input. Files are written under a temporary name and renamed, then the line is added: a process
killed at any time loses the pictures in hand and nothing else, and the same command goes on.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ducseg.files import sweep_unfinished
from ducseg.inference.labeller import Labeller
from ducseg.inference.manifest import Manifest, Row, file_digest, read_rows, stamp
from ducseg.inference.opening import recorded
from ducseg.inference.predict_files import Job, PredictReport, answers_of, find_jobs, read_by, write_jobs
from ducseg.inference.shards import Shard
from ducseg.inference.tiles import Tiling
from ducseg.inference.windowed import ByWindows
from ducseg.inference.writers import Kind

__all__ = ["ShardReport", "network_digest", "predict_shard"]

_CHECKS_AT_ONCE = 4


@dataclass(frozen=True)
class ShardReport:
    """What came of a shard.

    Attributes:
        report: of the pictures that this run labelled.
        total: pictures of all shards.
        skipped: of this shard, done before and whole.
        changed: of those labelled, with a result by other settings or of an input that has changed since.
        damaged: of those labelled, with a line in a manifest but files that are gone or differ.
    """

    report: PredictReport
    total: int
    skipped: int
    changed: int
    damaged: int

    @property
    def labelled(self) -> int:
        """Pictures that this run labelled, or tried to."""
        return len(self.report.written) + len(self.report.failed)


def predict_shard(
    labeller: Labeller,
    inputs: Sequence[str | Path],
    out: Path,
    *,
    kinds: Sequence[Kind],
    shard: Shard,
    settings: str,
    batch_size: int = 1,
    tiling: Tiling | None = None,
    progress: bool = True,
) -> ShardReport:
    """As `predict_files`, for the part `shard` of the pictures sorted by name, and only what is not done.

    Args:
        settings: digest of the checkpoint and of all that changes a result.

    Raises:
        UserError: as `predict_files`; a manifest that cannot be written.
    """
    every = sorted(find_jobs(inputs, out, kinds, rasters=True), key=lambda job: job.name.as_posix())
    jobs = shard.of(every)
    stamps = {job.name: stamp(job.file) for job in jobs}
    states = _states(jobs, stamps, out, settings)
    todo = [job for job, state in zip(jobs, states) if state != "done"]
    sweep_unfinished(result for job in todo for result in job.results.values())
    with Manifest(out, shard) as manifest:

        def done(job: Job, error: str | None, seconds: float) -> None:
            manifest.add(_row(job, out, error, stamp=stamps[job.name], settings=settings, seconds=seconds))

        report = write_jobs(
            answers_of(labeller, kinds), labeller.classes, todo, batch_size=batch_size, progress=progress,
            windows=ByWindows(labeller, tiling, at_once=batch_size), read=read_by(labeller), done=done,
        )  # fmt: skip
    return ShardReport(report, len(every), len(jobs) - len(todo), states.count("changed"), states.count("damaged"))


def _states(jobs: Sequence[Job], stamps: Mapping[Path, str], out: Path, settings: str) -> list[str]:
    """Of each: "new", "done", "changed" or "damaged"."""
    rows = read_rows(out)

    def state(job: Job) -> str:
        row = rows.get(job.name.as_posix())
        if row is None or row.error is not None:
            return "new"
        if row.settings != settings or row.stamp != stamps[job.name]:
            return "changed"
        whole = all(row.sha256.get(kind) == file_digest(result) for kind, result in job.results.items())
        return "done" if whole else "damaged"

    with ThreadPoolExecutor(_CHECKS_AT_ONCE) as pool:
        return list(pool.map(state, jobs))


def _row(job: Job, out: Path, error: str | None, *, stamp: str, settings: str, seconds: float) -> Row:
    results = {} if error is not None else job.results
    return Row(
        name=job.name.as_posix(),
        input=str(job.file),
        stamp=stamp,
        settings=settings,
        outputs={kind: path.relative_to(out).as_posix() for kind, path in results.items()},
        sha256={kind: file_digest(path) for kind, path in results.items()},
        seconds=round(seconds, 4),
        error=error,
    )


def network_digest(path_or_hub_id: str | Path) -> str:
    """SHA-256 of the files of a checkpoint, or of an exported file; raises UserError as `recorded`."""
    place = recorded(path_or_hub_id)[0]
    files = [place] if place.is_file() else sorted(file for file in place.iterdir() if file.name.startswith("model."))
    return " ".join(map(file_digest, files))
