"""The loaders on files in their layouts: what they read, and what they say about data that is not as it should be."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ducseg.classes import CAMVID, CITYSCAPES, VOC2012, ClassSet
from ducseg.data.config import DataConfig
from ducseg.data.layouts.cityscapes import LABEL_ID_TO_TRAIN_ID, Cityscapes
from ducseg.data.layouts.grouping import held_out
from ducseg.data.layouts.mask_files import values_in
from ducseg.data.layouts.mask_rule import find_rule
from ducseg.data.layouts.opening import LAYOUTS, open_dataset, open_layout
from ducseg.data.paired import SegmentationDataset
from ducseg.errors import UserError

CLASSES = ClassSet(names=("ground", "thing"), palette=((10, 20, 30), (200, 0, 0)))
SIZE = (12, 16)


def _open(dataset: str, root: Path, split: str = "train", **options: Any) -> SegmentationDataset:
    return open_dataset(DataConfig(dataset=dataset, root=str(root), **options), split)


def _picture(path: Path, seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def _mask(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def _values(upper: int, seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, upper, size).astype(np.uint8)


def _names(dataset: SegmentationDataset) -> list[str]:
    return list(dataset.ids)


# -- images/SPLIT, labels/SPLIT ----------------------------------------------------------------------------------------


@pytest.fixture
def split_folders(tmp_path: Path) -> Path:
    for name in ("b", "a", "c"):
        _picture(tmp_path / "images" / "train" / f"{name}.png", seed=ord(name))
        _mask(tmp_path / "labels" / "train" / f"{name}.png", _values(12, seed=ord(name)))
    return tmp_path


def test_camvid_reads_pairs_in_order_and_ignores_value_11(split_folders: Path) -> None:
    dataset = _open("camvid", split_folders, "train")
    assert (_names(dataset), len(dataset), dataset.classes) == (["a", "b", "c"], 3, CAMVID)
    sample = dataset[1]
    expected = _values(12, seed=ord("b"))
    expected[expected == 11] = 255
    np.testing.assert_array_equal(sample.label, expected)
    np.testing.assert_array_equal(sample.image, _picture(split_folders / "again.png", seed=ord("b")))
    assert (sample.id, sample.original_size) == ("b", SIZE)
    assert [s.id for s in dataset] == ["a", "b", "c"]  # a sequence: iteration ends


def test_camvids_train_and_val_together(shared: Path) -> None:
    whole = open_dataset(DataConfig(dataset="camvid", root=str(shared / "data" / "camvid")), "train+val")
    assert len(whole) == 367 + 101


def test_split_folders_take_other_classes_and_only_their_void(split_folders: Path) -> None:
    np.testing.assert_array_equal(
        _open("split-folders", split_folders, "train", classes="cityscapes")[0].label, _values(12, seed=ord("a"))
    )
    with pytest.raises(UserError, match=r"a\.png: found value 11 in \d+ pixels; needed 0\.\.10, or 255"):
        _open("split-folders", split_folders, "train", classes="camvid")[0]
    _mask(split_folders / "labels" / "train" / "a.png", np.full(SIZE, 12))
    with pytest.raises(UserError, match=r"value 12 in 192 pixels"):
        _open("camvid", split_folders, "train")[0]


@pytest.mark.shared
def test_real_camvid(shared: Path) -> None:
    counts = {split: len(_open("camvid", shared / "data" / "camvid", split)) for split in ("train", "val", "test")}
    assert counts == {"train": 367, "val": 101, "test": 233}
    sample = _open("camvid", shared / "data" / "camvid", "val")[50]
    assert sample.image.shape == (360, 480, 3)
    assert sample.label is not None
    assert set(np.unique(sample.label)) <= {*range(11), 255}


@pytest.mark.slow
@pytest.mark.shared
def test_small_real_cityscapes(shared: Path) -> None:
    dataset = _open("split-folders", shared / "data" / "cityscapes_256", "val", classes="cityscapes")
    assert len(dataset) == 500
    assert dataset[7].image.shape == (256, 256, 3)


# -- Cityscapes --------------------------------------------------------------------------------------------------------


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    for city, frame in (("ulm", "ulm_000001_000019"), ("bonn", "bonn_000002_000019")):
        _picture(tmp_path / "leftImg8bit" / "train" / city / f"{frame}_leftImg8bit.png")
        folder = tmp_path / "gtFine" / "train" / city
        _mask(folder / f"{frame}_gtFine_labelIds.png", np.arange(12 * 16).reshape(SIZE) % 34)
        _mask(folder / f"{frame}_gtFine_instanceIds.png", _values(255))
    return tmp_path


def test_label_ids_become_train_ids(cityscapes: Path) -> None:
    dataset = Cityscapes(cityscapes, "train")
    assert _names(dataset) == ["bonn_000002_000019", "ulm_000001_000019"]
    ids = np.arange(12 * 16).reshape(SIZE) % 34
    expected = [[LABEL_ID_TO_TRAIN_ID.get(int(value), 255) for value in row] for row in ids]
    np.testing.assert_array_equal(dataset[0].label, expected)


def test_the_table_is_that_of_cityscapes_scripts() -> None:
    """Names by label id as in cityscapesScripts' labels.py, which the class names must follow."""
    names = {
        7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light",
        20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car",
        27: "truck", 28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle",
    }  # fmt: skip
    assert {label_id: CITYSCAPES.names[train_id] for label_id, train_id in LABEL_ID_TO_TRAIN_ID.items()} == names


