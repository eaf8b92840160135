"""`ducseg data check`: the doctor."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from ducseg.cli.options import File, help_text
from ducseg.cores import available_cores
from ducseg.data.config import OWN_CLASSES, DataConfig

__all__ = ["Options", "parse", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(DataConfig):
    """Look at every file of a data set once and say all that is wrong: exit status 1 where something is."""

    dataset: tyro.conf.Positional[str] = field()
    """Its layout (docs/data.md): camvid, cityscapes, kitti-road, voc2012, split-folders, or folder, your own, which may
    be left out."""
    root: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DIR")] = field()
    """The folder that holds it."""
    workers: Annotated[int, tyro.conf.arg(help_behavior_hint="(default: one a core)")] = field(
        default_factory=available_cores
    )
    """Processes."""
    json: File | None = None
    """Also write the whole report there."""


_TRAINING = ("allow_absent", "coarse", "coco_root", "memory", "patches", "patches_root")
_OF_SPLITS = ("fold", "train_split")
"""What only training does; what is only looked at where splits are drawn, of the user's own classes."""


def parse(arguments: Sequence[str]) -> Options:
    """Options as `train` and the messages spell them, --data.values, are taken too."""
    given = ["--" + one.removeprefix("--data.") if one.startswith("--data.") else one for one in arguments]
    for stands, names in enumerate((("--dataset",), ("--root", "--data-root"))):
        for place, one in enumerate(given):
            if one.partition("=")[0] in names:  # which stands first, or second, here
                value = [one.partition("=")[2]] if "=" in one else given[place + 1 : place + 2]
                rest = given[:place] + given[place + (1 if "=" in one else 2) :]
                again = rest[stands : stands + 1] == value
                given = rest if again else rest[:stands] + value + rest[stands:]
                break
    if [one.startswith("-") for one in [*given, "-"][:2]] == [False, True]:  # one alone: a folder, as of `train DIR`
        from ducseg.data.layouts.opening import LAYOUTS

        given[:0] = [] if given[0] in LAYOUTS else ["folder"]
    return tyro.cli(Options, prog="ducseg data check", description=help_text(Options), args=given)


def run(options: Options) -> int:
    """Exit status 1 where something is wrong."""
    from ducseg.data.check.report import check_and_print

    status = check_and_print(options, num_workers=options.workers or 1, json_path=options.json)
    idle = _TRAINING if options.dataset in OWN_CLASSES else _TRAINING + _OF_SPLITS
    given = [name for name in idle if getattr(options, name) != getattr(DataConfig, name)]
    if given:
        print(", ".join(f"--data.{name.replace('_', '-')}" for name in given) + ": of training, nothing to check here")
    return status
