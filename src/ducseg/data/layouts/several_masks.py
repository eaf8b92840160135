"""Several masks a picture, as people have them, told apart by names alone; `data convert masks` makes one of them.

| how | names |
|---|---|
| a folder a class | images/x.png with masks/crack/x.png and masks/spall/x.png |
| an ending a class | images/x.png with masks/x_crack.png and masks/x_spall.png, or all in one folder |
| a mask an object | ID/images/ID.png with ID/masks/*.png; or masks/x_1.png, masks/x_2.png, ... |

Folders of splits, sites or patients may lie above images/ and masks/ or in them. Hidden ones are left out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ducseg.data.files.reading import PICTURE_SUFFIXES
from ducseg.data.layouts.file_names import IMAGE_FOLDERS, MASK_FOLDERS, MASK_SUFFIXES, SPLITS
from ducseg.data.paired import by_stem
from ducseg.errors import UserError
from ducseg.files import composed, is_hidden

__all__ = ["ENDING", "FOLDER", "OBJECT", "SAME", "FoundMask", "FoundMasks", "find_masks"]

FOLDER = "a folder a class"
"""images/x.png with masks/crack/x.png."""
ENDING = "an ending a class"
"""images/x.png with masks/x_crack.png."""
OBJECT = "a mask an object"
"""ID/images/ID.png with ID/masks/*.png, or masks/x_1.png, masks/x_2.png."""
SAME = "one mask a picture"
"""images/x.png with masks/x.png: not several."""

_Key = tuple[str, ...]
"""Folders of a file but for images/ or masks/."""


@dataclass(frozen=True)
class FoundMask:
    """A mask file, how it is one of several, and the class that its name or folder says, "" where it says none."""

    file: Path
    how: str
    name: str = ""


@dataclass(frozen=True)
class FoundMasks:
    """What belongs together; paths are relative, as they were given.

    Attributes:
        pictures: picture -> its masks, of the folders in which there are some.
        alone: masks of no picture.
        unmasked: pictures in folders without any mask.
        twins: what is to be said of pictures left out because another one has their name.
    """

    pictures: Mapping[Path, list[FoundMask]]
    alone: Sequence[Path] = ()
    unmasked: Sequence[Path] = ()
    twins: Sequence[UserError] = ()
    masks: Mapping[str, list[FoundMask]] = field(init=False)
    """How -> those that are so."""

    def __post_init__(self) -> None:
        masks: dict[str, list[FoundMask]] = {}
        for mask in (mask for several in self.pictures.values() for mask in several):
            masks.setdefault(mask.how, []).append(mask)
        object.__setattr__(self, "masks", masks)

    @property
    def usual(self) -> str | None:
        """How most of the masks are several a picture; None: they are not, or few of them are."""
        how, masks = max(self.masks.items(), key=lambda one: len(one[1]), default=(SAME, []))
        several = how == FOLDER or any(len(masks) > 1 for masks in self.pictures.values())
        every = len(self.alone) + sum(map(len, self.masks.values()))
        return how if how != SAME and several and 2 * len(masks) > every else None

    @property
    def example(self) -> str:
        """A picture and its first two masks, for messages."""
        picture, masks = max(self.pictures.items(), key=lambda one: min(2, len(one[1])))
        return f"{picture} with {', '.join(str(mask.file) for mask in masks[:2])}"


def find_masks(files: Iterable[Path], images: Iterable[Path] | None = None) -> FoundMasks:
    """Pictures with their masks.

    Args:
        files: relative to the folder that holds them.
        images: pictures, relative to a folder of their own, where `files` are masks alone; None: they are among them.
    """
    files = [file for file in files if file.suffix.lower() in MASK_SUFFIXES and not is_hidden(file)]
    if images is not None:
        masks, others = files, [file for file in images if not is_hidden(file)]
    else:
        masks = [file for file in files if _is_in_masks(file)] or _endings(files)
        others = sorted(set(files) - set(masks))
    folders: dict[_Key, list[Path]] = {}
    for file in sorted(others):
        if file.suffix.lower() in PICTURE_SUFFIXES:
            folders.setdefault((_halves(file, IMAGE_FOLDERS) or [_above(file)])[-1], []).append(file)
    stems = {key: by_stem(pictures) for key, pictures in folders.items()}
    there = {key: named for key, (named, _) in stems.items()}
    found: dict[Path, list[FoundMask]] = {}
    alone, used = [], set[_Key]()
    for file in sorted(masks):
        match = next(_matches(file, there), None)
        if match is None:
            alone.append(file)
        else:
            key, picture, mask = match
            found.setdefault(picture, []).append(mask)
            used.add(key)
    pictures = [file for key in sorted(there) for file in there[key].values() if key in used]
    unmasked = [file for key in sorted(there) for file in there[key].values() if key not in used]
    twins = [twin for _, others in stems.values() for twin in others]
    return FoundMasks({picture: found.get(picture, []) for picture in pictures}, alone, unmasked, twins)


def _matches(file: Path, there: Mapping[_Key, Mapping[str, Path]]) -> Iterator[tuple[_Key, Path, FoundMask]]:
    """The picture in a folder of the same place, or of the place without the folder of the class; likeliest first."""
    for whole in _halves(file, MASK_FOLDERS) or [_above(file)]:
        yield from _matches_in(whole, file, there)


def _matches_in(
    whole: _Key, file: Path, there: Mapping[_Key, Mapping[str, Path]]
) -> Iterator[tuple[_Key, Path, FoundMask]]:
    for dropped in (len(whole), *reversed(range(len(whole)))):
        key, name = (*whole[:dropped], *whole[dropped + 1 :]), "".join(whole[dropped : dropped + 1])
        pictures = there.get(key, {})
        if not pictures or name.lower() in SPLITS:
            continue
        stem = _stem_of(whole_stem := composed(file.stem), pictures)
        if stem is None and len(pictures) > 1:
            continue
        tail = "" if stem is None else whole_stem.removeprefix(stem).strip("_-. ")
        if name:
            mask = FoundMask(file, FOLDER, name)
        elif stem == whole_stem:
            mask = FoundMask(file, SAME)
        else:
            mask = FoundMask(file, ENDING, tail) if any(map(str.isalpha, tail)) else FoundMask(file, OBJECT)
        yield key, pictures[stem] if stem is not None else next(iter(pictures.values())), mask


def _stem_of(name: str, pictures: Mapping[str, Path]) -> str | None:
    """The longest name of a picture that a mask's name is, or begins with, up to a sign."""
    ends = (at for at in range(len(name), 0, -1) if at == len(name) or not name[at].isalnum())
    return next((name[:at] for at in ends if name[:at] in pictures), None)


def _endings(files: Sequence[Path]) -> list[Path]:
    """Those of one folder whose name is another's and an ending, where two at least have each."""
    names = {(file.parent, composed(file.stem)) for file in files}
    tails: dict[str, list[Path]] = {}
    for file in files:
        stem = composed(file.stem)
        for at in range(1, len(stem)):
            if not stem[at].isalnum() and (file.parent, stem[:at]) in names:
                tails.setdefault(stem[at:], []).append(file)
    return [file for found in tails.values() if len(found) > 1 for file in found]


def _halves(file: Path, names: tuple[str, ...]) -> list[_Key]:
    """The folders that a file lies in, without one of such a name, for each that there is."""
    above = _above(file)
    return [(*above[:at], *above[at + 1 :]) for at, part in enumerate(above) if part.lower() in names]


def _above(file: Path) -> _Key:
    return tuple(map(composed, file.parts[:-1]))


def _is_in_masks(file: Path) -> bool:
    """Whether the last folder of images or masks that it lies in is one of masks."""
    names = [part.lower() for part in file.parts[:-1]]
    return next((name in MASK_FOLDERS for name in reversed(names) if name in MASK_FOLDERS + IMAGE_FOLDERS), False)
