"""Folders of pictures and of masks: anyone's data, and CamVid, which is one of them.

Where the files lie is `finding`'s, which of them are a split `splitting`'s, what the masks mean `mask_rule`'s; `camvid`
and `split-folders` are this with folder names, classes and ignored value of their own.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import CLASS_SETS, IGNORE, ClassSet
from ducseg.data.config import DataConfig
from ducseg.data.files.channels import Pixels
from ducseg.data.files.reading import picture_size
from ducseg.data.layouts.finding import find_files
from ducseg.data.layouts.grouping import group_function
from ducseg.data.layouts.layout import FoundFiles, LabelRules, Layout, SplitFiles
from ducseg.data.layouts.mask_files import MaskLook, look_at, values_in
from ducseg.data.layouts.mask_reader import MaskReader, MaskRule
from ducseg.data.layouts.mask_rule import find_rule
from ducseg.data.layouts.nnunet import read_labels
from ducseg.data.layouts.picture_kinds import check_alike, common_pixels
from ducseg.data.layouts.several_masks import find_masks
from ducseg.data.layouts.splitting import are_splits_or_none, members_of
from ducseg.data.layouts.unmasked import Filled, masked_by_themselves, train_id_of
from ducseg.data.layouts.views import Viewed, views_of
from ducseg.data.layouts.without_masks import pictures_below, without_masks
from ducseg.data.paired import PairedFiles
from ducseg.errors import UserError, explain, listed, typed

__all__ = ["camvid_layout", "folder_layout", "split_folders_layout"]

Reader = MaskReader | Filled | Viewed


def camvid_layout(config: DataConfig, root: Path, classes: ClassSet | None = None) -> Layout:
    """CamVid with the 11 classes of the SegNet protocol in images/ and labels/; label value 11 is void."""
    own = replace(config, images="images", masks="labels", classes="camvid", ignore_value=11)
    return folder_layout(own, root)


def split_folders_layout(config: DataConfig, root: Path, classes: ClassSet | None = None) -> Layout:
    """Pictures in images/, masks in labels/, of the classes that the configuration names."""
    return folder_layout(replace(config, images="images", masks="labels"), root, classes)


def folder_layout(config: DataConfig, root: Path, classes: ClassSet | None = None) -> Layout:
    """Images and masks as the configuration says, or as they are found in `root`.

    Args:
        classes: what to go by where there is no class list (any more), as a checkpoint carries them.

    Raises:
        UserError: two pictures of one name, several folders that could be meant, no regular expression.
    """
    folders = _Folders(config, root, classes)
    return Layout(
        name="images and masks",
        root=root,
        needed=folders.needed("SPLIT"),
        splits=tuple(split or "all" for split in folders.found.splits),
        open=folders.dataset,
        files=folders.files,
        make_rules=lambda: folders.rules,
        sequence=None if config.group_by is None else group_function(config.group_by),
        notes=(folders.found.line,),
        make_pixels=lambda: folders.pixels,
        are_splits=folders.are_splits,
    )


class _Masked(PairedFiles):
    """Pictures with masks whose values were counted when they were looked at."""

    def __init__(self, rule: MaskRule, pairs: Mapping[str, tuple[Path, Path]], pixels: Pixels, read: Reader) -> None:
        super().__init__(rule.classes, pairs, read=read, pixels=pixels)
        self._rule, self._by_value = rule, isinstance(read, MaskReader) and rule.others != "nearest"

    def histogram(self, index: int) -> NDArray[np.int64]:
        if not self._by_value:
            return super().histogram(index)
        look = look_at(self.label_paths[index])
        if isinstance(look, UserError):
            raise look
        counts = np.zeros(256, np.int64)
        for value, pixels in look.counted(self._rule.as_colours).items():
            counts[self._rule.meaning.get(value, IGNORE)] += pixels
        return counts


def _check_sizes(pairs: Mapping[str, tuple[Path, Path]]) -> None:
    """Raise one `UserError` that counts all masks of another size than their picture."""
    differ = []
    for image, mask in pairs.values():
        look = look_at(mask) if mask != image else None
        if isinstance(look, MaskLook) and (size := picture_size(image)) != look.size:
            differ.append((image, size, mask, look.size))
    if differ:
        image, size, mask, found = differ[0]
        raise explain(
            f"mask {mask}" + (f" and {len(differ) - 1} more" if differ[1:] else ""),
            found=f"{found[0]} x {found[1]} pixels (H x W)",
            needed=f"{size[0]} x {size[1]}, the size of {image}",
            fix=_mending(mask, size, found),
        )


def _mending(mask: Path, size: tuple[int, int], found: tuple[int, int]) -> str:
    if found == size[::-1]:
        return (
            "Is the picture shown turned (EXIF), and the mask drawn on its pixels as stored? "
            "exiftool -Orientation= FILES (ducseg data check names them all)."
        )
    name = typed(mask)
    return (
        "Pair each with its own picture, or resize by nearest neighbour: "
        f"magick {name} -filter point -resize {size[1]}x{size[0]}! {name} (ducseg data check names them all)."
    )


def _paired(found: FoundFiles) -> FoundFiles:
    """Without what has no partner, which its line says; a split without any mask, as of pictures to predict, stays."""
    splits, alone, may_stay = {}, [], are_splits_or_none(found.splits)
    for split, files in found.splits.items():
        sides = [dict(files.images), dict(files.labels or {})]
        both = sides[0].keys() & sides[1].keys()
        if sides[1] or not may_stay:
            place = "" if may_stay else f"{split}/"
            alone += [f"{place}{file.name}" for side in sides for name, file in side.items() if name not in both]
            sides = [{name: file for name, file in side.items() if name in both} for side in sides]
        splits[split] = replace(files, images=sides[0], labels=sides[1])
    note = f"; left out, without a partner: {listed(sorted(alone))}" if alone else ""
    return replace(found, splits=splits, line=found.line + note)


def _refuse_several(found: FoundFiles, root: Path) -> None:
    """Raise a `UserError` where most pictures have no mask of their name, but by their names several each."""
    pairs = [(files.images.keys(), (files.labels or {}).keys()) for files in found.splits.values()]
    pictures, paired = sum(len(images) for images, _ in pairs), sum(len(images & labels) for images, labels in pairs)
    if 2 * paired >= pictures:
        return
    several = find_masks(pictures_below(root))
    if several.usual is not None:
        raise explain(
            f"masks in {root}",
            found=f"several a picture, {several.usual} ({several.example})",
            needed="one mask a picture",
            fix=f"Make one of them: ducseg data convert masks {typed(root)} --out OUT; then train on OUT.",
        )


class _Folders:
    def __init__(self, config: DataConfig, root: Path, classes: ClassSet | None) -> None:
        self.config, self.root, self._fallback = config, root, classes
        self.found = find_files(root, images=config.images, masks=config.masks, mask_suffix=config.mask_suffix)
        if config.images is config.masks is None:
            _refuse_several(self.found, root)
        self.unmasked = frozenset[Path]()
        if config.unmasked_as is not None and any(files.labels for files in self.found.splits.values()):
            self.found, self.unmasked = masked_by_themselves(self.found, config.unmasked_as)
        if config.skip_unpaired:
            self.found = _paired(self.found)

    @property
    def are_splits(self) -> bool:
        """Whether the folders are splits, or there are none, so that a picture's name tells it within its split."""
        return self.config.dataset != "folder" or are_splits_or_none(self.found.splits)

    def needed(self, split: str) -> str:
        """What must lie in the root, as messages say it."""
        inside = f"[{split}/]" if self.config.dataset == "folder" else f"{split}/"
        places = (self.config.images or "images", self.config.masks or "masks")
        return " and ".join(f"{place}/{inside}*.{{jpg,png,...}}" for place in places)

    def files(self, split: str) -> SplitFiles:
        """The files of one of the layout's splits."""
        return self.found.splits.get(split) or self.found.splits[""]

    def dataset(self, split: str) -> PairedFiles:
        """The pictures of any split, every mask of which reads and means something."""
        names = {folder: tuple(files.images) for folder, files in self.found.splits.items()}
        if not any(files.labels for files in self.found.splits.values()):
            raise without_masks(self.root, sum(map(len, names.values())), self.needed(split))
        members = members_of(split, names, self.config, self.root)
        pairs = self._pairs({folder for folder, _ in members})
        several = len({name for _, name in members}) < len(members) or not self.are_splits
        chosen = {f"{folder}/{name}" if several else name: pairs[folder][name] for folder, name in members}
        self._check_masks([mask for _, mask in chosen.values()])
        _check_sizes(chosen)
        check_alike([image for image, _ in chosen.values()], self.pixels, as_stored=self.config.as_stored)
        return _Masked(self.rule, chosen, self.pixels, self.reader)

    def _pairs(self, folders: set[str]) -> Mapping[str, dict[str, tuple[Path, Path]]]:
        way_out = (
            (
                "leave them out (--data.skip-unpaired), or say which class is all that pictures without a label show "
                "(--data.unmasked-as background)"
            )
            if self.config.dataset == "folder"
            else ""
        )
        return {folder: self.found.splits[folder].pairs("images and masks", self.root, way_out) for folder in folders}

    @cached_property
    def rule(self) -> MaskRule:
        """How the masks of all splits are read: what one split shows must not change it for another."""
        config = self.config
        masks = [mask for files in self.found.splits.values() for mask in (files.labels or {}).values()]
        looks, _ = self._looks(masks)
        classes, ignored, source = self._classes()
        rule = find_rule(
            looks,
            classes,
            masks_as=config.masks_as,
            values=config.values,
            ignore_value=ignored if config.ignore_value is None else config.ignore_value,
            ignore_colours=config.ignore_colours,
            smoothed=config.smoothed,
        )
        return replace(rule, line=f"{rule.line}{source}")

    @cached_property
    def reader(self) -> Reader:
        """What reads masks by the rule, inside the fields of view where these are given."""
        reader: Reader = self.rule.reader
        if self.config.unmasked_as is not None:
            reader = Filled(reader, self.unmasked, train_id_of(self.config.unmasked_as, self.rule.classes))
        if self.config.view is None:
            return reader
        return Viewed(reader, views_of(self.found, self.root, images=self.config.images, view=self.config.view))

    @cached_property
    def pixels(self) -> Pixels:
        """What the pictures of all splits hold."""
        pictures = [picture for files in self.found.splits.values() for picture in files.images.values()]
        return common_pixels(pictures, as_stored=self.config.as_stored)

    @property
    def rules(self) -> LabelRules:
        """For the doctor: it reads the files of which this is the rule."""
        rule = self.rule
        return LabelRules(
            classes=rule.classes,
            read=self.reader,
            are_colours=rule.as_colours,
            notes=(rule.line if self.config.view is None else f"{rule.line}; 255 outside {self.config.view}",),
            problem=rule.problem,
        )

    def _looks(self, masks: Sequence[Path]) -> tuple[Sequence[MaskLook], Sequence[UserError]]:
        """What masks hold, and which do not read; pictures that stand for their own hold nothing to look at."""
        return values_in([mask for mask in masks if mask not in self.unmasked])

    def _check_masks(self, masks: Sequence[Path]) -> None:
        """Raise where training would stop later: masks that do not read, values that no class has."""
        looks, unreadable = self._looks(masks)
        if unreadable:
            more = f" {len(unreadable) - 1} more masks do not read." if unreadable[1:] else ""
            raise UserError(f"{unreadable[0]}{more}")
        rule = self.rule
        if rule.problem is not None:
            raise UserError(rule.problem)
        for look in looks:
            stray = rule.others == "refused" and look.codes(rule.as_colours) - rule.meaning.keys()
            if (look.kind == "colours" and not rule.as_colours) or stray:
                rule.reader(look.path)  # raises, with the values

    def _classes(self) -> tuple[ClassSet | None, int | None, str]:
        """The classes, the value that is ignored, and what is to be said of where they stand."""
        named = self.config.classes
        if named in CLASS_SETS:
            return CLASS_SETS[named], None, ""
        path, labels = Path(named).expanduser() if named else self._class_list(), self.found.labels
        if named is None and labels is not None and not os.path.lexists(path) and not self.config.values:
            return *read_labels(labels), f" (names of {labels.name})"
        if not os.path.lexists(path) and (self._fallback is not None or named is None):
            return self._fallback, None, ""
        deeper = named is None and path.parent != self.root
        return ClassSet.read(path), None, f" (classes of {path.relative_to(self.root)})" if deeper else ""

    def _class_list(self) -> Path:
        """The classes.json in the folder that holds pictures and masks, or the nearest one above, up to the root."""
        files = [
            file for one in self.found.splits.values() for file in (*one.images.values(), *(one.labels or {}).values())
        ]
        deepest = Path(os.path.commonpath(files)) if len(files) > 1 else self.root
        places = [place for place in (deepest, *deepest.parents) if place.is_relative_to(self.root)]
        found = (path for place in places if os.path.lexists(path := place / "classes.json"))
        return next(found, self.root / "classes.json")
