"""Other tools' annotations as masks: drawn as the tool draws them, classes and colours kept, whole or not at all."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ducseg.classes import ClassSet
from ducseg.cli import main
from ducseg.data.config import DataConfig
from ducseg.data.convert import coco_folder, cvat, label_studio, labelme, writing, yolo
from ducseg.data.convert.writing import write_folder
from ducseg.data.files.reading import colours_in_use, read_label
from ducseg.data.layouts.opening import open_dataset
from ducseg.errors import UserError

SIZE = (40, 60)


def _picture(path: Path, value: int = 0, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)
    return path


def _box(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def _area(box: tuple[int, int, int, int]) -> tuple[slice, slice]:
    return slice(box[1], box[3]), slice(box[0], box[2])


def _mask(out: Path, name: str) -> np.ndarray:
    return read_label(out / "masks" / f"{name}.png")


def _tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# -- COCO --------------------------------------------------------------------------------------------------------------


def _coco(folder: Path, names: Sequence[str] = ("a.jpg", "b.png")) -> dict[str, Any]:
    for name in names:
        _picture(folder / name)
    return {
        "images": [
            {"id": n, "file_name": name, "height": SIZE[0], "width": SIZE[1]} for n, name in enumerate(names)
        ],
        "categories": [{"id": 7, "name": "wire", "color": [1, 2, 3]}, {"id": 3, "name": "post"}],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 3, "segmentation": [_box(0, 0, 10, 10)], "iscrowd": 0},
            {"id": 2, "image_id": 0, "category_id": 7, "segmentation": [_box(2, 2, 20, 30)], "iscrowd": 0},
            {"id": 3, "image_id": 0, "category_id": 7, "iscrowd": 1,
             "segmentation": {"size": list(SIZE), "counts": [0, 80, 40 * 60 - 80]}},
        ],
    }  # fmt: skip


def _write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_coco_keeps_classes_colours_and_pictures_without_objects(tmp_path: Path) -> None:
    source, seen = _write(tmp_path / "in" / "x.json", _coco(tmp_path / "in" / "images")), []
    report = write_folder(tmp_path / "out", coco_folder.read(source), progress=lambda *at: seen.append(at))
    expected = np.zeros(SIZE, np.uint8)
    expected[:, :2] = 255
    expected[2:30, 2:20] = 1
    expected[:10, :10] = 2
    np.testing.assert_array_equal(_mask(tmp_path / "out", "a"), expected)
    assert (_mask(tmp_path / "out", "b") == 0).all()
    assert _tree(tmp_path / "out") == ["classes.json", "images/a.jpg", "images/b.png", "masks/a.png", "masks/b.png"]
    classes = ClassSet.read(tmp_path / "out" / "classes.json")
    assert classes == report.classes
    assert classes.names == ("background", "wire", "post")
    assert classes.palette[:2] == ((0, 0, 0), (1, 2, 3))
    assert len(set(classes.palette)) == 3
    shown = colours_in_use(tmp_path / "out" / "masks" / "a.png")[1]
    assert {index: shown[index] for index in (0, 1, 2)} == dict(enumerate(classes.palette))
    assert (report.pictures, report.objects, report.empty) == ({"": 2}, 3, 1)
    assert report.overlaps == 8 * 8 + 10 * 2  # of the post over the wire, and over the crowd
    assert seen == [(1, 2), (2, 2)]


@given(seed=st.integers(0, 10_000))
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_coco_equals_pycocotools(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    peer = pytest.importorskip("pycocotools.mask")
    folder, rng = tmp_path_factory.mktemp("coco"), np.random.default_rng(seed)
    content = _coco(folder, ["a.png"])
    polygons = [rng.uniform(-5, 60, 2 * int(rng.integers(3, 9))).tolist() for _ in range(3)]
    content["annotations"] = [
        {"id": n, "image_id": 0, "category_id": 7, "segmentation": [polygon]} for n, polygon in enumerate(polygons)
    ]
    write_folder(folder / "out", coco_folder.read(_write(folder / "x.json", content)))
    expected = peer.decode(peer.merge(peer.frPyObjects(polygons, *SIZE)))
    np.testing.assert_array_equal(_mask(folder / "out", "a"), expected)


def test_boxes_without_outlines_are_no_masks(tmp_path: Path) -> None:
    """Detectors' exports have boxes alone: refused; of those without an outline, or outside, the number is said."""
    content = _coco(tmp_path / "in")
    some = content["annotations"]
    some.append({"id": 4, "image_id": 1, "category_id": 7, "segmentation": [], "bbox": [2, 2, 9, 9]})
    some.append({"id": 5, "image_id": 1, "category_id": 7, "segmentation": [_box(70, 50, 80, 60)]})
    report = write_folder(tmp_path / "out", coco_folder.read(_write(tmp_path / "in" / "x.json", content)))
    assert (report.objects, report.without_pixels, report.empty) == (3, 2, 1)
    assert "2 objects hold no pixel: boxes without an outline, no area, outside the picture" in report.lines()
    for one in some:
        one["segmentation"] = []
    with pytest.raises(UserError, match=r"x\.json: found boxes alone: .*; needed polygons or run-length codes"):
        coco_folder.read(_write(tmp_path / "in" / "x.json", content))


