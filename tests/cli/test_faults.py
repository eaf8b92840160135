"""What goes wrong outside the program is one line that says what and where, and never a traceback."""

import errno
import io
import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import ducseg
from ducseg.classes import CITYSCAPES, KITTI_ROAD, ClassSet
from ducseg.cli import experiments, main
from ducseg.cli.train import parse as parse_train
from ducseg.data.config import DataConfig
from ducseg.data.synthetic.kitti_road import write_kitti_road
from ducseg.errors import UserError
from ducseg.experiments.custom import custom_resnet18_duc
from ducseg.models import build
from ducseg.train.loop import train
from ducseg.weights.checkpoint import save_segmenter

NAMES = ("дорога", "道路", "ř🚗")


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line of a command that fails."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2, arguments
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def write_checkpoint(folder: Path, classes: ClassSet, data: dict[str, Any] | None = None) -> Path:
    torch.manual_seed(0)
    network = build(encoder="resnet18", num_classes=len(classes), classes=classes, width=8, aspp=0)
    save_segmenter(folder, network, extra={} if data is None else {"config": {"data": data}})
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """The `folder` layout: two pictures with index masks, three classes in any script."""
    root = tmp_path / "pictures"
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for index in range(4):
        image, label = rng.integers(0, 256, (24, 32, 3), np.uint8), rng.integers(0, 3, (24, 32), np.uint8)
        assert cv2.imwrite(str(root / "images" / f"{index}.png"), image)
        assert cv2.imwrite(str(root / "masks" / f"{index}.png"), label)
    classes = ClassSet(NAMES, ((0, 0, 0), (9, 9, 9), (200, 0, 0)))
    (root / "classes.json").write_text(json.dumps(classes.to_json()), encoding="utf-8")
    return root


@pytest.fixture
def checkpoint(tmp_path: Path, pictures: Path) -> Path:
    classes = ClassSet.read(pictures / "classes.json")
    return write_checkpoint(tmp_path / "run", classes, {"dataset": "folder", "root": str(pictures), "val_split": "all"})


# -- the system ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/data/x"), ["/data/x", "Permission denied"]),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "y"), ["y: found Is a directory"]),
        (OSError(errno.ENOSPC, "No space left on device"), ["No space left on device", "a disk with room"]),
        (FileNotFoundError(errno.ENOENT, "No such file", "z", None, "w"), ["z: found No such file"]),
        (OSError("no number"), ["found no number"]),
        (TimeoutError(), ["TimeoutError"]),
        (MemoryError(), ["memory: found too little"]),
    ],
)
def test_an_error_of_the_system_is_one_line(
    error: Exception, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_options: object) -> int:
        raise error

    monkeypatch.setattr(experiments, "run", fail)
    told = refused(capsys, "experiments")
    assert all(word in told for word in words), told


def test_the_home_of_nobody_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "run", "~nobody-of-that-name/x.png", "--out", str(tmp_path)]) == 2
    assert "a path with ~: found nobody's" in capsys.readouterr().err


def test_a_defect_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_options: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(experiments, "run", fail)
    with pytest.raises(ZeroDivisionError):
        main(["experiments"])