def test_values_that_are_no_label_id_are_refused(cityscapes: Path) -> None:
    label = np.zeros(SIZE)
    label[0, :5], label[1, 0] = 40, 255
    _mask(cityscapes / "gtFine" / "train" / "ulm" / "ulm_000001_000019_gtFine_labelIds.png", label)
    with pytest.raises(UserError, match=r"labelIds\.png\): found value 40 in 5 pixels; needed 0\.\.33, or 255"):
        Cityscapes(cityscapes, "train")[1]


@pytest.mark.shared
def test_real_cityscapes_frames(shared: Path) -> None:
    dataset = Cityscapes(shared / "data" / "cityscapes", "val")
    sample = dataset[0]
    assert (len(dataset), sample.image.shape) == (3, (1024, 2048, 3))
    assert sample.label is not None
    shares = np.bincount(sample.label.ravel(), minlength=256) / sample.label.size
    assert shares[0] > 0.2  # road
    assert shares[19:255].sum() == 0
    assert set(np.unique(sample.label[:100])) & {2, 8, 10}  # buildings, trees or sky at the top
    assert sample.label[700, 1024] == 0  # and road ahead


# -- folder ------------------------------------------------------------------------------------------------------------


def _folder(root: Path, split: str, **options: Any) -> SegmentationDataset:
    (root / "classes.json").write_text(json.dumps(CLASSES.to_json()))
    return _open("folder", root, split, **options)


def _flat(root: Path, count: int, write: Callable[[Path, np.ndarray], None] = _mask) -> tuple[Path, Path]:
    for n in range(count):
        _picture(root / "images" / f"p{n:02}.jpg", seed=n)
        write(root / "masks" / f"p{n:02}.png", _values(2, seed=n))
    return root / "images", root / "masks"


def _colour_mask(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(CLASSES.palette, dtype=np.uint8)[values]).save(path)


