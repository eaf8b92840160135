"""A labeller whose probabilities a dense CRF refines (paper section 4.1), so that every command can use one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import ClassSet
from ducseg.crf import CrfParams, dense_crf
from ducseg.crf.params import DEFAULT_ITERATIONS, PUBLISHED, load_params
from ducseg.data.files.arrays import read_array
from ducseg.data.files.channels import Pixels
from ducseg.errors import explain
from ducseg.figures.label_maps import as_rgb
from ducseg.inference.labeller import Labeller, pixels_of
from ducseg.inference.taken import as_picture

__all__ = ["CrfLabeller", "crf_settings", "saved_probabilities"]


class CrfLabeller:
    """Labels pictures with the marginals of a dense CRF over a predictor's probabilities.

    Args:
        predictor: whose probabilities are the unary term; scales and flip are averaged before.
        params: the CRF's widths and weights; default: the paper's.
        iterations: of mean field.
    """

    def __init__(
        self,
        predictor: Labeller,
        params: CrfParams = CrfParams(),  # noqa: B008 (frozen)
        iterations: int = DEFAULT_ITERATIONS,
    ) -> None:
        self.predictor, self.params, self.iterations = predictor, params, iterations

    @property
    def pixels(self) -> Pixels:
        """What the pictures hold; the CRF sees those that are not RGB of 8 bits as `as_rgb` shows them."""
        return pixels_of(self.predictor)

    @property
    def classes(self) -> ClassSet:
        """What the labels index: names and colours of the L classes."""
        return self.predictor.classes

    @property
    def record(self) -> Mapping[str, Any]:
        """What training noted beside the network."""
        return self.predictor.record

    def probabilities(self, image: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """Marginals float32 (L, H, W) of RGB uint8 (H, W, 3); raises UserError as `Predictor` and `dense_crf`."""
        picture = as_picture(image, self.pixels)
        return dense_crf(self.predictor.probabilities(picture), as_rgb(picture), self.params, self.iterations)

    def __call__(self, image: NDArray[np.uint8], /) -> NDArray[np.uint8]:
        """Labels uint8 (H, W) of RGB uint8 (H, W, 3)."""
        return self.labels_and_probabilities_of([image])[0][0]

    def labels_and_probabilities_of(
        self, images: Sequence[NDArray[np.uint8]]
    ) -> list[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
        """Of each picture both, the CRF run once."""
        found = [self.probabilities(image) for image in images]
        return [(one.argmax(0).astype(np.uint8), one) for one in found]


def crf_settings(files: tuple[Path, ...]) -> tuple[CrfParams, int]:
    """What `--crf [FILE]` means: the paper's parameters, those of a JSON file of `crf-tune`, or those of `PUBLISHED`.

    Raises:
        UserError: several files, or one that holds no settings.
    """
    if len(files) > 1:
        raise explain("--crf", found=f"{len(files)} files", needed="one or none", fix="Put other inputs before --crf.")
    if files and str(files[0]) in PUBLISHED and not files[0].exists():
        return PUBLISHED[str(files[0])], DEFAULT_ITERATIONS
    return load_params(files[0]) if files else (CrfParams(), DEFAULT_ITERATIONS)


def saved_probabilities(folder: Path, name: Path) -> NDArray[np.floating]:
    """Probabilities (L, H, W) of the picture `name`: FOLDER/NAME_probabilities.npy, or FOLDER/NAME.npy.

    Raises:
        UserError: neither is there, or it is no array.
    """
    tried = [folder / name.with_name(f"{name.name}{ending}.npy") for ending in ("_probabilities", "")]
    for path in tried:
        if path.is_file():
            return read_array(path)
    raise explain(
        f"probabilities of {name}",
        found=f"neither {tried[0]} nor {tried[1].name}",
        needed="an array (classes, height, width) for each picture",
        fix="`ducseg predict ... --kinds probabilities` writes them.",
    )
