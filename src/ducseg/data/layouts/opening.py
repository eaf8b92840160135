"""From a `DataConfig` to the data sets that train and validate. A further data set is one more line in `LAYOUTS`."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ducseg.classes import ClassSet
from ducseg.data.concat import Concatenated
from ducseg.data.config import DataConfig
from ducseg.data.convert.coco_voc import CocoVoc
from ducseg.data.counting import classes_shown, unvalidated_note
from ducseg.data.cut import CutPatches
from ducseg.data.files.channels import read_pixels
from ducseg.data.layouts.cityscapes import cityscapes_layout
from ducseg.data.layouts.folders import camvid_layout, folder_layout, split_folders_layout
from ducseg.data.layouts.grouping import EYES, FOLDER, are_numbered, eyes_in
from ducseg.data.layouts.kitti_road import KittiRoad, kitti_road_layout
from ducseg.data.layouts.layout import Layout
from ducseg.data.layouts.neighbours import neighbours_note
from ducseg.data.layouts.picture_kinds import alpha_note, nodata_note
from ducseg.data.layouts.split_notes import copies_note, folder_note, group_note, overlap_note, series_note, split_note
from ducseg.data.layouts.splitting import are_splits, members_of
from ducseg.data.layouts.voc2012 import voc2012_layout
from ducseg.data.paired import PairedFiles, SegmentationDataset, Unlabelled
from ducseg.data.patches import Patches
from ducseg.data.ranges import out_of_range
from ducseg.data.resampling import Fill
from ducseg.errors import UserError, explain, typed

__all__ = [
    "LAYOUTS", "data_notes", "grouped_by_names", "naming_the_check", "open_dataset", "open_layout", "open_training_set",
    "pictures_of",
]  # fmt: skip

LAYOUTS: dict[str, Callable[[DataConfig, Path, ClassSet | None], Layout]] = {
    "camvid": camvid_layout,
    "cityscapes": cityscapes_layout,
    "folder": folder_layout,
    "kitti-road": kitti_road_layout,
    "split-folders": split_folders_layout,
    "voc2012": voc2012_layout,
}
"""Name of a data set -> (configuration, root, classes where the data set names none) -> its layout."""

_OF_A_FILE = re.compile(r"(file|image|label|mask|picture|raster|TIFF) ")


def open_layout(config: DataConfig, classes: ClassSet | None = None) -> Layout:
    """The layout of a configuration's data set, as it lies under its root.

    Args:
        classes: what to go by where the data set's class list is not there (any more), as a checkpoint carries them.

    Raises:
        UserError: no data set of this name, options that it ignores; what its layout raises.
    """
    if config.dataset not in LAYOUTS:
        raise explain(
            "data set", found=repr(config.dataset), needed=f"one of {', '.join(LAYOUTS)}", fix="Correct --data.dataset."
        )
    if conflicts := [*out_of_range("data", config), *config.conflicts()]:
        raise UserError("; ".join(conflicts))
    assert config.root is not None
    root = Path(config.root).expanduser()
    if config.classes and not Path(config.classes).expanduser().exists() and (root / config.classes).is_file():
        config = replace(config, classes=str(root / config.classes))  # it lies with the pictures
    return LAYOUTS[config.dataset](config, root, classes)


def open_dataset(config: DataConfig, split: str, classes: ClassSet | None = None) -> SegmentationDataset:
    """Whole frames of a configuration's data set; `split` is "train", "val" or another split that the data set has.

    Args:
        classes: as for `open_layout`.

    Raises:
        UserError: no such data (where it looked, what it needs).
    """
    if config.dataset == "synthetic":
        from ducseg.data.synthetic.cityscapes import SyntheticStreets

        height, width = config.synthetic_size
        count = config.synthetic_scenes[0 if split == config.train_split else 1]
        return SyntheticStreets(count, height=height, width=width, split=split)
    return open_layout(config, classes).open(split)


def open_training_set(config: DataConfig, mean_colour: Fill, classes: ClassSet | None = None) -> SegmentationDataset:
    """What a configuration trains on: the training split, with the coarse frames or COCO's pictures, as patches.

    Args:
        mean_colour: of what patches show outside their frame.
        classes: as for `open_layout`.

    Raises:
        UserError: as `open_dataset`; no such patches, patches of another scheme or filled with another colour.
    """
    splits = [config.train_split, "train_extra"] if config.coarse else [config.train_split]
    parts = [open_dataset(config, split, classes) for split in splits]
    if config.patches_root is not None:
        root = Path(config.patches_root).expanduser()
        cut = [
            CutPatches(root, split, config.patches, frames=part.ids, mean_colour=mean_colour)
            for split, part in zip(splits, parts)
        ]
        return cut[0] if len(cut) == 1 else Concatenated(cut)
    if config.coco_root is not None:
        parts.append(CocoVoc(Path(config.coco_root).expanduser()))
    whole = parts[0] if len(parts) == 1 else Concatenated(parts)
    return whole if config.patches is None else Patches(whole, config.patches, mean_colour=mean_colour)


def grouped_by_names(config: DataConfig, layout: Layout | None = None) -> tuple[DataConfig, tuple[str, ...]]:
    """With the `group_by` that the names of one's own pictures tell, where none is given, and what is to be said of it.

    Both eyes of a person, and numbered folders where these are parted into splits, stay together.

    Args:
        layout: of the configuration; None: it is opened.

    Raises:
        UserError: as `open_layout`.
    """
    if config.dataset != "folder" or config.group_by is not None:
        return config, ()
    layout = layout or open_layout(config)
    if eyes_in([name for split in layout.splits for name in layout.files(split).images]):
        line = f"groups: both eyes of a person stay together, as names tell: {EYES}"
        return replace(config, group_by=EYES), (line,)
    parted = not layout.are_splits and (config.train_split, config.val_split) == ("train", "val")
    if parted and are_numbered(layout.splits) and len(layout.splits) >= (config.folds or 0):
        line = f"groups: the pictures of each of {len(layout.splits)} numbered folders stay together"
        line += ", as a patient's should; else --data.group-by '(.+)'"
        return replace(config, group_by=FOLDER), (line,)
    return config, ()


def data_notes(config: DataConfig, train_set: SegmentationDataset, val_set: SegmentationDataset) -> list[str]:
    """What is to be said of the data before a run, a line each: where files were found, how masks are read, which
    pictures the two sets share, which classes no validation picture shows.

    Raises:
        UserError: as `open_layout` and `count_pixels`.
    """
    notes: list[str] = []
    pictures = pictures_of(train_set), pictures_of(val_set)
    shared, layout = split_note(*pictures), None
    if config.dataset != "synthetic":
        layout = open_layout(config, train_set.classes)
        notes += layout.lines
        if config.dataset == "folder":
            paths = zip(train_set.image_paths, train_set.label_paths) if isinstance(train_set, PairedFiles) else ()
            masks = [mask for image, mask in paths if mask != image]
            of_no_data = nodata_note(pictures[0], masks, config.ignore_value)
            of_both = copies_note(*pictures), overlap_note(*pictures)
            notes += filter(None, (alpha_note(pictures[0]), of_no_data, *of_both))
        if config.dataset == "folder" and config.group_by is shared is None:
            folders = {split: layout.files(split).images.values() for split in layout.splits}
            of_names = None
            if not are_splits(folders):
                of_names = folder_note(folders, *pictures) or series_note(train_set.ids, val_set.ids)
            if of_names is None and isinstance(train_set, PairedFiles):
                of_names = neighbours_note(*pictures, partial(read_pixels, wanted=train_set.pixels))
            notes += filter(None, [of_names])
    grouped = None if config.group_by is None else group_note(config.group_by, train_set.ids, val_set.ids)
    absent = unvalidated_note(config, val_set)
    if absent is not None and layout is not None:
        parting = _parting_with_all(config, layout, (train_set, val_set))
        absent += f"; with {parting} both sides show every class" if parting is not None else ""
    return [*notes, *filter(None, (shared, grouped, absent))]


def _parting_with_all(config: DataConfig, layout: Layout, opened: Iterable[SegmentationDataset]) -> str | None:
    """Options that part the pictures of one's own otherwise, so that both sides show every class; None: none is found.

    Args:
        opened: all that may be parted; other pictures count as showing nothing.
    """
    if config.dataset != "folder" or config.folds is not None:
        return None
    shares = [share for share in (0.15, 0.2, 0.25, 0.3) if share > config.val_fraction]
    others = [(f"--data.val-fraction {share}", replace(config, val_fraction=share)) for share in shares]
    for folds in (5, 4, 3):
        names = [(f"--data.folds {folds} --data.fold {fold}", fold) for fold in range(folds)]
        others += [(name, replace(config, folds=folds, fold=fold)) for name, fold in names]
    shown = {path: shown for dataset in opened for path, shown in zip(pictures_of(dataset), classes_shown(dataset))}
    nothing = np.zeros(len(layout.rules.classes), np.bool_)
    images = {folder: files.images for folder, files in layout.folders.items()}
    in_folders = {folder: tuple(files) for folder, files in images.items()}
    for options, other in others:
        with suppress(UserError):  # too few pictures
            sides = [members_of(one, in_folders, other, layout.root) for one in (config.val_split, config.train_split)]
            of_sides = [[shown.get(images[folder][name], nothing) for folder, name in side] for side in sides]
            if all(np.any(side, axis=0).all() for side in of_sides):
                return options
    return None


@contextmanager
def naming_the_check(config: DataConfig) -> Iterator[None]:
    """Adds to a `UserError` about one file the command that finds all such files at once."""
    try:
        yield
    except UserError as error:
        if config.root is None or not _OF_A_FILE.match(str(error)) or "data check" in str(error):
            raise
        command = f"ducseg data check {config.dataset} {typed(config.root)}"
        raise UserError(f"{error} (all such files at once: {command}, with the same --data. options)") from error


def pictures_of(dataset: SegmentationDataset) -> list[Path]:
    """The picture files that a data set shows; none where it draws them, or shows patches that were cut before."""
    if isinstance(dataset, Concatenated):
        return [path for part in dataset.datasets for path in pictures_of(part)]
    if isinstance(dataset, Patches):
        return pictures_of(dataset.frames)
    return list(dataset.image_paths) if isinstance(dataset, PairedFiles | Unlabelled | KittiRoad) else []
