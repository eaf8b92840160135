"""`ducseg data synth`: scenes for every benchmark's layout."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import tyro

from ducseg.cli.options import Folder, Workers
from ducseg.errors import explain

__all__ = ["Options", "run"]

_SIZES = {"cityscapes": (512, 1024), "kitti-road": (375, 1242), "voc2012": (375, 500)}


@dataclass(frozen=True, kw_only=True)
class Options(Workers):
    """Write procedural scenes in a data set's own layout."""

    dataset: tyro.conf.Positional[Literal["cityscapes", "kitti-road", "voc2012"]]
    """Whose layout to write."""
    root: tyro.conf.Positional[Folder]
    """Folder to make it in."""
    num_train: int = 40
    num_val: int = 10
    """cityscapes and voc2012; kitti-road validates on folds of the training frames."""
    num_test: int = 0
    """kitti-road and voc2012: pictures without ground truth."""
    size: tuple[int, int] | None = None
    """Height and width in pixels; default: 512 1024 (cityscapes), 375 1242 (kitti-road), 375 500 (voc2012)."""
    seed: int = 0


def run(options: Options) -> int:
    """Say what was made."""
    from ducseg.progress import counted

    numbers = {"num_train": options.num_train, "num_val": options.num_val, "num_test": options.num_test}
    unused = {"cityscapes": "num_test", "kitti-road": "num_val"}.get(options.dataset)
    if unused is not None and numbers.pop(unused) != getattr(Options, unused):
        flag = unused.replace("_", "-")
        raise explain(f"--{flag}", found=options.dataset, needed="a data set with that split", fix="Leave it out.")
    height, width = options.size or _SIZES[options.dataset]
    with counted("scenes") as progress:
        _writer(options.dataset)(
            options.root, **numbers, height=height, width=width, seed=options.seed, num_workers=options.workers,
            progress=progress,
        )  # fmt: skip
    made = " and ".join(f"{count} {name.removeprefix('num_')}" for name, count in numbers.items() if count)
    print(f"{made} scenes in {options.root}")
    return 0


def _writer(dataset: str) -> Callable[..., None]:
    if dataset == "kitti-road":
        from ducseg.data.synthetic.kitti_road import write_kitti_road

        return write_kitti_road
    if dataset == "voc2012":
        from ducseg.data.synthetic.voc2012 import write_voc2012

        return write_voc2012
    from ducseg.data.synthetic.cityscapes import write_cityscapes

    return write_cityscapes
