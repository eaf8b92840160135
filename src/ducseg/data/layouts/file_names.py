"""Which picture and which mask go together, by their names alone.

Mask names may have more than picture names at their end or beginning: x.jpg and x_mask.png, img_7.jpg and mask_7.png.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path, PurePath

from ducseg.data.files.reading import PICTURE_SUFFIXES
from ducseg.data.layouts.truths import the_truth
from ducseg.data.paired import by_stem
from ducseg.errors import UserError, explain, typed
from ducseg.files import composed

__all__ = [
    "IMAGE_FOLDERS", "MASK_FOLDERS", "MASK_SUFFIXES", "MASK_WORD", "SPLITS", "by_common_ending",
    "by_common_name", "ending", "files_of", "masks_beside", "side_by_side", "tail_of_masks", "tails_of",
]  # fmt: skip

IMAGE_FOLDERS = (
    "images", "image", "imgs", "img", "jpegimages", "jpgs", "pictures", "photos", "rgb", "input", "inputs",
)  # fmt: skip
MASK_FOLDERS = (
    "masks", "mask", "labels", "label", "gt", "gts", "groundtruth", "ground_truth", "ground-truth", "truth",
    "annotations", "annotation", "annots", "segmentationclass", "segmentation", "segmentations", "seg", "targets",
    "target", "manual", "1st_manual",
)  # fmt: skip
SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")
NNUNET_MASKS = ("labelsTr", "labelsTs")
_FIRST_CHANNEL = "_0000"  # nnU-Net's
MASK_SUFFIXES = PICTURE_SUFFIXES | {".gif", ".pbm"}
MASK_WORD = re.compile(r"mask|label|lbl|gt|truth|seg|annot|manual", re.IGNORECASE)

Named = dict[str, Path]
BySplit = dict[str, Named]
"""Split -> name -> file."""


def ending(files: dict[str, Path], suffix: str) -> dict[str, Path]:
    """Those whose name ends so, by the name without it."""
    return {name.removesuffix(suffix): file for name, file in files.items() if name.endswith(suffix)}


def by_common_name(pictures: BySplit, labels: BySplit) -> tuple[BySplit, BySplit]:
    """Both by the pictures' names, a label without a picture by its own; with the folders of the names given."""
    first, second = _by_what_is_shared(pictures, labels)
    given = [one for files in (*pictures.values(), *labels.values()) for one in files.items()]
    above = {file: name[: name.rfind("/") + 1] for name, file in given}

    def called(file: Path) -> str:
        return above[file] + composed(file.stem)

    named = {split: {called(file): file for file in files.values()} for split, files in first.items()}
    of_pictures: BySplit = {}
    for split, files in second.items():
        partners = {key: called(file) for key, file in first[split].items()}
        alone = {
            key: above[file] + composed(file.name) if called(file) in named[split] else called(file)
            for key, file in files.items()
        }
        of_pictures[split] = {partners.get(key, alone[key]): file for key, file in files.items()}
    return named, of_pictures


def _by_what_is_shared(pictures: BySplit, labels: BySplit) -> tuple[BySplit, BySplit]:
    """Both by what their names share: the names as they are, or without what all on one side begin or end with.

    Where the ending is the split's (21_training, 01_test), by what they share in each split.
    """
    found = _matched(pictures, labels)
    if found is None and len(pictures) > 1:
        each = [_matched({split: pictures[split]}, {split: labels[split]}) for split in pictures]
        matched = [one for one in each if one is not None]
        if len(matched) == len(each):
            joined: tuple[BySplit, BySplit] = ({}, {})
            for first, second in matched:
                joined[0].update(first)
                joined[1].update(second)
            return joined
    return found or (pictures, labels)


def by_common_ending(pictures: BySplit, labels: BySplit) -> tuple[BySplit, BySplit]:
    """As `by_common_name`, but with their beginnings where the endings alone tell: also a few of many have the same."""
    return _matched(pictures, labels, heads=False) or by_common_name(pictures, labels)


def _matched(pictures: BySplit, labels: BySplit, *, heads: bool = True) -> tuple[BySplit, BySplit] | None:
    least = min(len(_names(pictures)), len(_names(labels)))
    if 2 * len(_names(pictures) & _names(labels)) >= least:
        return pictures, labels
    for strip_pictures, strip_labels in ((False, True), (True, True), (True, False)):
        first = _stripped(pictures, heads=heads) if strip_pictures else pictures
        second = _stripped(labels, heads=heads) if strip_labels else labels
        if 2 * len(_names(first) & _names(second)) > least:
            return first, second
    return None


def _names(files: BySplit) -> set[tuple[str, str]]:
    return {(split, name) for split, named in files.items() for name in named}


def _stripped(files: BySplit, *, heads: bool) -> BySplit:
    """By name without the longest tail, and head, that nearly all share; the names where two would become one."""
    names = [name for named in files.values() for name in named]
    tail = _shared(names, lambda name: [name[at:] for at in range(1, len(name)) if _is_border(name[at - 1], name[at])])
    names = [name.removesuffix(tail) for name in names]
    head = _shared(names, lambda name: [name[:at] for at in range(1, len(name)) if _is_border(name[at - 1], name[at])])
    head = head if heads else ""
    keyed = {
        split: {name.removesuffix(tail).removeprefix(head): file for name, file in named.items()}
        for split, named in files.items()
    }
    return keyed if len(_names(keyed)) == len(names) else files


def _is_border(before: str, after: str) -> bool:
    """Between a number and a word, or at a sign such as _ (which belongs to the word)."""
    return not (before.isdigit() and after.isdigit()) and not (before.isalpha() and after.isalpha())


