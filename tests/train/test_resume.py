"""A run goes on from what its folder holds: nothing else is needed, and nothing that decides may change."""

import dataclasses
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ducseg.cli import main
from ducseg.errors import Said, UserError
from ducseg.models import build
from ducseg.models.preprocessing import Preprocessing
from ducseg.train.config import Config
from ducseg.train.loop import train
from ducseg.train.run_folder import read_config
from ducseg.weights.checkpoint import load_segmenter, save_segmenter

QUIET = Console(quiet=True)


def changed(config: Config, section: str, **values: Any) -> Config:
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **values)})


def losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "step"]


@pytest.fixture
def config(tiny_config: Config) -> Config:
    return changed(tiny_config, "model", width=8)


@pytest.fixture
def half(config: Config, tmp_path: Path) -> Config:
    """A configuration whose run in tmp_path/run is half done."""
    train(config, tmp_path / "run", console=QUIET)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000004")
    return config


def test_the_configuration_comes_back_from_its_file(config: Config, tmp_path: Path) -> None:
    odd = changed(config, "loss", class_weights=tuple(float(i) for i in range(11)))
    odd.write(tmp_path / "config.json")
    assert read_config(tmp_path) == odd
    values = odd.to_json()
    del values["augment"]["aspect"]  # of a version that had less
    assert Config.from_json(values) == odd
    values["augment"]["later"] = 1
    with pytest.raises(UserError, match=r"augment.*later.*another version"):
        Config.from_json(values)


@pytest.mark.parametrize("text", [None, "", "[1]", '{"model": 3}', '{"model": {"width": {}}, "name": 1', "\x00"])
def test_a_run_folder_without_a_configuration_is_said(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"run folder.*config.json"):
        read_config(tmp_path)


def test_a_run_goes_on_without_its_start_weights(config: Config, tmp_path: Path) -> None:
    source = build(
        encoder="resnet18", num_classes=11, width=8, aspp=0, cell=2, output_stride=16, dilation="bigger",
        preprocessing=Preprocessing((1, 2, 3), (4, 5, 6)), batch_norm_eps=1e-3,
    )  # fmt: skip
    save_segmenter(tmp_path / "source", source)
    started = changed(config, "model", weights=str(tmp_path / "source"), weights_scope="encoder")
    train(started, tmp_path / "whole", console=QUIET)
    shutil.copytree(tmp_path / "whole", tmp_path / "run", symlinks=True)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000004")
    shutil.rmtree(tmp_path / "source")
    outcome = train(started, tmp_path / "run", resume=True, console=QUIET)
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert outcome.checkpoint is not None
    assert load_segmenter(outcome.checkpoint).preprocessing == source.preprocessing


def test_more_epochs_are_allowed_and_their_effect_is_said(config: Config, tmp_path: Path) -> None:
    train(config, tmp_path / "run", console=QUIET)
    printed = io.StringIO()
    more = changed(config, "optimizer", epochs=3)
    assert train(more, tmp_path / "run", resume=True, console=Console(file=printed, width=300)).finished
    rate = 0.01 * (1 - 4 / 6) ** 0.9
    assert f"2 epochs became 3: from step 4 on the rate is that of a run planned for 6 steps, {rate:.2e} now" in (
        printed.getvalue()
    )
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["learning_rate"] for line in lines if line["kind"] == "step"][4] == pytest.approx(rate)


def test_steps_in_place_of_epochs_may_grow_too(config: Config, tmp_path: Path) -> None:
    printed = io.StringIO()
    whole = train(changed(config, "optimizer", steps=3), tmp_path / "whole", console=Console(file=printed, width=300))
    assert whole.finished and "on 1 x cpu" in printed.getvalue() and ", 3 steps " in printed.getvalue()
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    rates = [line["learning_rate"] for line in lines if line["kind"] == "step"]
    assert rates == pytest.approx([0.01 * (1 - step / 3) ** 0.9 for step in range(3)])
    more = changed(config, "optimizer", steps=5)
    train(more, tmp_path / "whole", resume=True, console=Console(file=printed, width=300))
    assert "3 steps became 5: from step 3 on the rate is that of a run planned for 5 steps" in printed.getvalue()
    with pytest.raises(UserError, match=r"--optimizer.steps 5 \(now 4\)"):
        train(changed(config, "optimizer", steps=4), tmp_path / "whole", resume=True, console=QUIET)
    with pytest.raises(UserError, match=r"--optimizer.steps 5 \(now None\)"):
        train(config, tmp_path / "whole", resume=True, console=QUIET)


