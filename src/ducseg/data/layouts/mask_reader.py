"""A rule for masks, and what reads a mask file by it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE, ClassSet
from ducseg.data.layouts.blends import unblended
from ducseg.data.layouts.mask_files import BEYOND, colour_of, read_mask
from ducseg.errors import UserError, explain

__all__ = ["MaskReader", "MaskRule", "Meaning", "Others", "StrayValues", "line_of", "most_often", "shown"]

_MOST_NAMED = 5

Meaning = Mapping[int, int]
"""Value or code -> train id, 255 for ignored."""
Others = Literal["refused", "ignored", "nearest"]


class StrayValues(UserError):
    """A mask holds what no class has."""


@dataclass(frozen=True)
class MaskReader:
    """Mask file -> train ids (H, W) uint8; `as_colours`: `meaning` is of codes, not of values and indices.

    `others`: what comes of pixels that mean nothing: an error, 255, or of colours the class that they are blended from,
    see `unblended`.
    """

    meaning: tuple[tuple[int, int], ...]
    as_colours: bool
    named: str
    others: Others = "refused"

    def __call__(self, path: Path) -> NDArray[np.uint8]:
        """Raises UserError: a mask that does not read; StrayValues: pixels that mean nothing (which, how many)."""
        mask = read_mask(path)
        pixels = mask.codes() if self.as_colours else mask.pixels
        if mask.kind == "colours" and not self.as_colours:
            raise StrayValues(
                str(explain(f"mask {path}", found="RGB pixels", needed=self.named, fix="Export it as the others are."))
            )
        table = _table(self.meaning, self.as_colours)
        label = np.asarray(cv2.LUT(pixels, table[:256])) if pixels.dtype == np.uint8 else table[pixels]
        if self.others == "nearest":
            label = unblended(pixels, label != _UNKNOWN, self.meaning, label)
        elif self.others == "ignored":
            label = np.minimum(label, IGNORE)
        if label.max(initial=0) > IGNORE:
            raise StrayValues(str(_stray(path, pixels[label > IGNORE], as_colours=self.as_colours, named=self.named)))
        return label.astype(np.uint8)


_UNKNOWN = 256


@lru_cache(maxsize=2)
def _table(meaning: tuple[tuple[int, int], ...], as_colours: bool) -> NDArray[np.int16]:
    """Train id of each 16-bit value or 24-bit colour (32 MiB), 256 of what has none: one look-up a pixel."""
    table = np.full(BEYOND + 1 if as_colours else 1 << 16, _UNKNOWN, dtype=np.int16)
    for value, train_id in meaning:
        table[value] = train_id
    return table


def _stray(path: Path, pixels: NDArray[np.integer], *, as_colours: bool, named: str) -> UserError:
    values, numbers = np.unique(pixels, return_counts=True)
    order = np.argsort(-numbers, kind="stable")[:_MOST_NAMED]
    prefix = "" if as_colours else "value "
    what = [f"{prefix}{shown(int(values[i]), as_colours)} in {numbers[i]} pixels" for i in order]
    kind = "colours" if as_colours else "values"
    more = f" and {len(values) - len(order)} more {kind}" if len(values) > len(order) else ""
    if as_colours:
        fix = "Add it to classes.json, or ignore it: --data.ignore-colours R G B (smoothed edges: --data.smoothed)."
    else:
        fix = "Correct the file, or say what its values mean: --data.values, --data.ignore-value."
    return explain(f"mask {path}", found=f"{', '.join(what)}{more}", needed=named, fix=fix)


@dataclass(frozen=True, kw_only=True)
class MaskRule:
    """How masks are read.

    Attributes:
        classes: as given, or made from what was found.
        meaning: value, index or colour code -> train id, 255 ignored.
        as_colours: whether it is of colours.
        line: the rule in words, for printing.
        problem: why nothing can be trained on these masks; None: nothing speaks against it.
        others: what comes of values and colours without a meaning, as of `MaskReader`.
    """

    classes: ClassSet
    meaning: Meaning
    as_colours: bool = False
    line: str = ""
    problem: str | None = None
    others: Others = "refused"

    @cached_property
    def reader(self) -> MaskReader:
        """What reads a file by this rule."""
        if self.as_colours:
            named = f"the colours of the {len(self.classes)} classes"
        elif set(self.meaning) - set(range(len(self.classes))) == {IGNORE}:
            named = f"0..{len(self.classes) - 1}, or {IGNORE} for ignored pixels"
        else:
            named = f"the values {_spans(self.meaning)}"
        return MaskReader(tuple(sorted(self.meaning.items())), self.as_colours, named, self.others)


def shown(value: int, as_colours: bool) -> str:
    return str(value) if not as_colours else "grey of 16 bits" if value == BEYOND else str(colour_of(value))


def most_often(counts: Counter[int], as_colours: bool, most: int) -> str:
    """0 in 98.2 %, 255 in 0.9 %, ..."""
    shares = ((shown(value, as_colours), 100 * pixels / counts.total()) for value, pixels in counts.most_common(most))
    return ", ".join(f"{value} in {share:.1f} %" for value, share in shares if share >= 0.05) + ", ..."


def line_of(rule: MaskRule, counts: Mapping[int, int]) -> str:
    """values 0, 255 -> background, crack; 128 ignored."""
    kind = "colours" if rule.as_colours else "values"
    meant = [[v for v, train_id in rule.meaning.items() if train_id == own] for own in range(len(rule.classes))]
    if any(len(values) > 1 for values in meant):
        parts = [f"{_spans(values)} -> {name}" for values, name in zip(meant, rule.classes.names) if values]
        said = f"{kind} {', '.join(parts)}"
    else:
        pairs = [(v[0], name) for v, name in zip(meant, rule.classes.names) if v and v[0] in counts]
        values = ", ".join(shown(value, rule.as_colours) for value, _ in pairs)
        said = f"{kind} {values or 'none'} -> {', '.join(name for _, name in pairs) or 'none'}"
    ignored = [value for value in sorted(counts) if rule.meaning.get(value) == IGNORE]
    return said + (f"; {', '.join(shown(value, rule.as_colours) for value in ignored)} ignored" if ignored else "")


def _spans(values: Iterable[int]) -> str:
    """0-127, 255."""
    spans: list[list[int]] = []
    for value in sorted(values):
        if spans and value == spans[-1][1] + 1:
            spans[-1][1] = value
        else:
            spans.append([value, value])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
