"""Grid search over the CRF's five parameters and its iterations on a validation split, as in the paper (section 4.1).

    OUT/probabilities/ID.npy   what the network said, float16 (L, H, W): predicted once
    OUT/counts/ID.npz          confusion and boundary counts of one picture under every setting so far
    OUT/results.json, heatmap.png, best.json

Each file is whole or not there, so a search that was stopped goes on where it was, and a larger grid computes only what
is new. Pictures are spread over the cores, one each; what settings share is built once for a picture.
"""

import hashlib
import io
import itertools
import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ducseg.classes import ClassSet
from ducseg.cores import available_cores
from ducseg.crf.dense_crf import marginals_under_each
from ducseg.crf.params import CrfParams, check_iterations
from ducseg.data.files.arrays import read_array, read_arrays
from ducseg.data.paired import SegmentationDataset
from ducseg.data.sample import Sample
from ducseg.errors import MALFORMED, explain, taken_apart
from ducseg.files import parse_json, sweep_folder, write_whole
from ducseg.metrics.boundary import BoundaryCounts
from ducseg.metrics.confusion import ConfusionMatrix, band_in_words, scores

__all__ = ["BAND", "Grid", "Row", "tune"]

BOUNDARY_RATIO = 0.02
"""Band of the Boundary IoU as a share of the picture's diagonal."""
BAND = band_in_words(BOUNDARY_RATIO)

Key = tuple[float, ...]  # the five parameters and the iterations; () is the network alone


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The values to try, each with each. Raises UserError for a value that is no parameter, or for none."""

    sigma_alpha: tuple[float, ...] = (5.0, 15.0, 40.0)
    sigma_beta: tuple[float, ...] = (3.0, 8.0, 20.0)
    w1: tuple[float, ...] = (1.0, 3.0, 6.0)
    sigma_gamma: tuple[float, ...] = (1.0,)
    w2: tuple[float, ...] = (1.0, 3.0)
    iterations: tuple[int, ...] = (1, 5, 10)

    def __post_init__(self) -> None:
        empty = [field.name for field in fields(self) if not len(getattr(self, field.name))]
        if empty:
            raise explain("CRF grid", found=f"no value for {', '.join(empty)}", needed="one or more", fix="Add some.")
        object.__setattr__(self, "iterations", tuple(map(check_iterations, self.iterations)))
        self.settings()

    def settings(self) -> list[CrfParams]:
        """Every combination of the five parameters."""
        names = [field.name for field in fields(CrfParams)]
        values = (dict.fromkeys(getattr(self, name)) for name in names)
        return [CrfParams(**dict(zip(names, chosen))) for chosen in itertools.product(*values)]

    def points(self) -> list[Key]:
        """Every combination with every number of iterations, and () for the network alone."""
        return [(), *(_key(params, n) for params in self.settings() for n in sorted(set(self.iterations)))]


@dataclass(frozen=True)
class Row:
    """One setting's scores, as fractions; `params` is None for the network alone."""

    params: CrfParams | None
    iterations: int
    mean_iou: float
    mean_boundary_iou: float


@dataclass
class _Counts:
    """What one picture adds to the scores of a setting."""

    matrix: npt.NDArray[np.int64]
    boundary: npt.NDArray[np.int64]


def tune(
    folder: Path,
    dataset: SegmentationDataset,
    indices: Sequence[int],
    probabilities: Callable[[Sample], npt.NDArray[np.floating]],
    grid: Grid,
    *,
    source: dict[str, Any],
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Row]:
    """Score every setting of the grid on some pictures of a data set.

    Args:
        folder: for what is kept between runs.
        indices: of the pictures; only what they lack is computed.
        probabilities: of a sample, (L, H, W); asked once for each picture.
        source: JSON-able, what the probabilities depend on (checkpoint, split, scales ...); a folder keeps to one.
        progress: called with ("predicted" or "refined", done, total).

    Returns:
        The network alone, then the grid's rows in the order of `Grid.points`.

    Raises:
        UserError: a folder that holds another source's results, a disk without room, a picture without label.
    """
    _open(folder, {**source, "boundary_ratio": BOUNDARY_RATIO})
    keys, show = grid.points(), progress or (lambda _what, _done, _total: None)
    for done, index in enumerate(indices, 1):
        _predict(folder, dataset, index, probabilities, len(indices) - done)
        show("predicted", done, len(indices))
    with ThreadPoolExecutor(available_cores()) as pool:
        found = []
        tasks = [pool.submit(_count, folder, dataset, index, grid) for index in indices]
        try:
            for done, task in enumerate(tasks, 1):
                found.append(task.result())
                show("refined", done, len(tasks))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [_row(key, [counts[key] for counts in found], dataset.classes) for key in keys]


def _open(folder: Path, source: dict[str, Any]) -> None:
    path = folder / "source.json"
    for place in (folder, folder / "probabilities", folder / "counts"):
        sweep_folder(place)  # what a killed search left half-written
    if path.is_file():
        needed = "what crf-tune wrote"
        with taken_apart(f"file {path}", found="no record of a search", needed=needed, fix="Choose another --out."):
            there = dict(parse_json(path.read_text(encoding="utf-8")))
        if there != source:
            other = [name for name in sorted(there | source) if there.get(name) != source.get(name)]
            raise explain(
                f"folder {folder}",
                found=f"results with another {', '.join(other)} (see {path.name})",
                needed="a new folder, or one of the same network and pictures",
                fix="Choose another --out.",
            )
        return
    write_whole(path, json.dumps(source, indent=1).encode())


