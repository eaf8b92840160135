"""Look at one picture and its label, and say everything that is wrong with them."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.data.files.channels import RGB, Pixels, stored_pixels
from ducseg.data.files.header import open_pillow
from ducseg.data.files.overlapping import quiet, unbounded
from ducseg.data.files.rasters import check_same_place, read_finite
from ducseg.data.files.reading import check_label, check_same_size, colours_in_use, may_hide_a_turn, read_turned
from ducseg.data.layouts.layout import LabelRules
from ducseg.data.layouts.mask_reader import StrayValues
from ducseg.errors import UserError, explain

__all__ = ["Examined", "Examiner", "Kind", "Pair", "Problem"]

Kind = Literal[
    "missing partner",
    "unreadable",
    "wrong mode",
    "sizes differ",
    "places differ",
    "stray values",
    "train ids",
    "unusual mode",
    "grey",
]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The files of one id, None where one is missing."""

    split: str
    id: str
    image: Path | None
    label: Path | None
    labelled: bool = True
    """False: the split has no labels."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong with a file; the message says what was found, what is needed and how to go on.

    A picture of one channel of 8 bits is "grey", which is said once for all of them.
    """

    kind: Kind
    file: Path
    message: str


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What the files of a pair hold.

    Attributes:
        size: (H, W) of the image; None where it does not read.
        content: hash of the image's pixels; None where it does not read.
        counts: (256,) pixels of each label value; None where there is no label that reads.
    """

    pair: Pair
    problems: list[Problem] = field(default_factory=list)
    size: tuple[int, int] | None = None
    content: bytes | None = None
    counts: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Examiner:
    """Called with a `Pair`, reads its files whole, once each; can be sent to another process."""

    rules: LabelRules
    pixels: Pixels = RGB

    def __call__(self, pair: Pair) -> Examined:
        """All that is wrong with a pair, whatever its files hold: one bad file must not end the check of the others."""
        try:
            return self._examined(pair)
        except Exception as error:
            file = pair.image or pair.label
            assert file is not None
            fix = "Take it (or its partner) out, or convert it."
            reason = f"{type(error).__name__}: {error}"
            message = explain(f"file {file}", found=reason, needed="files that can be checked", fix=fix)
            return Examined(pair=pair, problems=[Problem(kind="unreadable", file=file, message=str(message))])

    def _examined(self, pair: Pair) -> Examined:
        problems = list(_partners(pair))
        image = None if pair.image is None else self._image(pair.image, problems)
        label = None if pair.label is None else self._label(pair.label, problems, is_picture=pair.label == pair.image)
        counts = None if label is None else _histogram(label)
        if label is not None and counts is not None:
            problems.extend(self._check_values(pair, label, counts))
        if image is not None and label is not None:
            assert pair.image is not None
            assert pair.label is not None
            try:
                check_same_size(_size(image), label, pair.image, pair.label)
            except UserError as error:
                problems.append(Problem(kind="sizes differ", file=pair.label, message=str(error)))
            else:
                try:
                    check_same_place(pair.image, pair.label)
                except UserError as error:
                    problems.append(Problem(kind="places differ", file=pair.label, message=str(error)))
        return Examined(
            pair=pair,
            problems=problems,
            size=None if image is None else _size(image),
            content=None if image is None else hashlib.sha1(image.data, usedforsecurity=False).digest(),
            counts=counts,
        )

    def _image(self, path: Path, problems: list[Problem]) -> NDArray[Any] | None:
        if self.pixels == RGB:
            return _rgb_image(path, problems)
        try:
            return read_finite(path, self.pixels)
        except UserError as error:
            kind: Kind = "wrong mode" if _has_header(path) else "unreadable"
            problems.append(Problem(kind=kind, file=path, message=str(error)))
            return None

    def _label(self, path: Path, problems: list[Problem], *, is_picture: bool) -> NDArray[np.uint8] | None:
        try:
            label = self.rules.read(path)
        except UserError as error:
            kind: Kind = "stray values" if isinstance(error, StrayValues) else "wrong mode"
            problems.append(Problem(kind=_if_readable(path, kind), file=path, message=str(error)))
            return None
        if not is_picture:
            _check_label_mode(path, self.rules, problems)
        return label

    def _check_values(self, pair: Pair, label: NDArray[np.uint8], counts: NDArray[np.int64]) -> Iterator[Problem]:
        assert pair.label is not None
        if self.rules.mistaken is not None and (error := self.rules.mistaken(pair.label, counts)):
            yield Problem(kind="train ids", file=pair.label, message=str(error))
        try:
            check_label(label, self.rules.num_values or len(self.rules.classes), pair.id, path=pair.label)
        except UserError as error:
            yield Problem(kind="stray values", file=pair.label, message=str(error))


def _partners(pair: Pair) -> list[Problem]:
    if pair.image is None:
        assert pair.label is not None
        found, needed, file = "no image", f"the image of {pair.id}", pair.label
    elif pair.label is None and pair.labelled:
        found, needed, file = "no label", f"the label of {pair.id}", pair.image
    else:
        return []
    message = explain(f"file {file}", found=found, needed=needed, fix="Add the missing file or take this one out.")
    return [Problem(kind="missing partner", file=file, message=str(message))]


def _has_header(path: Path) -> bool:
    try:
        stored_pixels(path)
    except (UserError, OSError):
        return False
    return True


def _rgb_image(path: Path, problems: list[Problem]) -> NDArray[np.uint8] | None:
    try:
        image, orientation = read_turned(path)
    except UserError as error:
        problems.append(Problem(kind=_if_readable(path, "wrong mode"), file=path, message=str(error)))
        return None
    mode = _mode(path)
    if mode not in ("RGB", None):
        what = "alpha, which is dropped" if mode in {"RGBA", "LA", "PA", "RGBa"} else f"{mode} pixels, taken as RGB"
        message = explain(f"image {path}", found=what, needed="RGB", fix="Save it as RGB if that is not what you want.")
        problems.append(Problem(kind="grey" if mode == "L" else "unusual mode", file=path, message=str(message)))
    if may_hide_a_turn(orientation, image.shape[:2]):
        message = explain(
            f"image {path}",
            found=f"EXIF orientation {orientation}: it is read as a viewer shows it, turned or mirrored",
            needed="a mask drawn on it as it is shown",
            fix="If the mask was drawn on the pixels as stored, remove the tag: exiftool -Orientation= FILE.",
        )
        problems.append(Problem(kind="unusual mode", file=path, message=str(message)))
    return image


def _check_label_mode(path: Path, rules: LabelRules, problems: list[Problem]) -> None:
    if rules.are_colours:
        return
    mode = _mode(path) or "L"
    if mode.startswith("I"):
        message = explain(
            f"label {path}", found="16 bits a pixel", needed="8", fix="It reads, but 8 bits are half the work."
        )
        problems.append(Problem(kind="unusual mode", file=path, message=str(message)))
    if rules.palette is None:
        return
    _, used = colours_in_use(path)
    wrong = [index for index, colour in used.items() if rules.palette[index : index + 1] not in ((), (colour,))]
    if mode != "P" or wrong:
        found = f"mode {mode}" if mode != "P" else f"another palette (index {wrong[0]} is {used[wrong[0]]})"
        message = explain(
            f"label {path}",
            found=found,
            needed="a palette picture with the data set's colours",
            fix="The indices are read as they are; check that they are this data set's.",
        )
        problems.append(Problem(kind="unusual mode", file=path, message=str(message)))


def _mode(path: Path) -> str | None:
    """Pillow's mode of a file that was read; None where Pillow does not take one so large, or of this kind."""
    try:
        with quiet, unbounded, open_pillow(path) as picture:
            return picture.mode
    except OSError:
        return None


def _if_readable(path: Path, kind: Kind) -> Kind:
    """`kind` for a file that decodes as some picture, "unreadable" for others."""
    try:
        colours_in_use(path)
    except UserError:
        return "unreadable"
    return kind


def _size(image: NDArray[Any]) -> tuple[int, int]:
    height, width = image.shape[:2]
    return height, width


def _histogram(label: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pixels of each value, row by row block: OpenCV counts in a tenth of numpy's time, but in float32."""
    rows = max(1, (1 << 24) // max(1, label.shape[1]))
    blocks = [label[first : first + rows] for first in range(0, len(label), rows)]
    counts = [cv2.calcHist([block], [0], None, [256], [0, 256]).ravel() for block in blocks]
    return np.asarray(np.sum(counts, axis=0, dtype=np.int64))
