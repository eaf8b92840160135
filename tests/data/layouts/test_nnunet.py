"""nnU-Net's folders work as they lie: Tr trains, Ts with masks tests, dataset.json names the values."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ducseg.classes import VOC_PALETTE, ClassSet
from ducseg.cli import main
from ducseg.data.check.doctor import check_dataset
from ducseg.data.config import DataConfig
from ducseg.data.layouts.file_names import masks_beside
from ducseg.data.layouts.nnunet import read_labels
from ducseg.data.layouts.opening import open_dataset, open_layout
from ducseg.errors import UserError
from ducseg.metrics.folder import score_folder

SIZE = (6, 8)
LABELS = {"crack": 1, "background": 0}


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def case(root: Path, number: int, end: str = "Tr", *, values: tuple[int, ...] = (0, 1), channels: str = "0") -> None:
    """A picture of one value, and a mask with each of the values in its first row."""
    mask = np.zeros(SIZE, np.uint8)
    mask[0, : len(values)] = values
    for channel in channels:
        write(root / f"images{end}" / f"c_{number:03}_000{channel}.png", np.full((*SIZE, 3), number, np.uint8))
    write(root / f"labels{end}" / f"c_{number:03}.png", mask)


def data_set(root: Path, labels: dict[str, Any] | None = None, **options: Any) -> Path:
    for number in range(1, 6):
        case(root, number, **options)
    write(root / "imagesTs" / "c_009_0000.png", np.zeros((*SIZE, 3), np.uint8))
    about = {"channel_names": {"0": "RGB"}, "labels": labels or LABELS, "numTraining": 5, "file_ending": ".png"}
    (root / "dataset.json").write_text(json.dumps(about))
    return root


def config(root: Path, **options: Any) -> DataConfig:
    return DataConfig(dataset="folder", root=str(root), **options)


@pytest.mark.parametrize("above", [0, 1, 2])
def test_cases_are_paired_and_their_classes_named(tmp_path: Path, above: int) -> None:
    root = data_set(tmp_path / "nnUNet_raw" / "Dataset007_Cracks")
    (root / "imagesTr" / ".DS_Store").touch()
    data = config((root, *root.parents)[above])
    train, held = (open_dataset(data, split) for split in ("train", "val"))
    assert sorted([*train.ids, *held.ids]) == [f"c_{number:03}" for number in range(1, 6)]
    assert len(held) == 1
    assert train.classes.names == ("background", "crack")
    label = train[0].label
    assert label is not None
    assert (int(label.sum()), int(train[0].image.max())) == (1, int(train.ids[0][-1]))
    said = " ".join(open_layout(data).lines)
    assert (
        "(imagesTr/c_001_0000.png with labelsTr/c_001.png): train is Tr; left out: imagesTs (without labelsTs)" in said
    )
    assert "values 0, 1 -> background, crack (names of dataset.json)" in said
    report = check_dataset(data)
    assert (report.ok, list(report.splits)) == (True, ["train"])


def test_the_test_pictures_with_masks_are_a_split(tmp_path: Path) -> None:
    data_set(tmp_path)
    case(tmp_path, 9, "Ts")
    assert open_dataset(config(tmp_path), "test").ids == ("c_009",)
    assert "c_009" not in (*open_dataset(config(tmp_path), "train").ids, *open_dataset(config(tmp_path), "val").ids)
    assert "test is Ts" in open_layout(config(tmp_path)).notes[0]
    (tmp_path / "labelsTr" / "c_001.png").unlink()
    assert "c_002_0000.png with labelsTr/c_002.png" in open_layout(config(tmp_path)).notes[0]
    case(tmp_path, 10, "Ts")
    (tmp_path / "imagesTs" / "c_010_0000.png").unlink()
    with pytest.raises(UserError, match=r"1 without an image \(c_010\)"):
        open_dataset(config(tmp_path), "test")


def test_folders_and_predictions_are_paired_without_the_channel(tmp_path: Path) -> None:
    root = data_set(tmp_path)
    assert len(open_dataset(config(root, images="imagesTr", masks="labelsTr"), "all")) == 5
    for mask in (root / "labelsTr").iterdir():
        write(root / "out" / f"{mask.stem}_0000_labels.png", np.asarray(Image.open(mask)))
    found = score_folder(root / "out", root / "labelsTr", ClassSet(("background", "crack"), VOC_PALETTE[:2]))
    assert (found["pictures"], found["mean_iou"]) == (5, 1.0)


def test_the_ignore_label_and_whose_list_counts(tmp_path: Path) -> None:
    root = data_set(tmp_path / "Dataset001", {**LABELS, "ignore": 2}, values=(0, 1, 2))
    label = open_dataset(config(root), "train")[0].label
    assert label is not None
    assert label[0, :3].tolist() == [0, 1, 255]
    assert "2 ignored (names of dataset.json)" in open_layout(config(root)).rules.notes[0]
    assert open_dataset(config(root, values=("0=a", "1=b", "2=c")), "train").classes.names == ("a", "b", "c")
    (root / "classes.json").write_text('["ground", "line", "void"]')
    for place in (root, tmp_path):
        train = open_dataset(config(place), "train")
        label = train[0].label
        assert label is not None
        assert (train.classes.names, label[0, :3].tolist()) == (("ground", "line", "void"), [0, 1, 2])
    assert "dataset.json" not in " ".join(open_layout(config(root)).lines)


def test_names_that_end_in_four_digits_are_no_channels(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / "imagesTr" / f"frame_{number:04}.png", np.full((*SIZE, 3), number, np.uint8))
        write(tmp_path / "labelsTr" / f"frame_{number:04}.png", np.eye(6, 8, dtype=np.uint8))
    dataset = open_dataset(config(tmp_path), "all")
    assert dataset.ids == ("frame_0000", "frame_0001", "frame_0002")
    assert dataset.classes.names == ("background", "foreground")  # no dataset.json: by looking


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"background": 0, "whole": [1, 2], "core": [2]}, r"regions, labels of several values \(whole, core\)"),
        ({"background": 0, "crack": 2}, "from 0 on"),
        *(({"background": 0, "crack": one}, "no labels") for one in ("one", "1", True, 1.2, None)),
        ({"0": "background", "1": 1}, "no labels"),
        ({"background": 0, "crack": 1, "ignore": 1}, "from 0 on"),
        (["background", "crack"], "no labels"),
    ],
)
def test_labels_that_name_no_values(tmp_path: Path, labels: Any, said: str) -> None:
    with pytest.raises(UserError, match=rf"dataset\.json: found .*{said}.*classes\.json beside it"):
        open_dataset(config(data_set(tmp_path, labels)), "train")
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(UserError, match="no labels"):
        read_labels(tmp_path / "dataset.json")
    (tmp_path / "classes.json").write_text('["background", "crack"]')
    assert len(open_dataset(config(tmp_path), "all")) == 5


def test_the_list_of_version_1(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"labels": {"0": "ground", "2": "root", "1": "crack"}}')
    classes, ignored = read_labels(tmp_path / "dataset.json")
    assert (classes.names, ignored) == (("ground", "crack", "root"), None)
    for labels in ({"0": "ground", "2": "root"}, {"0": "ground", "1": "ground"}, {"0": "ground", "1": 1}):
        (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
        with pytest.raises(UserError, match=r"labels in .*dataset"):
            read_labels(tmp_path / "dataset.json")


@given(
    names=st.lists(
        st.text(min_size=1).filter(lambda one: one.strip() and one.splitlines() == [one]),
        min_size=1,
        max_size=20,
        unique=True,
    ).filter(lambda one: "ignore" not in one)
)
def test_any_names_in_any_order(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "dataset.json"
    labels = {"ignore": len(names), **{name: len(names) - 1 - at for at, name in enumerate(names)}}
    path.write_text(json.dumps({"labels": labels}))
    classes, ignored = read_labels(path)
    assert (classes.names, ignored) == (tuple(reversed(names)), len(names))


def test_what_is_no_picture_of_one_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"several files for each of 5 pictures.*\(c_001_0000\.png, c_001_0001\.png\)"):
        open_dataset(config(data_set(tmp_path / "channels", channels="01")), "train")
    for side, name in (("imagesTr", "a_0000.nii.gz"), ("labelsTr", "a.nii.gz")):
        (tmp_path / "volumes" / side).mkdir(parents=True)
        (tmp_path / "volumes" / side / name).touch()
    with pytest.raises(UserError, match=r"no pictures in imagesTr but a_0000\.nii\.gz; .*ducseg data convert stack"):
        open_dataset(config(tmp_path / "volumes"), "train")
    (tmp_path / "bare" / "imagesTr").mkdir(parents=True)
    with pytest.raises(UserError, match="found empty folders; needed imagesTr/CASE_0000"):
        check_dataset(config(tmp_path / "bare"))
    write(tmp_path / "bare" / "imagesTr" / "a_0000.png", np.zeros(SIZE, np.uint8))
    with pytest.raises(UserError, match="found imagesTr; needed"):
        check_dataset(config(tmp_path / "bare"))


def test_several_data_sets_are_asked_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("Dataset001_A", "Dataset002_B"):
        data_set(tmp_path / name)
    assert main(["data", "check", "folder", str(tmp_path)]) == 2
    assert "found 2: Dataset001_A, Dataset002_B; needed one" in " ".join(capsys.readouterr().err.split())


def test_masks_are_left_out_of_a_prediction(tmp_path: Path) -> None:
    files = list(data_set(tmp_path).rglob("*.png"))
    assert masks_beside(files) == set((tmp_path / "labelsTr").iterdir())
