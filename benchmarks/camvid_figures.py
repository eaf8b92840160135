"""Figures of a CamVid run that hold none of its pictures: curves, and predictions beside where they are wrong.

    python benchmarks/camvid_figures.py RUN CAMVID OUT

CamVid's pictures and labels may not be published with this repository; `ducseg eval RUN --split test --panels FILE`
draws them beside the predictions on your own copy.
"""

import sys
from pathlib import Path

import numpy as np

import ducseg
from ducseg.classes import IGNORE
from ducseg.data.config import DataConfig
from ducseg.data.layouts.opening import open_dataset
from ducseg.figures.curves import draw_curves
from ducseg.figures.panels import draw_panels


def main(run: Path, camvid: Path, out: Path) -> None:
    predictor, dataset = ducseg.load(run), open_dataset(DataConfig(dataset="camvid", root=str(camvid)), "test")
    rows = []
    for position in range(4):
        sample = dataset[(2 * position + 1) * len(dataset) // 8]
        assert sample.label is not None
        predicted = predictor(sample.image)
        wrong = (predicted != sample.label) & (sample.label != IGNORE)
        print(f"{sample.id}: {wrong.sum() / (sample.label != IGNORE).sum():.1%} of labelled pixels wrong")
        rows.append([predicted, np.where(wrong, predicted, IGNORE).astype(np.uint8)])
    draw_panels(rows, out / "camvid-panels.png", ("prediction", "where it is wrong"), dataset.classes)
    draw_curves({run.name: run / "log.jsonl"}, out / "camvid-curves.png")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
