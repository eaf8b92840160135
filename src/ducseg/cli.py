"""The command line: parses, calls one function, prints. Heavy imports wait for the commands, so help is instant."""

import difflib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ducseg import __version__
from ducseg.errors import UserError, explain
from ducseg.train.config import Config

__all__ = ["main"]

Folder = Annotated[Path, tyro.conf.arg(metavar="DIR")]
File = Annotated[Path, tyro.conf.arg(metavar="FILE")]


def demo(out: Folder = Path("demo"), *, seed: int = 0) -> int:
    """Make street scenes, train the bilinear baseline and DUC on them, score both, write a report (minutes on 2 cores).

    Args:
        out: folder for scenes, runs and report.html; an earlier demo there is replaced.
        seed: of the scenes' split, the weights and the order of the pictures.
    """
    from ducseg.demo import run_demo

    report = run_demo(out, seed=seed)
    print(f"report: {report}")
    return 0


@dataclass(frozen=True, kw_only=True)
class _TrainArguments:
    config: Annotated[Config, tyro.conf.arg(name="")]
    out: Folder
    """Run folder: config.json, log.jsonl, tensorboard/, checkpoints/, and links last and best."""
    resume: bool = False
    """Go on from the newest whole checkpoint in --out."""


def _train(arguments: Sequence[str]) -> int:
    """Train an experiment; every field of its configuration is an option (ducseg train EXPERIMENT --help)."""
    from ducseg.experiments import EXPERIMENTS

    if not arguments or arguments[0].startswith("-"):
        asked_for_help = bool(arguments) and arguments[0] in ("-h", "--help")
        print("usage: ducseg train EXPERIMENT [--section.field VALUE ...] [--out DIR] [--resume]\n")
        print(f"{_train.__doc__}\n\nexperiments (ducseg experiments describes them):")
        print("".join(f"  {name}\n" for name in EXPERIMENTS), end="")
        if asked_for_help:
            return 0
        raise explain("ducseg train", found="no experiment", needed="one of the names above", fix="Name it first.")
    name, *rest = arguments
    if name not in EXPERIMENTS:
        raise _unknown("experiment", name, EXPERIMENTS)
    default = _TrainArguments(config=EXPERIMENTS[name](), out=Path("runs") / name)
    parsed = tyro.cli(
        _TrainArguments, prog=f"ducseg train {name}", description=EXPERIMENTS[name].__doc__, default=default, args=rest
    )
    from ducseg.train.loop import EXIT_PREEMPTED, train

    command = " ".join(["ducseg train", *arguments])
    outcome = train(parsed.config, parsed.out, resume=parsed.resume, command=command)
    return 0 if outcome.finished else EXIT_PREEMPTED


def experiments() -> int:
    """List the experiments: what each one trains, and the command."""
    from ducseg.experiments import EXPERIMENTS

    for name, function in EXPERIMENTS.items():
        lines = [line.strip() for line in (function.__doc__ or "").strip().splitlines()]
        print(f"{name}\n" + "".join(f"    {line}\n" for line in lines if line))
    return 0


def evaluate(
    checkpoint: tyro.conf.Positional[Folder],
    /,
    *,
    split: str | None = None,
    scales: tuple[float, ...] = (1.0,),
    flip: bool = False,
    data_root: Folder | None = None,
    device: str = "auto",
    crf: tuple[File, ...] | None = None,
    json: File | None = None,
    panels: File | None = None,
) -> int:
    """Score a checkpoint on its data set: per-class IoU, mean IoU, pixel accuracy.

    Args:
        checkpoint: a checkpoint or run folder (then its best checkpoint).
        split: of the data set; default: the one the run validated on.
        scales: the probabilities are averaged over these sizes.
        flip: average over the mirrored picture too.
        data_root: where the data set lies now; default: where it lay in training.
        device: auto, cpu, cuda or cuda:N.
        crf: refine with the dense CRF: with the paper's settings, or those of a JSON file of crf-tune.
        json: also write the scores there.
        panels: also draw picture, truth and prediction of four pictures there (PNG).
    """
    from ducseg.commands import evaluate_checkpoint

    return evaluate_checkpoint(
        checkpoint,
        split=split,
        scales=scales,
        flip=flip,
        data_root=data_root,
        device=device,
        crf=crf,
        json_path=json,
        panels_path=panels,
    )


