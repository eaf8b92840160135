"""`ducseg train`: an experiment with every field of its configuration as an option, or a run to go on with."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from inspect import getdoc
from pathlib import Path
from typing import Annotated

import tyro

from ducseg.cli.options import Folder, unknown
from ducseg.errors import explain
from ducseg.train.config import Config

__all__ = ["Options", "parse", "run"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train an experiment; every field of its configuration is an option (ducseg train EXPERIMENT --help)."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    out: Folder
    """Run folder: config.json, log.jsonl, tensorboard/, checkpoints/, and links last and best."""
    resume: bool = False
    """Go on from the newest whole checkpoint in --out."""
    command: tyro.conf.Suppress[str] = ""


@dataclass(frozen=True, kw_only=True)
class _ResumeOptions:
    """Go on with a run from its newest checkpoint. All comes from RUN/config.json; options are for what has moved.

    What decides the result cannot change, but --optimizer.epochs may grow.
    """

    config: Annotated[Config, tyro.conf.arg(name="")]


def parse(arguments: Sequence[str]) -> Options:
    """The experiment is the first argument; its configuration holds the defaults of the options after it."""
    from ducseg.experiments import EXPERIMENTS

    if arguments and arguments[0].startswith("-") and "--resume" in arguments:
        return _parse_resume(arguments)
    if not arguments or arguments[0].startswith("-"):
        print("usage: ducseg train EXPERIMENT [--section.field VALUE ...] [--out DIR]")
        print("       ducseg train --resume RUN\n")
        print(f"{Options.__doc__}\n\nexperiments (ducseg experiments describes them):")
        print("".join(f"  {name}\n" for name in EXPERIMENTS), end="")
        if arguments and arguments[0] in ("-h", "--help"):
            raise SystemExit(0)
        raise explain("ducseg train", found="no experiment", needed="one of the names above", fix="Name it first.")
    name, *rest = arguments
    if name not in EXPERIMENTS:
        raise unknown("experiment", name, EXPERIMENTS)
    default = Options(config=EXPERIMENTS[name](), out=Path("runs") / name)
    described = getdoc(EXPERIMENTS[name])
    other = "--data-root"  # as eval and crf-tune have it
    rest = [given.replace(other, "--data.root", 1) if given.partition("=")[0] == other else given for given in rest]
    parsed = tyro.cli(Options, prog=f"ducseg train {name}", description=described, default=default, args=rest)
    return replace(parsed, command=" ".join(["ducseg train", *arguments]))


def _parse_resume(arguments: Sequence[str]) -> Options:
    from ducseg.train.run_folder import read_config

    place = arguments.index("--resume")
    if place + 1 == len(arguments) or arguments[place + 1].startswith("-"):
        raise explain("ducseg train --resume", found="no run folder", needed="one after it", fix="Give runs/NAME.")
    folder = Path(arguments[place + 1])
    default = _ResumeOptions(config=read_config(folder))
    rest = [*arguments[:place], *arguments[place + 2 :]]
    prog, described = f"ducseg train --resume {folder}", getdoc(_ResumeOptions)
    parsed = tyro.cli(_ResumeOptions, prog=prog, description=described, default=default, args=rest)
    return Options(config=parsed.config, out=folder, resume=True, command=" ".join(["ducseg train", *arguments]))


def run(options: Options) -> int:
    """Train; exit status 75 where SIGTERM and 130 where Ctrl-C ended it, with everything saved."""
    from ducseg.train.loop import EXIT_PREEMPTED, train

    outcome = train(options.config, options.out, resume=options.resume, command=options.command)
    if outcome.finished:
        return 0
    return 130 if outcome.stopped_by == signal.SIGINT else EXIT_PREEMPTED
