"""Drawn pictures in the layouts of KITTI road and VOC2012, so that their tables can be run without their data."""

import time
from dataclasses import replace
from pathlib import Path

from ducseg.data.synthetic.kitti_road import write_kitti_road
from ducseg.data.synthetic.voc2012 import write_voc2012
from ducseg.experiments.ablations.results import claimed
from ducseg.experiments.ablations.rows import Table
from ducseg.experiments.ablations.small import Setting
from ducseg.files import whole_folder

__all__ = ["is_there", "with_pictures"]


def is_there(table: Table, setting: Setting, out: Path) -> bool:
    """Whether the pictures need not be drawn first."""
    return setting.data != "synthetic" or table.data == "cityscapes" or (out / "data" / table.data).is_dir()


def with_pictures(table: Table, setting: Setting, out: Path) -> Setting:
    """The setting with the folder of drawn pictures, OUT/data/NAME, made where it is not there yet.

    Raises:
        UserError: a folder that cannot be written.
    """
    if setting.data != "synthetic" or table.data == "cityscapes":
        return setting
    root = out / "data" / table.data
    while not is_there(table, setting, out):
        with claimed(out, f"data-{table.data}") as mine:
            if mine and not root.is_dir():
                root.parent.mkdir(parents=True, exist_ok=True)
                with whole_folder(root) as made:
                    _write(table.data, made)
        time.sleep(0.1)
    return replace(setting, root=str(root))


def _write(data: str, root: Path) -> None:
    if data == "kitti-road":
        write_kitti_road(root, num_train=30, num_test=3)
    else:
        write_voc2012(root, num_train=120, num_val=40, num_test=6, height=160, width=200)
