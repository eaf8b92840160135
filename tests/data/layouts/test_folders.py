"""Anyone's folders: where pictures and masks lie is found, splits are what their names say, what is amiss is said."""

import json
import os
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ducseg.classes import ClassSet
from ducseg.data.check.doctor import check_dataset
from ducseg.data.config import DataConfig
from ducseg.data.counting import check_classes_seen, count_pixels
from ducseg.data.layouts.grouping import EYES, eyes_in, group_function, held_out
from ducseg.data.layouts.opening import data_notes, open_dataset, open_layout, open_training_set
from ducseg.errors import UserError

SIZE = (6, 8)


def add(root: Path, image: str, mask: str | None) -> None:
    """A picture of its own, and a mask of 0 and 255 whose number of 255 is the number in the picture's name."""
    number = int("".join(filter(str.isdigit, Path(image).name)) or 0)
    path = root / image
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*SIZE, 3), number, np.uint8)).save(path)
    if mask is not None:
        pixels = np.zeros(SIZE, np.uint8)
        pixels.ravel()[:number] = 255
        (root / mask).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / mask)


def config(root: Path, **options: Any) -> DataConfig:
    return DataConfig(dataset="folder", root=str(root), **options)


def ids(root: Path, split: str, **options: Any) -> list[str]:
    return list(open_dataset(config(root, **options), split).ids)


def flat(root: Path, count: int = 20) -> Path:
    for number in range(1, count + 1):
        add(root, f"images/p{number:02}.png", f"masks/p{number:02}.png")
    return root


# -- where they lie ----------------------------------------------------------------------------------------------------

LAYOUTS = [
    ("images/{0}.jpg", "masks/{0}.png"),
    ("img/{0}.png", "gt/{0}.png"),
    ("imgs/{0}.jpg", "labels/{0}.png"),
    ("image/{0}.bmp", "label/{0}.bmp"),
    ("Images/{0}.JPG", "Masks/{0}.PNG"),
    ("JPEGImages/{0}.jpg", "SegmentationClass/{0}.png"),
    ("images/{0}.tif", "masks/{0}.gif"),
    ("images/{0}.jpg", "masks/{0}_mask.png"),
    ("images/{0}.jpg", "masks/{0}-gt.png"),
    ("images/{0}_img.jpg", "masks/{0}_label.png"),
    ("images/img_{0}.jpg", "masks/mask_{0}.png"),
    ("images/{0}_training.tif", "manual/{0}_manual1.gif"),
    ("{0}.jpg", "{0}_mask.png"),
    ("{0}.jpg", "{0}-mask.png"),
    ("{0}.png", "{0}_gt.png"),
    ("{0}.jpg", "{0}.png"),
    ("images/{0}.jpg", "images/{0}_mask.png"),
    ("photos/{0}.jpg", "photos_masks/{0}_mask.gif"),
]


@pytest.mark.parametrize(("image", "mask"), LAYOUTS)
@pytest.mark.parametrize("split", ["", "train/"])
def test_layouts_that_people_have(tmp_path: Path, image: str, mask: str, split: str) -> None:
    for number in (1, 7, 12):
        add(tmp_path, *(split + one.format(f"{number:03}") for one in (image, mask)))
    dataset = open_dataset(config(tmp_path), "all")
    assert len(dataset) == 3
    for sample in dataset:
        assert sample.label is not None
        assert int(sample.label.sum()) == np.round(sample.image.mean())
    assert check_dataset(config(tmp_path)).splits[split.rstrip("/") or "all"].labels == 3
    assert "masks" in open_layout(config(tmp_path)).notes[0]


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/{1}/{0}.jpg", "masks/{1}/{0}_mask.png"),
        ("{1}/images/{0}.jpg", "{1}/masks/{0}_mask.png"),
        ("{1}/{0}.png", "{1}annot/{0}.png"),
        ("{1}/{0}.jpg", "{1}_masks/{0}_mask.png"),
        ("{1}/{0}.jpg", "{1}/{0}_mask.png"),
    ],
)
def test_sorted_layouts(tmp_path: Path, image: str, mask: str) -> None:
    for split, numbers in (("train", (1, 2, 3)), ("val", (4,))):
        for number in numbers:
            add(tmp_path, image.format(number, split), mask.format(number, split))
    assert (ids(tmp_path, "train"), ids(tmp_path, "val")) == (["1", "2", "3"], ["4"])
    label = open_dataset(config(tmp_path), "val")[0].label
    assert label is not None
    assert label.sum() == 4


def test_folders_within_the_two_are_splits(tmp_path: Path) -> None:
    for split, count in (("training", 4), ("validation", 2)):
        for number in range(1, count + 1):
            add(tmp_path, f"images/{split}/{split}{number}.png", f"masks/{split}/{split}{number}_mask.png")
    assert (len(ids(tmp_path, "train")), len(ids(tmp_path, "val"))) == (4, 2)
    assert len(ids(tmp_path, "all")) == 6
    with pytest.raises(UserError, match=r"split 'test': .*there are: training, validation"):
        ids(tmp_path, "test")


def test_hidden_folders_are_no_splits(tmp_path: Path) -> None:
    flat(tmp_path, 4)
    for name in (".ipynb_checkpoints", ".git", "@eaDir", "__MACOSX"):
        for side in ("images", "masks"):
            add(tmp_path, f"{side}/{name}/p01.png", None)
            add(tmp_path, f"{name}/{side}/p01.png", None)
    assert len(ids(tmp_path, "all")) == 4
    report = check_dataset(config(tmp_path))
    assert (list(report.splits), report.splits["all"].images, report.errors) == (["all"], 4, ())


