"""The commands on a GPU, and files that go between it and the CPU."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console

import ducseg
from ducseg.cli import main
from ducseg.inference.predictor import Predictor
from ducseg.train.loop import train
from ducseg.weights.checkpoint import load_segmenter, save_segmenter
from on_gpu import GPU, network, on_a_gpu, picture, tiny_config, write_data

pytestmark = on_a_gpu


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder made on the GPU, with its data beside it."""
    place = tmp_path_factory.mktemp("run")
    train(tiny_config(write_data(place / "data")), place / "run", console=Console(quiet=True))
    return place / "run"


def labels_in(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(folder.glob("*_labels.png"))}


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray], share: float = 0.98) -> bool:
    return one.keys() == other.keys() and all((value == other[name]).mean() >= share for name, value in one.items())


def test_checkpoints_go_between_gpu_and_cpu(tmp_path: Path) -> None:
    made = network()
    wanted = {name: value.clone() for name, value in made.state_dict().items()}
    save_segmenter(tmp_path / "gpu", made.to(GPU))
    back = load_segmenter(tmp_path / "gpu")
    assert all(torch.equal(value, wanted[name]) for name, value in back.state_dict().items())
    save_segmenter(tmp_path / "cpu", back)
    on_gpu, on_cpu = ducseg.load(tmp_path / "cpu", device="cuda"), ducseg.load(tmp_path / "gpu")
    assert next(on_gpu.model.parameters()).device == GPU
    assert (on_gpu(picture()) == on_cpu(picture())).mean() > 0.98
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("cpu", "gpu")]
    assert files[0] == files[1]


def test_eval_scores_alike(run: Path, tmp_path: Path) -> None:
    found = []
    for options in (["--device", "cuda"], ["--device", "cpu"], [], ["--bf16", "--flip", "--batch-size", "3"]):
        assert main(["eval", str(run), "--split", "val", "--json", str(tmp_path / "scores.json"), *options]) == 0
        found.append(json.loads((tmp_path / "scores.json").read_text())["mean_iou"])
    assert found == pytest.approx([found[1]] * 4, abs=0.03)


def test_predict_labels_alike(run: Path, tmp_path: Path) -> None:
    pictures = str(run.parent / "data" / "images")
    ways = {
        "cpu": ["--device", "cpu"],
        "cuda": ["--device", "cuda"],
        "auto": ["--batch-size", "4"],
        "shard": ["--shard", "0/1"],
        "windows": ["--tile", "64", "--overlap", "16"],
        "bf16": ["--bf16", "--kinds", "labels", "probabilities"],
        "crf": ["--crf"],
    }
    found = {}
    for name, options in ways.items():
        assert main(["predict", str(run), pictures, "--out", str(tmp_path / name), *options]) == 0
        found[name] = labels_in(tmp_path / name)
        assert len(found[name]) == 10
    assert all(same(found[name], found["cpu"]) for name in ("cuda", "auto", "shard"))
    assert same(found["bf16"], found["cpu"], 0.9)


def test_a_gpu_that_is_not_there_is_one_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["eval", str(run)], ["predict", str(run), str(run), "--out", str(tmp_path / "x")]):
        assert main([*command, "--device", "cuda:63"]) == 2
        error = capsys.readouterr().err.strip()
        assert error.startswith("error: --device: found cuda:63") and "\n" not in error


def test_bench_times_what_is_there(run: Path, tmp_path: Path) -> None:
    options = ["--sizes", "96x128", "--rounds", "2", "--json", str(tmp_path / "bench.json"), "--profile"]
    backends, dtypes = ["--backends", "eager", "folded"], ["--dtypes", "float32", "bfloat16"]
    assert main(["bench", str(run), *options, *backends, *dtypes, "--device", "cuda"]) == 0
    found = json.loads((tmp_path / "bench.json").read_text())
    assert len(found["rows"]) == 4 and all(row["failed"] is None and row["peak_mb"] > 0 for row in found["rows"])
    assert len(found["stages"]) == 2


def test_an_exported_file_takes_the_device_that_its_runtime_has(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    file = tmp_path / "network.onnx"
    assert main(["export", str(run), "--out", str(file)]) == 0
    pictures = str(run.parent / "data" / "images")
    for name, source in (("file", str(file)), ("run", str(run))):
        assert main(["predict", source, pictures, "--out", str(tmp_path / name), "--kinds", "labels"]) == 0
    assert same(labels_in(tmp_path / "file"), labels_in(tmp_path / "run"))
    rows = tmp_path / "rows.json"
    backends = ["--backends", "eager", "onnxruntime"]
    assert main(["bench", str(run), *backends, "--sizes", "64x80", "--rounds", "1", "--json", str(rows)]) == 0
    assert [row["failed"] for row in json.loads(rows.read_text())["rows"]] == [None, None]


def test_a_folder_is_trained_scored_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(*_arguments: object, **_options: object) -> None:
        raise OSError("no network")

    monkeypatch.setenv("DUCSEG_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "wires")
    options = ["--minutes", "0.5", "--optimizer.epochs", "4", "--data.workers", "2", "--run.no-tensorboard"]
    assert main(["train", "wires", *options]) == 0
    out, folder = capsys.readouterr().out, tmp_path / "runs" / "wires"
    config = json.loads((folder / "config.json").read_text())
    assert config["run"]["bf16"] and config["augment"]["crop_size"] == [64, 96] and "1 x cuda" in out
    assert (folder / "report.html").is_file()
    description = json.loads((folder / "best" / "model.json").read_text())
    assert description["extra"]["gpu"] == torch.cuda.get_device_name()


def test_predictions_leave_the_segmenter_where_it_was_put(run: Path) -> None:
    made = load_segmenter(run / "best")
    Predictor(made, "cuda")(picture())
    assert {value.device for value in made.state_dict().values()} == {GPU}
