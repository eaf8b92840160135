"""`ducseg report`: a page about runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ducseg.cli.options import File

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Write one self-contained HTML page about one run, or several side by side.

    `ducseg eval RUN --store` first adds the confusion matrix, recall by width, and the worst and median pictures.
    """

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN")]
    """Run folders of `ducseg train`; the first is what the others are compared with."""
    out: File = Path("report.html")
    """The page."""


def run(options: Options) -> int:
    """Print where the page is."""
    from ducseg.figures.report import write_report

    print(f"report: {write_report(options.runs, options.out)}")
    return 0
