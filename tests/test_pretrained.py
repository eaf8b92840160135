"""The ready-made networks of `pretrained/`: small, with their terms, and as good as their cards say."""

import re
from pathlib import Path

import pytest

from ducseg.data.config import DataConfig
from ducseg.data.layouts.opening import open_dataset
from ducseg.inference.evaluate import evaluate
from ducseg.inference.predictor import load_predictor
from ducseg.metrics.confusion import scores

FOLDER = Path(__file__).parents[1] / "pretrained"
DATA = {"cracks": ("crackforest", "crack"), "vessels": ("drive", "vessel")}


def test_every_network_is_known_here():
    assert {path.name for path in FOLDER.iterdir()} == set(DATA)


@pytest.mark.parametrize("name", DATA)
def test_small_and_with_the_terms_of_its_data(name: str):
    files = list((FOLDER / name).iterdir())
    assert {file.name for file in files} == {"README.md", "model.json", "model.safetensors"}
    assert sum(file.stat().st_size for file in files) <= 8 * 2**20
    assert "research" in (FOLDER / name / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", DATA)
def test_scores_are_those_of_the_card(name: str, shared: Path):
    """The whole test split, which the network has not seen."""
    data, thin = DATA[name]
    dataset = open_dataset(DataConfig(dataset="folder", root=str(shared / "data" / data)), "test")
    found = evaluate(load_predictor(FOLDER / name), dataset)
    told = re.search(rf"{thin} IoU ([\d.]+) %", (FOLDER / name / "README.md").read_text())
    assert told is not None
    iou = scores(found.matrix, dataset.classes)["classes"][thin]["iou"]
    assert 100 * iou == pytest.approx(float(told[1]), abs=0.06)
