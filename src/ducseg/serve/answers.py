"""What is answered about a picture: PNGs, JSON with the classes' areas, polygons; and the jobs that make it.

A picture is decoded in the thread that labels it, so that no more than two batches are in memory, however many wait.
"""

import base64
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE, ClassSet
from ducseg.data.files.png import encode_png
from ducseg.data.files.reading import decode_image
from ducseg.errors import UserError
from ducseg.figures.label_maps import colourise, overlay
from ducseg.inference.labeller import Labeller, each
from ducseg.inference.polygons import feature_collection
from ducseg.serve.limits import Refusal
from ducseg.serve.upload import Upload

__all__ = ["KINDS", "Answer", "Included", "Kind", "Label", "PictureJob"]

Included = Literal["labels", "color", "overlay", "confidence", "picture"]
Kind = Literal["labels", "color", "overlay", "confidence", "json", "geojson"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Answer:
    """The body of a response."""

    body: bytes
    media_type: str
    ending: str


@dataclass(frozen=True)
class Labelled:
    """A picture and what the network says of it.

    Attributes:
        picture: RGB uint8 (H, W, 3).
        labels: uint8 (H, W).
        confidence: the label's probability, 255 for 1, uint8 (H, W); empty where nobody asked for it.
    """

    picture: Picture
    labels: Picture
    confidence: Picture
    classes: ClassSet


_PNGS: Mapping[Included, Callable[[Labelled], Picture]] = {
    "labels": lambda one: one.labels,
    "color": lambda one: colourise(one.labels, one.classes),
    "overlay": lambda one: overlay(one.picture, one.labels, one.classes),
    "confidence": lambda one: one.confidence,
    "picture": lambda one: one.picture,
}


@dataclass(eq=False)
class PictureJob:
    """One request's picture and what is asked about it."""

    upload: Upload
    kind: Kind
    include: tuple[Included, ...] = ()
    future: "Future[Answer]" = field(default_factory=Future)

    @property
    def confidence(self) -> bool:
        """Whether that is asked for, which takes the probabilities."""
        return "confidence" in (self.kind, *self.include)

    @property
    def key(self) -> tuple[tuple[int, int], bool]:
        """What goes through the network together."""
        return self.upload.size, self.confidence


class Label:
    """Answers jobs, all pictures of one size.

    Args:
        labeller: the network.
        watch: told the number of pictures and the seconds of each pass.
    """

    def __init__(self, labeller: Labeller, watch: Callable[[int, float], None]) -> None:
        self._labeller, self._watch = labeller, watch
        self._one_at_a_time = threading.Lock()

    def __call__(self, jobs: Sequence[PictureJob]) -> None:
        """Set their futures: an `Answer`, or a `Refusal`."""
        read: list[tuple[PictureJob, Picture]] = []
        for job in jobs:
            try:
                read.append((job, decode_image(job.upload.data, job.upload.name)))
            except UserError as error:
                job.future.set_exception(Refusal.of(422, error))
        self._label(read)

    def _label(self, read: list[tuple[PictureJob, Picture]]) -> None:
        if not read:
            return
        try:
            found = self._network([picture for _, picture in read], confidence=read[0][0].confidence)
        except UserError as error:
            if len(read) > 1:  # whose fault it is shows alone
                for one in read:
                    self._label([one])
                return
            read[0][0].future.set_exception(Refusal.of(422, error))
            return
        for (job, picture), (labels, confidence) in zip(read, found):
            job.future.set_result(_answer(job, Labelled(picture, labels, confidence, self._labeller.classes)))

    def _network(self, pictures: list[Picture], *, confidence: bool) -> list[tuple[Picture, Picture]]:
        nothing = np.zeros((0, 0), np.uint8)
        with self._one_at_a_time:
            began = time.perf_counter()
            labels = each(self._labeller, pictures)
            sure = [nothing] * len(pictures)
            if confidence:
                # labels are those of the call above, whatever the probabilities' rounding makes of a tie
                probabilities = each(self._labeller, pictures, probabilities=True)
                sure = [np.rint(255 * one.max(0)).astype(np.uint8) for one in probabilities]
            self._watch(len(pictures), time.perf_counter() - began)
        return list(zip(labels, sure))


def _answer(job: PictureJob, one: Labelled) -> Answer:
    if job.kind == "geojson":
        polygons = feature_collection(one.labels, one.classes)
        text = json.dumps(polygons, ensure_ascii=False, separators=(",", ":"))
        return Answer(text.encode(), "application/geo+json", "geojson")
    if job.kind == "json":
        body = json.dumps(_areas(one) | {name: _base64(_PNGS[name](one)) for name in job.include})
        return Answer(body.encode(), "application/json", "json")
    return Answer(encode_png(_PNGS[job.kind](one)), "image/png", "png")


def _base64(picture: Picture) -> str:
    return base64.b64encode(encode_png(picture)).decode("ascii")


def _areas(one: Labelled) -> dict[str, Any]:
    height, width = one.labels.shape
    counts = np.bincount(one.labels.ravel(), minlength=IGNORE + 1).tolist()
    return {
        "height": height,
        "width": width,
        "classes": [
            {"id": label, **entry, "pixels": counts[label], "share": counts[label] / (height * width)}
            for label, entry in enumerate(one.classes.to_json())
        ],
    }