def test_coco_splits_of_several_files(tmp_path: Path) -> None:
    for folder in ("train", "valid"):
        _write(tmp_path / "in" / folder / "_annotations.coco.json", _coco(tmp_path / "in" / folder, ["a.jpg"]))
    report = write_folder(tmp_path / "out", coco_folder.read(tmp_path / "in"))
    assert report.pictures == {"train": 1, "val": 1}
    assert "masks/val/a.png" in _tree(tmp_path / "out")
    content = _coco(tmp_path / "in2" / "images" / "val2017", ["a.jpg"])
    _write(tmp_path / "in2" / "annotations" / "instances_val2017.json", content)
    _write(tmp_path / "in2" / "annotations" / "captions_val2017.json", {"annotations": []})
    assert write_folder(tmp_path / "out2", coco_folder.read(tmp_path / "in2")).pictures == {"": 1}
    content["categories"].reverse()
    _write(tmp_path / "in2" / "annotations" / "instances_train2017.json", content)
    with pytest.raises(UserError, match="other categories"):
        write_folder(tmp_path / "out3", coco_folder.read(tmp_path / "in2"))


def test_pictures_of_one_name_in_two_folders_stay_two(tmp_path: Path) -> None:
    names = ["p/a.jpg", "q/a.jpg", "q/b.jpg"]
    write_folder(tmp_path / "out", coco_folder.read(_write(tmp_path / "x.json", _coco(tmp_path, names))))
    assert _tree(tmp_path / "out" / "masks") == ["b.png", "p__a.png", "q__a.png"]
    assert (_mask(tmp_path / "out", "p__a") > 0).any()
    assert not (_mask(tmp_path / "out", "q__a") > 0).any()
    with pytest.raises(UserError, match=r"two of one name, a\.jpg and a\.png"):
        write_folder(
            tmp_path / "out2", coco_folder.read(_write(tmp_path / "y.json", _coco(tmp_path, ["a.jpg", "a.png"])))
        )


def test_pictures_that_differ_in_capitals_stay_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _write(tmp_path / "x.json", _coco(tmp_path, ["p/A.jpg", "q/a.jpg"]))
    write_folder(tmp_path / "out", coco_folder.read(source))
    assert _tree(tmp_path / "out" / "masks") == ["p__A.png", "q__a.png"]
    monkeypatch.setattr(writing, "file_names", lambda _pictures: ["a", "a"])  # as on a disk without capitals
    with pytest.raises(UserError, match="this disk takes for one"):
        write_folder(tmp_path / "out2", coco_folder.read(source))
    assert not (tmp_path / "out2").exists()


def test_ignored_classes_become_255(tmp_path: Path) -> None:
    source = _write(tmp_path / "x.json", _coco(tmp_path))
    report = write_folder(tmp_path / "out", coco_folder.read(source), ignore=["post"])
    assert report.classes.names == ("background", "wire")
    assert (_mask(tmp_path / "out", "a")[:10, :10] == 255).all()
    with pytest.raises(UserError, match="--ignore: found pole; needed one of wire, post"):
        write_folder(tmp_path / "out2", coco_folder.read(source), ignore=["pole"])


