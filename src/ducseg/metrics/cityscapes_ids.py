"""Whether predicted PNGs hold Cityscapes' label ids or train ids, found by looking at all of them.

Values above 18 are label ids alone, and 255 stands in train ids alone. Where a whole set has neither, the reading
under which more pixels agree with the truth is taken.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import CITYSCAPES, IGNORE
from ducseg.data.layouts.cityscapes import LABEL_ID_TO_TRAIN_ID, NUM_LABEL_IDS
from ducseg.errors import explain, listed

if TYPE_CHECKING:
    from ducseg.metrics.cityscapes_counts import FrameCounts, FrameFiles

__all__ = ["EVALUATED", "Ids", "check_ids", "find_ids"]

Ids = Literal["label", "train"]

EVALUATED: NDArray[np.int64] = np.array(sorted(LABEL_ID_TO_TRAIN_ID), dtype=np.int64)
"""The label ids that are evaluated, by train id."""

_VOID = NUM_LABEL_IDS  # the column of value 255 in FrameCounts


def _seen(frame: "FrameCounts") -> NDArray[np.int64]:
    """Pixels of each predicted value 0..33, and last of 255."""
    return np.asarray(frame.matrix.sum(0), dtype=np.int64)


def _only_label(frame: "FrameCounts") -> str:
    """The values above 18, which no train id has, with their pixels; empty: none."""
    seen = _seen(frame)
    values = [value for value in range(len(CITYSCAPES), NUM_LABEL_IDS) if seen[value]]
    return listed([f"value {value} in {seen[value]} pixels" for value in values], 3)


def _only_train(frame: "FrameCounts") -> str:
    """The value 255, which no label id has."""
    pixels = _seen(frame)[_VOID]
    return f"value {IGNORE} in {pixels} pixels" if pixels else ""


def _right(frame: "FrameCounts", ids: Ids) -> int:
    """Pixels of evaluated labels that are right if the prediction holds such ids."""
    columns = EVALUATED if ids == "label" else range(len(CITYSCAPES))
    return sum(int(frame.matrix[label, column]) for label, column in zip(EVALUATED, columns))


def _looks_like_train(frame: "FrameCounts") -> str:
    """The values below 7 of a frame that has none above 18 and is right in more pixels if they are train ids."""
    below = [value for value in range(EVALUATED[0]) if _seen(frame)[value]]
    if not below or _only_label(frame) or _right(frame, "label") >= _right(frame, "train"):
        return ""
    return f"value {below[0]} in {_seen(frame)[below[0]]} pixels, none above 18"


def find_ids(frames: "Mapping[str, FrameCounts]", files: "Mapping[str, FrameFiles]") -> Ids:
    """What the predictions hold; raises `UserError` (file, value, pixels) where some hold one and some the other."""
    label = {name: found for name, frame in frames.items() if (found := _only_label(frame))}
    train = {name: found for name, frame in frames.items() if (found := _only_train(frame))}
    if label:
        train = {name: found for name, frame in frames.items() if (found := _looks_like_train(frame))} | train
    if label and train:
        raise explain(
            "predictions",
            found=f"label ids in {_examples(label, files)}; train ids in {_examples(train, files)}",
            needed="label ids (7..33) in all, or train ids (0..18, 255) in all",
            fix="Write all again in one of the two; if all are what they should be, say which with --ids.",
        )
    if label or train:
        return "label" if label else "train"
    right = {ids: sum(_right(frame, ids) for frame in frames.values()) for ids in ("label", "train")}
    if right["label"] != right["train"]:
        return "label" if right["label"] > right["train"] else "train"
    below = any(_seen(frame)[: EVALUATED[0]].any() for frame in frames.values())
    return "train" if below else "label"


def check_ids(frames: "Mapping[str, FrameCounts]", files: "Mapping[str, FrameFiles]", ids: Ids) -> Ids:
    """`ids` itself; raises `UserError` (file, value, pixels) where a prediction has values that are no such ids."""
    strays = _only_train if ids == "label" else _only_label
    found = {name: stray for name, frame in frames.items() if (stray := strays(frame))}
    if found:
        raise explain(
            f"predictions with --ids {ids}",
            found=_examples(found, files),
            needed="label ids 0..33" if ids == "label" else "train ids 0..18 and 255",
            fix=f"They look like {'train' if ids == 'label' else 'label'} ids; leave --ids out to have it found.",
        )
    return ids


def _examples(found: Mapping[str, str], files: "Mapping[str, FrameFiles]") -> str:
    return listed([f"{files[name].prediction} ({values})" for name, values in found.items()])
