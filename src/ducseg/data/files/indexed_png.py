"""PNGs of class indices that look like colours: one byte a pixel, and VOC's palette.

PASCAL VOC's ground truth and results are such files; a reader of indices gets the class, a viewer shows its colour.
"""

import io
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ducseg.classes import VOC_PALETTE, Colour
from ducseg.files import write_whole

__all__ = ["encode_indexed_png", "write_indexed_png"]


def encode_indexed_png(labels: NDArray[np.uint8], palette: tuple[Colour, ...] = VOC_PALETTE) -> bytes:
    """Labels uint8 (H, W) as a palette PNG of 8 bits, with VOC's colours or others."""
    assert labels.dtype == np.uint8, labels.dtype
    assert labels.ndim == 2, labels.shape
    picture = Image.fromarray(labels)
    picture.putpalette(_palette_bytes(palette))
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    return buffer.getvalue()


@lru_cache(maxsize=2)
def _palette_bytes(palette: tuple[Colour, ...]) -> bytes:
    return bytes(value for colour in palette for value in colour)


def write_indexed_png(path: Path, labels: NDArray[np.uint8]) -> None:
    """Write labels uint8 (H, W) as a palette PNG with VOC's colours; the file is whole or not there.

    Raises:
        UserError: the folder is not writable or the disk is full.
    """
    write_whole(path, encode_indexed_png(labels))
