"""`ducseg data check`: the doctor."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from ducseg.cli.options import File, help_text
from ducseg.data.config import DataConfig, PatchScheme

__all__ = ["Options", "parse", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(DataConfig):
    """Look at every file of a data set once and say all that is wrong: exit status 1 where something is."""

    dataset: tyro.conf.Positional[str] = field()
    """Its layout (docs/data.md): camvid, cityscapes, kitti-road, voc2012, split-folders or folder."""
    root: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DIR")] = field()
    """The folder that holds it."""
    workers: Annotated[int, tyro.conf.arg(help_behavior_hint="(default: one a core)")] = field(
        default_factory=lambda: os.cpu_count() or 1
    )
    """Processes."""
    json: File | None = None
    """Also write the whole report there."""
    # what only training does
    train_split: tyro.conf.Suppress[str] = "train"
    val_split: tyro.conf.Suppress[str] = "val"
    val_fraction: tyro.conf.Suppress[float] = 0.1
    test_fraction: tyro.conf.Suppress[float] = 0.0
    patches: tyro.conf.Suppress[PatchScheme | None] = None
    patches_root: tyro.conf.Suppress[str | None] = None
    coarse: tyro.conf.Suppress[bool] = False
    fold: tyro.conf.Suppress[int] = 0
    coco_root: tyro.conf.Suppress[str | None] = None
    allow_absent: tyro.conf.Suppress[bool] = False
    synthetic_scenes: tyro.conf.Suppress[tuple[int, int]] = DataConfig.synthetic_scenes
    synthetic_size: tyro.conf.Suppress[tuple[int, int]] = DataConfig.synthetic_size


def parse(arguments: Sequence[str]) -> Options:
    """Options as `train` and the messages spell them, --data.values, are taken too."""
    given = ["--" + one.removeprefix("--data.") if one.startswith("--data.") else one for one in arguments]
    for place, one in enumerate(given):
        if one.partition("=")[0] in ("--root", "--data-root"):  # which stands second here
            root = [one.partition("=")[2]] if "=" in one else given[place + 1 : place + 2]
            rest = given[:place] + given[place + (1 if "=" in one else 2) :]
            given = rest[:1] + root + rest[1:]
            break
    return tyro.cli(Options, prog="ducseg data check", description=help_text(Options), args=given)


def run(options: Options) -> int:
    """Exit status 1 where something is wrong."""
    from ducseg.data.check.report import check_and_print

    return check_and_print(options, num_workers=options.workers, json_path=options.json)