@pytest.mark.parametrize(("image", "mask"), [("images/{}.jpg", "masks/{}.png"), ("{}.jpg", "{}_mask.png")])
def test_accents_apart_or_not_are_the_same_letters(tmp_path: Path, image: str, mask: str) -> None:
    """As macOS writes them into archives."""
    for name in ("\u00e91", "b\u00fc22", "3"):
        add(tmp_path, image.format(name), unicodedata.normalize("NFD", mask.format(name)))
    (tmp_path / "list.txt").write_text(unicodedata.normalize("NFD", "b\u00fc22.jpg"), encoding="utf-8")
    assert ids(tmp_path, "all") == ["3", "b\u00fc22", "\u00e91"]
    assert ids(tmp_path, "list.txt") == ["b\u00fc22"]


def test_names_of_no_utf_8_are_split_too(tmp_path: Path) -> None:
    """As archives of old systems leave them."""
    for number in range(1, 9):
        name = os.fsdecode(b"stra\xdfe%d" % number)
        add(tmp_path, f"images/{name}.png", f"masks/{name}.png")
    assert len(ids(tmp_path, "train")) + len(ids(tmp_path, "val")) == 8


def test_two_folders_that_could_be_meant(tmp_path: Path) -> None:
    flat(tmp_path, 3)
    for number in range(1, 4):
        add(tmp_path, f"images/p{number:02}.png", f"gt/p{number:02}.png")
    with pytest.raises(UserError, match=r"found gt/ and masks/; needed one folder of them.*--data\.masks gt"):
        ids(tmp_path, "all")
    assert len(ids(tmp_path, "all", masks="gt")) == 3
    (tmp_path / "labels").mkdir()
    assert len(ids(tmp_path, "all", masks="masks")) == 3


def test_what_is_said_of_folders_that_cannot_be_trained_on(tmp_path: Path) -> None:
    add(tmp_path / "alone", "images/1.png", None)
    with pytest.raises(UserError, match=r"found 1 pictures and no masks; needed images/.*--data\.masks DIR"):
        ids(tmp_path / "alone", "train")
    add(tmp_path / "bare", "1.png", None)
    with pytest.raises(UserError, match=r"found 1 pictures and no masks; needed images/"):
        ids(tmp_path / "bare", "train")
    add(tmp_path / "one", "images/1.png", "masks/1.png")
    with pytest.raises(
        UserError, match=r"found 1; needed at least 2\. Add images, .*--data.train-split all --data.val-split all"
    ):
        ids(tmp_path / "one", "train")
    flat(tmp_path / "sizes", 4)
    for name in ("p02", "p03"):
        Image.new("L", (8, 7), 255).save(tmp_path / "sizes" / "masks" / f"{name}.png")
    with pytest.raises(
        UserError, match=r"p02\.png and 1 more: found 7 x 8 .*; needed 6 x 8, the .*-resize 8x6! \S+p02\.png "
    ):
        ids(tmp_path / "sizes", "all")
    Image.new("L", SIZE, 255).save(tmp_path / "sizes" / "masks" / "p02.png")
    with pytest.raises(UserError, match=r"found 8 x 6 .* exiftool -Orientation= FILES"):
        ids(tmp_path / "sizes", "all")


# -- splits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "count"), [("all", 20), ("train", 18), ("val", 2), ("validation", 2)])
def test_names_of_splits_mean_what_they_say(tmp_path: Path, split: str, count: int) -> None:
    flat(tmp_path)
    for both in (split, "val", "all"):
        options = {"train_split": split, "val_split": both}
        assert len(open_training_set(config(tmp_path, **options), (0, 0, 0))) == count


def test_a_share_for_testing(tmp_path: Path) -> None:
    flat(tmp_path)
    parts = {split: set(ids(tmp_path, split, test_fraction=0.2)) for split in ("train", "val", "test")}
    assert {split: len(names) for split, names in parts.items()} == {"train": 14, "val": 2, "test": 4}
    assert set.union(*parts.values()) == set(ids(tmp_path, "all"))
    assert parts["val"] == set(ids(tmp_path, "val")), "what validates stays"
    with pytest.raises(UserError, match=r"--data\.test-fraction"):
        ids(tmp_path, "test")


def test_validating_on_test_reads_test(tmp_path: Path) -> None:
    for split, numbers in (("train", (1, 2, 3)), ("val", (4, 5)), ("test", (6,))):
        for number in numbers:
            add(tmp_path, f"images/{split}/p{number}.png", f"masks/{split}/p{number}.png")
    options = {"train_split": "train", "val_split": "test"}
    assert ids(tmp_path, "train", **options) == ["p1", "p2", "p3"]
    assert ids(tmp_path, "test", **options) == ["p6"]
    assert ids(tmp_path, "val", **options) == ["p4", "p5"]


def test_a_train_folder_alone_gives_the_validation_share(tmp_path: Path) -> None:
    for number in range(1, 21):
        add(tmp_path, f"images/{'train' if number <= 10 else 'test'}/p{number}.png", f"masks/x/p{number}.png")
        split = "train" if number <= 10 else "test"
        (tmp_path / "masks" / split).mkdir(exist_ok=True)
        (tmp_path / "masks" / "x" / f"p{number}.png").rename(tmp_path / "masks" / split / f"p{number}.png")
    (tmp_path / "masks" / "x").rmdir()
    parts = {split: len(ids(tmp_path, split)) for split in ("train", "val", "test")}
    assert parts == {"train": 9, "val": 1, "test": 10}
    assert len(ids(tmp_path, "train", val_split="test")) == 10


