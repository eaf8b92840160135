"""Colour masks: pictures that show each class in its colour, to train ids.

Legend: H, W pixels; colours RGB.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE, ClassSet, Colour
from ducseg.errors import explain

__all__ = ["decode_colours"]

_MOST_NAMED = 5
_UNKNOWN = 256


def decode_colours(
    colours: NDArray[np.uint8], classes: ClassSet, *, ignore_colours: tuple[Colour, ...] = (), path: Path
) -> NDArray[np.uint8]:
    """Colour mask (H, W, 3) RGB to train ids (H, W); `path` is named in the error about colours that no class has."""
    codes = _codes(colours)
    label = _train_id_of_code(classes.palette, ignore_colours)[codes]
    unknown = label == _UNKNOWN
    if unknown.any():
        found, counts = np.unique(codes[unknown], return_counts=True)
        order = np.argsort(-counts, kind="stable")[:_MOST_NAMED]
        named = ", ".join(f"{_colour(int(found[i]))} in {counts[i]} pixels" for i in order)
        more = f" and {len(found) - len(order)} more colours" if len(found) > len(order) else ""
        raise explain(
            f"mask {path}",
            found=f"{named}{more}",
            needed=f"the colours of the {len(classes)} classes",
            fix="Add the class to classes.json, or name the colour in ignore_colours (smoothed edges: export without).",
        )
    return label.astype(np.uint8)


def _codes(colours: NDArray[np.uint8]) -> NDArray[np.int32]:
    wide = colours.astype(np.int32)
    codes: NDArray[np.int32] = (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
    return codes


def _colour(code: int) -> Colour:
    return code >> 16, (code >> 8) & 255, code & 255


@lru_cache(maxsize=2)
def _train_id_of_code(palette: tuple[Colour, ...], ignore_colours: tuple[Colour, ...]) -> NDArray[np.int16]:
    """Train id of each 24-bit colour (32 MiB, made once a palette): one look-up a pixel, not one comparison a class."""
    table = np.full(1 << 24, _UNKNOWN, dtype=np.int16)
    for red, green, blue in ignore_colours:
        table[red << 16 | green << 8 | blue] = IGNORE
    for train_id, (red, green, blue) in enumerate(palette):
        table[red << 16 | green << 8 | blue] = train_id
    return table