def predict(
    checkpoint: tyro.conf.Positional[Folder],
    inputs: tyro.conf.Positional[tuple[str, ...]],
    /,
    *,
    out: Folder,
    kinds: tuple[Literal["labels", "color", "overlay", "probabilities"], ...] = (),
    scales: tuple[float, ...] = (1.0,),
    flip: bool = False,
    device: str = "auto",
    crf: tuple[File, ...] | None = None,
    format: Literal["cityscapes", "kitti-road", "voc2012"] | None = None,
    split: str | None = None,
    fold: int | None = None,
    archive: Annotated[Path | None, tyro.conf.arg(name="zip", metavar="FILE")] = None,
    figure: File | None = None,
) -> int:
    """Predict pictures: label PNGs, colour maps, overlays with a legend. Exits with 1 if a file could not be read.

    With --format, write what a benchmark's server takes, from a data set's folder.

    Args:
        checkpoint: a checkpoint or run folder (then its best checkpoint), or an id on the Hugging Face Hub.
        inputs: files, folders (searched recursively) and globs, pictures of any size; with --format, the data set's
            folder.
        out: folder for the results; sub-folders of the inputs are kept.
        kinds: what to write (default: labels color overlay); probabilities are .npy files, float16 (classes, height,
            width).
        scales: the probabilities are averaged over these sizes.
        flip: average over the mirrored picture too.
        device: auto, cpu, cuda or cuda:N.
        crf: refine with the dense CRF: with the paper's settings, or those of a JSON file of crf-tune.
        format: whose names, values and sizes to write.
        split: with --format: default test.
        fold: with --format kitti-road and --split val: which fold.
        archive: with --format: also pack the results there (.zip, VOC .tar.gz).
        figure: with --format kitti-road: also draw up to six frames with the road in red there (PNG).
    """
    if format is not None:
        from ducseg.benchmark_commands import predict_for_server

        return predict_for_server(
            format, str(checkpoint), inputs, out, kinds=kinds, split=split, fold=fold, archive=archive, figure=figure,
            scales=scales, flip=flip, device=device, crf=crf,
        )  # fmt: skip
    given = {"split": split, "fold": fold, "zip": archive, "figure": figure}
    meant = [f"--{name}" for name, value in given.items() if value is not None]
    if meant:
        raise explain(" and ".join(meant), found="no --format", needed="one", fix="Add --format, or leave them out.")
    from ducseg.commands import predict_inputs

    kinds = kinds or ("labels", "color", "overlay")
    return predict_inputs(str(checkpoint), inputs, out, kinds=kinds, scales=scales, flip=flip, device=device, crf=crf)


def crf(
    probabilities: tyro.conf.Positional[Folder],
    inputs: tyro.conf.Positional[tuple[str, ...]],
    /,
    *,
    out: Folder,
    settings: tuple[File, ...] = (),
    kinds: tuple[Literal["labels", "color", "overlay", "probabilities"], ...] = ("labels",),
    classes: str | None = None,
) -> int:
    """Refine pictures with the dense CRF: a checkpoint's probabilities, or saved ones. Exits with 1 if one failed.

    Args:
        probabilities: a checkpoint or run folder, or a folder of NAME.npy or NAME_probabilities.npy, any floating type
            (classes, height, width), as `predict --kinds probabilities` writes them.
        inputs: files, folders (searched recursively) and globs: the pictures.
        out: folder for the results; sub-folders of the inputs are kept.
        settings: a JSON file of crf-tune; default: the paper's.
        kinds: what to write.
        classes: for colours, where the probabilities are saved ones: camvid, cityscapes, kitti-road, voc2012 or a
            classes.json.
    """
    from ducseg.crf_commands import refine_inputs

    return refine_inputs(probabilities, inputs, out, settings=settings, kinds=kinds, classes=classes)


def crf_tune(
    checkpoint: tyro.conf.Positional[Folder],
    /,
    *,
    out: Folder,
    sigma_alpha: tuple[float, ...] = (5.0, 15.0, 40.0),
    sigma_beta: tuple[float, ...] = (3.0, 8.0, 20.0),
    w1: tuple[float, ...] = (1.0, 3.0, 6.0),
    sigma_gamma: tuple[float, ...] = (1.0,),
    w2: tuple[float, ...] = (1.0, 3.0),
    iterations: tuple[int, ...] = (1, 5, 10),
    metric: Literal["mean_iou", "mean_boundary_iou"] = "mean_iou",
    split: str | None = None,
    pictures: int | None = None,
    scales: tuple[float, ...] = (1.0,),
    flip: bool = False,
    data_root: Folder | None = None,
    device: str = "auto",
) -> int:
    """Find the dense CRF's settings by grid search on a validation split: table, heat-maps, best.json for --crf.

    Args:
        checkpoint: a checkpoint or run folder (then its best checkpoint).
        out: folder for probabilities, counts and results; the same command goes on where it was stopped, a larger
            grid computes what is new.
        sigma_alpha: widths of the bilateral term in pixels.
        sigma_beta: widths of the bilateral term in grey levels.
        w1: weights of the bilateral term.
        sigma_gamma: widths of the Gaussian term in pixels.
        w2: weights of the Gaussian term.
        iterations: numbers of mean-field iterations.
        metric: which score decides.
        split: of the data set; default: the one the run validated on.
        pictures: so many, spread evenly over the split; default: all.
        scales: the probabilities are averaged over these sizes.
        flip: average over the mirrored picture too.
        data_root: where the data set lies now; default: where it lay in training.
        device: auto, cpu, cuda or cuda:N, for the network; the CRF runs on the CPU's cores.
    """
    from ducseg.crf.tune import Grid
    from ducseg.crf_commands import tune_checkpoint

    grid = Grid(
        sigma_alpha=sigma_alpha, sigma_beta=sigma_beta, w1=w1, sigma_gamma=sigma_gamma, w2=w2, iterations=iterations
    )
    return tune_checkpoint(
        checkpoint, out, grid, metric=metric, split=split, pictures=pictures, scales=scales, flip=flip,
        data_root=data_root, device=device,
    )  # fmt: skip


