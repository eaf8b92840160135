"""Many machines through Ray Data: a labeller in each actor, which writes the results; the rows come back.

Ray starts an actor that died anew and gives its work to it again: results are renamed into place, so what was half done
is done over, and nothing else.
"""

import logging
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from ducseg.errors import explain, package, whole
from ducseg.inference.labeller import Labeller
from ducseg.inference.manifest import Row, parse_rows
from ducseg.inference.many import ShardReport, part_of, sweep
from ducseg.inference.places import Place
from ducseg.inference.predict_files import PredictReport
from ducseg.inference.shards import Shard
from ducseg.inference.tiles import Tiling
from ducseg.inference.unit_worker import Counts, UnitWorker
from ducseg.inference.units import Unit
from ducseg.inference.writers import EXACT, Kind, Outlines
from ducseg.progress import counted

__all__ = ["predict_ray"]

_MOST_TOGETHER = 32
"""Pictures that an actor is given at once: so many are done again where one dies."""

_STORE_BYTES = 256 << 20  # of a cluster started here: rows are small


@dataclass(frozen=True)
class _Work:
    """What every actor needs."""

    make: Callable[[], Labeller]
    out: str
    kinds: tuple[Kind, ...]
    settings: str
    batch_size: int
    tiling: Tiling | None
    outlines: Outlines
    resume: bool
    threads: int


class _Actor:
    """Holds one labeller and does units."""

    def __init__(self, work: _Work) -> None:
        import torch

        torch.set_num_threads(work.threads)
        self._worker = UnitWorker(
            work.make(), Place(work.out), kinds=work.kinds, settings=work.settings, batch_size=work.batch_size,
            tiling=work.tiling, outlines=work.outlines, resume=work.resume,
        )  # fmt: skip

    def __call__(self, given: dict[str, bytes]) -> dict[str, bytes]:
        units: list[Unit] = pickle.loads(given["units"])
        rows: list[bytes] = []
        counts = Counts()
        try:
            report = self._worker.do(units, lambda row: rows.append(row.line()), counts)
        except ValueError as error:  # a UserError: a disk that is full is so for all
            return {"rows": b"".join(rows), "rest": pickle.dumps((counts, None, str(error)))}
        return {"rows": b"".join(rows), "rest": pickle.dumps((counts, report, ""))}


