"""The documentation's commands and Python run, page by page as they stand, on small pictures that are drawn here.

A page's commands run in its own order, in a folder that holds what the page takes as given. What is made smaller is in
`SMALLER`; what cannot run here is in `NOT_RUN` with its reason, and is parsed by tests/test_docs.py all the same.
"""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from documented import REPOSITORY, command_lines, python_blocks, run_block
from ducseg.cli import main

pytestmark = pytest.mark.slow

TINY = (
    "--model.encoder resnet18 --model.width 8 --model.weights None --model.aspp 0 --optimizer.epochs 1"
    " --optimizer.batch-size 2 --model.freeze-batch-norm-from-epoch None --augment.crop-size 32 32 --data.workers 0"
    " --run.threads 1 --run.no-tensorboard"
)
SMALLER = {
    r"--minutes \d+": "--minutes 0.15 --data.workers 0 --run.threads 1",
    r"--num-train \d+ --num-val \d+ --size \d+ \d+": "--num-train 3 --num-val 2 --size 64 128 --workers 1",
    r"--num-train 15 --num-test 3": "--num-train 15 --num-test 3 --size 120 400 --workers 1",
    r"^train ((?:cityscapes|kitti|voc2012)\S*) (.*)$": rf"train \1 \2 --out runs/\1 {TINY}",
    r"PICTURES": "photos --most 2",
    r"--pictures 26": "--pictures 2 --sigma-alpha 5 --sigma-beta 3 --w1 1 --sigma-gamma 1 --w2 1 --iterations 1",
    r"--tile 1024 --overlap 256": "--tile 64 --overlap 16",
    r"--sizes (\S+)(?: \S+x\S+)*": "--sizes 32x48 --rounds 1",
}
NOT_RUN = {
    r"^serve ": "serves until it is stopped (tests/serve)",
    r"^predict \S+ camera": "there is no camera",
    r"s3://|--engine ray": "a cluster (tests/inference/test_ray.py)",
    r"^demo": "minutes; tests/cli/test_demo.py",
    r"^bench resnet101": "minutes of a compiler; tests/cli/test_bench.py",
    r"--split test --(out|zip)|--dataset DRIVE|DRIVE|CAMVID|search/best.json$": "data that is not here",
    r"^train cityscapes-hdc-bigger|^train cityscapes-duc .*--data.root cityscapes$": "as the one above it, on more",
    r"^train voc2012-\S*finetune": "starts from a pretraining on COCO (tests/cli/test_benchmark_cli.py)",
    r"^(predict|score) .*(VOC2012|voc2012)": "its run is one of those",
    r"^train voc2012-\S*pretrain|^data (sbd|coco-masks)": "archives that are not here (tests/data/convert)",
}
FINDINGS = {"hdc": {0, 1}, "gridding": {0, 1}}
"""Exit statuses besides 0: what was looked for is there."""
PAGES = (
    "start", "thin", "report", "designer", "gridding", "pyramid", "operations", "networks", "predicting", "crf",
    "export", "large-pictures", "cityscapes", "kitti-road", "voc2012", "video", "server",
)  # fmt: skip
"""Others have tests of their own: contributing; elsewhere, weights and comparisons in tests/models; hub and
authors-weights in tests/weights; many-pictures in tests/inference; reproduce in tests/experiments; others there.
"""


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures and masks of thin lines, a run on them under the names that pages use, a clip, a raster."""
    root: Path = tmp_path_factory.mktemp("ready")
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
    shutil.copytree(root / "mydata", root / "DATA")
    shutil.copytree(REPOSITORY / "pretrained", root / "pretrained")
    shutil.copy(root / "photos" / "0000.jpg", root / "road.jpg")
    _clip(root / "clip.mp4", root / "photos")
    cv2.imwrite(str(root / "city.tif"), cv2.resize(cv2.imread(str(root / "road.jpg")), (200, 150)))
    run = root / "runs" / "first"
    data = f"--data.root {root / 'mydata'} --data.val-fraction 0.4 --data.test-fraction 0.3"
    first = f"train custom-resnet18-duc {data} --model.recalibrate-batches 0 --out {run} {TINY}"
    assert main(shlex.split(first)) == 0
    for name in ("RUN", "ANOTHER", "runs/mine", "runs/best", "runs/mydata", "runs/camvid-resnet18-duc"):
        shutil.copytree(run, root / name)
    return root


def _clip(path: Path, pictures: Path) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for file in sorted(pictures.glob("*.jpg")):
            frame = av.VideoFrame.from_ndarray(cv2.imread(str(file)), format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture
def here(ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to work in, without a network."""
    folder = shutil.copytree(ready, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DUCSEG_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", _unreachable)
    return folder


def _unreachable(*_arguments: object, **_options: object) -> None:
    raise OSError("no network")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs(page: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its commands in order, then its Python."""
    file = REPOSITORY / "docs" / f"{page}.md"
    for words in command_lines(file):
        line = shlex.join(words)
        if any(re.search(pattern, line) for pattern in NOT_RUN):
            continue
        for pattern, smaller in SMALLER.items():
            line = re.sub(pattern, smaller, line)
        _prepare(line)
        globbed = [sorted(map(str, Path().glob(word))) if "*" in word else [word] for word in shlex.split(line)]
        status = main([word for found in globbed for word in found])
        told = capsys.readouterr()
        allowed = FINDINGS.get(line.split()[0], {0})
        assert status in allowed, f"ducseg {line}\n{told.out[-2000:]}\n{told.err}"
    _prepare(f"python of {page}")
    for block in python_blocks(file):
        run_block(block.replace('device="cuda"', 'device="cpu"'), NAMES.get(page, dict)())


def _prepare(line: str) -> None:
    """What lies there before a line: no run of that name; masks to score; pictures of a clip's frames."""
    if line.startswith("train mydata"):
        shutil.rmtree("runs/mydata", ignore_errors=True)
    if line.startswith("score folder"):
        shutil.rmtree("out", ignore_errors=True)
        shutil.copytree("masks", "out")
    if line == "python of voc2012":  # what `data sbd` writes
        shutil.copytree("VOC2012/SegmentationClass", "VOC2012/SegmentationClassAug")
        lists = Path("VOC2012/ImageSets/Segmentation")
        shutil.copy(lists / "train.txt", lists / "train_aug.txt")
    if line.startswith("predict RUN frames/"):
        shutil.rmtree("frames")
        shutil.copytree("more", "frames")


NAMES: dict[str, Callable[[], dict[str, object]]] = {
    "operations": lambda: {
        "features": torch.zeros(1, 512, 4, 6),
        "labels": torch.zeros(1, 32, 48, dtype=torch.int64),
        "module": torch.nn.Conv2d(1, 1, 3, padding=1),
        "rates": [2],
    },
    "crf": lambda: {"probabilities": np.full((2, 8, 9), 0.5, np.float32), "image": np.zeros((8, 9, 3), np.uint8)},
    "predicting": lambda: {"image": np.zeros((40, 50, 3), np.uint8)},
    "export": lambda: {"image": np.zeros((40, 50, 3), np.uint8)},
}
"""What a page's Python takes as given."""
