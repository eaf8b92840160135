"""Own pictures, as a user has them: train, eval and predict through the command line, and the five lines of Python."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import ducseg
from ducseg.cli import main
from ducseg.metrics.confusion import ConfusionMatrix, scores

COLOURS = {"ground": (90, 90, 90), "crack": (220, 40, 40), "leaf": (30, 160, 60)}
OPTIONS = (
    "--model.encoder resnet18 --model.width 16 --model.weights None "
    "--model.output-stride 8 --augment.crop-size 32 40 --optimizer.batch-size 4 --optimizer.epochs 12 "
    "--data.workers 0 --data.val-fraction 0.3 --run.device cpu --run.threads 1 --run.no-bf16 --run.no-tensorboard"
)
SMALL = OPTIONS.split()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `folder` layout with colour masks: thin cracks and leaves on ground."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    palette = np.array(list(COLOURS.values()), np.uint8)
    for name in ("images", "masks"):
        (root / name).mkdir()
    for index in range(16):
        label = np.zeros((41, 53), np.uint8)
        start, end = rng.integers(0, 40, 2), rng.integers(0, 40, 2)
        cv2.line(label, start.tolist(), end.tolist(), 1, 2)
        cv2.circle(label, rng.integers(5, 36, 2).tolist(), 6, 2, -1)
        image = np.clip(palette[label] + rng.normal(0, 15, (41, 53, 3)), 0, 255).astype(np.uint8)
        assert cv2.imwrite(str(root / "images" / f"{index:02d}.png"), image[..., ::-1])
        assert cv2.imwrite(str(root / "masks" / f"{index:02d}.png"), palette[label][..., ::-1])
    classes = [{"name": name, "color": list(colour)} for name, colour in COLOURS.items()]
    (root / "classes.json").write_text(json.dumps(classes))
    return root


@pytest.fixture(scope="module")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", "custom-resnet18-duc", "--data.root", str(pictures), "--out", str(out), *SMALL]) == 0
    return out


@pytest.mark.filterwarnings("default::ducseg.errors.Said")
def test_eval_is_what_predict_scores(run: Path, pictures: Path, tmp_path: Path) -> None:
    assert main(["eval", str(run), "--json", str(tmp_path / "scores.json")]) == 0
    evaluated = json.loads((tmp_path / "scores.json").read_text())
    from ducseg.data.config import DataConfig
    from ducseg.data.layouts.opening import open_dataset

    held_out = open_dataset(DataConfig(dataset="folder", root=str(pictures), val_fraction=0.3), "val")
    assert len(held_out) > 0
    files = [str(pictures / "images" / f"{name}.png") for name in held_out.ids]
    assert main(["predict", str(run), *files, "--out", str(tmp_path / "out"), "--kinds", "labels"]) == 0
    matrix = ConfusionMatrix(3)
    for index, name in enumerate(held_out.ids):
        (found,) = (tmp_path / "out").rglob(f"{name}*.png")
        label = held_out[index].label
        assert label is not None
        matrix.update(label, cv2.imread(str(found), cv2.IMREAD_UNCHANGED))
    assert evaluated["mean_iou"] == scores(matrix.matrix, held_out.classes)["mean_iou"]
    folders = ["--pred", str(tmp_path / "out"), "--gt", str(pictures / "masks"), "--subset"]
    listed = ["--classes", str(pictures / "classes.json"), "--json", str(tmp_path / "folder.json")]
    assert main(["score", "folder", *folders, *listed]) == 0
    scored = json.loads((tmp_path / "folder.json").read_text())
    assert (scored["mean_iou"], scored["pixel_accuracy"]) == (evaluated["mean_iou"], evaluated["pixel_accuracy"])
    assert main(["score", "folder", *folders, "--classes", str(run), "--json", str(tmp_path / "of_run.json")]) == 0
    assert json.loads((tmp_path / "of_run.json").read_text()) == scored
    assert scored["intervals"] == evaluated["intervals"] and evaluated["intervals"]["pictures"] == len(held_out)
    assert set(evaluated["classes"]) == set(COLOURS)


def test_options_of_eval_have_an_effect(run: Path, pictures: Path, tmp_path: Path) -> None:
    found = []
    for name, options in (
        ("plain", []),
        ("flip", ["--flip"]),
        ("scales", ["--scales", "0.5", "1"]),
        ("split", ["--split", "train"]),
    ):
        assert main(["eval", str(run), "--json", str(tmp_path / name), *options]) == 0
        found.append(json.loads((tmp_path / name).read_text())["pixel_accuracy"])
    assert len(set(found)) == 4
    assert main(["eval", str(run), "--panels", str(tmp_path / "panels.png")]) == 0
    assert cv2.imread(str(tmp_path / "panels.png")).shape[1] > 1000
    moved = tmp_path / "moved"
    pictures.rename(moved)
    try:
        assert main(["eval", str(run)]) == 2
        assert main(["eval", str(run), "--data-root", str(moved)]) == 0
    finally:
        moved.rename(pictures)


def test_eval_adds_the_scores_of_thin_objects_to_the_others(run: Path, tmp_path: Path) -> None:
    found = []
    for name, options in (("plain", []), ("thin", ["--thin"]), ("own", ["--tolerances", "3", "--boundary-width", "4"])):
        assert main(["eval", str(run), "--json", str(tmp_path / name), *options]) == 0
        found.append(json.loads((tmp_path / name).read_text()))
    plain, thin, own = found
    of_thin, of_own = thin.pop("thin"), own.pop("thin")
    assert plain == thin == own
    crack, ground = of_thin["classes"]["crack"], of_thin["classes"]["ground"]
    assert list(crack["within"]) == ["0", "1", "2", "5"] and list(of_own["classes"]["crack"]["within"]) == ["3"]
    assert (of_thin["boundary_width"], of_own["boundary_width"]) == (2, 4)
    iou = plain["classes"]["ground"]["iou"]
    assert ground["dice"] == pytest.approx(2 * iou / (1 + iou))
    assert sum(entry["pixels"] for entry in crack["by_width"].values()) == plain["classes"]["crack"]["pixels"]
    assert main(["eval", str(run), "--figure", str(tmp_path / "widths.png")]) == 0
    assert cv2.imread(str(tmp_path / "widths.png")).shape[1] > 1500
    for wrong in (["--tolerances", "-1"], ["--boundary-width", "0"]):
        assert main(["eval", str(run), *wrong]) == 2


def test_a_stored_evaluation_is_in_the_report(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "report.html"
    assert main(["eval", str(run), "--store"]) == 0
    assert main(["report", str(run), "--out", str(page)]) == 0
    html = page.read_text(encoding="utf-8")
    steps = sorted(int(file.stem.partition("-")[2]) for file in (run / "samples").glob("0-[0-9]*.png"))
    lines = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    assert steps == [line["step"] for line in lines if line["kind"] == "evaluation"]
    assert cv2.imread(str(run / "samples" / f"2-{steps[-1]}.png"), cv2.IMREAD_UNCHANGED).shape == (41, 53)
    for said in ("By width", "Pictures of val", "among the worst", "Confusion", "crack", f"after step {steps[-1]}"):
        assert said in html, said
    assert main(["eval", str(run / "best"), "--store"]) == 2
    assert main(["report", str(tmp_path), "--out", str(page)]) == 2
    assert "config.json" in capsys.readouterr().err
    assert page.read_text(encoding="utf-8") == html


def test_options_of_predict_have_an_effect(run: Path, pictures: Path, tmp_path: Path) -> None:
    found = {}
    for name, options in (
        ("plain", []),
        ("flip", ["--flip"]),
        ("scales", ["--scales", "0.5", "1"]),
        ("bf16", ["--bf16"]),
        ("batches", ["--batch-size", "5"]),
    ):
        command = ["predict", str(run), str(pictures / "images"), "--out", str(tmp_path / name)]
        assert main([*command, "--kinds", "probabilities", *options]) == 0
        files = sorted((tmp_path / name).iterdir())
        assert len(files) == 16
        found[name] = np.stack([np.load(file) for file in files])
    for name in ("flip", "scales", "bf16"):
        assert not np.array_equal(found[name], found["plain"])
    np.testing.assert_allclose(found["batches"], found["plain"], atol=2e-3)
    np.testing.assert_allclose(found["bf16"], found["plain"], atol=0.2)
    assert ducseg.load(run, bf16=True).bf16
    assert main(["eval", str(run), "--bf16", "--batch-size", "3", "--json", str(tmp_path / "scores.json")]) == 0
    assert main(["predict", str(run), str(pictures / "images"), "--out", str(tmp_path / "o"), "--batch-size", "0"]) == 2


def test_the_crf_in_eval(run: Path, tmp_path: Path) -> None:
    (tmp_path / "off.json").write_text('{"w1": 0, "w2": 0}')
    (tmp_path / "paper.json").write_text('{"w1": 3, "w2": 3, "iterations": 10}')
    found = {}
    for name, options in (
        ("plain", []),
        ("paper", ["--crf"]),
        ("written", ["--crf", str(tmp_path / "paper.json")]),
        ("off", ["--crf", str(tmp_path / "off.json")]),
    ):
        assert main(["eval", str(run), *options, "--json", str(tmp_path / name)]) == 0
        found[name] = json.loads((tmp_path / name).read_text())
    assert found["off"] == found["plain"] != found["paper"] == found["written"]
    assert 0 < found["plain"]["mean_boundary_iou"] < 1
    assert found["paper"]["mean_boundary_iou"] != found["plain"]["mean_boundary_iou"]
    assert main(["eval", str(run), "--crf", str(tmp_path / "none.json")]) == 2


def test_predict_with_the_crf_is_the_crf_on_saved_probabilities(
    run: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = str(pictures / "images")
    assert main(["predict", str(run), images, "--out", str(tmp_path / "with"), "--kinds", "labels", "--crf"]) == 0
    assert main(["predict", str(run), images, "--out", str(tmp_path / "saved"), "--kinds", "probabilities"]) == 0
    assert main(["crf", str(tmp_path / "saved"), images, "--out", str(tmp_path / "after")]) == 0
    for path in (tmp_path / "with").iterdir():
        labels = [cv2.imread(str(tmp_path / name / path.name), 0) for name in ("with", "after")]
        assert np.mean(labels[0] == labels[1]) > 0.99, "saved in half precision"
    (tmp_path / "saved" / "03_probabilities.npy").write_bytes(b"no array")
    (tmp_path / "saved" / "04_probabilities.npy").unlink()
    capsys.readouterr()
    saved = str(tmp_path / "saved")
    assert main(["crf", saved, images, "--out", str(tmp_path / "broken")]) == 1
    told = capsys.readouterr().out
    assert "14 of 16" in told and "03_probabilities.npy" in told and "--kinds probabilities" in told
    assert main(["crf", saved, images, "--out", str(tmp_path / "colour"), "--kinds", "overlay"]) == 2
    assert "--classes" in capsys.readouterr().err
    classes = ["--classes", str(pictures / "classes.json")]
    single = str(pictures / "images" / "00.png")
    assert main(["crf", saved, single, "--out", str(tmp_path / "colour"), "--kinds", "overlay", *classes]) == 0
    assert main(["crf", saved, single, "--out", str(tmp_path / "other"), "--classes", "camvid"]) == 1
    assert "3 classes" in capsys.readouterr().out


def test_the_best_setting_of_a_search_scores_what_the_search_said(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "search"
    grid = ["--sigma-alpha", "5", "15", "--sigma-beta", "10", "--w1", "1", "4", "--w2", "1", "--iterations", "1", "3"]
    assert main(["crf-tune", str(run), "--out", str(out), *grid, "--metric", "mean_boundary_iou"]) == 0
    results = json.loads((out / "results.json").read_text())
    best = max(results["rows"], key=lambda row: row["mean_boundary_iou"])
    assert len(results["rows"]) == 8
    assert (out / "heatmap.png").read_bytes().startswith(b"\x89PNG")
    command = ["eval", str(run), "--crf", str(out / "best.json"), "--json", str(tmp_path / "scores.json")]
    assert main(command) == 0
    scored = json.loads((tmp_path / "scores.json").read_text())
    assert abs(scored["mean_boundary_iou"] - best["mean_boundary_iou"]) < 2e-3, "the search keeps half precision"
    assert main(["crf-tune", str(run), "--out", str(out), "--flip", *grid]) == 2
    assert main(["crf-tune", str(run), "--out", str(tmp_path / "none"), "--pictures", "0"]) == 2


def test_one_broken_file_is_reported_and_the_others_are_done(
    run: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for name in ("00.png", "01.png"):
        (mixed / name).write_bytes((pictures / "images" / name).read_bytes())
    (mixed / "broken.png").write_bytes(b"not a picture")
    assert main(["predict", str(run), str(mixed), "--out", str(tmp_path / "out")]) == 1
    assert "broken.png" in capsys.readouterr().out
    written = {path.name for path in (tmp_path / "out").rglob("*.png")}
    assert len(written) == 6
    assert not any("broken" in name for name in written)


def test_five_lines_of_python(run: Path, pictures: Path) -> None:
    predictor = ducseg.load(run)
    image = cv2.imread(str(pictures / "images" / "00.png"))[:, :, ::-1]
    labels, probabilities = predictor(image), predictor.probabilities(image)
    assert (labels.shape, labels.dtype) == ((41, 53), np.uint8)
    assert (probabilities.shape, probabilities.dtype) == ((3, 41, 53), np.float32)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)
    assert np.array_equal(labels, probabilities.argmax(0))
    assert predictor.model.classes.names == tuple(COLOURS)


@pytest.mark.slow
@pytest.mark.timeout(2400)  # 11 minutes alone on a processor without bfloat16
@pytest.mark.usefixtures("bf16_as_it_is")
@pytest.mark.filterwarnings("default::ducseg.errors.Said")  # what float32 is taken for, and classes not found
def test_the_demo_writes_a_report_and_refuses_a_folder_that_is_not_its_own(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 4
    assert "://" not in page
    found = json.loads((out / "scores.json").read_text())
    for head in ("bilinear", "duc", "pyramid"):
        assert found[head]["mean_iou"] > 0.2, "it learned"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    assert main(["demo", "--out", str(tmp_path / "mine")]) == 2
