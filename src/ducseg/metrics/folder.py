"""The score of a folder of masks against another, both of one's own: read by the rule of the `folder` layout."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE, ClassSet
from ducseg.data.files.header import tiff_header
from ducseg.data.files.rasters import check_same_place
from ducseg.data.layouts.file_names import by_common_ending, masks_beside
from ducseg.data.layouts.mask_files import values_in
from ducseg.data.layouts.mask_reader import MaskReader, MaskRule
from ducseg.data.layouts.mask_rule import find_rule
from ducseg.data.paired import no_such_data
from ducseg.errors import UserError
from ducseg.files import composed
from ducseg.metrics.confusion import ConfusionMatrix, scores
from ducseg.metrics.intervals import intervals, overlap
from ducseg.metrics.per_picture import write_per_picture
from ducseg.metrics.prediction_files import count_each, pair_by_name, pictures_below
from ducseg.metrics.thin import ThinCounts

__all__ = ["score_folder"]

_LAYOUT = "NAME.png, in sub-folders too, with class indices or the classes' colours"
_LABELS = "_labels"


def score_folder(
    pred: Path | str,
    gt: Path | str,
    classes: ClassSet,
    *,
    masks_as: Literal["index", "colour"] | None = None,
    values: tuple[str, ...] = (),
    ignore_value: int | None = None,
    thin: Callable[[int], ThinCounts | None] = lambda num_classes: None,
    subset: bool = False,
    csv: Path | None = None,
    num_workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score a folder of masks.

    Args:
        pred: holds for each mask of `gt` one of the same size, NAME.png or NAME_labels.png (as `ducseg predict` writes
            it, whose other pictures are passed over), in the same sub-folder. Where no name is the same, names are
            compared without what nearly all in a folder end or begin with, as in the `folder` layout: NAME_label.png.
        gt: the true masks, alone or beside their pictures (x_mask.png beside x.png).
        classes: what they hold.
        masks_as, values, ignore_value: how masks are read, as the fields of `DataConfig`; grey NAME_labels.png
            hold indices.
        thin: number of classes -> empty counts of the scores of thin objects, or None: not counted.
        subset: score the pictures that have a prediction, whatever is missing or surplus.
        csv: also write each picture's scores there, as `ducseg.metrics.per_picture` does.
        num_workers: threads; None: one for each core.
        progress: called with (done, total).

    Returns:
        What `ducseg.metrics.confusion.scores` returns, and "pictures": how many were scored,
        "pictures_without_prediction", "masks": how the true ones were read, "names": which go together, where none are
        the same, with an example, "no_data": how many pixels were left out because predictions are TIFFs that have no
        data there, as `ducseg predict` writes them, and what `ThinCounts.scores` returns as "thin".

    Raises:
        UserError: missing or surplus files (all in one message), files that do not read or differ in size or place,
            values that are no class, masks that can be read in two ways, no such folders; `csv` is not writable.
    """
    pairs = _pairs(Path(pred), Path(gt), subset=subset)
    rule_of = partial(_rule, masks_as=masks_as, values=values, ignore_value=ignore_value)
    true = rule_of([truth for _, truth in pairs.files.values()], classes)
    leaving_out = {name for name, (prediction, _) in pairs.files.items() if _leaves_out(prediction)}
    readers = _readers(pairs, leaving_out, true.classes, rule_of)
    count = partial(_count, readers, leaving_out, true.reader, len(true.classes), thin)
    total, of_thin = ConfusionMatrix(len(true.classes)), thin(len(true.classes))
    no_data, overlaps = 0, dict[str, NDArray[np.int64]]()
    for name, (matrix, of_picture, left_out) in count_each(count, pairs.files, num_workers, progress).items():
        no_data += left_out
        total.merge(matrix)
        overlaps[name] = overlap(matrix.matrix)
        if of_thin is not None and of_picture is not None:
            of_thin.merge(of_picture)
    if csv is not None:
        write_per_picture(csv, overlaps, true.classes)
    more: dict[str, Any] = {} if of_thin is None else {"thin": of_thin.scores(true.classes)}
    if (bounds := intervals(overlaps, true.classes)) is not None:
        more["intervals"] = bounds
    if no_data:
        more["no_data"] = no_data
    if pairs.shared:
        more["names"] = pairs.shared
    counted = {"pictures": len(overlaps), "pictures_without_prediction": pairs.without, "masks": true.line}
    return {**scores(total.matrix, true.classes), **counted, **more}


