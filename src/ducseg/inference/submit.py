"""Results for the servers of Cityscapes, KITTI road and PASCAL VOC2012: the files they take, scored alike by `score`.

`submit` is the one way from a data set's folder to them. Label maps are those of the labeller at the size of the
picture, confidences of KITTI road are `ducseg.inference.road`'s: scoring what was written gives what `eval` gives.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ducseg.classes import CITYSCAPES, VOC2012
from ducseg.data.birds_eye import BEV_SIZE, BirdsEye
from ducseg.data.files.indexed_png import write_indexed_png
from ducseg.data.files.png import PngKind
from ducseg.data.layouts.cityscapes import LABEL_ID_TO_TRAIN_ID, Cityscapes
from ducseg.data.layouts.kitti_road import KittiRoad, result_name
from ducseg.data.layouts.voc2012 import open_voc2012
from ducseg.data.paired import SegmentationDataset
from ducseg.data.sample import Sample
from ducseg.errors import explain
from ducseg.figures.label_maps import write_png
from ducseg.figures.road_overlay import draw_roads
from ducseg.files import write_whole
from ducseg.inference.labeller import Labeller
from ducseg.inference.opening import data_of
from ducseg.inference.road import check_calibration, road_class, road_confidence
from ducseg.inference.submission_files import (
    check_archive,
    check_classes,
    known_labels,
    tar_gz_archive,
    write_results,
    zip_archive,
)

__all__ = [
    "SERVERS",
    "VOC_FOLDER",
    "submit",
    "write_cityscapes_submission",
    "write_kitti_submission",
    "write_voc_submission",
]

VOC_FOLDER = Path("results", "VOC2012", "Segmentation", "comp6_test_cls")
"""Where VOC's server looks in the archive; comp6 is the competition that allows other data (ImageNet, COCO, SBD)."""

_CITYSCAPES_SIZE = (1024, 2048)
_FRAME = re.compile(r"[^_]+_\d+_\d+")
_MOST_NAMED = 5


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
    data = data_of(labeller.record)
    return int(data.get("fold", 0)) if data.get("dataset") == "kitti-road" else 0