def test_lists_of_names(tmp_path: Path) -> None:
    flat(tmp_path)
    (tmp_path / "train.txt").write_text("p03\nimages\\p01.png\n\n# p04\np02.jpg other\n")
    (tmp_path / "val.txt").write_text("p05\np06\n")
    assert ids(tmp_path, "train.txt") == ["p03", "p01", "p02"]
    assert ids(tmp_path, str(tmp_path / "val.txt")) == ["p05", "p06"]
    rest = ids(tmp_path, "train", val_split="val.txt")
    assert (len(rest), {"p05", "p06"} & set(rest)) == (18, set())
    assert len(ids(tmp_path, "val", train_split="train.txt")) == 17
    (tmp_path / "val.txt").write_text("p05\np77\n")
    with pytest.raises(UserError, match=r"val\.txt: found p77, which are no one picture"):
        ids(tmp_path, "val.txt")
    with pytest.raises(UserError, match=r"split list none\.txt: found no such file"):
        ids(tmp_path, "none.txt")


@pytest.mark.parametrize(
    ("image", "mask"),
    [("IMG_{}.JPG", "IMG_{}_label.png"), ("img_{}.jpg", "mask_{}.png"), ("weld_{}.png", "weld_{}_mask.png")],
)
def test_pictures_are_called_by_their_files_where_masks_are_called_otherwise(
    tmp_path: Path, image: str, mask: str
) -> None:
    """In lists, in patterns, in messages: never by the part of the name that picture and mask share."""
    numbers = [f"{number:03}" for number in range(1, 11)]
    for number in numbers:
        add(tmp_path, f"Aufnahmen/{image.format(number)}", f"Annotationen/{mask.format(number)}")
    options = {"images": "Aufnahmen", "masks": "Annotationen"}
    stems = [Path(image.format(number)).stem for number in numbers]
    assert ids(tmp_path, "all", **options) == stems
    (tmp_path / "v.txt").write_text(f"{image.format('003')}\n{stems[4]}\nAufnahmen/{image.format('007')}\n")
    assert ids(tmp_path, "v.txt", **options) == [stems[2], stems[4], stems[6]]
    grouped = ids(tmp_path, "val", **options, group_by=rf"^{stems[0][:-3]}(00)", val_fraction=0.9)
    assert set(grouped) in ({*stems[:9]}, {stems[9]}), "the first nine stay together"
    (tmp_path / "Annotationen" / mask.format("002")).unlink()
    (tmp_path / "Aufnahmen" / image.format("005")).unlink()
    lost = Path(mask.format("005")).stem
    lost = mask.format("005") if lost == stems[4] else lost
    with pytest.raises(UserError, match=rf"1 without a label \({stems[1]}\); 1 without an image \({lost}\)"):
        ids(tmp_path, "all", **options)


def test_what_has_no_partner_can_be_left_out(tmp_path: Path) -> None:
    flat(tmp_path, 12)
    for name in ("masks/p03.png", "masks/p07.png", "images/p11.png"):
        (tmp_path / name).unlink()
    with pytest.raises(
        UserError,
        match=r"2 without a label .*or leave them out \(--data\.skip-unpaired\), or .*--data\.unmasked-as background",
    ):
        ids(tmp_path, "train")
    left = {split: ids(tmp_path, split, skip_unpaired=True) for split in ("all", "train", "val")}
    assert left["all"] == [f"p{number:02}" for number in (1, 2, 4, 5, 6, 8, 9, 10, 12)]
    assert {*left["train"], *left["val"]} == {*left["all"]}
    layout = open_layout(config(tmp_path, skip_unpaired=True))
    assert layout.lines[0].endswith("; left out, without a partner: p03.png, p07.png, p11.png")
    assert not check_dataset(config(tmp_path, skip_unpaired=True)).errors
    for path in (tmp_path / "masks").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="11 pictures and no masks"):
        ids(tmp_path, "train", skip_unpaired=True)


@pytest.mark.parametrize("outside", [False, True])
def test_folders_given_whole_beside_a_relative_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outside: bool
) -> None:
    place = tmp_path / ("elsewhere" if outside else "root")
    for number in range(4):
        add(place, f"bilder/p{number}.png", f"m/p{number}.png")
    (tmp_path / "root").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path)
    options = {"images": str(place / "bilder"), "masks": str(place / "m")}
    assert len(ids(Path("root"), "all", **options)) == 4
    (note, *_) = open_layout(config(Path("root"), **options)).lines
    shown = str(place / "bilder") if outside else "bilder"
    assert note.startswith(f"pictures in {shown}; masks in ")


def test_names_with_spaces_in_a_list(tmp_path: Path) -> None:
    for name in ("my photo 1", "my photo 2", "my", "p1"):
        add(tmp_path, f"images/{name}.png", f"masks/{name}.png")
    (tmp_path / "some.txt").write_text("my photo 2\nimages/my photo 1.png\np1 -1\np1\n")
    assert ids(tmp_path, "some.txt") == ["my photo 2", "my photo 1", "p1"]
    (tmp_path / "some.txt").write_text("your photo 2\n")
    with pytest.raises(UserError, match=r"found your photo 2, which are no one picture"):
        ids(tmp_path, "some.txt")


