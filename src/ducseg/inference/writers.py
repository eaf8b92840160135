"""The files of one picture's prediction: label indices, colours, an overlay, confidence, polygons, probabilities."""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE, ClassSet
from ducseg.data.files.raster_writing import write_raster
from ducseg.data.files.rasters import Raster
from ducseg.errors import real, whole
from ducseg.figures.label_maps import colourise, overlay, write_array, write_png

__all__ = [
    "EXACT", "KINDS", "USUAL_KINDS", "Kind", "Outlines", "Picture", "as_confidence", "needs_probabilities",
    "overlay_factor", "result_name", "write_raster_results", "write_results",
]  # fmt: skip

Kind = Literal["labels", "color", "overlay", "confidence", "polygons", "probabilities"]
Picture = NDArray[np.uint8]

KINDS: tuple[Kind, ...] = get_args(Kind)
USUAL_KINDS: tuple[Kind, ...] = ("labels", "color", "overlay")
"""What is written where nothing is chosen."""
_SUFFIXES = {"probabilities": "npy", "polygons": "geojson"}
_MOST_OF_AN_OVERLAY = 4096


@dataclass(frozen=True)
class Outlines:
    """What polygons are made of regions, see `polygon_features`; both in pixels.

    Raises:
        UserError: a number below 0.
    """

    tolerance: float = 0.0
    least_pixels: int = 0

    def __post_init__(self) -> None:
        real("tolerance of polygons", self.tolerance, fix="0 is exact.")
        whole("least area of polygons", self.least_pixels, fix="0 keeps all.")


EXACT = Outlines()
"""Every region, along pixel edges."""


def result_name(name: Path, kind: Kind, *, raster: bool | None = False) -> Path:
    """NAME_labels.png, ..., NAME_polygons.geojson, NAME_probabilities.npy; of a raster NAME_labels.tif, ..., but
    NAME_overlay.png.
    """
    suffix = _SUFFIXES.get(kind, "tif" if raster and kind != "overlay" else "png")
    return name.with_name(f"{name.name}_{kind}.{suffix}")


def needs_probabilities(kinds: Collection[str]) -> bool:
    """Whether labels alone do not do for these kinds."""
    return "probabilities" in kinds or "confidence" in kinds


def as_confidence(probabilities: NDArray[np.floating]) -> NDArray[np.uint8]:
    """The probability of the most probable class (L, H, W) as uint8 (H, W): 255 is 1."""
    return np.asarray(np.rint(255 * probabilities.max(0)), np.uint8)


def write_results(
    results: Mapping[Kind, Path],
    image: Picture,
    found: NDArray[Any],
    classes: ClassSet,
    *,
    confidence: Picture | None = None,
    outlines: Outlines = EXACT,
) -> None:
    """Write one picture's files, each whole or not at all.

    Args:
        results: where each kind goes.
        image: RGB uint8 (H, W, 3).
        found: labels (H, W), or probabilities (L, H, W), which are written as float16.
        classes: with their colours.
        confidence: uint8 (H, W), where labels are found; of probabilities it is their own.

    Raises:
        UserError: a folder or disk that refuses them.
    """
    labels = found if found.ndim == 2 else found.argmax(0).astype(np.uint8)
    for kind, path in results.items():
        if kind == "probabilities":
            write_array(path, found.astype(np.float16))
        elif kind == "polygons":
            _write_geojson(path, labels, classes, **asdict(outlines))
        elif kind == "confidence":
            write_png(path, as_confidence(found) if confidence is None else confidence)
        elif kind == "color":
            write_png(path, colourise(labels, classes))
        else:
            write_png(path, overlay(image, labels, classes) if kind == "overlay" else labels)


def overlay_factor(size: tuple[int, int]) -> int:
    """How many times smaller than a raster (H, W) its overlay is, so that no side has more than 4096 pixels."""
    return -(-max(size) // _MOST_OF_AN_OVERLAY)


def write_raster_results(
    results: Mapping[Kind, Path], raster: Raster, labels: Picture, confidence: Picture | None, classes: ClassSet,
    *, outlines: Outlines = EXACT,
) -> None:  # fmt: skip
    """Write a raster's files where the raster lies, by rows, each whole or not at all; not the probabilities.

    Labels: 255 is nodata, the classes' colours are the palette, their names the tag CLASSES. Colours: RGB. Confidence:
    0 to 255. Polygons: in the raster's coordinates. The overlay: a PNG, `overlay_factor` times smaller.

    Args:
        labels, confidence: uint8 (H, W), may be memory maps.

    Raises:
        UserError: as `write_results`; the raster is damaged.
    """
    size, place = raster.size, raster.place
    for kind, path in results.items():
        if kind == "labels":
            palette = dict(enumerate(classes.palette))
            tags = {"CLASSES": json.dumps(classes.names, ensure_ascii=False)}
            write_raster(path, size, place, partial(_rows, labels), nodata=IGNORE, palette=palette, tags=tags)
        elif kind == "color":
            write_raster(path, size, place, lambda begin, end: colourise(labels[begin:end], classes), bands=3)
        elif kind == "confidence":
            assert confidence is not None
            write_raster(path, size, place, partial(_rows, confidence))
        elif kind == "polygons":
            transform = tuple(place.transform)[:6] if place.is_known else None
            _write_geojson(path, labels, classes, transform=transform, crs=place.name, **asdict(outlines))
        elif kind == "overlay":
            factor = overlay_factor(size)
            rows, columns = (
                np.minimum(np.arange(-(-side // factor)) * factor + factor // 2, side - 1) for side in size
            )
            write_png(path, overlay(raster.reduced(factor), labels[np.ix_(rows, columns)], classes))


def _write_geojson(path: Path, labels: Picture, classes: ClassSet, **how: Any) -> None:
    from ducseg.inference.polygons import write_geojson  # numba, which other kinds need not wait for

    write_geojson(path, labels, classes, **how)


def _rows(array: Picture, begin: int, end: int) -> Picture:
    return array[begin:end]
