"""Kill -9 at random moments of every other command that writes: no file under its name is half-written, and the same
command, given again, ends with the very files of a run that no one disturbed, and nothing beside them.
"""

import json
import random
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import children
import pytest
from moments import Moment
from small_inputs import write_checkpoint, write_coco, write_folder_data, write_pictures, write_tar

from ducseg.cli import main


@dataclass(frozen=True)
class Work:
    """A command that is killed.

    Attributes:
        make: what it reads in a folder -> its arguments but for its output.
        to: (arguments, output) -> all of them; the same command is given after a kill.
        kills: of a campaign.
    """

    make: Callable[[Path], Sequence[object]]
    to: Callable[[Sequence[object], Path], Sequence[object]] = lambda given, out: [*given, "--out", out]
    kills: int = 40


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
        lambda _base: ["data", "synth", dataset],
        lambda given, out: [*given, out, *options, "--workers", 1],
        kills=20,
    )


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
}


def tree(folder: Path) -> dict[str, Any]:
    """Every file and folder, hidden ones too; of a manifest what it says, but not how long it took."""
    found: dict[str, Any] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".jsonl":
            rows = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
            found[name] = sorted(
                json.dumps({**row, "seconds": 0}) for row in {row["name"]: row for row in rows}.values()
            )
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found


def unlike(found: dict[str, Any], expected: dict[str, Any], *, whole: bool) -> list[str]:
    """Where a folder is not as it should be; not `whole`: a part of it, and hidden files beside."""
    names = found.keys() | expected.keys() if whole else {name for name in found if not name.endswith(".jsonl")}
    shown = {name for name in names if whole or not any(part.startswith(".") for part in name.split("/"))}
    wrong = sorted(name for name in shown if found.get(name, 0) != expected.get(name, 0))
    kinds = {True: "beside what should be there", False: "not as it should be"}
    return [f"{name}: {kinds[name not in expected] if name in found else 'missing'}" for name in wrong]


@pytest.mark.slow
@pytest.mark.parametrize("work", WORK)
def test_a_killed_command_leaves_whole_files_and_goes_on(
    work: str, tmp_path: Path, draw: random.Random, campaign: bool, book: Any
) -> None:
    job = WORK[work]
    given, out, said = job.make(tmp_path), tmp_path / "out", tmp_path / "said.txt"
    children.run(job.to(given, tmp_path / "warm"), said, clocked=False)  # what numba compiles is kept
    undisturbed = children.run(job.to(given, tmp_path / "whole"), said)
    assert undisturbed.process.exitcode == 0, undisturbed.said()
    expected, ticks, wrong = tree(tmp_path / "whole"), undisturbed.ticks, []
    left = kills = job.kills if campaign else 3
    while left > 0:
        shutil.rmtree(out, ignore_errors=True)
        moments: list[Moment] = []
        while True:
            clock = draw.choice(("call", "file", "file"))
            moment = Moment(clock, draw.randint(1, ticks[clock])) if left > 0 else None
            child = children.run(job.to(given, out), said, moment=moment)
            if child.process.exitcode != -signal.SIGKILL:
                break
            assert moment is not None
            left -= 1
            moments.append(moment)
            wrong += [f"{moments}: {line}" for line in unlike(tree(out), expected, whole=False)]
        if child.process.exitcode != 0:
            wrong.append(f"{moments}: does not go on: {child.said()[-600:]}")
        else:
            wrong += [f"{moments}: {line}" for line in unlike(tree(out), expected, whole=True)]
    book.add(f"kill: {work}", tried=kills, lost=len(wrong))
    assert not wrong, "\n".join(wrong)
