"""What `ducseg crf` and `ducseg crf-tune` do, between the command line and the library."""

import hashlib
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import ducseg
from ducseg.classes import CAMVID, CITYSCAPES, KITTI_ROAD, VOC2012, ClassSet
from ducseg.cli.commands import predict_inputs, print_report, trained_on
from ducseg.crf import dense_crf, save_params
from ducseg.crf.tune import Grid, Row, tune
from ducseg.data.layouts.opening import open_dataset
from ducseg.devices import pick_device
from ducseg.errors import explain
from ducseg.figures.heatmap import draw_heatmap
from ducseg.inference.predict_files import Kind, write_each
from ducseg.inference.refine import crf_settings, saved_probabilities
from ducseg.metrics.confusion import write_json
from ducseg.progress import counted
from ducseg.weights.checkpoint import checkpoint_folder

__all__ = ["Metric", "refine_inputs", "tune_checkpoint"]

Metric = Literal["mean_iou", "mean_boundary_iou"]
_KNOWN = {"camvid": CAMVID, "cityscapes": CITYSCAPES, "voc2012": VOC2012, "kitti-road": KITTI_ROAD}


def refine_inputs(
    probabilities: Path,
    inputs: tuple[str, ...],
    out: Path,
    *,
    settings: tuple[Path, ...],
    kinds: tuple[Kind, ...],
    classes: str | None,
) -> int:
    """Refine pictures with the dense CRF into `out`; exit status 1 where one failed, else 0.

    Args:
        probabilities: a folder of .npy files, or a checkpoint, as the command line's `crf` says.

    Raises:
        UserError: nothing that matches the inputs, settings that do not read, colours asked for without classes.
    """
    if not any(probabilities.rglob("*.npy")):
        return predict_inputs(
            str(probabilities), inputs, out, kinds=kinds, scales=(1.0,), flip=False, device="auto", crf=settings
        )
    params, iterations = crf_settings(settings)
    coloured = [kind for kind in kinds if kind in ("color", "overlay")]
    if coloured and classes is None:
        raise explain(
            "--kinds",
            found=", ".join(coloured),
            needed="classes to colour",
            fix=f"Add --classes ({', '.join(_KNOWN)} or a classes.json), or write --kinds labels.",
        )
    colours = None if classes is None else _KNOWN.get(classes) or ClassSet.read(Path(classes))

    def answer(name: Path, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        found = saved_probabilities(probabilities, name)
        if colours is not None and found.ndim == 3 and len(found) != len(colours):
            raise explain(
                f"probabilities of {name}",
                found=f"{len(found)} classes",
                needed=f"{len(colours)}",
                fix="See --classes.",
            )
        return dense_crf(found, image, params, iterations)

    report = write_each(answer, colours or CITYSCAPES, inputs, out, kinds, progress=True)
    return print_report(report, out, "refined")


def tune_checkpoint(
    checkpoint: Path,
    out: Path,
    grid: Grid,
    *,
    metric: Metric,
    split: str | None,
    pictures: int | None,
    scales: tuple[float, ...],
    flip: bool,
    data_root: Path | None,
    device: str,
) -> int:
    """Search the grid on a split of the checkpoint's data set; writes results.json, heatmap.png and best.json; 0.

    Raises:
        UserError: no checkpoint, no data, a folder that holds another search.
    """
    predictor = ducseg.load(checkpoint, device=str(pick_device(device, 0)), scales=scales, flip=flip)
    data = trained_on(checkpoint)
    if data_root is not None:
        data = replace(data, root=str(data_root))
    chosen = split or data.val_split
    dataset = open_dataset(data, chosen)
    count = len(dataset) if pictures is None else min(pictures, len(dataset))
    if count < 1:
        raise explain("--pictures", found=count, needed="at least 1", fix="Leave it out for the whole split.")
    indices = [(2 * place + 1) * len(dataset) // (2 * count) for place in range(count)]
    weights = (checkpoint_folder(checkpoint) / "model.safetensors").read_bytes()
    source = {
        "model.safetensors": hashlib.sha256(weights).hexdigest(),
        "split": chosen,
        "scales": list(scales),
        "flip": flip,
    }
    with ExitStack() as stack:
        bars = {what: stack.enter_context(counted(what)) for what in ("predicted", "refined")}
        rows = tune(
            out, dataset, indices, lambda sample: predictor.probabilities(sample.image), grid, source=source,
            progress=lambda what, done, total: bars[what](done, total),
        )  # fmt: skip
    _report(rows, out, grid, metric, f"{count} pictures of {chosen}")
    return 0


def _report(rows: list[Row], out: Path, grid: Grid, metric: Metric, pictures: str) -> None:
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
    name = metric.replace("_", " ").replace("iou", "IoU")
    title = f"dense CRF: best {name} over the other axes (without CRF {without:.1f} %)"
    drawn = draw_heatmap(out / "heatmap.png", axes, points, [getattr(row, metric) for row in tried], title=title)
    Console().print(_table(alone, ranked[:10], len(tried), pictures))
    print(f"best setting: {out / 'best.json'} (for --crf)")
    print(f"all settings: {out / 'results.json'}" + (f"; heat-maps: {out / 'heatmap.png'}" if drawn else ""))


def _table(alone: Row, ranked: list[Row], tried: int, pictures: str) -> Table:
    table = Table(title=f"{tried} settings on {pictures}")
    for name in ("alpha", "beta", "w1", "gamma", "w2", "iterations", "mean IoU %", "boundary IoU %"):
        table.add_column(name, justify="right")
    for row in ranked:
        values = asdict(row.params).values() if row.params else ()
        table.add_row(*(f"{value:g}" for value in values), str(row.iterations), *_percent(row))
    table.add_section()
    table.add_row("no CRF", "", "", "", "", "", *_percent(alone))
    return table


def _percent(row: Row) -> tuple[str, str]:
    return f"{100 * row.mean_iou:.2f}", f"{100 * row.mean_boundary_iou:.2f}"
