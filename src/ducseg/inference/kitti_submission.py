"""Results for KITTI road: confidences in the bird's-eye view, as the benchmark's server takes them, and their scores.

The confidence of a pixel is the probability of the class "road" times 255, rounded, so that scoring what was written
gives what evaluating the labeller gave. Legend: H, W pixels of the picture.
"""

import io
import zipfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import ClassSet
from ducseg.data.birds_eye import BEV_SIZE, BirdsEye
from ducseg.data.layouts.kitti_road import KittiRoad, PngKind, png_kind, result_name
from ducseg.data.sample import Sample
from ducseg.errors import explain
from ducseg.figures.label_maps import write_png, write_whole
from ducseg.inference.predictor import Labeller
from ducseg.inference.read_ahead import read_ahead
from ducseg.metrics.kitti_road import RoadCounts
from ducseg.metrics.kitti_road_files import View
from ducseg.progress import counted

__all__ = ["evaluate_kitti_road", "road_class", "road_confidence", "write_kitti_submission"]

_MOST_NAMED = 5


def road_confidence(labeller: Labeller, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """How sure a labeller is of road, uint8 (H, W), of a picture RGB uint8 (H, W, 3).

    Any network with a class "road" will do, one trained on Cityscapes too.

    Raises:
        UserError: no class "road"; as `Labeller.probabilities`.
    """
    road = road_class(labeller.model.classes)
    probability = labeller.probabilities(image)[road]
    return np.asarray(np.rint(probability * np.float32(255)), np.uint8)


def road_class(classes: ClassSet) -> int:
    """The index of the class "road"; `UserError` where there is none."""
    if "road" not in classes.names:
        raise explain(
            "the model's classes",
            found=", ".join(classes.names[:_MOST_NAMED]),
            needed="one with the name road",
            fix="Take a model trained on KITTI road (ducseg train kitti-road-duc) or on Cityscapes.",
        )
    return classes.names.index("road")


class _Frame(NamedTuple):
    sample: Sample
    view: BirdsEye | None


def write_kitti_submission(
    labeller: Labeller, dataset: KittiRoad, out: Path, *, archive: Path | None = None, progress: bool = False
) -> list[Path]:
    """Write um_road_000000.png, ...: 8-bit grey, 800x400, one for each frame of a data set.

    Args:
        labeller: a `Predictor`, or anything around one.
        dataset: the test split for the server, a validation split for `score_kitti_road`; with lanes as ground truth,
            the files are um_lane_000000.png, ...
        out: folder for the results; those of an earlier run are replaced.
        archive: also a zip file of the results, without folders, as the server takes it; replaced.
        progress: draw a bar on a terminal.

    Returns:
        The files, in the order of the frames.

    Raises:
        UserError: calibration files that are missing or do not read; `out` holding pictures that are no such results; a
            model without the class "road"; pictures that do not read; a disk that refuses the results.
    """
    road_class(labeller.model.classes)
    files = [out / f"{result_name(frame, dataset.ground_truth)}.png" for frame in dataset.ids]
    _check_out(out, files)
    for file, frame in zip(files, _frames(dataset, "bev", "predicted" if progress else None)):
        assert frame.view is not None
        write_png(file, frame.view.from_image(road_confidence(labeller, frame.sample.image)))
    if archive is not None:
        _write_archive(archive, files)
    return files


def evaluate_kitti_road(
    labeller: Labeller, dataset: KittiRoad, *, view: View = "bev", progress: bool = False
) -> dict[str, RoadCounts]:
    """Counts by category ("um_road", ...) of a labelled split, for `ducseg.metrics.kitti_road.road_scores`.

    Equal to writing the results and scoring them with `score_kitti_road`.

    Raises:
        UserError: as `write_kitti_submission`; a split without labels.
    """
    counts: dict[str, RoadCounts] = {}
    for frame in _frames(dataset, view, "scored" if progress else None):
        label, name = frame.sample.label, result_name(frame.sample.id, dataset.ground_truth)
        if label is None:
            raise explain(
                f"frame {frame.sample.id}", found="no ground truth", needed="one to score", fix="Use another split."
            )
        confidence = road_confidence(labeller, frame.sample.image)
        if frame.view is not None:
            # 0 means ignored outside the picture, but label 0 is not road: shift by one on the way
            label = frame.view.from_image(label + np.uint8(1)) - np.uint8(1)
            confidence = frame.view.from_image(confidence)
        counts.setdefault(name.rpartition("_")[0], RoadCounts()).update(label, confidence)
    return counts


def _frames(dataset: KittiRoad, view: View, bar: str | None) -> Iterator[_Frame]:
    """The frames in order, the next ones read meanwhile; with the view, where it is the bird's-eye one."""
    if view == "bev":
        _check_calibration(dataset)

    def read(index: int) -> _Frame:
        view_of_frame = BirdsEye.read(dataset.calibration_paths[index]) if view == "bev" else None
        return _Frame(dataset[index], view_of_frame)

    with counted(bar) if bar else nullcontext() as show:
        for index, frame in read_ahead(read, range(len(dataset))):
            yield frame()
            if show is not None:
                show(index + 1, len(dataset))


def _check_calibration(dataset: KittiRoad) -> None:
    missing = [path for path in dataset.calibration_paths if not path.is_file()]
    if missing:
        raise explain(
            f"calibration in {missing[0].parent}",
            found=f"{len(missing)} files missing ({_named(missing)})",
            needed="one for each frame, for the bird's-eye view",
            fix="Unpack the calib folder of data_road.zip too.",
        )


def _check_out(out: Path, files: list[Path]) -> None:
    """Refuse a folder in which something else would be overwritten or handed in: ground truth has the same names."""
    wanted = set(files)
    is_result = PngKind(BEV_SIZE, "8-bit grey")
    there = sorted(out.glob("*.png")) if out.is_dir() else []
    strange = [file for file in there if file not in wanted or png_kind(file) != is_result]
    if strange:
        raise explain(
            f"folder {out}",
            found=f"{len(strange)} pictures that are no results of these frames ({_named(strange)})",
            needed="a new folder, or one with an earlier run's results",
            fix="Choose another --out.",
        )


def _named(files: list[Path]) -> str:
    more = f" and {len(files) - _MOST_NAMED} more" if len(files) > _MOST_NAMED else ""
    return ", ".join(file.name for file in files[:_MOST_NAMED]) + more


def _write_archive(archive: Path, files: list[Path]) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as content:  # stored: PNGs are compressed
        for file in files:
            content.writestr(zipfile.ZipInfo(file.name), file.read_bytes())
    write_whole(archive, packed.getvalue())