def _data(arguments: Sequence[str]) -> int:
    """Check, make, cut and convert data sets."""
    from ducseg.cli_data import DATA_COMMANDS

    return _below("ducseg data", "data command", _data.__doc__ or "", DATA_COMMANDS, arguments)


def _score(arguments: Sequence[str]) -> int:
    """Score a folder of predictions as the benchmark does: Cityscapes, KITTI road or PASCAL VOC2012."""
    from ducseg.cli_score import SCORES

    return _below("ducseg score", "benchmark", _score.__doc__ or "", SCORES, arguments)


def _below(
    prog: str,
    kind: str,
    description: str,
    commands: Mapping[str, tuple[Callable[[Sequence[str]], int], str]],
    arguments: Sequence[str],
) -> int:
    """Run one of the commands below a command, or list them."""
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(map(len, commands))
        rows = [f"  {name:<{width}}  {line}" for name, (_, line) in commands.items()]
        print("\n".join([f"usage: {prog} NAME ...", "", description, "", *rows, "", "Each has --help."]))
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in commands:
        raise _unknown(kind, name, commands)
    return commands[name][0](rest)


def hdc(
    rates: tyro.conf.Positional[tuple[int, ...]],
    /,
    *,
    kernel: int = 3,
    figure: File | None = None,
) -> int:
    """Check dilation rates for gridding: equation 2, exact coverage, receptive field. Exits with 1 on holes.

    Args:
        rates: dilation rates from the first layer to the last, e.g. 1 2 5 9.
        kernel: side of the kernels.
        figure: also draw the paper's Figure 2 for these rates.
    """
    from ducseg.ops.hdc import check, report

    print(report(rates, kernel))
    if figure is not None:
        from ducseg.figures.gridding import draw_gridding

        draw_gridding(rates, figure, kernel_size=kernel)
        print(f"figure: {figure}")
    return 0 if check(rates, kernel).ok else 1


def import_weights(
    source: tyro.conf.Positional[Literal["tusimple", "onnx-zoo"]],
    file: tyro.conf.Positional[File],
    /,
    *,
    out: Folder,
) -> int:
    """Turn the authors' released weights into a checkpoint: MXNet's .params file, or the ONNX zoo's export of it.

    Args:
        source: which kind of file.
        file: the file, such as ResNet_DUC_HDC_CityScapes-0000.params.
        out: folder to make.
    """
    from ducseg.weights.tusimple import import_file

    print(import_file(source, file, out))
    return 0


COMMANDS: dict[str, Callable[..., int]] = {
    "demo": demo,
    "train": _train,
    "experiments": experiments,
    "eval": evaluate,
    "predict": predict,
    "crf": crf,
    "crf-tune": crf_tune,
    "score": _score,
    "data": _data,
    "hdc": hdc,
    "import-weights": import_weights,
}
_OWN_PARSER = (_train, _data, _score)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 done with findings, 2 bad input, 75 interrupted and saved."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(given)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _dispatch(given: list[str]) -> int:
    if not given or given[0] in ("-h", "--help"):
        print(_usage())
        return 0 if given else 2
    if given[0] == "--version":
        print(f"ducseg {__version__}")
        return 0
    name, *rest = given
    if name not in COMMANDS:
        raise _unknown("command", name, COMMANDS)
    command = COMMANDS[name]
    if command in _OWN_PARSER:
        return command(rest)
    return tyro.cli(command, prog=f"ducseg {name}", args=rest)


def _usage() -> str:
    width = max(map(len, COMMANDS))
    rows = [f"  {name:<{width}}  {(function.__doc__ or '').splitlines()[0]}" for name, function in COMMANDS.items()]
    head = ["usage: ducseg COMMAND ...", "", "Pixel-accurate semantic segmentation with DUC and HDC.", ""]
    foot = [
        "",
        "Every command has --help. Exit status: 0 done, 1 done with findings, 2 bad input, 75 saved on SIGTERM.",
    ]
    return "\n".join([*head, *rows, *foot])


def _unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    close = difflib.get_close_matches(name, list(known), n=1)
    meant = f"Did you mean {close[0]}?" if close else "Pick one of these."
    return explain(kind, found=repr(name), needed=f"one of {', '.join(known)}", fix=meant)
