"""`ducseg train DIR`: the plan's settings and reasons on folders whose truth is known, and a whole small run."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from ducseg.cli import main
from ducseg.cli.train import _PlannedOptions, parse
from ducseg.data.config import DataConfig
from ducseg.data.files.channels import RGB
from ducseg.train import plan as planning
from ducseg.train.plan import Machine, Plan, make_plan, this_machine
from ducseg.train.plan_lines import hidden
from ducseg.train.step import TrainingStep
from ducseg.train.survey import ClassFindings, Survey

CPU = Machine(device="cpu", bf16=False)


def write_folder(
    root: Path, *, pictures: int = 6, size: tuple[int, int] = (60, 80), wire: int = 3, sky: bool = False
) -> Path:
    """Bright lines of `wire` pixels on noise, masks of 0 and 255; with `sky`, the upper half is a line too."""
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for index in range(pictures):
        mask = np.zeros(size, np.uint8)
        left = int(rng.integers(8, size[1] - 8 - wire))
        mask[:, left : left + wire] = 255
        if sky:
            mask[: size[0] // 2] = 255
        image = rng.integers(60, 100, (*size, 3)).astype(np.uint8)
        image[mask > 0] += 120
        assert cv2.imwrite(str(root / "images" / f"{index}.png"), image)
        assert cv2.imwrite(str(root / "masks" / f"{index}.png"), mask)
    return root


@pytest.fixture()
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder of weights, and no network."""
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("DUCSEG_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", _unreachable)


def _unreachable(*_arguments: object, **_options: object) -> None:
    raise OSError("no network")


def _plan(root: Path, minutes: float = 5, machine: Machine = CPU) -> Plan:
    return make_plan(DataConfig(dataset="folder", root=str(root)), minutes=minutes, machine=machine)


def test_the_plan_follows_from_the_pictures(tmp_path: Path, no_weights: None) -> None:
    plan = _plan(write_folder(tmp_path / "wires"))
    config = plan.config
    assert config.model.head == "pyramid" and config.model.encoder == "mobilenet_v2"
    assert config.augment.crop_size == (64, 96)
    assert config.augment.vertical_flip and config.augment.quarter_turns
    assert config.loss.dice > 0 and config.run.minutes == 5
    text = "\n".join(plan.lines())
    assert "wires" in config.name and "3 px wide" in text and "cross-entropy alone drowns" in text
    assert re.search(r"pictures: 5 to train on, 1 to validate on, of 60 x 80 pixels \(median\)\n", text)
    config.check()


def test_what_most_crops_do_not_show_is_looked_for(tmp_path: Path, no_weights: None) -> None:
    plan = _plan(write_folder(tmp_path / "large", pictures=3, size=(1000, 1400)))
    assert plan.config.augment.rare_classes == ("foreground",) and plan.config.augment.rare_share == 0.5
    text = "\n".join(plan.lines())
    assert re.search(r"half of them where there is foreground, which [123]\d % of such windows show", text)
    small = _plan(write_folder(tmp_path / "small"))
    assert small.config.augment.rare_classes == () and "half of them" not in "\n".join(small.lines())
    gpu = _plan(tmp_path / "large", machine=Machine(device="cuda", bf16=True))
    assert gpu.survey.classes[1].seen > plan.survey.classes[1].seen, "crops are larger"


def test_thin_classes_of_many_are_looked_for(tmp_path: Path) -> None:
    def found(*classes: tuple[float, float | None, float]) -> list[str]:
        made = tuple(
            ClassFindings(name=str(number), share=share, median_width=width, seen=seen)
            for number, (share, width, seen) in enumerate(classes)
        )
        survey = Survey(
            pictures=1, pixels=RGB, looked_at=1, smallest=(9, 9), median=(9, 9), classes=made, unevenness=0.0
        )
        return [one.name for one in hidden(survey)]

    assert found((0.9, 64, 1), (0.05, 3, 0.2), (0.04, 40, 0.1), (0.01, 2, 0.9), (0, None, 0)) == ["1"]
    assert found((0.001, 40, 0.1), (0.999, 64, 1)) == ["0"], "two classes, the first is the object"
    assert found((0.5, 3, 0.3), (0.5, 3, 0.3)) == ["1"]


