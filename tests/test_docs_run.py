"""The documentation's commands and Python run, page by page as they stand, on small pictures that are drawn here.

A page's commands run in its own order, in a folder that holds what the page takes as given (tests/page_places.py). What
is made smaller is in `SMALLER`; what cannot run here is in `NOT_RUN` with its reason, and is parsed by
tests/test_docs.py all the same, which also sees that no page and no line is passed over.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import page_places
from documented import PAGES, REPOSITORY, code_lines, command_lines, page_id, python_blocks, run_block, scripts
from ducseg.cli import main
from page_places import FRESH, GIVEN, NAMES, ROW, TINY

pytestmark = pytest.mark.slow

SMALLER = {
    r"--minutes \d+": "--minutes 0.15 --data.workers 0 --run.threads 1",
    r"--num-train \d+ --num-val \d+ --size \d+ \d+": "--num-train 3 --num-val 2 --size 64 128 --workers 1",
    r"^(data synth voc2012 .*)$": r"\1 --num-test 1",
    r"--num-train 15 --num-test 3": "--num-train 15 --num-test 3 --size 120 400 --workers 1",
    r"^train ((?:cityscapes|kitti)\S*) (.*)$": rf"train \1 \2 --out runs/\1 {FRESH}",
    r"^(train cityscapes-duc --data.root cityscapes --out runs/)cityscapes-duc": r"\1launched",
    r"^train (voc2012-\S*pretrain) (.*)$": rf"train \1 \2 --out runs/\1 {FRESH} --augment.crop-size 48 48",
    r"^train (voc2012-\S*finetune) (.*)$": rf"train \1 \2 --out runs/\1 {TINY} --optimizer.epochs 1",
    r"^train (custom-\S+) (.*)$": rf"train \1 \2 --data.val-fraction 0.4 {FRESH}",
    r"^train (camvid-\S+) --data.root DIR --model.weights FILE": r"train \1 --data.root CAMVID"
    f" --model.weights weights.pth --out runs/weighted {TINY} --optimizer.epochs 1",
    r"^train EXPERIMENT --run.minutes 8": "train camvid-resnet18-duc --data.root CAMVID --out runs/minutes"
    f" --run.minutes 0.05 --model.weights None {TINY}",
    r"/data/": "data/",
    r"PICTURES": "photos --most 2",
    r"--pictures 26": "--pictures 2 --sigma-alpha 5 --sigma-beta 3 --w1 1 --sigma-gamma 1 --w2 1 --iterations 1",
    r"^(export authors .*) --int8 photos/": r"\1 --int8 photos/ --int8-bound 0",
    r"--tile 1024 --overlap 256": "--tile 64 --overlap 16",
    r"--sizes (\S+)(?: \S+x\S+)*": "--sizes 32x48 --rounds 1",
    r"^bench resnet101 (.*) compiled": r"bench resnet18 \1",
    r"^figure road RUN": "figure road KITTI",
    r"^predict RUN cityscapes": "predict CITY cityscapes",
    r"^predict RUN VOC2012": "predict runs/voc2012-resnet152-duc-finetune VOC2012",
    r"^score voc2012 --pred RESULTS": "score voc2012 --pred results",
    r"^score kitti-road --pred RESULTS (.*)": r"score kitti-road --pred ROADS \1 --subset",
    r"^score folder --pred PREDICTIONS": "score folder --pred masks",
    r"^ablate TABLE --data NAME DIR": f"ablate heads --data camvid CAMVID {ROW.format('duc-8')}",
    r"^ablate heads --data camvid CAMVID --seeds 3 --device cuda(.*) --time 16": "ablate heads --data camvid CAMVID"
    rf" {ROW.format('duc-8')}\1 --time 2",
    r"^ablate heads --data camvid CAMVID --seeds 3 --device cuda(?: --data.workers 2 --run.threads 1)?": "ablate heads"
    f" --data camvid CAMVID {ROW.format('duc-8')}",
    r"^ablate dilation --data camvid CAMVID .* --out ablations": "ablate dilation --data camvid CAMVID"
    f" {ROW.format('rf-patch')} --out ablations",
    r"^gridding ablations/runs/RUN": "gridding RUN",
    r"^ablate (table[56]) (.*) --submit": rf"ablate \1 \2 --submit {ROW.format('duc')}",
}
NOT_RUN = {
    r"^serve ": "serves until it is stopped: test_a_server_answers_what_its_page_asks",
    r"^predict \S+ camera": "there is no camera (tests/inference/test_video.py)",
    r"s3://|--engine ray": "a cluster, a store (tests/inference/test_ray.py, tests/inference/test_places.py)",
    r"^demo": "minutes (tests/cli/test_demo.py, tests/test_release.py)",
    r"--scale full": "full size: real archives and GPUs (tests/experiments/ablations/test_tables.py)",
}
FINDINGS = {"hdc": {0, 1}, "gridding": {0, 1}}
"""Exit statuses besides 0: what was looked for is there."""
OTHERS = {
    "docs/contributing.md": "tests/test_contributing.py",
    "docs/elsewhere.md": "tests/models/test_docs_elsewhere.py",
    "docs/hub.md": "tests/weights/test_hub.py",
    "docs/weights.md": "tests/models/test_docs_elsewhere.py",
    "RESULTS.md": "",
    "LOG.md": "",
}
"""Pages that have a test of their own; the last two are records of what was run at a commit, with its data."""
SHOWN = [page for page in PAGES if page_id(page) not in OTHERS and (command_lines(page) or python_blocks(page))]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page_places.ready(tmp_path_factory.mktemp("ready"))


@pytest.fixture
def here(ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to work in, without a network."""
    folder = shutil.copytree(ready, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DUCSEG_WEIGHTS", str(folder))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", _unreachable)
    return folder


