"""The doctor: each thing that can be wrong with a data set is found, named with its file, and nothing else is."""

import json
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ducseg.classes import CITYSCAPES, VOC2012, ClassSet
from ducseg.cli import main
from ducseg.data.check import doctor
from ducseg.data.check.doctor import Report
from ducseg.data.check.files import Examiner, Pair
from ducseg.data.check.report import CHECKS, check_and_print
from ducseg.data.config import DataConfig
from ducseg.data.files.reading import read_label, read_turned
from ducseg.data.layouts.cityscapes import LABEL_ID_TO_TRAIN_ID, looks_like_train_ids
from ducseg.data.layouts.layout import LabelRules
from ducseg.data.layouts.opening import LAYOUTS, open_dataset
from ducseg.data.synthetic.cityscapes import write_cityscapes
from ducseg.errors import UserError


def check_dataset(
    dataset: str,
    root: Path,
    *,
    num_workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Report:
    config = DataConfig(dataset=dataset, root=str(root), **options)
    return doctor.check_dataset(config, num_workers=num_workers, progress=progress)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clean") / "scenes"
    write_cityscapes(root, num_train=4, num_val=2, height=96, width=192)
    return root


@pytest.fixture
def root(clean: Path, tmp_path: Path) -> Path:
    """Scenes to damage; the validation frames are another drive than the training frames."""
    shutil.copytree(clean, tmp_path / "scenes")
    return tmp_path / "scenes"


def _image(root: Path, number: int = 0, split: str = "train") -> Path:
    return sorted((root / "leftImg8bit" / split).rglob("*.png"))[number]


def _label(root: Path, number: int = 0, split: str = "train") -> Path:
    return sorted((root / "gtFine" / split).rglob("*_labelIds.png"))[number]


UNSEEN = ("class never seen", "class not validated")


def _kinds(report: Report) -> list[str]:
    """Of what is wrong; a few small scenes do not show every class, which is no part of these tests."""
    return [finding.kind for finding in report.findings if finding.kind not in UNSEEN]


def _only(root: Path, kind: str, file: Path) -> str:
    """The message of the one finding, which concerns the file."""
    report = check_dataset("cityscapes", root)
    assert _kinds(report) == [kind]
    finding = next(finding for finding in report.findings if finding.kind == kind)
    assert finding.files[0] == str(file)
    assert kind in CHECKS
    return finding.message


def _train_ids(path: Path) -> np.ndarray:
    ids = read_label(path)
    return np.vectorize(lambda value: LABEL_ID_TO_TRAIN_ID.get(value, 255))(ids).astype(np.uint8)


# -- what is right -----------------------------------------------------------------------------------------------------


def test_clean_scenes_have_no_errors_and_right_counts(clean: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = check_dataset("cityscapes", clean, progress=lambda *now: seen.append(now))
    assert report.ok
    assert _kinds(report) == []
    assert seen == [(done, 6) for done in range(1, 7)]
    for split, count in (("train", 4), ("val", 2)):
        labels = [_train_ids(_label(clean, number, split)) for number in range(count)]
        found = report.splits[split]
        assert (found.images, found.labels, found.sizes) == (count, count, {"96x192": count})
        assert found.ignored_pixels == sum(int((label == 255).sum()) for label in labels)
        for train_id, name in enumerate(CITYSCAPES.names):
            pixels = [int((label == train_id).sum()) for label in labels]
            assert found.classes[name] == {"pixels": sum(pixels), "images": sum(map(bool, pixels))}


def test_shared_data_sets_have_no_errors(shared: Path) -> None:
    report = check_dataset("cityscapes", shared / "data" / "cityscapes")
    assert report.ok
    assert (report.splits["train"].images, report.splits["val"].images) == (5, 3)
    road = check_dataset("kitti-road", shared / "data" / "kitti_road")
    assert road.ok
    assert road.splits["training"].sizes == {"375x1242": 3, "376x1241": 1}
    assert road.splits["training"].classes["road"]["images"] == 4


def test_several_processes_find_the_same(root: Path) -> None:
    _label(root, 1).write_bytes(b"")
    _image(root, 3).unlink()
    one, two = (check_dataset("cityscapes", root, num_workers=workers) for workers in (1, 2))
    assert _kinds(one) == ["unreadable", "missing partner"]
    assert (one.findings, one.splits) == (two.findings, two.splits)


# -- what is wrong -----------------------------------------------------------------------------------------------------


def test_missing_partners(root: Path) -> None:
    image, label = _image(root, 1), _label(root, 2)
    _label(root, 1).unlink()
    assert "found no label; needed the label of synthetic_000000_000001. Add" in _only(root, "missing partner", image)
    shutil.copy(label, _label(root, 0).with_name("synthetic_000000_000001_gtFine_labelIds.png"))
    _image(root, 2).unlink()
    assert "found no image" in _only(root, "missing partner", label)


@pytest.mark.parametrize("place", [_image, _label])
@pytest.mark.parametrize("damage", ["cut off", "empty", "no picture", "bit"])
def test_unreadable_files(root: Path, place: Callable[[Path], Path], damage: str) -> None:
    data = bytearray(place(root).read_bytes())
    data[len(data) // 2] ^= 4
    contents = {"cut off": data[: len(data) // 2], "empty": b"", "no picture": b"<html>", "bit": bytes(data)}
    place(root).write_bytes(contents[damage])
    message = _only(root, "unreadable", place(root))
    assert "Copy or download it again" in message


def test_16_bit_images_and_colour_labels_are_of_the_wrong_mode(root: Path) -> None:
    pixels = cv2.imread(str(_image(root)))
    assert pixels is not None
    cv2.imwrite(str(_image(root)), pixels.astype(np.uint16) * 256)
    assert "needed 8 bits a channel. Convert it" in _only(root, "wrong mode", _image(root))
    cv2.imwrite(str(_image(root)), pixels)
    cv2.imwrite(str(_label(root)), pixels)
    assert "found RGB pixels" in _only(root, "wrong mode", _label(root))
    cv2.imwrite(str(_label(root)), np.full((96, 192), 26001, np.uint16))
    assert "found 16-bit values up to 26001" in _only(root, "wrong mode", _label(root))


def test_rgba_images_are_warned_of_and_grey_ones_said(root: Path) -> None:
    with Image.open(_image(root)) as picture:
        rgba, grey = picture.convert("RGBA"), picture.convert("L")
    rgba.save(_image(root))
    assert "found alpha, which is dropped; needed RGB" in _only(root, "unusual mode", _image(root))
    assert check_dataset("cityscapes", root).ok
    grey.save(_image(root))
    report = check_dataset("cityscapes", root)
    assert _kinds(report) == [] and report.notes[-1].startswith("1 of 6 pictures are grey (8 bits): they are taken as")
    with Image.open(_label(root)) as picture:
        wide = np.asarray(picture).astype(np.uint16)
    cv2.imwrite(str(_label(root)), wide)
    assert _kinds(check_dataset("cityscapes", root)) == ["unusual mode"]


def test_grey_pictures_are_said_in_one_line_and_empty_rows_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _folder(tmp_path, [np.eye(8, dtype=np.uint8)] * 3)
    for file in (tmp_path / "images").iterdir():
        with Image.open(file) as picture:
            picture.convert("L").save(file)
    assert check_and_print(DataConfig(dataset="folder", root=str(tmp_path))) == 0
    printed = capsys.readouterr().out
    assert "3 of 3 pictures are grey (8 bits): they are taken as RGB of three equal channels; --data.as" in printed
    assert "unusual mode" not in printed and "unreadable" not in printed and "0 errors, 0 warnings" in printed
    assert "crack" in printed and "images" in printed


def test_sizes_that_differ(root: Path) -> None:
    Image.new("L", (192, 95), 7).save(_label(root))
    message = _only(root, "sizes differ", _label(root))
    assert "found 95 x 192 pixels (H x W); needed 96 x 192" in message


def test_stray_values_with_their_numbers(root: Path) -> None:
    label = read_label(_label(root))
    label[0, :7], label[1, :2] = 34, 200
    Image.fromarray(label).save(_label(root))
    assert "found value 34 in 7 pixels, value 200 in 2 pixels; needed 0..33" in _only(
        root, "stray values", _label(root)
    )


def test_train_ids_where_label_ids_belong(root: Path) -> None:
    Image.fromarray(_train_ids(_label(root))).save(_label(root))
    assert "which look like train ids; needed label ids" in _only(root, "train ids", _label(root))


def test_duplicates_and_leaks(root: Path) -> None:
    with Image.open(_image(root, 0)) as picture:
        picture.save(_image(root, 2), compress_level=9)  # other bytes, the same pixels
    assert _image(root, 0).read_bytes() != _image(root, 2).read_bytes()
    assert str(_image(root, 2)) in _only(root, "duplicate", _image(root, 0))
    assert check_dataset("cityscapes", root).ok
    shutil.copy(_image(root, 1), _image(root, 0, "val"))
    leaks = [found for found in check_dataset("cityscapes", root).findings if found.kind == "leak between splits"]
    assert [found.splits for found in leaks] == [("train", "val")]
    assert "Take it out of train or val" in leaks[0].message


def test_a_drive_in_two_splits_is_a_leak(root: Path) -> None:
    for place in (_image, _label):
        file = place(root, 0, "val")
        file.rename(file.with_name(file.name.replace("synthetic_000001_", "synthetic_000000_9")))
    report = check_dataset("cityscapes", root)
    assert _kinds(report) == ["leak between splits"]
    assert "drive synthetic_000000: found frames in train and val" in report.errors[0].message


def test_empty_splits_and_unseen_classes(root: Path) -> None:
    (root / "leftImg8bit" / "test").mkdir()
    report = check_dataset("cityscapes", root)
    assert _kinds(report) == ["empty split"]
    assert report.splits["test"].images == 0
    for number in range(4):
        Image.new("L", (192, 96), 26).save(_label(root, number))
    unseen = [found for found in check_dataset("cityscapes", root).findings if found.kind == "class never seen"]
    assert len(unseen) == 1
    assert "car" not in unseen[0].message.split("found no pixel of ")[1].split(";")[0].split(", ")
    assert "road" in unseen[0].message


def test_archives_and_other_folders_are_refused(root: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "leftImg8bit_trainvaltest.zip", "w") as archive:
        archive.writestr("a", "b")
    for name in LAYOUTS:
        with pytest.raises(UserError, match=r"found the archive leftImg8bit_trainvaltest\.zip itself.* Unpack it"):
            check_dataset(name, tmp_path / "leftImg8bit_trainvaltest.zip")
    with pytest.raises(UserError, match="There is: gtFine, leftImg8bit"):
        check_dataset("camvid", root)
    with pytest.raises(UserError, match="does not exist"):
        check_dataset("folder", root / "none")
    with pytest.raises(UserError, match="data set: found 'cityscape'; needed one of camvid, cityscapes"):
        check_dataset("cityscape", root)
    with pytest.raises(UserError, match=r"--data\.classes a\.json is for folder and split-folders, not for cityscapes"):
        check_dataset("cityscapes", root, classes="a.json")
    with pytest.raises(UserError, match="workers: found 0"):
        check_dataset("cityscapes", root, num_workers=0)


# -- other layouts -----------------------------------------------------------------------------------------------------

TWO = ClassSet(names=("ground", "crack"), palette=((0, 0, 0), (255, 0, 0)))


def _folder(root: Path, masks: list[np.ndarray], split: str = "") -> None:
    for number, mask in enumerate(masks):
        image = np.random.default_rng(number).integers(0, 256, (*mask.shape[:2], 3)).astype(np.uint8)
        for kind, pixels in (("images", image), ("masks", mask)):
            path = root / kind / split / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    (root / "classes.json").write_text(json.dumps(TWO.to_json()))


@pytest.mark.parametrize("split", ["", "train"])
def test_folder_with_index_masks(tmp_path: Path, split: str) -> None:
    masks = [np.eye(8, dtype=np.uint8), np.full((8, 8), 255, np.uint8)]
    _folder(tmp_path, masks, split)
    report = check_dataset("folder", tmp_path)
    assert report.findings == ()
    found = report.splits[split or "all"]
    assert found.ignored_pixels == 64
    assert found.classes["crack"] == {"pixels": 8, "images": 1}
    masks[0][0] = 2
    _folder(tmp_path, masks, split)
    assert "found value 2 in 8 pixels" in check_dataset("folder", tmp_path).errors[0].message


def test_masks_of_one_class_are_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _folder(tmp_path, [np.zeros((8, 8), np.uint8)])
    (tmp_path / "classes.json").unlink()
    assert check_and_print(DataConfig(dataset="folder", root=str(tmp_path))) == 1
    assert "error: masks: found values 0 -> background: one class; needed" in capsys.readouterr().out


def test_what_leaves_pictures_without_masks_out_is_said(tmp_path: Path) -> None:
    _folder(tmp_path, [np.eye(8, dtype=np.uint8)] * 3)
    (tmp_path / "masks" / "1.png").unlink()
    assert (
        check_dataset("folder", tmp_path)
        .notes[-1]
        .endswith("leaves them out, --data.unmasked-as background makes background of pictures without a mask")
    )
    left_out = doctor.check_dataset(DataConfig(dataset="folder", root=str(tmp_path), skip_unpaired=True))
    assert left_out.errors == () and "stop training" not in str(left_out.notes)


def test_folders_that_are_no_splits_are_not_called_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    places = {"oslo/p1a": noise[0], "oslo/p2a": noise[1], "rome/p1b": noise[0], "rome/p3b": noise[2]}
    for name, image in places.items():
        mask = np.full((8, 8), name.startswith("rome"), np.uint8)  # oslo has no crack, rome nothing else
        for kind, pixels in (("images", image), ("masks", mask)):
            (tmp_path / kind / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / kind / f"{name}.png")
    for kind in ("images", "masks"):
        (tmp_path / kind / "pisa").mkdir()
    (tmp_path / "classes.json").write_text(json.dumps(TWO.to_json()))
    config = DataConfig(dataset="folder", root=str(tmp_path), group_by=r"^(p\d)")
    assert check_and_print(config, json_path=tmp_path / "a.json") == 0
    printed = capsys.readouterr().out
    assert "folders: oslo, pisa, rome; none is called as a split is (train, val, test, ...)" in printed
    assert "warning: duplicate: " in printed and "empty split" not in printed and "leak" not in printed
    found = json.loads((tmp_path / "a.json").read_text())
    assert [one["kind"] for one in found["findings"]] == ["duplicate", "class not validated"]
    assert found["splits"]["rome"]["classes"]["crack"] == {"pixels": 128, "images": 2}
    for kind in ("images", "masks"):
        (tmp_path / kind / "rome").rename(tmp_path / kind / "Validation")
    assert check_and_print(config) == 1
    printed = capsys.readouterr().out
    assert "leak between splits: image" in printed and "leak between splits: drive p1" in printed
    assert "split pisa: found no images" in printed and "split oslo: found no pixel of crack" not in printed
    assert "none is called" not in printed


def test_a_class_that_no_folder_shows_is_said_of_all(tmp_path: Path) -> None:
    masks = [np.zeros((8, 8), np.uint8)]
    _folder(tmp_path, masks, "oslo")
    report = check_dataset("folder", tmp_path)
    assert [one.message.partition(";")[0] for one in report.findings] == ["all folders: found no pixel of crack"]
    assert check_dataset("split-folders", tmp_path).are_splits, "there, every folder is one"


@pytest.mark.parametrize("splits", [("", ""), ("train", "valid")])
def test_a_class_that_no_validation_picture_shows_is_warned_of(tmp_path: Path, splits: tuple[str, str]) -> None:
    ground, crack = np.zeros((8, 8), np.uint8), np.eye(8, dtype=np.uint8)
    _folder(tmp_path, [crack] * 12, splits[0])
    _folder(tmp_path, [ground], splits[1])
    held = open_dataset(DataConfig(dataset="folder", root=str(tmp_path)), "val").ids
    for name in held:
        Image.fromarray(ground).save(tmp_path / "masks" / splits[1] / f"{name}.png")
    (finding,) = [one for one in check_dataset("folder", tmp_path).findings if one.kind == "class not validated"]
    assert not finding.is_error
    assert "found no pixel of crack in its pictures (val)" in finding.message
    assert finding.kind in CHECKS


def test_folder_with_colour_masks(tmp_path: Path) -> None:
    mask = np.zeros((8, 8, 3), np.uint8)
    mask[:2] = (255, 0, 0)
    _folder(tmp_path, [mask, mask])
    assert check_dataset("folder", tmp_path).splits["all"].classes["crack"] == {"pixels": 32, "images": 2}
    mask[5, :3] = (254, 0, 0)
    _folder(tmp_path, [mask, mask * 0])
    report = check_dataset("folder", tmp_path)
    assert _kinds(report) == ["stray values"]
    assert "found (254, 0, 0) in 3 pixels" in report.errors[0].message


def test_split_folders_and_camvid(tmp_path: Path) -> None:
    _folder(tmp_path, [np.full((8, 8), 1, np.uint8)], "train")
    (tmp_path / "masks").rename(tmp_path / "labels")
    assert check_dataset("split-folders", tmp_path).splits["train"].classes["crack"]["pixels"] == 64
    named = check_dataset("split-folders", tmp_path, classes="cityscapes")
    assert named.splits["train"].classes["sidewalk"]["images"] == 1
    Image.new("L", (8, 8), 11).save(tmp_path / "labels" / "train" / "0.png")
    assert check_dataset("camvid", tmp_path).splits["train"].ignored_pixels == 64
    Image.new("L", (8, 8), 12).save(tmp_path / "labels" / "train" / "0.png")
    assert "value 12 in 64 pixels" in check_dataset("camvid", tmp_path).errors[0].message


def test_kitti_road(tmp_path: Path) -> None:
    truth = np.zeros((6, 8, 3), np.uint8)
    truth[2:, :, 0], truth[4:, :, 2] = 255, 255
    for folder, name, pixels in (
        ("training/image_2", "um_000000", truth + 3),
        ("training/gt_image_2", "um_road_000000", truth),
        ("training/gt_image_2", "um_lane_000000", truth),
        ("testing/image_2", "uu_000000", truth + 7),
    ):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / folder / f"{name}.png")
    report = check_dataset("kitti-road", tmp_path)
    assert report.findings == ()
    assert report.splits["training"].ignored_pixels == 16
    assert report.splits["training"].classes["road"]["pixels"] == 16
    assert report.splits["testing"].labels == 0
    Image.fromarray(truth[..., 0]).save(tmp_path / "training/gt_image_2/um_road_000000.png")
    assert _kinds(check_dataset("kitti-road", tmp_path)) == ["wrong mode"]


def test_voc2012(tmp_path: Path) -> None:
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationClassAug", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    palette = [channel for colour in VOC2012.palette for channel in colour]
    for number, name in enumerate("abcdef"):
        pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{name}.jpg")
        mask = Image.new("P", (8, 6), number)
        mask.putpalette(palette)
        mask.save(root / ("SegmentationClassAug" if name == "b" else "SegmentationClass") / f"{name}.png")
    for name, ids in (("train", "a"), ("train_aug", "ab"), ("val", "cd"), ("test", "f")):
        (root / "ImageSets/Segmentation" / f"{name}.txt").write_text("\n".join(ids))
    report = check_dataset("voc2012", tmp_path)
    assert _kinds(report) == []
    assert {name: (one.images, one.labels) for name, one in report.splits.items()} == {
        "train_aug": (2, 2),
        "val": (2, 2),
        "test": (1, 0),
    }
    assert report.splits["train_aug"].classes["aeroplane"] == {"pixels": 48, "images": 1}
    (root / "SegmentationClass" / "c.png").unlink()
    (root / "JPEGImages" / "c.jpg").unlink()
    (root / "JPEGImages" / "d.jpg").unlink()
    Image.new("L", (8, 6), 1).save(root / "SegmentationClass" / "a.png")
    assert _kinds(check_dataset("voc2012", tmp_path)) == [
        "unusual mode",
        "missing partner",
        "unreadable",
        "missing partner",
    ]


def test_masks_with_another_palette_are_warned_of(tmp_path: Path) -> None:
    rules = LabelRules(classes=VOC2012, palette=VOC2012.palette)
    label = Image.new("P", (8, 6), 1)
    pair = Pair(split="train", id="a", image=None, label=tmp_path / "a.png")
    for palette, expected in (
        (VOC2012.palette, None),
        (VOC2012.palette[::-1], r"another palette (index 1 is (128, 192, 0))"),
    ):
        label.putpalette([channel for colour in palette for channel in colour])
        label.save(tmp_path / "a.png")
        problems = [one for one in Examiner(rules)(pair).problems if one.kind == "unusual mode"]
        assert bool(problems) == bool(expected)
        assert not expected or expected in problems[0].message
    Image.new("L", (8, 6), 1).save(tmp_path / "a.png")
    assert "found mode L" in Examiner(rules)(pair).problems[1].message


# -- the look at train ids ---------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000), share=st.sampled_from([0.0, 0.1, 0.4]), present=st.integers(2, 19))
def test_train_ids_are_told_from_label_ids(seed: int, share: float, present: int) -> None:
    """Both encodings of the same made-up street: road, buildings and other classes, and some that is ignored."""
    rng = np.random.default_rng(seed)
    others = rng.permutation([train_id for train_id in range(19) if train_id not in (0, 2, 10)])[: present - 2]
    train = rng.choice(
        [0, 2, 10, *others], 5000, p=np.array([3, 2, 1, *np.full(len(others), 0.1)]) / (6 + len(others) / 10)
    )
    back = {train_id: label_id for label_id, train_id in LABEL_ID_TO_TRAIN_ID.items()}
    ids = np.vectorize(back.get)(train)
    ignored = rng.random(5000) < share
    for values, void, expected in ((train, 255, True), (ids, 3, False)):
        counts = np.bincount(np.where(ignored, void, values), minlength=256)
        assert looks_like_train_ids(counts) == expected


def test_files_without_classes_are_no_train_ids() -> None:
    for values in ([0], [0, 1, 2, 3], [255], [3, 7, 8]):
        assert not looks_like_train_ids(np.bincount(values * 5 + [7] * 20 * (7 in values), minlength=256))


# -- command -----------------------------------------------------------------------------------------------------------


def test_table_messages_json_and_exit_status(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_and_print(DataConfig(dataset="cityscapes", root=str(root)), json_path=tmp_path / "a.json") == 0
    capsys.readouterr()
    for number in range(3):
        _label(root, number).write_bytes(b"")
    for number in range(6, 12):
        shutil.copy(_image(root), _image(root).with_name(f"synthetic_000000_{number:06d}_leftImg8bit.png"))
    assert check_and_print(DataConfig(dataset="cityscapes", root=str(root)), json_path=tmp_path / "b.json") == 1
    printed = capsys.readouterr().out
    assert "error: unreadable: file " in printed
    assert printed.count("error: missing partner: ") == 5
    assert "... and 1 more: missing partner" in printed
    assert "9 errors, " in printed
    rows = {line.split("│")[1].strip(): line.split("│")[2].strip() for line in printed.splitlines() if "│" in line}
    assert (rows["images"], rows["labels"], rows["unreadable"], rows["missing partner"]) == ("10", "4", "3", "6")
    found = json.loads((tmp_path / "b.json").read_text())
    assert found["ok"] is False
    assert len([one for one in found["findings"] if one["level"] == "error"]) == 9
    assert found["splits"]["train"]["images"] == 10
    assert json.loads((tmp_path / "a.json").read_text())["ok"] is True


def test_what_is_wrong_with_all_masks_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shades = np.arange(200, dtype=np.uint8).reshape(10, 20)
    mask = np.dstack([shades, np.zeros_like(shades), shades])
    mask[5:] = 0, 255, 0
    _folder(tmp_path, [mask] * 3)
    (tmp_path / "classes.json").unlink()
    assert main(["data", "check", str(tmp_path), "--workers", "1"]) == 1  # a folder alone is one's own
    printed = capsys.readouterr().out
    assert "found 101 colours ((0, 255, 0) in 50.0 %, (" in printed
    assert printed.count("error: ") == 1 and "3 more: stray values" in printed
    assert "never seen" not in printed  # nothing was read


def _bomb(path: Path) -> None:
    """A PNG of a few hundred bytes that says it has 1,600 megapixels."""
    parts = [b"\x89PNG\r\n\x1a\n"]
    header = struct.pack(">IIBBBBB", 40000, 40000, 8, 0, 0, 0, 0)
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")):
        parts.append(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
    path.write_bytes(b"".join(parts))


@pytest.mark.parametrize("with_list", [True, False])
def test_no_bad_file_ends_the_check(tmp_path: Path, with_list: bool, capsys: pytest.CaptureFixture[str]) -> None:
    _folder(tmp_path, [np.roll(np.eye(8, dtype=np.uint8), shift, 1) * 255 for shift in range(8)])
    if not with_list:
        (tmp_path / "classes.json").unlink()
    _bomb(tmp_path / "masks" / "1.png")
    _bomb(tmp_path / "images" / "2.png")
    (tmp_path / "masks" / "3.png").write_bytes(b"")
    (tmp_path / "masks" / "4.png").unlink()
    (tmp_path / "masks" / "4.png").mkdir()
    colours = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "masks" / "5.png")
    assert check_and_print(DataConfig(dataset="folder", root=str(tmp_path)), json_path=tmp_path / "a.json") == 1
    found = json.loads((tmp_path / "a.json").read_text())
    by_kind = {
        (one["kind"], str(Path(file).relative_to(tmp_path))) for one in found["findings"] for file in one["files"]
    }
    assert by_kind == {
        ("unreadable", "masks/1.png"),
        ("unreadable", "images/2.png"),
        ("unreadable", "masks/3.png"),
        ("unreadable", "masks/4.png"),
        ("stray values", "masks/5.png"),
    }
    assert list(found["splits"]["all"]["classes"].values())[1]["images"] == 4
    assert "masks: values 0, 255 -> " in capsys.readouterr().out
    for mask in (tmp_path / "masks").glob("*.png"):
        mask.write_bytes(b"") if mask.is_file() else mask.rmdir()
    assert check_and_print(DataConfig(dataset="folder", root=str(tmp_path))) == 1


def test_an_error_of_a_decoder_is_one_finding(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(path: Path) -> tuple[np.ndarray, int]:
        if path == _image(root):
            raise MemoryError("40 GB")
        return read_turned(path)

    monkeypatch.setattr("ducseg.data.check.files.read_turned", failing)
    assert "MemoryError: 40 GB" in _only(root, "unreadable", _image(root))
