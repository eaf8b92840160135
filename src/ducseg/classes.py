"""Class names and colours of the data sets; every model carries its own, so weights know what they predict."""

import json
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from ducseg.errors import MALFORMED, explain
from ducseg.files import parse_json, write_whole

__all__ = ["CAMVID", "CITYSCAPES", "CLASS_SETS", "IGNORE", "KITTI_ROAD", "VOC2012", "VOC_PALETTE", "ClassSet"]

IGNORE = 255
"""The label of pixels that neither train nor score."""

Colour = tuple[int, int, int]
_BYTES = range(256)


def _voc_colour(index: int) -> Colour:
    """Bit 3k of the index is bit 7 - k of red, 3k + 1 of green, 3k + 2 of blue (VOCdevkit, VOClabelcolormap)."""
    red, green, blue = (sum((index >> 3 * k + channel & 1) << 7 - k for k in range(3)) for channel in range(3))
    return red, green, blue


VOC_PALETTE: tuple[Colour, ...] = tuple(map(_voc_colour, range(256)))
"""All 256 colours: black for the background, (224, 224, 192) for the border, 255."""


@dataclass(frozen=True)
class ClassSet:
    """Names and RGB colours of the L classes, in the order of their train ids 0..L-1.

    Raises:
        UserError: no class, more than 255, a name twice or none of one line, a colour that is no three whole numbers
            0..255, not as many as names.
    """

    names: tuple[str, ...]
    palette: tuple[Colour, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= IGNORE:
            raise explain(
                "class names",
                found=len(self.names),
                needed="1 to 255 (255 itself is the ignore label)",
                fix="List each class once.",
            )
        for name in self.names:
            if not _is_name(name):
                raise explain("class names", found=repr(name), needed="text of one line each", fix="Correct it.")
        if len(set(self.names)) != len(self.names):
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise explain("class names", found=f"{twice} more than once", needed="each once", fix="Rename them.")
        if len(self.palette) != len(self.names):
            raise explain(
                "class colours",
                found=len(self.palette),
                needed=f"{len(self.names)}, one a name",
                fix="Add the missing.",
            )
        for name, colour in zip(self.names, self.palette):
            if not _is_colour(colour):
                needed = "three whole numbers 0..255 each"
                raise explain("class colours", found=f"{colour!r} of {name}", needed=needed, fix="Use (R, G, B).")
        plain = tuple((int(r), int(g), int(b)) for r, g, b in self.palette)  # numpy's numbers are no JSON
        object.__setattr__(self, "palette", plain)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def background(self) -> int | None:
        """0 where the first of several classes is drawn black, as what is none of the others is; else None."""
        return 0 if len(self) > 1 and self.palette[0] == (0, 0, 0) else None

    def to_json(self) -> list[dict[str, Any]]:
        """The classes as `[{"name": ..., "color": [R, G, B]}, ...]`, the form of `classes.json` and of `model.json`."""
        return [{"name": name, "color": list(colour)} for name, colour in zip(self.names, self.palette)]

    @classmethod
    def from_json(cls, entries: list[dict[str, Any]], *, what: str = "classes") -> "ClassSet":
        """The inverse of `to_json`; raises `UserError`, about `what`, where an entry lacks its name or colour."""
        entry: Any = entries
        names, palette = list[str](), list[Colour]()
        try:
            if not isinstance(entries, list | tuple):
                raise TypeError(type(entries))
            for entry in entries:
                if not (_is_name(entry["name"]) and _is_colour(entry["color"])):
                    raise TypeError(entry)
                names.append(entry["name"])
                palette.append(tuple(entry["color"]))
        except MALFORMED:
            raise explain(
                what,
                found=f"an entry that does not read ({json.dumps(entry, default=str)[:100]})",
                needed="a name (one line of text) and a colour (R, G, B of 0..255) of each class, in the order "
                'of their values: [{"name": "ground", "color": [0, 0, 0]}, {"name": "road", "color": [128, 64, 128]}]',
                fix="Write it so; any colours do, unless masks hold them.",
            ) from None
        return cls(tuple(names), tuple(palette))

    @classmethod
    def read(cls, path: Path) -> "ClassSet":
        """Read a `classes.json`, or the classes of a `model.json`; names alone get the colours of VOC's palette.

        Raises:
            UserError: it is missing, or no such list.
        """
        try:
            entries = parse_json(path.read_text(encoding="utf-8-sig"))
            entries = entries["classes"] if isinstance(entries, dict) and "classes" in entries else entries
        except (OSError, ValueError) as error:
            raise explain(
                f"class list {path}",
                found=error.strerror or str(error) if isinstance(error, OSError) else str(error),
                needed='a JSON list of {"name": "road", "color": [128, 64, 128]}',
                fix="Write one beside the images.",
            ) from None
        return cls.from_json(_coloured(entries), what=f"class list {path}")

    def write(self, path: Path) -> None:
        """Write a `classes.json`, whole or not at all."""
        write_whole(path, (json.dumps(self.to_json(), indent=1) + "\n").encode())


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value.splitlines() == [value] and bool(value.strip())


def _is_colour(value: Any) -> bool:
    """Whether (R, G, B); 255.0, as tables write it, is whole too."""
    return isinstance(value, list | tuple) and len(value) == 3 and all(map(_is_byte, value))


def _is_byte(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and value in _BYTES


def _coloured(entries: Any) -> Any:
    """A list of names alone, ["ground", ...] or [{"name": "ground"}, ...], with VOC's colours; others as they are."""
    if not isinstance(entries, list):
        return entries
    names = [one["name"] if isinstance(one, dict) and one.keys() == {"name"} else one for one in entries]
    if any(isinstance(name, dict) for name in names):
        return entries
    return [{"name": name, "color": colour} for name, colour in zip(names, [*VOC_PALETTE, *VOC_PALETTE])]


CITYSCAPES = ClassSet(
    names=(
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
        "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    ),
    palette=(
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153), (250, 170, 30),
        (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142),
        (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
    ),
)  # fmt: skip
"""The 19 classes by train id, colours as cityscapesScripts' labels.py."""

CAMVID = ClassSet(
    names=(
        "sky", "building", "pole", "road", "pavement", "tree", "sign symbol", "fence", "car", "pedestrian", "bicyclist",
    ),
    palette=(
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0), (192, 128, 128),
        (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    ),
)  # fmt: skip
"""The 11 classes of the SegNet protocol with SegNet's colours."""

KITTI_ROAD = ClassSet(names=("not road", "road"), palette=((255, 0, 0), (255, 0, 255)))
"""Class 1 is the road, colours as the kit's ground truth."""

VOC2012 = ClassSet(
    names=(
        "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
        "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
    ),
    palette=(
        (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128), (128, 128, 128),
        (64, 0, 0), (192, 0, 0), (64, 128, 0), (192, 128, 0), (64, 0, 128), (192, 0, 128), (64, 128, 128),
        (192, 128, 128), (0, 64, 0), (128, 64, 0), (0, 192, 0), (128, 192, 0), (0, 64, 128),
    ),
)  # fmt: skip
"""Background and the 20 object classes, VOC's bit-interleaved palette."""

CLASS_SETS = {"camvid": CAMVID, "cityscapes": CITYSCAPES, "kitti-road": KITTI_ROAD, "voc2012": VOC2012}
"""By the name that options take."""
