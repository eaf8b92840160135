"""What the pages take as given, page by page: folders, files and runs that a reader has, drawn here and small."""

import json
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from documented import REPOSITORY
from ducseg.cli import main

TINY = (
    "--model.encoder resnet18 --model.width 8 --model.aspp 0 --optimizer.batch-size 2"
    " --model.freeze-batch-norm-from-epoch None --augment.crop-size 32 32 --data.workers 0 --run.threads 1"
    " --run.no-tensorboard"
)
FRESH = f"--model.weights None --optimizer.epochs 1 {TINY}"
ROW = (
    "--rows {} --seeds 1 --device cpu --epochs 1 --model.weights None --model.width 8 --optimizer.batch-size 2"
    " --augment.crop-size 32 32 --data.workers 0 --run.threads 1 --run.no-bf16"
)


def do(line: str) -> None:
    """A command that goes without a word."""
    assert main(shlex.split(line)) == 0, line


def ready(root: Path) -> Path:
    """Pictures and masks of thin lines, a run on them under the names that pages use, a clip, a raster."""
    rng = np.random.default_rng(0)
    for folder in ("mydata/images", "mydata/masks", "photos/train", "more"):
        (root / folder).mkdir(parents=True)
    for index in range(10):
        mask = np.zeros((64, 96), np.uint8)
        cv2.line(mask, *rng.integers(0, 60, (2, 2)).tolist(), 1, 2)
        image = np.clip(150 - 90 * mask[..., None] + rng.normal(0, 12, (64, 96, 3)), 0, 255).astype(np.uint8)
        for folder in ("mydata/images", "photos", "photos/train", "more"):
            cv2.imwrite(str(root / folder / f"{index:04d}.jpg"), image)
        cv2.imwrite(str(root / "mydata" / "masks" / f"{index:04d}.png"), mask)
    names = [{"name": "ground", "color": [0, 0, 0]}, {"name": "crack", "color": [255, 0, 0]}]
    (root / "mydata" / "classes.json").write_text(json.dumps(names))
    shutil.copytree(root / "mydata" / "masks", root / "masks")
    shutil.copy(root / "mydata" / "classes.json", root)
    for name in ("DATA", "DIR", "MOVED"):
        shutil.copytree(root / "mydata", root / name)
    shutil.copytree(REPOSITORY / "pretrained", root / "pretrained")
    shutil.copy(root / "photos" / "0000.jpg", root / "road.jpg")
    shutil.copy(root / "photos" / "0000.jpg", root / "street.jpg")
    cv2.imwrite(str(root / "city.tif"), cv2.resize(cv2.imread(str(root / "road.jpg")), (200, 150)))
    run = root / "runs" / "first"
    data = f"--data.root {root / 'mydata'} --data.val-fraction 0.4 --data.test-fraction 0.3"
    do(f"train custom-resnet18-duc {data} --out {run} {FRESH}")
    for name in ("RUN", "ANOTHER", "runs/mine", "runs/best", "runs/mydata", "runs/camvid-resnet18-duc", "demo/duc"):
        shutil.copytree(run, root / name, symlinks=True)
    return root


def _clip() -> None:
    import av

    with av.open("clip.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for file in sorted(Path("photos").glob("*.jpg")):
            frame = av.VideoFrame.from_ndarray(cv2.imread(str(file)), format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _camvid(root: Path = Path("CAMVID")) -> None:
    rng = np.random.default_rng(1)
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        for folder in ("images", "labels"):
            (root / folder / split).mkdir(parents=True)
        for index in range(count):
            label = rng.integers(0, 12, (4, 6)).astype(np.uint8).repeat(16, 0).repeat(16, 1)
            cv2.imwrite(str(root / "labels" / split / f"{split}{index}.png"), label)
            cv2.imwrite(str(root / "images" / split / f"{split}{index}.jpg"), np.dstack([20 * label] * 3))


def _thin_test_split(root: str, name: str) -> None:
    """Ground and one thin class, as the data of a network of pretrained/ lies."""
    for folder, source, ending in (("images", "photos", "jpg"), ("masks", "masks", "png")):
        (Path(root) / folder / "test").mkdir(parents=True)
        for index in range(2):
            shutil.copy(Path(source) / f"{index:04d}.{ending}", Path(root) / folder / "test")
    classes = [{"name": "background", "color": [0, 0, 0]}, {"name": name, "color": [255, 0, 0]}]
    (Path(root) / "classes.json").write_text(json.dumps(classes))


def _networks() -> None:
    _camvid()
    _thin_test_split("DRIVE", "vessel")
    _thin_test_split("CRACKFOREST", "crack")
    cv2.imwrite("picture.png", cv2.imread("road.jpg"))


def _readme() -> None:
    cv2.imwrite("YOUR_PICTURE.png", cv2.imread("road.jpg"))


def _cityscapes(root: str = "cityscapes") -> None:
    do(f"data synth cityscapes {root} --num-train 3 --num-val 2 --size 64 128 --workers 1")


def _coco(file: Path, pictures: list[Path]) -> None:
    file.parent.mkdir(parents=True)
    box = [5, 5, 60, 5, 60, 50, 5, 50]
    content: dict[str, list[dict[str, Any]]] = {
        "images": [
            {"id": number, "file_name": path.name, "height": 64, "width": 96} for number, path in enumerate(pictures)
        ],
        "annotations": [
            {"id": number, "image_id": number, "category_id": 3, "iscrowd": 0, "segmentation": [box]}
            for number in range(len(pictures))
        ],
        "categories": [{"id": 3, "name": "car"}],
    }
    file.write_text(json.dumps(content))


def _data() -> None:
    _cityscapes("data/cityscapes")
    Path("photos").rename("pictures")
    _coco(Path("annotations/instances_train.json"), sorted(Path("pictures").glob("*.jpg")))
    _stacks(Path("isbi2012"))
    _nnunet(Path("nnUNet_raw/Dataset120_Cracks"))
    shutil.copytree("mydata/images", "SOURCE/images")
    shutil.copytree("mydata/masks", "SOURCE/masks/crack")
    _orthophotos(Path("orthophotos"))


def _nnunet(root: Path) -> None:
    for folder, file in (("images", "{}_0000.jpg"), ("labels", "{}.png")):
        (root / f"{folder}Tr").mkdir(parents=True)
        for source in sorted(Path("mydata", folder.replace("labels", "masks")).iterdir()):
            shutil.copy(source, root / f"{folder}Tr" / file.format(source.stem))
    (root / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "crack": 1}}))


