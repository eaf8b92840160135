"""Does the exported file answer as the network does? Both label the same pictures, and what differs is counted."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from operator import length_hint
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ducseg.classes import ClassSet
from ducseg.data.sample import Sample
from ducseg.export.onnx import scores_of
from ducseg.inference.onnx_file import Output
from ducseg.inference.onnx_predictor import OnnxPredictor
from ducseg.inference.taken import as_picture, pixels_taken
from ducseg.metrics.confusion import ConfusionMatrix, scores, to_json
from ducseg.models.segmenter import Segmenter
from ducseg.progress import counted

__all__ = ["Parity", "Reference", "compare", "with_odd_sizes"]


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How alike two are on the same pictures.

    Attributes:
        pictures, pixels: compared.
        equal_labels: share of the pixels with equal labels.
        agreement: mean IoU of the file's labels, with the network's as truth: every class counts alike.
        largest_difference: of any score; None where scores were not compared.
        mean_iou: of the network and of the file, where the pictures' labels are known.
    """

    pictures: int
    pixels: int
    equal_labels: float
    agreement: float
    largest_difference: float | None
    mean_iou: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        found: dict[str, Any] = to_json(asdict(self))
        return found

    def lines(self, name: str) -> list[str]:
        """To be printed; `name` of the file."""
        equal = f"{100 * self.equal_labels:.4f} % of {self.pixels:,} labels equal"
        if self.largest_difference is not None:
            equal += f", largest difference of a score {self.largest_difference:.2g}"
        found = [f"{name} beside the network, {self.pictures} pictures: {equal}"]
        if self.mean_iou is not None:
            network, file = (100 * value for value in self.mean_iou)
            found.append(f"mean IoU: {network:.2f} % of the network, {file:.2f} % of {name}")
        return found


class Reference:
    """The network itself, plain: PyTorch in float32 on the CPU, batch norms where they were.

    Args:
        segmenter: moved to the CPU, in evaluation mode from now on.
        output: "labels" and "scores" compare scores, "probabilities" compares them.
    """

    def __init__(self, segmenter: Segmenter, output: Output) -> None:
        self.segmenter, self.output = segmenter.cpu().eval(), output

    @torch.inference_mode()
    def __call__(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """Scores, see `ducseg.export.onnx.scores_of`, or probabilities (L, H, W) of a picture (H, W, C) as it takes."""
        preprocessing = self.segmenter.preprocessing
        picture = np.array(as_picture(image, pixels_taken(preprocessing)))
        images = preprocessing.normalise(torch.from_numpy(picture).permute(2, 0, 1)[None])
        if self.output == "probabilities":
            return np.asarray(self.segmenter.probabilities(images)[0].numpy())
        return np.asarray(scores_of(self.segmenter, images)[0].numpy())


def compare(
    reference: Reference, file: OnnxPredictor, samples: Iterable[Sample], *, scoring: OnnxPredictor | None = None
) -> Parity:
    """Label every sample with both.

    Args:
        file: what is judged.
        scoring: a file of the same network that gives what the reference gives; None: only labels are compared.
    """
    counts, known = _Counts(reference.segmenter.classes), length_hint(samples)
    with counted("pictures compared") as show:
        for sample in samples:
            wanted = reference(sample.image)
            difference = None if scoring is None else float(np.abs(scoring.answer(sample.image) - wanted).max())
            counts.add(wanted.argmax(0).astype(np.uint8), file(sample.image), difference, sample.label)
            show(counts.pictures, max(counts.pictures, known))
    return counts.parity()


class _Counts:
    """What `compare` counts, picture by picture."""

    def __init__(self, classes: ClassSet) -> None:
        self.classes, self.pictures, self.differences = classes, 0, list[float]()
        self.between, self.network, self.file = (ConfusionMatrix(len(classes)) for _ in range(3))

    def add(
        self,
        wanted: NDArray[np.uint8],
        found: NDArray[np.uint8],
        difference: float | None,
        truth: NDArray[np.uint8] | None,
    ) -> None:
        self.pictures += 1
        self.between.update(wanted, found)
        if difference is not None:
            self.differences.append(difference)
        if truth is not None:
            self.network.update(truth, wanted)
            self.file.update(truth, found)

    def parity(self) -> Parity:
        between = scores(self.between.matrix, self.classes)
        network, file = (scores(one.matrix, self.classes)["mean_iou"] for one in (self.network, self.file))
        return Parity(
            pictures=self.pictures,
            pixels=between["num_pixels"],
            equal_labels=between["pixel_accuracy"],
            agreement=between["mean_iou"],
            largest_difference=max(self.differences, default=None),
            mean_iou=(network, file) if self.network.matrix.any() else None,
        )


def with_odd_sizes(samples: Iterable[Sample]) -> Iterator[Sample]:
    """The samples, then parts of the first one: one pixel, sides that no stride divides, a narrow strip."""
    samples = iter(samples)
    first = next(samples, None)
    if first is None:
        return
    yield from chain((first,), samples)
    height, width = first.image.shape[:2]
    for h, w in {(1, 1), (height, max(1, width // 3)), (max(1, height - 3), max(1, width - 5)), (1, width)}:
        part = first.image[:h, :w]
        yield Sample(image=part, label=None, id=f"{first.id} {h}x{w}", original_size=(h, w))
