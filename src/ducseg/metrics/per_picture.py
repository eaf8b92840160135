"""Scores of each picture by itself, as a table for pandas or a spreadsheet. Data sets' scores pool counts instead."""

import csv
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import ClassSet
from ducseg.files import write_whole

__all__ = ["write_per_picture"]

_COLUMNS = ("picture", "class", "iou", "dice", "right_pixels", "true_pixels", "predicted_pixels")


def write_per_picture(path: Path, overlaps: Mapping[str, NDArray[np.int64]], classes: ClassSet) -> None:
    """Write a CSV of a line for each picture and class that is in its truth or prediction.

    Columns: picture, class, iou and dice (fractions), right_pixels, true_pixels, predicted_pixels. Pixels whose truth
    is ignored count nowhere. Sums of the pixels of a class over pictures give its score: right / (true + predicted -
    right). A name that begins with =, +, -, @, a tab or a line's end gets a ' before it: spreadsheets would take it for
    a formula.

    Args:
        overlaps: name of each picture -> its `ducseg.metrics.intervals.overlap`.

    Raises:
        UserError: the folder is not writable or the disk is full.
    """
    text = StringIO(newline="")
    table = csv.writer(text)
    table.writerow(_COLUMNS)
    for picture, counts in overlaps.items():
        for name, (right, true, predicted) in zip(classes.names, counts.T.tolist()):
            if either := true + predicted:
                table.writerow(
                    (
                        _as_word(picture),
                        _as_word(name),
                        f"{right / (either - right):.6f}",
                        f"{2 * right / either:.6f}",
                        right,
                        true,
                        predicted,
                    )
                )
    write_whole(path, text.getvalue().encode(), option="--csv")


def _as_word(name: str) -> str:
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else name
