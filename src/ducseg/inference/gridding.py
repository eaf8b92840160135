"""Does a network grid? Its coverage as it is built, its effective receptive field, and a lattice in its scores.

The scores are judged in folded space, where the bilinear baseline and DUC have the same grid: maps (L * r * r, h, w) of
which each class's mean is taken off, since what all classes share changes no label. `ducseg.metrics.gridding` scores
them at the period of every dilated convolution, beside the same architecture with random weights and beside the
pictures themselves, which may hold something with that period.

Legend: d pixels per place of the grid; a rate's period is rate x stride pixels, as 5 x 8 = 40.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ducseg.errors import UserError, explain
from ducseg.inference.predictor import Predictor, as_picture
from ducseg.metrics.gridding import GRIDS, Lattice, PeriodScore
from ducseg.models.build import build_architecture
from ducseg.models.encoder import num_channels_of
from ducseg.models.segmenter import Segmenter
from ducseg.ops.network_coverage import Dilated, NetworkCoverage, dilated_layers, network_coverage
from ducseg.ops.receptive_field import effective, side_of

__all__ = ["FoldedScores", "Gridding", "Scores", "Structure", "measure_gridding", "structure_of"]

LONGEST = 1024
"""Pixels; of larger pictures the middle is looked at."""

_FIELD_SIDE = 512  # pixels; what the effective receptive field is measured in


@dataclass(frozen=True, kw_only=True)
class Structure:
    """What the architecture alone decides.

    Attributes:
        dilated: the convolutions of rates above 1.
        features, scores: coverage of the encoder's last map and of the scores; None where nothing is dilated, or, of
            the scores, where the head joins finer maps.
    """

    dilated: list[Dilated]
    features: NetworkCoverage | None
    scores: NetworkCoverage | None


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One picture to look at: RGB or as many channels as there are (H, W, C), its labels (H, W), and of the class that
    varies most its score above the mean of all, at pixels (H, W)."""

    picture: NDArray[Any]
    labels: NDArray[np.uint8]
    name: str
    score: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Gridding:
    """What `measure_gridding` found.

    Attributes:
        stride: d of the scores' grid.
        field: (H, W) effective receptive field of the trained network at pixels, shares that sum to 1.
        fresh_field: of the same architecture with random weights; None: the network has parts of someone's own.
        shown: the first picture.
    """

    structure: Structure
    stride: int
    periods: list[PeriodScore]
    field: NDArray[np.float64]
    fresh_field: NDArray[np.float64] | None
    shown: Scores
    num_pictures: int

    @property
    def grids(self) -> bool:
        """Whether the scores hold a lattice of any period."""
        return any(period.grids for period in self.periods)

    def to_json(self) -> dict[str, Any]:
        """Everything but the maps."""
        fields = {"trained": self.field} | ({} if self.fresh_field is None else {"fresh": self.fresh_field})
        return {
            "grids": self.grids,
            "threshold_db": GRIDS,
            "pictures": self.num_pictures,
            "stride": self.stride,
            "dilated": [{"name": d.name, "rate": d.rate, "stride": d.stride} for d in self.structure.dilated],
            "coverage": {
                "features": _coverage_json(self.structure.features),
                "scores": _coverage_json(self.structure.scores),
            },
            "effective_receptive_field": {name: side_of(field) for name, field in fields.items()},
            "periods": {
                str(period.pixels): {
                    "rates": [list(rate) for rate in period.rates],
                    "trained_db": period.trained,
                    "fresh_db": period.fresh,
                    "pictures_db": period.pictures,
                    "share": period.share,
                    "windows": period.windows,
                    "judged": period.judged,
                    "grids": period.grids,
                }
                for period in self.periods
            },
        }


def _coverage_json(coverage: NetworkCoverage | None) -> dict[str, Any] | None:
    if coverage is None:
        return None
    return {
        "after": coverage.after,
        "stride": coverage.stride,
        "receptive_field": list(coverage.paths.shape),
        "covered_fraction": coverage.covered_fraction,
        "holes": coverage.holes,
    }


class FoldedScores(nn.Module):
    """A segmenter that gives its folded scores."""

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, images: Tensor) -> Tensor:
        """Normalised (N, C, H, W) to (N, L, r*r, h, w)."""
        return self.segmenter.folded(images)


def structure_of(segmenter: Segmenter) -> Structure:
    """Dilated convolutions and exact coverage of a network as it is built; its weights do not matter."""
    channels, whole = num_channels_of(segmenter.encoder), FoldedScores(segmenter)
    scores = network_coverage(whole, channels=channels)
    return Structure(
        dilated=[replace(layer, name=_named(layer.name)) for layer in dilated_layers(whole, channels=channels)],
        features=network_coverage(cast(nn.Module, segmenter.encoder), channels=channels),
        scores=scores and replace(scores, after=_named(scores.after)),
    )


def _named(module: str) -> str:
    """The name of a module of `FoldedScores` in its segmenter."""
    return module.removeprefix("segmenter.")


