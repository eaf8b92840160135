"""`data convert tiles`: large pictures and their masks, cut alike into tiles that share no pixel, some to validate on.

Splits stay as they are. Otherwise whole pictures validate; of fewer than five, the tiles of an area of each: tiles
drawn among the others would show what is trained on beside them. Pixels, types, palettes and places are kept.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ducseg.data.convert.writing import new_folder
from ducseg.data.files.header import check_header, tiff_header
from ducseg.data.files.png import encode_png
from ducseg.data.files.raster_windows import Window, open_windows
from ducseg.data.files.rasters import check_same_place
from ducseg.data.files.reading import read_picture, read_sixteen_bits
from ducseg.data.layouts.finding import find_files
from ducseg.data.layouts.grouping import FOLDER, are_numbered, group_function, held_out
from ducseg.data.layouts.layout import SplitFiles
from ducseg.data.layouts.splitting import are_splits
from ducseg.data.layouts.without_masks import without_masks
from ducseg.data.processes import mapped
from ducseg.errors import explain, whole
from ducseg.files import write_whole

__all__ = ["Converted", "convert"]

_HELD_OUT = 0.2
_FEWEST = 5  # pictures of which whole ones validate
_NEEDED = "images/*.{tif,png,jpg,...} and masks/*, in splits or not"


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What was written: tiles by split, of so many pictures; how they were parted; how many tiles held no data."""

    pictures: int
    tiles: Mapping[str, int]
    parted: str
    without_data: int

    def lines(self) -> list[str]:
        """For a person to read."""
        each = ", ".join(f"{count} in {split}" for split, count in self.tiles.items())
        left_out = [f"left out: {self.without_data} tiles in which the picture has no data"] * bool(self.without_data)
        return [f"{sum(self.tiles.values())} tiles of {self.pictures} pictures: {each} ({self.parted})", *left_out]


