"""No run is lost: it is saved before it is scored, and a signal, a bad mask or a console ends nothing that was done."""

import dataclasses
import io
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
from rich.console import Console

from ducseg.errors import UserError
from ducseg.train import validate
from ducseg.train.config import Config
from ducseg.train.loop import train
from ducseg.train.step import TrainingStep

QUIET = Console(quiet=True)


@pytest.fixture
def config(tiny_config: Config) -> Config:
    return changed(tiny_config, "model", width=8)


def changed(config: Config, section: str, **values: Any) -> Config:
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **values)})


def log_of(run: Path) -> list[tuple[Any, ...]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [(line["kind"], line["step"], line.get("loss"), line.get("mean_iou")) for line in lines]


def metrics(checkpoint: Path) -> dict[str, Any] | None:
    found: dict[str, Any] | None = json.loads((checkpoint / "model.json").read_text())["metrics"]
    return found


def test_a_bad_validation_mask_loses_no_epoch(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.data.root is not None
    root, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(config.data.root, root)
    path, learn = root / "labels" / "val" / "001.png", TrainingStep._learn
    good = path.read_bytes()

    def breaking(step: TrainingStep, *arguments: Any) -> Any:
        path.write_bytes(good[: len(good) // 2])  # all is well when the run starts
        return learn(step, *arguments)

    bad = changed(config, "data", root=str(root))
    with monkeypatch.context() as patched, pytest.raises(UserError, match=r"001"):
        patched.setattr(TrainingStep, "_learn", breaking)
        train(bad, run, console=QUIET)
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["step-00000002"]
    assert (run / "best").resolve() == (run / "last").resolve(), "without a score, best follows last"
    path.write_bytes(good)
    assert train(bad, run, resume=True, console=QUIET).finished
    train(config, tmp_path / "whole", console=QUIET)
    assert log_of(run) == log_of(tmp_path / "whole")


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_an_evaluation_ends_it_and_the_resumed_run_scores(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: signal.Signals
) -> None:
    run, evaluate = tmp_path / "run", validate.evaluate

    def interrupted(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), kind)
        return evaluate(*arguments, **options)

    one_epoch = changed(config, "optimizer", epochs=1)
    with monkeypatch.context() as patched:
        patched.setattr(validate, "evaluate", interrupted)
        outcome = train(one_epoch, run, console=QUIET)
    assert (outcome.finished, outcome.stopped_by, outcome.best_score) == (False, kind, None)
    assert outcome.checkpoint == run / "checkpoints" / "step-00000002"
    assert metrics(run / "last") is None
    ended = train(one_epoch, run, resume=True, console=QUIET)
    assert ended.finished and ended.best_score is not None
    scored = metrics(run / "best")
    assert scored is not None and scored["mean_iou"] == ended.best_score
    train(one_epoch, tmp_path / "whole", console=QUIET)
    assert log_of(run) == log_of(tmp_path / "whole")


def test_ctrl_c_in_a_step_saves_and_says_how_to_go_on(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn: Callable[..., Any] = TrainingStep._learn

    def interrupted(step: TrainingStep, *arguments: Any) -> Any:
        if step.state.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return learn(step, *arguments)

    printed = io.StringIO()
    with monkeypatch.context() as patched:
        patched.setattr(TrainingStep, "_learn", interrupted)
        outcome = train(config, tmp_path / "run", console=Console(file=printed, width=300))
    assert outcome.stopped_by == signal.SIGINT
    assert f"stopped: step 3 is saved; go on with: ducseg train --resume {tmp_path / 'run'}" in printed.getvalue()
    assert train(config, tmp_path / "run", resume=True, console=QUIET).finished
    train(config, tmp_path / "whole", console=QUIET)
    assert log_of(tmp_path / "run") == log_of(tmp_path / "whole")


def test_off_the_main_thread_a_run_trains_as_well(config: Config, tmp_path: Path) -> None:
    outcomes: list[Any] = []
    one_epoch = changed(config, "optimizer", epochs=1)
    thread = threading.Thread(target=lambda: outcomes.append(train(one_epoch, tmp_path / "run", console=QUIET)))
    before = signal.getsignal(signal.SIGTERM)
    thread.start()
    thread.join()
    assert [outcome.finished for outcome in outcomes] == [True]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_console_without_a_classs_letters_loses_nothing(config: Config, tmp_path: Path) -> None:
    classes = tmp_path / "classes.json"
    names = ["žirafa", "木", *map(str, range(10))]
    classes.write_text(json.dumps([{"name": name, "color": [i, i, i]} for i, name in enumerate(names)]))
    other = changed(config, "data", dataset="split-folders", classes=str(classes), allow_absent=True)
    file = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    outcome = train(changed(other, "optimizer", epochs=1), tmp_path / "run", console=Console(file=file, width=100))
    assert outcome.finished
    file.flush()
    buffer = file.buffer
    assert isinstance(buffer, io.BytesIO) and "žirafa".encode("cp1252") in buffer.getvalue()
    assert file.errors == "strict", "as it was"


def test_no_labelled_training_pixel_stops_with_the_reason_and_saves_nothing(config: Config, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing to learn in 8 training pictures.*2 batches"):
        train(void(config, tmp_path, "train"), tmp_path / "run", console=QUIET)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_only_classes_of_weight_0_are_nothing_to_learn_either(config: Config, tmp_path: Path) -> None:
    every = void(config, tmp_path, "train", value=0)
    with pytest.raises(UserError, match="nothing to learn"):
        train(changed(every, "loss", class_weights=(0.0, *[1.0] * 10)), tmp_path / "run", console=QUIET)


def test_no_labelled_validation_pixel_is_an_error_of_a_trained_run(config: Config, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(UserError, match=r"trained and saved.*no labelled pixel in any of 3 validation pictures"):
        train(void(config, tmp_path, "val"), run, console=QUIET)
    assert (run / "best").resolve() == (run / "last").resolve() == run / "checkpoints" / "step-00000004"


def void(config: Config, tmp_path: Path, split: str, *, value: int = 255) -> Config:
    """The same data with every label of a split set to `value`."""
    assert config.data.root is not None
    root = tmp_path / "void"
    shutil.copytree(config.data.root, root)
    for path in (root / "labels" / split).iterdir():
        label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        label[:] = 11 if value == 255 else value  # CamVid's files have void as 11
        assert cv2.imwrite(str(path), label)
    return changed(config, "data", root=str(root))


def test_a_class_that_is_never_found_is_warned_of(config: Config, tmp_path: Path) -> None:
    printed = io.StringIO()
    one_sided = changed(config, "loss", class_weights=(1.0, *[0.0] * 10))
    train(
        changed(one_sided, "optimizer", learning_rate=0.1), tmp_path / "run", console=Console(file=printed, width=200)
    )
    found = metrics(tmp_path / "run" / "last")
    assert found is not None
    missed = [name for name, score in found["classes"].items() if score["pixels"] and not score["iou"]]
    assert missed
    for name in missed:
        assert f"warning: {name} has 0 IoU" in printed.getvalue()
