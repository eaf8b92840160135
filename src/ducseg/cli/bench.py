"""`ducseg bench`: how fast networks label pictures, and what they need."""

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from ducseg.cli.options import File
from ducseg.errors import explain

if TYPE_CHECKING:
    from rich.table import Table

    from ducseg.inference.labeller import AveragingLabeller
    from ducseg.models.segmenter import Segmenter

__all__ = ["Options", "run"]

Backend = Literal["eager", "folded", "compiled", "onnxruntime"]


@dataclass(frozen=True, kw_only=True)
class Built:
    """The network that a name of an encoder stands for; `ducseg.models.build` says what each means."""

    head: str = "duc"
    """duc, bilinear, deconv, deconv2 or pyramid."""
    num_classes: int = 19
    """Classes."""
    output_stride: int = 8
    """Pixels per place of the encoder's last map: 32, 16, 8 or 4."""
    cell: int = 1
    """Side in pixels of what one of DUC's predictions stands for."""
    aspp: int = 4
    """Summed ASPP paths; 0 for the pyramid."""
    dilation: str = "bigger"
    """none, dilated, conv, rf, bigger, released, or a rate a block, res4/res5: 1,2,5,9,1,2/5,9,17."""
    stem: str = "7x7"
    """7x7 or 3x3."""


