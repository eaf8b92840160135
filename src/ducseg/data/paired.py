"""What a data set is, and what they share: image and label files in pairs, or images alone, read one at a time."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE, ClassSet
from ducseg.data.files.channels import RGB, Pixels, fill_undefined, read_pixels
from ducseg.data.files.rasters import check_same_place, is_raster, without_data
from ducseg.data.files.reading import (
    PICTURE_SUFFIXES,
    check_label,
    check_same_size,
    may_hide_a_turn,
    read_image,
    read_label,
    read_turned,
)
from ducseg.data.sample import Sample
from ducseg.errors import Said, UserError, explain, listed
from ducseg.files import composed

__all__ = [
    "PairedFiles", "SegmentationDataset", "Unlabelled", "by_stem", "list_pictures", "match_pairs", "no_such_data",
    "pictures_in", "table",
]  # fmt: skip

_MOST_NAMED = 5
_PACKED = frozenset({".zip", ".tar", ".gz", ".tgz", ".rar", ".7z"})


class SegmentationDataset(Protocol):
    """Samples by number; `ids[i]` names sample i without reading it."""

    @property
    def classes(self) -> ClassSet:
        """Names and colours of the train ids that the labels hold."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Name of each sample."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


class PairedFiles:
    """A `SegmentationDataset` over one image file and one label file a sample.

    Args:
        classes: the classes of the train ids.
        pairs: id -> (image file, label file); samples come in this order.
        train_ids: (256,) uint8, label file value -> train id or 255; None: the file holds train ids.
        num_values: label files hold 0..num_values-1 or 255; None: as many as there are classes.
        read: label file -> these values (H, W).
        pixels: what the image files hold; `RGB`: any of 8 bits, grey or colours.

    Where a channel of a float32 image has no finite number, or a TIFF has no data (`rasters.without_data`), the label
    is 255, and images other than `RGB` are the channel's mean.

    Reading a sample raises `UserError` (file, value, pixels) for a file that does not decode, a label of another size
    than its image, and label values out of range.
    """

    def __init__(
        self,
        classes: ClassSet,
        pairs: Mapping[str, tuple[Path, Path]],
        *,
        train_ids: NDArray[np.uint8] | None = None,
        num_values: int | None = None,
        read: Callable[[Path], NDArray[np.uint8]] = read_label,
        pixels: Pixels = RGB,
    ) -> None:
        self.classes = classes
        self.ids = tuple(pairs)
        self.image_paths = tuple(image for image, _ in pairs.values())
        self.label_paths = tuple(label for _, label in pairs.values())
        self._train_ids = train_ids
        self._num_values = len(classes) if num_values is None else num_values
        self._read = read
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int, /) -> Sample:
        path = self.image_paths[index]
        is_placed = is_raster(path)
        unknown = without_data(path) if is_placed else None
        if self.pixels == RGB:
            image, orientation = read_turned(path)
            height, width = image.shape[:2]
            if may_hide_a_turn(orientation, (height, width)):
                _say_turned()
        else:
            image = read_pixels(path, self.pixels)
            unknown = fill_undefined(image, path, unknown)
            height, width = image.shape[:2]
        label = self.label(index)
        check_same_size((height, width), label, path, self.label_paths[index])
        if is_placed:
            check_same_place(path, self.label_paths[index])
        if unknown is not None:
            label = np.where(unknown, np.uint8(IGNORE), label)
        return Sample(image=image, label=label, id=self.ids[index], original_size=(height, width))

    def label(self, index: int) -> NDArray[np.uint8]:
        """Train ids (H, W) of sample `index`, 255 ignored, without its image."""
        path = self.label_paths[index]
        label = self._read(path)
        check_label(label, self._num_values, self.ids[index], path=path)
        if self._train_ids is not None:
            label = np.asarray(cv2.LUT(label, self._train_ids), dtype=np.uint8)
        return label

    def histogram(self, index: int) -> NDArray[np.int64]:
        """(256,) pixels of each train id in the label of sample `index`."""
        return np.bincount(self.label(index).ravel(), minlength=256)


