"""Large pictures with few cracks, laid out of CrackForest's: what becomes of thin objects that most crops do not show.

    python benchmarks/sparse_cracks.py CRACKFOREST OUT
    ducseg train OUT --out RUN --minutes 30 --optimizer.steps 160 --run.minutes None --run.eval-every-steps 1000
    ducseg eval RUN --split test --bf16

8 x 12 windows of 160 x 160 pixels, of which 4 show a crack, make a picture of 1280 x 1920; 14, 4 and 6 pictures of
the training, validation and test photographs. The seams between windows are as frequent without cracks as with them.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from ducseg.data.config import DataConfig
from ducseg.data.layouts.opening import open_dataset

SIDE, ROWS, COLUMNS, CRACKED = 160, 8, 12, 4
LEAST = 150
"""Pixels of a window that shows a crack; fewer, but some, are left out."""


def windows(root: Path, split: str) -> dict[bool, list[np.ndarray]]:
    """Whether there is a crack -> windows of RGB and the mask, (SIDE, SIDE, 4)."""
    found: dict[bool, list[np.ndarray]] = {False: [], True: []}
    dataset = open_dataset(DataConfig(dataset="folder", root=str(root)), split)
    for index in range(len(dataset)):
        sample = dataset[index]
        assert sample.label is not None
        both = np.dstack([sample.image, 255 * (sample.label == 1).astype(np.uint8)])
        for top in range(0, both.shape[0] - SIDE + 1, 40):
            for left in range(0, both.shape[1] - SIDE + 1, 40):
                window = both[top : top + SIDE, left : left + SIDE]
                cracked = int(np.count_nonzero(window[..., 3]))
                if not 0 < cracked <= LEAST:
                    found[cracked > 0].append(window)
    return found


def main(root: Path, out: Path) -> None:
    draw = np.random.default_rng(0)
    for split, number in (("train", 14), ("val", 4), ("test", 6)):
        found = windows(root, split)
        for index in range(number):
            cracked = set(draw.choice(ROWS * COLUMNS, CRACKED, replace=False).tolist())
            picture = np.zeros((ROWS * SIDE, COLUMNS * SIDE, 4), np.uint8)
            for place in range(ROWS * COLUMNS):
                some = found[place in cracked]
                top, left = (SIDE * at for at in divmod(place, COLUMNS))
                window = cv2.flip(some[draw.integers(len(some))], int(draw.integers(-1, 2)))
                picture[top : top + SIDE, left : left + SIDE] = window
            for kind, pixels in (("images", picture[..., 2::-1]), ("masks", picture[..., 3])):
                (out / kind / split).mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(out / kind / split / f"{index}.png"), pixels)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
