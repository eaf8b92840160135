"""What `ducseg data check` prints: one table, then what is wrong and how to go on."""

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ducseg.data.check.doctor import Report, check_dataset, joined
from ducseg.data.config import DataConfig
from ducseg.errors import listed
from ducseg.files import write_whole
from ducseg.progress import counted

__all__ = ["as_table", "check_and_print"]

CHECKS = (
    "masks", "empty split", "same name", "missing partner", "unreadable", "wrong mode", "sizes differ", "places differ",
    "stray values", "train ids", "leak between splits", "duplicate", "unusual mode", "class never seen",
    "class not validated",
)  # fmt: skip
_MOST_SHOWN, _MOST_FOLDERS = 5, 4


def check_and_print(config: DataConfig, *, num_workers: int = 1, json_path: Path | None = None) -> int:
    """Check a data set, print the table and the first findings of each kind; exit status 0, or 1 with errors.

    Args:
        config: the data set, as training would be told of it.
        num_workers: processes.
        json_path: also write the whole report there.

    Raises:
        UserError: as `check_dataset`; a JSON file that cannot be written.
    """
    with counted("files") as progress:
        report = check_dataset(config, num_workers=num_workers, progress=progress)
    console = Console()
    console.print(as_table(report))
    for line in (*report.notes, *_lines(report)):
        console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)
    if json_path is not None:
        write_whole(json_path, (json.dumps(report.to_json(), indent=1) + "\n").encode(), option="--json")
    return 0 if report.ok else 1


def as_table(report: Report) -> Table:
    """Rows: files, each check that found something, each class's share of the labelled pixels; columns: splits, or one
    of all where many folders are none."""
    table = Table(title=Text(f"{report.dataset} in {report.root}"))
    table.add_column("")
    columns = {name: [name] for name in report.splits}
    if not report.are_splits and len(columns) > _MOST_FOLDERS:
        columns = {f"all {len(columns)} folders": list(columns)}
    for name in columns:
        table.add_column(Text(name), justify="right")
    splits = [joined([report.splits[name] for name in names]) for names in columns.values()]
    table.add_row("images", *(str(split.images) for split in splits))
    table.add_row("labels", *(str(split.labels) for split in splits))
    table.add_row("size (H x W)", *(_sizes(list(split.sizes)) for split in splits))
    table.add_section()
    for kind in (one for one in CHECKS if report.are_splits or "split" not in one):
        numbers = [_number(report, kind, names) for names in columns.values()]
        if any(numbers):
            table.add_row(kind, *(str(number or "-") for number in numbers), style="bold")
    table.add_section()
    for name in splits[0].classes:
        shares = [_share(split.classes[name], split.classes.values()) for split in splits]
        if any(share != "-" for share in shares):
            table.add_row(Text(name), *shares)
    return table


def _sizes(sizes: list[str]) -> str:
    return listed(sizes, 2)


def _number(report: Report, kind: str, splits: Collection[str]) -> int:
    return sum(finding.kind == kind and not set(splits).isdisjoint(finding.splits) for finding in report.findings)


def _share(found: Mapping[str, int], classes: Iterable[Mapping[str, int]]) -> str:
    """Per cent of the labelled pixels, and how many images show the class."""
    total = sum(one["pixels"] for one in classes)
    if not total:
        return "-"
    return f"{100 * found['pixels'] / total:.2f} % in {found['images']}"


def _lines(report: Report) -> list[str]:
    lines = []
    together = any(finding.kind == "masks" for finding in report.findings)  # which says it of all, and what to do
    for kind in CHECKS:
        found = [finding for finding in report.findings if finding.kind == kind]
        most = 0 if together and kind == "stray values" else _MOST_SHOWN
        for finding in found[:most]:
            said = finding.message.removeprefix(f"{kind}: ")
            lines.append(f"{'error' if finding.is_error else 'warning'}: {kind}: {said}")
        if len(found) > most:
            lines.append(f"... and {len(found) - most} more: {kind} (all of them with --json FILE)")
    errors, warnings = len(report.errors), len(report.findings) - len(report.errors)
    pictures = sum(split.images for split in report.splits.values())
    rate = pictures / report.seconds / report.num_workers
    lines.append(
        f"{errors} errors, {warnings} warnings; {pictures} images in {report.seconds:.1f} s, {rate:.1f} a second and "
        f"process"
    )
    return lines
