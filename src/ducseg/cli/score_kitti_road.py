"""`ducseg score kitti-road`."""

from dataclasses import dataclass
from typing import Literal

from ducseg.cli.options import File, Folder, Scored

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Scored):
    """MaxF, AP, PRE, REC, FPR, FNR per category and URBAN as the development kit computes them; --gt is gt_image_2."""

    calib: Folder | None = None
    """Folder of the calibration files; default: calib beside --gt."""
    view: Literal["bev", "perspective"] = "bev"
    """bev: in the bird's-eye view, as the benchmark; results of image size are transformed first."""
    figure: File | None = None
    """Also draw precision over recall there."""


def run(options: Options) -> int:
    """Print the table."""
    from rich.console import Console

    from ducseg.metrics.confusion import write_json
    from ducseg.metrics.kitti_road import format_road_table, road_scores
    from ducseg.metrics.kitti_road_files import count_kitti_road
    from ducseg.progress import counted

    with counted("scored") as progress:
        counts = count_kitti_road(
            options.pred, options.gt, calib=options.calib, view=options.view, subset=options.subset,
            num_workers=options.workers, progress=progress,
        )  # fmt: skip
    found = road_scores(counts)
    Console().print(format_road_table(found))
    if options.json is not None:
        write_json(options.json, found)
    if options.figure is not None:
        from ducseg.figures.precision_recall import draw_precision_recall

        draw_precision_recall(counts, options.figure)
    return 0
