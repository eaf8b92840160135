"""PASCAL VOC2012 segmentation as its archive unpacks: JPEGImages, SegmentationClass, ImageSets/Segmentation.

Masks are palette PNGs whose indices are the classes, 0 the background, 255 the border between objects. The augmented
sets add SBD's masks from SegmentationClassAug (`ducseg.data.convert.voc_sbd` writes them); where VOC has a mask,
VOC's counts.
"""

from pathlib import Path

from ducseg.classes import VOC2012, ClassSet
from ducseg.data.config import DataConfig
from ducseg.data.layouts.layout import LabelRules, Layout, SplitFiles
from ducseg.data.paired import PairedFiles, SegmentationDataset, Unlabelled, no_such_data
from ducseg.errors import explain, listed
from ducseg.files import visible

__all__ = [
    "AUGMENTED_MASKS",
    "MASKS",
    "Voc2012",
    "find_voc2012",
    "image_set_file",
    "open_voc2012",
    "read_image_set",
    "voc2012_layout",
]

MASKS = "SegmentationClass"
"""Folder of VOC's own masks."""

AUGMENTED_MASKS = "SegmentationClassAug"
"""Folder of masks with SBD's beside them."""

_LAYOUT = f"JPEGImages/ID.jpg, {MASKS}/ID.png and ImageSets/Segmentation/SET.txt"


class Voc2012(PairedFiles):
    """Pictures with the 21 classes, whole, at their own sizes (at most 500 pixels a side); ids are VOC's.

    Args:
        root: the folder VOC2012, or one above it as far as that of the archive (VOCdevkit/VOC2012).
        split: an image set: train, val, trainval; train_aug, trainval_aug; or any other list of ids with masks.

    Raises:
        UserError: no such folder or list, ids without a picture or a mask (all in one message).
    """

    def __init__(self, root: Path | str, split: str) -> None:
        root = find_voc2012(Path(root))
        ids = _ids_of(root, split)
        folders = (MASKS, AUGMENTED_MASKS) if split.endswith("_aug") else (MASKS,)
        masks: dict[str, Path] = {}
        for folder in reversed(folders):
            masks |= _files(root / folder, ".png")
        images = _files(root / "JPEGImages", ".jpg")
        _check_complete(root, split, ids, {"picture in JPEGImages": images, f"mask in {' or '.join(folders)}": masks})
        super().__init__(VOC2012, {name: (images[name], masks[name]) for name in ids})


def open_voc2012(root: Path | str, split: str) -> SegmentationDataset:
    """The split of `Voc2012`, or for "test", whose masks the server keeps, its pictures with label None.

    Raises:
        UserError: as `Voc2012`.
    """
    if split != "test":
        return Voc2012(root, split)
    root = find_voc2012(Path(root))
    ids = _ids_of(root, split)
    images = _files(root / "JPEGImages", ".jpg")
    _check_complete(root, split, ids, {"picture in JPEGImages": images})
    return Unlabelled(VOC2012, {name: images[name] for name in ids})


def voc2012_layout(config: DataConfig, root: Path, classes: ClassSet | None = None) -> Layout:
    """The lists train (train_aug, where it is), val and test; masks must carry VOC's palette.

    Raises:
        UserError: nothing of it in `root`.
    """
    root = find_voc2012(root)
    augmented = image_set_file(root, "train_aug").is_file()
    names = ("train_aug" if augmented else "train", "val", "test")
    return Layout(
        name="VOC2012",
        root=root,
        needed="ImageSets/Segmentation/train.txt and val.txt",
        splits=tuple(name for name in names if image_set_file(root, name).is_file()),
        open=lambda split: open_voc2012(root, split),
        files=lambda split: _image_set(root, split),
        make_rules=lambda: LabelRules(classes=VOC2012, palette=VOC2012.palette),
    )


def _image_set(root: Path, name: str) -> SplitFiles:
    ids = read_image_set(image_set_file(root, name))
    images = {one: root / "JPEGImages" / f"{one}.jpg" for one in ids}
    if name == "test":
        return SplitFiles(name=name, images=images, labels=None)
    labels: dict[str, Path] = {}
    for folder in (AUGMENTED_MASKS, MASKS) if name.endswith("_aug") else (MASKS,):
        labels |= {one: root / folder / f"{one}.png" for one in ids if (root / folder / f"{one}.png").is_file()}
    # where both are missing, the image's path stays and is reported as a file that does not read
    images = {one: image for one, image in images.items() if one not in labels or image.is_file()}
    return SplitFiles(name=name, images=images, labels=labels)


def find_voc2012(root: Path) -> Path:
    """The folder with JPEGImages at or below `root`: itself, VOC2012 in it, or VOCdevkit/VOC2012 in it.

    Raises:
        UserError: none of them, or the archive itself.
    """
    for folder in (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"):
        if (folder / "JPEGImages").is_dir():
            return folder
    raise no_such_data("VOC2012", root, missing="no folder JPEGImages", layout=_LAYOUT)


def image_set_file(root: Path, split: str) -> Path:
    """Where the list of an image set lies."""
    return root / "ImageSets" / "Segmentation" / f"{split}.txt"


def read_image_set(path: Path) -> list[str]:
    """The ids of a list, one a line, in its order.

    Raises:
        UserError: a file that does not read, no id, an id twice, a line that is no id.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else "no text"
        raise explain(f"image set {path}", found=reason, needed="one id a line", fix="Check the path.") from None
    ids = [line for line in lines if line]
    strange = [name for name in ids if len(name.split()) > 1 or "/" in name]
    if strange:
        raise explain(
            f"image set {path}",
            found=f"the line {strange[0]!r}",
            needed="one id a line, such as 2007_000032",
            fix="Take a list of ImageSets/Segmentation; those of ImageSets/Main are of another task.",
        )
    twice = sorted({name for name in ids if ids.count(name) > 1}) if len(set(ids)) < len(ids) else []
    if not ids or twice:
        found = f"{', '.join(twice[:5])} more than once" if twice else "no id"
        raise explain(f"image set {path}", found=found, needed="one id a line, each once", fix="Correct the list.")
    return ids


def _ids_of(root: Path, split: str) -> list[str]:
    file = image_set_file(root, split)
    if file.is_file():
        return read_image_set(file)
    if split.endswith("_aug"):
        raise explain(
            f"VOC2012 in {root}",
            found=f"no list {file.relative_to(root)}",
            needed=f"the augmented set: that list and {AUGMENTED_MASKS}",
            fix="Write it once from SBD: ducseg data sbd, see docs/voc2012.md.",
        )
    there = [other.stem for other in visible(file.parent, "*.txt")]
    raise no_such_data(
        "VOC2012", root, missing=f"no image set {split!r} (there are: {', '.join(there) or 'none'})", layout=_LAYOUT
    )


def _files(folder: Path, suffix: str) -> dict[str, Path]:
    """Stem -> file; nothing where there is no folder."""
    return {file.stem: file for file in visible(folder, f"*{suffix}")}


def _check_complete(root: Path, split: str, ids: list[str], files: dict[str, dict[str, Path]]) -> None:
    problems = []
    for what, there in files.items():
        missing = [name for name in ids if name not in there]
        if missing:
            problems.append(f"{len(missing)} ids without a {what} ({listed(missing, 20)})")
    if problems:
        raise explain(
            f"VOC2012 in {root}, image set {split}",
            found="; ".join(problems),
            needed=f"{' and '.join(files)} for each of the {len(ids)} ids",
            fix="Unpack the archive whole; augmented sets also need ducseg data sbd (docs/voc2012.md).",
        )
