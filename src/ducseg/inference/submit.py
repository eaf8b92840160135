"""One way from a data set's folder to what a benchmark's server takes: `submit`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ducseg.data.layouts.cityscapes import Cityscapes
from ducseg.data.layouts.kitti_road import KittiRoad
from ducseg.data.layouts.voc2012 import open_voc2012
from ducseg.figures.road_overlay import draw_roads
from ducseg.inference.kitti_submission import road_class, write_kitti_submission
from ducseg.inference.predictor import Labeller
from ducseg.inference.submissions import write_cityscapes_submission, write_voc_submission

__all__ = ["SERVERS", "submit"]


def submit(
    server: str,
    labeller: Labeller,
    root: Path,
    out: Path,
    *,
    split: str = "test",
    archive: Path | None = None,
    fold: int | None = None,
    figure: Path | None = None,
    progress: bool = True,
) -> list[Path]:
    """Write the results of a split into `out`, and on request the archive that the server takes.

    Args:
        server: a name of `SERVERS`.
        root: the data set's folder.
        archive: .zip (VOC2012: .tar.gz) to write too.
        fold: kitti-road: which one `val` is; None: the one that the network's training run held out, else 0.
        figure: kitti-road: PNG of up to six of the frames with the road in red.
        progress: draw a bar on a terminal.

    Returns:
        The files, in the order of the pictures.

    Raises:
        UserError: no such data; as `write_cityscapes_submission`, `write_voc_submission`, `write_kitti_submission`.
    """
    given = {name: value for name, value in {"fold": fold, "figure": figure}.items() if value is not None}
    return SERVERS[server](labeller, root, out, split=split, archive=archive, progress=progress, **given)


def _cityscapes(labeller: Labeller, root: Path, out: Path, *, split: str, **rest: Any) -> list[Path]:
    return write_cityscapes_submission(labeller, Cityscapes(root, split), out, **rest)


def _voc2012(labeller: Labeller, root: Path, out: Path, *, split: str, **rest: Any) -> list[Path]:
    return write_voc_submission(labeller, open_voc2012(root, split), out, **rest)


def _kitti_road(
    labeller: Labeller,
    root: Path,
    out: Path,
    *,
    split: str,
    fold: int | None = None,
    figure: Path | None = None,
    **rest: Any,
) -> list[Path]:
    frames = KittiRoad(root, split, fold=_held_out(labeller) if fold is None else fold)
    files = write_kitti_submission(labeller, frames, out, **rest)
    if figure is not None:
        _draw_roads(labeller, frames, figure)
    return files


def _held_out(labeller: Labeller) -> int:
    """The fold that the network's training run validated on."""
    data = ((labeller.model.record.get("extra") or {}).get("config") or {}).get("data") or {}
    return int(data.get("fold", 0)) if data.get("dataset") == "kitti-road" else 0


def _draw_roads(labeller: Labeller, frames: KittiRoad, path: Path, *, count: int = 6) -> None:
    """Frames spread evenly over the data set."""
    number = min(count, len(frames))
    images = [frames[(2 * position + 1) * len(frames) // (2 * number)].image for position in range(number)]
    road = road_class(labeller.model.classes)
    draw_roads([(image, labeller(image) == road) for image in images], path)


SERVERS: dict[str, Callable[..., list[Path]]] = {
    "cityscapes": _cityscapes,
    "kitti-road": _kitti_road,
    "voc2012": _voc2012,
}
"""Benchmark -> what writes its results."""
