"""`ducseg train`: one's own folder with a plan made for it, an experiment, or a run to go on with.

Every field of the configuration is an option; a plan's or an experiment's values are the defaults.
"""

import difflib
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import tyro

from ducseg.cli.options import Folder, folded, help_text, print_scores
from ducseg.errors import UserError, explain, typed
from ducseg.files import PLAN
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
class _PlannedOptions(Options):
    """What a folder's options come to with its plan."""

    plan: Sequence[str]
    plan_only: bool


@dataclass(frozen=True, kw_only=True)
class _FolderOptions:
    """Train on a folder of your own pictures and masks: looks at them, plans, says why, trains, scores, reports.

    Every field of the configuration is an option; what is not given is planned.
    """

    config: Annotated[Config, tyro.conf.arg(name="")]
    out: Folder
    """Run folder: config.json, plan.txt, log.jsonl, checkpoints/, report.html, and links last and best."""
    minutes: Annotated[float, tyro.conf.arg(metavar="M")] = 15.0
    """How long training may take, evaluation included."""
    plan_only: bool = False
    """Print the plan and stop; nothing is written."""


@dataclass(frozen=True, kw_only=True)
class _ResumeOptions:
    """Go on with a run from its newest checkpoint. All comes from RUN/config.json; options are for what has moved.

    What decides the result cannot change, but --optimizer.epochs and steps may grow, and --minutes (in all).
    """

    config: Annotated[Config, tyro.conf.arg(name="")]


def parse(arguments: Sequence[str]) -> Options:
    """The folder or the experiment is the first argument; its configuration holds the defaults of what follows."""
    from ducseg.experiments import EXPERIMENTS

    if arguments and arguments[0].startswith("-") and any(one.partition("=")[0] == "--resume" for one in arguments):
        return _parse_resume(arguments)
    if not arguments or arguments[0].startswith("-"):
        print("usage: ducseg train DIR [--minutes M] [--plan-only] [--section.field VALUE ...]")
        print("       ducseg train EXPERIMENT [--section.field VALUE ...] [--out DIR]")
        print("       ducseg train --resume RUN\n")
        print(f"{folded(Options.__doc__ or '')}\n\nexperiments (ducseg experiments describes them):")
        print("".join(f"  {name}\n" for name in EXPERIMENTS), end="")
        if arguments and arguments[0] in ("-h", "--help"):
            raise SystemExit(0)
        raise explain(
            "ducseg train", found="no folder, no name", needed="a folder or a name above", fix="Name it first."
        )
    name, *rest = arguments
    if name not in EXPERIMENTS:
        if Path(name).expanduser().is_dir():
            return _parse_folder(name, arguments)
        raise _nothing_of(name, EXPERIMENTS)
    default = Options(config=EXPERIMENTS[name](), out=Path("runs") / name)
    prog, description = f"ducseg train {name}", help_text(EXPERIMENTS[name])
    parsed = tyro.cli(Options, prog=prog, description=description, default=default, args=_spelled(rest))
    return replace(parsed, command=" ".join(["ducseg train", *arguments]))


def _nothing_of(name: str, experiments: Iterable[str]) -> UserError:
    """The error for a name that is neither a folder nor an experiment, with those that it may be meant for."""
    place, folders = Path(name).expanduser(), dict[str, str]()
    with suppress(OSError):
        folders = {one.name: str(Path(name).with_name(one.name)) for one in place.parent.iterdir() if one.is_dir()}
    is_path = "/" in name or place.exists()
    close = difflib.get_close_matches(place.name, [*folders, *(() if is_path else experiments)], n=3)
    meant = f"Did you mean {' or '.join(folders.get(one, one) for one in close)}? " if close else ""
    if is_path:
        found, fix = "a file" if place.exists() else "nothing there", meant or "Check the path."
        return explain(f"ducseg train {place.absolute()}", found=found, needed="a folder of pictures", fix=fix.strip())
    return explain(
        "ducseg train",
        found=f"{name!r}: no folder of that name here ({Path.cwd()}) and no experiment",
        needed="a folder of pictures, or an experiment",
        fix=f"{meant}`ducseg experiments` lists the experiments.",
    )


