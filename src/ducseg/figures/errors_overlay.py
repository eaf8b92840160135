"""A picture in grey with what a prediction got right and wrong, in colours that the colour-blind tell apart."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE, Colour

__all__ = ["ALARM", "HIT", "MISS", "draw_errors", "wrong_colour"]

HIT: Colour = (86, 180, 233)  # Okabe and Ito's sky blue
MISS: Colour = (230, 140, 0)  # and orange, a little darker
ALARM: Colour = (255, 255, 255)
_OTHERS: tuple[Colour, ...] = ((0, 255, 255), (255, 0, 255), (240, 228, 66))  # where a class is orange
_NEAR = 40  # in CIE Lab
_BRIGHTEST = 0.55  # of the grey picture, so that white stands out


def wrong_colour(palette: Sequence[Colour]) -> Colour:
    """`MISS` where no class's colour is near it; else of cyan, magenta and yellow the one farthest from all."""
    shown = (MISS, *_OTHERS)
    lab = cv2.cvtColor(np.array([(*shown, *palette)], np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    distances = np.linalg.norm(lab[: len(shown), None] - lab[None, len(shown) :], axis=2).min(1)
    return MISS if distances[0] >= _NEAR else shown[int(distances.argmax())]


def draw_errors(
    image: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    object_class: int | None,
    *,
    wrong: Colour = MISS,
) -> NDArray[np.uint8]:
    """RGB (H, W, 3) of the size of `image`.

    Args:
        image: RGB (H, W, 3).
        truth, prediction: classes (H, W); where the truth is 255 nothing is drawn.
        object_class: its pixels are drawn in `HIT`, `MISS` and `ALARM`; None: all classes, wrong pixels in `wrong`.
    """
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    drawn = np.asarray(grey * _BRIGHTEST, np.uint8)
    counted = truth != IGNORE
    if object_class is None:
        drawn[counted & (truth != prediction)] = wrong
        return drawn
    true, found = counted & (truth == object_class), counted & (prediction == object_class)
    for where, colour in ((true & found, HIT), (true & ~found, MISS), (found & ~true, ALARM)):
        drawn[where] = colour
    return drawn
