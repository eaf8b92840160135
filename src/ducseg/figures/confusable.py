"""Which colours the colour-blind, or a grey printer, take for one another, and hatches that tell those apart.

A data set's own colours stay, since readers know them; of two that are confusable the later one is hatched.
Simulation: Vienot, Brettel and Mollon 1999 (protanopia, deuteranopia), distances in CIE L*a*b*.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import Colour

__all__ = ["HATCHES", "confusable", "hatches"]

HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "oooo")
"""matplotlib's names."""

_NEAREST = 28.0  # Delta E: what side by side is told apart at a glance is beyond

# of linear RGB, from Vienot et al., columns R G B
_SEEN = {
    "protanopia": ((0.11238, 0.88762, 0.0), (0.11238, 0.88762, 0.0), (0.00401, -0.00401, 1.0)),
    "deuteranopia": ((0.29275, 0.70725, 0.0), (0.29275, 0.70725, 0.0), (-0.02234, 0.02234, 1.0)),
}
_XYZ = np.array(((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505)))
_WHITE = _XYZ.sum(1)


def confusable(one: Colour, other: Colour) -> bool:
    """Whether two colours look alike with normal sight, with protanopia or with deuteranopia."""
    return any(
        float(np.linalg.norm(_lab(one, sight) - _lab(other, sight))) < _NEAREST for sight in (None, *_SEEN)
    )  # fmt: skip


def hatches(colours: Sequence[Colour]) -> list[str]:
    """A hatch for each colour, "" for most: no two that are confusable have the same, while there are enough."""
    found: list[str] = []
    for index, colour in enumerate(colours):
        taken = [found[before] for before in range(index) if confusable(colours[before], colour)]
        found.append(next((hatch for hatch in HATCHES if hatch not in taken), HATCHES[-1]))
    return found


def _lab(colour: Colour, sight: str | None) -> NDArray[np.float64]:
    values = np.array(colour, np.float64) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    if sight is not None:
        linear = np.clip(np.array(_SEEN[sight]) @ linear, 0, 1)
    scaled = _XYZ @ linear / _WHITE
    roots = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.array((116 * roots[1] - 16, 500 * (roots[0] - roots[1]), 200 * (roots[1] - roots[2])))
