"""COCO's annotations as VOC masks: the decoder beside pycocotools, the painting rule, files that are not as needed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ducseg.classes import VOC2012
from ducseg.data.convert import json_stream
from ducseg.data.convert.coco_masks import decode_counts, decode_segmentation, draw_polygon
from ducseg.data.convert.coco_voc import COCO_TO_VOC, CocoVoc, paint, write_coco_masks
from ducseg.data.convert.json_stream import elements, read_element
from ducseg.data.files.indexed_png import VOC_PALETTE
from ducseg.data.files.reading import colours_in_use, read_label
from ducseg.errors import UserError

CATEGORIES = [
    {"id": 1, "name": "person"}, {"id": 4, "name": "motorcycle"}, {"id": 63, "name": "couch"},
    {"id": 17, "name": "cat"}, {"id": 52, "name": "banana"},
]  # fmt: skip


def _box(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


# -- segmentations -----------------------------------------------------------------------------------------------------

coordinates = st.floats(-10, 60, allow_nan=False, width=32)
polygons = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=12)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools beside numpy 2
@given(points=polygons, size=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_polygons_equal_pycocotools(points: list[tuple[float, float]], size: tuple[int, int]) -> None:
    peer = pytest.importorskip("pycocotools.mask")
    polygon = [float(value) for point in points for value in point]
    expected = peer.decode(peer.frPyObjects([polygon], *size))[..., 0]
    np.testing.assert_array_equal(draw_polygon(polygon, *size), expected)


@given(seed=st.integers(0, 10_000), size=st.tuples(st.integers(1, 30), st.integers(1, 30)), share=st.floats(0, 1))
def test_run_length_codes_equal_pycocotools(seed: int, size: tuple[int, int], share: float) -> None:
    peer = pytest.importorskip("pycocotools.mask")
    mask = np.random.default_rng(seed).random(size) < share
    code = peer.encode(np.asfortranarray(mask, dtype=np.uint8))
    compressed = {"size": list(size), "counts": code["counts"].decode()}
    np.testing.assert_array_equal(decode_segmentation(compressed, *size), mask)
    runs = {"size": list(size), "counts": decode_counts(compressed["counts"]).tolist()}
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
    ],
)
def test_segmentations_that_are_none(segmentation: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        decode_segmentation(segmentation, 5, 4)


# -- painting ----------------------------------------------------------------------------------------------------------


def _annotation(box: list[float], *, crowd: bool = False) -> dict[str, Any]:
    return {"id": 7, "segmentation": [box], "iscrowd": int(crowd)}


def test_smaller_objects_lie_on_top_and_crowds_below() -> None:
    canvas = paint(
        [
            (8, _annotation(_box(4, 4, 8, 8))),
            (15, _annotation(_box(0, 0, 10, 10), crowd=True)),
            (18, _annotation(_box(2, 2, 9, 9))),
            (3, _annotation(_box(12, 0, 14, 2))),
            (4, _annotation(_box(12, 0, 14, 2))),
        ],
        12,
        16,
    )
    expected = np.zeros((12, 16), np.uint8)
    expected[:10, :10], expected[2:9, 2:9], expected[4:8, 4:8], expected[:2, 12:14] = 255, 18, 8, 4
    np.testing.assert_array_equal(canvas, expected)


def test_a_segmentation_that_does_not_decode_names_its_annotation() -> None:
    with pytest.raises(UserError, match="annotation 7: segmentation: found a polygon of 2 numbers"):
        paint([(1, {"id": 7, "segmentation": [[1, 2]]})], 4, 4)


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
        ('{"images": [{"id": 1, "file_na', "no value"),
        ('{"images": []', "its end at byte 13"),
        ('[{"id": 1}]', r"'\[' where \{ belongs"),
        ('{"annotations": [{"image_id": 1, "caption": "x"}]}', "without 'category_id'"),
        ('{"images": [], "annotations": [], "categories": []}', "no images, annotations or categories"),
        ("", "its end at byte 0"),
    ],
)
def test_files_that_are_no_instances(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=message):
        write_coco_masks(tmp_path / "x.json", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_annotations_of_an_unknown_picture(tmp_path: Path) -> None:
    content = json.loads(_instances(tmp_path).read_text())
    content["images"] = content["images"][1:]
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="annotations of picture 1, which is not among its images"):
        write_coco_masks(tmp_path / "x.json", tmp_path)
    with pytest.raises(UserError, match="No such file"):
        write_coco_masks(tmp_path / "none.json", tmp_path)


# -- the stream --------------------------------------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(
    content=st.dictionaries(st.text(max_size=5), st.lists(values, max_size=5) | values, max_size=4),
    chunk=st.integers(1, 40),
    indent=st.sampled_from([None, 1]),
    escape=st.booleans(),
)
def test_the_stream_gives_each_element_and_its_place_whatever_the_chunks(
    content: dict[str, Any], chunk: int, indent: int | None, escape: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("json") / "x.json"
    path.write_bytes(json.dumps(content, indent=indent, ensure_ascii=escape).encode("utf-8", "surrogatepass"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK", chunk)
        found = list(elements(path))
    expected = [element for value in content.values() if isinstance(value, list) for element in value]
    assert [read_element(path, element.offset, element.length) for element in found] == expected