def _shared(names: Collection[str], parts: Callable[[str], list[str]]) -> str:
    """The longest part that at least nine in ten of two or more names have, and that holds a letter or is nnU-Net's."""
    counted = Counter(part for name in names for part in parts(name))
    number = len(names)
    common = [part for part, count in counted.items() if count >= max(2, 0.9 * number)]
    common = [part for part in common if any(map(str.isalpha, part)) or part == _FIRST_CHANNEL]
    return max(common, key=len, default="")


def files_of(folder: Path) -> list[Path]:
    """The files in a folder, if it is one, that could be pictures or masks."""
    if not folder.is_dir():
        return []
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in MASK_SUFFIXES and not f.name.startswith("."))


def side_by_side(
    files: list[Path], mask_suffix: str | None, left_out: list[str]
) -> tuple[Named, Named, tuple[UserError, ...]]:
    """Pictures and masks of one folder, and what is said of files of one name; `left_out` gets the other masks."""
    first, twins = by_stem(files)
    tails = tails_of(first)
    if mask_suffix is None and tails:
        mask_suffix = tail_of_masks(tails, files[0].parent, left_out)
    if mask_suffix is not None:
        labels = ending(first, mask_suffix)
        besides = {f"{name}{tail}" for tail in tails for name in labels} - labels.keys()
        pictures = {
            name: file for name, file in first.items() if not name.endswith(mask_suffix) and name not in besides
        }
        return pictures, labels, twins
    pictures, twins = by_stem([file for file in files if not _is_lossless(file)])
    labels, others = by_stem([file for file in files if _is_lossless(file)])
    return (pictures, labels, twins + others) if pictures.keys() & labels.keys() else ({}, {}, ())


def masks_beside(files: Collection[PurePath], mask_suffix: str | None = None) -> set[PurePath]:
    """Those that are by their names the masks of others: x_mask.png beside x.jpg, masks/x.png beside images/x.jpg.

    What such a name has beyond the picture's is `mask_suffix`, or begins with a word for masks, or with a sign and has
    one; in a folder of `MASK_FOLDERS`, whose other half is the folder above or one of `IMAGE_FOLDERS` in it, it may be
    the picture's; nnU-Net's labelsTr/x.png is of imagesTr/x_0000.png. Without a picture of the name, a file is none.
    """
    there: dict[PurePath, set[str]] = {}
    for file in files:
        there.setdefault(file.parent, set()).add(composed(file.stem))

    def ends_a_mask(tail: str) -> bool:
        found = MASK_WORD.search(tail)
        return tail == mask_suffix or (found is not None and (found.start() == 0 or not tail[0].isalnum()))

    def pictures_of(name: str) -> set[str]:
        return {name[:at] for at in range(1, len(name)) if ends_a_mask(name[at:])}

    def is_in_masks(file: PurePath) -> bool:
        for at, name in enumerate(file.parts[:-1]):
            if name.lower() in MASK_FOLDERS:
                above, below = type(file)(*file.parts[:at]), file.parts[at + 1 : -1]
                halves = {above, *(folders[above, name] for name in IMAGE_FOLDERS if (above, name) in folders)}
                deeper = range(min(2, len(below) + 1))  # masks/wire/x.png, of several masks a picture
                places = {half.joinpath(*below[skipped:]) for half in halves for skipped in deeper} - {file.parent}
                names = {composed(file.stem), *pictures_of(composed(file.stem))}
                if any(names & there.get(place, set()) for place in places):
                    return True
        side = file.parent.name
        images = file.parent.with_name(side.replace("labels", "images", 1)) if side in NNUNET_MASKS else None
        stem = composed(file.stem)
        return images is not None and bool({stem, f"{stem}{_FIRST_CHANNEL}"} & there.get(images, set()))

    folders = {(above.parent, above.name.lower()): above for folder in there for above in (folder, *folder.parents)}
    return {file for file in files if pictures_of(composed(file.stem)) & there[file.parent] or is_in_masks(file)}


def tails_of(files: Mapping[str, Path]) -> dict[str, list[Path]]:
    """What names have beyond others, a word for masks or else a sign first and with nearly all of them -> its files."""
    found: dict[str, list[Path]] = {}
    for name, file in files.items():
        for at in range(1, len(name)):
            if name[:at] in files:
                found.setdefault(name[at:], []).append(file)
    worded = {tail for tail in found if MASK_WORD.search(tail)}
    most = max((len(found[tail]) for tail in worded), default=0)
    signed = {tail for tail in found if not tail[0].isalnum() and len(found[tail]) > 1}
    bases = [name for name in files if not any(name.endswith(tail) for tail in signed | worded)]
    usual = {tail for tail in signed if len(found[tail]) >= 0.9 * len(bases)}
    kept = {tail for tail in worded if 2 * len(found[tail]) >= most} | usual
    return {tail: found[tail] for tail in sorted(kept, key=lambda tail: (-len(found[tail]), tail))}


def tail_of_masks(tails: Mapping[str, list[Path]], folder: Path, left_out: list[str]) -> str:
    """The ending of the masks' names."""
    meant = the_truth(tails, left_out)
    worded = [tail for tail in meant if MASK_WORD.search(tail)]
    if len(worded) == 1:
        meant = worded
    if len(meant) > 1:
        raise explain(
            f"masks in {folder}",
            found=f"names that end with {' and '.join(meant)}",
            needed="one mask a picture",
            fix=f"Say which: --data.mask-suffix={meant[0]}; or make one of all, a class each: "
            f"ducseg data convert masks {typed(folder)} --out OUT.",
        )
    return meant[0]


def _is_lossless(file: Path) -> bool:
    return file.suffix.lower() not in {".jpg", ".jpeg", ".webp"}
