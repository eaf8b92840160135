"""Commands given what belongs to another: a run in place of pictures, pictures of another type, a photo turned."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ducseg import cli
from ducseg.cli import main
from ducseg.cli.train import parse
from ducseg.data import paired
from ducseg.data.config import DataConfig
from ducseg.data.files.reading import read_image
from ducseg.data.layouts.opening import open_dataset
from ducseg.errors import UserError
from ducseg.inference.trained_on import open_trained_on
from ducseg.models import build
from ducseg.train.config import Config, RunConfig
from ducseg.weights.checkpoint import save_segmenter


def write_folder(root: Path, *, kind: type = np.uint8, exif: Image.Exif | None = None) -> Path:
    for number in range(4):
        mask = np.zeros((32, 32), np.uint8)
        mask[:, :8] = 255
        for name, pixels in (("images", np.full((32, 32), 9 * number, kind)), ("masks", mask)):
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / name / f"{number}.png", exif=exif if name == "images" else None)
    return root


def test_a_run_is_no_folder_of_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "my run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_text("{}")
    assert main(["train", str(run), "--plan-only"]) == 2
    said = capsys.readouterr().err
    assert "found the folder of a run; needed a folder of pictures" in said
    assert f"ducseg train --resume '{run}'" in said


@pytest.mark.parametrize("given", [["--minutes", "30"], ["--minutes=30"], ["--run.minutes", "30"]])
def test_a_run_gets_more_minutes_by_the_name_that_it_had_them(tmp_path: Path, given: list[str]) -> None:
    Config(name="mine", run=RunConfig(minutes=10.0)).write(tmp_path / "config.json")
    assert parse(["--resume", str(tmp_path), *given]).config.run.minutes == 30


def test_pictures_of_another_type_are_named_before_any_is_scored(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "deep", kind=np.uint16)
    data = {"dataset": "folder", "root": str(folder), "val_split": "all"}
    save_segmenter(
        tmp_path / "net", build("resnet18", num_classes=2, width=4, aspp=0), extra={"config": {"data": data}}
    )
    with pytest.raises(UserError, match=r"0\.png: found uint16 channels; needed 8 bits a channel") as scored:
        open_trained_on(tmp_path / "net")
    with pytest.raises(UserError) as predicted:
        read_image(folder / "images/0.png")
    assert str(predicted.value) in str(scored.value)


def test_a_network_is_scored_on_folders_of_other_names(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "mine")
    data = {"dataset": "folder", "root": str(root)}
    save_segmenter(
        tmp_path / "net", build("resnet18", num_classes=2, width=4, aspp=0), extra={"config": {"data": data}}
    )
    other = tmp_path / "other"
    (other / "a").mkdir(parents=True)
    (root / "images").rename(other / "a" / "left")
    (root / "masks").rename(other / "right")
    given = [str(tmp_path / "net"), "--split", "all", "--data.root", str(other), "--device", "cpu"]
    assert main(["eval", *given, "--data.images", "a/left", "--data.masks", "right"]) == 0


def test_a_split_that_is_not_there_is_refused_with_advice_for_a_trained_network(tmp_path: Path) -> None:
    data = {"dataset": "folder", "root": str(write_folder(tmp_path / "mine"))}
    save_segmenter(
        tmp_path / "net", build("resnet18", num_classes=2, width=4, aspp=0), extra={"config": {"data": data}}
    )
    with pytest.raises(UserError, match=r"^--split test: found no sub-folder of this name, and no share") as error:
        open_trained_on(tmp_path / "net", split="test")
    said = "Take --split val, on which the run validated, or train anew with --data.test-fraction 0.2"
    assert said in str(error.value) and "Hold" not in str(error.value) and "--data-root" not in str(error.value)


@pytest.mark.filterwarnings("default")
def test_a_turned_photo_is_told_of_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    data = open_dataset(DataConfig(dataset="folder", root=str(write_folder(tmp_path / "turned", exif=exif))), "train")
    paired._say_turned.cache_clear()
    monkeypatch.setattr(cli, "_dispatch", lambda given: len(data[0].id) - 1)
    assert main(["train"]) == 0
    assert re.fullmatch(r"warning: pictures with an EXIF orientation [^\n]*\n", capsys.readouterr().err)