def test_a_failed_conversion_leaves_nothing_and_mixes_nothing(tmp_path: Path) -> None:
    content = _coco(tmp_path)
    source = _write(tmp_path / "x.json", content)
    content["images"][1]["height"] = 41
    bad = _write(tmp_path / "bad.json", content)
    before = _tree(tmp_path)
    with pytest.raises(UserError, match=r"b\.png: found 40 x 60 pixels .* needed 41 x 60, as it was annotated"):
        write_folder(tmp_path / "out", coco_folder.read(bad))
    content["images"][1] |= {"height": 40, "file_name": "lost.png"}
    with pytest.raises(UserError, match=r"1 missing: lost\.png .*Give their folder with --images"):
        write_folder(tmp_path / "out", coco_folder.read(_write(tmp_path / "bad.json", content)))
    assert _tree(tmp_path) == before
    (tmp_path / ".out.unfinished").mkdir()
    (tmp_path / ".out.unfinished" / "old.png").touch()
    (tmp_path / "out").mkdir()
    write_folder(tmp_path / "out", coco_folder.read(source))
    assert not [name for name in _tree(tmp_path) if "old" in name]
    with pytest.raises(UserError, match="out: found one already"):
        write_folder(tmp_path / "out", coco_folder.read(source))


# -- LabelMe -----------------------------------------------------------------------------------------------------------


def _labelme(folder: Path, name: str, shapes: list[dict[str, Any]]) -> None:
    _picture(folder / f"{name}.jpg")
    content = {"shapes": shapes, "imagePath": f"{name}.jpg", "imageHeight": SIZE[0], "imageWidth": SIZE[1]}
    _write(folder / f"{name}.json", content)


def test_labelme_draws_in_order_with_outlines(tmp_path: Path) -> None:
    part = io.BytesIO()
    Image.fromarray(np.array([[255, 0], [0, 255]], np.uint8)).save(part, "png")
    shapes = [
        {"label": "crack", "points": [[2, 3], [12, 3], [12, 9], [2, 9]]},
        {"label": "hole", "points": [[8, 5], [4, 7]], "shape_type": "rectangle"},
        {"label": "__ignore__", "points": [[30, 20], [30, 24]], "shape_type": "circle"},
        {"label": "crack", "points": [[50, 30], [51, 31]], "shape_type": "mask",
         "mask": base64.b64encode(part.getvalue()).decode()},
        {"label": "crack", "points": [[1, 1], [2, 2]], "shape_type": "polygon"},
    ]  # fmt: skip
    _labelme(tmp_path / "in", "one", shapes)
    _labelme(tmp_path / "in", "none", [])
    _picture(tmp_path / "in" / "new.jpg")
    report = write_folder(tmp_path / "out", labelme.read(tmp_path / "in"))
    mask = _mask(tmp_path / "out", "one")
    assert report.classes.names == ("background", "crack", "hole")
    assert (mask[3:10, 2:13] > 0).all()
    assert (mask[5:8, 4:9] == 2).all()
    assert (mask == 2).sum() == 15
    assert mask[30:32, 50:52].tolist() == [[1, 0], [0, 1]]
    rows, columns = np.mgrid[:40, :60]
    inside = np.hypot(rows - 20, columns - 30)
    assert (mask[inside < 3.4] == 255).all()
    assert not (mask[inside > 5] == 255).any()
    assert report.notes == (
        "1 pictures without a JSON file are not annotated and left out", "1 shapes of too few points are left out",
    )  # fmt: skip
    assert (report.empty, report.overlaps) == (1, 15)
    assert _tree(tmp_path / "out" / "masks") == ["none.png", "one.png"]


