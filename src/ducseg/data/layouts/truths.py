"""Of several folders or endings that could be the masks, the truth: not a field of view, not a second annotator's.

Public sets of vessels have all of these side by side: 1st_manual/, 2nd_manual/ and mask/, x_1stHO.png and x_2ndHO.png,
im0001.ah.ppm and im0001.vk.ppm.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ducseg.data.layouts.mask_shapes import are_views

__all__ = ["the_truth"]

_ORDER = re.compile(
    r"(?P<first>1st|first)|(?P<second>2nd|second|3rd|third)|(?<![a-z])(?:(?P<ah>ah)|(?P<vk>vk))(?![a-z])"
    r"|(?:manual|expert|observer|annotator|rater)[_ -]?(?:(?P<one>1)|(?P<two>[2-9]))(?!\d)"
)
"""Whose masks: in words, by a number after manual, expert, ..., or as STARE has it (ah is the one scored against)."""


def the_truth(masks: Mapping[str, Sequence[Path]], left_out: list[str]) -> list[str]:
    """The names of those that can be meant.

    Args:
        masks: name -> its files, of which a few are read where there are several names.
        left_out: gets of each other name what it is, for printing.
    """
    if len(masks) < 2:
        return list(masks)
    orders = {name: _order(name) for name in masks}
    first = {key: min(rank for other, rank in orders.values() if other == key) for key, _ in orders.values()}
    seconds = [name for name, (key, rank) in orders.items() if rank > first[key]]
    left = [name for name in masks if name not in seconds]
    views = [name for name in left if are_views(masks[name])] if left[1:] else []
    if len(views) == len(left):
        views = []
    said = [*(f"{name} (another annotator)" for name in seconds), *(f"{name} (the field of view)" for name in views)]
    left_out += [one for one in said if one not in left_out]
    return [name for name in left if name not in views]


def _order(name: str) -> tuple[str, int]:
    """The name without its order, and the order: 0 for the first annotator's, 1 for another's."""
    found = _ORDER.search(name.lower())
    if found is None:
        return name.lower(), 0
    assert found.lastgroup is not None
    start, end = found.span(found.lastgroup)
    return f"{name[:start]}#{name[end:]}".lower(), int(found.lastgroup in {"second", "vk", "two"})
