"""Of several folders or endings that could be the masks, the truth: not a field of view, not a second annotator's.

Public sets of vessels have all of these side by side: 1st_manual/, 2nd_manual/ and mask/, x_1stHO.png and x_2ndHO.png,
im0001.ah.ppm and im0001.vk.ppm.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from ducseg.data.layouts.mask_files import read_mask
from ducseg.errors import UserError

__all__ = ["are_views", "the_truth"]

_ORDER = re.compile(
    r"(?P<first>1st|first)|(?P<second>2nd|second|3rd|third)|(?<![a-z])(?:(?P<ah>ah)|(?P<vk>vk))(?![a-z])"
    r"|(?:manual|expert|observer|annotator|rater)[_ -]?(?:(?P<one>1)|(?P<two>[2-9]))(?!\d)"
)
"""Whose masks: in words, by a number after manual, expert, ..., or as STARE has it (ah is the one scored against)."""
_LOOKED_AT = 4
_VIEW = {"share": 0.3, "one": 0.99, "solid": 0.95}
"""A field of view: this share of the picture at least, so much of it one region, which fills so much of its hull."""


def the_truth(masks: Mapping[str, Sequence[Path]]) -> tuple[list[str], list[str]]:
    """The names of those that can be meant, and of each other what it is, for printing.

    Args:
        masks: name -> its files, of which a few are read where there are several names.
    """
    if len(masks) < 2:
        return list(masks), []
    orders = {name: _order(name) for name in masks}
    first = {key: min(rank for other, rank in orders.values() if other == key) for key, _ in orders.values()}
    seconds = [name for name, (key, rank) in orders.items() if rank > first[key]]
    left = [name for name in masks if name not in seconds]
    views = [name for name in left if are_views(masks[name])] if left[1:] else []
    if len(views) == len(left):
        views = []
    said = [*(f"{name} (another annotator)" for name in seconds), *(f"{name} (the field of view)" for name in views)]
    return [name for name in left if name not in views], said


def _order(name: str) -> tuple[str, int]:
    """The name without its order, and the order: 0 for the first annotator's, 1 for another's."""
    found = _ORDER.search(name.lower())
    if found is None:
        return name.lower(), 0
    assert found.lastgroup is not None
    start, end = found.span(found.lastgroup)
    return f"{name[:start]}#{name[end:]}".lower(), int(found.lastgroup in {"second", "vk", "two"})


def are_views(masks: Sequence[Path]) -> bool:
    """Whether each of a few masks shows one solid region and nothing else, as a camera's field of view does."""
    step = max(1, len(masks) // _LOOKED_AT)
    return bool(masks) and all(_is_view(path) for path in masks[::step][:_LOOKED_AT])


def _is_view(path: Path) -> bool:
    try:
        pixels = read_mask(path).pixels
    except UserError:
        return False
    shown = (pixels > int(pixels.max(initial=0)) / 2).astype(np.uint8)
    _, _, regions, _ = cv2.connectedComponentsWithStats(shown)
    areas = np.sort(regions[1:, cv2.CC_STAT_AREA])
    if not areas.size or areas[-1] < max(_VIEW["share"] * shown.size, _VIEW["one"] * areas.sum()):
        return False
    points = cv2.findNonZero(shown)
    hull = cv2.fillConvexPoly(np.zeros_like(shown), cv2.convexHull(points), 1)
    return bool(areas.sum() >= _VIEW["solid"] * hull.sum())
