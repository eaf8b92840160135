"""`ducseg demo` without its minutes of training: it ends where a run is stopped, and its report says what was found."""

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ducseg.cli import demo, main
from ducseg.data.layouts.cityscapes import Cityscapes
from ducseg.data.synthetic.cityscapes import write_cityscapes
from ducseg.experiments import EXPERIMENTS
from ducseg.figures.demo import Result, write_demo_report
from ducseg.inference.evaluate import evaluate
from ducseg.inference.predictor import Predictor
from ducseg.metrics.confusion import scores
from ducseg.models import build
from ducseg.train import loop
from ducseg.train.loop import Outcome


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    write_cityscapes(root, num_train=1, num_val=3, height=64, width=128)
    return root


@pytest.mark.parametrize(("stopped_by", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, loop.EXIT_PREEMPTED)])
def test_a_stopped_run_ends_the_demo(
    stopped_by: signal.Signals, status: int, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def stopped(config: Any, *_arguments: Any, **_options: Any) -> Outcome:
        started.append(config.name)
        return Outcome(stopped_by=stopped_by, checkpoint=None, best_score=None)

    monkeypatch.setattr(demo, "_make_scenes", lambda _config, root, _seed: root.symlink_to(scenes))
    monkeypatch.setattr(loop, "train", stopped)
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--out", str(tmp_path / "demo")])
    assert ended.value.code == status and started == ["synthetic-bilinear"]


def test_the_report_sets_the_three_side_by_side(scenes: Path, tmp_path: Path) -> None:
    dataset = Cityscapes(scenes, "val")
    predictor = Predictor(build("resnet18", "bilinear", 19, aspp=0, width=4, classes=dataset.classes))
    found = scores(evaluate(predictor, dataset).matrix, dataset.classes)
    log = tmp_path / "log.jsonl"
    steps = [{"kind": "step", "step": step, "loss": 1.0 / step, "learning_rate": 0.1} for step in (1, 2, 3)]
    lines = [*steps, {"kind": "evaluation", "step": 3, "mean_iou": 0.4}]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    results = {}
    for gain, name in enumerate(("bilinear", "duc", "pyramid")):
        better = {one: {**entry, "iou": 0.25 + 0.125 * gain} for one, entry in found["classes"].items()}
        results[name] = Result(
            config=EXPERIMENTS[f"synthetic-{name}"](),
            scores={**found, "classes": better, "mean_iou": 0.5 + 0.125 * gain},
            seconds=60.0 + gain,
            log=log,
            predictor=predictor,
        )
    page = write_demo_report(tmp_path, results, dataset).read_text()
    assert "bilinear baseline 50.0%, DUC 62.5%, pyramid of DUCs 75.0%" in page
    assert "37.5% (+12.5)" in page and "50.0% (+25.0)" in page
    assert "pyramid of DUCs changes the mean IoU of the 8 thin classes by +25.0 points (8 of 8 are better)" in page
    assert "output stride 32, not dilated; adamw at 0.004; 62 s" in page
    assert "output stride 8, HDC &#x27;bigger&#x27;; sgd at 0.04, its head x32; 61 s" in page
    assert page.count("data:image/png;base64,") >= 4 and "://" not in page


def test_all_three_have_the_same_pictures_and_number_of_steps() -> None:
    made = [EXPERIMENTS[f"synthetic-{name}"]() for name in ("bilinear", "duc", "pyramid")]
    for config in made:
        config.check()
        assert (config.data, config.augment, config.loss) == (made[0].data, made[0].augment, made[0].loss)
        assert (config.optimizer.epochs, config.optimizer.batch_size) == (16, 4)
        assert (config.model.encoder, config.model.width) == ("resnet18", 16)
    assert np.unique([config.name for config in made]).size == 3
