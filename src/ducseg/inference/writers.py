"""The files of one picture's prediction: label indices, colours, an overlay, probabilities."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import ClassSet
from ducseg.figures.label_maps import colourise, overlay, write_array, write_png

__all__ = ["KINDS", "Kind", "Picture", "result_name", "write_results"]

Kind = Literal["labels", "color", "overlay", "probabilities"]
Picture = NDArray[np.uint8]

_DRAWN: dict[Kind, Callable[[Picture, Picture, ClassSet], Picture]] = {
    "labels": lambda _image, labels, _classes: labels,
    "color": lambda _image, labels, classes: colourise(labels, classes),
    "overlay": overlay,
}
KINDS: tuple[Kind, ...] = (*_DRAWN, "probabilities")


def result_name(name: Path, kind: Kind) -> Path:
    """NAME_labels.png, ..., NAME_probabilities.npy."""
    return name.with_name(f"{name.name}_{kind}.{'npy' if kind == 'probabilities' else 'png'}")


def write_results(results: Mapping[Kind, Path], image: Picture, found: NDArray[Any], classes: ClassSet) -> None:
    """Write one picture's files, each whole or not at all.

    Args:
        results: where each kind goes.
        image: RGB uint8 (H, W, 3).
        found: labels (H, W), or probabilities (L, H, W), which are written as float16.
        classes: with their colours.

    Raises:
        UserError: a folder or disk that refuses them.
    """
    labels = found if found.ndim == 2 else found.argmax(0).astype(np.uint8)
    for kind, path in results.items():
        if kind == "probabilities":
            write_array(path, found.astype(np.float16))
        else:
            write_png(path, _DRAWN[kind](image, labels, classes))
