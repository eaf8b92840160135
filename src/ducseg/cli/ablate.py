"""`ducseg ablate`: the paper's tables, and questions of ours, run row by row and printed beside the paper's numbers.

Options of a configuration (`--data.workers 2`, `--model.encoder resnet50`) change every row alike.
"""

import itertools
import shlex
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ducseg.cli.options import File, Folder, folded, help_text, unknown
from ducseg.errors import explain, typed

if TYPE_CHECKING:
    from ducseg.experiments.ablations.jobs import Job
    from ducseg.experiments.ablations.ours import Ours
    from ducseg.experiments.ablations.rows import Row, Table
    from ducseg.experiments.ablations.small import Setting
    from ducseg.train.config import Config

__all__ = ["Options", "parse", "run"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Run the rows of a table and print it: the paper's number, ours with seeds and spread, or "not run".

    TABLE: table1 to table6, deconv, crf (the paper's); heads, dilation, aspp, cell, augmentation, testing, comparisons
    (ours).
    Rows that are finished are skipped; several processes may run the same command on one --out; a killed one is taken
    up. Every field of a configuration is an option too, for all rows alike (--data.workers 2, --model.encoder resnet50,
    as in `ducseg train EXPERIMENT --help`).
    """

    table: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TABLE")]
    """Which one."""
    data: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME [DIR]")]
    """cityscapes, camvid, cityscapes256 or folder, kitti-road (table5), voc2012 (table6), each with its folder; or
    synthetic, which is drawn."""
    scale: Literal["full", "small"] = "small"
    """full: the paper's own setting; small: the same question on a small encoder, small crops, few epochs."""
    seeds: int = 3
    """Runs of each row: seeds 0, 1, ..."""
    rows: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ROW ...")] = ()
    """Some of the table's rows; default: all."""
    out: Folder = Path("ablations")
    """results.jsonl, runs/, and the table as TABLE-DATA-SCALE.md."""
    epochs: int | None = None
    """Of each run; short for --optimizer.epochs."""
    steps: int | None = None
    """Of each run, in place of epochs; short for --optimizer.steps."""
    minutes: float | None = None
    """Of each run, in place of epochs: short for --optimizer.epochs None --run.minutes."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    dry_run: bool = False
    """Only list what would run, with the command for each row by hand."""
    show: bool = False
    """Only print and write the table, from the results that are there."""
    widths: bool = False
    """Only score trained rows by the width of objects, from their checkpoints: recall, clDice, F1 within pixels."""
    time: int | None = None
    """Only time the rows' networks, in turn, with so many pictures at once (1; a GPU is filled by 16)."""
    figure: File | None = None
    """Also draw mean IoU, and that of the thin classes, against time a picture there (.png, .pdf, .svg)."""
    submit: bool = False
    """Also write what the benchmark's server takes of the test split, into OUT/submissions."""
    discard: bool = False
    """Delete a run's checkpoints once its scores are recorded; rows that look at them again train anew."""
    overrides: tyro.conf.Suppress[tuple[str, ...]] = ()
    command: tyro.conf.Suppress[str] = ""


def parse(arguments: Sequence[str]) -> Options:
    """What is no option of the command is one of the configurations."""
    options, rest = tyro.cli(
        Options, prog="ducseg ablate", description=help_text(Options), args=list(arguments), return_unknown_args=True
    )
    return replace(options, overrides=tuple(rest), command=shlex.join(["ducseg", "ablate", *arguments]))


def run(options: Options) -> int:
    """Print the table; exit status 1 where a row failed, 75 and 130 where a signal ended it with all saved."""
    from ducseg.experiments.ablations.running import Running, run_jobs, score_widths

    asked = _asked(options)
    if options.dry_run:
        _print_plan(options, asked)
        return 0
    if options.time is not None:
        from ducseg.experiments.ablations.timing import time_rows

        time_rows(asked.jobs, asked.results, count=options.time, say=_say)
    if options.widths:
        score_widths(asked.jobs, asked.results, Running(say=_say))
    ran = None
    if not (options.show or options.widths or options.time is not None):
        submissions = options.out / "submissions" if options.submit else None
        how = Running(say=_say, command=options.command, discard=options.discard, submissions=submissions)
        ran = run_jobs(asked.jobs, asked.results, how)
        if ran.stopped_by is not None:
            return 130 if ran.stopped_by == signal.SIGINT else 75
    _print_table(options, asked)
    for name in ran.busy if ran is not None else ():
        _say(f"another process is at {name}")
    for name, why in ran.failed.items() if ran is not None else ():
        _say(f"failed: {name}: {why}")
    return 1 if ran is not None and ran.failed else 0


def _say(line: str) -> None:
    print(line, flush=True)


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What the options come to.

    Attributes:
        reasons: why a row cannot be run, by its name.
    """

    table: "Table"
    setting: "Setting"
    rows: "list[Row]"
    jobs: "list[Job]"
    reasons: dict[str, str]
    results: Any


def _asked(options: Options) -> _Asked:
    from ducseg.experiments.ablations.drawn import is_there, with_pictures
    from ducseg.experiments.ablations.jobs import make_jobs
    from ducseg.experiments.ablations.results import Results
    from ducseg.experiments.ablations.small import DATA, Setting, configure
    from ducseg.experiments.ablations.tables import TABLES

    if options.table not in TABLES:
        raise unknown("table", options.table, TABLES)
    table = TABLES[options.table]
    name, *root = options.data or ("",)
    if name not in DATA:
        raise unknown("--data", name, DATA)
    if len(root) != (0 if name == "synthetic" else 1):
        needed = "no folder: it is drawn" if name == "synthetic" else "the folder of the data set behind its name"
        raise explain(f"--data {name}", found=" ".join(root) or "nothing more", needed=needed, fix="Correct it.")
    for flag, value in {"--seeds": options.seeds, "--time": options.time}.items():
        if value is not None and value < 1:
            raise explain(flag, found=value, needed="at least 1", fix="Give 3." if flag == "--seeds" else "Give 1.")
    names = {row.name: row for row in table.rows}
    for asked in options.rows:
        if asked not in names:
            raise unknown(f"row of {table.name}", asked, names)
    rows = [row for row in table.rows if not options.rows or row.name in options.rows]
    setting = Setting(data=name, root=root[0] if root else None, small=options.scale == "small")
    override = _override(options)
    made = [(row.name, configure(table, row, setting)) for row in rows]  # refuses data before anything is written
    reasons = {name: one for name, one in made if isinstance(one, str)}
    jobs: list[Job] = []
    if not options.dry_run or is_there(table, setting, options.out):
        setting = with_pictures(table, setting, options.out)
        jobs, reasons = make_jobs(table, rows, setting, range(options.seeds), override, options.out / "runs")
    results = Results(options.out)
    return _Asked(table=table, setting=setting, rows=rows, jobs=jobs, reasons=reasons, results=results)


def _override(options: Options) -> "Callable[[Config], Config]":
    """What the command line changes of a row's configuration."""
    from ducseg.train.config import Config

    given: list[str] = ["--run.device", options.device]
    if options.epochs is not None:
        given += ["--optimizer.epochs", str(options.epochs)]
    if options.steps is not None:
        given += ["--optimizer.steps", str(options.steps)]
    if options.minutes is not None:
        given += ["--optimizer.epochs", str(options.epochs), "--run.minutes", str(options.minutes)]
    given += options.overrides
    return lambda config: tyro.cli(Config, prog="ducseg ablate TABLE", default=config, args=given)


def _print_plan(options: Options, asked: _Asked) -> None:
    """What would run, a line a row: how many seeds are done, and the command of that row by hand."""
    from ducseg.experiments.ablations.page import described

    for line in described(asked.table, asked.setting, asked.jobs):
        print(folded(line))
    for row in asked.rows:
        if row.name in asked.reasons:
            print(f"{row.name}: not run, {asked.reasons[row.name]}")
            continue
        mine = [job for job in asked.jobs if row in job.rows]
        done = sum(row not in job.without_result(asked.results) for job in mine)
        print(f"{row.name}: {row.title}; {done} of {options.seeds} seeds done")
        print(*(f"    {line}" for line in _by_hand(options, row)), sep="\n")


def _by_hand(options: Options, row: "Row") -> list[str]:
    """The commands that run one row alone."""
    if options.scale == "full" and row.config is not None and not row.change and not options.overrides:
        names = [config().name for config in (*row.before, row.config)]
        lines = [f"ducseg train {name} --data.root {typed(*options.data[1:])}" for name in names]
        crf = {"": [], "paper": ["--crf"]}.get(row.scoring.crf, ["--crf", row.scoring.crf])
        looked = ["--scales", *map(str, row.scoring.scales)] if len(row.scoring.scales) > 1 else []
        looked += ["--flip"] * row.scoring.flip + crf
        return [*lines, *([f"ducseg eval runs/{names[-1]} {' '.join(looked)}"] if looked else [])]
    words = shlex.split(options.command)[2:]
    kept = [word for word in words if word != "--dry-run"]
    if "--rows" in kept:
        start = kept.index("--rows")
        end = next((i for i in range(start + 1, len(kept)) if kept[i].startswith("--")), len(kept))
        del kept[start:end]
    return [typed("ducseg", "ablate", *kept, "--rows", row.name)]


def _print_table(options: Options, asked: _Asked) -> None:
    from ducseg.experiments.ablations.page import markdown
    from ducseg.files import write_whole

    found = _found(asked)
    page = markdown(asked.table, asked.setting, asked.jobs, found, command=options.command)
    path = options.out / f"{asked.table.name}-{asked.setting.data}-{options.scale}.md"
    write_whole(path, page.encode())
    print(_fitted(page, shutil.get_terminal_size().columns))
    print(f"written: {path}")
    if options.figure is not None:
        print(f"drawn: {_draw(asked, found, options.figure)}")


def _fitted(page: str, width: int) -> str:
    """A page for a terminal: text folded, tables without the columns that have no room (the file has them)."""
    lines = []
    for is_table, group in itertools.groupby(page.splitlines(), lambda line: line.startswith("|")):
        if not is_table:
            lines += [folded(line) for line in group]
            continue
        rows = [line[1:-1].split("|") for line in group]
        kept = list(range(len(rows[0])))
        while 1 + sum(len(rows[0][column]) + 1 for column in kept) > width and len(kept) > 1:
            titles = [column for column in kept if rows[0][column].strip() == "what"]
            kept.remove((titles or kept)[-1])
        lines += [f"|{'|'.join(row[column] for column in kept)}|" for row in rows]
    return "\n".join(lines)


def _found(asked: _Asked) -> "list[Ours]":
    from ducseg.experiments.ablations.ours import ours
    from ducseg.experiments.ablations.timing import times_of

    times = times_of(asked.rows, asked.jobs, asked.results.lines("time"))
    lines, widths = asked.results.lines(), asked.results.lines("widths")
    return ours(asked.rows, asked.jobs, asked.reasons, lines, times, widths)


def _draw(asked: _Asked, found: "list[Ours]", path: Path) -> Path:
    """A line a head; a point is named by its stride where that tells a head's rows apart, else by its row."""
    from collections import Counter

    from ducseg.experiments.ablations.ours import mean_and_spread
    from ducseg.experiments.ablations.timing import how
    from ducseg.figures.trade_off import Point, draw_trade_off

    models = {row.name: job.config.model for job in asked.jobs for row in job.rows}
    drawn = [one for one in found if one.lines and one.time is not None]
    places = Counter((models[one.row.name].head, models[one.row.name].output_stride) for one in drawn)
    points, time = [], ""
    for one in drawn:
        assert one.time is not None
        model, time = models[one.row.name], how(one.time)
        label = str(model.output_stride) if max(places.values()) == 1 else one.row.name
        scores = {name: mean_and_spread(values) for name, values in one.scored.items() if values}
        points.append(Point(series=model.head, label=label, ms=one.time["ms"], scores=scores))
    counts = sorted({len(one.lines) for one in drawn}) or [0]
    seeds = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    config = asked.jobs[0].config
    title = f"{asked.setting.data} {config.data.val_split}, {config.model.encoder}, seeds: {seeds}"
    title += ", numbers: output stride" if max(places.values(), default=0) == 1 else ""
    return draw_trade_off(points, path, title=title, time=time)
