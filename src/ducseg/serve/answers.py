"""What is answered about a picture: PNGs, JSON with the classes' areas, polygons; and the jobs that make it.

A picture is decoded in the thread that labels it, so that no more than two batches are in memory, however many wait.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import numpy as np

from ducseg.classes import IGNORE, ClassSet
from ducseg.data.files.png import encode_png
from ducseg.data.files.rasters import decode_finite
from ducseg.errors import UserError
from ducseg.figures.label_maps import as_rgb, colourise, overlay
from ducseg.inference.polygons import feature_collection
from ducseg.serve.limits import Refusal
from ducseg.serve.network import Network, Picture
from ducseg.serve.upload import Upload

__all__ = ["KINDS", "Answer", "Included", "Kind", "Label", "PictureJob"]

Included = Literal["labels", "color", "overlay", "confidence", "picture"]
Kind = Literal["labels", "color", "overlay", "confidence", "json", "geojson"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_SMALL = 1 << 20
"""Pixels of a picture that still gains by company; a batch of larger ones would only take memory."""


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
        picture: as the network takes it, RGB uint8 (H, W, 3) or others (H, W, C).
        labels: uint8 (H, W).
        confidence: the label's probability, 255 for 1, uint8 (H, W); None where nobody asked for it.
    """

    picture: Picture
    labels: Picture
    confidence: Picture | None
    classes: ClassSet


_PNGS: Mapping[Included, Callable[[Labelled], Picture]] = {
    "labels": lambda one: one.labels,
    "color": lambda one: colourise(one.labels, one.classes),
    "overlay": lambda one: overlay(one.picture, one.labels, one.classes),
    "confidence": lambda one: cast(Picture, one.confidence),
    "picture": lambda one: as_rgb(one.picture),
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
    def key(self) -> object:
        """What goes through the network together: small pictures of one size, a larger one alone."""
        height, width = self.upload.size
        return (height, width, self.confidence) if height * width <= _SMALL else id(self)


class Label:
    """Answers jobs, all pictures of one size.

    Args:
        network: labels them.
    """

    def __init__(self, network: Network) -> None:
        self._network = network

    def __call__(self, jobs: Sequence[PictureJob]) -> None:
        """Set their futures: an `Answer`, or a `Refusal`."""
        read: list[tuple[PictureJob, Picture]] = []
        for job in jobs:
            try:
                read.append((job, decode_finite(job.upload.data, job.upload.name, self._network.pixels)))
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
            job.future.set_result(_answer(job, Labelled(picture, labels, confidence, self._network.classes)))


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
