"""Several networks as one: the mean of their probabilities, whatever asks for it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ducseg.classes import ClassSet
from ducseg.cli import main
from ducseg.errors import UserError
from ducseg.inference.ensemble import Ensemble
from ducseg.inference.predictor import Predictor
from ducseg.models import Preprocessing, Segmenter, build
from ducseg.weights import save_segmenter


def network(seed: int, num_classes: int = 3, **options: Any) -> Segmenter:
    torch.manual_seed(seed)
    made = build("resnet18", num_classes=num_classes, aspp=0, width=8, **options).eval()
    with torch.no_grad():
        for parameter in made.head.parameters():
            parameter.mul_(30)  # an untrained head says the same everywhere
    return made


def picture(height: int = 40, width: int = 53) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("options", [{}, {"flip": True, "scales": (0.5, 1.0)}, {"tile": 32, "overlap": 16}])
def test_it_is_the_mean_of_its_members(options: dict[str, Any]) -> None:
    members = [Predictor(network(seed), **options) for seed in range(3)]
    ensemble, image = Ensemble(members), picture()
    mean = np.mean([member.probabilities(image) for member in members], axis=0)
    np.testing.assert_allclose(ensemble.probabilities(image), mean, atol=1e-5)
    labels, probabilities = ensemble.labels_and_probabilities_of([image])[0]
    np.testing.assert_allclose(probabilities, mean, atol=1e-5)
    sure = np.diff(np.sort(mean, axis=0)[-2:], axis=0)[0] > 1e-4
    for found in (ensemble(image), labels):
        assert (found == mean.argmax(0))[sure].all()
    assert any((member(image) != mean.argmax(0))[sure].any() for member in members), "they differ"


def test_each_member_computes_in_its_own_precision() -> None:
    exact, half, image = Predictor(network(0)), Predictor(network(1), bf16=True), picture()
    mean = (exact.probabilities(image) + half.probabilities(image)) / 2
    for members in ([exact, half], [half, exact]):
        np.testing.assert_allclose(Ensemble(members).probabilities(image), mean, atol=1e-6)


def test_members_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match=r"classes of an ensemble: found class0, class1, class2; class0, class1; "):
        Ensemble([Predictor(network(0)), Predictor(network(0, num_classes=2))])
    deep = Preprocessing(mean=(9.0,), std=(5.0,), dtype="uint16")
    with pytest.raises(UserError, match=r"pictures of an ensemble: found 3 channels of uint8; 1 channel of uint16"):
        Ensemble([Predictor(network(0)), Predictor(network(0, num_channels=1, preprocessing=deep))])
    with pytest.raises(UserError, match="ensemble: found no network"):
        Ensemble([])


def test_commands_take_further_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    classes = ClassSet(("ground", "crack"), ((0, 0, 0), (255, 0, 0)))
    networks = [network(seed, num_classes=2, classes=classes) for seed in range(2)]
    for number in range(4):
        for kind, pixels in (("images", picture() // (number + 1)), ("masks", picture()[..., 0] // 128)):
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "data" / kind / f"{number}.png")
    for fold, one in enumerate(networks):
        data = {"dataset": "folder", "root": str(tmp_path / "data"), "folds": 2, "fold": fold}
        save_segmenter(tmp_path / f"fold{fold}", one, extra={"config": {"data": data}})
    runs, out = [str(tmp_path / f"fold{fold}") for fold in range(2)], tmp_path / "out"
    both = ["--ensemble", runs[1]]
    common = ["--kinds", "labels", "--resume", "--out", str(out)]
    assert main(["predict", runs[0], str(tmp_path / "data" / "images"), *both, *common]) == 0
    mean = Ensemble([Predictor(one) for one in networks])
    label = np.asarray(
        Image.open(out / "0_labels.png" if (out / "0_labels.png").exists() else next(out.rglob("0*.png")))
    )
    assert (label == mean(picture())).mean() > 0.999
    capsys.readouterr()
    assert main(["predict", runs[0], str(tmp_path / "data" / "images"), *both, *common]) == 0
    assert "4 pictures were done and whole" in capsys.readouterr().out
    assert main(["predict", runs[0], str(tmp_path / "data" / "images"), *common]) == 0
    assert "4 results were made with other settings" in capsys.readouterr().out
    assert main(["eval", runs[0], *both, "--json", str(tmp_path / "scores.json")]) == 0
    assert f"{runs[1]} was trained on 2 of the 2 pictures scored" in " ".join(capsys.readouterr().out.split())
    alone, together = tmp_path / "alone.json", tmp_path / "scores.json"
    assert main(["eval", runs[0], "--json", str(alone)]) == 0
    assert "warning" not in capsys.readouterr().out
    assert json.loads(alone.read_text())["mean_iou"] != json.loads(together.read_text())["mean_iou"]
