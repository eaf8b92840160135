"""The fully connected CRF of the paper's section 4.1, as a function, as a layer, and under many settings at once.

Mean field (Kraehenbuehl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials",
2011) with the answers of its public implementation and pydensecrf: Potts or a given label compatibility, Gaussian
and bilateral kernels on the permutohedral lattice, each normalised symmetrically, a pixel's message to itself
included.

On the CPU numba kernels run on all cores; on CUDA, and where gradients are wanted, torch operations do.
Example: probabilities (19, 512, 1024) and the image (512, 1024, 3) give marginals (19, 512, 1024).
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ducseg.crf import checks, torch_lattice
from ducseg.crf.lattice import build_lattice
from ducseg.crf.mean_field import iterate
from ducseg.crf.params import DEFAULT_ITERATIONS, CrfParams, check_iterations, check_params
from ducseg.crf.rows import RowShape, load_rows, store_rows
from ducseg.crf.workers import Workers
from ducseg.data.files.pillow import rgb_of
from ducseg.devices import without_autocast
from ducseg.errors import explain, whole
from ducseg.ops.graphs import in_a_graph, in_a_transform

__all__ = ["UNARY_FLOOR", "DenseCRF", "dense_crf", "marginals_under_each"]

UNARY_FLOOR = 1e-5  # probabilities are clipped to [UNARY_FLOOR, 1] before their logarithm
Array = TypeVar("Array", npt.NDArray[Any], Tensor)
Floats = npt.NDArray[np.float32]


def dense_crf(
    probabilities: Array,
    image: npt.NDArray[np.uint8] | Tensor,
    params: CrfParams = CrfParams(),  # noqa: B008 (frozen)
    iterations: int = DEFAULT_ITERATIONS,
    *,
    compatibility: npt.NDArray[Any] | Tensor | None = None,
) -> Array:
    """Marginals (L, H, W) float32 of a dense CRF whose unary energy is -log(clip(probabilities, 1e-5, 1)).

    probabilities: (L, H, W), any floating type, summing to 1 over the classes within 1e-2; image: (H, W, 3) uint8
    RGB, also PIL's of any mode. NumPy in, NumPy out; torch in, torch out on the probabilities' device. Neither need be
    contiguous.
    `compatibility`: (L, L), the cost of label l beside label l' (Potts, the default, costs 1 for two different
    labels). 0 iterations give the clipped input. `pydensecrf.inference(iterations)` gives the same within 2e-3
    (here measured: 1e-5). Raises UserError on probabilities that are none, on sizes and types that do not fit, and,
    before taking it, on memory that is not there.
    """
    _check_graph("dense_crf")
    if torch.compiler.is_compiling():
        outside: Any = torch.compiler.disable(dense_crf)  # type: ignore[no-untyped-call]
        return outside(probabilities, image, params, iterations, compatibility=compatibility)  # type: ignore[no-any-return]
    probabilities, image = _array(probabilities), _array(image)
    checks.check_shapes(tuple(probabilities.shape), _kind(probabilities), tuple(image.shape), _kind(image))
    params, iterations = check_params(params), check_iterations(iterations)
    matrix = _check_compatibility(compatibility, probabilities.shape[0])
    weights = (params.w1, params.w2)
    if not isinstance(probabilities, Tensor):
        return _on_cpu(probabilities, _pixels(image), params, weights, iterations, matrix, floor=UNARY_FLOOR)
    if probabilities.requires_grad and torch.is_grad_enabled():
        raise explain(
            "probabilities for dense_crf",
            found="a tensor that requires gradients",
            needed="one that does not",
            fix="Call it under torch.no_grad(), or train through ducseg.crf.DenseCRF.",
        )
    with torch.no_grad():
        if probabilities.device.type != "cpu":
            return _on_device(probabilities.float(), torch.as_tensor(_pixels(image)), params, iterations, matrix)
        values = probabilities.float().numpy()
        return torch.from_numpy(_on_cpu(values, _pixels(image), params, weights, iterations, matrix, floor=UNARY_FLOOR))


def _check_graph(what: str) -> None:
    if torch.compiler.is_exporting() or (in_a_graph() and not torch.compiler.is_compiling()):
        raise explain(
            what,
            found="torch.export, torch.fx or a trace, which would keep this picture's pixels as constants",
            needed="a call with a picture",
            fix="Export or trace the network without it, and call it on the scores.",
        )


def _array(values: Any) -> Any:
    """A tensor as it is, anything else (a PIL image, nested lists) as numpy's array."""
    return values if isinstance(values, Tensor) else np.asarray(rgb_of(values))


def _pixels(image: npt.NDArray[np.uint8] | Tensor) -> npt.NDArray[np.uint8]:
    """A copy without negative strides, also on sides of one pixel, which torch refuses."""
    return np.array(image.numpy(force=True) if isinstance(image, Tensor) else image, order="C")


