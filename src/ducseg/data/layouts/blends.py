"""Colours that were blended at smoothed edges: whether they are, and which of them a pixel belongs to.

Legend: H, W pixels of a mask; n of them are blends; a colour's code is red << 16 | green << 8 | blue.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.data.layouts.mask_files import MaskLook
from ducseg.data.layouts.mask_shapes import lie_nowhere_flat

__all__ = ["FEWEST_SHADES", "MOST_ALONE", "MOST_SHADES", "are_blended", "unblended"]

FEWEST_SHADES = 3  # of smoothed edges
MOST_SHADES = 0.4  # share of the pixels that they may have: thin lines that were resized are half edges
MOST_ALONE = 0.7  # share of their pixels that one shade may have: a class that is missing has more
_FEWEST_BETWEEN = 0.95  # share of their pixels that lie between two colours: at corners three meet

_BESIDE = np.ones((5, 5), np.uint8)
_OFF = 24.0
"""How far from the line between two colours their blends may lie, which were rounded, resized and sharpened."""


def are_blended(looks: Sequence[MaskLook], counts: Counter[int], codes: Collection[int]) -> bool:
    """Whether the other colours are blends of those of these codes, as at smoothed edges: several, none of them most of
    all, that lie between two colours and nowhere flat. Those of a class that is missing do not.

    Args:
        counts: code -> pixels, of all masks.
    """
    shades = {code: pixels for code, pixels in counts.items() if code not in codes}
    pixels = sum(shades.values())
    if len(shades) < FEWEST_SHADES or max(shades.values()) > MOST_ALONE * pixels:
        return False
    if pixels > MOST_SHADES * counts.total() or _share_between(shades, codes) < _FEWEST_BETWEEN:
        return False
    return lie_nowhere_flat([look.path for look in looks if look.codes(True) & shades.keys()], codes)


def unblended(
    codes: NDArray[np.integer], known: NDArray[np.bool_], meaning: Iterable[tuple[int, int]], label: NDArray[Any]
) -> NDArray[Any]:
    """The labels with those of all other pixels filled in.

    A pixel whose colour lies between two colours that are within 2 pixels of it is of the nearer one, of the later one
    in the middle; so a blend of red and green is not taken for an olive that is a class too. Any other pixel, as those
    of a line that is nowhere as wide as a pixel, is of the nearest colour of all.

    Args:
        codes: (H, W) of colours; known: (H, W) where these mean something; meaning: (code, train id), the pairs'
            order is that of the colours.
        label: (H, W) train ids where known.
    """
    blended = ~known
    pixels = _rgb(codes[blended])
    colours = [(code, train_id) for code, train_id in meaning if code < 1 << 24]
    train_ids, rgb = np.array([train_id for _, train_id in colours], np.int16), _rgb(np.array([c for c, _ in colours]))
    found = train_ids[_nearest(pixels, rgb)]
    here = [number for number, (code, _) in enumerate(colours) if (codes == code).any()]
    pure = {number: (codes == colours[number][0]).astype(np.uint8) for number in here}
    beside = {number: cv2.dilate(shown, _BESIDE)[blended] > 0 for number, shown in pure.items()}
    off = np.full(len(pixels), _OFF, np.float32)
    for first, second in combinations(here, 2):
        both = np.flatnonzero(beside[first] & beside[second])
        along, away = _between(pixels[both], rgb[first], rgb[second])
        better = away < off[both]
        off[both[better]] = away[better]
        found[both[better]] = np.where(along[better] < 0.5, train_ids[first], train_ids[second])
    label = label.copy()
    label[blended] = found
    return label


def _share_between(shades: Mapping[int, int], ends: Collection[int]) -> float:
    """Share of the pixels (code -> pixels) whose colour lies between two of the `ends`."""
    pixels, rgb = _rgb(np.array([*shades], int)), _rgb(np.array([code for code in ends if code < 1 << 24], int))
    is_between = np.zeros(len(pixels), bool)
    for first, second in combinations(rgb, 2):
        is_between |= _between(pixels, first, second)[1] < _OFF
    return float(np.array([*shades.values()])[is_between].sum() / sum(shades.values()))


def _rgb(codes: NDArray[np.integer]) -> NDArray[np.float32]:
    """(n, 3)."""
    return np.stack([codes >> 16, (codes >> 8) & 255, codes & 255], -1).astype(np.float32)


def _nearest(pixels: NDArray[np.float32], colours: NDArray[np.float32]) -> NDArray[np.intp]:
    """(n,) which of the colours (k, 3) is nearest to each pixel (n, 3)."""
    best, found = np.full(len(pixels), np.inf, np.float32), np.zeros(len(pixels), np.intp)
    for number, colour in enumerate(colours):
        distance = ((pixels - colour) ** 2).sum(1)
        nearer = distance <= best
        best[nearer], found[nearer] = distance[nearer], number
    return found


def _between(
    pixels: NDArray[np.float32], first: NDArray[np.float32], second: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(n,) how far from the first colour to the second each pixel is, 0 to 1, and how far from that line it lies."""
    way = second - first
    along: NDArray[np.float32] = np.clip((pixels - first) @ (way / (way @ way)), 0, 1)
    away: NDArray[np.float32] = np.sqrt(((pixels - first - along[:, None] * way) ** 2).sum(1))
    return along, away