def test_labelme_rectangles_of_four_corners(tmp_path: Path) -> None:
    """X-AnyLabeling writes all four, LabelMe two; three or five corners, a circle of three points are refused."""
    corners = [[10, 5], [30, 5], [30, 20], [10, 20]]
    for name, points in (("two", corners[::2]), ("four", corners), ("back", corners[::-1])):
        _labelme(tmp_path / "in", name, [{"label": "box", "points": points, "shape_type": "rectangle"}])
    write_folder(tmp_path / "out", labelme.read(tmp_path / "in"))
    expected = np.zeros(SIZE, np.uint8)
    expected[5:21, 10:31] = 1
    for name in ("two", "four", "back"):
        np.testing.assert_array_equal(_mask(tmp_path / "out", name), expected)
    for kind, points, needed in (
        ("rectangle", corners[:3], "2 or 4"), ("rectangle", [*corners, [1, 1]], "2 or 4"), ("circle", corners[:3], "2"),
    ):  # fmt: skip
        _labelme(tmp_path / "in", "four", [{"label": "box", "points": points, "shape_type": kind}])
        with pytest.raises(UserError, match=rf"four\.json: found a {kind} of {len(points)} points; needed {needed}\."):
            labelme.read(tmp_path / "in")


def test_labelme_class_list_and_bad_files(tmp_path: Path) -> None:
    _labelme(tmp_path / "in" / "sub", "one", [{"label": "b", "points": [[1, 1], [9, 1], [9, 9]]}])
    (tmp_path / "in" / "labels.txt").write_text("__ignore__\n_background_\nc\nb\n")
    report = write_folder(tmp_path / "out", labelme.read(tmp_path / "in"))
    assert report.classes.names == ("_background_", "c", "b")
    assert _mask(tmp_path / "out", "one").max() == 2
    _write(tmp_path / "in" / "bad.json", {"shapes": [{"points": [[1, 2]]}]})
    with pytest.raises(UserError, match=r"bad\.json: found no LabelMe annotation"):
        write_folder(tmp_path / "out2", labelme.read(tmp_path / "in"))
    with pytest.raises(UserError, match=r"LabelMe export .*none: found no such file or folder"):
        write_folder(tmp_path / "out2", labelme.read(tmp_path / "none"))


# -- CVAT --------------------------------------------------------------------------------------------------------------

CVAT = """<annotations><version>1.1</version><meta><task><labels>
<label><name>pole</name><color>#ff0080</color></label><label><name>sign</name><color>#010203</color></label>
</labels></task></meta>
<image id="0" name="s/a.png" subset="Validation" width="60" height="40">
<polygon label="sign" z_order="2" points="2,2;12,2;12,12;2,12"/>
<box label="pole" z_order="0" xtl="0" ytl="0" xbr="20" ybr="30"/>
<mask label="sign" z_order="3" rle="1, 2, 2, 1" left="50" top="30" width="3" height="2"/>
<ellipse label="pole" cx="40" cy="10" rx="5" ry="3"/>
<polyline label="pole" points="1,1;2,2"/><tag label="pole"/></image>
<image id="1" name="b.png" width="60" height="40"/></annotations>"""


def test_cvat_draws_by_z_order_and_keeps_colours_and_subsets(tmp_path: Path) -> None:
    source = tmp_path / "in"
    _picture(source / "images" / "Validation" / "s" / "a.png")
    _picture(source / "images" / "b.png")
    (source / "annotations.xml").write_text(CVAT)
    report = write_folder(tmp_path / "out", cvat.read(source))
    assert report.classes == ClassSet(("background", "pole", "sign"), ((0, 0, 0), (255, 0, 128), (1, 2, 3)))
    mask = _mask(tmp_path / "out", "val/a")
    assert (mask[2:12, 2:12] == 2).all()
    assert (mask == 2).sum() == 100 + 3
    assert mask[30:32, 50:53].tolist() == [[0, 2, 2], [0, 0, 2]]
    box = mask[:30, :20]
    assert (box > 0).all()
    rows, columns = np.mgrid[:40, :60] + 0.5
    np.testing.assert_array_equal(
        mask[:, 25:48] == 1, (((columns - 40) / 5) ** 2 + ((rows - 10) / 3) ** 2 <= 1)[:, 25:48]
    )
    assert report.pictures == {"val": 1, "": 1}
    assert report.notes == ("1 polyline shapes have no area and are left out",)


