"""nnU-Net's folders: imagesTr/CASE_0000.png and labelsTr/CASE.png train, imagesTs and labelsTs test; dataset.json.

dataset.json names the values of the masks, {"labels": {"background": 0, "crack": 1, "ignore": 2}}: documentation/
dataset_format.md of nnU-Net v2 (https://github.com/MIC-DKFZ/nnUNet); "ignore" is its ignore label. That of version 1,
{"0": "background", "1": "crack"}, is taken too. A picture of several files CASE_0000, CASE_0001, ..., one a channel, is
refused, and so are volumes.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from ducseg.classes import VOC_PALETTE, ClassSet
from ducseg.data.files.reading import PICTURE_SUFFIXES
from ducseg.data.layouts.file_names import IMAGE_FOLDERS, MASK_SUFFIXES
from ducseg.data.layouts.layout import FoundFiles, SplitFiles
from ducseg.data.paired import list_pictures
from ducseg.errors import UserError, as_whole, explain, listed, taken_apart
from ducseg.files import is_listed, parse_json

__all__ = ["find_cases", "read_labels"]

_SPLITS = {"train": "Tr", "test": "Ts"}
_CHANNEL = re.compile(r"(.+)_\d{4}")
_NAMES = 'the values of the masks from 0 on, {"labels": {"background": 0, "crack": 1, "ignore": 2}}'


def find_cases(root: Path) -> FoundFiles | None:
    """The cases of a data set that is `root`, or the one in it; None: there is none.

    Raises:
        UserError: several data sets, no masks, volumes, pictures of several files.
    """
    folder = _data_set(root)
    if folder is None:
        return None
    files, left_out = {}, ""
    for split, end in _SPLITS.items():
        images, masks = folder / f"images{end}", folder / f"labels{end}"
        if _visible(images) and _visible(masks):
            files[split] = _split(split, images, masks, folder)
        elif _visible(images):
            left_out = f"; left out: {images.name} (without {masks.name})"
    if "train" not in files:
        raise explain(
            f"nnU-Net data set {folder}",
            found=", ".join(sorted(one.name for one in folder.iterdir() if _visible(one))) or "empty folders",
            needed="imagesTr/CASE_0000.png and labelsTr/CASE.png",
            fix="Copy what is missing.",
        )
    line = f"nnU-Net's folders{_example(files['train'])}: train is Tr{', test is Ts' if 'test' in files else left_out}"
    names = folder / "dataset.json"
    return FoundFiles(files, line, names if is_listed(names) else None)


def _example(files: SplitFiles) -> str:
    pairs = ((file, (files.labels or {}).get(name)) for name, file in files.images.items())
    found = next(((image, label) for image, label in pairs if label is not None), None)
    return "" if found is None else f" (imagesTr/{found[0].name} with labelsTr/{found[1].name})"


def read_labels(path: Path) -> tuple[ClassSet, int | None]:
    """The classes that a dataset.json names, in VOC's colours, and the value that is ignored.

    Raises:
        UserError: no such file, values with a gap, regions (labels of several values).
    """
    what, fix = f"labels in {path}", 'Correct it, or write a classes.json beside it: ["background", "crack"].'
    with taken_apart(what, found="no labels", needed=_NAMES, fix=fix):
        labels = dict(parse_json(path.read_text(encoding="utf-8-sig"))["labels"])
        if all(str(name).isdigit() and isinstance(value, str) for name, value in labels.items()):  # of version 1
            labels = {value: int(name) for name, value in labels.items()}
        if regions := [name for name, value in labels.items() if isinstance(value, list)]:
            raise explain(
                what,
                found=f"regions, labels of several values ({listed(regions)})",
                needed="one value a class: a pixel has one class",
                fix='Write a classes.json beside it that names the values themselves: ["background", "edema", "core"].',
            )
        values = {name: as_whole(value) for name, value in labels.items()}
    ignored = values.pop("ignore", None)
    names = sorted(values, key=lambda name: values[name])
    if [values[name] for name in names] != list(range(len(names))) or ignored in values.values():
        raise explain(what, found=f"labels {labels}"[:200], needed=_NAMES, fix=fix)
    return ClassSet(tuple(names), (*VOC_PALETTE, *VOC_PALETTE)[: len(names)]), ignored


def _data_set(root: Path) -> Path | None:
    if (root / "imagesTr").is_dir():
        return root
    inside = sorted(one for one in root.iterdir() if one.is_dir()) if root.is_dir() else []
    if any(one.name.lower() in IMAGE_FOLDERS for one in inside):
        return None
    found = [one for one in inside if (one / "imagesTr").is_dir()]
    if len(found) > 1:
        raise explain(
            f"nnU-Net data sets in {root}",
            found=f"{len(found)}: {listed([one.name for one in found], 10)}",
            needed="one",
            fix=f"Give its folder, such as {found[0]}.",
        )
    return found[0] if found else None


def _visible(folder: Path) -> list[Path]:
    """The files in a folder, if it is one, but for hidden ones."""
    if not folder.is_dir():
        return []
    return sorted(one for one in folder.iterdir() if not one.name.startswith("."))


def _split(split: str, images: Path, masks: Path, root: Path) -> SplitFiles:
    for folder in (images, masks):
        files = _visible(folder)
        if not any(file.suffix.lower() in MASK_SUFFIXES for file in files):
            raise explain(
                f"nnU-Net data set {root}",
                found=f"no pictures in {folder.name} but {listed([file.name for file in files], 2)}",
                needed="pictures (png, tif, jpg, ...): ducseg is not for volumes",
                fix="Write each volume and its mask as a TIFF of pages, images/CASE.tif and masks/CASE.tif (SimpleITK "
                "reads and writes both); ducseg data convert stack makes a picture and a mask a page.",
            )
    (pictures, first), (labels, second) = list_pictures(images, PICTURE_SUFFIXES), list_pictures(masks, MASK_SUFFIXES)
    places = f"{images.name}/*.{{jpg,png,...}}", f"{masks.name}/*.{{jpg,png,...}}"
    cases = _by_case(pictures, labels, root)
    return SplitFiles(name=split, images=cases, labels=labels, places=places, twins=(*first, *second))


def _by_case(pictures: Mapping[str, Path], labels: Mapping[str, Path], root: Path) -> dict[str, Path]:
    """Pictures by their masks' names: without the number of the channel, unless a mask has it too."""
    cases: dict[str, list[Path]] = {}
    for name, file in pictures.items():
        channel = None if name in labels else _CHANNEL.fullmatch(name)
        cases.setdefault(channel[1] if channel else name, []).append(file)
    if several := [files for files in cases.values() if len(files) > 1]:
        raise _several(several, root)
    return {name: files[0] for name, files in cases.items()}


def _several(cases: list[list[Path]], root: Path) -> UserError:
    return explain(
        f"nnU-Net data set {root}",
        found=f"several files for each of {len(cases)} pictures, one a channel ({listed([f.name for f in cases[0]])})",
        needed="one file a picture",
        fix=f"Stack them to TIFFs of {len(cases[0])} channels: docs/data.md, nnU-Net's folder, has the lines for it.",
    )
