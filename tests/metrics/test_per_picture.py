"""Each picture's scores as a table, against counting pixel by pixel."""

import csv
from pathlib import Path

import numpy as np

from ducseg.classes import ClassSet
from ducseg.metrics.confusion import ConfusionMatrix
from ducseg.metrics.intervals import overlap
from ducseg.metrics.per_picture import write_per_picture

CLASSES = ClassSet(("ground", 'wire, "high"', "absent"), ((0, 0, 0),) * 3)


def test_a_line_a_picture_and_class(tmp_path: Path) -> None:
    rng, maps, counted = np.random.default_rng(0), {}, {}
    for name in ("a,1", "folder/b"):
        truth, prediction = rng.integers(0, 2, (5, 6)), rng.integers(0, 2, (5, 6))
        truth[0] = 255
        maps[name] = truth, prediction
        matrix = ConfusionMatrix(3)
        matrix.update(truth, prediction)
        counted[name] = overlap(matrix.matrix)
    write_per_picture(tmp_path / "new" / "pictures.csv", counted, CLASSES)
    with (tmp_path / "new" / "pictures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["picture"], row["class"]) for row in rows] == [
        (name, one) for name in maps for one in CLASSES.names[:2]
    ]
    for row in rows:
        truth, prediction = maps[row["picture"]]
        label = CLASSES.names.index(row["class"])
        true, predicted = (truth == label), (prediction == label) & (truth != 255)
        right = int((true & predicted).sum())
        assert [int(row[f"{key}_pixels"]) for key in ("right", "true", "predicted")] == [
            right, true.sum(), predicted.sum(),
        ]  # fmt: skip
        assert float(row["iou"]) == round(right / (true | predicted).sum(), 6)
        assert float(row["dice"]) == round(2 * right / (true.sum() + predicted.sum()), 6)


def test_names_are_no_formulas(tmp_path: Path) -> None:
    names = ("=1+1", "+1", "-1", "@a", "\ta", "a=1")
    write_per_picture(
        tmp_path / "pictures.csv", {one: np.ones((3, 1), int) for one in names}, ClassSet(("=a",), ((0, 0, 0),))
    )
    with (tmp_path / "pictures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows] == [*(f"'{one}" for one in names[:-1]), "a=1"]
    assert {row["class"] for row in rows} == {"'=a"}