def test_cvat_files_that_are_none(tmp_path: Path) -> None:
    for text, found in (
        ("<annotations>", "no CVAT annotation"),
        ('<annotations><track id="0"/></annotations>', "a video's tracks"),
        ("<annotations/>", "no annotated picture"),
    ):
        (tmp_path / "annotations.xml").write_text(text)
        with pytest.raises(UserError, match=found):
            write_folder(tmp_path / "out", cvat.read(tmp_path))
    (tmp_path / "x.zip").touch()
    with pytest.raises(UserError, match=r"found an archive; .*Unpack it"):
        write_folder(tmp_path / "out", cvat.read(tmp_path / "x.zip"))
    _picture(tmp_path / "a.png")
    (tmp_path / "annotations.xml").write_text(CVAT.replace("s/a.png", "a.png").replace("1, 2, 2, 1", "1, 2, 2, 9"))
    _picture(tmp_path / "b.png")
    with pytest.raises(UserError, match=r"picture a\.png: mask: found 14 pixels in a box of 2 x 3"):
        write_folder(tmp_path / "out", cvat.read(tmp_path))


# -- YOLO --------------------------------------------------------------------------------------------------------------


def test_yolo_fills_as_ultralytics_the_smaller_on_top(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for name in ("train/images/a.jpg", "train/images/b.jpg", "valid/images/c.jpg"):
        _picture(source / name)
    (source / "data.yaml").write_text("train: ../train/images\nval: valid/images\nnc: 2\nnames: ['wire', 'post']\n")
    outlines = [[0.1, 0.1, 0.21, 0.1, 0.2, 0.33], [0.05, 0.05, 0.91, 0.07, 0.6, 0.88, 0.1, 0.9]]
    (source / "train" / "labels").mkdir()
    lines = "\n".join(f"{1 - n} {' '.join(map(str, outline))}" for n, outline in enumerate(outlines))
    (source / "train" / "labels" / "a.txt").write_text(lines + "\n\n")
    report = write_folder(tmp_path / "out", yolo.read(source))
    expected = np.zeros(SIZE, np.uint8)
    for value, outline in ((1, outlines[1]), (2, outlines[0])):
        points = np.asarray(np.array(outline).reshape(-1, 2) * (60, 40), np.int32)  # ultralytics, polygon2mask
        cv2.fillPoly(expected, [points], value)
    np.testing.assert_array_equal(_mask(tmp_path / "out", "train/a"), expected)
    assert report.classes.names == ("background", "wire", "post")
    assert (report.pictures, report.empty, report.objects) == ({"train": 2, "val": 1}, 2, 2)


def test_yolo_lists_of_windows_and_labels_of_macos(tmp_path: Path) -> None:
    """Sides of paths, and accents apart from their letters."""
    _picture(tmp_path / "images" / "\u00e9.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "e\u0301.txt").write_text("0 0.1 0.1 0.6 0.1 0.6 0.6\n")
    (tmp_path / "labels" / "._e\u0301.txt").write_bytes(b"\0\5")
    (tmp_path / "train.txt").write_text(".\\images\\e\u0301.png\n", encoding="utf-8")
    (tmp_path / "data.yaml").write_text("train: .\\train.txt\nnames: [wire]\n")
    (tmp_path / "._data.yaml").write_bytes(b"\0\5")
    report = write_folder(tmp_path / "out", yolo.read(tmp_path))
    assert (report.pictures, report.objects) == ({"train": 1}, 1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.1 0.1", r"a\.txt, line 1: found '0 0\.5 .*boxes, a detection data set"),
        ("5 0.1 0.1 0.2 0.2 0.3 0.1", "a class of data.yaml"),
        ("0 0.1 0.1 0.2 x 0.3 0.1", "and numbers"),
        ("0 10 10 20 20 30 10", "in parts of width and height"),
        ("0 0.1 0.1 0.2 0.2 0.3", "x y of three points"),
    ],
)
def test_yolo_lines_that_are_no_outlines(tmp_path: Path, line: str, message: str) -> None:
    _picture(tmp_path / "images" / "a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text(line)
    (tmp_path / "data.yaml").write_text("train: images\nnames: {0: wire}\n")
    with pytest.raises(UserError, match=message):
        write_folder(tmp_path / "out", yolo.read(tmp_path / "data.yaml"))
    (tmp_path / "data.yaml").write_text("train: pictures\nnames: {0: wire}\n")
    with pytest.raises(UserError, match="no pictures; needed that folder"):
        write_folder(tmp_path / "out", yolo.read(tmp_path / "data.yaml"))


def test_links_of_labels_to_nothing_are_no_pictures_without_objects(tmp_path: Path) -> None:
    _picture(tmp_path / "images" / "a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").symlink_to("../gone.txt")
    (tmp_path / "data.yaml").write_text("train: images\nnames: {0: wire}\n")
    with pytest.raises(UserError, match=r"a\.txt: found no text \(No such file"):
        write_folder(tmp_path / "out", yolo.read(tmp_path / "data.yaml"))


# -- Label Studio ------------------------------------------------------------------------------------------------------


def _brush(mask: np.ndarray) -> list[int]:
    """A mask as RGBA in the brush code: runs of repeated values and of single ones."""
    values = np.repeat((mask * 255).ravel(), 4).tolist()
    lengths = (3, 4, 8, 16)
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{length - 1:04b}" for length in lengths)
    at = 0
    while at < len(values):
        run = next((n for n in range(1, len(values) - at) if values[at + n] != values[at]), len(values) - at)
        run = min(run, 1 << 16)
        if run < 3:
            run = min(8, len(values) - at)
            bits += f"000{run - 1:03b}" + "".join(f"{value:08b}" for value in values[at : at + run])
        else:
            which = next(n for n, length in enumerate(lengths) if run <= 1 << length)
            bits += f"1{which:02b}{run - 1:0{lengths[which]}b}{values[at]:08b}"
        at += run
    bits += "0" * (-len(bits) % 8)
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


def _region(kind: str, name: str, **value: object) -> dict[str, Any]:
    value |= {kind: [name]}
    return {"type": kind, "value": value, "original_width": SIZE[1], "original_height": SIZE[0], "id": "x"}


def _task(*regions: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"data": {"image": "a.png"}, "annotations": [{"result": list(regions)}]}]


@given(seed=st.integers(0, 10_000), share=st.floats(0, 1))
def test_brush_codes_are_read_back(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((7, 9)) < share
    values = label_studio.decode_brush(_brush(mask), 7 * 9 * 4).reshape(7, 9, 4)
    np.testing.assert_array_equal(values, np.repeat(mask[..., None] * 255, 4, 2))


def test_label_studio_draws_in_order(tmp_path: Path) -> None:
    brush = np.zeros(SIZE, bool)
    brush[30:38, 40:50], brush[33, 44] = True, False
    regions = [
        _region("rectanglelabels", "wall", x=10, y=25, width=50, height=25, rotation=0),
        _region("polygonlabels", "crack", points=[[20, 25], [40, 25], [40, 50], [20, 50]]),
        _region("brushlabels", "wall", format="rle", rle=_brush(brush)),
        _region("ellipselabels", "crack", x=80, y=25, radiusX=10, radiusY=10, rotation=0),
        {"type": "choices", "value": {"choices": ["good"]}},
    ]
    tasks = [
        {"data": {"image": "/data/upload/1/0123abcd-a%20b.png"},
         "annotations": [{"was_cancelled": True, "result": []}, {"result": regions}]},
        {"data": {"image": "/data/local-files/?d=sub/c.png"}, "annotations": [{"result": []}]},
        {"data": {"image": "/data/upload/1/d.png"}, "annotations": []},
    ]  # fmt: skip
    _picture(tmp_path / "images" / "a b.png")
    _picture(tmp_path / "images" / "sub" / "c.png")
    report = write_folder(tmp_path / "out", label_studio.read(_write(tmp_path / "x.json", tasks)))
    assert report.classes.names == ("background", "crack", "wall")
    mask = _mask(tmp_path / "out", "0123abcd-a b")
    assert (mask[10:20, 6:36] > 0).all()
    assert (mask[10:20, 12:24] == 1).all()
    assert (mask[10:20, 24:36] == 2).all()
    np.testing.assert_array_equal(mask[30:38, 40:50] == 2, brush[30:38, 40:50])
    rows, columns = np.mgrid[:40, :60] + 0.5
    np.testing.assert_array_equal(mask[:, 40:] == 1, (((columns - 48) / 6) ** 2 + ((rows - 10) / 4) ** 2 <= 1)[:, 40:])
    assert report.notes == ("1 tasks without an annotation are left out",)
    assert report.empty == 1


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([{"image": "a.png", "label": "x"}], "not JSON-MIN"),
        ({"a": 1}, "no Label Studio export"),
        (
            [{"data": {"image": "a.png"}, "annotations": [{"result": [_region("keypointlabels", "x")]}]}],
            "keypointlabels",
        ),
        (
            [{"data": {"image": "a.png"}, "annotations": [{"result": [_region("brushlabels", "x", rle=[0, 1])]}]}],
            "cut off",
        ),
    ],
)
def test_label_studio_files_that_are_none(tmp_path: Path, tasks: object, message: str) -> None:
    _picture(tmp_path / "a.png")
    with pytest.raises(UserError, match=message):
        write_folder(tmp_path / "out", label_studio.read(_write(tmp_path / "x.json", tasks)))
    assert not (tmp_path / "out").exists()


