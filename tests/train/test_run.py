"""Whole runs, through `train` and through the command line."""

import dataclasses
import json
import random
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from rich.console import Console
from training_process import TrainingProcess

from ducseg.classes import CAMVID
from ducseg.data.layouts.opening import open_dataset
from ducseg.errors import UserError
from ducseg.inference.evaluate import evaluate
from ducseg.inference.predictor import load_predictor
from ducseg.metrics.confusion import scores
from ducseg.models import build
from ducseg.models.preprocessing import Preprocessing
from ducseg.train.config import Config, ModelConfig
from ducseg.train.ema import MovingAverage
from ducseg.train.loop import EXIT_PREEMPTED, train
from ducseg.train.setup import build_network
from ducseg.weights.checkpoint import load_segmenter, save_segmenter

QUIET = Console(quiet=True)


def section(config: Config, name: str, **values: Any) -> Config:
    return dataclasses.replace(config, **{name: dataclasses.replace(getattr(config, name), **values)})


def read_log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def assert_same_weights(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not np.array_equal(one[name], other[name])] == []


def test_a_run_learns_and_leaves_what_it_promises(tiny_config: Config, tmp_path: Path) -> None:
    config = section(
        section(
            section(tiny_config, "model", width=32),
            "optimizer",
            epochs=16,
            learning_rate=0.05,
            head_learning_rate_factor=10.0,
        ),
        "run",
        tensorboard=True,
    )
    outcome = train(config, tmp_path / "run", console=QUIET)
    lines = read_log(tmp_path / "run")
    losses = [line["loss"] for line in lines if line["kind"] == "step"]
    assert outcome.finished
    assert len(losses) == 32
    assert losses[0] == pytest.approx(np.log(11), rel=0.1)
    assert np.mean(losses[-4:]) < 0.6 * losses[0]
    evaluations = [line for line in lines if line["kind"] == "evaluation"]
    assert len(evaluations) == 16
    assert outcome.best_score == max(line["mean_iou"] for line in evaluations)
    saved = json.loads((tmp_path / "run" / "best" / "model.json").read_text())
    assert saved["extra"]["config"]["optimizer"]["epochs"] == 16
    assert saved["extra"]["torch"] == torch.__version__
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == saved["extra"]["config"]


def test_what_an_evaluation_scored_the_checkpoint_scores_again(tiny_config: Config, tmp_path: Path) -> None:
    config = section(section(tiny_config, "run", eval_bf16=True), "optimizer", epochs=2)
    outcome = train(config, tmp_path / "run", console=QUIET)
    predictor = load_predictor(tmp_path / "run", bf16=True)
    found = evaluate(predictor, open_dataset(config.data, config.data.val_split))
    assert scores(found.matrix, predictor.classes)["mean_iou"] == outcome.best_score


def test_workers_do_not_change_the_run(tiny_config: Config, tmp_path: Path) -> None:
    for workers in (0, 2):
        train(section(tiny_config, "data", workers=workers), tmp_path / str(workers), console=QUIET)
    curves = [[line["loss"] for line in read_log(tmp_path / w) if line["kind"] == "step"] for w in ("0", "2")]
    assert curves[0] == curves[1]


def test_moving_average_is_what_is_saved_and_differs_from_the_weights(tiny_config: Config, tmp_path: Path) -> None:
    outcome = train(section(tiny_config, "optimizer", ema_decay=0.9), tmp_path / "run", console=QUIET)
    assert outcome.checkpoint is not None
    averaged = load_segmenter(outcome.checkpoint).state_dict()
    raw = torch.load(outcome.checkpoint / "train_state.pt", weights_only=True)["network"]
    assert averaged.keys() == raw.keys()
    assert not torch.equal(averaged["encoder.conv1.weight"], raw["encoder.conv1.weight"])


def test_the_average_of_a_network_without_statistics() -> None:
    network = build("vgg16", "bilinear", 3, aspp=0, width=4)
    assert not list(network.buffers())
    average = MovingAverage(network, 0.25)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    average.update(network, 100)
    for mine, theirs in zip(average.segmenter.parameters(), network.parameters()):
        torch.testing.assert_close(mine, theirs - 0.25)