def _predict(
    folder: Path,
    dataset: SegmentationDataset,
    index: int,
    probabilities: Callable[[Sample], npt.NDArray[np.floating]],
    left: int,
) -> None:
    path = _path(folder, "probabilities", dataset, index, "npy")
    if path.is_file():
        return
    sample = dataset[index]
    if sample.label is None:
        raise explain(f"sample {sample.id}", found="no label", needed="one to score", fix="Use a labelled split.")
    found = probabilities(sample).astype(np.float16)
    _check_room(folder, found.nbytes, left + 1)
    _save(path, lambda handle: np.save(handle, found))


def _check_room(folder: Path, size: int, pictures: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size * pictures:
        raise explain(
            f"disk of {folder}",
            found=f"{free / 2**30:.1f} GiB free",
            needed=f"{size * pictures / 2**30:.1f} GiB for the probabilities of {pictures} pictures",
            fix="Lower --pictures, free some space, or choose another --out.",
        )


def _count(folder: Path, dataset: SegmentationDataset, index: int, grid: Grid) -> dict[Key, _Counts]:
    """One picture's counts under every setting of the grid: read, or computed and kept."""
    path = _path(folder, "counts", dataset, index, "npz")
    known = _read(path)
    missing = [key for key in grid.points() if key not in known]
    if missing:
        sample = dataset[index]
        assert sample.label is not None, "refused when it was predicted"
        values = read_array(_path(folder, "probabilities", dataset, index, "npy"))
        add = _Counter(sample.label, values.shape[0])
        if () in missing:
            known[()] = add(values)
        wanted = {key[:-1] for key in missing if key}
        settings = [params for params in grid.settings() if _key(params, 0)[:-1] in wanted]
        each = marginals_under_each(values, sample.image, settings, sorted(set(grid.iterations)), threads=1)
        for params, iterations, marginals in each:
            known[_key(params, iterations)] = add(marginals)
        _keep(path, known)
    return known


class _Counter:
    """Counts label maps against one truth."""

    def __init__(self, label: npt.NDArray[np.uint8], classes: int) -> None:
        self.label, self.classes = label, classes

    def __call__(self, marginals: npt.NDArray[np.floating]) -> _Counts:
        labels = marginals.argmax(0).astype(np.uint8)
        matrix, boundary = ConfusionMatrix(self.classes), BoundaryCounts(self.classes, ratio=BOUNDARY_RATIO)
        matrix.update(self.label, labels)
        boundary.update(self.label, labels)
        return _Counts(matrix.matrix, np.stack([boundary.intersection, boundary.union]))


def _row(key: Key, counts: list[_Counts], classes: ClassSet) -> Row:
    boundary = BoundaryCounts(len(classes), ratio=BOUNDARY_RATIO)
    boundary.intersection, boundary.union = np.sum([one.boundary for one in counts], axis=0)
    mean_iou = scores(np.sum([one.matrix for one in counts], axis=0), classes)["mean_iou"]
    params = CrfParams(*key[:-1]) if key else None
    return Row(params, int(key[-1]) if key else 0, mean_iou, boundary.scores(classes)["mean_boundary_iou"])


def _key(params: CrfParams, iterations: int) -> Key:
    return (*asdict(params).values(), float(iterations))


def _path(folder: Path, part: str, dataset: SegmentationDataset, index: int, suffix: str) -> Path:
    """Where something of a picture is kept: another place once its picture or mask is another, or has changed."""
    files = [paths[index] for kind in ("image_paths", "label_paths") if (paths := getattr(dataset, kind, ()))]
    stamps = [(str(file.resolve()), (status := file.stat()).st_size, status.st_mtime_ns) for file in files]
    stamp = f"-{hashlib.sha256(repr(stamps).encode()).hexdigest()[:8]}" if stamps else ""
    return folder / part / f"{dataset.ids[index].replace('/', '__')}{stamp}.{suffix}"


def _read(path: Path) -> dict[Key, _Counts]:
    """What is kept of a picture; what is damaged is nothing, and computed anew."""
    if not path.is_file():
        return {}
    try:
        kept = read_arrays(path)
        rows = zip(kept["settings"], kept["matrices"], kept["boundaries"], strict=True)
        return {tuple(key[np.isfinite(key)].tolist()): _Counts(matrix, boundary) for key, matrix, boundary in rows}
    except MALFORMED:
        return {}


def _keep(path: Path, known: dict[Key, _Counts]) -> None:
    length = len(fields(CrfParams)) + 1
    settings = np.array([[*key, *[np.nan] * (length - len(key))] for key in known])
    matrices = np.stack([counts.matrix for counts in known.values()])
    boundaries = np.stack([counts.boundary for counts in known.values()])
    _save(path, lambda handle: np.savez(handle, settings=settings, matrices=matrices, boundaries=boundaries))


def _save(path: Path, write: Callable[[io.BytesIO], None]) -> None:
    buffer = io.BytesIO()
    write(buffer)
    write_whole(path, buffer.getvalue())
