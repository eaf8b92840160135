"""`ducseg data sbd`: the augmented sets of VOC2012."""

from dataclasses import dataclass

import tyro

from ducseg.cli.options import Folder, Workers

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Workers):
    """Add SBD's masks to VOC2012: SegmentationClassAug and the lists train_aug (10,582) and trainval_aug."""

    voc_root: tyro.conf.Positional[Folder]
    """VOC2012, or a folder above it."""
    sbd_root: tyro.conf.Positional[Folder]
    """The folder that holds SBD's cls/ (benchmark_RELEASE/dataset), or one above it."""


def run(options: Options) -> int:
    """Say how many."""
    from ducseg.data.convert.voc_sbd import write_augmented_sets
    from ducseg.progress import counted

    with counted("masks") as progress:
        sets = write_augmented_sets(options.voc_root, options.sbd_root, num_workers=options.workers, progress=progress)
    counts = f"train_aug: {len(sets.train_aug)} pictures, trainval_aug: {len(sets.trainval_aug)}"
    print(f"{counts}, in {options.voc_root}")
    return 0