def _check_compatibility(compatibility: npt.NDArray[Any] | Tensor | None, classes: int) -> Floats | None:
    if compatibility is None:
        return None
    if isinstance(compatibility, Tensor):
        wide = compatibility.float() if compatibility.dtype == torch.bfloat16 else compatibility  # numpy has none
        compatibility = wide.numpy(force=True)
    given = np.asarray(compatibility)
    if given.shape != (classes, classes) or given.dtype.kind not in "fiu" or not np.isfinite(given).all():
        raise explain(
            "the CRF's label compatibility",
            found=f"{given.dtype} of shape {given.shape}",
            needed=f"finite numbers of shape ({classes}, {classes})",
            fix="Entry (l, k) is the cost of label l beside label k; leave it out for Potts.",
        )
    return given.astype(np.float32)


def _on_cpu(
    values: npt.NDArray[Any], image: npt.NDArray[np.uint8], params: CrfParams, weights: tuple[float, float],
    iterations: int, matrix: Floats | None, *, floor: float | None,
) -> Floats:  # fmt: skip
    """Numba's path from (L, H, W) probabilities, clipped to `floor`, or without a floor from scores, to marginals."""
    classes, height, width = values.shape
    shape, pixels = RowShape(classes), height * width
    # a copy of the input, scores, marginals, result; 9 corners with two tables of 8 bytes each, 6 keys of 8 bytes
    needed = 4 * pixels * (2 * shape.width + 2 * classes) + 192 * pixels
    checks.check_memory(needed, checks.available_memory(), classes, height, width)
    image = np.require(image, np.uint8, ["C", "W"])
    with Workers() as workers:
        scores, q, extremes = load_rows(np.require(values, np.float32, ["C", "W"]), floor=floor, workers=workers)
        if floor is not None:
            checks.check_range(*extremes)
        bilateral = build_lattice(image, (params.sigma_alpha,) * 2 + (params.sigma_beta,) * 3, workers)
        gaussian = build_lattice(image, (params.sigma_gamma,) * 2, workers)
        needed = 4 * shape.width * (bilateral.num_rows + gaussian.num_rows) + 4 * pixels * classes
        checks.check_memory(needed, checks.available_memory(), classes, height, width)
        mixing = np.zeros(0, np.float32)
        if matrix is not None:
            mixing = np.pad(matrix.T, ((0, 0), (0, shape.width - classes))).reshape(-1)
        iterate(scores, q, shape, (bilateral, gaussian), weights, mixing, iterations, workers)
        spare = scores if shape.width <= 1.25 * classes else None  # fresh memory costs time; half-empty memory is waste
        return store_rows(q, classes, height, width, workers, spare)


def _on_device(
    probabilities: Tensor, image: Tensor, params: CrfParams, iterations: int, matrix: Floats | None
) -> Tensor:
    """Torch's path on the tensor's device, without gradients."""
    device, (classes, height, width) = probabilities.device, probabilities.shape
    if device.type == "cuda":
        # values of pixels and, at the most usual, as many vertices; integers of the lattice while it is built
        needed = height * width * (40 * classes + 800)
        checks.check_memory(needed, checks.available_memory(device), classes, height, width)
    sums = (probabilities.sum(0) - 1).abs().amax()
    checks.check_range(*torch.stack([probabilities.amin(), probabilities.amax(), sums]).tolist())
    unary = -probabilities.clamp(UNARY_FLOOR, 1).log()
    mixing = None if matrix is None else torch.from_numpy(matrix).to(device)
    weights = (params.w1, params.w2)
    return _mean_field(unary[None], image.to(device)[None], params, weights, mixing, iterations)[0]


def _mean_field(
    unary: Tensor, images: Tensor, params: CrfParams, weights: tuple[Tensor | float, Tensor | float],
    compatibility: Tensor | None, iterations: int,
) -> Tensor:  # fmt: skip
    """(B, L, H, W) energies and (B, H, W, 3) images to marginals (B, L, H, W), in torch operations."""
    batch, classes, height, width = unary.shape
    with torch.no_grad():
        bilateral = torch_lattice.build(images, (params.sigma_alpha,) * 2 + (params.sigma_beta,) * 3)
        gaussian = torch_lattice.build(images, (params.sigma_gamma,) * 2)
    rows = unary.movedim(1, -1).reshape(-1, classes)
    with without_autocast(unary.device):
        q = torch_lattice.mean_field(rows, (bilateral, gaussian), weights, compatibility, iterations)
    # losses over maps want contiguous ones
    return q.reshape(batch, height, width, classes).movedim(-1, 1).contiguous()


