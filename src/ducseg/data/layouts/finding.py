"""Where pictures and masks lie under a folder, as people have them: found by names; `truths` tells masks apart.

| layout | names |
|---|---|
| two folders | images, img, JPEGImages, ... beside masks, labels, gt, ...; or names with such words |
| sorted | the same with train/, val/, ... in both, or train/ and val/ with the two folders in each; or deeper |
| beside | train/ and train_masks/ (or trainannot/), val/ and val_masks/; train_images/ and train_masks/ |
| one folder | x.jpg beside x_mask.png, or beside x.png |
| nnU-Net's | imagesTr/x_0000.png and labelsTr/x.png: `nnunet` |
| any two | of which one holds masks by what its first file shows, and whose names go together |

Mask names may have more than picture names at their end or beginning: x.jpg and x_mask.png, img_7.jpg and mask_7.png.
Hidden folders and those of file managers are no splits.
"""

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from ducseg.data.files.reading import PICTURE_SUFFIXES
from ducseg.data.layouts.file_names import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    MASK_SUFFIXES,
    MASK_WORD,
    SPLITS,
    by_common_name,
    ending,
    files_of,
    side_by_side,
    tail_of_masks,
    tails_of,
)
from ducseg.data.layouts.layout import FoundFiles, SplitFiles
from ducseg.data.layouts.mask_files import MaskLook, look_at
from ducseg.data.layouts.mask_shapes import are_views
from ducseg.data.layouts.nnunet import find_cases
from ducseg.data.layouts.truths import the_truth
from ducseg.data.paired import list_pictures
from ducseg.errors import UserError, explain, listed, typed
from ducseg.files import composed, is_hidden

__all__ = ["find_files", "likely_folders"]

_FEW_VALUES = 4
FLAT = ""
"""The split of pictures that are not sorted into splits."""

_MASK_FOLDER = re.compile(
    r"mask|label|truth|segm|annot|manual|vessel|membrane|(?<![a-z])(gts?|lbls?|lab|seg)(?![a-z])", re.IGNORECASE
)
_IMAGE_FOLDER = re.compile(
    r"image|picture|photo|original|(?<![a-z])(imgs?|raw|inputs?|rgb|volume)(?![a-z])", re.IGNORECASE
)


def find_files(root: Path, *, images: str | None, masks: str | None, mask_suffix: str | None) -> FoundFiles:
    """Look for pictures and masks under `root`; the arguments are the fields of `DataConfig`.

    Raises:
        UserError: two pictures of one name, several folders that could be meant; as `find_cases`.
    """
    if images is masks is mask_suffix is None and (cases := find_cases(root)) is not None:
        return cases
    left_out: list[str] = []
    pairs = _two_folders(root, images, masks, left_out)
    if pairs:
        return _listed(root, pairs, mask_suffix, left_out)
    alone = _one_folder(root, images, mask_suffix, left_out)
    if alone is not None:
        return alone
    named = root / (images or "images"), root / (masks or "masks")
    inside = _folders_in(root)
    if len(inside) == 1 and inside[0] not in named and not files_of(root):  # as archives unpack
        return find_files(inside[0], images=images, masks=masks, mask_suffix=mask_suffix)
    if any(one.is_dir() for one in named):
        return _listed(root, {FLAT: named}, mask_suffix, [])
    if images is masks is None and len(inside) == 2 and (likely := likely_folders(root)) is not None:
        found = _listed(root, {FLAT: (root / likely[0], root / likely[1])}, mask_suffix, [])
        pictures, labels = found.splits[FLAT].images, found.splits[FLAT].labels or {}
        paired = len(pictures.keys() & labels.keys()) >= 0.9 * max(len(pictures), len(labels))
        if paired and not are_views(list(labels.values())):
            return found
    return FoundFiles({}, "")


def likely_folders(root: Path) -> tuple[str, str] | None:
    """Names of a folder of pictures and one of masks, by names or by what they hold; None: they do not tell."""
    looks = {one.name: look_at(files[0]) for one in _folders_in(root) if (files := files_of(one))}
    masks = [name for name in looks if _is_masks(name)] or [
        name for name, look in looks.items() if isinstance(look, MaskLook) and len(look.counts) <= _FEW_VALUES
    ]
    pictures = [name for name in looks if name not in masks]
    return (pictures[0], masks[0]) if pictures and masks else None


# -- folders -----------------------------------------------------------------------------------------------------------


