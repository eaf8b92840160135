"""`ducseg gridding`: does a trained network leave a lattice in its scores?"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from ducseg.cli.options import File

if TYPE_CHECKING:
    from rich.table import Table

    from ducseg.inference.gridding import Gridding
    from ducseg.models.dilation import Dilation
    from ducseg.ops.network_coverage import NetworkCoverage

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure gridding: coverage of the network as it is built, its effective receptive field, a lattice in its scores.

    The scores of the pictures are compared with those of random weights and with the pictures themselves, at the period
    of each dilated convolution. Exits with 1 where the trained network grids.
    """

    checkpoint: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="CHECKPOINT")]
    """A checkpoint or run folder (then its best checkpoint), or an id on the Hugging Face Hub."""
    inputs: tyro.conf.Positional[tuple[str, ...]]
    """Files, folders (searched recursively) and globs: a few pictures of the kind that it was trained for."""
    most: int = 20
    """Look at so many pictures at most, spread evenly."""
    periods: tuple[int, ...] = ()
    """In pixels (default: those of its dilated convolutions, rate x stride)."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    figure: File | None = None
    """Also draw it all there (pdf, png or svg)."""
    json: File | None = None
    """Also write the numbers there."""


def run(options: Options) -> int:
    """Exit status 1 where the scores hold a lattice."""
    from rich.console import Console

    from ducseg.devices import pick_device
    from ducseg.inference.gridding import measure_gridding
    from ducseg.inference.predictor import Predictor
    from ducseg.inference.sources import some_pictures
    from ducseg.metrics.confusion import write_json
    from ducseg.weights.checkpoint import load_segmenter

    segmenter = load_segmenter(options.checkpoint)
    predictor = Predictor(segmenter, pick_device(options.device))
    pictures = (picture for _, picture in some_pictures(options.inputs, predictor.pixels, most=options.most))
    found = measure_gridding(predictor, pictures, periods=options.periods)
    print("\n".join(_lines(found)))
    Console().print(_table(found))
    print(_verdict(found, segmenter.architecture.dilation))
    if options.json is not None:
        write_json(options.json, found.to_json())
    if options.figure is not None:
        from ducseg.figures.gridding_report import draw_gridding_report

        draw_gridding_report(
            options.figure,
            picture=found.shown.picture,
            score=found.shown.score,
            name=found.shown.name,
            coverage=found.structure.scores or found.structure.features,
            field=found.field,
            periods=found.periods,
        )
        print(f"figure: {options.figure}")
    return 1 if found.grids else 0


def _lines(found: "Gridding") -> Iterator[str]:
    from ducseg.ops.receptive_field import side_of

    rates = sorted({(layer.rate, layer.stride) for layer in found.structure.dilated})
    shown = ", ".join(f"{rate} (at stride {stride})" for rate, stride in rates) or "none"
    yield f"dilated convolutions: {len(found.structure.dilated)}, of rates {shown}"
    yield f"features: {_covered(found.structure.features)}"
    yield f"scores:   {_covered(found.structure.scores)}"
    fresh = "" if found.fresh_field is None else f", with random weights {side_of(found.fresh_field)}"
    yield f"effective receptive field: {side_of(found.field)} pixels{fresh}"


def _covered(coverage: "NetworkCoverage | None") -> str:
    if coverage is None:
        return "no coverage to count: nothing is dilated, or finer maps lead past it"
    rows, columns = coverage.paths.shape
    place = f"{rows} x {columns} places of {coverage.stride} pixels after {coverage.after}"
    return f"{coverage.covered_fraction:.1%} of {place} ({coverage.holes} holes)"


def _table(found: "Gridding") -> "Table":
    from rich.table import Table

    table = Table(title=f"lattice in the scores of {found.num_pictures} pictures, dB above its neighbours in frequency")
    for name in ("period", "rate x stride", "windows", "trained", "random weights", "pictures", "share of variance"):
        table.add_column(name, justify="right")
    for period in found.periods:
        numbers = (period.trained, period.fresh, period.pictures)
        table.add_row(
            f"{period.pixels} px",
            ", ".join(f"{rate} x {stride}" for rate, stride in period.rates),
            str(period.windows),
            *("" if number is None else f"{number:.1f}" for number in numbers),
            "" if period.share is None else f"{period.share:.1%}",
        )
    return table


def _verdict(found: "Gridding", dilation: "Dilation") -> str:
    from ducseg.metrics.gridding import FEWEST, GRIDS

    worst = [period for period in found.periods if period.grids]
    if worst:
        where = ", ".join(
            f"every {period.pixels} pixels ({period.excess:.1f} dB, {period.share:.1%} of the variance)"
            for period in worst
        )
        other = [name for name in ("rf", "none") if name != dilation]
        return (
            f"warning: this network grids: its scores repeat {where}. Train with other rates (--model.dilation "
            f"{' or '.join(other)}), larger crops, or at another output stride, and look again."
        )
    unseen = [str(period.pixels) for period in found.periods if not period.judged]
    needed = f"fewer than {FEWEST} windows of four periods: give larger pictures, or more"
    small = f"; not judged: {', '.join(unseen)} pixels ({needed})" if unseen else ""
    return f"verdict: no gridding of {GRIDS:g} dB or more{small}"
