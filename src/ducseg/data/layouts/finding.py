"""Where pictures and masks lie under a folder, as people have them: found by names, never by content.

| layout | names |
|---|---|
| two folders | images, img, imgs, JPEGImages, ... beside masks, labels, gt, SegmentationClass, ... |
| sorted | the same with train/, val/, ... in both, or train/ and val/ with the two folders in each |
| beside | train/ and train_masks/ (or trainannot/), val/ and val_masks/ |
| one folder | x.jpg beside x_mask.png, or beside x.png |

Mask names may have more than picture names at their end or beginning: x.jpg and x_mask.png, img_7.jpg and mask_7.png.
Hidden folders and those of file managers are no splits.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ducseg.data.files.reading import PICTURE_SUFFIXES
from ducseg.data.layouts.layout import SplitFiles
from ducseg.data.paired import by_stem, list_pictures
from ducseg.errors import UserError, explain

__all__ = ["FoundFiles", "find_files"]

FLAT = ""
"""The split of pictures that are not sorted into splits."""

_MASK_SUFFIXES = PICTURE_SUFFIXES | {".gif", ".pbm", ".pgm", ".ppm"}
_IMAGES = (
    "images", "image", "imgs", "img", "jpegimages", "jpgs", "pictures", "photos", "rgb", "input", "inputs",
)  # fmt: skip
_MASKS = (
    "masks", "mask", "labels", "label", "gt", "gts", "groundtruth", "ground_truth", "ground-truth", "truth",
    "annotations", "annotation", "annots", "segmentationclass", "segmentation", "segmentations", "seg", "targets",
    "target", "manual", "1st_manual",
)  # fmt: skip
_MASK_WORD = re.compile(r"mask|label|lbl|gt|truth|seg|annot|manual", re.IGNORECASE)
_SYSTEM = frozenset({"__macosx", "@eadir", "__pycache__", "$recycle.bin", "lost+found"})
_SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")


@dataclass(frozen=True)
class FoundFiles:
    """The files of each split, `FLAT` alone where there are none, and one line that says how they lie."""

    splits: Mapping[str, SplitFiles]
    line: str


def find_files(root: Path, *, images: str | None, masks: str | None, mask_suffix: str | None) -> FoundFiles:
    """Look for pictures and masks under `root`; the arguments are the fields of `DataConfig`.

    Raises:
        UserError: two pictures of one name, several folders that could be meant.
    """
    pairs = _two_folders(root, images, masks)
    if pairs:
        return _listed(root, pairs, mask_suffix)
    alone = _one_folder(root, images, mask_suffix)
    if alone is not None:
        return alone
    named = root / (images or "images"), root / (masks or "masks")
    return _listed(root, {FLAT: named}, mask_suffix) if named[0].is_dir() or named[1].is_dir() else FoundFiles({}, "")


# -- folders -----------------------------------------------------------------------------------------------------------


def _two_folders(root: Path, images: str | None, masks: str | None) -> dict[str, tuple[Path, Path]]:
    """Split -> folder of its images and of its masks."""
    found = _pair_in(root, images, masks)
    if found is None:
        inside = {folder.name: _pair_in(folder, images, masks) for folder in _folders_in(root)}
        pairs = {name: pair for name, pair in inside.items() if pair} or _siblings(root)
        return dict(sorted(pairs.items(), key=lambda one: _in_usual_order(one[0])))
    names = [{folder.name for folder in _folders_in(side)} for side in found]
    flat = any(_files(side) for side in found)
    both = (names[0] & names[1] & set(_SPLITS)) if flat else names[0] | names[1]
    if not both:
        return {FLAT: found}
    return {name: (found[0] / name, found[1] / name) for name in sorted(both, key=_in_usual_order)}


def _pair_in(folder: Path, images: str | None, masks: str | None) -> tuple[Path, Path] | None:
    sides = _called(folder, images, _IMAGES, "images"), _called(folder, masks, _MASKS, "masks")
    if sides[0] is not None and sides[1] is not None:
        return sides[0], sides[1]
    return _siblings(folder).get(FLAT) if images is None and masks is None else None


def _siblings(root: Path) -> dict[str, tuple[Path, Path]]:
    """train beside train_masks or trainannot; of one such pair the name is no split unless it is one's."""
    folders = {folder.name: folder for folder in _folders_in(root)}
    pairs = {
        name: (folder, folders[other])
        for name, folder in folders.items()
        for other in folders
        if other.startswith(name) and _MASK_WORD.match(other.removeprefix(name).lstrip("_- "))
    }
    if len(pairs) == 1 and not set(pairs) & set(_SPLITS):
        return {FLAT: next(iter(pairs.values()))}
    return pairs