def _unreachable(*_arguments: object, **_options: object) -> None:
    raise OSError("no network")


def smaller(line: str, leave_out: str = "") -> str:
    for pattern, other in SMALLER.items():
        line = line if pattern == leave_out else re.sub(pattern, other, line)
    return line


@pytest.mark.filterwarnings("default::ducseg.errors.Said")
@pytest.mark.parametrize("page", SHOWN, ids=page_id)
def test_a_page_runs(
    page: Path, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commands in order, then its Python."""
    GIVEN.get(page_id(page), dict)()
    for words in command_lines(page):
        if any(re.search(pattern, shlex.join(words)) for pattern in NOT_RUN):
            continue
        line = smaller(shlex.join(words))
        page_places.before(line)
        globbed = [sorted(map(str, Path().glob(word))) if "*" in word else [word] for word in shlex.split(line)]
        try:
            status = main([word for found in globbed for word in found])
        except SystemExit as ended:  # --help
            status = int(ended.code or 0)
        told = capsys.readouterr()
        allowed = FINDINGS.get(line.split()[0], {0})
        assert status in allowed, f"ducseg {line}\n{told.out[-2000:]}\n{told.err}"
    given = NAMES.get(page_id(page))
    for block in python_blocks(page):
        run_block(block.replace('device="cuda"', 'device="cpu"'), given(monkeypatch) if given else {})


def test_a_server_answers_what_its_page_asks(here: Path) -> None:
    """`ducseg serve`, then the page's lines of curl, each with its file."""
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("no curl")
    asked = [line.strip() for line in (REPOSITORY / "docs/server.md").read_text().splitlines() if "    curl " in line]
    given = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "ducseg", "serve", "runs/camvid-resnet18-duc", "--port", "0"]
    with subprocess.Popen(command, cwd=here, env=given, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        told = re.search(r"serving camvid-resnet18-duc at (http://\S+)/", server.stdout.readline())
        assert told is not None
        for line in asked:
            words = shlex.split(line.replace("http://127.0.0.1:8000", told[1]))
            done = subprocess.run([curl, "-sS", *words[1:]], cwd=here, capture_output=True, check=True)
        server.send_signal(signal.SIGINT)
        assert server.wait(30) in (0, 130)
    assert len(asked) == 3 and b'"height":64' in done.stdout.replace(b" ", b"")
    assert cv2.imread(str(here / "labels.png"), cv2.IMREAD_UNCHANGED).shape == (64, 96)
    assert cv2.imread(str(here / "overlay.png")).shape[1] >= 96


def test_the_script_for_a_cluster_does_its_parts(here: Path) -> None:
    """Of its forty parts the first two, by a `srun` that starts one task here."""
    (script,) = scripts(REPOSITORY / "docs" / "many-pictures.md")
    (here / "srun").write_text('#!/bin/sh\nSLURM_PROCID=$TASK exec "$@"\n')
    (here / "ducseg").write_text(f'#!/bin/sh\nexec {sys.executable} -m ducseg "$@"\n')
    for name in ("srun", "ducseg"):
        (here / name).chmod(0o755)
    for task in ("0", "1"):
        given = {
            **os.environ, "PATH": f"{here}:{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(sys.path),
            "SLURM_ARRAY_TASK_ID": "0", "TASK": task,
        }  # fmt: skip
        text = script.replace("/shared/", "").replace("/40", "/2")
        done = subprocess.run(["bash", "-c", text], cwd=here, env=given, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((here / "predictions").rglob("*_labels.png"))) == 20


def test_a_picture_is_made_a_tiled_raster(here: Path) -> None:
    """Where rasterio's own command is."""
    rasterio = pytest.importorskip("rasterio")
    rio = Path(sys.executable).with_name("rio")
    if not rio.is_file():
        pytest.skip("no rio")
    (line,) = (line for line in code_lines(REPOSITORY / "docs/large-pictures.md") if line.strip().startswith("rio "))
    cv2.imwrite("IN.png", np.zeros((600, 700, 3), np.uint8))
    subprocess.run([rio, *shlex.split(line)[1:]], cwd=here, check=True, capture_output=True)
    with rasterio.open(here / "OUT.tif") as made:
        assert made.block_shapes == [(512, 512)] * 3