def test_few_validation_pictures_are_said(tmp_path: Path, no_weights: None) -> None:
    root = write_folder(tmp_path / "wires", pictures=12)
    said = "1 to validate on, of 60 x 80 pixels (median); so few tell little: --data.folds 5"
    assert said in "\n".join(_plan(root).lines())
    folds = make_plan(DataConfig(dataset="folder", root=str(root), folds=5, fold=0), minutes=5, machine=CPU)
    assert "so few" not in "\n".join(folds.lines())


def test_shares_are_said_in_plain_numbers(tmp_path: Path, no_weights: None) -> None:
    plan = _plan(write_folder(tmp_path / "wires"))
    shares = {0.9979: "99.79", 0.99999996: "100", 0.96: "96", 0.0021: "0.21", 0.0000002: "0.00002"}
    for share, said in shares.items():
        classes = tuple(replace(one, share=share) for one in plan.survey.classes)
        text = "\n".join(replace(plan, survey=replace(plan.survey, classes=classes)).lines())
        assert text.count(f" {said} %") == (2 if share > 0.1 else 3)  # each class, and the rare one's loss


def test_the_plan_says_what_was_found_and_doubts_a_field_of_view(tmp_path: Path, no_weights: None) -> None:
    root = write_folder(tmp_path / "wires")
    found = ("pictures in images; masks in masks", "masks: values 0, 255 -> background, foreground")
    assert tuple(_plan(root).lines()[:2]) == found and not any("field of view" in line for line in _plan(root).lines())
    for mask in (root / "masks").iterdir():
        cv2.imwrite(str(mask), cv2.circle(np.zeros((60, 80), np.uint8), (40, 30), 28, 255, -1))
    assert any(re.match(r"is that the truth\? .* a camera's field of view", line) for line in _plan(root).lines())


def test_pictures_for_testing_need_no_masks(tmp_path: Path, no_weights: None) -> None:
    root = write_folder(tmp_path / "wires")
    for kind in ("images", "masks"):
        (root / "all").mkdir()
        for file in (root / kind).iterdir():
            file.rename(root / "all" / file.name)
        (root / "all").rename(root / kind / "train")
    (root / "images" / "test").mkdir()
    assert cv2.imwrite(str(root / "images" / "test" / "9.png"), np.zeros((60, 80), np.uint8))
    assert (_plan(root).survey.pictures, _plan(root).validated) == (5, 1)


def test_the_plan_says_how_the_field_of_view_is_used(tmp_path: Path, no_weights: None) -> None:
    root = write_folder(tmp_path / "wires")
    (root / "masks").rename(root / "1st_manual")
    (root / "mask").mkdir()
    for file in (root / "1st_manual").iterdir():
        cv2.imwrite(str(root / "mask" / file.name), cv2.circle(np.zeros((60, 80), np.uint8), (40, 30), 28, 255, -1))
    said = "view: what lies outside the field of view is trained on as the masks say; --data.view DIR ignores it"
    assert said in _plan(root).lines() and "left out: mask (the field of view)" in _plan(root).lines()[0]
    viewed = make_plan(DataConfig(dataset="folder", root=str(root), view="mask"), minutes=5, machine=CPU)
    assert said not in viewed.lines() and viewed.lines()[1].endswith("; 255 outside mask")


def test_both_eyes_of_a_person_are_on_one_side(tmp_path: Path, no_weights: None) -> None:
    root = write_folder(tmp_path / "eyes", pictures=8)
    for kind in ("images", "masks"):
        for file in list((root / kind).iterdir()):
            number = int(file.stem)
            file.rename(file.with_name(f"Image_{number // 2:02}{'LR'[number % 2]}.png"))
    plan = _plan(root)
    assert any(line.startswith("groups: both eyes of a person stay together") for line in plan.lines())
    assert (plan.survey.pictures, plan.validated) == (6, 2)
    own = make_plan(DataConfig(dataset="folder", root=str(root), group_by="^(.*)$"), minutes=1, machine=CPU)
    assert (own.survey.pictures, own.validated) == (7, 1)