@dataclass(frozen=True, kw_only=True)
class Options(Built):
    """Time networks: latency, pictures a second, peak memory, arithmetic, parameters; each variant in turn.

    A name is a checkpoint, a file of `ducseg export`, or an encoder (then with --head, ..., and random weights).
    """

    networks: tyro.conf.Positional[tuple[str, ...]]
    """Checkpoints or run folders, ids on the Hub, exported files, encoders such as resnet101 or timm:NAME."""
    sizes: tuple[str, ...] = ("512x512",)
    """Height x width of the pictures, 1024x2048."""
    batch_sizes: tuple[int, ...] = (1,)
    """Pictures at once."""
    backends: tuple[Backend, ...] = ("eager", "folded")
    """PyTorch as it is; with batch norms folded and channels last, as predict computes; folded and compiled;
    onnxruntime, in which an exported file always runs."""
    dtypes: tuple[Literal["float32", "bfloat16"], ...] = ("float32",)
    """Of PyTorch's convolutions."""
    rounds: int = 10
    """Timed calls of each variant."""
    threads: int | None = None
    """Threads of the CPU; default: PyTorch's own choice, a core each."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    profile: bool = False
    """Also the time of each stage: input, stages of the encoder, head, labels."""
    json: File | None = None
    """Also write all numbers there."""


def run(options: Options) -> int:
    """Print the tables."""
    import torch
    from rich.console import Console

    from ducseg.metrics.confusion import write_json

    sizes = [_size(text) for text in options.sizes]
    _check(options)
    options = replace(options, dtypes=_timed(options.dtypes, options.device))
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    networks = {name: _Network(name, options) for name in options.networks}
    rows = [row for size in sizes for count in options.batch_sizes for row in _rows(networks, options, size, count)]
    stages = list(_stages(networks, options, sizes)) if options.profile else []
    Console().print(_table(rows))
    for stage in stages:
        parts = ", ".join(f"{name} {taken:.1f}" for name, taken in stage["ms"].items())
        print(f"{stage['network']} {stage['size']} {stage['dtype']}, ms: {parts}")
    if options.json is not None:
        machine = {"threads": torch.get_num_threads(), "device": options.device, "torch": torch.__version__}
        write_json(options.json, {"machine": machine, "rounds": options.rounds, "rows": rows, "stages": stages})
    return 0


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", text)
    if found is None:
        raise explain("--sizes", found=text, needed="height x width in pixels", fix="For example --sizes 1024x2048.")
    return int(found[1]), int(found[2])


def _check(options: Options) -> None:
    threads = () if options.threads is None else (options.threads,)
    for name, values in {"batch-sizes": options.batch_sizes, "rounds": (options.rounds,), "threads": threads}.items():
        if min(values, default=1) < 1:
            raise explain(f"--{name}", found=list(values), needed="numbers above 0", fix="Correct it.")
    if not options.networks:
        raise explain("networks", found="none", needed="a checkpoint, an exported file or an encoder", fix="Name one.")
    given, default = _built(options), asdict(Built())
    changed = [f"--{name.replace('_', '-')}" for name, value in given.items() if value != default[name]]
    if changed and not any(map(_is_encoder, options.networks)):
        needed = "a name of an encoder among the networks, which they describe"
        raise explain(" and ".join(changed), found=" ".join(options.networks), needed=needed, fix="Leave them out.")


def _timed(dtypes: tuple[str, ...], device: str) -> tuple[Any, ...]:
    """The types that the device computes in, which a warning says where it is not all of them."""
    from ducseg.devices import in_bf16, pick_device

    there = in_bf16("bfloat16" in dtypes, pick_device(device))
    return tuple(dict.fromkeys("float32" if one == "bfloat16" and not there else one for one in dtypes))


def _built(options: Options) -> dict[str, Any]:
    return {field.name: getattr(options, field.name) for field in fields(Built)}


def _is_encoder(name: str) -> bool:
    from ducseg.models.architecture import ENCODERS

    return (name in ENCODERS or name.startswith("timm:")) and not Path(name).exists()


def _check_known(name: str) -> None:
    """A bare word that is neither here nor an encoder may have been meant as one."""
    from ducseg.models.architecture import ENCODERS

    if "/" not in name and not Path(name).expanduser().exists():
        needed = f"a checkpoint, a file of `ducseg export` or an encoder: {', '.join(ENCODERS)}, timm:NAME"
        raise explain(f"network {name}", found="nothing of that name", needed=needed, fix="Check the name.")


class _Network:
    """What a name stands for.

    Attributes:
        segmenter: None of an exported file.
        int8: of an exported file, whether it was quantised.
        sketch: the network without its numbers, None where nothing says what it is.
    """

    def __init__(self, name: str, options: Options) -> None:
        from ducseg.devices import pick_device
        from ducseg.inference.onnx_file import read_onnx
        from ducseg.inference.opening import is_exported
        from ducseg.models import Architecture, build
        from ducseg.weights.checkpoint import load_segmenter
        from ducseg.weights.structure import sketch

        self.name, self.device = name, pick_device(options.device)
        self.file = self.segmenter = None
        self.int8, architecture = False, None
        if _is_encoder(name):
            self.segmenter = build(name, **_built(options)).eval()
            architecture = self.segmenter.architecture
        elif is_exported(name):
            self.file = read_onnx(name)
            self.int8 = bool(self.file.description.get("int8"))
            described = self.file.description.get("architecture")
            architecture = None if described is None else Architecture.from_json(described)
        else:
            _check_known(name)
            self.segmenter = load_segmenter(name)
            architecture = self.segmenter.architecture
        self.sketch: Segmenter | None = None if architecture is None else sketch(architecture).eval()

    def variants(self, options: Options) -> Iterator[tuple[str, str, "Callable[[], AveragingLabeller]"]]:
        """(backend, dtype, what makes a fresh labeller), each."""
        from ducseg.inference.bench import CompiledPredictor
        from ducseg.inference.onnx_predictor import OnnxPredictor, onnx_device
        from ducseg.inference.predictor import Predictor

        if self.file is not None:
            yield (
                "onnxruntime",
                "int8" if self.int8 else "float32",
                partial(OnnxPredictor, self.file, onnx_device(options.device)),
            )
            return
        assert self.segmenter is not None
        for backend in options.backends:
            if backend == "onnxruntime":
                yield backend, "float32", partial(self._exported, options.device)
                continue
            for dtype in options.dtypes:
                given: dict[str, Any] = {"bf16": dtype == "bfloat16"}
                if backend != "compiled":
                    given["fused"] = backend == "folded"
                kind = CompiledPredictor if backend == "compiled" else Predictor
                yield backend, dtype, partial(kind, self.segmenter, self.device, **given)

    def _exported(self, device: str) -> "AveragingLabeller":
        from ducseg.export.onnx import description, exported_graph, with_description
        from ducseg.inference.onnx_file import parse_onnx
        from ducseg.inference.onnx_predictor import OnnxPredictor, onnx_device

        assert self.segmenter is not None
        segmenter = deepcopy(self.segmenter).cpu()  # the other backends' stays where it is
        content = with_description(exported_graph(segmenter), description(segmenter, "labels"))
        return OnnxPredictor(parse_onnx(Path(self.name), content), onnx_device(device))


def _rows(networks: dict[str, _Network], options: Options, size: tuple[int, int], count: int) -> list[dict[str, Any]]:
    """One a variant, of pictures of one size."""
    from ducseg.inference.bench import flops, measure, parameters

    variants = {
        (name, backend, dtype): make
        for name, network in networks.items()
        for backend, dtype, make in network.variants(options)
    }
    labellers = {" ".join(key): make() for key, make in variants.items()}
    timings = measure(labellers, count, *size, rounds=options.rounds)
    counted = {
        name: {
            "flops": None if one.sketch is None else flops(one.sketch, count, *size),
            "parameters": None if one.sketch is None else parameters(one.sketch),
        }
        for name, one in networks.items()
    }
    rows = []
    for key in variants:
        about = {"network": key[0], "backend": key[1], "dtype": key[2], "size": f"{size[0]}x{size[1]}", "batch": count}
        rows.append({**about, **timings[" ".join(key)].to_json(), **counted[key[0]]})
    return rows


def _stages(networks: dict[str, _Network], options: Options, sizes: list[tuple[int, int]]) -> Iterator[dict[str, Any]]:
    import numpy as np

    from ducseg.inference.bench import pictures_of
    from ducseg.inference.stages import stage_times
    from ducseg.inference.taken import pixels_taken

    for name, network in networks.items():
        if network.segmenter is None:
            continue
        pixels = pixels_taken(network.segmenter.preprocessing)
        for height, width in sizes:
            for dtype in options.dtypes:
                for count in options.batch_sizes:
                    pictures = np.stack(pictures_of(count, height, width, pixels))
                    found = stage_times(
                        network.segmenter, pictures, network.device, bf16=dtype == "bfloat16", rounds=options.rounds
                    )
                    yield {"network": name, "size": f"{height}x{width}", "batch": count, "dtype": dtype, "ms": found}


def _table(rows: list[dict[str, Any]]) -> "Table":
    from rich.box import SIMPLE
    from rich.table import Table

    title = (
        "pixels to labels, of a call: median and 95th percentile,\npictures a second, peak MB, millions of parameters"
    )
    table = Table(title=title, box=SIMPLE, padding=0)
    for name in ("network", "backend", "dtype", "NxHxW"):
        table.add_column(name, overflow="fold")
    for name in ("ms", "p95", "pics/s", "MB", "GFLOPs", "M"):
        table.add_column(name, justify="right")
    for row in rows:
        short = {"float32": "fp32", "bfloat16": "bf16"}.get(row["dtype"], row["dtype"])
        about = [Path(row["network"]).name, row["backend"], short, f"{row['batch']}x{row['size']}"]
        numbers = [row[key] for key in ("median_ms", "p95_ms", "pictures_per_second", "peak_mb", "flops", "parameters")]
        scaled = [value if value is None else value / by for value, by in zip(numbers, (1, 1, 1, 1, 1e9, 1e6))]
        shown = ["-" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}" for value in scaled]
        table.add_row(*about, *shown)
    failed = {
        f"{row['network']} {row['backend']} {row['dtype']}: {row['failed']}": None for row in rows if row["failed"]
    }
    table.caption = "\n".join(f"not run: {line}" for line in failed) or None
    return table
