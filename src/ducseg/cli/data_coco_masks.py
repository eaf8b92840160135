"""`ducseg data coco-masks`: COCO for VOC's pretraining."""

from dataclasses import dataclass

import tyro

from ducseg.cli.options import File, Folder, Workers

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Workers):
    """Write masks of VOC's classes from COCO's instances, for pretraining; those up to 1000 pixels are left out."""

    instances: tyro.conf.Positional[File]
    """annotations/instances_train2017.json."""
    root: tyro.conf.Positional[Folder]
    """Folder for masks/; put (or link) COCO's pictures below its images/."""


def run(options: Options) -> int:
    """Say how many."""
    from ducseg.data.convert.coco_voc import write_coco_masks
    from ducseg.progress import counted

    with counted("pictures") as progress:
        kept = write_coco_masks(options.instances, options.root, num_workers=options.workers, progress=progress)
    print(f"{kept} masks in {options.root / 'masks'}")
    return 0