def test_pictures_with_an_up_and_a_down_are_not_turned_over(tmp_path: Path, no_weights: None) -> None:
    plan = _plan(write_folder(tmp_path / "street", sky=True))
    assert plan.config.augment.mirror
    assert not plan.config.augment.vertical_flip and not plan.config.augment.quarter_turns
    assert any("flips left to right" in line for line in plan.lines())


def test_the_same_folder_gives_the_same_plan(tmp_path: Path, no_weights: None) -> None:
    root = write_folder(tmp_path / "wires")
    assert _plan(root).config == _plan(root).config and _plan(root).lines() == _plan(root).lines()


def test_a_gpu_gets_larger_crops_and_batches(tmp_path: Path, no_weights: None) -> None:
    root = write_folder(tmp_path / "large", pictures=3, size=(600, 700))
    cpu, gpu = (_plan(root, machine=Machine(device=device, bf16=False)).config for device in ("cpu", "cuda"))
    assert (cpu.augment.crop_size, gpu.augment.crop_size) == ((256, 256), (512, 512))
    assert (cpu.optimizer.batch_size, gpu.optimizer.batch_size) == (4, 16)  # of two pictures: several crops of each
    assert this_machine(torch.device("cpu")).device == "cpu"


def test_the_plan_says_what_is_scored_in_bfloat16(tmp_path: Path, no_weights: None) -> None:
    root = write_folder(tmp_path / "wires")
    said = "; bfloat16 on the cpu; evaluated in bf16 too"
    for bf16 in (False, True):
        lines = _plan(root, machine=Machine(device="cpu", bf16=bf16)).lines()
        assert any(line.startswith("crops: ") and line.endswith(said) for line in lines) == bf16


@pytest.mark.parametrize("there", [False, True])
def test_bfloat16_that_a_gpu_imitates_is_not_taken(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or there)
    assert this_machine(torch.device("cuda")) == Machine(device="cuda", bf16=there)


def test_weights_at_hand_decide_the_encoder(tmp_path: Path, no_weights: None) -> None:
    file = tmp_path / "weights" / "tf_efficientnet_lite0-imagenet.safetensors"
    file.write_bytes(b"")
    plan = _plan(write_folder(tmp_path / "wires"))
    assert plan.config.model.encoder == "efficientnet_lite0"
    assert f"weights: ImageNet's, from {file}" in plan.lines()


def test_plan_only_prints_and_writes_nothing(
    tmp_path: Path, no_weights: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "wires")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["train", "wires", "--plan-only", "--minutes", "3", "--optimizer.batch-size", "2"]) == 0
    assert sorted(tmp_path.rglob("*")) == before
    assert "as many as fit 3 minutes" in capsys.readouterr().out