def test_a_used_run_folder_is_refused(tiny_config: Config, tmp_path: Path) -> None:
    train(section(tiny_config, "optimizer", epochs=1), tmp_path / "run", console=QUIET)
    with pytest.raises(UserError, match=r"earlier run.*--resume"):
        train(tiny_config, tmp_path / "run", console=QUIET)


def test_resuming_another_run_is_refused_and_changes_nothing(tiny_config: Config, tmp_path: Path) -> None:
    train(section(tiny_config, "optimizer", epochs=1), tmp_path / "run", console=QUIET)
    before = (tmp_path / "run" / "config.json").read_text()
    other = section(section(tiny_config, "model", cell=1), "augment", mirror=False)
    other = section(other, "optimizer", epochs=1, momentum=0.5)
    with pytest.raises(UserError, match=r"cannot resume.*cell 2 \(now 1\).*mirror True.*momentum 0.9 \(now 0.5\)"):
        train(other, tmp_path / "run", resume=True, console=QUIET)
    with pytest.raises(UserError, match=r"epochs 2 \(now 1\)"):
        train(tiny_config, tmp_path / "two", console=QUIET)
        train(section(tiny_config, "optimizer", epochs=1), tmp_path / "two", resume=True, console=QUIET)
    assert (tmp_path / "run" / "config.json").read_text() == before
    moved = section(section(tiny_config, "optimizer", epochs=1), "data", workers=1)
    assert train(section(moved, "run", keep_last=3), tmp_path / "run", resume=True, console=QUIET).finished


def test_a_run_from_before_an_option_was_there_goes_on(tiny_config: Config) -> None:
    earlier = tiny_config.to_json()
    del earlier["augment"]["aspect"]
    assert tiny_config.unlike(earlier) == []
    assert tiny_config.unlike({}) == []