def test_splits_joined(tmp_path: Path) -> None:
    """In their order, each picture once; names that two folders share stay apart; a share goes as before."""
    for split, names in (("train", ("1", "2")), ("val", ("1", "3")), ("test", ("4",))):
        for name in names:
            add(tmp_path, f"sorted/images/{split}/p{name}.png", f"sorted/masks/{split}/p{name}.png")
    assert ids(tmp_path / "sorted", "train+val") == ["train/p1", "train/p2", "val/p1", "val/p3"]
    assert ids(tmp_path / "sorted", "test+train") == ["p4", "p1", "p2"]
    options = {"train_split": "train+val"}
    assert len(open_training_set(config(tmp_path / "sorted", **options), (0, 0, 0))) == 4
    assert ids(tmp_path / "sorted", "val", **options) == ["p1", "p3"]
    with pytest.raises(UserError, match=r"split 'vall': found no sub-folder of this name"):
        ids(tmp_path / "sorted", "train+vall")
    flat(tmp_path / "flat")
    shares = {"val_fraction": 0.2, "test_fraction": 0.1, "train_split": "train+val"}
    assert len(ids(tmp_path / "flat", "train+val", **shares)) == 18
    assert not {*ids(tmp_path / "flat", "train+val", **shares)} & {*ids(tmp_path / "flat", "test", **shares)}
    for name, text in (("a", "p03\np01\n"), ("b", "p05\np03\n")):
        (tmp_path / "flat" / f"{name}.txt").write_text(text)
    assert ids(tmp_path / "flat", "a.txt+b.txt") == ["p03", "p01", "p05"]
    assert len(ids(tmp_path / "flat", "val", train_split="a.txt+b.txt")) == 17
    (tmp_path / "flat" / "a+b.txt").write_text("p06\n")
    assert ids(tmp_path / "flat", "a+b.txt") == ["p06"], "a file of that name is that file"
    (tmp_path / "sorted" / "images" / "train+val").mkdir()
    (tmp_path / "sorted" / "masks" / "train+val").mkdir()
    add(tmp_path, "sorted/images/train+val/p9.png", "sorted/masks/train+val/p9.png")
    assert ids(tmp_path / "sorted", "train+val") == ["p9"], "and a folder of that name is that folder"


@pytest.mark.parametrize("table", ["image,mask\n{0},{1}\n", "{0};{1};left\n", '"{0}","{1}"\n', "id\n{2}\n"])
def test_a_table_is_a_list_of_its_first_column(tmp_path: Path, table: str) -> None:
    flat(tmp_path, 6)
    rows = [table.format(f"images/p0{n}.png", f"masks/p0{n}.png", f"p0{n}") for n in (4, 2)]
    (tmp_path / "fold.csv").write_text(rows[0] + rows[1].splitlines(keepends=True)[-1])
    assert ids(tmp_path, "fold.csv") == ["p04", "p02"]
    (tmp_path / "fold.csv").write_text(rows[0] + "nobody,else\n")
    with pytest.raises(UserError, match=r"fold\.csv: found nobody,else, which are no one picture"):
        ids(tmp_path, "fold.csv")
    with pytest.raises(UserError, match=r"split list none\.csv: found no such file"):
        ids(tmp_path, "none.csv")


def test_a_class_list_lies_where_pictures_and_masks_do_or_above(tmp_path: Path) -> None:
    for name in ("unpacked/set/images", "unpacked/set/masks"):
        (tmp_path / name).mkdir(parents=True)
    flat(tmp_path / "unpacked" / "set", 4)
    for place, said in (("unpacked/set", " (classes of unpacked/set/classes.json)"), (".", "")):
        (tmp_path / place / "classes.json").write_text('["road", "crack"]')
        options = {"images": "unpacked/set/images", "masks": "unpacked/set/masks"}
        layout = open_layout(config(tmp_path, **options))
        assert layout.lines[-1] == f"masks: values 0, 255 -> road, crack{said}"
        (tmp_path / place / "classes.json").unlink()
    (tmp_path / "classes.json").write_text('["above", "it"]')
    (tmp_path / "unpacked" / "set" / "classes.json").write_text('["beside", "it"]')
    assert "beside, it (classes of unpacked/set/classes.json)" in open_layout(config(tmp_path, **options)).lines[-1]


def test_groups_stay_together(tmp_path: Path) -> None:
    for patient in range(1, 7):
        for view in range(1, 4):
            add(tmp_path, f"images/a{patient}_v{view}.png", f"masks/a{patient}_v{view}.png")
    options = {"group_by": r"^(a\d+)_", "val_fraction": 0.34, "test_fraction": 0.17}
    parts = {split: ids(tmp_path, split, **options) for split in ("train", "val", "test")}
    patients = {split: {name.partition("_")[0] for name in names} for split, names in parts.items()}
    assert {split: len(names) for split, names in parts.items()} == {"train": 9, "val": 6, "test": 3}
    assert {split: len(names) for split, names in patients.items()} == {"train": 3, "val": 2, "test": 1}
    assert len(set.union(*patients.values())) == 6
    with pytest.raises(UserError, match=r"--data\.group-by \(: found .*needed a regular expression"):
        ids(tmp_path, "train", group_by="(")
    with pytest.raises(UserError, match="groups to split: found 1; needed at least 2"):
        ids(tmp_path, "train", group_by="^a")