def test_a_run_folder_in_use_is_refused_before_the_pictures_are_looked_at(
    tmp_path: Path, no_weights: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "wires")
    (tmp_path / "runs" / "mine" / "checkpoints" / "step-00000007").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "wires", "--out", "runs/mine", "--plan-only"]) == 0
    monkeypatch.setattr(planning, "survey", None)
    assert main(["train", "wires", "--out", "runs/mine"]) == 2
    assert "found the checkpoint step-00000007 of an earlier run; needed an empty folder" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_a_damaged_file_leads_to_the_check_of_all(
    kind: str, tmp_path: Path, no_weights: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_folder(tmp_path / "my wires") / kind / "3.png"
    file.write_bytes(file.read_bytes()[:99])
    monkeypatch.chdir(tmp_path)
    assert main(["train", "my wires"]) == 2
    said = capsys.readouterr().err
    assert f"{kind}/3.png" in said
    assert said.endswith(
        "(all such files at once: ducseg data check folder 'my wires', with the same --data. options)\n"
    )


def test_a_folder_is_trained_scored_and_reported(
    tmp_path: Path, no_weights: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "wires", size=(32, 64))
    monkeypatch.chdir(tmp_path)
    options = ["--minutes", "0.2", "--optimizer.epochs", "3", "--data.workers", "0", "--run.threads", "1"]
    assert main(["train", "wires", *options, "--run.no-tensorboard", "--optimizer.learning-rate", "0.002"]) == 0
    out, run = capsys.readouterr().out, tmp_path / "runs" / "wires"
    assert "weights: fresh, which costs accuracy" in out and "; the encoder learns as fast as the rest" in out
    state = torch.load(run / "last" / "train_state.pt", weights_only=True)
    assert {group["rate_factor"] for group in state["optimizer"]["param_groups"]} == {1.0}  # what a resumed run takes
    assert "masks: values 0, 255 -> background, foreground" in out
    assert "5 training and 1 validation pictures" in out
    config = json.loads((run / "config.json").read_text())
    assert config["optimizer"]["learning_rate"] == 0.002 and config["optimizer"]["name"] == "adamw"
    assert (run / "report.html").is_file() and (run / "best" / "model.json").is_file()
    assert "pyramid of dense upsampling convolutions" in (run / "plan.txt").read_text()
    assert main(["predict", "runs/wires", "wires/images", "--out", "found"]) == 0


def test_the_plan_for_sgd_has_a_rate_of_its_own_and_says_it(
    tmp_path: Path, no_weights: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "wires")
    monkeypatch.chdir(tmp_path)
    planned = parse(["wires", "--optimizer.name", "sgd", "--optimizer.warmup-steps", "5"])
    assert isinstance(planned, _PlannedOptions)
    (line,) = [line for line in planned.plan if line.startswith("optimizer: ")]
    assert line.startswith("optimizer: --optimizer.name sgd, as given; rate 0.02, SGD's on few pictures; ")
    assert "; --optimizer.warmup-steps 5, as given; falls to 0" in line
    optimizer = planned.config.optimizer
    assert (optimizer.learning_rate, optimizer.encoder_learning_rate_factor, optimizer.weight_decay) == (0.02, 1, 5e-4)
    given = parse(["wires", "--optimizer.name", "sgd", "--optimizer.learning-rate", "0.008"]).config.optimizer
    assert given.learning_rate == 0.008, "the rate of AdamW, yet given"


@pytest.mark.slow
def test_what_is_given_is_said_and_what_follows_from_it_is_planned_anew(
    tmp_path: Path, no_weights: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "wires", pictures=20, size=(100, 300))
    monkeypatch.chdir(tmp_path)

    def lines(*options: str) -> dict[str, str]:
        assert main(["train", "wires", "--plan-only", *options]) == 0
        printed = capsys.readouterr().out.splitlines()[1:]
        return {name.strip(): text for name, _, text in (line.partition(": ") for line in printed)}

    planned = lines()
    assert "as given" not in "".join(planned.values())
    assert planned["crops"].startswith("128 x 256; 4 a step; mirrored at borders; ")
    assert "validated every 25," in lines("--augment.crop-size", "128", "512")["steps"]
    small = lines("--augment.crop-size", "32", "64", "--optimizer.batch-size", "2")
    assert small["crops"].startswith(
        "--augment.crop-size 32 64, as given; --optimizer.batch-size 2, as given; mirrored"
    )
    assert "validated every 49, a tenth" in small["steps"]  # 2 x 30,000 pixels to validate, 3 x 2 x 2,048 a step
    head = lines("--model.head", "duc", "--model.cell", "2")
    assert head["network"] == "--model.head duc, as given; encoder mobilenet_v2; --model.cell 2, as given"
    assert planned["optimizer"].startswith(
        "AdamW; rate 0.008; reached after a warm-up of 30 steps; falls to 0 as the time ends; the encoder at 0.25 of"
    )
    assert head["optimizer"].startswith(
        "AdamW; rate 0.002; reached after a warm-up of 30 steps; falls to 0 as the time ends; an average"
    )
    same = lines("--model.head", "duc", "--optimizer.learning-rate", "0.008")  # as planned for another head, yet given
    assert same["optimizer"].startswith("AdamW; --optimizer.learning-rate 0.008, as given; reached")
    fresh = lines("--model.weights", "None")
    assert fresh["weights"].startswith("fresh ones, as given") and "the encoder" not in fresh["optimizer"]
    assert lines("--model.encoder", "resnet18")["network"].endswith("--model.encoder resnet18, as given")
    assert lines("--optimizer.epochs", "3")["steps"].startswith("as many as fit 15 minutes, measured, and --opt")
    assert lines("--run.eval-every-epochs", "2")["steps"].endswith("--run.eval-every-epochs 2, as given")
    assert lines("--loss.focal", "0.5")["loss"].endswith("alone drowns; --loss.focal 0.5, as given")
    assert lines("--augment.no-mirror", "--run.seed", "3")["also"] == "--run.seed 3, as given"
    changed = {name for name, text in lines("--optimizer.learning-rate", "0.001").items() if text != planned[name]}
    assert changed == {"optimizer"}


@pytest.mark.slow
def test_the_plan_lies_there_from_the_start_and_the_resumed_run_ends_with_its_report(
    tmp_path: Path, no_weights: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "wires", size=(32, 64))
    monkeypatch.chdir(tmp_path)
    run, learn, steps = tmp_path / "runs" / "wires", TrainingStep._learn, 0

    def killed(step: TrainingStep, *arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise SystemError("killed")
        return learn(step, *arguments)

    options = ["--optimizer.epochs", "3", "--data.workers", "0", "--run.threads", "1", "--run.no-tensorboard"]
    with monkeypatch.context() as patched, pytest.raises(SystemError):
        patched.setattr(TrainingStep, "_learn", killed)
        main(["train", "wires", *options, "--run.save-every-steps", "1"])
    plan = (run / "plan.txt").read_text()
    assert "\npictures: 5 to train on" in plan and "--optimizer.epochs 3, as given" in plan
    assert not (run / "report.html").exists()
    capsys.readouterr()
    assert main(["train", "--resume", "runs/wires"]) == 0
    out = capsys.readouterr().out
    assert "the best checkpoint on val" in out and f"report: {Path('runs/wires/report.html')}" in out
    assert (run / "plan.txt").read_text() == plan and "as many as fit" in (run / "report.html").read_text()
    assert (run / "evaluation" / "val" / "scores.json").is_file()
    (run / "report.html").unlink()  # ended after the last step, before its report
    assert main(["train", "--resume", "runs/wires"]) == 0
    assert (run / "report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no/such/folder"], ["no/such/folder", "nothing there"]),
        (["wires/images/0.png"], ["0.png", "a file"]),
        (["wire"], ["'wire': no folder of that name here", "no experiment", "Did you mean wires", "`ducseg exp"]),
        (["camvid-resnet18-duk"], ["Did you mean camvid-resnet18-duc"]),
        (["wires/image"], ["nothing there", "Did you mean wires/images?"]),
        (["wires", "--minutes", "0"], ["error: --minutes: found 0; needed a number above 0"]),
        (["wires", "--run.minutes", "0"], ["--run.minutes"]),
        (["wires", "--plan-only", "--data.values", "0=ground", "128=crack", "255=wire"], ["crack"]),
    ],
)
def test_what_cannot_be_is_said_before_the_plan(
    arguments: list[str],
    words: list[str],
    tmp_path: Path,
    no_weights: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_folder(tmp_path / "wires")
    monkeypatch.chdir(tmp_path)
    assert main(["train", *arguments]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and said.err.count("\n") == 1 and len(said.err) < 700
    assert "plan for" not in said.out and not (tmp_path / "runs").exists()
    for word in words:
        assert word in said.err
