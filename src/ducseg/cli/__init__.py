"""The command line: parses, calls one function, prints. Heavy imports wait for the commands, so help is instant."""

import difflib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ducseg.cli.networks import crf, crf_tune, evaluate, import_weights, predict
from ducseg.errors import UserError, explain
from ducseg.train.config import Config
from ducseg.version import __version__

__all__ = ["main"]

Folder = Annotated[Path, tyro.conf.arg(metavar="DIR")]
File = Annotated[Path, tyro.conf.arg(metavar="FILE")]


def demo(out: Folder = Path("demo"), *, seed: int = 0) -> int:
    """Make street scenes, train the bilinear baseline and DUC on them, score both, write a report (minutes on 2 cores).

    Args:
        out: folder for scenes, runs and report.html; an earlier demo there is replaced.
        seed: of the scenes' split, the weights and the order of the pictures.
    """
    from ducseg.experiments.demo import run_demo

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


def _data(arguments: Sequence[str]) -> int:
    """Check, make, cut and convert data sets."""
    from ducseg.cli.data import DATA_COMMANDS

    return _below("ducseg data", "data command", _data.__doc__ or "", DATA_COMMANDS, arguments)


def _score(arguments: Sequence[str]) -> int:
    """Score a folder of predictions as the benchmark does: Cityscapes, KITTI road or PASCAL VOC2012."""
    from ducseg.cli.score import SCORES

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