@pytest.mark.parametrize(("name", "number", "restarted"), [("epochs", 1, False), ("steps", 1, True)])
def test_a_run_that_is_over_says_so_and_is_left_as_it_is(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int, restarted: bool
) -> None:
    run, printed = tmp_path / "my run", io.StringIO()
    config = changed(config, "optimizer", **{name: number})
    first = train(config, run, console=QUIET)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name[0] != "."}
    if restarted:  # by torchrun, which gives no --resume
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    again = train(config, run, resume=not restarted, console=Console(file=printed, width=300))
    assert again.finished and not again.went_on
    assert (again.checkpoint, again.best_score) == (first.checkpoint, first.best_score)
    assert printed.getvalue() == (
        f"done before, at {(run / 'last').resolve().name}, within its {number} {name}, and left as it is; "
        f"for more in all: ducseg train --resume '{run}' --optimizer.{name} {2 * number}\n"
    )
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name[0] != "."} == before


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("run", {"sync_batch_norm": False}, r"--run.sync-batch-norm True \(now False\)"),
        ("run", {"seed": 1}, r"--run.seed 0 \(now 1\)"),
        ("optimizer", {"epochs": 1}, r"--optimizer.epochs 2 \(now 1\)"),
        ("loss", {"ohem_threshold": 0.5}, r"--loss.ohem-threshold None \(now 0.5\)"),
    ],
)
def test_what_decides_the_result_may_not_change(
    half: Config, tmp_path: Path, section: str, values: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        train(changed(half, section, **values), tmp_path / "run", resume=True, console=QUIET)


def test_a_picture_more_is_refused(half: Config, tmp_path: Path) -> None:
    assert half.data.root is not None
    root = tmp_path / "data"
    shutil.copytree(half.data.root, root)
    for kind in ("images", "labels"):
        shutil.copy(root / kind / "train" / "000.png", root / kind / "train" / "new.png")
    with pytest.raises(UserError, match=r"found 9 training and 3 validation pictures; needed the run's 8 and 3"):
        train(changed(half, "data", root=str(root)), tmp_path / "run", resume=True, console=QUIET)


def test_the_command_reads_everything_from_the_run_and_takes_what_has_moved(
    half: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert half.data.root is not None
    run, moved = tmp_path / "run", tmp_path / "moved"
    shutil.copytree(half.data.root, moved)
    config = json.loads((run / "config.json").read_text())
    config["data"]["root"] = str(tmp_path / "gone")
    (run / "config.json").write_text(json.dumps(config))
    assert main(["train", "--resume", str(run)]) == 2
    assert "gone" in capsys.readouterr().err
    assert main(["train", "--resume", str(run), "--model.aspp", "3", "--data.root", str(moved)]) == 2
    assert "--model.aspp 0 (now 3)" in capsys.readouterr().err
    assert main(["train", "--resume", str(run), "--data.root", str(moved)]) == 0
    assert "8 training and 3 validation pictures" in capsys.readouterr().out
    train(half, tmp_path / "whole", console=QUIET)
    assert losses(run) == losses(tmp_path / "whole")
    assert main(["train", "--resume", str(tmp_path / "nowhere")]) == 2
    assert "config.json" in capsys.readouterr().err


def test_without_bf16_a_recipe_trains_in_float32_and_goes_on(config: Config, tmp_path: Path, no_bf16: None) -> None:
    train(config, tmp_path / "plain", console=QUIET)
    half = changed(config, "run", bf16=True, eval_bf16=True)
    with pytest.warns(Said, match="float32 in place of bfloat16, which this cpu would only imitate"):
        train(half, tmp_path / "run", console=QUIET)
    assert losses(tmp_path / "run") == losses(tmp_path / "plain")
    assert read_config(tmp_path / "run") == config, "it says what was done"
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000004")
    with pytest.warns(Said, match="float32"):  # as `ablate` goes on with a row
        train(half, tmp_path / "run", resume=True, console=QUIET)
    assert losses(tmp_path / "run") == losses(tmp_path / "plain")


def test_a_run_in_bf16_goes_on_where_there_is_none(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(changed(config, "run", bf16=True), tmp_path / "run", console=QUIET)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000004")
    monkeypatch.setattr("ducseg.devices.has_bf16", lambda device: False)
    monkeypatch.setattr("ducseg.train.run_folder.has_bf16", lambda device: False)
    with pytest.warns(Said, match="float32"):
        outcome = train(read_config(tmp_path / "run"), tmp_path / "run", resume=True, console=QUIET)
    assert outcome.finished and not read_config(tmp_path / "run").run.bf16
    assert len(losses(tmp_path / "run")) == 4
