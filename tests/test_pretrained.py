"""The ready-made networks of `pretrained/`: small, with their terms, and as good as their cards say."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from ducseg.data.config import DataConfig
from ducseg.data.layouts.opening import open_dataset
from ducseg.inference.evaluate import evaluate
from ducseg.inference.predictor import load_predictor
from ducseg.metrics.confusion import scores

FOLDER = Path(__file__).parents[1] / "pretrained"


@dataclass(frozen=True)
class Ready:
    """Where its data lies and of which kind it is, the class whose IoU the card tells (None: the mean), MiB at most."""

    data: str
    dataset: str
    told: str | None
    mebibytes: int


NETWORKS = {
    "cracks": Ready("crackforest", "folder", "crack", 8),
    "vessels": Ready("drive", "folder", "vessel", 8),
    "camvid": Ready("camvid", "camvid", None, 16),
}


def test_every_network_is_known_here():
    assert {path.name for path in FOLDER.iterdir()} == set(NETWORKS)


@pytest.mark.parametrize("name", NETWORKS)
def test_small_and_with_the_terms_of_its_data(name: str):
    files = list((FOLDER / name).iterdir())
    assert {file.name for file in files} == {"README.md", "model.json", "model.safetensors"}
    assert sum(file.stat().st_size for file in files) <= NETWORKS[name].mebibytes * 2**20
    assert "research" in (FOLDER / name / "README.md").read_text()


@pytest.mark.parametrize("name", NETWORKS)
def test_its_card_names_the_terms_where_the_hub_shows_them(name: str):
    head = ModelCard((FOLDER / name / "README.md").read_text()).data
    assert (
        head.license == "other" and "research" in head["license_name"] and head["license_link"].startswith("https://")
    )
    assert head.library_name == "ducseg" and head.pipeline_tag == "image-segmentation"
    assert {result.metric_type for result in head.eval_results} == {"mean_iou", "pixel_accuracy"}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_scores_are_those_of_the_card(name: str, shared: Path):
    """The whole test split, which the network has not seen."""
    ready = NETWORKS[name]
    dataset = open_dataset(DataConfig(dataset=ready.dataset, root=str(shared / "data" / ready.data)), "test")
    found = scores(evaluate(load_predictor(FOLDER / name), dataset).matrix, dataset.classes)
    told = re.search(rf"{ready.told or 'mean'} IoU ([\d.]+) %", (FOLDER / name / "README.md").read_text())
    assert told is not None
    iou = found["mean_iou"] if ready.told is None else found["classes"][ready.told]["iou"]
    assert 100 * iou == pytest.approx(float(told[1]), abs=0.06)
