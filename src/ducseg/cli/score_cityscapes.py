"""`ducseg score cityscapes`."""

from dataclasses import dataclass
from typing import Literal

from ducseg.cli.options import Scored

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Scored):
    """Class and category IoU and iIoU as cityscapesScripts computes them; --gt is gtFine/SPLIT."""

    ids: Literal["label", "train"] | None = None
    """What the predictions hold; default: found by looking at all of them."""


def run(options: Options) -> int:
    """Print the table."""
    from rich.console import Console

    from ducseg.metrics.cityscapes import format_cityscapes_table, score_cityscapes
    from ducseg.metrics.confusion import write_json
    from ducseg.progress import counted

    with counted("scored") as progress:
        found = score_cityscapes(
            options.pred, options.gt, ids=options.ids, subset=options.subset, num_workers=options.workers,
            progress=progress,
        )  # fmt: skip
    Console().print(format_cityscapes_table(found))
    if options.json is not None:
        write_json(options.json, found)
    return 0
