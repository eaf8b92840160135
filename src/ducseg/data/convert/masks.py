"""`data convert masks`: several masks a picture to one label map, in the folder layout.

How they belong together is told by names (`layouts/several_masks`): a folder a class, an ending a class, or a mask an
object, all of one class. What is in no mask is background; larger masks lie under smaller ones. A class's masks are
read by the rule of two classes (docs/data.md, "What masks may hold"): two values, or noise about 0 and 255.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from ducseg.classes import VOC_PALETTE, ClassSet
from ducseg.cores import available_cores
from ducseg.data.convert.coco import Mask
from ducseg.data.convert.writing import BACKGROUND, Annotated, Export, Shape, no_such_source
from ducseg.data.files.reading import picture_size
from ducseg.data.layouts.file_names import MASK_WORD, SPLITS
from ducseg.data.layouts.mask_files import MaskLook, look_at
from ducseg.data.layouts.mask_reader import MaskReader, MaskRule, shown
from ducseg.data.layouts.mask_readings import counts_of
from ducseg.data.layouts.mask_rule import find_rule
from ducseg.data.layouts.several_masks import ENDING, OBJECT, SAME, FoundMasks, find_masks
from ducseg.errors import explain, listed
from ducseg.files import files_below

__all__ = ["read"]

_TWO = ClassSet((BACKGROUND, "object"), VOC_PALETTE[:2])
_NEEDED = "images/x.png with masks/CLASS/x.png or masks/x_CLASS.png, or ID/images/ID.png with ID/masks/*.png"


def read(source: Path, images: Path | None = None, *, class_name: str | None = None) -> Export:
    """Read a folder with several masks a picture.

    Args:
        images: the pictures' folder; None: they lie in `source` too.
        class_name: of masks that name no class, an object each; None: foreground.

    Raises:
        UserError: no such folder; two pictures of one name; masks of no picture, or one a picture; masks that do not
            read, of more than two values, of another size than their picture; a `class_name` where masks name classes.
    """
    if not source.is_dir():
        raise no_such_source("masks", source, "a folder with pictures and several masks of each")
    below = None if images is None else [file.relative_to(images) for file in files_below(images)]
    files = (file for file in files_below(source) if images is None or not file.is_relative_to(images))
    found = find_masks([file.relative_to(source) for file in files], below)
    how = _how(found, source)
    if class_name is not None and how != OBJECT:
        needed = "masks that name no class, an object each"
        raise explain(
            f"--class-name {class_name}", found=f"{how} ({found.example})", needed=needed, fix="Leave it out."
        )
    looks = _looks([source / mask.file for masks in found.pictures.values() for mask in masks])
    of_picture = {
        picture: [(mask.name or class_name or "foreground", looks[source / mask.file]) for mask in masks]
        for picture, masks in found.pictures.items()
    }
    _check_sizes({(images or source) / picture: masks for picture, masks in of_picture.items()})
    of_class: dict[str, list[MaskLook]] = {}
    for name, look in (mask for masks in of_picture.values() for mask in masks):
        of_class.setdefault(name, []).append(look)
    rules = {name: _rule(name, of_class[name]) for name in sorted(of_class)}
    return Export(
        pictures=[_annotated(images or source, picture, masks, rules) for picture, masks in of_picture.items()],
        names=list(rules),
        notes=[f"masks: {how} ({found.example})", *_said(rules), *_without(of_picture, rules), *_left_out(found)],
    )


def _how(found: FoundMasks, source: Path) -> str:
    """The one way in which all masks are several."""
    if found.twins:
        raise found.twins[0]
    if found.alone or not found.masks:
        pictures = len(found.pictures) + len(found.unmasked)
        alone = f"{len(found.alone)} masks of none of them ({listed(found.alone, 3)})" if found.alone else "no masks"
        fix = "Take out what has no picture, rename it, or say where the pictures are: --images DIR."
        raise explain(f"masks in {source}", found=f"{pictures} pictures, {alone}", needed=_NEEDED, fix=fix)
    if len(found.masks) > 1:
        ways = "; ".join(f"{how} ({masks[0].file})" for how, masks in found.masks.items())
        raise explain(f"masks in {source}", found=ways, needed="one way for all", fix="Bring them into one of them.")
    ((how, masks),) = found.masks.items()
    if how == SAME or (how == ENDING and len({mask.name for mask in masks}) == 1 and MASK_WORD.search(masks[0].name)):
        fix = f"Nothing is to be converted: ducseg train {source}."
        raise explain(f"masks in {source}", found=f"{SAME} ({found.example})", needed=_NEEDED, fix=fix)
    return how


def _looks(masks: Sequence[Path]) -> dict[Path, MaskLook]:
    with ThreadPoolExecutor(min(8, available_cores())) as pool:
        looks = dict(zip(masks, pool.map(look_at, masks)))
    read = {path: look for path, look in looks.items() if isinstance(look, MaskLook)}
    unreadable = [look for look in looks.values() if not isinstance(look, MaskLook)]
    if unreadable:
        more = f" {len(unreadable) - 1} more masks do not read." if unreadable[1:] else ""
        raise type(unreadable[0])(f"{unreadable[0]}{more}")
    return read


def _check_sizes(pictures: Mapping[Path, Sequence[tuple[str, MaskLook]]]) -> None:
    """Raise one `UserError` that counts all masks of another size than their picture."""
    differ = [
        (picture, size, look)
        for picture, masks in pictures.items()
        for size in [picture_size(picture)]
        for _, look in masks
        if look.size != size
    ]
    if differ:
        picture, size, look = differ[0]
        raise explain(
            f"mask {look.path}" + (f" and {len(differ) - 1} more" if differ[1:] else ""),
            found=f"{look.size[0]} x {look.size[1]} pixels (H x W)",
            needed=f"{size[0]} x {size[1]}, the size of {picture} as a viewer shows it",
            fix="Give each picture its own masks.",
        )


def _rule(name: str, looks: Sequence[MaskLook]) -> MaskRule:
    """How the masks of a class are read; raises `UserError` where they hold more than two values."""
    rule = find_rule(looks, _TWO)
    counts = counts_of(looks, rule.as_colours)
    unlike = [look for look in looks if look.kind == "colours" and not rule.as_colours]
    unlike += [
        look for look in looks if any(rule.meaning.get(one) not in (0, 1) for one in look.counted(rule.as_colours))
    ]
    if unlike or rule.problem is not None:
        kind = "colours" if rule.as_colours else "values"
        often = listed([shown(value, rule.as_colours) for value, _ in counts.most_common()], 4)
        raise explain(
            f"masks of {name}, such as {max(unlike or looks, key=lambda look: len(look.counts)).path}",
            found=f"{len(counts)} {kind} ({often})",
            needed="two in all of them, such as 0 and 255",
            fix="Export them anew, as PNG and without smoothing; a mask of several classes needs no converting.",
        )
    return rule


def _annotated(
    base: Path, picture: Path, masks: Sequence[tuple[str, MaskLook]], rules: Mapping[str, MaskRule]
) -> Annotated:
    """With the masks in which there is something, the largest first."""
    areas = [(_area(look, rules[name]), name, look.path) for name, look in masks]
    shapes = [
        Shape(name, partial(_draw, rules[name].reader, path))
        for area, name, path in sorted(areas, key=lambda one: -one[0])
        if area
    ]
    split = next((part for part in picture.parts[:-1] if part.lower() in SPLITS), "")
    return Annotated(file=base / picture, name=picture.as_posix(), shapes=tuple(shapes), split=split)


def _area(look: MaskLook, rule: MaskRule) -> int:
    return sum(pixels for value, pixels in look.counted(rule.as_colours).items() if rule.meaning[value])


def _draw(read: MaskReader, path: Path, _height: int, _width: int) -> Mask:
    return np.asarray(read(path) == 1)


def _said(rules: Mapping[str, MaskRule]) -> Iterator[str]:
    """How the masks are read, a line for all where it is the same."""
    lines = {name: rule.line.removeprefix("masks: ") for name, rule in rules.items()}
    if len(set(lines.values())) == 1:
        yield f"in masks: {next(iter(lines.values()))}"
    else:
        yield from (f"in masks of {name}: {line}" for name, line in lines.items())


def _without(pictures: Mapping[Path, Sequence[tuple[str, MaskLook]]], rules: Mapping[str, MaskRule]) -> Iterator[str]:
    """What is missing, and what becomes one."""
    have = [Counter(name for name, _ in masks) for masks in pictures.values()]
    lacking = {name: sum(name not in one for one in have) for name in rules}
    if any(lacking.values()) and len(rules) > 1:
        each = ", ".join(f"{number} of {name}" for name, number in lacking.items() if number)
        yield f"pictures without a mask of a class show none of it: {each}"
    if bare := [str(picture) for picture, masks in pictures.items() if not masks]:
        yield f"{len(bare)} pictures have no mask and are all {BACKGROUND} ({listed(bare, 3)})"
    if any(number > 1 for one in have for number in one.values()):
        yield "objects of one class that touch have become one"


def _left_out(found: FoundMasks) -> Iterator[str]:
    if found.unmasked:
        yield f"left out: {len(found.unmasked)} pictures in folders without masks ({listed(found.unmasked, 3)})"