def _called(folder: Path, given: str | None, names: tuple[str, ...], option: str) -> Path | None:
    if given is not None:
        return folder / given if (folder / given).is_dir() else None
    there = [inside for inside in _folders_in(folder) if inside.name.lower() in names]
    there = [inside for inside in there if _pictures_below(inside)] or there
    if len(there) > 1:
        raise explain(
            f"{option} in {folder}",
            found=" and ".join(f"{inside.name}/" for inside in there),
            needed="one folder of them",
            fix=f"Say which: --data.{option} {there[0].name}.",
        )
    return there[0] if there else None


def _pictures_below(folder: Path) -> bool:
    return any(_files(one) for one in (folder, *_folders_in(folder)))


def _folders_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    visible = [one for one in folder.iterdir() if one.is_dir() and not one.name.startswith(".")]
    return sorted(one for one in visible if one.name.lower() not in _SYSTEM)


def _in_usual_order(split: str) -> tuple[int, str]:
    place = _SPLITS.index(split) if split in _SPLITS else len(_SPLITS)
    return place, split


def _pictures(folder: Path, suffixes: frozenset[str] = _MASK_SUFFIXES) -> tuple[dict[str, Path], tuple[UserError, ...]]:
    return list_pictures(folder, suffixes) if folder.is_dir() else ({}, ())


def _listed(root: Path, pairs: Mapping[str, tuple[Path, Path]], mask_suffix: str | None) -> FoundFiles:
    listed = {split: (_pictures(image, PICTURE_SUFFIXES), _pictures(mask)) for split, (image, mask) in pairs.items()}
    twins = {split: (*first, *second) for split, ((_, first), (_, second)) in listed.items()}
    pictures, labels = _by_common_name(
        {split: found for split, ((found, _), _) in listed.items()},
        {split: _ending(found, mask_suffix or "") for split, (_, (found, _)) in listed.items()},
    )
    files, example = {}, ""
    for split, sides in pairs.items():
        places = tuple(f"{side.relative_to(root)}/*.{{jpg,png,...}}" for side in sides)
        files[split] = SplitFiles(
            name=split or "all",
            images=pictures[split],
            labels=labels[split],
            places=(places[0], places[1]),
            twins=twins[split],
        )
        example = example or _example(pictures[split], labels[split])
    named = [", ".join(sorted({str(pair[side].relative_to(root)) for pair in pairs.values()})) for side in range(2)]
    line = f"pictures in {named[0]}; masks in {named[1]}{example}"
    return FoundFiles(files, line)


def _example(pictures: Mapping[str, Path], labels: Mapping[str, Path]) -> str:
    """How the names go together, where they are not the same."""
    for name in pictures:
        if name in labels:
            differ = pictures[name].stem != labels[name].stem
            return f" ({pictures[name].name} with {labels[name].name})" if differ else ""
    return ""


# -- names -------------------------------------------------------------------------------------------------------------


_Named = dict[str, Path]
_BySplit = dict[str, _Named]


def _ending(files: dict[str, Path], suffix: str) -> dict[str, Path]:
    """Those whose name ends so, by the name without it."""
    return {name.removesuffix(suffix): file for name, file in files.items() if name.endswith(suffix)}