def test_every_picture_but_the_test_ones_validates_in_one_fold(tmp_path: Path) -> None:
    flat(tmp_path / "flat")
    names = ids(tmp_path / "flat", "all")
    for options in ({}, {"test_fraction": 0.2}):
        test = ids(tmp_path / "flat", "test", folds=3, **options) if options else []
        parts = [[ids(tmp_path / "flat", s, folds=3, fold=i, **options) for s in ("train", "val")] for i in range(3)]
        assert all(sorted(train + val + test) == sorted(names) for train, val in parts)
        assert sorted(name for _, val in parts for name in val) == sorted({*names} - {*test})
        assert max(len(val) for _, val in parts) - min(len(val) for _, val in parts) <= 1
        assert parts[1] == [ids(tmp_path / "flat", s, folds=3, fold=1, **options) for s in ("train", "val")]
    for split, number in (("train", 5), ("valid", 3), ("test", 2)):
        for name in range(number):
            add(tmp_path, f"sorted/images/{split}/{split}{name}.png", f"sorted/masks/{split}/{split}{name}.png")
    assert ids(tmp_path / "sorted", "test", folds=2) == ["test0", "test1"]
    assert len(ids(tmp_path / "sorted", "train", folds=2)) == len(ids(tmp_path / "sorted", "val", folds=2)) == 4
    with pytest.raises(UserError, match=r"--data\.folds 9: found 8 pictures; needed at least one a fold"):
        ids(tmp_path / "sorted", "val", folds=9)
    with pytest.raises(UserError, match=r"split 'test': found no sub-folder.*--data\.test-fraction"):
        ids(tmp_path / "flat", "test", folds=3)


def test_groups_stay_together_in_folds(tmp_path: Path) -> None:
    for patient in range(1, 5):
        for view in range(1, 4):
            add(tmp_path, f"images/a{patient}_v{view}.png", f"masks/a{patient}_v{view}.png")
    folds = [ids(tmp_path, "val", folds=2, fold=fold, group_by=r"^(a\d+)_") for fold in range(2)]
    assert (
        [len({name.partition("_")[0] for name in names}) for names in folds] == [2, 2] == [len(f) // 3 for f in folds]
    )
    with pytest.raises(UserError, match=r"--data\.folds 5: found 4 groups of pictures"):
        ids(tmp_path, "val", folds=5, group_by=r"^(a\d+)_")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": 1}, "--data.fold needs --data.folds"),
        ({"folds": 3, "fold": 3}, "--data.fold 3 of 3: they are counted from 0"),
        ({"folds": 3, "val_split": "test"}, "--data.folds says what --data.val-split would"),
        ({"folds": 3, "val_fraction": 0.2}, "--data.folds says what --data.val-fraction would"),
        ({"dataset": "camvid", "folds": 3}, "--data.folds 3 is for folder, not for camvid"),
        ({"dataset": "kitti-road", "fold": 5}, "--data.fold 5 of 5: they are counted from 0"),
        ({"val_fraction": 0.2, "test_fraction": 0.8}, "--data.val-fraction and --data.test-fraction must leave some"),
        ({"folds": 3, "val_fraction": 0.2, "test_fraction": 0.9}, "--data.folds says what --data.val-fraction would"),
    ],
)
def test_folds_that_cannot_be(options: dict[str, object], message: str) -> None:
    conflicts = DataConfig(**{"dataset": "folder", "root": "somewhere", **options}).conflicts()  # type: ignore[arg-type]
    assert [one[: len(message)] for one in conflicts] == [message]


@pytest.mark.parametrize(("pictures", "share"), [(1, 0.2), (2, 0.2), (10, 0.9), (10, 0.5)])
def test_too_few_pictures_for_folds_beside_a_test_share(tmp_path: Path, pictures: int, share: float) -> None:
    """The share is no matter of --data.val-fraction, and no advice names what folds refuse."""
    options = {"folds": 6, "test_fraction": share}
    assert config(tmp_path, **options).conflicts() == []
    with pytest.raises(
        UserError, match=r"Take fewer folds or a smaller --data\.test-fraction, or add pictures"
    ) as error:
        ids(flat(tmp_path, pictures), "val", **options)
    assert "-split" not in str(error.value)
    assert "val-fraction" not in str(error.value)


@pytest.mark.parametrize("name", ["classes.json", "dataset.json"])
def test_class_lists_that_are_links_to_nothing_are_not_passed_over(tmp_path: Path, name: str) -> None:
    sides = ("images", "masks") if name == "classes.json" else ("imagesTr", "labelsTr")
    for number in range(4):
        add(tmp_path, *(f"{side}/{number}.png" for side in sides))
    (tmp_path / name).symlink_to("gone.json")
    with pytest.raises(UserError, match=f"{name}.*No such file"):
        ids(tmp_path, "all")


def test_the_doctor_draws_the_splits_that_it_is_told_of(tmp_path: Path) -> None:
    flat(tmp_path, 8)
    assert check_dataset(config(tmp_path, folds=4, fold=3)).ok
    for options, said in (
        ({"folds": 9}, r"--data\.folds 9: found 8 pictures"),
        ({"train_split": "no.txt"}, "split list no.txt: found no such file"),
        ({"val_split": "night"}, "split 'night'"),
        ({"group_by": "z+"}, r"--data\.group-by z\+: found no match"),
    ):
        with pytest.raises(UserError, match=said):
            check_dataset(config(tmp_path, **options))


def test_the_doctor_sees_groups_in_two_splits(tmp_path: Path) -> None:
    for split, names in (("train", ("a1_1", "a2_2")), ("val", ("a1_3", "a4_4"))):
        for name in names:
            add(tmp_path, f"images/{split}/{name}.png", f"masks/{split}/{name}.png")
    assert check_dataset(config(tmp_path)).ok
    (leak,) = check_dataset(config(tmp_path, group_by=r"^(\w+)_")).errors
    assert "drive a1: found frames in train and val" in leak.message


