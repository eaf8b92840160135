"""Every command that writes, on small inputs, and how its output is compared."""

import contextlib
import io
import json
import re
import shutil
import tarfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import children
import torch
from moments import Moment
from small_inputs import write_checkpoint, write_coco, write_folder_data, write_pictures, write_tar

from ducseg.cli import main
from ducseg.weights.checkpoint import load_segmenter

__all__ = ["WORK", "Trial", "Work", "complaints", "tree", "unlike"]


@dataclass(frozen=True)
class Work:
    """A command that is killed.

    Attributes:
        make: what it reads in a folder -> its arguments but for its output.
        to: (arguments, output) -> all of them; the same command is given after a kill.
        kills: of a campaign.
        broken: output that is not done yet -> what in it is not as promised, where files change as it grows.
    """

    make: Callable[[Path], Sequence[object]]
    to: Callable[[Sequence[object], Path], Sequence[object]] = lambda given, out: [*given, "--out", out]
    kills: int = 25
    broken: Callable[[Path], list[str]] | None = None


def _predict(*options: object, tar: bool = False) -> Work:
    def make(base: Path) -> Sequence[object]:
        inputs = write_pictures(base / "pictures", 10)
        if tar:
            inputs = write_tar(base / "pictures.tar", inputs)
        network = write_checkpoint(base / "network")
        return ["predict", network, inputs, "--device", "cpu", *options]

    return Work(make)


