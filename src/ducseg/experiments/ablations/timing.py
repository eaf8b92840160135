"""How long a picture takes with each row's network: measured apart from training, one row's call after another's.

The networks have random weights, which do not matter to the time; what is timed is from uint8 pictures to labels on the
host (`ducseg.inference.bench`), batch norms folded, float32, at the size of the scored split's first picture.
"""

import platform
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import torch

from ducseg.data.layouts.opening import open_dataset
from ducseg.devices import pick_device
from ducseg.experiments.ablations.jobs import Job
from ducseg.experiments.ablations.results import Results
from ducseg.experiments.ablations.rows import Row, Scoring
from ducseg.inference.bench import measure
from ducseg.inference.predictor import Predictor
from ducseg.train.config import ModelConfig
from ducseg.train.run_log import versions
from ducseg.train.setup import build_network

__all__ = ["how", "time_rows", "times_of"]

_NETWORK = ("encoder", "head", "output_stride", "cell", "aspp", "dilation", "stem", "width")
_ROUNDS = 20


def time_rows(jobs: Sequence[Job], results: Results, *, count: int, say: Callable[[str], None]) -> None:
    """Time every row's network on this machine and record it; rows with the CRF are left out.

    Args:
        count: pictures at once.

    Raises:
        UserError: data that does not open, a device that is not there.
    """
    torch.backends.cudnn.benchmark = True
    config = jobs[0].config
    device = pick_device(config.run.device)
    if config.run.threads is not None:
        torch.set_num_threads(config.run.threads)
    dataset = open_dataset(config.data, config.data.val_split)
    height, width = dataset[0].image.shape[:2]
    rows = {row.name: (job.config.model, row.scoring) for job in jobs for row in job.rows if not row.scoring.crf}
    predictors = {}
    for name, (model, scoring) in rows.items():
        fresh = ModelConfig(**{field: getattr(model, field) for field in _NETWORK})
        network = build_network(fresh, dataset.classes).segmenter
        network.eval()
        predictors[name] = Predictor(network, device, fused=True, scales=scoring.scales, flip=scoring.flip)
    say(f"timing {len(predictors)} networks in turn, {count} pictures of {height}x{width} at once")
    for name, found in measure(predictors, count, height, width, rounds=_ROUNDS).items():
        if found.median_ms is None:
            say(f"{name}: not timed, {found.failed}")
            continue
        model, scoring = rows[name]
        results.add(
            {
                "kind": "time",
                "network": _network(model),
                "scoring": scoring.to_json(),
                "height": height,
                "width": width,
                "count": count,
                "ms": found.median_ms / count,
                "p95_ms": None if found.p95_ms is None else found.p95_ms / count,
                "peak_mb": found.peak_mb,
                "device": _named(device),
                "threads": torch.get_num_threads(),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                **versions(),
            }
        )
        say(f"{name}: {found.median_ms / count:.3g} ms a picture")


def times_of(rows: Sequence[Row], jobs: Sequence[Job], lines: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The newest "time" line of each row's network, by the row's name; all taken alike (device, size, count)."""
    of_row: dict[str, tuple[dict[str, Any], Scoring]] = {}
    for job in jobs:
        of_row |= {row.name: (_network(job.config.model), row.scoring) for row in job.rows}
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        network, scoring = of_row.get(row.name, ({}, row.scoring))
        for line in lines:
            if (line["network"], line["scoring"]) == (network, scoring.to_json()):
                found[row.name] = line
    newest = max(found.values(), key=lambda line: str(line["finished"]), default=None)
    return {name: line for name, line in found.items() if newest is not None and how(line) == how(newest)}


def how(line: dict[str, Any]) -> str:
    """By what a time was taken, in words."""
    at_once = "one at a time" if line["count"] == 1 else f"{line['count']} at once"
    return f"{line['height']}x{line['width']}, {at_once}, float32, {line['device']}"


def _network(model: ModelConfig) -> dict[str, Any]:
    return {field: getattr(model, field) for field in _NETWORK}


def _named(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()}, " + ("mps" if device.type == "mps" else f"{torch.get_num_threads()} threads")
