"""One picture under many CRF settings: the lattices and the unary term are built once for all that share them."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt

from ducseg.crf import checks
from ducseg.crf.dense_crf import UNARY_FLOOR
from ducseg.crf.lattice import build_lattice
from ducseg.crf.mean_field import iterate
from ducseg.crf.params import CrfParams
from ducseg.crf.rows import RowShape, load_rows, store_rows
from ducseg.crf.workers import Workers

__all__ = ["marginals_under_each"]


def marginals_under_each(
    probabilities: npt.NDArray[np.floating],
    image: npt.NDArray[np.uint8],
    settings: Sequence[CrfParams],
    iterations: Sequence[int],
    *,
    threads: int | None = None,
) -> Iterator[tuple[CrfParams, int, npt.NDArray[np.float32]]]:
    """What `dense_crf` gives for every setting after every one of some numbers of iterations, at less cost.

    Args:
        probabilities: (L, H, W), any floating type, summing to 1 over the classes within 1e-2.
        image: RGB uint8 (H, W, 3).
        settings: in any order; they come back ordered by their widths.
        iterations: ascending whole numbers, not below 0.
        threads: cores to use; None: all.

    Yields:
        (setting, iterations, marginals (L, H, W) float32).

    Raises:
        UserError: as `dense_crf`.
    """
    assert list(iterations) == sorted(set(iterations)), iterations
    checks.check_shapes(probabilities.shape, probabilities.dtype.name, image.shape, image.dtype.name)
    classes, height, width = probabilities.shape
    shape, values = RowShape(classes), np.require(probabilities, np.float32, ["C"])
    image = np.require(image, np.uint8, ["C", "W"])
    with Workers(threads) as workers:
        scores, begin, extremes = load_rows(values, floor=UNARY_FLOOR, workers=workers)
        checks.check_range(*extremes)
        for (alpha, beta), alike in groupby(sorted(settings, key=_widths), key=lambda one: _widths(one)[:2]):
            bilateral = build_lattice(image, (alpha,) * 2 + (beta,) * 3, workers)
            for gamma, same in groupby(alike, key=lambda one: one.sigma_gamma):
                gaussian = build_lattice(image, (gamma,) * 2, workers)
                for params in same:
                    q, done, weights = begin.copy(), 0, (params.w1, params.w2)
                    for wanted in iterations:
                        potts = np.zeros(0, np.float32)
                        iterate(scores, q, shape, (bilateral, gaussian), weights, potts, wanted - done, workers)
                        done = wanted
                        yield params, wanted, store_rows(q, classes, height, width, workers)


def _widths(params: CrfParams) -> tuple[float, float, float]:
    return params.sigma_alpha, params.sigma_beta, params.sigma_gamma