def _raster(base: Path) -> Sequence[object]:
    import numpy as np
    import rasterio

    image = np.random.default_rng(0).integers(0, 256, (3, 300, 200), np.uint8)
    profile = {"driver": "GTiff", "height": 300, "width": 200, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(base / "x.tif", "w", transform=rasterio.Affine(1, 0, 5e5, 0, -1, 5e6), **profile) as file:
        file.write(image)
    options = ["--device", "cpu", "--tile", "96", "--kinds", "labels", "probabilities"]
    return ["predict", write_checkpoint(base / "network"), base / "x.tif", *options]


def _patches(base: Path) -> Sequence[object]:
    size = ["--size", "64", "128", "--workers", "1"]
    assert main(["data", "synth", "cityscapes", str(base / "city"), "--num-train", "2", "--num-val", "1", *size]) == 0
    return ["data", "patches", "cityscapes", base / "city", "--scheme", "12-fold", "--workers", "1"]


def _tune(base: Path) -> Sequence[object]:
    network = write_checkpoint(base / "network", write_folder_data(base / "data"))
    grid = "--sigma-alpha 5 --sigma-beta 5 9 --w1 1 --w2 1 --iterations 1 2 --device cpu"
    return ["crf-tune", network, *grid.split()]


def _synth(dataset: str) -> Work:
    options = [
        "--num-train",
        3,
        "--size",
        *{"cityscapes": (48, 96), "kitti-road": (64, 200), "voc2012": (48, 64)}[dataset],
    ]
    return Work(
        lambda _base: ["data", "synth", dataset, "--workers", 1],
        lambda given, out: [*given, out, *options],
        kills=15,
    )


def _ablate(*options: object) -> Work:
    """One training, saved after each step, and two rows that are scored by it."""
    small = (
        "--seeds 1 --rows duc flip --epochs 1 --device cpu --run.threads 1 --run.save-every-steps 1 --model.width 8 "
        "--data.synthetic-scenes 4 1 --data.synthetic-size 48 64 --data.workers 0 --augment.crop-size 32 32 "
        "--optimizer.batch-size 2"
    )
    given = ["ablate", "testing", "--data", "synthetic", *small.split(), *options]
    return Work(lambda _base: given, broken=_broken_ablation)


def _broken_ablation(out: Path) -> list[str]:
    wrong = []
    for folder in out.glob("runs/*/checkpoints/step-*"):
        try:
            load_segmenter(folder)
            if not (folder.parents[1] / "trained.json").exists():
                torch.load(folder / "train_state.pt", weights_only=True)
        except Exception as error:
            wrong.append(f"{folder.name}: {type(error).__name__}: {error}")
    for path in [*out.glob("runs/*/*.json"), *out.glob("runs/*/checkpoints/step-*/*.json")]:
        json.loads(path.read_text())
    return wrong


WORK = {
    "predict, pictures": _predict(),
    "predict --resume": _predict("--resume", "--kinds", "labels", "probabilities", "polygons", "overlay"),
    "predict --shard": _predict("--shard", "1/2", "--batch-size", "2"),
    "predict --tar": _predict("--resume", "--tar", "3"),
    "predict, a tar": _predict("--resume", tar=True),
    "predict --tile, a GeoTIFF": Work(_raster),
    "data patches": Work(_patches),
    "data convert coco": Work(lambda base: ["data", "convert", "coco", write_coco(base / "coco"), "--workers", "1"]),
    "data synth cityscapes": _synth("cityscapes"),
    "data synth kitti-road": _synth("kitti-road"),
    "data synth voc2012": _synth("voc2012"),
    "crf-tune": Work(_tune),
    "ablate": _ablate(),
    "ablate --discard": _ablate("--discard"),
}


TIMES = ("seconds", "finished", "images_per_second", "waiting_share", "commit")  # git may not answer
LOGS = (".lock", ".launch", "output.txt")
"""Files that say who was at work and what was done, not what came of it."""


def tree(folder: Path) -> dict[str, Any]:
    """Every file and folder, hidden ones too; but not how long it took, nor that it lies in `folder`."""
    return {path.relative_to(folder).as_posix(): _content(path, folder) for path in folder.rglob("*")}


def _content(path: Path, folder: Path) -> Any:
    if not path.is_file() or path.name.endswith(LOGS):
        return None
    content = path.read_bytes().replace(str(folder).encode(), b"OUT")
    if path.suffix == ".jsonl":
        rows = [_timeless(row) for row in _rows(content.decode(), "row" if path.name == "results.jsonl" else "")]
        return sorted({row.get("name", index): json.dumps(row) for index, row in enumerate(rows)}.values())
    if path.suffix == ".json" and any(f'"{name}"'.encode() in content for name in TIMES):
        return _timeless(json.loads(content))
    if path.suffix == ".md":  # a table: its columns are as wide as its times
        return _page(content.decode())
    return content


def _rows(text: str, kind: str) -> Iterator[Any]:
    """Lines of JSON; where each says its `kind`, one that was cut short counts for nothing."""
    for line in text.split("\n")[:-1]:
        with contextlib.suppress(*[ValueError] if kind else []):
            yield json.loads(line)


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(one) for name, one in value.items() if name not in TIMES}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def _page(text: str) -> list[list[str]]:
    """The cells of a page's tables, without the column "s" of the first."""
    lines = [[cell.strip(" -") for cell in line.split("|")] for line in text.splitlines()]
    head = next((cells for cells in lines if "s" in cells), [])
    return [
        [cell for cell, name in zip(cells, head) if name != "s"] if len(cells) == len(head) else cells
        for cells in lines
    ]


