"""`ducseg data check`: the doctor."""

from dataclasses import dataclass
from typing import Literal

import tyro

from ducseg.cli.options import File, Folder, Workers

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Workers):
    """Look at every file of a data set once and say all that is wrong: exit status 1 where something is."""

    dataset: tyro.conf.Positional[Literal["cityscapes", "camvid", "kitti-road", "voc2012", "split-folders", "folder"]]
    """Its layout (docs/data.md)."""
    root: tyro.conf.Positional[Folder]
    """The folder that holds it."""
    classes: File | None = None
    """folder and split-folders: a classes.json elsewhere than in the folder."""
    json: File | None = None
    """Also write the whole report there."""


def run(options: Options) -> int:
    """Exit status 1 where something is wrong."""
    from ducseg.data.check.report import check_and_print

    return check_and_print(
        options.dataset, options.root, classes=options.classes, num_workers=options.workers, json_path=options.json
    )