def _two_folders(
    root: Path, images: str | None, masks: str | None, left_out: list[str]
) -> dict[str, tuple[Path, Path]]:
    """Split -> folder of its images and of its masks."""
    prefixed = _prefixed(root, left_out) if images is None and masks is None else {}
    if prefixed:
        return dict(sorted(prefixed.items(), key=lambda one: _in_usual_order(one[0])))
    found = _pair_in(root, images, masks, left_out)
    if found is None:
        inside = {folder.name: _pair_in(folder, images, masks, left_out) for folder in _folders_in(root)}
        pairs = _alike({name: pair for name, pair in inside.items() if pair}, left_out) or _siblings(root)
        return dict(sorted(pairs.items(), key=lambda one: _in_usual_order(one[0])))
    images_in, masks_in = ({composed(folder.name): folder for folder in _folders_in(side)} for side in found)
    spelled = {name.lower(): name for name in masks_in.keys() - images_in.keys()}
    for name in images_in.keys() - masks_in.keys():  # Train beside train
        if (other := spelled.get(name.lower())) is not None and other in masks_in:
            masks_in[name] = masks_in.pop(other)
    both = images_in.keys() | masks_in.keys()
    if any(files_of(side) for side in found):
        both = {name for name in images_in.keys() & masks_in.keys() if name.lower() in SPLITS}
    if not both:
        return {FLAT: found}
    return {
        name: (images_in.get(name, found[0] / name), masks_in.get(name, found[1] / name))
        for name in sorted(both, key=_in_usual_order)
    }


def _pair_in(folder: Path, images: str | None, masks: str | None, left_out: list[str]) -> tuple[Path, Path] | None:
    side = _called(folder, images, _is_images, "images", left_out)
    if side is not None and (other := _called(folder, masks, _is_masks, "masks", left_out)) is not None:
        return side, other
    return _siblings(folder).get(FLAT) if images is None and masks is None else None


def _is_masks(name: str) -> bool:
    return name.lower() in MASK_FOLDERS or _MASK_FOLDER.search(name) is not None


def _is_images(name: str) -> bool:
    return name.lower() in IMAGE_FOLDERS or (_IMAGE_FOLDER.search(name) is not None and not _is_masks(name))


def _prefixed(root: Path, left_out: list[str]) -> dict[str, tuple[Path, Path]]:
    """train_images beside train_masks, test_img beside test_lab: the folders of each split that has both."""
    sides: dict[str, tuple[list[Path], list[Path]]] = {}
    for folder in _folders_in(root):
        split = next((part for part in re.split(r"[-_. ]", folder.name) if part.lower() in SPLITS), folder.name)
        if split != folder.name and (_is_images(folder.name) or _is_masks(folder.name)):
            sides.setdefault(split, ([], []))[_is_masks(folder.name)].append(folder)
    return {
        split: (images[0], _one_of(root, masks, "masks", MASK_FOLDERS, left_out))
        for split, (images, masks) in sides.items()
        if len(images) == 1 and masks
    }


def _alike(pairs: dict[str, tuple[Path, Path]], left_out: list[str]) -> dict[str, tuple[Path, Path]]:
    """Without the splits that have nothing but a field of view where others have the truth."""
    if len({masks.name for _, masks in pairs.values()}) < 2:
        return pairs
    views = [name for name, (_, masks) in pairs.items() if are_views(_files_below(masks))]
    if len(views) == len(pairs):
        return pairs
    left_out += [f"{name}/{pairs[name][1].name} (the field of view)" for name in views]
    return {name: pair for name, pair in pairs.items() if name not in views}


def _siblings(root: Path) -> dict[str, tuple[Path, Path]]:
    """train beside train_masks or trainannot; of one such pair the name is no split unless it is one's."""
    folders = {folder.name: folder for folder in _folders_in(root)}
    pairs = {
        name: (folder, folders[other])
        for name, folder in folders.items()
        for other in folders
        if other.startswith(name) and MASK_WORD.match(other.removeprefix(name).lstrip("_- "))
    }
    if len(pairs) == 1 and not set(pairs) & set(SPLITS):
        return {FLAT: next(iter(pairs.values()))}
    return pairs


def _called(
    folder: Path, given: str | None, is_meant: Callable[[str], bool], option: str, left_out: list[str]
) -> Path | None:
    if given is not None:
        return folder / given if (folder / given).is_dir() else None
    usual = IMAGE_FOLDERS if option == "images" else MASK_FOLDERS
    there = [inside for inside in _folders_in(folder) if is_meant(inside.name)]
    exact = [inside for inside in there if inside.name.lower() in usual]
    there = [inside for inside in there if _files_below(inside)] or exact
    return _one_of(folder, there, option, usual, left_out) if there else None


def _one_of(folder: Path, there: list[Path], option: str, usual: tuple[str, ...], left_out: list[str]) -> Path:
    """The folder that is meant: the truth of several of masks, then the one of a usual name."""
    if option == "masks" and there[1:]:
        meant = the_truth({inside.name: _files_below(inside) for inside in there}, left_out)
        there = [inside for inside in there if inside.name in meant]
    exact = [inside for inside in there if inside.name.lower() in usual]
    if len(exact) == 1 and there[1:]:
        left_out += [inside.name for inside in there if inside not in exact]
        there = exact
    if len(there) > 1:
        raise explain(
            f"{option} in {folder}",
            found=" and ".join(f"{inside.name}/" for inside in there),
            needed="one folder of them",
            fix=f"Say which: --data.{option} {typed(there[0].name)}.",
        )
    return there[0]