@given(
    names=st.sets(st.text("abc123_", min_size=1, max_size=6), min_size=2, max_size=30),
    shares=st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)),
)
def test_held_out_follows_from_names_and_grows(names: set[str], shares: tuple[float, float]) -> None:
    low, high = sorted(shares)
    ordered = sorted(names)
    assert held_out(ordered, low) == held_out(ordered[::-1], low) <= held_out(ordered, high)
    assert 0 < len(held_out(ordered, low)) < len(names)
    group = group_function("^.")
    if len({group(name) for name in names}) > 1:
        chosen = held_out(ordered, high, group)
        assert not {group(name) for name in chosen} & {group(name) for name in names - chosen}


def test_equal_splits_are_said(tmp_path: Path) -> None:
    flat(tmp_path)

    def notes(train: str, val: str) -> str:
        data = config(tmp_path, train_split=train, val_split=val)
        return data_notes(data, open_training_set(data, (0, 0, 0)), open_dataset(data, val))[-1]

    assert notes("all", "all").startswith("the 20 validation pictures are the training pictures")
    assert notes("train", "train").startswith("the 18 validation pictures are the training pictures")
    assert notes("all", "val") == "2 of the 2 validation pictures are training pictures too"
    assert notes("train", "val") == "masks: values 0, 255 -> background, foreground"


# -- classes -----------------------------------------------------------------------------------------------------------


def test_pixels_are_counted_and_a_class_without_one_stops(tmp_path: Path) -> None:
    flat(tmp_path, 4)
    dataset = open_dataset(config(tmp_path), "all")
    counts = count_pixels(dataset)
    assert counts.pixels.tolist() == [4 * 48 - 10, 10]
    assert (counts.pictures.tolist(), counts.ignored, counts.absent) == ([4, 4], 0, ())
    check_classes_seen(config(tmp_path), dataset)
    classes = [{"name": name, "color": [0, 0, value]} for value, name in enumerate(("road", "crack", "wire"))]
    (tmp_path / "classes.json").write_text(json.dumps(classes))
    named = config(tmp_path, values=("0=road", "255=crack"))
    with pytest.raises(UserError, match=r"found no pixel of wire; needed some of every class.*--data\.allow-absent"):
        check_classes_seen(named, open_dataset(named, "all"))
    allowed = config(tmp_path, values=("0=road", "255=crack"), allow_absent=True)
    check_classes_seen(allowed, open_dataset(allowed, "all"))


def test_classes_that_a_checkpoint_carries_stand_in_for_a_list_that_moved(tmp_path: Path) -> None:
    flat(tmp_path, 4)
    carried = ClassSet(("road", "crack"), ((0, 0, 0), (255, 0, 0)))
    moved = config(tmp_path, classes=str(tmp_path / "gone.json"))
    assert open_dataset(moved, "all", carried).classes == carried
    assert open_dataset(config(tmp_path), "all", carried).classes == carried
    with pytest.raises(UserError, match=r"class list .*gone\.json"):
        open_dataset(moved, "all")


# -- what would pass unseen --------------------------------------------------------------------------------------------


def test_a_pattern_that_matches_nothing_and_groups_in_both_splits_are_said(tmp_path: Path) -> None:
    flat(tmp_path)
    with pytest.raises(
        UserError, match=r"--data\.group-by \^x\(\.\): found no match in any of 20 names \(such as p01\)"
    ):
        ids(tmp_path, "train", group_by="^x(.)")
    (tmp_path / "some.txt").write_text("\ufeffp01\r\np12\r\n", encoding="utf-8")  # as Windows' editor writes it
    settings = config(tmp_path, val_split="some.txt", group_by="^p(.)")
    training, validation = (open_dataset(settings, split) for split in ("train", "some.txt"))
    assert validation.ids == ("p01", "p12")
    note = "groups of --data.group-by with training and validation pictures: 0, 1"
    assert note in data_notes(settings, training, validation)
    apart = open_dataset(config(tmp_path, val_split="some.txt"), "some.txt")
    assert not any("groups" in line for line in data_notes(config(tmp_path), apart, apart))


@pytest.mark.parametrize(
    ("more", "twins"),
    [
        (("images/p02.jpg",), ["p02.jpg and p02.png"]),
        (("images/p02.jpg", "images/p03.bmp"), ["p02.jpg and p02.png", "p03.bmp and p03.png"]),
        (("masks/p02.tif",), ["p02.png and p02.tif"]),
    ],
)
def test_two_files_of_one_name_are_rows_of_the_doctors_table(
    tmp_path: Path, more: tuple[str, ...], twins: list[str]
) -> None:
    flat(tmp_path, 3)
    for name in more:
        add(tmp_path, name, None)
    report = check_dataset(config(tmp_path))
    assert report.splits["all"].classes["foreground"]["pixels"] == 1 + 2 + 3
    assert [(one.kind, one.message.partition("found ")[2].partition(";")[0]) for one in report.errors] == [
        ("same name", twin) for twin in twins
    ]
    with pytest.raises(UserError, match=f"found {twins[0]}; needed one picture a name"):
        ids(tmp_path, "all")


@pytest.mark.parametrize(
    ("names", "kinds"),
    [
        (("p3.jpg",), ["missing partner"]),
        (("p3.jpg", "p4.png"), ["missing partner", "missing partner"]),
        (("p2.bmp",), ["same name"]),
    ],
)
def test_side_by_side_no_file_is_passed_over(tmp_path: Path, names: tuple[str, ...], kinds: list[str]) -> None:
    for number in (1, 2):
        add(tmp_path, f"p{number}.jpg", f"p{number}.png")
    assert ids(tmp_path, "all") == ["p1", "p2"]
    for name in names:
        add(tmp_path, name, None)
    assert [one.kind for one in check_dataset(config(tmp_path)).errors if one.kind != "masks"][: len(kinds)] == kinds
    with pytest.raises(UserError, match=r"without a|one picture a name"):
        ids(tmp_path, "all")