def test_a_closed_pipe_is_one_line() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(ducseg.__file__).parents[1])}
    command = [sys.executable, "-m", "ducseg", "experiments"]
    reading, writing = os.pipe()
    os.close(reading)
    run = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60, env=environment)
    os.close(writing)
    assert run.returncode == 2
    assert run.stderr.startswith("error: standard output")
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "cp437", "utf-8"])
def test_class_names_in_any_script_on_any_console(
    encoding: str, checkpoint: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setattr(sys, "stderr", shown)
    score = ["--pred", pictures / "masks", "--gt", pictures / "masks", "--classes", pictures / "classes.json"]
    for arguments in (["eval", checkpoint], ["score", "folder", *score], ["predict", checkpoint, tmp_path / NAMES[0]]):
        status = main([*map(str, arguments), *(["--out", str(tmp_path / "o")] if arguments[0] == "predict" else [])])
        assert status == (2 if arguments[0] == "predict" else 0)
    shown.flush()
    text = shown.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert (NAMES[0] in text) == (encoding == "utf-8")
    assert "mean IoU" in text


# -- places ----------------------------------------------------------------------------------------------------------


def test_a_figures_folder_is_made_and_what_cannot_be_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["hdc", "1", "2", "5", "--figure", str(tmp_path / "new" / "deeper" / "x.png")]) == 0
    assert main(["hdc", "1", "2", "5", "--figure", str(tmp_path / "no-suffix")]) == 0
    assert (tmp_path / "new" / "deeper" / "x.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "no-suffix").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "file").touch()
    assert "Choose another --figure" in refused(capsys, "hdc", "1", "--figure", tmp_path / "file" / "x.png")
    assert "Choose another --figure" in refused(capsys, "hdc", "1", "--figure", tmp_path / "new")
    assert "--figure: found '.'" in refused(capsys, "hdc", "1", "--figure", "")
    assert "the suffix .docx" in refused(capsys, "hdc", "1", "--figure", tmp_path / "x.docx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "new", "no-suffix"], "nothing is left behind"


def test_out_that_is_a_file(
    checkpoint: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("of the user")
    probabilities = tmp_path / "saved"
    assert (
        main(
            [
                "predict",
                str(checkpoint),
                str(pictures / "images"),
                "--out",
                str(probabilities),
                "--kinds",
                "probabilities",
            ]
        )
        == 0
    )
    for command in (
        ["demo"],
        ["predict", checkpoint, pictures / "images"],
        ["crf", probabilities, pictures / "images"],
        ["crf-tune", checkpoint],
        ["train", "synthetic-duc"],
    ):
        for out in (tmp_path / "file", tmp_path / "file" / "below"):
            told = refused(capsys, *command, "--out", out)
            assert "file" in told
            assert "--out" in told
    assert "Choose another --json" in refused(capsys, "eval", checkpoint, "--json", tmp_path / "file" / "x.json")
    assert "Choose another --panels" in refused(capsys, "eval", checkpoint, "--panels", tmp_path)
    for dataset in ("cityscapes", "kitti-road", "voc2012"):
        refused(capsys, "data", "synth", dataset, tmp_path / "file", "--num-train", "1", "--workers", "1")
    assert (tmp_path / "file").read_text() == "of the user"


def test_crf_never_reads_what_it_writes_nor_a_network(
    checkpoint: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved, images = checkpoint / "predictions", pictures / "images"
    kinds = ["--kinds", "probabilities"]
    assert main(["predict", str(checkpoint), str(images), "--out", str(saved), *kinds]) == 0
    before = {path: path.read_bytes() for path in saved.iterdir()}
    assert "--out" in refused(capsys, "crf", saved, images, "--out", saved, *kinds)
    assert "--out" in refused(capsys, "crf", saved, images, "--out", saved / ".." / "predictions")
    assert {path: path.read_bytes() for path in saved.iterdir()} == before
    assert "a network" in refused(capsys, "crf", checkpoint, images, "--out", tmp_path / "o")
    assert "no .npy file" in refused(capsys, "crf", pictures, images, "--out", tmp_path / "o")
    assert not (tmp_path / "o").exists()


# -- recorded paths --------------------------------------------------------------------------------------------------


def test_the_data_set_is_found_from_another_folder_by_either_name(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"dataset": "folder", "root": "pictures", "val_split": "all"}
    run = write_checkpoint(tmp_path / "relative", ClassSet.read(pictures / "classes.json"), data)
    monkeypatch.chdir(tmp_path)
    assert main(["eval", str(run)]) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    grid = ["--sigma-alpha", "5", "--sigma-beta", "5", "--w1", "1", "--w2", "1", "--iterations", "1"]
    for command in (["eval", run], ["crf-tune", run, "--out", tmp_path / "search", *grid]):
        told = refused(capsys, *command)
        assert "--data-root: found no folder pictures" in told
        assert str(tmp_path / "elsewhere" / "pictures") in told
        for option in ("--data-root", "--data.root"):
            assert main([*map(str, command), option, str(pictures)]) == 0
            assert "no folder /nowhere" in refused(capsys, *command, option, "/nowhere")
        assert "--data-root" in refused(capsys, *command, "--data-root", tmp_path / "elsewhere"), "not a data set"
    for option in ("--data-root", "--data.root"):
        assert "/nowhere" in refused(capsys, "train", "custom-resnet18-duc", f"{option}=/nowhere", "--out", "x")
        assert "/nowhere" in refused(capsys, "train", "custom-resnet18-duc", option, "/nowhere", "--out", "x")


def test_a_lost_list_of_classes_is_the_checkpoints_own(
    pictures: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(checkpoint), "--json", str(tmp_path / "before.json")]) == 0
    listed = (pictures / "classes.json").read_bytes()
    (pictures / "classes.json").unlink()
    assert main(["eval", str(checkpoint), "--json", str(tmp_path / "after.json")]) == 0
    data = {"dataset": "folder", "root": str(pictures), "val_split": "all", "classes": str(tmp_path / "gone.json")}
    named = write_checkpoint(tmp_path / "named", ClassSet.from_json(json.loads(listed)), data)
    assert main(["eval", str(named), "--json", str(tmp_path / "named.json")]) == 0
    scores = [(tmp_path / f"{name}.json").read_text() for name in ("before", "after", "named")]
    assert scores[0] == scores[1] == scores[2]
    renamed = [{**entry, "name": f"{entry['name']}!"} for entry in json.loads(listed)]
    (tmp_path / "gone.json").write_text(json.dumps(renamed))
    assert "class 0 is дорога!" in refused(capsys, "eval", named), "a list that is there and says something else"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "no data set recorded"),
        ({}, "no data set recorded"),
        ({"dataset": "folder"}, "--data-root: found none recorded"),
        ({"dataset": "folder", "root": "/nowhere", "colour": 3}, "of another version: colour"),
    ],
)
def test_a_checkpoint_without_a_known_data_set(
    data: dict[str, Any] | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in refused(capsys, "eval", write_checkpoint(tmp_path / "run", CITYSCAPES, data))


def test_kitti_road_without_calibration_says_so_before_it_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "kitti"
    write_kitti_road(root, num_train=3, height=64, width=200)
    run = write_checkpoint(tmp_path / "run", KITTI_ROAD, {"dataset": "kitti-road", "root": str(root)})
    for path in (root / "training" / "calib").iterdir():
        path.unlink()
    monkeypatch.setattr("ducseg.inference.predictor.Predictor.probabilities_of", lambda *_: pytest.fail("too late"))
    monkeypatch.setattr("ducseg.inference.predictor.Predictor.labels_of", lambda *_: pytest.fail("too late"))
    assert "calib" in refused(capsys, "eval", run)


def test_data_check_takes_options_as_its_messages_spell_them(
    pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for prefix in ("--", "--data."):
        given = [f"{prefix}values", "0=a", "1=b", "2=ignore", f"{prefix}images=images", "--workers", "1"]
        (pictures / "classes.json").unlink(missing_ok=True)
        assert main(["data", "check", "folder", str(pictures), *given]) == 0
        assert "masks: values 0, 1 -> a, b; 2 ignored" in capsys.readouterr().out


GIVEN = {
    "dataset": "folder", "root": "{root}", "images": "images", "masks": "masks", "mask_suffix": "_mask",
    "view": "masks", "classes": "classes.json", "train_split": "all", "val_split": "all", "val_fraction": "0.3",
    "test_fraction": "0.25", "group_by": r"\d", "masks_as": "index", "values": "0={} 1={} 2={}".format(*NAMES),
    "ignore_value": "2", "ignore_colours": "1 2 3", "smoothed": None, "as_stored": None, "skip_unpaired": None,
    "unmasked_as": NAMES[0],
    "allow_absent": None, "patches": "12-fold", "patches_root": "cut", "coarse": None, "folds": "3", "fold": "1",
    "coco_root": "coco", "workers": "0", "memory": "0.5", "synthetic_scenes": "2 1", "synthetic_size": "32 64",
}  # fmt: skip
"""A value of every field of the data section."""


@pytest.mark.slow
@pytest.mark.parametrize("name", [field.name for field in fields(DataConfig)])
def test_data_check_takes_every_option_of_the_data_section(
    name: str, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What training takes, it takes; what training refuses with these data, it refuses in the same words."""
    option, value = f"--data.{name.replace('_', '-')}", GIVEN[name]
    given = [option, *("" if value is None else value).format(root=pictures).split()]
    if name == "fold":
        given += ["--data.folds", "3"]
    section = parse_train(["custom-resnet18-duc", "--data.root", str(pictures), *given]).config.data
    conflicts = section.conflicts()
    status = main(
        ["data", "check", "folder", str(pictures), *([] if name == "workers" else ["--workers", "1"]), *given]
    )
    said = "".join(capsys.readouterr())
    assert "nrecognized" not in said
    assert all(one in said for one in conflicts), said
    assert status < 2 or conflicts or name in ("mask_suffix", "ignore_colours"), said
    assert ("nothing to check here" in said) == (name in ("allow_absent", "memory"))


@pytest.mark.parametrize(
    "spelling", [("--data-root", "{}"), ("--data.root", "{}"), ("--data-root={}",), ("--data.root={}",)]
)
def test_where_the_data_lies_now_is_said_under_both_spellings(
    pictures: Path, tmp_path: Path, spelling: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    root = [one.format(pictures) for one in spelling]
    assert main(["data", "check", "folder", *root, "--workers", "1"]) == 0
    capsys.readouterr()
    run = tmp_path / "run"
    run.mkdir()
    settings = custom_resnet18_duc()
    replace(settings, data=replace(settings.data, root="gone")).write(run / "config.json")
    for resume in (["--resume", str(run)], [f"--resume={run}"]):
        options = parse_train([*resume, *root])
        assert (options.resume, options.out, options.config.data.root) == (True, run, str(pictures))
    for name in ("custom-resnet18-duc", str(tmp_path)):
        assert parse_train([name, *root]).config.data.root == str(pictures)
    assert "--run.device: found gpu" in refused(capsys, "train", pictures, "--run.device", "gpu")
    nowhere = [one.format(tmp_path / "gone") for one in spelling]
    assert "--data.root" in refused(
        capsys, "train", "synthetic-duc", "--data.dataset", "folder", *nowhere, "--out", run
    )
    gone = replace(settings, data=replace(settings.data, root="gone"))
    with pytest.raises(UserError, match=r"--data\.root gone: found nothing there, which is .*/gone from here"):
        train(gone, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_class_names_are_printed_as_they_are(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("[red]", "car[bold]", ":car:")
    (pictures / "classes.json").write_text(json.dumps(ClassSet(names, ((0, 0, 0), (9, 9, 9), (200, 0, 0))).to_json()))
    data = {"dataset": "folder", "root": str(pictures), "val_split": "all"}
    checkpoint = write_checkpoint(pictures / "run", ClassSet.read(pictures / "classes.json"), data)
    assert main(["data", "check", "folder", str(pictures), "--workers", "1"]) == 0
    checked = capsys.readouterr().out
    assert main(["eval", str(checkpoint), "--device", "cpu", "--thin"]) == 0
    scored = capsys.readouterr().out
    assert all(checked.count(name) >= 2 and scored.count(name) >= 3 for name in names), checked + scored


def test_predict_without_inputs_is_refused(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "inputs: found none" in refused(capsys, "predict", checkpoint, "--out", checkpoint)


def test_an_interrupt_in_a_callback_is_not_forgotten() -> None:
    program = """
import os, signal, sys, time
from ducseg import cli
from ducseg.cli import version

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell started this in the background

class Late:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)

def run(options):
    Late()
    time.sleep(20)
    return 0

version.run = run
sys.exit(cli.main(["version"]))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (130, "stopped\n")
