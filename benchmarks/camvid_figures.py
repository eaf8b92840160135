"""Figures of CamVid runs that hold none of its pictures: curves, predictions beside where they are wrong, gridding.

    python benchmarks/camvid_figures.py RUN CAMVID OUT
    python benchmarks/camvid_figures.py gridding CAMVID OUT RUN ...

CamVid's pictures and labels may not be published with this repository; `ducseg eval RUN --split test --panels FILE`
draws them beside the predictions on your own copy.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import ducseg
from ducseg.classes import IGNORE
from ducseg.data.config import DataConfig
from ducseg.data.layouts.opening import open_dataset
from ducseg.figures.curves import draw_curves
from ducseg.figures.panels import draw_panels
from ducseg.inference.gridding import measure_gridding
from ducseg.inference.predictor import Predictor
from ducseg.ops.receptive_field import side_of
from ducseg.weights.checkpoint import load_segmenter


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


def gridding(camvid: Path, out: Path, *runs: Path) -> None:
    """Score of one class, and whence the gradient of the middle comes: a column a run."""
    dataset = open_dataset(DataConfig(dataset="camvid", root=str(camvid)), "test")
    pictures = [dataset[position].image for position in range(0, len(dataset), 30)]
    figure, panels = plt.subplots(2, len(runs), figsize=(3.6 * len(runs), 6.4), constrained_layout=True)
    for run, (top, bottom) in zip(runs, panels.T):
        segmenter = load_segmenter(run)
        found = measure_gridding(Predictor(segmenter, "cpu"), pictures)
        worst = max((period for period in found.periods if period.judged), key=lambda period: period.excess or 0)
        strongest = np.abs(found.shown.score).max()
        top.imshow(found.shown.score, cmap="PuOr", vmin=-strongest, vmax=strongest)
        top.set_title(f'"{segmenter.architecture.dilation}"\nscore of {found.shown.name}', fontsize=10)
        bottom.imshow(np.sqrt(found.field), cmap="cividis")
        bottom.set_title(f"95 % of the gradient in {side_of(found.field)} px\n"
                         f"lattice: {worst.excess:.1f} dB at {worst.pixels} px", fontsize=10)  # fmt: skip
        for panel in (top, bottom):
            panel.set_xticks([])
            panel.set_yticks([])
    figure.savefig(out / "gridding-camvid.png", dpi=100)


if __name__ == "__main__":
    if sys.argv[1] == "gridding":
        gridding(*map(Path, sys.argv[2:]))
    else:
        main(*map(Path, sys.argv[1:4]))
