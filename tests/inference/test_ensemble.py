"""Several networks as one: the mean of their probabilities, whatever asks for it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ducseg
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
    with pytest.raises(UserError, match=r"scales, flip and windows of an ensemble: .*True.*False"):
        Ensemble([Predictor(network(0), flip=True), Predictor(network(0))])
    for members, found in (([], "no network"), (Predictor(network(0)), "Predictor"), (["runs/a"], "str")):
        with pytest.raises(UserError, match=f"ensemble: found {found}"):
            Ensemble(members)  # type: ignore[arg-type]


@pytest.fixture
def folds(tmp_path: Path) -> list[str]:
    """Two networks, of the two folds of a folder of four pictures."""
    classes = ClassSet(("ground", "crack"), ((0, 0, 0), (255, 0, 0)))
    for number in range(4):
        for kind, pixels in (("images", picture() // (number + 1)), ("masks", picture()[..., 0] // 128)):
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "data" / kind / f"{number}.png")
    for fold in range(2):
        data = {"dataset": "folder", "root": str(tmp_path / "data"), "folds": 2, "fold": fold}
        made = network(fold, num_classes=2, classes=classes)
        save_segmenter(tmp_path / f"fold{fold}", made, extra={"config": {"data": data}})
    return [str(tmp_path / f"fold{fold}") for fold in range(2)]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_predict_takes_further_networks(folds: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["predict", folds[0], str(tmp_path / "data" / "images"), "--kinds", "labels", "--resume", "--out"]
    assert main([*line, str(tmp_path / "out"), "--ensemble", folds[1]]) == 0
    mean = Ensemble([ducseg.load(fold) for fold in folds])
    (found,) = (tmp_path / "out").rglob("0*.png")
    assert (np.asarray(Image.open(found)) == mean(picture())).all()
    assert main([*line, str(tmp_path / "out"), "--ensemble", folds[1]]) == 0
    assert "4 pictures were done and whole" in said(capsys)
    assert main([*line, str(tmp_path / "out")]) == 0
    assert "4 results were made with other settings" in said(capsys)
    assert main([*line, str(tmp_path / "out"), "--ensemble"]) == 2
    assert "--ensemble: found no network" in capsys.readouterr().err


def test_eval_says_what_further_networks_have_seen(
    folds: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["eval", folds[0], "--json"]
    assert main([*line, str(tmp_path / "alone.json")]) == 0
    assert "warning" not in said(capsys)
    assert main([*line, str(tmp_path / "both.json"), "--ensemble", folds[1]]) == 0
    assert f"warning: {folds[1]} was trained on 2 of the 2 pictures scored" in said(capsys)
    alone, both = (json.loads((tmp_path / f"{name}.json").read_text())["mean_iou"] for name in ("alone", "both"))
    assert alone != both
    save_segmenter(tmp_path / "other", network(2, num_classes=2, classes=ducseg.load(folds[0]).classes))
    assert main([*line, str(tmp_path / "both.json"), "--ensemble", str(tmp_path / "other")]) == 0
    assert f"warning: what {tmp_path / 'other'} was trained on is not known" in said(capsys)
    (tmp_path / "data" / "images").rename(tmp_path / "data" / "photos")
    moved = ["--data-images", "photos", "--data-masks", "masks"]
    assert main([*line, str(tmp_path / "both.json"), *moved, "--ensemble", folds[1]]) == 0
    assert f"warning: {folds[1]} was trained on 2 of the 2" in said(capsys)
    (tmp_path / "data").rename(tmp_path / "new")
    assert (
        main([*line, str(tmp_path / "b.json"), *moved, "--data-root", str(tmp_path / "new"), "--ensemble", folds[1]])
        == 0
    )
    assert f"warning: {folds[1]} was trained on 2 of the 2" in said(capsys)
    assert main(["eval", folds[0], "--store", "--ensemble", folds[1]]) == 2
    assert "--store: found --ensemble; needed one network" in capsys.readouterr().err


def test_eval_compares_two_networks_on_the_same_pictures(
    folds: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def scored(*options: str) -> Any:
        assert main(["eval", *options, "--json", str(tmp_path / "scores.json")]) == 0
        return json.loads((tmp_path / "scores.json").read_text())

    save_segmenter(tmp_path / "beside", network(2, num_classes=2, classes=ducseg.load(folds[0]).classes))
    own, found = scored(folds[0]), scored(folds[0], "--against", str(tmp_path / "beside"))
    assert f"beside {tmp_path / 'beside'} on the same 2 pictures" in said(capsys)
    other = found.pop("against")
    assert found == own != other["scores"]
    low, high = other["differences"]["mean_iou"]
    assert low <= found["mean_iou"] - other["scores"]["mean_iou"] <= high
    assert scored(folds[0], "--against", folds[0])["against"]["differences"]["pixel_accuracy"] == [0, 0]


def test_eval_draws_groups_whole(folds: list[str], tmp_path: Path) -> None:
    for path in [*(tmp_path / "data").glob("[im]*s/*")]:
        path.rename(path.with_name(f"{'ab'[int(path.stem[-1]) // 2]}{path.name}"))
    description = Path(folds[0]).resolve() / "model.json"
    noted = json.loads(description.read_text())

    def scored(**data: Any) -> Any:
        noted["extra"]["config"]["data"] |= data
        description.write_text(json.dumps(noted))
        assert main(["eval", folds[0], "--against", folds[0], "--json", str(tmp_path / "scores.json")]) == 0
        return json.loads((tmp_path / "scores.json").read_text())

    every = {"folds": None, "val_split": "all"}
    assert "groups" not in scored(group_by=None, **every)["intervals"]
    found = scored(group_by="^[ab]", **every)
    assert [found["intervals"][key] for key in ("pictures", "groups")] == [4, 2]
    assert found["against"]["differences"]["groups"] == 2
    found = scored(group_by="^()", **every)
    assert "intervals" not in found and found["against"]["differences"] is None


def test_a_search_is_of_its_networks_and_pictures(
    folds: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = [
        "--sigma-alpha",
        "5",
        "--sigma-beta",
        "3",
        "--w1",
        "1",
        "--sigma-gamma",
        "1",
        "--w2",
        "1",
        "--iterations",
        "1",
    ]

    def search(out: str, *more: str) -> float:
        assert main(["crf-tune", folds[0], "--out", str(tmp_path / out), *grid, *more]) == 0
        found: float = json.loads((tmp_path / out / "results.json").read_text())["rows"][0]["mean_iou"]
        return found

    alone, capsys_out = search("alone"), said(capsys)
    assert "warning" not in capsys_out
    both = search("both", "--ensemble", folds[1])
    assert f"warning: {folds[1]} was trained on 2 of the 2 pictures scored" in said(capsys)
    assert both != alone == search("alone")
    assert main(["crf-tune", folds[0], "--out", str(tmp_path / "alone"), *grid, "--ensemble", folds[1]]) == 2
    assert "results with another ensemble" in capsys.readouterr().err
    for mask in (tmp_path / "data" / "masks").iterdir():
        Image.fromarray(1 - np.asarray(Image.open(mask))).save(mask)
    assert search("alone") == search("fresh") != alone, "masks that were corrected are scored anew"
