"""Score a folder of KITTI road results against a folder of ground truth, in the picture or in the bird's-eye view.

Results are 8-bit grey PNGs of confidences, named as the ground truth (um_road_000000.png). Everything that headers tell
is checked before the first pixel is read, and told at once.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from ducseg.data.birds_eye import BEV_SIZE, BirdsEye
from ducseg.data.files.png import png_kind
from ducseg.data.files.reading import read_label
from ducseg.data.layouts.kitti_road import decode_ground_truth, read_ground_truth
from ducseg.data.paired import no_such_data
from ducseg.data.processes import mapped
from ducseg.errors import explain, listed
from ducseg.files import visible
from ducseg.metrics.kitti_road import RoadCounts, road_scores
from ducseg.metrics.prediction_files import pair_by_name

__all__ = ["View", "count_kitti_road", "score_kitti_road"]

View = Literal["bev", "perspective"]

_RESULT = re.compile(r"(um|umm|uu)_(road|lane)_\d{6}")
_ORDER = ("um_road", "umm_road", "uu_road", "um_lane", "umm_lane", "uu_lane")
_MOST_NAMED = 20
_NAMES = "Name results as the ground truth (um_road_000000.png)."


class _Pair(NamedTuple):
    """One result, its ground truth, and the calibration where one of them becomes a bird's-eye view."""

    result: Path
    truth: Path
    calibration: Path | None

    @property
    def category(self) -> str:
        return self.truth.stem.rpartition("_")[0]


def score_kitti_road(
    pred: Path | str,
    gt: Path | str,
    *,
    calib: Path | str | None = None,
    view: View = "bev",
    subset: bool = False,
    num_workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, float]]:
    """Scores of a folder of results, as the benchmark's development kit computes them.

    Args:
        pred: folder of 8-bit grey PNGs named as the ground truth. Where it holds no lanes, lanes are not scored, and
            likewise roads.
        gt: folder of ground truth, gt_image_2 (or the development kit's bird's-eye views of it, 800x400).
        calib: folder of um_000000.txt, ...; None: calib/ beside `gt`. The perspective view needs none.
        view: "perspective" takes results of the pictures' size. "bev", the benchmark's own, takes results of 800x400 as
            they are and transforms those of the picture's size; the ground truth is transformed.
        subset: score the frames that have both, and leave out the others.
        num_workers: processes.
        progress: called with (done, total).

    Returns:
        {"um_road": {"MaxF", "AP", "PRE", "REC", "FPR", "FNR", "threshold"}, ..., "urban_road": ...} as fractions, of
        the categories that there are; NaN where not defined.

    Raises:
        UserError: folders that are none or hold no results; all missing and surplus files; all results with another
            size or pixel type; missing or unreadable calibration; damaged files.
    """
    return road_scores(
        count_kitti_road(pred, gt, calib=calib, view=view, subset=subset, num_workers=num_workers, progress=progress)
    )


def count_kitti_road(
    pred: Path | str,
    gt: Path | str,
    *,
    calib: Path | str | None = None,
    view: View = "bev",
    subset: bool = False,
    num_workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, RoadCounts]:
    """What `score_kitti_road` scores: counts by category and ground truth, for figures; same arguments and errors."""
    pred, gt = Path(pred), Path(gt)
    pairs = _pairs(pred, gt, gt.parent / "calib" if calib is None else Path(calib), view, subset=subset)
    counts = {name: RoadCounts() for name in _ORDER if any(pair.category == name for pair in pairs)}
    for pair, found in zip(pairs, mapped(_count, pairs, num_workers, progress)):
        counts[pair.category].merge(found)
    return counts


def _count(pair: _Pair) -> RoadCounts:
    result, truth = read_label(pair.result), read_ground_truth(pair.truth)
    if pair.calibration is not None:
        view = BirdsEye.read(pair.calibration)
        truth = truth if truth.shape[:2] == BEV_SIZE else view.from_image(truth)
        result = result if result.shape == BEV_SIZE else view.from_image(result)
    counts = RoadCounts()
    counts.update(decode_ground_truth(truth), result)
    return counts


def _pairs(pred: Path, gt: Path, calib: Path, view: View, *, subset: bool) -> list[_Pair]:
    results, truths = _pngs(pred, "results"), _pngs(gt, "ground truth")
    tasks = {match[2] for file in results if (match := _RESULT.fullmatch(file.stem))} or {"road"}
    wanted = {file.stem: file for file in truths if (match := _RESULT.fullmatch(file.stem)) and match[2] in tasks}
    paired = pair_by_name(wanted, results, lambda file: file.stem, subset=subset, fix=_NAMES)
    pairs = [
        _Pair(result, wanted[name], calib / f"{re.sub('_(road|lane)_', '_', name)}.txt")
        for name, result in paired.items()
    ]
    _check_kinds(pairs, view)
    if view == "perspective":
        return [pair._replace(calibration=None) for pair in pairs]
    pairs = [pair if _is_transformed(pair) else pair._replace(calibration=None) for pair in pairs]
    without = [pair.calibration for pair in pairs if pair.calibration is not None and not pair.calibration.is_file()]
    if without:
        raise explain(
            f"calibration in {calib}",
            found=f"{len(without)} files missing ({listed([file.name for file in without], _MOST_NAMED)})",
            needed="one for each frame that is transformed into the bird's-eye view",
            fix="Give the folder training/calib with --calib.",
        )
    return pairs


def _pngs(folder: Path, what: str) -> list[Path]:
    """The PNGs in a folder, by name."""
    found = visible(folder, "*.png")
    if not found:
        layout = "um_road_000000.png, umm_road_000000.png, uu_road_000000.png, ..."
        raise no_such_data(f"{what} of KITTI road", folder, missing="no PNG", layout=layout)
    return found


def _check_kinds(pairs: list[_Pair], view: View) -> None:
    """One error for all results whose headers do not fit."""
    problems = [f"{pair.result.name} {problem}" for pair in pairs if (problem := _misfit(pair, view))]
    if problems:
        picture = "as large as its ground truth" if view == "perspective" else "800x400 or as large as its picture"
        raise explain(
            f"results in {pairs[0].result.parent} for the view {view}",
            found=f"{len(problems)} that do not fit ({listed(problems, _MOST_NAMED, '; ')})",
            needed=f"8-bit grey PNGs of confidences, each {picture} (H x W)",
            fix="Write confidences as uint8 (255 is certain road); --view says which view is scored.",
        )


def _misfit(pair: _Pair, view: View) -> str | None:
    result, truth = png_kind(pair.result), png_kind(pair.truth)
    if result.pixels != "8-bit grey":
        return f"is {result.pixels}"
    sizes = {truth.size} - {BEV_SIZE} if view == "perspective" else {truth.size, BEV_SIZE}
    if result.size in sizes:
        return None
    return "is {}x{} and its ground truth {}x{}".format(*result.size, *truth.size)


def _is_transformed(pair: _Pair) -> bool:
    return not png_kind(pair.truth).size == png_kind(pair.result).size == BEV_SIZE