class Unlabelled:
    """A `SegmentationDataset` of picture files alone; a sample's label is None.

    Args:
        classes: what a prediction of them means.
        files: id -> picture file; samples come in this order.

    Reading a sample raises `UserError` for a file that does not decode.
    """

    def __init__(self, classes: ClassSet, files: Mapping[str, Path]) -> None:
        self.classes = classes
        self.ids = tuple(files)
        self.image_paths = tuple(files.values())

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int, /) -> Sample:
        image = read_image(self.image_paths[index])
        height, width = image.shape[:2]
        return Sample(image=image, label=None, id=self.ids[index], original_size=(height, width))


@lru_cache(maxsize=1)
def _say_turned() -> None:
    warnings.warn(
        "pictures with an EXIF orientation are read as a viewer shows them, for training, prediction and checks alike, "
        "so their masks must be drawn that way; ducseg data check names them. If the masks were drawn on the pixels as "
        "stored, remove the tag: exiftool -Orientation= FILES.",
        Said,
        stacklevel=3,
    )


def table(train_id_of_value: Mapping[int, int]) -> NDArray[np.uint8]:
    """(256,) uint8 with the train ids of these label values, 255 elsewhere."""
    entries = np.full(256, IGNORE, dtype=np.uint8)
    for value, train_id in train_id_of_value.items():
        entries[value] = train_id
    return entries


def pictures_in(folder: Path, suffixes: frozenset[str] = PICTURE_SUFFIXES) -> dict[str, Path]:
    """Stem -> file of the pictures directly in `folder`, by name; raises `UserError` where two files share a stem."""
    found, twins = list_pictures(folder, suffixes)
    if twins:
        raise twins[0]
    return found


def list_pictures(
    folder: Path, suffixes: frozenset[str] = PICTURE_SUFFIXES
) -> tuple[dict[str, Path], tuple[UserError, ...]]:
    """As `pictures_in`, the first of each stem, and what is to be said of each further one."""
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in suffixes and not f.name.startswith("."))
    return by_stem(files)


def by_stem(files: Iterable[Path]) -> tuple[dict[str, Path], tuple[UserError, ...]]:
    """The first file of each stem, and what is to be said of each further one."""
    found: dict[str, Path] = {}
    twins = []
    for file in files:
        if (first := found.setdefault(composed(file.stem), file)) is not file:
            both = f"{first.name} and {file.name}"
            fix = "Remove or rename one of them."
            twins.append(explain(f"folder {file.parent}", found=both, needed="one picture a name", fix=fix))
    return found, tuple(twins)


def match_pairs(
    images: Mapping[str, Path], labels: Mapping[str, Path], where: object, way_out: str = ""
) -> dict[str, tuple[Path, Path]]:
    """Pair by key, in the order of the keys; raises one `UserError` that counts and names all without a partner.

    Args:
        way_out: what can be done about them instead.
    """
    problems = []
    for kind, without in (
        ("without a label", images.keys() - labels.keys()),
        ("without an image", labels.keys() - images.keys()),
    ):
        if without:
            problems.append(f"{len(without)} {kind} ({listed(sorted(without))})")
    if problems:
        raise explain(
            f"data in {where}",
            found="; ".join(problems),
            needed="an image and a label for each name",
            fix=f"Add the missing files or take their partners out{way_out and f', or {way_out}'}.",
        )
    return {key: (images[key], labels[key]) for key in sorted(images)}


def no_such_data(dataset: str, root: Path, *, missing: str, layout: str) -> UserError:
    """The error of a root that does not hold the data set: where it looked, what it needs."""
    if root.suffix.lower() in _PACKED and root.is_file():
        missing = f"the archive {root.name} itself"
        fix = "Unpack it and give the folder with its content."
    elif not root.exists():
        missing = f"{missing} ({root.absolute()} does not exist)"
        fix = "Check the path."
    else:
        inside = sorted(f.name for f in root.iterdir())[:_MOST_NAMED] if root.is_dir() else []
        packed = any(Path(name).suffix.lower() in _PACKED for name in inside)
        way = "Unpack what is packed (gunzip, unzip)" if packed else "Give the folder that holds this layout"
        fix = f"There is: {', '.join(inside) or 'nothing'}. {way}."
    return explain(f"{dataset} in {root}", found=missing, needed=layout, fix=fix)