# -- several that could be the masks -----------------------------------------------------------------------------------


def public(root: Path, image: str, masks: str, others: dict[str, str], numbers: tuple[int, ...] = (1, 2, 3)) -> Path:
    """A public set: the truth, and others of the kinds "view" (a disc) and "second" (the truth and a pixel)."""
    for number in numbers:
        add(root, image.format(number), masks.format(number))
        for place, kind in others.items():
            add(root, place.format(number), None)
            mask = np.zeros(SIZE, np.uint8)
            if kind == "view":
                mask[1:, 1:-1] = 255
            else:
                mask.ravel()[: number + 1] = 255
            Image.fromarray(mask).save(root / place.format(number))
    return root


@pytest.mark.parametrize(
    ("image", "mask", "others"),
    [
        ("Image_0{}L.jpg", "Image_0{}L_1stHO.png", {}),
        ("Image_0{}L.jpg", "Image_0{}L_1stHO.png", {"Image_0{}L_2ndHO.png": "second"}),
        ("images/a{}.jpg", "masks/a{}_1stHO.png", {"masks/a{}_2ndHO.png": "second"}),
        ("im000{}.ppm", "im000{}.ah.ppm", {"im000{}.vk.ppm": "second"}),
        ("stare-images/{}.ppm", "labels-ah/{}.ah.ppm", {"labels-vk/{}.vk.ppm": "second"}),
        ("images/{}.png", "manual1/{}.tif", {"manual2/{}.tif": "second", "mask/{}_mask.tif": "view"}),
        ("images/{}_test.tif", "1st_manual/{}_manual1.gif", {"mask/{}_test_mask.gif": "view"}),
        ("image/{}_OSC.jpg", "GT/{}_OSC_GT.tif", {"mask/{}_OSC_Mask.tif": "view"}),
        ("images/{}.png", "vessel-segmentations/{}.png", {"masks/{}.png": "view"}),
        ("Fundus_Images/{}.jpg", "Manual_Segmentations/{}_manual_orig.png", {"Mask_images/{}_mask_orig.png": "view"}),
        ("{}.jpg", "{}_manual.png", {"{}_mask.png": "view"}),
        ("Original/{}_A.png", "Ground truth/{}_A.png", {}),
        ("raw/{}.png", "membranes/{}.png", {}),
        ("set/images/{}.png", "set/masks/{}.png", {}),
    ],
)
def test_the_first_annotators_masks_are_the_truth_and_views_are_not(
    tmp_path: Path, image: str, mask: str, others: dict[str, str]
) -> None:
    public(tmp_path, image, mask, others)
    dataset = open_dataset(config(tmp_path), "all")
    assert [sample.label is not None and int(sample.label.sum()) for sample in dataset] == [1, 2, 3]
    line = open_layout(config(tmp_path)).notes[0]
    for kind, said in (("second", "(another annotator)"), ("view", "(the field of view)")):
        assert (said in line) == (kind in others.values())


def test_a_split_with_nothing_but_views_is_none(tmp_path: Path) -> None:
    names = ("{}_training.tif", "{}_manual1.gif", "{}_training_mask.gif")
    training, manual, view = (f"training/{side}/" + name for side, name in zip(("images", "1st_manual", "mask"), names))
    public(tmp_path, training, manual, {view: "view"})
    public(tmp_path, "test/images/{}_test.tif", "gone/{}.gif", {"test/mask/{}_test_mask.gif": "view"}, (4, 5))
    assert (len(ids(tmp_path, "train")), open_layout(config(tmp_path)).splits) == (2, ("training",))
    public(tmp_path, "test/images/{}_test.tif", "test/1st_manual/{}_manual1.gif", {}, (4, 5))
    assert (len(ids(tmp_path, "all")), ids(tmp_path, "test")) == (5, ["4_test", "5_test"])


def test_endings_and_folders_that_do_not_tell_are_asked_for(tmp_path: Path) -> None:
    public(tmp_path, "{}.jpg", "{}_mask.png", {"{}_gt.png": "second"})
    with pytest.raises(UserError, match=r"end with _gt and _mask; needed one mask .*--data\.mask-suffix=_gt"):
        ids(tmp_path, "all")
    first = open_dataset(config(tmp_path, mask_suffix="_gt"), "all")[0].label
    assert first is not None
    assert first.sum() == 2


@pytest.mark.parametrize("name", ["{0}_images/{1}.jpg {0}_masks/{1}.png", "{0}_img/{1}.jpg {0}_lab/{1}.png"])
def test_folders_named_by_split_and_side(tmp_path: Path, name: str) -> None:
    for split, numbers in (("train", (1, 2, 3)), ("test", (4,))):
        for number in numbers:
            add(tmp_path, *(name.format(split, number).split()))
    assert (len(ids(tmp_path, "train")), len(ids(tmp_path, "val")), ids(tmp_path, "test")) == (2, 1, ["4"])


def test_folders_that_are_no_splits_are_trained_on_together(tmp_path: Path) -> None:
    for site in ("oslo", "rome"):
        for number in range(1, 6):
            add(tmp_path, f"images/{site}/{number}.png", f"masks/{site}/{number}.png")
    parts = [ids(tmp_path, split) for split in ("train", "val", "all", "rome")]
    assert [len(part) for part in parts] == [9, 1, 10, 5]
    assert len(ids(tmp_path, "train", val_split="rome")) == 5