def test_what_no_option_says_comes_with_a_checkpoint(tiny_config: Config, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = build(
        encoder="resnet50", num_classes=11, classes=CAMVID, width=8, aspp=0, cell=2, output_stride=8, stride_in="1x1",
        pool_padding=False, batch_norm_eps=1e-6, dilation="bigger", preprocessing=Preprocessing((1, 2, 3), (1, 1, 1)),
    )  # fmt: skip
    save_segmenter(tmp_path / "run" / "best", source)
    model = ModelConfig(encoder="resnet50", width=8, aspp=0, cell=2, dilation="rf", weights=str(tmp_path / "run"))
    segmenter, said, _ = build_network(model, CAMVID)
    assert segmenter.preprocessing == source.preprocessing
    assert segmenter.architecture == dataclasses.replace(source.architecture, dilation="rf")
    assert said == f"weights: all of {tmp_path / 'run' / 'best'} (dilation rf instead of bigger)"
    same = build_network(dataclasses.replace(model, dilation="bigger"), CAMVID).segmenter
    image = torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(same.eval()(image), source.eval()(image), rtol=0, atol=0)


def test_starting_from_a_checkpoint_of_other_classes_is_refused(tiny_config: Config, tmp_path: Path) -> None:
    first = train(section(tiny_config, "optimizer", epochs=1), tmp_path / "first", console=QUIET)
    classes = tmp_path / "classes.json"
    classes.write_text(json.dumps([{"name": str(i), "color": [i, i, i]} for i in range(12)]))
    other = section(tiny_config, "data", dataset="split-folders", classes=str(classes))
    with pytest.raises(UserError, match=r"11 classes.*12 classes.*--model.weights-scope encoder"):
        train(section(other, "model", weights=str(first.checkpoint)), tmp_path / "second", console=QUIET)
    encoder_only = section(other, "model", weights=str(first.checkpoint), weights_scope="encoder")
    assert train(encoder_only, tmp_path / "second", console=QUIET).finished


def test_a_start_from_another_network_says_what_differs_and_takes_classes_by_name(tmp_path: Path) -> None:
    source = build("resnet18", num_classes=11, classes=CAMVID, width=8, aspp=0, cell=2, dilation="rf")
    save_segmenter(tmp_path / "best", source)
    model = ModelConfig(encoder="resnet18", width=8, aspp=0, cell=2, dilation="rf", weights=str(tmp_path / "best"))
    names = (*CAMVID.names[:9], "tram", CAMVID.names[9])  # the first nine are alike
    classes = dataclasses.replace(CAMVID, names=names)
    with pytest.raises(UserError, match=rf"class 9 is {CAMVID.names[9]}; .* 11 classes, where it is tram\. --model"):
        build_network(model, classes)
    by_name, said, _ = build_network(dataclasses.replace(model, weights_scope="classes"), classes)
    assert said == f"weights: all of {tmp_path / 'best'}, classes by name, tram fresh"
    bias, was = (one.head.state_dict()["paths.0.conv.weight"].unflatten(0, (11, -1)) for one in (by_name, source))
    assert torch.equal(bias[10], was[9])
    with pytest.raises(UserError, match=r"another architecture: head duc, cell 2; needed .*: head bilinear, cell 1\. "):
        build_network(dataclasses.replace(model, head="bilinear", cell=1), CAMVID)
    with pytest.raises(UserError, match=r"another architecture: width 8; needed that of this configuration: width 16"):
        build_network(dataclasses.replace(model, width=16, weights_scope="encoder"), CAMVID)


def test_a_network_for_other_channels_is_started_from_the_file_that_the_message_names(tmp_path: Path) -> None:
    source = build("resnet18", num_classes=11, classes=CAMVID, width=8, aspp=0, cell=2, dilation="rf")
    save_segmenter(tmp_path / "best", source)
    model = ModelConfig(encoder="resnet18", width=8, aspp=0, cell=2, dilation="rf", weights=str(tmp_path / "best"))
    one = Preprocessing((9.0,), (2.0,), dtype="uint16")
    with pytest.raises(
        UserError, match=r"network for 3 channels of uint8.*--model.weights \S+ \(its encoder"
    ) as refused:
        build_network(model, CAMVID, one)
    (file,) = re.findall(r"--model.weights (\S+) ", str(refused.value))
    segmenter, said, _ = build_network(dataclasses.replace(model, weights=file), CAMVID, one)
    assert said == f"weights: encoder from {file}, conv1.weight spread over the channels"
    assert segmenter.preprocessing == one


def test_a_label_out_of_range_stops_with_file_and_value(tiny_config: Config, tmp_path: Path) -> None:
    assert tiny_config.data.root is not None
    root = tmp_path / "data"
    shutil.copytree(tiny_config.data.root, root)
    path = root / "labels" / "train" / "002.png"
    label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    label[3, 4] = 77
    assert cv2.imwrite(str(path), label)
    with pytest.raises(UserError, match=r"002.*77.*ducseg data check camvid "):
        train(section(tiny_config, "data", root=str(root)), tmp_path / "run", console=QUIET)


@pytest.fixture(scope="module")
def whole(tiny_camvid: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The run that no one interrupted."""
    process = TrainingProcess(tiny_camvid, tmp_path_factory.mktemp("whole") / "run")
    process.run()
    return process


@pytest.mark.slow
def test_resume_after_sigkill_is_bit_for_bit(training_process: Any, whole: Any) -> None:
    assert training_process.stop_after(0.05, signal.SIGKILL) == -signal.SIGKILL
    training_process.run("--resume")
    assert_same_weights(training_process.weights(), whole.weights())
    strip = lambda lines: [(x["step"], x["kind"], x.get("loss"), x.get("mean_iou")) for x in lines]  # noqa: E731
    assert strip(training_process.log()) == strip(whole.log())


@pytest.mark.slow
def test_sigterm_saves_exits_with_its_code_and_resumes(training_process: Any, whole: Any) -> None:
    assert training_process.stop_after(0.0, signal.SIGTERM) == EXIT_PREEMPTED
    training_process.run("--resume")
    assert_same_weights(training_process.weights(), whole.weights())


@pytest.mark.slow
def test_resume_survives_kills_at_random_moments(training_process: Any, whole: Any) -> None:
    moments = random.Random(0)
    options: tuple[str, ...] = ()
    for _ in range(8):
        status = training_process.stop_after(moments.uniform(0, 0.5), signal.SIGKILL, *options)
        options = ("--resume",)
        if status == 0:
            break
    training_process.run("--resume")
    assert_same_weights(training_process.weights(), whole.weights())
    assert not list((training_process.out / "checkpoints").glob(".*"))
