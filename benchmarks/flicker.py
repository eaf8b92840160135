"""How much `--smooth` takes of the flicker of masks, and of their accuracy, on clips with a known truth.

    python benchmarks/flicker.py CHECKPOINT IMAGES LABELS --json flicker.json

IMAGES and LABELS hold pictures and masks of the same names (255: not counted). A clip is made of each picture: a window
of half its sides that glides across it, seen by a camera with noise (`--noise`, levels of 0..255) whose gain wavers by
2 %, each frame coded as JPEG of quality 85. The truth of each frame is the same window of the mask.

Flicker: the share of points of the scene, not of the frame, whose label changes from one frame to the next.
Error: the share of wrong pixels. Mean IoU: over all frames, counts in int64. Smoothing that trails behind what moves
would show in the two.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE
from ducseg.data.files.reading import read_image, read_label
from ducseg.inference.opening import open_labeller
from ducseg.inference.smoothing import Smoothed
from ducseg.metrics.confusion import ConfusionMatrix, scores

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Frame:
    """What the camera sees (H/2, W/2, 3), the truth of it (H/2, W/2), and where in the scene it begins."""

    seen: Picture
    truth: Picture
    top: int
    left: int


def clip(image: Picture, label: Picture, count: int, noise: float, seed: int) -> Iterator[Frame]:
    """Each frame 3 columns further, and every second one a row."""
    rng, (height, width) = np.random.default_rng(seed), label.shape
    for number in range(count):
        top, left = min(number // 2, height - height // 2), min(3 * number, width - width // 2)
        window = np.s_[top : top + height // 2, left : left + width // 2]
        seen = image[window] * (1 + 0.02 * np.sin(number)) + rng.normal(0, noise, (height // 2, width // 2, 3))
        coded = cv2.imencode(".jpg", np.clip(seen, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
        yield Frame(np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8), label[window], top, left)


class Answered:
    """The probabilities of one frame, computed once for all shares."""

    def __init__(self, labeller: Any) -> None:
        self.labeller, self.classes, self.record = labeller, labeller.classes, labeller.record
        self.found: Any = None

    def probabilities(self, _image: Picture, /) -> Any:
        return self.found

    def __call__(self, image: Picture, /) -> Any:
        return self.probabilities(image).argmax(0).astype(np.uint8)


class Measured:
    """One share's labels against the truth, frame by frame."""

    def __init__(self, num_classes: int) -> None:
        self.matrix, self.changed, self.compared = ConfusionMatrix(num_classes), 0, 0

    def add(self, labels: Picture, frame: Frame, last: tuple[Picture, Frame] | None) -> None:
        self.matrix.update(frame.truth, labels, name="frame")
        if last is not None:
            down, right = frame.top - last[1].top, frame.left - last[1].left
            height, width = labels.shape
            now, then = labels[: height - down, : width - right], last[0][down:, right:]
            counted = frame.truth[: height - down, : width - right] != IGNORE
            self.changed += int((now != then)[counted].sum())
            self.compared += int(counted.sum())

    def result(self, classes: Any) -> dict[str, float]:
        found = scores(self.matrix.matrix, classes)
        return {
            "flicker": self.changed / self.compared,
            "error": 1 - found["pixel_accuracy"],
            "mean_iou": found["mean_iou"],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("images", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--pictures", type=int, default=6)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--noise", type=float, default=6.0)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.5, 0.7, 0.9])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    answered = Answered(open_labeller(options.checkpoint))
    measured = {share: Measured(len(answered.classes)) for share in options.shares}
    masks = {file.stem: file for file in options.labels.iterdir()}
    pairs = [(file, masks[file.stem]) for file in sorted(options.images.iterdir()) if file.stem in masks]
    for seed, (image, label) in enumerate(pairs[:: max(1, len(pairs) // options.pictures)][: options.pictures]):
        smoothed = {share: Smoothed(answered, share) for share in options.shares}
        last: dict[float, tuple[Picture, Frame]] = {}
        for frame in clip(read_image(image), read_label(label), options.frames, options.noise, seed):
            answered.found = answered.labeller.probabilities(frame.seen)
            for share, labeller in smoothed.items():
                labels = labeller(frame.seen)
                measured[share].add(labels, frame, last.get(share))
                last[share] = labels, frame
    found = {str(share): one.result(answered.classes) for share, one in measured.items()}
    for share, row in found.items():
        print(f"--smooth {share}: " + ", ".join(f"{name} {100 * value:.3f} %" for name, value in row.items()))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
