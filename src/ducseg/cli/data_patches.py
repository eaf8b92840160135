"""`ducseg data patches`: the paper's patches, cut once."""

from dataclasses import dataclass
from typing import Literal

import tyro

from ducseg.cli.options import Folder, Workers
from ducseg.data.config import PatchScheme

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Workers):
    """Cut the paper's overlapping patches to disk once, so that training never decodes a whole frame.

    The same command goes on where it was stopped. Train on them with --data.patches SCHEME --data.patches-root DIR.
    """

    dataset: tyro.conf.Positional[Literal["cityscapes", "kitti-road"]]
    root: tyro.conf.Positional[Folder]
    """The folder that holds the data set."""
    out: Folder
    """Folder to make or go on in."""
    scheme: PatchScheme
    """Cityscapes: 12 of 800x800 or 7 of 880x880 and their margin; KITTI: 320x320 at stride 100."""
    split: str = "train"
    """Of the data set; Cityscapes' coarse frames are train_extra."""
    fold: int = 0
    """kitti-road: which of its five folds validates."""
    mean_colour: tuple[int, int, int] = (124, 116, 104)
    """Of what lies outside a frame: the mean colour of the network's preprocessing; default: ImageNet's."""


def run(options: Options) -> int:
    """Say how many."""
    from ducseg.data.config import DataConfig
    from ducseg.data.cut import cut_patches
    from ducseg.data.layouts.opening import open_dataset
    from ducseg.progress import counted

    config = DataConfig(dataset=options.dataset, root=str(options.root), fold=options.fold)
    frames = open_dataset(config, options.split)
    with counted("frames") as progress:
        count = cut_patches(
            frames, options.out, options.scheme, split=options.split, mean_colour=options.mean_colour,
            num_workers=options.workers, progress=progress,
        )  # fmt: skip
    print(f"{count} patches of {len(frames)} frames in {options.out}")
    return 0