def test_both_eyes_of_a_person_are_told_by_names() -> None:
    eyes = [f"Image_0{person}{eye}" for person in range(1, 9) for eye in "LR"]
    for names in (eyes, eyes[:-1], ["1_OD", "1_OS", "2_OD", "2_OS"], ["a1 left_x", "a1 right_x"]):
        assert eyes_in(names) == EYES
    group = group_function(EYES)
    assert (group("Image_01L"), group("1_OS"), group("a1 left_x")) == ("Image_01", "1", "a1")
    for others in (
        ["01_dr", "01_g", "01_h"],
        ["1L", "2L", "3R", "4R"],
        ["Left", "Right"],
        [*eyes, *map(str, range(9))],
    ):
        assert eyes_in(others) is None


@pytest.mark.parametrize("split", ["", "training/"])
def test_what_lies_outside_the_field_of_view_is_ignored_where_that_is_asked_for(tmp_path: Path, split: str) -> None:
    image, manual, view = (
        split + one for one in ("images/{}_t.tif", "1st_manual/{}_manual1.gif", "mask/{}_t_mask.gif")
    )
    public(tmp_path, image, manual, {view: "view"}, (10, 20, 30))
    data = config(tmp_path, view="mask")
    dataset = open_dataset(data, "all")
    for sample, number in zip(dataset, (10, 20, 30)):
        truth = np.zeros(SIZE, np.uint8)
        truth.ravel()[:number] = 1
        truth[:1], truth[:, 0], truth[:, -1] = 255, 255, 255
        np.testing.assert_array_equal(sample.label, truth)
    counts = count_pixels(dataset)
    assert (counts.ignored, int(counts.pixels.sum())) == (3 * (48 - 30), 3 * 30)
    assert open_layout(data).rules.notes[0].endswith("; 255 outside mask")
    assert sum(one["pixels"] for one in check_dataset(data).splits[split.rstrip("/") or "all"].classes.values()) == 90
    with pytest.raises(UserError, match=r"--data\.view fov: found no field of view for 3 pictures .*10_manual1\.gif"):
        ids(tmp_path, "all", view="fov")
    Image.new("L", (4, 4), 255).save(tmp_path / view.format(20))
    with pytest.raises(UserError, match=r"20_t_mask\.gif: found 4 x 4 pixels .*needed 6 x 8"):
        open_dataset(data, "all")[1]


def test_a_folder_alone_in_the_folder_is_looked_into(tmp_path: Path) -> None:
    public(tmp_path, "a/b/training/images/{}_training.tif", "a/b/training/1st_manual/{}_manual1.gif", {})
    assert (len(ids(tmp_path, "train")), len(ids(tmp_path, "val"))) == (2, 1)


@pytest.mark.parametrize(
    ("image", "mask", "taken"),
    [
        ("scans/{}.png", "gt/{}.png", True),
        ("Aufnahmen/IMG_{}.jpg", "Annotationen/IMG_{}_label.png", True),
        ("a/{}.png", "b/{}.png", True),
        ("a/p{}.png", "b/q{}y.png", True),
        ("scans/{}.png", "fov/{}.png", False),  # one solid region each: fields of view
        ("scans/{}.png", "gt/x{}0.png", False),  # names that do not go together
    ],
)
def test_two_folders_that_go_together_are_taken_whatever_they_are_called(
    tmp_path: Path, image: str, mask: str, taken: bool
) -> None:
    for number in range(1, 6):
        noisy(tmp_path / image.format(number))
        shown = np.zeros(SIZE, np.uint8)
        if "fov" in mask:
            shown[1:, 1:-1] = 255
        shown[number % 3, number] = shown[-2, -2] = 255
        (tmp_path / mask.format(number)).parent.mkdir(exist_ok=True)
        Image.fromarray(shown).save(tmp_path / mask.format(number))
    if taken:
        assert len(ids(tmp_path, "all")) == 5
        note = open_layout(config(tmp_path)).lines[0]
        assert note.startswith(f"pictures in {image.split('/')[0]}; masks in {mask.split('/')[0]}")
        noisy(tmp_path / "third" / "1.png")
    with pytest.raises(UserError, match=r"Say which are meant, such as --data\.images"):
        ids(tmp_path, "all")


def test_a_folder_called_after_masks_needs_no_look_at_what_they_hold(tmp_path: Path) -> None:
    for number in range(1, 6):
        noisy(tmp_path / "Fotos" / f"Prüfling {number}.png")
        smooth = np.random.default_rng(number).integers(0, 256, SIZE, np.uint8)
        (tmp_path / "Masken").mkdir(exist_ok=True)
        Image.fromarray(smooth).save(tmp_path / "Masken" / f"Prüfling {number}.png")
    assert open_layout(config(tmp_path)).lines[0] == "pictures in Fotos; masks in Masken"


def noisy(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (*SIZE, 3), np.uint8)).save(path)


def test_folders_of_other_names_and_packed_files_name_the_way_out(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        add(tmp_path / "set", f"octa/{number}.png", f"by hand/{number}.png")
        noisy(tmp_path / "set" / "octa" / f"{number}.png")
    noisy(tmp_path / "set" / "thumbnails" / "1.png")
    for look in (lambda: ids(tmp_path / "set", "all"), lambda: check_dataset(config(tmp_path / "set"))):
        with pytest.raises(
            UserError, match=r"Say which are meant, such as --data\.images octa --data\.masks 'by hand'\."
        ):
            look()
    assert len(ids(tmp_path / "set", "all", images="octa", masks="by hand")) == 3
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "im0001.ppm.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"There is: im0001\.ppm\.gz\. Unpack what is packed \(gunzip, unzip\)"):
        ids(tmp_path / "packed", "train")