def _without_failed(expected: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """What is expected, but of a tar of results that the manifest says is not complete, without the pictures that it
    says failed: these alone may be missing, and what is there is as it would be.
    """
    lines = [line for name, content in found.items() if name.startswith("manifest-") for line in content]
    failed = {row["name"] for row in map(json.loads, lines) if row["error"] is not None}
    parts = {name: {one[len(name) + 1 :] for one in failed if one.startswith(f"{name}/")} for name in expected}
    return {
        name: _tar_without(content, parts[name]) if name in failed and parts[name] else content
        for name, content in expected.items()
    }


def _tar_without(tar: bytes, pictures: Collection[str]) -> bytes:
    """Its bytes, had these not been packed."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        kept = [one for one in archive if one.name.removesuffix(".png").rpartition(".")[0] not in pictures]
    blocks = [tar[one.offset : one.offset_data + -(-one.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE] for one in kept]
    end = bytes(2 * tarfile.BLOCKSIZE)
    size = len(b"".join(blocks)) + len(end)
    return b"".join(blocks) + end + bytes(-size % tarfile.RECORDSIZE)


_GROWING = (".jsonl", "patches-train.json")
"""Books of what is done so far."""


def unlike(found: dict[str, Any], expected: dict[str, Any], *, whole: bool) -> list[str]:
    """Where a folder is not as it should be; not `whole`: a part of it, and hidden files beside."""
    names = found.keys() | expected.keys() if whole else {name for name in found if not name.endswith(_GROWING)}
    shown = {name for name in names if whole or not any(part.startswith(".") for part in name.split("/"))}
    wrong = sorted(name for name in shown if found.get(name, 0) != expected.get(name, 0))
    kinds = {True: "beside what should be there", False: "not as it should be"}
    return [f"{name}: {kinds[name not in expected] if name in found else 'missing'}" for name in wrong]


def complaints(child: children.Child, statuses: Sequence[int] = (0, 1, 2)) -> list[str]:
    """What a command that could not do its work did otherwise than say so in a line."""
    logged = re.compile(r"^[WE]\d{4} .*\n?", re.MULTILINE)  # torch's own, of a signal that came in its midst
    said, wrong = logged.sub("", child.said()), []
    if child.process.exitcode not in statuses:
        wrong.append(f"ends with {child.process.exitcode}: {said[-600:]}")
    if "Traceback" in said or "Exception ignored" in said:
        wrong.append(f"a traceback: {said[-900:]}")
    if child.process.exitcode == 2 and sum(line.startswith("error: ") for line in said.splitlines()) != 1:
        wrong.append(f"not one line of error: {said[-600:]}")
    return wrong


class Trial:
    """One of `WORK` with what an undisturbed run of it gives, to be disturbed."""

    def __init__(self, work: str, base: Path, place: Path | None = None, more: Sequence[object] = ()) -> None:
        """`place`: where outputs lie, such as a small disk; `more`: options."""
        self.job, self.base = WORK[work], base
        self.given = [*self.job.make(base), *more]
        self.out, self._said = (place or base) / "out", base / "said.txt"
        children.run(self.job.to(self.given, base / "warm"), self._said, clocked=False)  # what numba compiles is kept
        undisturbed = children.run(self.job.to(self.given, base / "whole"), self._said)
        assert undisturbed.process.exitcode == 0, undisturbed.said()
        self.expected, self.ticks = tree(base / "whole"), undisturbed.ticks

    def start(self) -> children.Child:
        """The command, running."""
        return children.start(self.job.to(self.given, self.out), self._said, clocked=False)

    def run(self, **options: Any) -> children.Child:
        """The command, once it has ended."""
        return children.run(self.job.to(self.given, self.out), self._said, **options)

    def after(
        self, moment: Moment, statuses: Sequence[int] = (0, 1, 2), *, then: Callable[[], None] = lambda: None
    ) -> list[str]:
        """What the command, disturbed at a moment, and then the same undisturbed do otherwise than promised.

        `then`: what mends the disturbance before the command is given again.
        """
        self.clear()
        child = self.run(moment=moment)
        found = complaints(child, statuses) + self.unlike(whole=child.process.exitcode == 0)
        then()
        return [f"{moment}: {line}" for line in found + self.goes_on()]

    def unlike(self, *, whole: bool) -> list[str]:
        """Where the output is not as it should be."""
        if not whole and self.job.broken is not None:
            return self.job.broken(self.out)
        found = tree(self.out)
        return unlike(found, self.expected if whole else _without_failed(self.expected, found), whole=whole)

    def goes_on(self) -> list[str]:
        """What the same command, undisturbed, does otherwise than end with the expected files."""
        if not self.unlike(whole=True):
            return []  # it was done: what makes a new folder would refuse
        child = self.run(clocked=False)
        if child.process.exitcode != 0:
            return [f"does not go on ({child.process.exitcode}): {child.said()[-600:]}"]
        return self.unlike(whole=True)

    def clear(self) -> None:
        """Remove the output."""
        shutil.rmtree(self.out, ignore_errors=True)