def _orthophotos(folder: Path) -> None:
    import rasterio

    folder.mkdir()
    how = {"driver": "GTiff", "width": 60, "height": 40, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(folder / "a.tif", "w", transform=rasterio.Affine(1, 0, 0, 0, -1, 40), **how) as target:
        target.write(np.full((3, 40, 60), 90, np.uint8))
    line = {"type": "LineString", "coordinates": [[5, 5], [50, 30]]}
    crs = {"type": "name", "properties": {"name": "EPSG:32633"}}
    features = [{"type": "Feature", "properties": {}, "geometry": line}]
    (folder / "cracks.geojson").write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))


def _stacks(folder: Path) -> None:
    folder.mkdir()
    pages = np.random.default_rng(0).integers(0, 256, (3, 40, 50), np.uint8)
    cv2.imwritemulti(str(folder / "train-volume.tif"), list(pages))
    cv2.imwritemulti(str(folder / "train-labels.tif"), list(np.uint8(255) * (pages > 60)))


def _training() -> None:
    from ducseg.models import build
    from ducseg.weights.torchvision import save_torchvision

    _camvid()
    save_torchvision(Path("weights.pth"), build("resnet18", "bilinear", 11, aspp=0, width=8))
    shutil.rmtree("runs/mine")
    options = "--data.root mydata --data.val-fraction 0.4"
    do(f"train custom-resnet18-duc {options} --out runs/NAME {FRESH}")


def _kitti() -> None:
    do("data synth kitti-road data_road --num-train 15 --num-test 3 --size 120 400 --workers 1")


def _figures() -> None:
    _kitti()
    do(f"train kitti-road-duc --data.root data_road --out KITTI {FRESH}")
    for name in ("RUN_DILATED", "RUN_HDC", "RUN_BILINEAR", "RUN_DUC"):
        shutil.copytree("RUN", name)


def _voc(root: str = "VOC2012") -> None:
    do(f"data synth voc2012 {root} --num-train 3 --num-val 2 --num-test 1 --size 64 96 --workers 1")


def _voc2012() -> None:
    """SBD's archive and COCO's, as `benchmark.tgz` and `annotations_trainval2017.zip` lay them."""
    from scipy.io import savemat

    sbd = Path("benchmark_RELEASE/dataset")
    (sbd / "cls").mkdir(parents=True)
    savemat(sbd / "cls" / "2009_000000.mat", {"GTcls": {"Segmentation": np.full((64, 128), 5, np.uint8)}})
    (sbd / "train.txt").write_text("2009_000000\n")
    (sbd / "val.txt").write_text("2007_000001\n")
    shutil.copytree("photos", "COCO/images")
    shutil.rmtree("COCO/images/train")
    _coco(Path("annotations/instances_train2017.json"), sorted(Path("COCO/images").glob("*.jpg")))


def _scores() -> None:
    _cityscapes()
    do(f"train cityscapes-duc --data.root cityscapes --out CITY {FRESH}")
    do("predict CITY cityscapes --format cityscapes --split val --out PREDICTIONS")
    _voc("VOCdevkit/VOC2012")
    Path("results").mkdir()
    for name in Path("VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").read_text().split():
        cv2.imwrite(f"results/{name}.png", np.zeros((64, 96), np.uint8))
    _kitti()
    do(f"train kitti-road-duc --data.root data_road --out KITTI {FRESH}")
    do("predict KITTI data_road --format kitti-road --split val --out ROADS")
    Path("MASKS").symlink_to("masks")


