"""COCO's annotations as VOC masks: the decoder beside pycocotools, the painting rule, files that are not as needed."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ducseg.classes import VOC2012, VOC_PALETTE
from ducseg.data.convert.coco import CocoObject, CocoPicture, counts_of, decode, encode, read_instances
from ducseg.data.convert.coco_voc import COCO_TO_VOC, CocoVoc, paint, write_coco_masks
from ducseg.data.files.reading import colours_in_use, read_label
from ducseg.errors import UserError

CATEGORIES = [
    {"id": 1, "name": "person"}, {"id": 4, "name": "motorcycle"}, {"id": 63, "name": "couch"},
    {"id": 17, "name": "cat"}, {"id": 52, "name": "banana"},
]  # fmt: skip


def _box(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


# -- segmentations -----------------------------------------------------------------------------------------------------


def decode_segmentation(segmentation: Any, height: int, width: int) -> np.ndarray:
    return decode(encode(segmentation, height, width)["counts"], height, width)


coordinates = st.floats(-10, 60, allow_nan=False, width=32)
polygons = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=12)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools beside numpy 2
@given(points=polygons, size=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_polygons_equal_pycocotools(points: list[tuple[float, float]], size: tuple[int, int]) -> None:
    peer = pytest.importorskip("pycocotools.mask")
    polygon = [float(value) for point in points for value in point]
    expected = peer.decode(peer.frPyObjects([polygon], *size))[..., 0]
    np.testing.assert_array_equal(decode_segmentation([polygon], *size), expected)


@given(seed=st.integers(0, 10_000), size=st.tuples(st.integers(1, 30), st.integers(1, 30)), share=st.floats(0, 1))
def test_run_length_codes_equal_pycocotools(seed: int, size: tuple[int, int], share: float) -> None:
    peer = pytest.importorskip("pycocotools.mask")
    mask = np.random.default_rng(seed).random(size) < share
    code = peer.encode(np.asfortranarray(mask, dtype=np.uint8))
    compressed = {"size": list(size), "counts": code["counts"].decode()}
    np.testing.assert_array_equal(decode_segmentation(compressed, *size), mask)
    runs = {"size": list(size), "counts": counts_of(compressed["counts"]).tolist()}
    np.testing.assert_array_equal(decode_segmentation(runs, *size), mask)


def test_run_length_codes_run_down_the_columns() -> None:
    mask = decode_segmentation({"size": [2, 3], "counts": [1, 2, 3]}, 2, 3)
    assert mask.tolist() == [[False, True, False], [True, False, False]]


def test_several_polygons_are_one_object() -> None:
    mask = decode_segmentation([_box(1, 1, 3, 4), _box(5, 0, 8, 2)], 6, 10)
    assert mask.sum() == 2 * 3 + 3 * 2
    assert mask[1:4, 1:3].all()
    assert mask[:2, 5:8].all()


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1.0, 2.0, 3.0, 4.0]], "a polygon of 4 numbers"),
        ("text", "found 'text'"),
        ({"size": [4, 5], "counts": [20]}, r"of size \(4, 5\) in a picture of 5 x 4"),
        ({"size": [5, 4], "counts": [7, 3]}, "of 10 pixels in a picture of 5 x 4"),
        ({"size": [5, 4], "counts": "\x10"}, "the character"),
        ({"size": [5, 4], "counts": "7o"}, "cut off"),
        ({"size": [5, 4], "counts": ""}, "cut off"),
        ({"size": [5, 4], "counts": "oooooooo0"}, "beyond 32 bits"),
        ({"size": [5, 4], "counts": "0"}, "of 0 pixels in a picture of 5 x 4"),
        ({"size": [5, 4], "counts": []}, "of 0 pixels in a picture of 5 x 4"),
        ({"size": [5, 4], "counts": [-1, 21]}, "of 20 pixels"),
        ({"size": [5, 4], "counts": [["x"]]}, "no list of whole numbers"),
        ([[1.0, 2.0, 3.0, 4.0, 5.0, float("nan")]], "far outside"),
        ([[1.0, 2.0, 3.0, 4.0, 5.0, 1e9]], "far outside"),
        ([[1.0, 2.0, 3.0, 4.0, 5.0, "x"]], "no number"),
        ([7.0, 8.0, 9.0, 7.0, 8.0, 9.0], "a polygon of 7.0"),
    ],
)
def test_segmentations_that_are_none(segmentation: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        decode_segmentation(segmentation, 5, 4)


# -- painting ----------------------------------------------------------------------------------------------------------


def _object(label: int, box: list[float], *, crowd: bool = False) -> CocoObject:
    code = encode([box], 12, 16)
    return CocoObject(label, crowd, int(decode(code["counts"], 12, 16).sum()), code["counts"])


def test_smaller_objects_lie_on_top_and_crowds_below() -> None:
    objects = [
        _object(8, _box(4, 4, 8, 8)),
        _object(15, _box(0, 0, 10, 10), crowd=True),
        _object(18, _box(2, 2, 9, 9)),
        _object(3, _box(12, 0, 14, 2)),
        _object(4, _box(12, 0, 14, 2)),
    ]
    canvas = paint(CocoPicture("a.jpg", 12, 16, objects), {label: label for label in range(21)})
    expected = np.zeros((12, 16), np.uint8)
    expected[:10, :10], expected[2:9, 2:9], expected[4:8, 4:8], expected[:2, 12:14] = 255, 18, 8, 4
    np.testing.assert_array_equal(canvas, expected)


def test_a_segmentation_that_does_not_decode_names_its_annotation(tmp_path: Path) -> None:
    content = json.loads(_instances(tmp_path).read_text())
    content["annotations"][4]["segmentation"] = [[1, 2]]
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="annotation 4: segmentation: found a polygon of 2 numbers"):
        write_coco_masks(tmp_path / "x.json", tmp_path / "out")
    assert not (tmp_path / "out" / "masks").exists()


def test_areas_are_counted_and_other_categories_left(tmp_path: Path) -> None:
    categories, pictures = read_instances(_instances(tmp_path), wanted=lambda name: name == "person")
    assert [category["name"] for category in categories] == [category["name"] for category in CATEGORIES]
    found = {
        picture.file_name: [(one.category, one.crowd, one.area) for one in picture.objects] for picture in pictures
    }
    assert found["000000000001.jpg"] == [(1, False, 40 * 30), (1, True, 80)]
    assert found["two.jpg"] == found["four.jpg"] == []


def test_vocs_20_classes_have_one_category_each() -> None:
    coco = """person bicycle car motorcycle airplane bus train truck boat bird cat dog horse sheep cow bottle chair
        couch_ potted_plant dining_table tv""".replace("couch_", "couch").split()
    names = [name.replace("_", " ") for name in coco]
    assert sorted(COCO_TO_VOC[name] for name in names if name in COCO_TO_VOC) == sorted(VOC2012.names[1:])


# -- from JSON to masks ------------------------------------------------------------------------------------------------


def _instances(root: Path) -> Path:
    """Four pictures of 40x50: kept; too few pixels; a banana alone; none at all."""
    big, small = _box(5, 5, 45, 35), _box(0, 0, 40, 25)
    annotations = [
        {"image_id": 1, "category_id": 1, "segmentation": [big], "iscrowd": 0},
        {"image_id": 2, "category_id": 17, "segmentation": [small], "iscrowd": 0},
        {"image_id": 1, "category_id": 52, "segmentation": [_box(0, 0, 50, 40)], "iscrowd": 0},
        {"image_id": 3, "category_id": 52, "segmentation": [big], "iscrowd": 0},
        {"image_id": 1, "category_id": 4, "segmentation": [_box(10, 10, 20, 20)], "iscrowd": 0},
        {"image_id": 1, "category_id": 1, "segmentation": {"size": [40, 50], "counts": [0, 80, 1920]}, "iscrowd": 1},
    ]
    for number, annotation in enumerate(annotations):
        annotation["id"] = number
    names = {1: "000000000001.jpg", 2: "two.jpg", 3: "three.jpg", 4: "four.jpg"}
    content = {
        "info": {"description": "Caf\u00e9", "year": 2017},
        "licenses": [],
        "images": [{"id": key, "file_name": name, "height": 40, "width": 50} for key, name in names.items()],
        "annotations": annotations,
        "categories": CATEGORIES,
    }
    root.mkdir(parents=True, exist_ok=True)
    file = root / "instances.json"
    file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    for name in names.values():
        (root / "images" / "train2017").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((40, 50, 3), 90, np.uint8)).save(root / "images" / "train2017" / name)
    return file


@pytest.mark.parametrize("workers", [1, 2])
def test_masks_of_pictures_with_more_than_1000_labelled_pixels(tmp_path: Path, workers: int) -> None:
    instances, seen = _instances(tmp_path), []
    kept = write_coco_masks(instances, tmp_path, num_workers=workers, progress=lambda *at: seen.append(at))
    assert (kept, seen) == (1, [(1, 2), (2, 2)])
    expected = np.zeros((40, 50), np.uint8)
    expected[:, :2] = 255
    expected[5:35, 5:45] = 15
    expected[10:20, 10:20] = 14
    mask = tmp_path / "masks" / "000000000001.png"
    np.testing.assert_array_equal(read_label(mask), expected)
    assert colours_in_use(mask) == ("P", {value: VOC_PALETTE[value] for value in (0, 14, 15, 255)})
    assert [file.name for file in (tmp_path / "masks").iterdir()] == ["000000000001.png"]
    dataset = CocoVoc(tmp_path)
    assert (dataset.ids, dataset.classes) == (("000000000001",), VOC2012)
    np.testing.assert_array_equal(dataset[0].label, expected)


def test_masks_that_are_there_stay(tmp_path: Path) -> None:
    instances = _instances(tmp_path)
    (tmp_path / "masks").mkdir()
    with pytest.raises(UserError, match="masks: found one already"):
        write_coco_masks(instances, tmp_path)


def test_pictures_that_are_missing(tmp_path: Path) -> None:
    write_coco_masks(_instances(tmp_path), tmp_path)
    (tmp_path / "images" / "train2017" / "000000000001.jpg").unlink()
    with pytest.raises(UserError, match="1 masks without a picture in images/: 000000000001"):
        CocoVoc(tmp_path)
    with pytest.raises(UserError, match=r"no masks/\*\.png"):
        CocoVoc(tmp_path / "images")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [{"id": 1, "file_na', "no whole JSON"),
        ('{"images": []', "no whole JSON"),
        ('[{"id": 1}]', "no images, annotations or categories"),
        ("\ufffe{", "no whole JSON"),
        ('{"annotations": [{"image_id": 1, "caption": "x"}]}', "without 'category_id'"),
        ('{"images": [], "annotations": [], "categories": []}', "no images, annotations or categories"),
        ("", "no whole JSON"),
    ],
)
def test_files_that_are_no_instances(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=message):
        write_coco_masks(tmp_path / "x.json", tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))


def test_what_a_killed_run_left_does_not_mix_in(tmp_path: Path) -> None:
    (tmp_path / ".masks.unfinished").mkdir()
    (tmp_path / ".masks.unfinished" / "two.png").write_bytes(b"old")
    write_coco_masks(_instances(tmp_path), tmp_path)
    assert [file.name for file in (tmp_path / "masks").iterdir()] == ["000000000001.png"]
    assert not (tmp_path / ".masks.unfinished").exists()


def test_two_pictures_of_one_name_are_refused(tmp_path: Path) -> None:
    content = json.loads(_instances(tmp_path).read_text())
    content["images"][0]["file_name"], content["images"][1]["file_name"] = "a/one.jpg", "b/one.jpg"
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"two pictures of one name, a/one\.jpg and b/one\.jpg"):
        write_coco_masks(tmp_path / "x.json", tmp_path)
    write_coco_masks(tmp_path / "instances.json", tmp_path)
    (tmp_path / "images" / "val2017").mkdir()
    shutil.copy(tmp_path / "images/train2017/000000000001.jpg", tmp_path / "images/val2017/000000000001.png")
    with pytest.raises(UserError, match=r"two pictures of one name, .*train2017.* and .*val2017"):
        CocoVoc(tmp_path)


def test_annotations_of_an_unknown_picture(tmp_path: Path) -> None:
    content = json.loads(_instances(tmp_path).read_text())
    content["images"] = content["images"][1:]
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="annotations of picture 1, which is not among its images"):
        write_coco_masks(tmp_path / "x.json", tmp_path)
    with pytest.raises(UserError, match="No such file"):
        write_coco_masks(tmp_path / "none.json", tmp_path)


def test_annotations_of_an_unknown_category(tmp_path: Path) -> None:
    content = json.loads(_instances(tmp_path).read_text())
    content["annotations"][0]["category_id"] = 4711
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="annotations of category 4711, which is not among its categories"):
        write_coco_masks(tmp_path / "x.json", tmp_path)
    assert not (tmp_path / "masks").exists()