# -- values of another kind --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, ["x"], True, 7, "", " "])
@pytest.mark.parametrize("tool", ["coco", "labelme", "label studio"])
def test_a_class_that_is_no_text_is_not_made_one(tmp_path: Path, tool: str, value: Any) -> None:
    content = _coco(tmp_path)
    content["categories"][0]["name"] = value
    _labelme(tmp_path, "b", [{"label": value, "points": [[1, 1], [9, 1], [9, 9]]}])
    region = _region("polygonlabels", value, points=[[1, 1], [9, 1], [9, 9]])
    tasks = [{"data": {"image": "a.jpg"}, "annotations": [{"result": [region]}]}]
    with pytest.raises(UserError, match="for a text"):
        if tool == "coco":
            coco_folder.read(_write(tmp_path / "coco" / "x.json", content))
        elif tool == "labelme":
            labelme.read(tmp_path)
        else:
            label_studio.read(_write(tmp_path / "studio" / "x.json", tasks))


@pytest.mark.parametrize("value", [None, True, "7", 40.5])
def test_a_size_that_is_no_whole_number_is_not_made_one(tmp_path: Path, value: Any) -> None:
    content = _coco(tmp_path)
    content["images"][0]["height"] = value
    with pytest.raises(UserError, match=r"for a (whole )?number"):
        coco_folder.read(_write(tmp_path / "coco" / "x.json", content))
    content = _coco(tmp_path)
    content["categories"][0]["color"] = [value, 2, 3]
    with pytest.raises(UserError, match=r"for a (whole )?number"):
        coco_folder.read(_write(tmp_path / "coco" / "x.json", content))