@dataclass(frozen=True)
class _Pairs:
    """What is scored.

    Attributes:
        files: name of each mask -> (prediction, mask).
        without: how many masks have no prediction.
        are_labels: whether the predictions are `ducseg predict`'s NAME_labels.
        shared: how names go together where none are the same; "" where they are.
    """

    files: dict[str, tuple[Path, Path]]
    without: int
    are_labels: bool
    shared: str


def _pairs(pred: Path, gt: Path, *, subset: bool) -> _Pairs:
    there = pictures_below(gt, "masks", _LAYOUT)
    beside = masks_beside(there)
    truth = {_name(file, gt): file for file in there if not beside or file in beside}
    if not truth:
        raise no_such_data("masks", gt, missing="no picture", layout=_LAYOUT)
    found = pictures_below(pred, "predictions", _LAYOUT)
    labels = [file for file in found if file.stem.endswith(_LABELS)]

    def key(file: Path) -> str:
        name = _name(file, pred)
        return name.removesuffix(_LABELS) if labels and name not in truth else name

    renamed = _by_what_they_share({key(file): file for file in labels or found}, truth)
    fix = "Predict the same pictures: NAME.png or NAME_labels.png for a mask NAME.png."
    pairs = pair_by_name(truth, labels or found, lambda file: renamed.get(key(file), key(file)), subset=subset, fix=fix)
    files = {name: (prediction, truth[name]) for name, prediction in pairs.items()}
    prediction, mask = next(iter(files.values()))
    shared = f"names: paired by what they share ({prediction.name} with {mask.name})" if renamed else ""
    return _Pairs(files, len(truth) - len(files), bool(labels), shared)


def _readers(
    pairs: _Pairs,
    leaving_out: Collection[str],
    classes: ClassSet,
    rule_of: Callable[[Sequence[Path], ClassSet], MaskRule],
) -> dict[str, MaskReader]:
    """Of the prediction of each name: those that leave pixels out, and grey ones of `ducseg predict`, hold indices."""
    indices = MaskRule(classes=classes, meaning={value: value for value in (*range(len(classes)), IGNORE)})
    others = [prediction for name, (prediction, _) in pairs.files.items() if name not in leaving_out]
    predicted = indices
    if others and not (pairs.are_labels and all(look.kind == "values" for look in values_in(others)[0])):
        predicted = rule_of(others, classes)
    return {name: (indices if name in leaving_out else predicted).reader for name in pairs.files}


def _name(file: Path, folder: Path) -> str:
    return composed(file.relative_to(folder).with_suffix("").as_posix())


def _by_what_they_share(predictions: Mapping[str, Path], truth: Mapping[str, Path]) -> dict[str, str]:
    """Name of a prediction -> name of its mask; {} where some are the same, or nothing that they share is found."""
    if predictions.keys() & truth.keys():
        return {}
    first, second = by_common_ending({"": dict(predictions)}, {"": dict(truth)})
    name_of = {file: name for names in (predictions, truth) for name, file in names.items()}
    return {name_of[file]: name_of[second[""][name]] for name, file in first[""].items() if name in second[""]}


def _rule(masks: Sequence[Path], classes: ClassSet, **asked: Any) -> MaskRule:
    rule = find_rule(values_in(masks)[0], classes, **asked)
    if rule.problem is not None:
        raise UserError(f"{masks[0].parent}: {rule.problem}")
    return rule


def _leaves_out(prediction: Path) -> bool:
    """Whether it is the TIFF of indices that `ducseg predict` writes of a raster: 255 where that has no data."""
    header = tiff_header(prediction) if prediction.stem.endswith(_LABELS) else None
    return header is not None and header.nodata == str(IGNORE)


def _count(
    readers: Mapping[str, MaskReader],
    leaving_out: Collection[str],
    true: MaskReader,
    num_classes: int,
    thin: Callable[[int], ThinCounts | None],
    name: str,
    files: tuple[Path, Path],
) -> tuple[ConfusionMatrix, ThinCounts | None, int]:
    """Counts of one picture, and how many pixels its prediction leaves out."""
    counts, of_thin, left_out = ConfusionMatrix(num_classes), thin(num_classes), 0
    truth, prediction = true(files[1]), readers[name](files[0])
    if truth.shape == prediction.shape:
        check_same_place(files[1], files[0])
    if name in leaving_out and truth.shape == prediction.shape:
        nothing = prediction == IGNORE
        left_out = int(nothing.sum())
        truth, prediction = np.where(nothing, np.uint8(IGNORE), truth), np.where(nothing, np.uint8(0), prediction)
    counts.update(truth, prediction, name=name)
    if of_thin is not None:
        of_thin.add(truth, prediction, name=name)
    return counts, of_thin, left_out