def convert(
    source: Path,
    out: Path,
    *,
    side: int = 1024,
    num_workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Converted:
    """Write `out`, whole or not at all: images/SPLIT/NAME_ROW_COLUMN and masks/ alike, GeoTIFFs as such, others as PNG.

    Args:
        source: a folder of pictures and masks, as `ducseg train` finds them.
        side: the most pixels that a tile is high or wide; the tiles of a picture are equal but for a pixel.

    Raises:
        UserError: no such pictures, some without a mask, or with one of another size or place, files that do not read;
            none that is larger than a tile, so that nothing could validate; `out` is there already.
    """
    whole("--side", side, least=32, fix="Leave it out for 1024.")
    found = find_files(source, images=None, masks=None, mask_suffix=None).splits
    labelled = {split: files for split, files in found.items() if files.labels}
    if not labelled:
        raise without_masks(source, sum(len(files.images) for files in found.values()), _NEEDED)
    pictures, parted = _parted(labelled, source)
    with new_folder(out) as folder:
        tiles, empty = Counter[str](), 0
        for counts, without in mapped(partial(_cut, folder, side), pictures, num_workers, progress, chunk=1):
            tiles.update(counts)
            empty += without
        if not any(tiles[split] for split in tiles if split != "train"):
            raise explain(
                f"pictures in {source}",
                found=f"{len(pictures)}, none of which gives two tiles",
                needed=f"larger ones than --side {side}, or {_FEWEST}",
                fix="Give a smaller --side.",
            )
        if (classes := source / "classes.json").is_file():
            write_whole(folder / classes.name, classes.read_bytes())
    return Converted(pictures=len(pictures), tiles=dict(tiles), parted=parted, without_data=empty)


class _Picture(NamedTuple):
    name: str
    image: Path
    mask: Path
    split: str | None
    """None: an area of it is held out."""


def _parted(labelled: Mapping[str, SplitFiles], source: Path) -> tuple[list[_Picture], str]:
    pairs = {split: files.pairs("images and masks", source) for split, files in labelled.items()}
    if are_splits(labelled):
        kept = [_Picture(name, *pair, split) for split, each in pairs.items() for name, pair in each.items()]
        return kept, "splits as they were"
    named = {f"{split}/{name}" if split else name: pair for split, each in pairs.items() for name, pair in each.items()}
    if len(named) < _FEWEST:
        return [_Picture(name, *pair, None) for name, pair in named.items()], "an area of each picture validates"
    group = group_function(FOLDER if are_numbered(labelled) else None)
    held = held_out(tuple(named), _HELD_OUT, group)
    parted = [_Picture(name, *pair, "val" if name in held else "train") for name, pair in named.items()]
    return parted, "whole pictures validate"


def _cut(folder: Path, side: int, picture: _Picture) -> tuple[Counter[str], int]:
    """How many tiles of each split were written, and how many hold no data."""
    counts, empty = Counter[str](), 0
    with ExitStack() as stack:
        image, mask = (stack.enter_context(_opened(path)) for path in (picture.image, picture.mask))
        if image.size != mask.size:
            raise explain(
                f"mask {picture.mask}",
                found=f"{mask.size[0]} x {mask.size[1]} pixels (H x W)",
                needed=f"{image.size[0]} x {image.size[1]}, the size of {picture.image}",
                fix="Pair each with its own picture.",
            )
        check_same_place(picture.image, picture.mask)
        rows, columns = (_parts(length, side) for length in image.size)
        across, most = len(columns) >= len(rows), max(len(rows), len(columns))
        first_held = most - max(1, round(_HELD_OUT * most))
        for row, (top, bottom) in enumerate(rows):
            for column, (left, right) in enumerate(columns):
                window = Window(top, left, bottom, right)
                if not image.has_data(window):
                    empty += 1
                    continue
                is_held = (column if across else row) >= first_held > 0
                split = picture.split or ("val" if is_held else "train")
                name = f"{picture.name}_{row:02}_{column:02}"
                for side_of, opened in (("images", image), ("masks", mask)):
                    opened.write(window, folder / side_of / split / name)
                counts[split] += 1
    return counts, empty


def _parts(length: int, side: int) -> list[tuple[int, int]]:
    bounds = np.linspace(0, length, -(-length // side) + 1).round().astype(int).tolist()
    return list(pairwise(bounds))


class _Cuttable(Protocol):
    size: tuple[int, int]

    def has_data(self, window: Window) -> bool: ...

    def write(self, window: Window, path: Path) -> None: ...


class _Decoded:
    """A picture as Pillow decodes it."""

    def __init__(self, path: Path) -> None:
        self._picture = read_picture(path)
        self.size = self._picture.size[::-1]

    def has_data(self, window: Window) -> bool:
        return True

    def write(self, window: Window, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = self._picture.crop((window.left, window.top, window.right, window.bottom))
        part.save(path.with_name(f"{path.name}.png"), compress_level=1)


class _SixteenBits:
    """Colours of 16 bits (H, W, 3 or 4), which Pillow would cut to 8; as OpenCV has them, blue first."""

    def __init__(self, bgr: NDArray[np.uint16]) -> None:
        self._rgb = bgr[..., [2, 1, 0, *range(3, bgr.shape[2])]]
        self.size = (bgr.shape[0], bgr.shape[1])

    def has_data(self, window: Window) -> bool:
        return True

    def write(self, window: Window, path: Path) -> None:
        part = self._rgb[window.top : window.bottom, window.left : window.right]
        write_whole(path.with_name(f"{path.name}.png"), encode_png(part))


@contextmanager
def _opened(path: Path) -> Iterator[_Cuttable]:
    header = tiff_header(path)
    if header is None or header.inverted or header.cmyk or header.orientation != 1:
        bgr = read_sixteen_bits(path)
        yield _Decoded(path) if bgr is None else _SixteenBits(bgr)
        return
    check_header(header, path, any_size=True)
    with open_windows(path) as opened:
        yield opened