@pytest.mark.parametrize("names", ["[wire, no]", "{0: wire, 1: off}", "{0.5: wire}", "{true: wire}", "[1.10]"])
def test_what_yaml_makes_of_names_is_said(tmp_path: Path, names: str) -> None:
    _picture(tmp_path / "images" / "a.png")
    (tmp_path / "data.yaml").write_text(f"train: images\nnames: {names}\n")
    with pytest.raises(UserError, match=r"found no YOLO data set \(TypeError: .* for a (name|whole number|number)"):
        yolo.read(tmp_path / "data.yaml")


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = _write(tmp_path / "x.json", _coco(tmp_path / "pictures"))
    arguments = ["data", "convert", "coco", str(source), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--images", str(tmp_path / "pictures"), "--workers", "2"]) == 0
    printed = capsys.readouterr().out
    assert "2 pictures with 3 objects" in printed
    assert "3 classes: background, wire, post" in printed
    assert "1 pictures show no object" in printed
    assert main(["data", "convert", "coco", str(tmp_path / "none.json"), "--out", str(tmp_path / "o")]) == 2
    assert "COCO export" in capsys.readouterr().err


# -- stacks ------------------------------------------------------------------------------------------------------------


def _stack_command(base: Path) -> list[str]:
    return ["data", "convert", "stack", str(base / "in"), "--out", str(base / "out"), "--workers", "1"]


def _stack(path: Path, pages: list[np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pages[0]).save(path, save_all=True, append_images=[Image.fromarray(page) for page in pages[1:]])


def _cells(page: int) -> np.ndarray:
    """Numbered cells of 10 x 12 pixels: 4 x 5 of them."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return (1 + page + 5 * (rows // 10) + columns // 12).astype(np.uint16)


@pytest.mark.parametrize(
    ("volume", "labels"),
    [
        ("train-volume.tif", "train-labels.tif"),
        ("volume.tif", "segmentation.tif"),
        ("images/a.tif", "masks/a.tif"),
        ("raw/a.tif", "membranes/a.tif"),
    ],
)
def test_pages_of_stacks_become_pictures_and_masks(
    tmp_path: Path, volume: str, labels: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = [np.full(SIZE, 10 * page, np.uint8) for page in range(3)]
    masks = [np.where(_cells(page) % 2, 0, 255).astype(np.uint8) for page in range(3)]
    _stack(tmp_path / "in" / volume, pictures)
    _stack(tmp_path / "in" / labels, masks)
    _stack(tmp_path / "in" / "test-volume.tif", pictures)
    data = DataConfig(dataset="folder", root=str(tmp_path / "out"))
    if "/" not in volume:
        with pytest.raises(UserError, match=r"stacks of pages \(.*Write .*ducseg data convert stack .*/in --out OUT"):
            open_dataset(DataConfig(dataset="folder", root=str(tmp_path / "in")), "train")
    assert main(_stack_command(tmp_path)) == 0
    assert capsys.readouterr().out.startswith("3 pictures and masks\n")
    for page, sample in enumerate(open_dataset(data, "all")):
        assert (sample.image == 10 * page).all()
        np.testing.assert_array_equal(sample.label, masks[page] // 255)


@pytest.mark.parametrize("first", [0, 1 << 24, (1 << 31) - 60])
def test_numbers_of_objects_become_their_borders(tmp_path: Path, first: int) -> None:
    _stack(tmp_path / "in" / "train-input.tif", [np.zeros(SIZE, np.uint8)] * 2)
    numbers = [(_cells(page) + np.int64(first)).astype(np.int32 if first else np.uint16) for page in range(2)]
    _stack(tmp_path / "in" / "train-labels.tif", numbers)
    assert main(_stack_command(tmp_path)) == 0
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    border = np.isin(rows, [9, 10, 19, 20, 29, 30]) | np.isin(columns, [11, 12, 23, 24, 35, 36, 47, 48])
    for sample in open_dataset(DataConfig(dataset="folder", root=str(tmp_path / "out")), "all"):
        np.testing.assert_array_equal(sample.label, border)


def test_what_is_no_object_widens_no_border(tmp_path: Path) -> None:
    row = [number if place < 2 else 0 for number in range(1, 30) for place in range(2 + (number % 3 == 0))]
    numbers = np.tile(np.array(row[: SIZE[1]], np.uint16), (SIZE[0], 1))
    _stack(tmp_path / "in" / "train-input.tif", [np.zeros(SIZE, np.uint8)] * 2)
    _stack(tmp_path / "in" / "train-labels.tif", [numbers] * 2)
    assert main(_stack_command(tmp_path)) == 0
    padded = [0, *row[: SIZE[1]], 0]
    border = [
        here == 0 or any(beside not in (0, here) for beside in (before, after))
        for before, here, after in zip(padded, padded[1:], padded[2:])
    ]
    for sample in open_dataset(DataConfig(dataset="folder", root=str(tmp_path / "out")), "all"):
        np.testing.assert_array_equal(sample.label, np.tile(border, (SIZE[0], 1)))


def test_stacks_that_do_not_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _stack(tmp_path / "in" / "train-volume.tif", [np.zeros(SIZE, np.uint8)] * 2)
    command = _stack_command(tmp_path)
    assert main(command) == 2
    assert "needed such as train-volume.tif and train-labels.tif" in capsys.readouterr().err
    _stack(tmp_path / "in" / "train-labels.tif", [np.zeros(SIZE, np.uint8)] * 3)
    assert main(command) == 2
    assert "found 3 pages; needed 2, as in" in capsys.readouterr().err
    assert main([*command, "--ignore", "cell"]) == 2
    assert not (tmp_path / "out").exists()
