"""Anyone's data: a folder of images, a folder of masks of the same names, and the classes.

Two layouts: `images/*` and `masks/*`, of which a fixed share is held out for validation; or `images/SPLIT/*` and
`masks/SPLIT/*`. Masks hold indices (grey or palette PNG) or the classes' colours (RGB): a look at some tells.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import ClassSet, Colour
from ducseg.data.files.reading import colours_in_use, read_label
from ducseg.data.paired import PairedFiles, match_pairs, no_such_data, pictures_in
from ducseg.errors import explain

__all__ = ["Folder", "MaskKind", "find_mask_kind", "held_out"]

MaskKind = Literal["index", "colour"]

_MASKS_LOOKED_AT = 16
_LAYOUT = "images and masks with the same names in two folders, or both sorted into train/ and val/ inside them"


class Folder(PairedFiles):
    """Images and masks matched by name without ending; ids are these names.

    Args:
        images, masks: the two folders.
        classes: names and colours (`ClassSet.read` of a classes.json); the order is that of the mask values.
        split: "train", "val", "all" (flat folders only), or the name of a sub-folder.
        val_fraction: flat folders: the share that is "val", the same pictures in every run; at least one.
        masks_as: "index" or "colour"; None looks at the masks.
        ignore_colours: colour masks: colours that become 255, such as (0, 0, 0) for unlabelled.

    Raises:
        UserError: no such folders, nothing in them, images or masks without a partner, masks of both kinds.
    """

    def __init__(
        self,
        images: Path | str,
        masks: Path | str,
        classes: ClassSet,
        *,
        split: str = "train",
        val_fraction: float = 0.1,
        masks_as: MaskKind | None = None,
        ignore_colours: Sequence[Colour] = (),
    ) -> None:
        if not 0 < val_fraction < 1:
            raise explain(
                "val_fraction", found=val_fraction, needed="above 0 and below 1", fix="0.1 holds out a tenth."
            )
        images, masks = Path(images), Path(masks)
        for folder in (images, masks):
            if not folder.is_dir():
                raise no_such_data("images and masks", folder, missing="no folder", layout=_LAYOUT)
        pairs = _pairs(images, masks, split, val_fraction)
        super().__init__(classes, pairs)
        self._ignore_colours = tuple((int(r), int(g), int(b)) for r, g, b in ignore_colours)
        self.mask_kind = masks_as or find_mask_kind(self.label_paths, classes)

    def read_label(self, path: Path) -> NDArray[np.uint8]:
        """Train ids of a mask file, as `mask_kind` says."""
        if self.mask_kind == "index":
            return read_label(path)
        return read_label(path, self.classes, ignore_colours=self._ignore_colours)


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


def _pairs(images: Path, masks: Path, split: str, val_fraction: float) -> Mapping[str, tuple[Path, Path]]:
    if (images / split).is_dir() and (masks / split).is_dir():
        return match_pairs(
            _some_pictures(images / split), _some_pictures(masks / split), f"{images / split} and {masks / split}"
        )
    if split not in {"train", "val", "all"}:
        raise explain(
            f"split {split!r}",
            found=f"no sub-folder of this name in both {images} and {masks}",
            needed='"train", "val" or "all"',
            fix="Add the sub-folders, or use one of these.",
        )
    pairs = match_pairs(_some_pictures(images), _some_pictures(masks), f"{images} and {masks}")
    if split == "all":
        return pairs
    validation = held_out(tuple(pairs), val_fraction)
    return {name: pair for name, pair in pairs.items() if (name in validation) == (split == "val")}


def _some_pictures(folder: Path) -> dict[str, Path]:
    found = pictures_in(folder)
    if not found:
        raise no_such_data("images and masks", folder, missing="no pictures", layout=_LAYOUT)
    return found
