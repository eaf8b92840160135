"""Folders of pictures and of masks with the same names: anyone's data, and CamVid, which is one of them.

`images/*` and `masks/*`, of which a fixed share is held out for validation; or `images/SPLIT/*` and `masks/SPLIT/*`.
`camvid` and `split-folders` are this with their own folder names, classes and ignored value.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

from ducseg.classes import CAMVID, CITYSCAPES, KITTI_ROAD, VOC2012, ClassSet
from ducseg.data.config import DataConfig
from ducseg.data.files.reading import colours_in_use, read_label
from ducseg.data.layouts.layout import LabelRules, Layout, SplitFiles
from ducseg.data.paired import PairedFiles, pictures_in, table
from ducseg.errors import explain

__all__ = ["MaskKind", "camvid_layout", "find_mask_kind", "folder_layout", "held_out", "split_folders_layout"]

MaskKind = Literal["index", "colour"]

_MASKS_LOOKED_AT = 16
_KNOWN_CLASSES = {"camvid": CAMVID, "cityscapes": CITYSCAPES, "kitti-road": KITTI_ROAD, "voc2012": VOC2012}


def camvid_layout(config: DataConfig, root: Path) -> Layout:
    """CamVid with the 11 classes of the SegNet protocol in images/ and labels/; label value 11 is void."""
    own = replace(config, images="images", masks="labels", classes="camvid", masks_as="index", ignore_value=11)
    return folder_layout(own, root)


def split_folders_layout(config: DataConfig, root: Path) -> Layout:
    """Index masks in labels/, pictures in images/, of the classes that the configuration names."""
    return folder_layout(replace(config, images="images", masks="labels", masks_as="index"), root)


def folder_layout(config: DataConfig, root: Path) -> Layout:
    """Images and masks as the configuration says, or as they are found in `root`.

    Raises:
        UserError: a share that is none, no class list.
    """
    folders = _Folders(config, root)
    return Layout(
        name="images and masks",
        root=root,
        needed=folders.needed,
        splits=folders.splits,
        open=folders.dataset,
        files=folders.files,
        make_rules=lambda: folders.rules,
    )


class _Folders:
    def __init__(self, config: DataConfig, root: Path) -> None:
        self.config, self.root = config, root
        self.images, self.masks = root / (config.images or "images"), root / (config.masks or "masks")
        names = _folders_in(self.images) | _folders_in(self.masks)
        self.sorted = sorted(names, key=_in_usual_order)
        self.needed = f"{self._place(self.images, 'SPLIT')} and {self._place(self.masks, 'SPLIT')} with the same names"

    @property
    def splits(self) -> tuple[str, ...]:
        if self.sorted:
            return tuple(self.sorted)
        flat = self.files("all")
        return ("all",) if flat.images or flat.labels else ()

    def _place(self, folder: Path, split: str) -> str:
        return str(folder.relative_to(self.root) / split / "*.{jpg,png,...}")

    def files(self, split: str) -> SplitFiles:
        in_folders = self.sorted or not self.images.is_dir()
        folders = [folder / split if in_folders else folder for folder in (self.images, self.masks)]
        found = [pictures_in(folder) if folder.is_dir() else {} for folder in folders]
        places = (self._place(folders[0], ""), self._place(folders[1], ""))
        return SplitFiles(name=split, images=found[0], labels=found[1], places=places)

    def dataset(self, split: str) -> PairedFiles:
        pairs: Mapping[str, tuple[Path, Path]] = self.files(split).pairs("images and masks", self.root)
        if not self.sorted and split != "all":
            if split not in ("train", "val"):
                raise explain(
                    f"split {split!r}",
                    found=f"no sub-folder of this name in both {self.images} and {self.masks}",
                    needed='"train", "val" or "all"',
                    fix="Add the sub-folders, or use one of these.",
                )
            validation = held_out(tuple(pairs), self.config.val_fraction)
            pairs = {name: pair for name, pair in pairs.items() if (name in validation) == (split == "val")}
        rules = self.rules
        return PairedFiles(
            rules.classes, pairs, train_ids=rules.train_ids, num_values=rules.num_values, read=rules.read
        )

    @cached_property
    def rules(self) -> LabelRules:
        config, classes = self.config, self._classes()
        if config.ignore_value is not None:
            values = table({train_id: train_id for train_id in range(len(classes)) if train_id != config.ignore_value})
            return LabelRules(classes=classes, num_values=max(len(classes), config.ignore_value + 1), train_ids=values)
        masks = [mask for split in self.splits for mask in (self.files(split).labels or {}).values()]
        kind = config.masks_as or (find_mask_kind(masks, classes) if masks else "index")
        if kind == "index":
            return LabelRules(classes=classes)
        read = partial(read_label, palette=classes, ignore_colours=config.ignore_colours)
        return LabelRules(classes=classes, read=read, are_colours=True)

    def _classes(self) -> ClassSet:
        named = self.config.classes
        if named in _KNOWN_CLASSES:
            return _KNOWN_CLASSES[named]
        return ClassSet.read(Path(named).expanduser() if named else self.root / "classes.json")


def held_out(names: Sequence[str], fraction: float) -> frozenset[str]:
    """The share of the names that is for validation: those with the smallest hash, so it depends on the names alone.

    At least one name, and at least one is left over; raises `UserError` for fewer than two.
    """
    if len(names) < 2:
        raise explain(
            "images to split",
            found=len(names),
            needed="at least 2",
            fix='Add images, or use split "all" for both parts.',
        )
    count = min(max(1, round(len(names) * fraction)), len(names) - 1)
    ordered = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    return frozenset(ordered[:count])


def find_mask_kind(masks: Sequence[Path], classes: ClassSet) -> MaskKind:
    """Whether masks hold indices or colours, by looking at up to 16 of them spread over the list.

    RGB(A) means colours, one channel indices. Palette pictures hold indices, unless more of the indices show another
    class's colour than their own: then they are colour masks that an editor saved with a palette of its own.

    Raises:
        UserError: files of both kinds, a file that is no picture.
    """
    step = max(1, len(masks) // _MASKS_LOOKED_AT)
    example: dict[MaskKind, Path] = {}
    palette_mask, own, shown = None, 0, 0
    for mask in masks[::step][:_MASKS_LOOKED_AT]:
        mode, used = colours_in_use(mask)
        if mode == "P":
            palette_mask = mask
            own += sum(classes.palette[index : index + 1] == (colour,) for index, colour in used.items())
            shown += sum(colour in classes.palette for colour in used.values())
        else:
            example["colour" if mode in {"RGB", "RGBA"} else "index"] = mask
    if palette_mask is not None:
        example["colour" if shown - own > own else "index"] = palette_mask
    if len(example) > 1:
        raise explain(
            f"masks in {masks[0].parent}",
            found=f"indices ({example['index'].name}) and colours ({example['colour'].name})",
            needed="one kind in all files",
            fix="Convert one kind, or set masks_as if the look misled.",
        )
    return next(iter(example))


def _folders_in(folder: Path) -> set[str]:
    return {inside.name for inside in folder.iterdir() if inside.is_dir()} if folder.is_dir() else set()


def _in_usual_order(split: str) -> tuple[int, str]:
    return {"train": 0, "val": 1, "test": 2}.get(split, 3), split
