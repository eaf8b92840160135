"""What masks show, by its shape: a field of view, smoothed edges, lines. Up to four are read, spread evenly.

Legend: H, W pixels of a mask.
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.data.layouts.mask_files import are_shades, lies_nowhere_flat, read_mask
from ducseg.errors import UserError

__all__ = ["are_edges", "are_lines", "are_regions", "are_views", "lie_nowhere_flat"]

_LOOKED_AT = 4
_VIEW = {"share": 0.3, "one": 0.99, "solid": 0.95}
"""A field of view: this share of the picture at least, so much of it one region, which fills so much of its hull."""

_LINE = 0.08
"""Mean distance to the border over the root of a region's area: 0.19 of a disc, 0.17 of a square, 0.08 of 1 to 10."""


def are_views(masks: Sequence[Path]) -> bool:
    """Whether each mask shows one solid region and nothing else, as a camera's field of view does."""
    return _all(masks, _is_view)


def are_edges(masks: Sequence[Path]) -> bool:
    """Whether what is neither a mask's smallest nor its largest value lies nowhere flat, as in smoothed edges."""
    return _all(masks, are_shades)


def lie_nowhere_flat(masks: Sequence[Path], codes: Collection[int]) -> bool:
    """Whether colours of other codes than these lie nowhere flat, as blends at smoothed edges do."""
    known = np.array(sorted(codes))
    return _all(masks, lambda shown: lies_nowhere_flat(shown, ~np.isin(shown, known)), as_colours=True)


def are_lines(masks: Sequence[Path], *, as_colours: bool = False) -> bool:
    """Whether the lower half of the values (or codes) is thinner than the upper one, and than its regions are large."""
    return _all(masks, _is_line, as_colours)


def are_regions(masks: Sequence[Path]) -> bool:
    """Whether each value of a mask but 0 is one region, as an object is."""
    return _all(masks, _is_regions)


def _all(masks: Sequence[Path], shows: Callable[[NDArray[Any]], bool], as_colours: bool = False) -> bool:
    step = max(1, len(masks) // _LOOKED_AT)
    try:
        looked_at = map(read_mask, masks[::step][:_LOOKED_AT])
        return bool(masks) and all(shows(mask.codes() if as_colours else mask.pixels) for mask in looked_at)
    except UserError:
        return False


def _upper(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    return (pixels > (int(pixels.min(initial=0)) + int(pixels.max(initial=0))) / 2).astype(np.uint8)


def _is_view(pixels: NDArray[Any]) -> bool:
    shown = _upper(pixels)
    _, _, regions, _ = cv2.connectedComponentsWithStats(shown)
    areas = np.sort(regions[1:, cv2.CC_STAT_AREA])
    if not areas.size or areas[-1] < max(_VIEW["share"] * shown.size, _VIEW["one"] * areas.sum()):
        return False
    hull = cv2.fillConvexPoly(np.zeros_like(shown), cv2.convexHull(cv2.findNonZero(shown)), 1)
    return bool(areas.sum() >= _VIEW["solid"] * hull.sum())


def _is_regions(pixels: NDArray[Any]) -> bool:
    found = ((pixels == value).astype(np.uint8) for value in np.unique(pixels) if value)
    return all(cv2.connectedComponents(one, connectivity=8)[0] == 2 for one in found)


def _is_line(pixels: NDArray[Any]) -> bool:
    upper = _upper(pixels - pixels.min())
    low, high = (cv2.distanceTransform(side, cv2.DIST_L2, 3) for side in (1 - upper, upper))
    _, regions, boxes, _ = cv2.connectedComponentsWithStats(1 - upper, connectivity=8)
    if not low.any() or not high.any():
        return False
    thick = low[low > 0].mean()
    side = np.sqrt(boxes[:, cv2.CC_STAT_AREA])[regions[low > 0]].mean()
    return bool(thick < min(high[high > 0].mean(), _LINE * side))