def marginals_under_each(
    probabilities: npt.NDArray[np.floating],
    image: npt.NDArray[np.uint8],
    settings: Sequence[CrfParams],
    iterations: Sequence[int],
    *,
    threads: int | None = None,
) -> Iterator[tuple[CrfParams, int, npt.NDArray[np.float32]]]:
    """What `dense_crf` gives for every setting after every one of some numbers of iterations, at less cost.

    The lattices and the unary term are built once for all settings that share them.

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


class DenseCRF(nn.Module):
    """`dense_crf` as a layer for batches, to be trained end to end through its unrolled iterations.

    (N, L, H, W) unary energies (-log probabilities, or negated scores) and (N, 3, H, W) uint8 images to marginals
    (N, L, H, W). Differentiable in the unary and in its parameters: `w1`, `w2` (scalars) and `compatibility` (L,
    L), which start at `params` and Potts unless given. The standard deviations are fixed; so are the features.
    Without gradients and in float32 on the CPU it takes numba's path, else torch operations on the unary's device
    and in its type, also under autocast. torch.compile breaks its graph there; what is exported or traced ends before
    it. Energies and parameters that are NaN give NaN, with gradients and without,
    as of any layer (`dense_crf` refuses them); no pictures give no marginals. Example: DenseCRF(19)(
    -scores.log_softmax(1), images) with scores (2, 19, 128, 256) and images (2, 3, 128, 256).
    """

    def __init__(
        self,
        num_classes: int,
        params: CrfParams = CrfParams(),  # noqa: B008 (frozen)
        iterations: int = DEFAULT_ITERATIONS,
        compatibility: npt.NDArray[Any] | Tensor | None = None,
    ) -> None:
        super().__init__()
        self.params, self.iterations = check_params(params), check_iterations(iterations)
        self.num_classes = whole("number of classes", num_classes, least=1, fix="As many as the network predicts.")
        self._start = _check_compatibility(compatibility, num_classes)
        self.w1, self.w2 = nn.Parameter(torch.empty(())), nn.Parameter(torch.empty(()))
        self.compatibility = nn.Parameter(torch.empty(num_classes, num_classes))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start again at what the layer was built with, as after `to_empty`."""
        self.w1.fill_(self.params.w1)
        self.w2.fill_(self.params.w2)
        if self._start is None:
            self.compatibility.fill_(1).fill_diagonal_(0)
        else:
            self.compatibility.copy_(torch.as_tensor(self._start, device="cpu"))

    def forward(self, unary: Tensor, images: Tensor) -> Tensor:
        """Marginals (N, L, H, W). Raises UserError when shapes or types do not fit, and in an export or a trace."""
        _check_graph("DenseCRF")
        if torch.compiler.is_compiling():
            return torch.compiler.disable(self._marginals)(unary, images)  # type: ignore[no-any-return, no-untyped-call]
        return self._marginals(unary, images)

    def _marginals(self, unary: Tensor, images: Tensor) -> Tensor:
        if not isinstance(unary, Tensor) or unary.ndim != 4 or unary.shape[1] != self.num_classes:
            raise explain(
                "unary energies for DenseCRF",
                found=_shape_of(unary),
                needed=f"a tensor (images, {self.num_classes}, height, width)",
                fix="Build DenseCRF with the number of classes that the network predicts.",
            )
        if not isinstance(images, Tensor) or images.ndim != 4 or len(images) != len(unary):
            raise explain(
                "images for DenseCRF",
                found=_shape_of(images),
                needed=f"a tensor ({len(unary)}, 3, height, width)",
                fix="Pass one image per map of energies.",
            )
        images = images.to(unary.device).movedim(1, -1)
        checks.check_shapes(tuple(unary.shape[1:]), _kind(unary), tuple(images.shape[1:]), _kind(images))
        learning = torch.is_grad_enabled() and (
            unary.requires_grad or any(parameter.requires_grad for parameter in self.parameters())
        )
        plain = not learning and not in_a_transform()
        by_numba = unary.device.type == "cpu" and unary.dtype == torch.float32 and plain
        # its kernels make numbers of NaN; a pixel's least energy is NaN or infinite where it has no marginals
        if by_numba and len(unary) and all(one.isfinite().all() for one in (unary.amin(1), *self.parameters())):
            return self._without_gradients(unary, images)
        weights = (self.w1.to(unary.dtype), self.w2.to(unary.dtype))
        return _mean_field(unary, images, self.params, weights, self.compatibility.to(unary.dtype), self.iterations)

    def _without_gradients(self, unary: Tensor, images: Tensor) -> Tensor:
        matrix = self.compatibility.float().numpy(force=True)  # numba's kernels read float32
        potts = None if (matrix == 1 - np.eye(self.num_classes)).all() else matrix
        weights = (self.w1.item(), self.w2.item())
        marginals = [
            _on_cpu(-energies, pixels, self.params, weights, self.iterations, potts, floor=None)
            for energies, pixels in zip(unary.numpy(force=True), images.numpy(force=True))
        ]
        return torch.from_numpy(np.stack(marginals))

    def extra_repr(self) -> str:
        return f"num_classes={self.num_classes}, iterations={self.iterations}, params={self.params}"


def _shape_of(values: object) -> str:
    return f"{type(values).__name__} of shape {tuple(getattr(values, 'shape', ()))}"


def _kind(array: npt.NDArray[Any] | Tensor) -> str:
    return str(array.dtype).removeprefix("torch.") if isinstance(array, Tensor) else str(array.dtype.name)