def predict_ray(
    make: Callable[[], Labeller],
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    kinds: Sequence[Kind],
    settings: str,
    shard: Shard | None = None,
    batch_size: int = 1,
    tiling: Tiling | None = None,
    outlines: Outlines = EXACT,
    per_tar: int | None = None,
    mask_suffix: str | None = None,
    resume: bool = True,
    address: str | None = None,
    workers: int | None = None,
    on_gpu: bool = False,
    progress: bool = True,
) -> ShardReport:
    """As `predict_shard`, by actors of a Ray cluster, each with a labeller of its own.

    Args:
        make: opens the labeller in each actor; can be pickled.
        inputs, out: reached by every machine of the cluster: a shared disk, or URLs.
        address: of the cluster, or "auto" for the one that this machine is part of; None: one is started here.
        workers: actors; default: one a GPU, else one for each 4 cores.
        on_gpu: each actor takes a GPU.

    Raises:
        UserError: as `predict_shard`; Ray is not installed, no cluster at that address.
    """
    ray = package("ray", what="--engine ray", install="'ducseg[ray]'")
    package("ray.data", what="--engine ray", install="'ducseg[ray]'")
    place, part_shard = Place(out), shard or Shard(0, 1)
    part = part_of(
        inputs, place, kinds=kinds, shard=part_shard, settings=settings, per_tar=per_tar, mask_suffix=mask_suffix,
        resume=resume,
    )  # fmt: skip
    with _cluster(ray, address) as (cores, gpus):
        count = whole("--workers", workers, least=1, fix="Leave it out.") if workers is not None else None
        count = count or max(1, int(gpus) if on_gpu else cores // 4)
        work = _Work(
            make, str(place.path.absolute()) if place.path is not None else place.where, tuple(kinds), settings,
            batch_size, tiling, outlines, resume, max(1, cores // count),
        )  # fmt: skip
        share = min(1.0, cores / (count + 1))  # of a core, for Ray's books: the network takes `threads`; some is left
        needs: dict[str, float] = {"num_gpus": 1} if on_gpu else {"num_cpus": share}
        found = _Gathered()
        with place.manifest(part_shard) as manifest, counted("predicted") if progress else nullcontext() as show:
            for answer in _answers(ray, _together(part.todo, count), work, count, needs):
                found.take(answer, manifest.add)
                if show is not None:
                    show(found.pictures, max(found.pictures, sum(len(unit.sources) for unit in part.todo)))
    sweep(part.todo, place, kinds)  # of a worker that was killed; its successor has another name for it
    counts = [part.counts, *found.counts]
    return ShardReport(
        found.report(), part.total, len(part.units), sum(one.skipped for one in counts),
        sum(one.changed for one in counts), sum(one.damaged for one in counts),
    )  # fmt: skip


class _Gathered:
    """What came back."""

    def __init__(self) -> None:
        self.pictures = 0
        self.reports: list[PredictReport] = []
        self.counts: list[Counts] = []

    def take(self, answer: dict[str, bytes], add: Callable[[Row], None]) -> None:
        """Add rows to the manifest; raises UserError where a worker had to stop."""
        counts, report, stopped = pickle.loads(answer["rest"])
        for row in parse_rows(answer["rows"]):
            add(row)
            self.pictures += "tar" not in row.outputs
        self.counts.append(counts)
        if stopped:
            raise explain("a worker", found=stopped, needed="a place that takes the results", fix="Then go on.")
        self.reports.append(report)

    def report(self) -> PredictReport:
        written, failed, notes = (
            tuple(chain.from_iterable(getattr(report, name) for report in self.reports))
            for name in ("written", "failed", "notes")
        )
        return PredictReport(written, failed, notes)


@contextmanager
def _cluster(ray: Any, address: str | None) -> Iterator[tuple[int, float]]:
    """Cores and GPUs of the cluster; one that is started here is stopped again."""
    began, log = not ray.is_initialized(), logging.getLogger("ray.data")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else it warns, in C++, of what Ray Data itself does
    own = {"include_dashboard": False, "object_store_memory": _STORE_BYTES} if address is None else {"address": address}
    try:
        if began:
            ray.init(log_to_driver=False, logging_level="ERROR", **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise explain(
            f"--address {address}",
            found=" ".join(str(error).split()),
            needed="a running Ray cluster",
            fix="`ray start --head` starts one; leave the option out for one on this machine alone.",
        ) from None
    level = log.level
    log.setLevel(logging.ERROR)  # else it tells its plans
    try:
        there = ray.cluster_resources()
        yield max(1, int(there.get("CPU", 1))), there.get("GPU", 0)
    finally:
        log.setLevel(level)
        if began:
            ray.shutdown()


def _answers(
    ray: Any, together: Sequence[list[Unit]], work: _Work, count: int, needs: dict[str, float]
) -> Iterator[dict[str, bytes]]:
    if not together:
        return
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    given = [{"units": pickle.dumps(units)} for units in together]
    data = ray.data.from_items(given, override_num_blocks=len(given)).map(
        _Actor, fn_constructor_args=(work,), compute=ray.data.ActorPoolStrategy(size=count), **needs
    )
    yield from data.iter_rows()


def _together(units: Sequence[Unit], workers: int) -> list[list[Unit]]:
    """Pictures in runs, so that all workers have some to the end; tars one by one."""
    alone = [unit for unit in units if not (unit.tar or unit.packed)]
    size = max(1, min(_MOST_TOGETHER, len(alone) // (4 * workers)))
    runs = [alone[begin : begin + size] for begin in range(0, len(alone), size)]
    return runs + [[unit] for unit in units if unit.tar or unit.packed]
