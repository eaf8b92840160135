"""The small things that commands are tried on: pictures, a network, data sets, an export of COCO."""

import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import torch

from ducseg.classes import ClassSet
from ducseg.models import build
from ducseg.weights.checkpoint import save_segmenter

__all__ = ["CLASSES", "write_checkpoint", "write_coco", "write_folder_data", "write_pictures", "write_tar"]

CLASSES = ClassSet(("ground", "tree", "track"), ((120, 90, 60), (0, 140, 0), (200, 200, 200)))


def write_pictures(folder: Path, count: int, size: tuple[int, int] = (24, 32)) -> Path:
    """PNGs in two folders."""
    for index in range(count):
        place = folder / "ab"[index % 2] / f"{index:03d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(index).integers(0, 256, (*size, 3), np.uint8)
        assert cv2.imwrite(str(place), noise)
    return folder


def write_tar(place: Path, pictures: Path) -> Path:
    """The pictures in one archive."""
    with tarfile.open(place, "w") as archive:
        for file in sorted(pictures.rglob("*.png")):
            archive.add(file, file.relative_to(pictures).as_posix())
    return place


def write_folder_data(root: Path, count: int = 4, size: tuple[int, int] = (24, 32)) -> Path:
    """The layout `folder`: images/, masks/, classes.json."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for index in range(count):
        label = rng.integers(0, 3, (size[0] // 8, size[1] // 8)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
        image = np.array(CLASSES.palette, np.uint8)[label] + rng.integers(0, 40, (*label.shape, 3)).astype(np.uint8)
        assert cv2.imwrite(str(root / "images" / f"{index}.png"), image)
        assert cv2.imwrite(str(root / "masks" / f"{index}.png"), label)
    (root / "classes.json").write_text(json.dumps(CLASSES.to_json()))
    return root


def write_checkpoint(folder: Path, data: Path | None = None) -> Path:
    """A network of three classes, of random numbers; with what it would have been trained on."""
    torch.manual_seed(0)
    recorded = (
        {} if data is None else {"config": {"data": {"dataset": "folder", "root": str(data), "val_split": "all"}}}
    )
    save_segmenter(folder, build("resnet18", "duc", 3, aspp=0, width=4, classes=CLASSES), extra=recorded)
    return folder


def write_coco(folder: Path, count: int = 6, size: tuple[int, int] = (24, 32)) -> Path:
    """annotations.json and its pictures."""
    files = sorted(write_pictures(folder, count, size).rglob("*.png"))
    names = [file.relative_to(folder).as_posix() for file in files]
    images = [{"id": n, "file_name": name, "height": size[0], "width": size[1]} for n, name in enumerate(names)]
    outline = [[2, 2, 20, 2, 20, 15, 2, 15]]
    annotations = [
        {"id": n, "image_id": n, "category_id": 1 + n % 2, "segmentation": outline, "bbox": [2, 2, 18, 13], "area": 234,
         "iscrowd": 0}
        for n in range(len(names))
    ]  # fmt: skip
    categories = [{"id": 1, "name": "tree"}, {"id": 2, "name": "track"}]
    whole = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(whole))
    return folder / "annotations.json"