def _files_below(folder: Path) -> list[Path]:
    return [file for one in (folder, *_folders_in(folder)) for file in files_of(one)]


def _folders_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(one for one in folder.iterdir() if one.is_dir() and not is_hidden(Path(one.name)))


def _all_folders_in(folder: Path, depth: int = 3) -> list[Path]:
    """Those below it, so deep: links may lead in a circle."""
    inside = _folders_in(folder) if depth else []
    return [one for part in inside for one in (part, *_all_folders_in(part, depth - 1))]


def _in_usual_order(split: str) -> tuple[int, str]:
    place = SPLITS.index(split.lower()) if split.lower() in SPLITS else len(SPLITS)
    return place, split


def _pictures(folder: Path, suffixes: frozenset[str] = MASK_SUFFIXES) -> tuple[dict[str, Path], tuple[UserError, ...]]:
    """The pictures in a folder by name; where there are none, those in folders below it, seq1/0007."""
    found, twins = dict[str, Path](), list[UserError]()
    for place in (folder, *_all_folders_in(folder)) if folder.is_dir() else ():
        here, double = list_pictures(place, suffixes)
        above = "" if place == folder else f"{composed(place.relative_to(folder).as_posix())}/"
        found |= {f"{above}{name}": file for name, file in here.items()}
        twins += double
        if found and place == folder:
            break
    return found, tuple(twins)


def _listed(
    root: Path, pairs: Mapping[str, tuple[Path, Path]], mask_suffix: str | None, left_out: list[str]
) -> FoundFiles:
    there = {split: (_pictures(image, PICTURE_SUFFIXES), _pictures(mask)) for split, (image, mask) in pairs.items()}
    twins = {split: (*first, *second) for split, ((_, first), (_, second)) in there.items()}
    if mask_suffix is None:
        several = ({**found, **labels} for ((found, _), (labels, _)) in there.values() if len(labels) > len(found))
        tails = next((tails for files in several if len(tails := tails_of(files)) > 1), {})
        mask_suffix = tail_of_masks(tails, root, left_out) if tails else None
    pictures, labels = by_common_name(
        {split: found for split, ((found, _), _) in there.items()},
        {split: ending(found, mask_suffix or "") for split, (_, (found, _)) in there.items()},
    )
    files, example = {}, ""
    for split, sides in pairs.items():
        places = tuple(f"{_place(side, root)}/*.{{jpg,png,...}}" for side in sides)
        files[split] = SplitFiles(
            name=split or "all",
            images=pictures[split],
            labels=labels[split],
            places=(places[0], places[1]),
            twins=twins[split],
        )
        example = example or _example(pictures[split], labels[split])
    named = [listed(sorted({_place(pair[side], root) for pair in pairs.values()}), 3) for side in range(2)]
    return FoundFiles(files, f"pictures in {named[0]}; masks in {named[1]}{example}{_without(left_out)}")


def _place(folder: Path, root: Path) -> str:
    """Relative to the root; of a folder elsewhere the path as given."""
    pairs = (folder, root), (folder.resolve(), root.resolve())
    return next(
        (str(inside.relative_to(above)) for inside, above in pairs if inside.is_relative_to(above)), str(folder)
    )


def _without(left_out: Collection[str]) -> str:
    return f"; left out: {', '.join(left_out)}" if left_out else ""


def _example(pictures: Mapping[str, Path], labels: Mapping[str, Path]) -> str:
    """How the names go together, where they are not the same."""
    for name in pictures:
        if name in labels:
            differ = composed(pictures[name].stem) != composed(labels[name].stem)
            return f" ({pictures[name].name} with {labels[name].name})" if differ else ""
    return ""


def _one_folder(root: Path, images: str | None, mask_suffix: str | None, left_out: list[str]) -> FoundFiles | None:
    """Pictures and masks side by side, told apart by the masks' suffix or by their format."""
    base = root / images if images else _pictures_in_or_below(root)
    folders = {FLAT: base} if files_of(base) else {one.name: _pictures_in_or_below(one) for one in _folders_in(base)}
    files, example = {}, ""
    for split in sorted(folders, key=_in_usual_order):
        pictures, labels, twins = side_by_side(files_of(folders[split]), mask_suffix, left_out)
        if labels:
            place = f"{_place(folders[split], root)}/*"
            files[split] = SplitFiles(
                name=split or "all", images=pictures, labels=labels, places=(place, place), twins=twins
            )
            example = example or _example(pictures, labels) or " (x.jpg with x.png)"
    return FoundFiles(files, f"pictures and masks side by side{example}{_without(left_out)}") if files else None


def _pictures_in_or_below(folder: Path) -> Path:
    """The folder, or that of its pictures by name."""
    below = (one for one in _folders_in(folder) if one.name.lower() in IMAGE_FOLDERS)
    return folder if files_of(folder) else next(below, folder)
