"""From a `DataConfig` to the data sets that train and validate."""

from collections.abc import Callable
from pathlib import Path

from ducseg.classes import CAMVID, CITYSCAPES, KITTI_ROAD, VOC2012, ClassSet, Colour
from ducseg.data.concat import Concatenated
from ducseg.data.config import DataConfig
from ducseg.data.convert.coco_voc import CocoVoc
from ducseg.data.cut import CutPatches
from ducseg.data.layouts.camvid import CamVid, SplitFolders
from ducseg.data.layouts.cityscapes import Cityscapes
from ducseg.data.layouts.folder import Folder
from ducseg.data.layouts.kitti_road import KittiRoad
from ducseg.data.layouts.voc2012 import open_voc2012
from ducseg.data.paired import SegmentationDataset
from ducseg.data.patches import Patches

__all__ = ["open_dataset", "open_training_set"]

_KNOWN = {"camvid": CAMVID, "cityscapes": CITYSCAPES, "kitti-road": KITTI_ROAD, "voc2012": VOC2012}


def open_dataset(config: DataConfig, split: str) -> SegmentationDataset:
    """Whole frames of a configuration's data set; `split` is "train", "val" or another split that the data set has.

    Raises:
        UserError: no such data (where it looked, what it needs).
    """
    if config.dataset == "synthetic":
        from ducseg.data.synthetic.cityscapes import SyntheticStreets

        height, width = config.synthetic_size
        count = config.synthetic_scenes[0 if split == config.train_split else 1]
        return SyntheticStreets(count, height=height, width=width, split=split)
    assert config.root is not None, "Config.check refuses this"
    return _OPEN[config.dataset](config, Path(config.root).expanduser(), split)


def open_training_set(config: DataConfig, mean_colour: Colour) -> SegmentationDataset:
    """What a configuration trains on: the training split, with the coarse frames or COCO's pictures, as patches.

    Args:
        mean_colour: of what patches show outside their frame.

    Raises:
        UserError: as `open_dataset`; no such patches, patches of another scheme.
    """
    splits = [config.train_split, "train_extra"] if config.coarse else [config.train_split]
    parts = [open_dataset(config, split) for split in splits]
    if config.patches_root is not None:
        root = Path(config.patches_root).expanduser()
        cut = [CutPatches(root, split, config.patches, frames=part.ids) for split, part in zip(splits, parts)]
        return cut[0] if len(cut) == 1 else Concatenated(cut)
    if config.coco_root is not None:
        parts.append(CocoVoc(Path(config.coco_root).expanduser()))
    whole = parts[0] if len(parts) == 1 else Concatenated(parts)
    return whole if config.patches is None else Patches(whole, config.patches, mean_colour=mean_colour)


def _open_folder(config: DataConfig, root: Path, split: str) -> SegmentationDataset:
    classes = ClassSet.read(Path(config.classes) if config.classes else root / "classes.json")
    return Folder(
        root / "images",
        root / "masks",
        classes,
        split={config.train_split: "train", config.val_split: "val"}.get(split, split),
        val_fraction=config.val_fraction,
        masks_as=config.masks_as,
        ignore_colours=config.ignore_colours,
    )


def _open_split_folders(config: DataConfig, root: Path, split: str) -> SegmentationDataset:
    assert config.classes is not None, "Config.check refuses this"
    return SplitFolders(root, split, _KNOWN.get(config.classes) or ClassSet.read(Path(config.classes)))


_OPEN: dict[str, Callable[[DataConfig, Path, str], SegmentationDataset]] = {
    "camvid": lambda _config, root, split: CamVid(root, split),
    "cityscapes": lambda _config, root, split: Cityscapes(root, split),
    "kitti-road": lambda config, root, split: KittiRoad(root, split, fold=config.fold),
    "voc2012": lambda _config, root, split: open_voc2012(root, split),
    "folder": _open_folder,
    "split-folders": _open_split_folders,
}
