"""`ducseg score folder`."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from ducseg.cli.options import File, PerPicture, Scored, Thin, class_list, print_scores
from ducseg.errors import whole

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(PerPicture, Scored, Thin):
    """Score masks against masks, read as the folder layout reads them: mean and per-class IoU, pixel accuracy.

    --pred holds NAME.png, or what `ducseg predict` wrote, for each mask of --gt.
    """

    classes: File
    """A classes.json, or the run folder of a network."""
    masks_as: Annotated[Literal["index", "colour"] | None, tyro.conf.arg(aliases=["--data.masks-as"])] = None
    """What the masks hold, values or the colours of --classes; default: found by looking."""
    values: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--data.values"])] = ()
    """What the masks' values mean: 0=background 255=crack 128=ignore."""
    ignore_value: Annotated[int | None, tyro.conf.arg(aliases=["--data.ignore-value"])] = None
    """A value of the masks that is not counted, as 255 is where it is no class."""


def run(options: Options) -> int:
    """Print the table."""
    from ducseg.metrics.confusion import write_json
    from ducseg.metrics.folder import score_folder
    from ducseg.progress import counted

    classes = class_list(options.classes)
    if options.ignore_value is not None:
        whole("--ignore-value", options.ignore_value, fix="Leave it out where 255 is ignored.")
    with counted("scored") as progress:
        found = score_folder(
            options.pred, options.gt, classes, masks_as=options.masks_as, values=options.values,
            ignore_value=options.ignore_value, thin=options.thin_counts, subset=options.subset,
            csv=options.csv, num_workers=options.workers, progress=progress,
        )  # fmt: skip
    print(*(found[key] for key in ("masks", "names") if key in found), sep="\n")
    if "no_data" in found:
        print(f"left out: {found['no_data']} pixels in which predictions of rasters say that there are no data")
    print_scores(found)
    options.show(found)
    if options.json is not None:
        write_json(options.json, found)
    return 0
