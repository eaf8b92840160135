"""`data convert stack`: volumes of TIFF pages (ISBI 2012, SNEMI3D) to the folder layout: a picture and a mask a page.

The stacks of one name go together: x-volume.tif with x-labels.tif, or images/x.tif with masks/x.tif. Masks are written
as they stand. Where a page holds numbers of objects, the mask is the border between them, class membrane: the pixels of
0, and those that touch another object, one on each side.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.classes import ClassSet
from ducseg.data.convert.writing import new_folder
from ducseg.data.files.header import PILLOW_ERRORS, check_header, open_pillow, read_header, tiff_header, undecodable
from ducseg.data.files.png import encode_png
from ducseg.data.layouts.finding import find_files
from ducseg.data.layouts.mask_files import are_shades
from ducseg.data.processes import mapped
from ducseg.errors import explain
from ducseg.files import visible, write_whole

__all__ = ["Converted", "convert"]

_MASKS = re.compile(r"labels?|masks?|gt|truth|seg(mentation)?s?|membranes?|annotations?", re.IGNORECASE)
_IMAGES = re.compile(r"volumes?|inputs?|images?|raw|img|stack", re.IGNORECASE)
_MOST_CLASSES = 16
"""More values in one page are numbers of objects."""
_CLASSES = ClassSet(("cell", "membrane"), ((0, 0, 0), (255, 0, 0)))


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What was written: so many pages, whether their masks are borders between numbered objects; files left out."""

    pages: int
    borders: bool
    left_out: tuple[str, ...]

    def lines(self) -> list[str]:
        """For a person to read."""
        borders = ["masks are the borders between numbered objects: cell, membrane"] if self.borders else []
        left_out = [f"left out, without a partner: {', '.join(self.left_out)}"] if self.left_out else []
        return [f"{self.pages} pictures and masks", *borders, *left_out]


def convert(
    source: Path, out: Path, *, num_workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> Converted:
    """Write `out`, whole or not at all.

    Args:
        source: the folder that holds the stacks.

    Raises:
        UserError: no stacks that go together, of unlike pages, files that do not read; `out` is there already.
    """
    pairs, left_out = _pairs(source)
    borders = any(_numbered(page) for _, labels in pairs.values() for page in _pages(labels))
    pages = [_Page(name, *files, page) for name, files in pairs.items() for page in range(_number_of_pages(files[0]))]
    with new_folder(out) as folder:
        for _ in mapped(partial(_write, folder, borders), pages, num_workers, progress):
            pass
        if borders:
            _CLASSES.write(folder / "classes.json")
    return Converted(pages=len(pages), borders=borders, left_out=left_out)


class _Page(NamedTuple):
    name: str
    image: Path
    labels: Path
    number: int


def _write(folder: Path, borders: bool, page: _Page) -> None:
    picture, mask = _page(page.image, page.number), _page(page.labels, page.number)
    if picture.shape[:2] != mask.shape[:2]:
        raise _unlike(page.labels, f"pages of {_size(mask)}", f"{_size(picture)}, as those of {page.image}")
    for side, pixels in (("images", picture), ("masks", _borders(mask) if borders else mask)):
        path = folder / side / f"{page.name}_{page.number:03}.png"
        write_whole(path, encode_png(_as_png(pixels, path)))


def _pairs(source: Path) -> tuple[dict[str, tuple[Path, Path]], tuple[str, ...]]:
    """Name -> stack of pictures and of masks, of as many pages; names of the others."""
    found = find_files(source, images=None, masks=None, mask_suffix=None).splits if source.is_dir() else {}
    pairs = {
        "_".join(filter(None, (split, name))): (files.images[name], files.labels[name])
        for split, files in found.items()
        for name in files.images
        if files.labels and name in files.labels
    }
    files = visible(source, "*.tif", "*.tiff") if not pairs else []
    masks = {_key(file, _MASKS): file for file in files if _MASKS.search(file.stem)}
    images = {_key(file, _IMAGES): file for file in files if not _MASKS.search(file.stem)}
    if len(masks) == len(images) == 1:
        images = dict(zip(masks, images.values()))
    pairs |= {key or "page": (images[key], masks[key]) for key in sorted(images) if key in masks}
    if not pairs:
        there = ", ".join(file.name for file in files[:5]) or "no TIFF"
        raise explain(
            f"stacks in {source}",
            found=there,
            needed="such as train-volume.tif and train-labels.tif, or images/x.tif and masks/x.tif",
            fix="Give the folder that holds them, or rename them.",
        )
    for image, labels in pairs.values():
        if (found_pages := _number_of_pages(labels)) != (needed := _number_of_pages(image)):
            raise _unlike(labels, f"{found_pages} pages", f"{needed}, as in {image}")
    used = {file for pair in pairs.values() for file in pair}
    return pairs, tuple(file.name for file in files if file not in used)


def _unlike(labels: Path, found: str, needed: str) -> Exception:
    return explain(f"stack {labels}", found=found, needed=needed, fix="Give the masks of these pictures.")


def _key(file: Path, words: re.Pattern[str]) -> str:
    return re.sub(r"[-_. ]+", "-", words.sub("", file.stem)).strip("-")


def _number_of_pages(path: Path) -> int:
    header = tiff_header(path) or read_header(path.read_bytes(), path)
    check_header(replace(header, pages=1), path)
    return header.pages


def _pages(path: Path) -> Iterator[NDArray[np.generic]]:
    return (_page(path, number) for number in range(_number_of_pages(path)))


def _page(path: Path, number: int) -> NDArray[np.generic]:
    try:
        with open_pillow(path) as picture:
            picture.seek(number)
            pixels = np.asarray(picture)
    except PILLOW_ERRORS as error:
        raise undecodable(path, b"", str(error)) from None
    return pixels.astype(np.uint8) if pixels.dtype == np.bool_ else pixels


def _numbered(mask: NDArray[np.generic]) -> bool:
    return mask.ndim == 2 and len(np.unique(mask)) > _MOST_CLASSES and not are_shades(mask)


def _borders(mask: NDArray[np.generic]) -> NDArray[np.uint8]:
    """1 where a pixel is of no object, or beside one of another."""
    ids, numbers = np.unique(mask, return_inverse=True)
    numbers = numbers.reshape(mask.shape).astype(np.float32)  # exact for any id
    around, nothing = np.ones((3, 3), np.uint8), mask == 0  # which is no object, and so the least and the most of none
    highest = cv2.dilate(np.where(nothing, np.float32(-1), numbers), around)
    lowest = cv2.erode(np.where(nothing, np.float32(len(ids)), numbers), around)
    return np.asarray((highest != lowest) | nothing, np.uint8)


def _size(page: NDArray[np.generic]) -> str:
    return f"{page.shape[0]} x {page.shape[1]} pixels (H x W)"


def _as_png(pixels: NDArray[np.generic], path: Path) -> NDArray[np.generic]:
    """What a PNG holds: 32-bit numbers as 16-bit ones where they fit."""
    if pixels.dtype in (np.uint8, np.uint16):
        return pixels
    whole = pixels.astype(np.uint16)
    if (whole != pixels).any():
        raise explain(
            f"page {path.name}", found=f"{pixels.dtype} from {pixels.min()} to {pixels.max()}",
            needed="whole numbers from 0 to 65535", fix="Convert the stack to 8 or 16 bits.",
        )  # fmt: skip
    return whole