def measure_gridding(
    predictor: Predictor, pictures: Iterable[NDArray[Any]], *, periods: Sequence[int] = ()
) -> Gridding:
    """Judge a network on pictures of any size, of which the middle 1024 x 1024 pixels are looked at.

    Args:
        predictor: its network is judged at one scale; it is in evaluation mode afterwards.
        pictures: uint8 (H, W, 3), or as the network takes them.
        periods: in pixels; none: those of its dilated convolutions.

    Raises:
        UserError: no picture; no period to look at; as `Predictor` for a picture of another kind.
    """
    segmenter, structure = predictor.model, structure_of(predictor.model)
    rates = {period: set[tuple[int, int]]() for period in periods} or _rates(structure)
    networks = {"trained": segmenter.eval()} | _fresh(segmenter, predictor.device)
    grid, lattices = segmenter.grid_stride, dict[tuple[str, int], Lattice]()
    for pixels in rates:
        if pixels % grid == 0 and pixels >= 2 * grid:
            lattices |= {(of, pixels): Lattice(pixels // grid) for of in (*networks, "pictures")}
    shown: Scores | None = None
    fields: dict[str, NDArray[np.float64]] = {}
    count = 0
    for picture in pictures:
        count += 1
        seen = _middle(as_picture(picture, predictor.pixels), segmenter.output_stride)
        pixels_of = torch.from_numpy(np.array(seen, order="C")).permute(2, 0, 1)[None].to(predictor.device)
        images = segmenter.preprocessing.normalise(pixels_of)
        maps = {of: _score_maps(network, images) for of, network in networks.items()}
        maps["pictures"] = F.avg_pool2d(images, grid)[0].cpu().numpy()
        for (of, _), lattice in lattices.items():
            lattice.add(maps[of])
        if shown is None:
            shown = _scores(predictor, seen, images)
            near = images[..., :_FIELD_SIDE, :_FIELD_SIDE]
            fields = {of: effective(FoldedScores(network), near) for of, network in networks.items()}
    if shown is None:
        raise explain("pictures", found="none", needed="at least one", fix="Check the inputs.")
    return Gridding(
        structure=structure,
        stride=grid,
        periods=[_period(pixels, rates[pixels], lattices) for pixels in sorted(rates)],
        field=fields["trained"],
        fresh_field=fields.get("fresh"),
        shown=shown,
        num_pictures=count,
    )


def _rates(structure: Structure) -> dict[int, set[tuple[int, int]]]:
    found: dict[int, set[tuple[int, int]]] = {}
    for layer in structure.dilated:
        found.setdefault(layer.period, set()).add((layer.rate, layer.stride))
    if not found:
        raise explain(
            "gridding",
            found="no dilated convolution in this network",
            needed="a period to look for",
            fix="Give --periods in pixels, for instance its strides: --periods 16 32.",
        )
    return found


def _score_maps(network: Segmenter, images: Tensor) -> NDArray[np.float32]:
    """Folded scores above the mean of all classes, (L * r * r, h, w)."""
    with torch.inference_mode():
        folded = network.folded(images).float()
        above = (folded - folded.mean(1, keepdim=True))[0].flatten(0, 1)
    return np.asarray(above.cpu().numpy())


def _period(pixels: int, rates: set[tuple[int, int]], lattices: dict[tuple[str, int], Lattice]) -> PeriodScore:
    scores = {of: lattices[of, pixels].score for of in ("trained", "fresh", "pictures") if (of, pixels) in lattices}
    trained = lattices.get(("trained", pixels))
    return PeriodScore(
        pixels=pixels,
        rates=tuple(sorted(rates)),
        trained=scores.get("trained"),
        fresh=scores.get("fresh"),
        pictures=scores.get("pictures"),
        share=trained.share if trained else None,
        windows=trained.windows if trained else 0,
    )


def _fresh(segmenter: Segmenter, device: torch.device) -> dict[str, Segmenter]:
    """The same architecture with random weights, where it is known."""
    try:
        architecture = segmenter.architecture
    except UserError:
        return {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fresh = build_architecture(architecture, classes=segmenter.classes, preprocessing=segmenter.preprocessing)
    return {"fresh": fresh.to(device).eval()}


def _middle(picture: NDArray[Any], multiple: int) -> NDArray[Any]:
    """The middle of (H, W, C), its sides at most `LONGEST` and multiples of `multiple`, but not of what is smaller."""
    sides = [max(min(side, LONGEST) // multiple * multiple, min(side, multiple)) for side in picture.shape[:2]]
    top, left = ((whole - side) // 2 for whole, side in zip(picture.shape, sides))
    return np.ascontiguousarray(picture[top : top + sides[0], left : left + sides[1]])


def _scores(predictor: Predictor, picture: NDArray[Any], images: Tensor) -> Scores:
    with torch.inference_mode():
        scores = predictor.model(images)[0].float()
    above = scores - scores.mean(0, keepdim=True)
    most = int(above.flatten(1).var(1).argmax())
    name = predictor.classes.names[most]
    return Scores(picture=picture, labels=predictor(picture), name=name, score=above[most].cpu().numpy())