def _reproduce() -> None:
    _camvid()
    _kitti()
    _voc()


def _authors() -> None:
    sys.path.append(str(REPOSITORY / "tests" / "weights" / "released"))
    from mxnet_files import onnx_file, params_file, small_network

    network = small_network(channels=19 * 16, name="fc1_cityscapes")
    Path("ResNet_DUC_HDC_CityScapes-0000.params").write_bytes(params_file(network))
    Path("ResNet101_DUC_HDC.onnx").write_bytes(onnx_file(network))


GIVEN: dict[str, Callable[[], None]] = {
    "README.md": _readme,
    "docs/authors-weights.md": _authors,
    "docs/data.md": _data,
    "docs/figures.md": _figures,
    "docs/networks.md": _networks,
    "docs/reproduce.md": _reproduce,
    "docs/scores.md": _scores,
    "docs/training.md": _training,
    "docs/video.md": _clip,
    "docs/voc2012.md": _voc2012,
    **{f"pretrained/{name}/README.md": _networks for name in ("camvid", "cracks", "vessels")},
}
"""Besides `ready`, by page."""


def before(line: str) -> None:
    """What lies there before a line: no run of that name; masks to score; pictures of a clip's frames."""
    if line.startswith("train mydata"):
        shutil.rmtree("runs/mydata", ignore_errors=True)
    if line.startswith("score folder") and "--pred out" in line:
        shutil.rmtree("out", ignore_errors=True)
        shutil.copytree("masks", "out")
    if line.startswith("data convert") and "--out mydata" in line:
        shutil.rmtree("mydata")
    if line.startswith("predict RUN frames/"):
        shutil.rmtree("frames")
        shutil.copytree("more", "frames")
    if "--format cityscapes --split test" in line:
        folder = Path("cityscapes/leftImg8bit/test/berlin")
        folder.mkdir(parents=True, exist_ok=True)
        truth = Path("cityscapes/gtFine/test/berlin")
        truth.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / "berlin_000000_000019_leftImg8bit.png"), np.zeros((1024, 2048, 3), np.uint8))
        cv2.imwrite(str(truth / "berlin_000000_000019_gtFine_labelIds.png"), np.zeros((1024, 2048), np.uint8))


def _thin_masks(_: pytest.MonkeyPatch) -> dict[str, object]:
    from ducseg.classes import ClassSet
    from ducseg.metrics.thin import ThinCounts

    truth = cv2.imread("masks/0000.png", cv2.IMREAD_UNCHANGED)
    other = ThinCounts(num_classes=2, tolerances=(0, 1, 2, 5), boundary_width=2)
    other.add(truth, truth, np.stack([1.0 - truth, truth]).astype(np.float32))
    return {
        "truth": truth, "prediction": truth, "probabilities": np.full((2, *truth.shape), 0.5, np.float32),
        "counts_of_another_part": other, "classes": ClassSet(("ground", "crack"), ((0, 0, 0), (255, 0, 0))),
    }  # fmt: skip


def _own_parts(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    from ducseg.classes import CAMVID
    from ducseg.models import HEADS, build

    monkeypatch.setitem(HEADS, "one_path", HEADS["duc"])  # what the page puts there goes again
    network = build("resnet18", "duc", 11, width=8, aspp=0)
    return {
        "features": torch.zeros(1, 512, 4, 6),
        "labels": torch.zeros(1, 32, 48, dtype=torch.int64),
        "module": torch.nn.Conv2d(1, 1, 3, padding=1),
        "rates": [2],
        "backbone": network.encoder,
        "head": network.head,
        "classes": CAMVID,
    }


def _small_training(patch: pytest.MonkeyPatch) -> dict[str, object]:
    """As a script; the experiment that it starts from is made small."""
    import ducseg.experiments.camvid as camvid

    whole = camvid.camvid_resnet18_duc()
    small = replace(
        whole,
        model=replace(whole.model, width=8, weights=None, freeze_batch_norm_from_epoch=None),
        augment=replace(whole.augment, crop_size=(32, 32)),
        data=replace(whole.data, workers=0),
        optimizer=replace(whole.optimizer, epochs=1, batch_size=2),
        run=replace(whole.run, threads=1, tensorboard=False),
    )
    patch.setattr(camvid, "camvid_resnet18_duc", lambda: small)
    return {"__name__": "__main__"}


NAMES: dict[str, Callable[[pytest.MonkeyPatch], dict[str, object]]] = {
    "docs/operations.md": _own_parts,
    "docs/crf.md": lambda _: {
        "probabilities": np.full((2, 8, 9), 0.5, np.float32), "image": np.zeros((8, 9, 3), np.uint8)
    },
    "docs/predicting.md": lambda _: {"image": np.zeros((40, 50, 3), np.uint8)},
    "docs/export.md": lambda _: {"image": np.zeros((40, 50, 3), np.uint8)},
    "docs/scores.md": _thin_masks,
    "docs/training.md": _small_training,
}  # fmt: skip
"""What a page's Python takes as given."""