def _by_common_name(pictures: _BySplit, labels: _BySplit) -> tuple[_BySplit, _BySplit]:
    """Both by what their names share: the names as they are, or without what all on one side begin or end with."""
    least = min(len(_names(pictures)), len(_names(labels)))
    if 2 * len(_names(pictures) & _names(labels)) >= least:
        return pictures, labels
    for strip_pictures, strip_labels in ((False, True), (True, True), (True, False)):
        first = _stripped(pictures) if strip_pictures else pictures
        second = _stripped(labels) if strip_labels else labels
        if 2 * len(_names(first) & _names(second)) > least:
            return first, second
    return pictures, labels


def _names(files: _BySplit) -> set[tuple[str, str]]:
    return {(split, name) for split, named in files.items() for name in named}


def _stripped(files: _BySplit) -> _BySplit:
    """By name without the longest head and tail that nearly all share; the names where two would become one."""
    names = [name for named in files.values() for name in named]
    tail = _shared(names, lambda name: [name[at:] for at in range(1, len(name)) if _is_border(name[at - 1], name[at])])
    names = [name.removesuffix(tail) for name in names]
    head = _shared(names, lambda name: [name[:at] for at in range(1, len(name)) if _is_border(name[at - 1], name[at])])
    keyed = {
        split: {name.removesuffix(tail).removeprefix(head): file for name, file in named.items()}
        for split, named in files.items()
    }
    return keyed if len(_names(keyed)) == len(names) else files


def _is_border(before: str, after: str) -> bool:
    """Between a number and a word, or at a sign such as _ (which belongs to the word)."""
    return not (before.isdigit() and after.isdigit()) and not (before.isalpha() and after.isalpha())


def _shared(names: Collection[str], parts: Callable[[str], list[str]]) -> str:
    """The longest part that at least nine in ten of two or more names have, and that holds a letter."""
    counted = Counter(part for name in names for part in parts(name))
    number = len(names)
    common = [part for part, count in counted.items() if count >= max(2, 0.9 * number) and any(map(str.isalpha, part))]
    return max(common, key=len, default="")


def _one_folder(root: Path, images: str | None, mask_suffix: str | None) -> FoundFiles | None:
    """Pictures and masks side by side, told apart by the masks' suffix or by their format."""
    base = root / images if images else _pictures_in_or_below(root)
    folders = {FLAT: base} if _files(base) else {one.name: _pictures_in_or_below(one) for one in _folders_in(base)}
    files, example = {}, ""
    for split in sorted(folders, key=_in_usual_order):
        pictures, labels, twins = _side_by_side(_files(folders[split]), mask_suffix)
        if labels:
            place = f"{folders[split].relative_to(root)}/*"
            files[split] = SplitFiles(
                name=split or "all", images=pictures, labels=labels, places=(place, place), twins=twins
            )
            example = example or _example(pictures, labels) or " (x.jpg with x.png)"
    return FoundFiles(files, f"pictures and masks side by side{example}") if files else None


def _pictures_in_or_below(folder: Path) -> Path:
    """The folder, or that of its pictures by name."""
    below = (one for one in _folders_in(folder) if one.name.lower() in _IMAGES)
    return folder if _files(folder) else next(below, folder)


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in _MASK_SUFFIXES and not f.name.startswith("."))


def _side_by_side(files: list[Path], mask_suffix: str | None) -> tuple[_Named, _Named, tuple[UserError, ...]]:
    first, twins = by_stem(files)
    if mask_suffix is None:
        tails = Counter(name[at:] for name in first for at in range(1, len(name)) if name[:at] in first)
        mask_tails = [tail for tail, _ in tails.most_common() if _MASK_WORD.search(tail)]
        mask_suffix = mask_tails[0] if mask_tails else None
    if mask_suffix is not None:
        labels = {name.removesuffix(mask_suffix): file for name, file in first.items() if name.endswith(mask_suffix)}
        return {name: file for name, file in first.items() if not name.endswith(mask_suffix)}, labels, twins
    pictures, twins = by_stem([file for file in files if not _is_lossless(file)])
    labels, others = by_stem([file for file in files if _is_lossless(file)])
    return (pictures, labels, twins + others) if pictures.keys() & labels.keys() else ({}, {}, ())


def _is_lossless(file: Path) -> bool:
    return file.suffix.lower() not in {".jpg", ".jpeg", ".webp"}