def _parse_folder(name: str, arguments: Sequence[str]) -> Options:
    """Parsed twice: the plan needs to know the data's options, and is the default of all others."""
    from ducseg.data.config import DataConfig

    folder = Path(name).expanduser()
    if (folder / "config.json").is_file() and (folder / "checkpoints").is_dir():
        fix = f"Go on with it: ducseg train --resume {typed(name)}; or name the folder of the pictures."
        raise explain(f"ducseg train {name}", found="the folder of a run", needed="a folder of pictures", fix=fix)
    title = folder.resolve().name
    config = Config(name=title, data=DataConfig(dataset="folder", root=str(folder)))
    default = _FolderOptions(config=config, out=Path("runs") / title)
    prog, description = f"ducseg train {name}", help_text(_FolderOptions)
    rest = _spelled(arguments[1:])
    given = tyro.cli(_FolderOptions, prog=prog, description=description, default=default, args=rest)

    if not given.minutes > 0:
        raise explain("--minutes", found=f"{given.minutes:g}", needed="a number above 0", fix="Without it they are 15.")

    from ducseg.data.layouts.opening import naming_the_check
    from ducseg.devices import pick_device
    from ducseg.train.checkpoint import CheckpointFolder
    from ducseg.train.plan import make_plan, this_machine
    from ducseg.train.run_folder import check_unused

    if not given.plan_only:
        check_unused(given.out, CheckpointFolder(given.out, keep_last=1).last())
    machine = this_machine(pick_device(given.config.run.device, 0, option="--run.device"))
    with naming_the_check(given.config.data):
        plan = make_plan(given.config.data, minutes=given.minutes, machine=machine)

    def parse(planned: Config) -> _FolderOptions:
        return tyro.cli(_FolderOptions, prog=prog, default=replace(default, config=planned), args=rest)

    plan = plan.for_given(parse(plan.config).config)
    parsed = parse(plan.config)  # again: what is given may be just what was planned before
    plan = replace(plan, config=parsed.config)
    plan.config.check()
    command = " ".join(["ducseg train", *arguments])
    return _PlannedOptions(
        config=plan.config, out=parsed.out, command=command, plan=plan.lines(), plan_only=parsed.plan_only
    )


def _spelled(arguments: Sequence[str], more: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """With --data.root for --data-root, as eval and crf-tune have it, and `more` such."""
    names = {"--data-root": "--data.root", **more}
    return [one.replace(name := one.partition("=")[0], names.get(name, name), 1) for one in arguments]


def _parse_resume(given: Sequence[str]) -> Options:
    from ducseg.train.run_folder import read_config

    split = (one.split("=", 1) if one.startswith("--resume=") else [one] for one in given)
    arguments = [part for parts in split for part in parts]
    place = arguments.index("--resume")
    if place + 1 == len(arguments) or arguments[place + 1].startswith("-"):
        raise explain("ducseg train --resume", found="no run folder", needed="one after it", fix="Give runs/NAME.")
    folder = Path(arguments[place + 1])
    default = _ResumeOptions(config=read_config(folder))
    rest = _spelled([*arguments[:place], *arguments[place + 2 :]], {"--minutes": "--run.minutes"})
    prog, description = f"ducseg train --resume {folder}", help_text(_ResumeOptions)
    parsed = tyro.cli(_ResumeOptions, prog=prog, description=description, default=default, args=rest)
    return Options(config=parsed.config, out=folder, resume=True, command=" ".join(["ducseg train", *arguments]))


def run(options: Options) -> int:
    """Train; exit status 75 where SIGTERM and 130 where Ctrl-C ended it, with everything saved."""
    plan: Sequence[str] = ()
    if isinstance(options, _PlannedOptions):
        plan = options.plan
        fit = folded if sys.stdout.isatty() else str
        print(f"plan for {options.config.data.root}:", *(fit(f"  {line}") for line in plan), sep="\n")
        if options.plan_only:
            return 0

    from ducseg.train.loop import EXIT_PREEMPTED, train

    outcome = train(options.config, options.out, resume=options.resume, command=options.command, plan=plan)
    if not outcome.finished:
        return 130 if outcome.stopped_by == signal.SIGINT else EXIT_PREEMPTED
    reported = not outcome.went_on and (options.out / "report.html").is_file()
    if outcome.is_main and (options.out / PLAN).is_file() and not reported:
        _report(options.out)
    return 0


def _report(run_folder: Path) -> None:
    """What ends a planned run: score the best checkpoint on the validation split, and write the page about the run."""
    from ducseg.data.layouts.grouping import group_function
    from ducseg.data.layouts.opening import open_dataset
    from ducseg.devices import pick_device
    from ducseg.figures.report import write_report
    from ducseg.inference.predictor import load_predictor
    from ducseg.inference.store import evaluate_and_store
    from ducseg.train.run_folder import read_config

    config = read_config(run_folder)
    device = pick_device(config.run.device, 0)
    bf16 = config.run.eval_bf16
    best = load_predictor(run_folder, device, bf16=bf16)
    split = config.data.val_split
    dataset = open_dataset(config.data, split, best.model.classes)
    group = group_function(config.data.group_by)
    found = evaluate_and_store(run_folder, split, best, dataset, group=group, bf16=bf16)
    print(f"the best checkpoint on {split}{', in bf16' if bf16 else ''}:")
    print_scores(found)
    print(f"report: {write_report([run_folder], run_folder / 'report.html')}")
    print(f"next: ducseg predict {typed(run_folder)} PICTURES... --out DIR; the report has more")