def _draw_roads(labeller: Labeller, frames: KittiRoad, path: Path, *, count: int = 6) -> None:
    """Frames spread evenly over the data set."""
    number = min(count, len(frames))
    images = [frames[(2 * position + 1) * len(frames) // (2 * number)].image for position in range(number)]
    road = road_class(labeller.classes)
    draw_roads([(image, labeller(image) == road) for image in images], path)


SERVERS: dict[str, Callable[..., list[Path]]] = {
    "cityscapes": _cityscapes,
    "kitti-road": _kitti_road,
    "voc2012": _voc2012,
}
"""Benchmark -> what writes its results."""


def write_cityscapes_submission(
    labeller: Labeller,
    dataset: SegmentationDataset,
    out: Path,
    *,
    archive: Path | None = None,
    progress: bool = False,
) -> list[Path]:
    """Write CITY_SEQUENCE_FRAME_labelIds.png into `out`: 8-bit grey, label ids (not train ids), one for each frame.

    Args:
        labeller: a `Predictor`, or anything around one, with Cityscapes' 19 classes.
        dataset: the test split for the server, a labelled one for `score_cityscapes`; ids are CITY_SEQUENCE_FRAME.
        out: folder for the results; those of an earlier run are replaced.
        archive: also this .zip of the results, as the server takes it; replaced. Frames must then be 1024x2048.
        progress: draw a bar on a terminal.

    Returns:
        The files, in the order of the frames.

    Raises:
        UserError: another model or data set, frames of another size, an archive that is no .zip, `out` holding other
            pictures, pictures that do not read, a disk that refuses the results.
    """
    check_classes(labeller, CITYSCAPES, "Cityscapes")
    check_archive(archive, (".zip",))
    strange = [name for name in dataset.ids if _FRAME.fullmatch(name) is None]
    if strange:
        raise explain(
            "frames",
            found=f"{len(strange)} with other names ({', '.join(strange[:_MOST_NAMED])})",
            needed="CITY_SEQUENCE_FRAME, as aachen_000000_000019",
            fix="Predict a split of Cityscapes.",
        )
    label_id = np.zeros(256, np.uint8)
    for value, train_id in LABEL_ID_TO_TRAIN_ID.items():
        label_id[train_id] = value
    size = None if archive is None else _CITYSCAPES_SIZE
    files = [out / f"{name}_labelIds.png" for name in dataset.ids]

    def write(index: int, sample: Sample) -> None:
        write_png(files[index], np.asarray(cv2.LUT(known_labels(labeller, sample), label_id), np.uint8))

    write_results(dataset, out, files, write, size=size, progress=progress)
    if archive is not None:
        write_whole(archive, zip_archive(files), option="--zip")
    return files


def write_voc_submission(
    labeller: Labeller,
    dataset: SegmentationDataset,
    out: Path,
    *,
    archive: Path | None = None,
    progress: bool = False,
) -> list[Path]:
    """Write results/VOC2012/Segmentation/comp6_test_cls/ID.png into `out`: class indices 0..20 with VOC's palette.

    Args:
        labeller: a `Predictor`, or anything around one, with VOC's 21 classes.
        dataset: `open_voc2012(root, "test")` for the server, a labelled split for `score_voc2012`.
        out: folder for the results; those of an earlier run are replaced.
        archive: also this .tar.gz or .tgz of the results with their folders, as the server takes it; replaced.
        progress: draw a bar on a terminal.

    Returns:
        The files, in the order of the pictures.

    Raises:
        UserError: another model, an archive of another kind, `out` holding other pictures, pictures that do not read,
            a disk that refuses the results.
    """
    check_classes(labeller, VOC2012, "VOC2012")
    check_archive(archive, (".tar.gz", ".tgz"))
    files = [out / VOC_FOLDER / f"{name}.png" for name in dataset.ids]

    def write(index: int, sample: Sample) -> None:
        write_indexed_png(files[index], known_labels(labeller, sample))

    write_results(dataset, out, files, write, progress=progress)
    if archive is not None:
        write_whole(archive, tar_gz_archive(files, VOC_FOLDER), option="--zip")
    return files


def write_kitti_submission(
    labeller: Labeller, dataset: KittiRoad, out: Path, *, archive: Path | None = None, progress: bool = False
) -> list[Path]:
    """Write um_road_000000.png, ...: 8-bit grey, 800x400, one for each frame of a data set.

    Args:
        labeller: a `Predictor`, or anything around one.
        dataset: the test split for the server, a validation split for `score_kitti_road`; with lanes as ground truth,
            the files are um_lane_000000.png, ...
        out: folder for the results; those of an earlier run are replaced.
        archive: also this .zip of the results, without folders, as the server takes it; replaced.
        progress: draw a bar on a terminal.

    Returns:
        The files, in the order of the frames.

    Raises:
        UserError: calibration files that are missing or do not read; `out` holding pictures that are no such results; a
            model without the class "road"; an archive that is no .zip; pictures that do not read; a disk that refuses
            the results.
    """
    road_class(labeller.classes)
    check_archive(archive, (".zip",))
    check_calibration(dataset)
    files = [out / f"{result_name(frame, dataset.ground_truth)}.png" for frame in dataset.ids]

    def write(index: int, sample: Sample) -> None:
        view = BirdsEye.read(dataset.calibration_paths[index])
        write_png(files[index], view.from_image(road_confidence(labeller, sample.image)))

    write_results(dataset, out, files, write, kind=PngKind(BEV_SIZE, "8-bit grey"), progress=progress)
    if archive is not None:
        write_whole(archive, zip_archive(files), option="--zip")
    return files
