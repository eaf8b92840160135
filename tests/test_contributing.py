"""docs/contributing.md is followed as it stands: its examples go into a copy of the package, which then has them.

A code block goes where the paragraph before it says: into a new file, or into a table of one that is there.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from test_house import HOUSE, PACKAGE, allowed, arrows, circle_in

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "docs" / "contributing.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"\n((?:[^\n]+\n)+)\n```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
TINY = (
    "--model.encoder plain --model.head hidden_duc --model.aspp 0 --model.cell 2 --model.output-stride 8 "
    "--model.dilation none --model.weights None --augment.crop-size 32 32 "
    "--optimizer.epochs 1 --optimizer.batch-size 2 --data.workers 0 --run.device cpu --run.threads 1 --run.no-bf16 "
    "--run.no-tensorboard"
)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with all examples in it."""
    root = tmp_path_factory.mktemp("copy")
    shutil.copytree(PACKAGE, root / "ducseg", ignore=shutil.ignore_patterns("__pycache__"))
    for words, code in BLOCKS:
        target = re.findall(r"`src/(ducseg/[\w/]+\.py)`", words)[-1]
        if table := table_of(words):
            insert(root / target, table, code)
        else:
            assert not (root / target).exists(), f"{target} is there already: the example needs another name"
            (root / target).write_text(code)
    return root / "ducseg"


def table_of(words: str) -> str | None:
    found = re.search(r"in `(\w+)` of", words)
    return found and found[1]


def insert(file: Path, table: str, code: str) -> None:
    """Put imports before the first of the package's own, the rest at the top of the table."""
    lines = code.splitlines(keepends=True)
    entry = "".join(line for line in lines if not line.startswith("from "))
    imports = "".join(line for line in lines if line.startswith("from "))
    text, count = re.subn(rf"^({table}\b.*\{{\n)", lambda found: found[1] + entry, file.read_text(), flags=re.M)
    assert count == 1, f"{file.name} has {count} tables {table}"
    file.write_text(re.sub(r"^from ducseg", f"{imports}from ducseg", text, count=1, flags=re.M))


@pytest.fixture(scope="module")
def orchard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures a site whose green pixels are the trees."""
    root, rng = tmp_path_factory.mktemp("orchard"), np.random.default_rng(0)
    for site in ("north", "south", "west"):
        for kind in ("photo", "mask"):
            (root / site / kind).mkdir(parents=True)
        for name in ("a", "b"):
            mask = rng.integers(0, 3, (5, 6)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
            photo = np.asarray([(60, 90, 120), (0, 140, 0), (200, 200, 200)], np.uint8)[mask]
            assert cv2.imwrite(str(root / site / "photo" / f"{name}.png"), photo)
            assert cv2.imwrite(str(root / site / "mask" / f"{name}.png"), mask)
    return root


def ducseg(package: Path, *arguments: object, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ducseg", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(package.parent)}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def test_each_example_is_one_new_file_and_one_table() -> None:
    titles = re.findall(r"^## (A new .*)$", PAGE, re.MULTILINE)
    assert titles == ["A new data set", "A new encoder", "A new head", "A new command"]
    assert [table_of(words) is not None for words, _ in BLOCKS] == [False, True] * len(titles)


def test_the_page_shows_the_house() -> None:
    assert HOUSE in PAGE


@pytest.mark.slow
def test_the_house_stands_with_the_examples(package: Path) -> None:
    graph = arrows(package)
    assert {"cli/classes.py", "models/plain.py", "models/hidden_duc.py"} <= {source for source, _ in graph}
    assert not [arrow for arrow in graph if not allowed(*arrow)]
    assert not circle_in(graph)
    files = [package / re.findall(r"`src/ducseg/([\w/]+\.py)`", words)[-1] for words, _ in BLOCKS[::2]]
    settings = ["--config", REPOSITORY / "pyproject.toml", "--no-cache", *files]
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command, *settings], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_the_command_is_in_the_help(package: Path) -> None:
    assert "list the classes of a checkpoint with their labels and colours" in ducseg(package, "--help")
    assert "CHECKPOINT" in ducseg(package, "classes", "--help")


def test_the_doctor_checks_the_data_set(package: Path, orchard: Path, tmp_path: Path) -> None:
    ducseg(package, "data", "check", "orchard", orchard, "--workers", 1, "--json", tmp_path / "report.json")
    splits = json.loads((tmp_path / "report.json").read_text())["splits"]
    counts = {split: {name: entry["pixels"] for name, entry in splits[split]["classes"].items()} for split in splits}
    masks = {split: [cv2.imread(str(file), 0) for file in files_of(orchard, split)] for split in ("train", "val")}
    assert counts == {
        split: {name: int(np.sum(np.stack(found) == label)) for label, name in enumerate(("ground", "tree", "track"))}
        for split, found in masks.items()
    }
    shutil.copytree(orchard, tmp_path / "bad")
    mask = masks["train"][0]
    mask[0, 0] = 3
    assert cv2.imwrite(str(tmp_path / "bad" / "north" / "mask" / "a.png"), mask)
    assert "3" in ducseg(package, "data", "check", "orchard", tmp_path / "bad", "--workers", 1, status=1)


def files_of(orchard: Path, split: str) -> list[Path]:
    sites = {"train": ("north", "south"), "val": ("west",)}[split]
    return [file for site in sites for file in sorted((orchard / site / "mask").iterdir())]


@pytest.mark.slow
def test_encoder_and_head_train_on_the_data_set(package: Path, orchard: Path, tmp_path: Path) -> None:
    said = ducseg(
        package, "train", "custom-resnet18-duc", "--data.dataset", "orchard", "--data.root", orchard,
        "--out", tmp_path / "run", *TINY.split(),
    )  # fmt: skip
    assert "4 training and 2 validation pictures" in said
    described = json.loads((tmp_path / "run" / "best" / "model.json").read_text())["architecture"]
    assert (described["encoder"], described["head"]) == ("plain", "hidden_duc")
    steps = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps if step["kind"] == "step"] == [1, 2]
    listed = ducseg(package, "classes", tmp_path / "run")
    assert [line.split() for line in listed.splitlines()] == [
        ["0", "ground", "#785a3c"], ["1", "tree", "#008c00"], ["2", "track", "#c8c8c8"],
    ]  # fmt: skip
