"""`ducseg crf-tune`: the CRF's settings that a network needs."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ducseg.cli.options import DataRoot, Folder, Network
from ducseg.errors import explain

if TYPE_CHECKING:
    from rich.table import Table

    from ducseg.crf.tune import Grid, Row

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(DataRoot, Network):
    """Find the dense CRF's settings by grid search on a validation split: table, heat-maps, best.json for --crf."""

    out: Folder
    """Folder for probabilities, counts and results; the same command goes on where it was stopped, a larger grid
    computes what is new."""
    sigma_alpha: tuple[float, ...] = (5.0, 15.0, 40.0)
    """Widths of the bilateral term in pixels."""
    sigma_beta: tuple[float, ...] = (3.0, 8.0, 20.0)
    """Widths of the bilateral term in grey levels."""
    w1: tuple[float, ...] = (1.0, 3.0, 6.0)
    """Weights of the bilateral term."""
    sigma_gamma: tuple[float, ...] = (1.0,)
    """Widths of the Gaussian term in pixels."""
    w2: tuple[float, ...] = (1.0, 3.0)
    """Weights of the Gaussian term."""
    iterations: tuple[int, ...] = (1, 5, 10)
    """Numbers of mean-field iterations."""
    metric: Literal["mean_iou", "mean_boundary_iou"] = "mean_iou"
    """Which score decides."""
    pictures: int | None = None
    """So many, spread evenly over the split; default: all."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N, for the network; the CRF runs on the CPU's cores."""


def run(options: Options) -> int:
    """Write results.json, heatmap.png and best.json."""
    from ducseg.crf.tune import Grid, tune
    from ducseg.progress import counted_stages

    axes = ("sigma_alpha", "sigma_beta", "w1", "sigma_gamma", "w2", "iterations")
    grid = Grid(**{name: getattr(options, name) for name in axes})
    dataset, split = options.opened(options.checkpoint)
    options.warn_of_learned(options.checkpoints, dataset)
    predictor = options.opened_network(probabilities=True)
    count = len(dataset) if options.pictures is None else min(options.pictures, len(dataset))
    if count < 1:
        raise explain("--pictures", found=count, needed="at least 1", fix="Leave it out for the whole split.")
    indices = [(2 * place + 1) * len(dataset) // (2 * count) for place in range(count)]
    first, *further = map(_digest_of_weights, options.checkpoints)
    source = {"model.safetensors": first, "split": split, **options.look()} | ({"ensemble": further} if further else {})
    with counted_stages("predicted", "refined") as progress:
        rows = tune(
            options.out, dataset, indices, lambda sample: predictor.probabilities(sample.image), grid, source=source,
            progress=progress,
        )  # fmt: skip
    _report(rows, options.out, grid, options.metric, f"{count} pictures of {split}")
    return 0


def _digest_of_weights(checkpoint: str) -> str:
    from ducseg.inference.manifest import file_digest
    from ducseg.inference.opening import recorded

    place, _ = recorded(checkpoint)
    return file_digest(place / "model.safetensors" if place.is_dir() else place)


def _report(rows: list["Row"], out: Path, grid: "Grid", metric: str, pictures: str) -> None:
    from rich.console import Console

    from ducseg.crf import save_params
    from ducseg.crf.tune import BAND
    from ducseg.figures.heatmap import draw_heatmap
    from ducseg.metrics.confusion import write_json

    alone, *tried = rows
    ranked = sorted(tried, key=lambda row: (-getattr(row, metric), row.iterations))
    best = ranked[0]
    assert best.params is not None
    save_params(out / "best.json", best.params, best.iterations)
    as_json = [
        {**(asdict(row.params) if row.params else {}), "iterations": row.iterations, "mean_iou": row.mean_iou,
         "mean_boundary_iou": row.mean_boundary_iou}
        for row in rows
    ]  # fmt: skip
    write_json(
        out / "results.json", {"metric": metric, "pictures": pictures, "without_crf": as_json[0], "rows": as_json[1:]}
    )
    axes = {name: sorted(set(values)) for name, values in asdict(grid).items()}
    points = [{**asdict(row.params), "iterations": row.iterations} for row in tried if row.params]
    without = 100 * getattr(alone, metric)
    name = {"mean_iou": "mean IoU", "mean_boundary_iou": f"mean boundary IoU, {BAND},"}[metric]
    title = f"dense CRF: best {name} over the other axes (without CRF {without:.1f} %)"
    drawn = draw_heatmap(out / "heatmap.png", axes, points, [getattr(row, metric) for row in tried], title=title)
    Console().print(_table(alone, ranked[:10], len(tried), pictures))
    print(f"best setting: {out / 'best.json'} (for --crf)")
    print(f"all settings: {out / 'results.json'}" + (f"; heat-maps: {out / 'heatmap.png'}" if drawn else ""))


def _table(alone: "Row", ranked: list["Row"], tried: int, pictures: str) -> "Table":
    from rich.table import Table

    from ducseg.crf.tune import BAND

    table = Table(title=f"{tried} settings on {pictures}; boundary IoU: {BAND}")
    for name in ("alpha", "beta", "w1", "gamma", "w2", "iterations", "mean IoU %", "boundary IoU %"):
        table.add_column(name, justify="right")
    for row in ranked:
        values = asdict(row.params).values() if row.params else ()
        table.add_row(*(f"{value:g}" for value in values), str(row.iterations), *_percent(row))
    table.add_section()
    table.add_row("no CRF", "", "", "", "", "", *_percent(alone))
    return table


def _percent(row: "Row") -> tuple[str, str]:
    return f"{100 * row.mean_iou:.2f}", f"{100 * row.mean_boundary_iou:.2f}"
