"""`ducseg score voc2012`."""

from dataclasses import dataclass

from ducseg.cli.options import Scored, print_scores

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Scored):
    """Mean IoU over the 21 classes as the development kit computes it; --gt is SegmentationClass."""

    image_set: str | None = None
    """A list of ids, by name (val) or file; default: every mask in --gt."""


def run(options: Options) -> int:
    """Print the table."""
    from ducseg.metrics.confusion import write_json
    from ducseg.metrics.voc2012 import score_voc2012
    from ducseg.progress import counted

    with counted("scored") as progress:
        found = score_voc2012(
            options.pred, options.gt, image_set=options.image_set, subset=options.subset, num_workers=options.workers,
            progress=progress,
        )  # fmt: skip
    print_scores(found)
    if options.json is not None:
        write_json(options.json, found)
    return 0