def _palette_colour_mask(path: Path, values: np.ndarray) -> None:
    """A colour mask as an editor saves it: palette entries in the order of their first use, not of the classes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    order = CLASSES.palette if values[0, 0] == 0 else CLASSES.palette[::-1]
    picture = Image.fromarray(values if values[0, 0] == 0 else 1 - values)
    picture.putpalette([channel for colour in order for channel in colour])
    picture.save(path)


def _voc_palette_index_mask(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(values)
    picture.putpalette([channel for colour in VOC2012.palette for channel in colour])
    picture.save(path)


@pytest.mark.parametrize(
    ("write", "line"),
    [
        (_mask, "masks: values 0, 1 -> ground, thing"),
        (_colour_mask, "masks: colours (10, 20, 30), (200, 0, 0) -> ground, thing"),
        (_palette_colour_mask, "masks: colours (10, 20, 30), (200, 0, 0) -> ground, thing"),
        (_voc_palette_index_mask, "masks: values 0, 1 -> ground, thing"),
    ],
)
def test_masks_of_either_kind_are_seen_and_read(
    tmp_path: Path, write: Callable[[Path, np.ndarray], None], line: str
) -> None:
    _flat(tmp_path, 5, write)
    dataset = _folder(tmp_path, "all")
    assert open_layout(DataConfig(dataset="folder", root=str(tmp_path))).rules.notes == (line,)
    assert _names(dataset) == [f"p{n:02}" for n in range(5)]
    for n, sample in enumerate(dataset):
        np.testing.assert_array_equal(sample.label, _values(2, seed=n))


def test_masks_as_overrides_the_look(tmp_path: Path) -> None:
    _flat(tmp_path, 3, _palette_colour_mask)
    forced = _folder(tmp_path, "all", masks_as="index")
    for n in range(3):
        values = _values(2, seed=n)
        np.testing.assert_array_equal(forced[n].label, values if values[0, 0] == 0 else 1 - values)


def test_ignored_colours(tmp_path: Path) -> None:
    def with_black(path: Path, values: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.array(CLASSES.palette, dtype=np.uint8)[values]
        pixels[0, :4] = 0
        Image.fromarray(pixels).save(path)

    _flat(tmp_path, 2, with_black)
    with pytest.raises(UserError, match=r"found \(0, 0, 0\) in 4 pixels; .*--data\.ignore-colours"):
        _folder(tmp_path, "all")[0]
    label = _folder(tmp_path, "all", ignore_colours=((0, 0, 0),))[0].label
    assert label is not None
    assert ((label == 255) == (np.add.outer(np.arange(12) * 16, np.arange(16)) < 4)).all()


def test_both_kinds_in_one_folder_are_refused(tmp_path: Path) -> None:
    _flat(tmp_path, 4)
    _colour_mask(tmp_path / "masks" / "p02.png", _values(2))
    with pytest.raises(UserError, match=r"found indices \(p\d\d\.png\) and colours \(p02\.png\)"):
        _folder(tmp_path, "train")


@pytest.mark.shared
def test_voc_masks_are_indices(shared: Path) -> None:
    looks, unreadable = values_in(sorted((shared / "data" / "voc2012" / "masks").iterdir()))
    rule = find_rule(looks, VOC2012)
    assert (unreadable, rule.as_colours, rule.problem) == ([], False, None)
    assert all(rule.meaning[value] == value for look in looks for value in look.counts)


def test_flat_folders_are_split_without_overlap_and_for_good(tmp_path: Path) -> None:
    _flat(tmp_path, 20)
    train, validation = (set(_folder(tmp_path, s, val_fraction=0.2).ids) for s in ("train", "val"))
    assert (len(train), len(validation), train & validation) == (16, 4, set())
    names = sorted(train | validation)
    assert validation == held_out(names, 0.2) == held_out(names[::-1], 0.2)
    assert held_out(names, 0.2) < held_out(names, 0.4)
    assert (len(held_out(names, 0.001)), len(held_out(names, 0.999))) == (1, 19)


def test_sorted_folders_are_taken_as_they_are(tmp_path: Path) -> None:
    for split, name in (("train", "a"), ("train", "b"), ("val", "c"), ("extra", "d")):
        _picture(tmp_path / "images" / split / f"{name}.png")
        _mask(tmp_path / "masks" / split / f"{name}.png", _values(2))
    names = {s: _names(_folder(tmp_path, s)) for s in ("train", "val", "extra")}
    assert names == {"train": ["a", "b"], "val": ["c"], "extra": ["d"]}


def test_folder_problems_are_explained(tmp_path: Path) -> None:
    images, masks = _flat(tmp_path, 3)
    with pytest.raises(
        UserError, match=r'split .test.: found no sub-folder .*"train", "val" or "all".*--data.test-fraction'
    ):
        _folder(tmp_path, "test")
    with pytest.raises(UserError, match=r"--data\.val-fraction 1 must be a number above 0 and below 1"):
        _folder(tmp_path, "train", val_fraction=1)
    with pytest.raises(UserError, match=r"nowhere: found no .* does not exist\)"):
        _open("folder", tmp_path / "nowhere", classes="voc2012")
    with pytest.raises(UserError, match=r"found 3 pictures and no masks.*--data\.masks DIR"):
        _open("folder", images, classes="voc2012")
    _picture(images / "p00.png")
    with pytest.raises(UserError, match=r"found p00\.jpg and p00\.png; needed one picture a name"):
        _folder(tmp_path, "train")
    (images / "p00.png").unlink()
    for name in ("p00", "p01"):
        (images / f"{name}.jpg").unlink()
        (masks / f"{name}.png").unlink()
    with pytest.raises(UserError, match="images to split: found 1; needed at least 2"):
        _folder(tmp_path, "train")


# -- what all share ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYOUTS)
def test_no_such_data_says_where_it_looked_and_what_it_needs(name: str, tmp_path: Path) -> None:
    def make(root: Path) -> SegmentationDataset:
        return _open(name, root, classes="voc2012" if name in ("folder", "split-folders") else None)

    with pytest.raises(UserError, match=r"away: found no .*does not exist\); needed .*Check the path"):
        make(tmp_path / "away")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"found no .*; needed .*There is: notes\.txt\. Give the folder"):
        make(tmp_path)
    (tmp_path / "data.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"found the archive data\.zip itself; needed .*Unpack it"):
        make(tmp_path / "data.zip")


def test_missing_split_is_named(split_folders: Path, cityscapes: Path) -> None:
    with pytest.raises(UserError, match=r"split 'val': found no sub-folder of this name \(there are: train\)"):
        _open("camvid", split_folders, "val")
    with pytest.raises(UserError, match=r"found no leftImg8bit/val/CITY"):
        Cityscapes(cityscapes, "val")


def test_frames_beside_and_below_the_cities_are_none(cityscapes: Path) -> None:
    before = Cityscapes(cityscapes, "train").ids
    split = cityscapes / "leftImg8bit" / "train"
    for place in (split, split / "a" / "b"):
        place.mkdir(exist_ok=True, parents=True)
        _picture(place / "x_0_0_leftImg8bit.png")
    assert Cityscapes(cityscapes, "train").ids == before


def test_all_without_partner_are_told_at_once(split_folders: Path) -> None:
    for n in range(7):
        _picture(split_folders / "images" / "train" / f"x{n}.png")
    (split_folders / "images" / "train" / "b.png").unlink()
    with pytest.raises(UserError) as caught:
        _open("camvid", split_folders, "train")
    assert "found 7 without a label (x0, x1, x2, x3, x4 and 2 more); 1 without an image (b);" in str(caught.value)


def test_files_that_are_no_pictures_are_passed_over(split_folders: Path) -> None:
    for name in (".DS_Store", "._a.png", "Thumbs.db", "notes.txt"):
        (split_folders / "images" / "train" / name).write_bytes(b"x")
    assert _names(_open("camvid", split_folders, "train")) == ["a", "b", "c"]


def test_label_of_another_size_is_refused(split_folders: Path) -> None:
    _mask(split_folders / "labels" / "train" / "a.png", np.zeros((16, 12)))
    with pytest.raises(UserError, match=r"a\.png: found 16 x 12 pixels \(H x W\); needed 12 x 16"):
        _open("camvid", split_folders, "train")[0]


def test_data_sets_can_be_sent_to_a_worker(split_folders: Path, cityscapes: Path) -> None:
    for dataset in (_open("camvid", split_folders, "train"), Cityscapes(cityscapes, "train")):
        again = pickle.loads(pickle.dumps(dataset))
        np.testing.assert_array_equal(again[1].label, dataset[1].label)
        assert again.ids == dataset.ids
