"""What masks may hold, by one rule: every encoding of two classes gives the same labels, and nothing is guessed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from ducseg.classes import ClassSet
from ducseg.data.check.doctor import check_dataset
from ducseg.data.config import DataConfig
from ducseg.data.layouts.mask_files import read_mask, values_in
from ducseg.data.layouts.mask_rule import find_rule
from ducseg.data.layouts.opening import open_dataset, open_layout, open_training_set
from ducseg.errors import UserError

SIZE = (20, 30)
TRUTH = [(np.random.default_rng(seed).random(SIZE) < 0.3).astype(np.uint8) for seed in range(4)]
TWO = [{"name": "background", "color": [0, 0, 0]}, {"name": "crack", "color": [255, 0, 0]}]
ONE = TWO[1:]
THREE = [*TWO, {"name": "wire", "color": [0, 0, 255]}]

Write = Callable[[np.ndarray, Path], None]


def values(first: int, second: int, dtype: type = np.uint8) -> Write:
    return lambda truth, path: Image.fromarray(np.where(truth, second, first).astype(dtype)).save(path)


def colours(first: tuple[int, ...], second: tuple[int, ...]) -> Write:
    return lambda truth, path: Image.fromarray(np.where(truth[..., None], second, first).astype(np.uint8)).save(path)


def palette(*entries: tuple[int, int, int], exchanged: bool = False) -> Write:
    def write(truth: np.ndarray, path: Path) -> None:
        picture = Image.fromarray(1 - truth if exchanged else truth)
        picture.putpalette([channel for entry in entries for channel in entry])
        picture.save(path)

    return write


def noisy(truth: np.ndarray, path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 9, truth.shape)
    Image.fromarray(np.where(truth, 255 - noise, noise).astype(np.uint8)).save(path)


def smooth(truth: np.ndarray, path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, truth.shape)
    Image.fromarray(np.where(truth, 255, grey).astype(np.uint8)).save(path)


def smooth_colours(truth: np.ndarray, path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*truth.shape, 3), dtype=np.uint8)).save(path)


def bits(truth: np.ndarray, path: Path) -> None:
    Image.fromarray(truth.astype(bool)).save(path)


def make(root: Path, write: Write, classes: list[dict[str, Any]] | None, suffix: str = "png") -> Path:
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, truth in enumerate(TRUTH):
        picture = np.random.default_rng(number).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(picture).save(root / "images" / f"{number}.png")
        write(truth, root / "masks" / f"{number}.{suffix}")
    if classes is not None:
        (root / "classes.json").write_text(json.dumps(classes))
    return root


def line(root: Path, **options: Any) -> str:
    (said,) = open_layout(DataConfig(dataset="folder", root=str(root), **options)).rules.notes
    return said


def labels(root: Path, **options: Any) -> list[np.ndarray]:
    dataset = open_dataset(DataConfig(dataset="folder", root=str(root), **options), "all")
    return [dataset[index].label for index in range(len(dataset))]


def is_truth(found: list[np.ndarray]) -> bool:
    return all(np.array_equal(label, truth) for label, truth in zip(found, TRUTH, strict=True))


TWO_VALUED = [
    ("png", values(0, 1)),
    ("png", values(0, 255)),
    ("png", values(0, 128)),
    ("png", values(1, 255)),
    ("png", values(1, 2)),
    ("png", values(254, 255)),
    ("png", values(3, 200)),
    ("png", values(0, 65535, np.uint16)),
    ("png", values(0, 255, np.uint16)),
    ("tif", values(0, 1, np.float32)),
    ("tif", values(0, 255)),
    ("bmp", values(0, 255)),
    ("gif", values(0, 255)),
    ("gif", palette((255, 255, 255), (0, 0, 0), exchanged=True)),
    ("jpg", values(0, 255)),
    ("png", noisy),
    ("png", bits),
    ("tif", bits),
    ("png", colours((0, 0, 0), (1, 1, 1))),
    ("png", colours((0, 0, 0), (255, 255, 255))),
    ("png", colours((0, 0, 0, 255), (255, 255, 255, 255))),
    ("png", colours((255, 255, 255, 0), (255, 255, 255, 255))),
    ("png", colours((0, 0, 0), (255, 0, 0))),
    ("png", colours((0, 0, 0, 0), (255, 0, 0, 255))),
    ("png", colours((0, 0, 0), (0, 255, 0))),
    ("png", palette((0, 0, 0), (255, 0, 0))),
    ("png", palette((0, 0, 0), (255, 255, 255))),
    ("png", palette((0, 0, 0), (128, 0, 0))),
]


@pytest.mark.parametrize("classes", [TWO, ONE, None], ids=["two classes", "one class", "no list"])
@pytest.mark.parametrize(("suffix", "write"), TWO_VALUED)
def test_two_values_are_two_classes(tmp_path: Path, write: Write, suffix: str, classes: Any) -> None:
    root = make(tmp_path, write, classes, suffix)
    assert is_truth(labels(root))
    dataset = open_dataset(DataConfig(dataset="folder", root=str(root)), "train")
    assert dataset.classes.names == ("background", "foreground" if classes is None else "crack")
    report = check_dataset(DataConfig(dataset="folder", root=str(root)))
    assert report.ok
    foreground = report.splits["all"].classes[dataset.classes.names[1]]
    assert foreground == {"pixels": sum(int(truth.sum()) for truth in TRUTH), "images": 4}
    assert report.notes[-1] == line(root)


@pytest.mark.parametrize(
    ("suffix", "write", "said"),
    [
        ("png", values(0, 255), "masks: values 0, 255 -> background, crack"),
        ("png", colours((0, 0, 0), (1, 1, 1)), "masks: values 0, 1 -> background, crack (three equal channels)"),
        ("png", colours((0, 0, 0), (255, 0, 0)), "masks: colours (0, 0, 0), (255, 0, 0) -> background, crack"),
        ("png", colours((9, 9, 9, 0), (9, 9, 9, 9)), "masks: values 0, 9 -> background, crack (the alpha channel)"),
        ("png", noisy, "masks: values 0-127 -> background, 128-255 -> crack"),
    ],
)
def test_the_rule_is_said(tmp_path: Path, suffix: str, write: Write, said: str) -> None:
    assert line(make(tmp_path, write, TWO, suffix)) == said


def test_a_jpeg_mask_is_said(tmp_path: Path) -> None:
    assert "128-255 -> crack (JPEG, which changes values" in line(make(tmp_path, values(0, 255), TWO, "jpg"))


# -- 255 and further classes -------------------------------------------------------------------------------------------


def several(*entries: int) -> Write:
    """These values, from the left to the right."""
    return lambda truth, path: Image.fromarray(
        np.array(entries, np.uint8)[np.arange(SIZE[1]) * len(entries) // SIZE[1]][None].repeat(SIZE[0], 0)
    ).save(path)


@pytest.mark.parametrize(
    ("classes", "found", "expected"),
    [
        (TWO, (0, 1, 255), (0, 1, 255)),
        (ONE, (0, 1, 255), (0, 1, 255)),
        (THREE, (0, 1, 2), (0, 1, 2)),
        (THREE, (0, 1, 2, 255), (0, 1, 2, 255)),
        (THREE, (0, 128, 255), (0, 1, 2)),
        (THREE, (0, 127, 254), (0, 1, 2)),
        (THREE, (1, 2, 3), (0, 1, 2)),
        (None, (0, 1, 2, 255), (0, 1, 2, 255)),
        (None, (0, 128, 255), (0, 1, 2)),
        (None, (0, 1, 2, 3), (0, 1, 2, 3)),
    ],
)
def test_more_values(tmp_path: Path, classes: Any, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    label = labels(make(tmp_path, several(*found), classes))[0]
    np.testing.assert_array_equal(label[0], np.array(expected)[np.arange(SIZE[1]) * len(found) // SIZE[1]])


@pytest.mark.parametrize("stray", [2, 7, 128])
def test_a_value_that_no_class_has_is_refused_at_once(tmp_path: Path, stray: int) -> None:
    root = make(tmp_path, values(0, 1), TWO)
    several(0, 1, stray, 255)(TRUTH[0], root / "masks" / "2.png")
    with pytest.raises(UserError, match=rf"2\.png: found value {stray} in \d+ pixels; needed 0\.\.1, or 255.*--data"):
        labels(root)
    (finding,) = check_dataset(DataConfig(dataset="folder", root=str(root))).errors
    assert (finding.kind, finding.files) == ("stray values", (str(root / "masks" / "2.png"),))


def test_ignored_values(tmp_path: Path) -> None:
    root = make(tmp_path, several(0, 255, 128), TWO)
    found = labels(root, ignore_value=128)[0]
    assert found[0, [0, 15, 29]].tolist() == [0, 1, 255]
    assert line(root, ignore_value=128) == "masks: values 0, 255 -> background, crack; 128 ignored"
    assert labels(make(tmp_path, several(0, 1, 2, 255), TWO), ignore_value=2)[0][0, [0, 10, 20, 29]].tolist() == [
        0, 1, 255, 255,
    ]  # fmt: skip


def test_two_ways_to_say_the_same_are_not_taken_for_ignored_pixels(tmp_path: Path) -> None:
    root = make(tmp_path, values(0, 1), TWO)
    for number in (1, 3):
        values(0, 255)(TRUTH[number], root / "masks" / f"{number}.png")
    with pytest.raises(UserError, match=r"found 1 in some \(0\.png\) and 255 in others \(1\.png\), never both"):
        labels(root)
    assert is_truth(labels(root, values=("0=background", "1=crack", "255=crack")))
    ignored = labels(root, ignore_value=255)
    assert all(np.array_equal(label == 255, truth == 1) for label, truth in zip(ignored[1::2], TRUTH[1::2]))


# -- what the user says ------------------------------------------------------------------------------------------------


def test_values_that_the_user_names(tmp_path: Path) -> None:
    root = make(tmp_path, several(0, 90, 200, 255), None)
    named = ("0-99=road", "200=crack", "255=ignore")
    dataset = open_dataset(DataConfig(dataset="folder", root=str(root), values=named), "all")
    assert dataset.classes.names == ("road", "crack")
    assert dataset[0].label[0, [0, 10, 20, 29]].tolist() == [0, 0, 1, 255]
    with pytest.raises(UserError, match=r"found value 90 in \d+ pixels; needed the values 0, 200, 255"):
        labels(root, values=("0=road", "200=crack"))
    make(tmp_path, values(7, 9), TWO)
    assert not is_truth(labels(root, values=("9=background", "7=crack")))
    assert is_truth(labels(root, values=("7=background", "9=crack")))
    with pytest.raises(UserError, match=r"--data.values: found no class wire; needed names of the classes background"):
        labels(root, values=("7=background", "9=wire"))
    for wrong in ("7", "7=", "a=crack", "9-7=crack", "1,2=crack", "300,0,0=crack", "70000=crack"):
        with pytest.raises(UserError, match=r"--data\.values: found '"):
            labels(root, values=(wrong,))


def test_colours_that_the_user_names(tmp_path: Path) -> None:
    root = make(tmp_path, colours((9, 9, 9), (0, 250, 0)), TWO)
    assert is_truth(labels(root, values=("9,9,9=background", "0,250,0=crack")))
    assert not is_truth(labels(root, values=("9,9,9=crack", "0,250,0=background")))


def test_palettes_whose_colours_are_exchanged_are_not_swapped_silently(tmp_path: Path) -> None:
    root = make(tmp_path, palette((255, 0, 0), (0, 0, 0)), TWO)
    with pytest.raises(
        UserError, match=r"found two readings: indices \(.*\); or colours \(.*--data\.masks-as index or"
    ):
        labels(root)
    report = check_dataset(DataConfig(dataset="folder", root=str(root)))
    assert [finding.kind for finding in report.errors] == ["masks"]
    assert is_truth(labels(root, masks_as="index"))
    assert is_truth([1 - label for label in labels(root, masks_as="colour")])


BLACK, RED, WHITE = (0, 0, 0), (255, 0, 0), (255, 255, 255)


def test_palettes_that_differ_mean_their_colours(tmp_path: Path) -> None:
    root = make(tmp_path, palette(BLACK, RED), None)
    first = root / "masks" / "0.png"
    palette(RED, BLACK, exchanged=True)(TRUTH[0], first)
    assert "colours (0, 0, 0), (255, 0, 0) -> background, foreground" in line(root)
    assert is_truth(labels(root)) and not check_dataset(DataConfig(dataset="folder", root=str(root))).errors
    assert not is_truth(labels(root, masks_as="index"))
    palette((9, 9, 9), (0, 0, 255))(TRUTH[0], first)  # more colours than indices: either may be meant
    with pytest.raises(UserError, match=r"two readings: values \(.*\); or colours \(.*--data\.masks-as index or"):
        labels(root)


@pytest.mark.parametrize("low", [palette(BLACK, WHITE, exchanged=True), palette(WHITE, BLACK, exchanged=True)])
def test_indices_that_are_lines_are_the_foreground(low: Write, tmp_path: Path) -> None:
    root = written(tmp_path, [drawn("lines")])
    low(drawn("lines"), root / "masks" / "0.png")
    assert "values 0, 1 -> foreground, background (the lower value is lines in the other)" in line(root)


def test_of_two_colours_the_lines_are_the_foreground(tmp_path: Path) -> None:
    root = written(tmp_path, [drawn("lines")])
    colours(WHITE, RED)(drawn("lines"), root / "masks" / "0.png")
    assert "colours (255, 255, 255), (255, 0, 0) -> background, foreground" in line(root)


@pytest.mark.parametrize("classes", [None, THREE])
@pytest.mark.parametrize("coloured", [False, True])
def test_jpegs_of_three_values_are_refused(
    coloured: bool, classes: list[dict[str, Any]] | None, tmp_path: Path
) -> None:
    def write(truth: np.ndarray, path: Path) -> None:
        three = truth + (np.indices(truth.shape)[0] % 8 > 3)
        shades = np.array([one["color"] for one in THREE], np.uint8) if coloured else np.array([0, 1, 2], np.uint8)
        Image.fromarray(shades[three]).save(path, quality=90)

    with pytest.raises(UserError, match=r"masks: found JPEG \(0\.jpg\), .*; needed PNG or TIFF"):
        labels(make(tmp_path, write, classes, "jpg"))


def test_grey_masks_whose_class_colours_say_the_opposite(tmp_path: Path) -> None:
    inverted = [{"name": "background", "color": [255, 255, 255]}, {"name": "crack", "color": [0, 0, 0]}]
    root = make(tmp_path, values(255, 0), inverted)
    with pytest.raises(UserError, match=r"two readings: .*--data\.masks-as index or colour"):
        labels(root)
    assert is_truth(labels(root, masks_as="colour"))


@pytest.mark.parametrize("opaque", [255, 90])
def test_a_brush_on_a_clear_layer_is_as_wide_as_half_its_alpha(tmp_path: Path, opaque: int) -> None:
    drawn = np.full((9, 40), 0, np.uint8)
    drawn[3:6], drawn[2] = opaque, np.arange(40) % (opaque // 2)  # a line of 3 pixels, its edge above fainter than half
    rgba = np.dstack([np.where(drawn > 0, 255, 0), 0 * drawn, 0 * drawn, drawn]).astype(np.uint8)
    Image.fromarray(rgba).save(tmp_path / "x.png")
    codes = read_mask(tmp_path / "x.png").codes()
    assert np.array_equal(codes > 0, drawn == opaque)
    rgba[drawn == 0, :3] = np.arange(40)[:, None].repeat(3, 1)[None].repeat(9, 0)[drawn == 0]  # no ground of one colour
    Image.fromarray(rgba).save(tmp_path / "x.png")
    assert (read_mask(tmp_path / "x.png").codes()[2, 1:] == 255 << 16).sum() >= 37


def test_two_classes_of_one_colour(tmp_path: Path) -> None:
    same = [{"name": "a", "color": [0, 0, 0]}, {"name": "b", "color": [0, 0, 0]}]
    with pytest.raises(UserError, match=r"found a and b of one colour \(0, 0, 0\)"):
        labels(make(tmp_path, colours((0, 0, 0), (255, 0, 0)), same))
    assert is_truth(labels(make(tmp_path, values(0, 255), same)))


# -- masks that no training can take -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("write", "classes", "message"),
    [
        (values(255, 255), TWO, r"255 alone, which is ignored, in all 4; needed pixels of classes.*--data\.values"),
        (values(255, 255), None, "one class; needed at least two"),
        (values(0, 0), None, r"values 0 -> background: one class; needed at least two.*--data\.values"),
        (smooth, TWO, r"\d+ values \(255 in 3.*smoothed edges.*--data\.values '0-127=background' '128-255=crack'"),
        (smooth, None, r"\d+ values \(255 in 3.*, \.\.\.\), as smoothed edges give.*--data\.values 0-127=background"),
        (smooth_colours, TWO, r"\d+ colours .*smoothed edges give; needed those of the 2 classes"),
        (smooth_colours, None, r"\d+ colours \(\(\d+, .*\) in 0\.2 %, \.\.\.\), as smoothed edges give.*classes\.json"),
    ],
)
def test_one_message_says_what_was_found_and_what_mends_it(
    tmp_path: Path, write: Write, classes: Any, message: str
) -> None:
    before = sorted(make(tmp_path, write, classes).rglob("*"))
    with pytest.raises(UserError, match=message):
        labels(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_smoothed_masks_are_mended_by_what_the_message_says(tmp_path: Path) -> None:
    root = make(tmp_path, smooth, TWO)
    found = labels(root, values=("0-127=background", "128-255=crack"))
    assert all((label[truth == 1] == 1).all() for label, truth in zip(found, TRUTH))


def test_one_bad_mask_neither_ends_the_look_nor_passes(tmp_path: Path) -> None:
    root = make(tmp_path, values(0, 255), TWO)
    (root / "masks" / "1.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"1\.png: found 0 bytes"):
        labels(root)
    report = check_dataset(DataConfig(dataset="folder", root=str(root)))
    assert [(one.kind, one.files) for one in report.errors] == [("unreadable", (str(root / "masks" / "1.png"),))]
    assert report.splits["all"].classes["crack"]["images"] == 3


def test_options_that_would_be_ignored_are_refused_together() -> None:
    data = DataConfig(dataset="cityscapes", root="x", values=("0=a",), group_by="a", ignore_value=3, coco_root="y")
    conflicts = data.conflicts()
    for option in ("values", "group-by", "ignore-value", "coco-root"):
        assert any(f"--data.{option} " in conflict and "not for cityscapes" in conflict for conflict in conflicts)
    both = DataConfig(dataset="folder", root="x", values=("0=a",), masks_as="index", ignore_colours=((0, 0, 0),))
    assert len(both.conflicts()) == 2


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(("first", "second"), [(0, 1), (0, 255), (0, 300), (0, 65535)])
def test_sixteen_bits_in_several_channels_keep_their_low_byte(
    tmp_path: Path, suffix: str, channels: int, first: int, second: int
) -> None:
    def write(truth: np.ndarray, path: Path) -> None:
        grey = np.where(truth, second, first).astype(np.uint16)
        alpha = [np.full_like(grey, 65535)] * (channels - 3)
        assert cv2.imwrite(str(path), np.stack([grey] * 3 + alpha, axis=-1))

    assert is_truth(labels(make(tmp_path, write, TWO, suffix)))


def test_sixteen_bit_colours_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    assert cv2.imwrite(str(path), np.arange(6 * 8 * 3, dtype=np.uint16).reshape(6, 8, 3))
    with pytest.raises(UserError, match="colours of 16 bits a channel; needed 8 bits"):
        read_mask(path)


# -- colours -----------------------------------------------------------------------------------------------------------

COLOURS = ClassSet(names=("red", "green", "blue"), palette=((200, 0, 0), (0, 200, 0), (0, 0, 200)))


def read_colours(path: Path, ignore_colours: tuple[tuple[int, int, int], ...] = ()) -> np.ndarray:
    rule = find_rule(values_in([path])[0], COLOURS, masks_as="colour", ignore_colours=ignore_colours)
    return rule.reader(path)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colour_masks_become_train_ids(tmp_path: Path, mode: str) -> None:
    label = np.random.default_rng(0).choice(np.array([0, 1, 2, 255], np.uint8), SIZE)
    shown = np.zeros((*SIZE, 3), dtype=np.uint8)  # 255 is black
    for train_id, colour in enumerate(COLOURS.palette):
        shown[label == train_id] = colour
    picture = Image.fromarray(shown)
    (picture.quantize(8) if mode == "P" else picture.convert(mode)).save(tmp_path / "a.png")
    read = read_colours(tmp_path / "a.png", ignore_colours=((0, 0, 0),))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, label)


def test_unknown_colours_are_counted_most_frequent_first(tmp_path: Path) -> None:
    shown = np.full((4, 5, 3), (0, 200, 0), dtype=np.uint8)
    shown[0, :2] = (1, 2, 3)
    shown[2, :5] = (250, 250, 250)
    Image.fromarray(shown).save(tmp_path / "a.png")
    with pytest.raises(
        UserError, match=r"found \(250, 250, 250\) in 5 pixels, \(1, 2, 3\) in 2 pixels; needed the colours of"
    ):
        read_colours(tmp_path / "a.png")
    smooth_colours(TRUTH[0], tmp_path / "photo.png")
    with pytest.raises(UserError, match=r"and \d+ more colours"):
        read_colours(tmp_path / "photo.png")


def test_index_mask_is_refused_where_colours_are_asked_for(tmp_path: Path) -> None:
    Image.fromarray(TRUTH[0]).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"found \(0, 0, 0\) in \d+ pixels, \(1, 1, 1\) in"):
        read_colours(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("write", "options", "message"),
    [
        (colours((0, 0, 0), (255, 0, 0)), {"masks_as": "index"}, r"found colours \(0\.png\); needed one value a pixel"),
        (colours((0, 0, 0), (255, 0, 0)), {"ignore_value": 255}, r"Leave out .*--data\.ignore-value; --data\.ignore-"),
        (values(300, 1000, np.uint16), {"masks_as": "colour"}, r"found grey of 16 bits \(0\.png\); needed colours"),
        (values(7, 7), {"ignore_value": 7}, r"7 alone, which is ignored, in all 4"),
        (colours((9, 8, 7), (9, 8, 7)), {"ignore_colours": ((9, 8, 7),)}, r"\(9, 8, 7\) alone, which is ignored"),
    ],
)
def test_masks_that_hold_nothing_of_what_was_said(
    tmp_path: Path, write: Write, options: dict[str, Any], message: str
) -> None:
    make(tmp_path, write, None)
    with pytest.raises(UserError, match=message):
        labels(tmp_path, **options)


@pytest.mark.parametrize("grey", [1000, 65535])
def test_grey_of_sixteen_bits_is_no_colour(tmp_path: Path, grey: int) -> None:
    """Times 0x010101 it is a code beyond all colours, or that of another one."""
    make(tmp_path, colours((0, 0, 0), (255, 0, 0)), TWO)
    values(grey, grey, np.uint16)(TRUTH[0], tmp_path / "masks" / "3.png")
    with pytest.raises(UserError, match=r"found indices \(3\.png\) and colours \(0\.png\)"):
        labels(tmp_path)
    with pytest.raises(UserError, match=r"grey of 16 bits in 600 pixels"):
        read_colours(tmp_path / "masks" / "3.png")


def smoothed_masks(root: Path, listed: bool = True) -> list[np.ndarray]:
    """Masks of three colours with edges drawn smoothly; the truth, 255 where a colour is mixed."""
    entries, truths = np.array([one["color"] for one in THREE]), []
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for number in range(4):
        mask = np.zeros((40, 60, 3), np.uint8)
        cv2.circle(mask, (15 + number, 20), 9, (255, 0, 0), -1, cv2.LINE_AA)
        cv2.circle(mask, (42, 18 + number), 11, (0, 0, 255), -1, cv2.LINE_AA)
        mask = cv2.GaussianBlur(mask, (3, 3), 0.4)
        same = (mask[..., None, :] == entries).all(-1)
        truths.append(np.where(same.any(-1), same.argmax(-1), 255).astype(np.uint8))
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
        Image.fromarray(mask).save(root / "images" / f"{number}.png")
    if listed:
        (root / "classes.json").write_text(json.dumps(THREE))
    return truths


def test_smoothed_edges_are_ignored_where_that_is_asked_for(tmp_path: Path) -> None:
    truths = smoothed_masks(tmp_path)
    config = DataConfig(dataset="folder", root=str(tmp_path), smoothed=True)
    dataset = open_dataset(config, "all")
    for index, truth in enumerate(truths):
        assert 0 < (truth == 255).mean() < 0.2
        np.testing.assert_array_equal(dataset[index].label, truth)
        histogram = dataset.histogram(index)  # type: ignore[attr-defined]
        np.testing.assert_array_equal(histogram, np.bincount(truth.ravel(), minlength=256))
    report = check_dataset(config)
    assert report.ok and any("% of the pixels) ignored" in note for note in report.notes)


def test_smoothing_is_no_excuse_for_another_list(tmp_path: Path) -> None:
    smoothed_masks(tmp_path)
    (tmp_path / "classes.json").write_text(json.dumps([{"name": "a", "color": [255, 0, 0]}, THREE[2]]))
    with pytest.raises(UserError, match=r"--data\.smoothed: found 79 % of the pixels in none of 2 classes' colours"):
        open_dataset(DataConfig(dataset="folder", root=str(tmp_path), smoothed=True), "all")


def test_smoothed_colours_without_a_list_name_the_way_out(tmp_path: Path) -> None:
    smoothed_masks(tmp_path, listed=False)
    for smoothed in (False, True):
        found = r"\d+ colours \(\(0, 0, 0\) .*\(0, 0, 255\) .*\(255, 0, 0\) .*name those that are classes: --data"
        with pytest.raises(UserError, match=found):
            open_dataset(DataConfig(dataset="folder", root=str(tmp_path), smoothed=smoothed), "all")
    named = ("0,0,0=background", "255,0,0=crack", "0,0,255=wire")
    assert len(open_dataset(DataConfig(dataset="folder", root=str(tmp_path), values=named), "all")) == 4


VOC = {"background": (0, 0, 0), "red": (128, 0, 0), "green": (0, 128, 0), "olive": (128, 128, 0)}


def drawn_finely(seed: int) -> np.ndarray:
    """Indices of VOC's first classes (4 x 48, 4 x 64): red on green, an olive disc, a red line half a pixel wide."""
    fine, at = np.zeros((192, 256), np.uint8), np.random.default_rng(seed).integers(0, 20, 6).tolist()
    cv2.rectangle(fine, (10 + at[0], 12 + at[1]), (120, 150), 2, -1)
    cv2.rectangle(fine, (40 + at[2], 40), (90 + at[3], 151), 1, -1)
    cv2.circle(fine, (190 + at[4], 60), 30, 3, -1)
    cv2.line(fine, (120, 180), (240, 100 + at[5]), 1, 2)
    return fine


@pytest.mark.parametrize("resize", [cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_LINEAR])
@pytest.mark.parametrize("named", ["classes.json", "--data.values"])
def test_blends_of_colours_are_the_nearer_ones(tmp_path: Path, resize: int, named: str) -> None:
    """What most of a pixel is; a blend of red and green is never olive, which is a class of the same masks."""
    names, palette = list(VOC), np.array(list(VOC.values()), np.uint8)
    truths = []
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for number in range(4):
        fine = drawn_finely(number)
        mask = cv2.resize(palette[fine], (64, 48), interpolation=resize)
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / "images" / f"{number}.png")
        shares = (fine.reshape(48, 4, 64, 4, 1) == np.arange(4)).mean((1, 3))
        truths.append(shares)
    if named == "classes.json":
        (tmp_path / named).write_text(json.dumps([{"name": name, "color": VOC[name]} for name in names]))
    values = tuple(f"{','.join(map(str, colour))}={name}" for name, colour in VOC.items())
    config = DataConfig(dataset="folder", root=str(tmp_path), values=values if named == "--data.values" else ())
    dataset = open_dataset(config, "all")
    for index, shares in enumerate(truths):
        label = dataset[index].label
        np.testing.assert_array_equal(dataset.histogram(index), np.bincount(label.ravel(), minlength=256))  # type: ignore[attr-defined]
        sure = shares.max(-1) > (0.6 if resize == cv2.INTER_AREA else 0.8)  # the others weigh pixels otherwise
        np.testing.assert_array_equal(label[sure], shares.argmax(-1)[sure])
        assert not ((label == 3) & (shares[..., 3] == 0) & (shares[..., 1] + shares[..., 2] > 0.9)).any()
    report = check_dataset(config)
    assert report.ok and any(
        "% of the pixels), blends at smoothed edges, are the nearer one's" in one for one in report.notes
    )


def test_colours_that_are_no_blends_stop(tmp_path: Path) -> None:
    """Fifty more colours, each of a region of its own: classes that the list lacks."""
    smoothed_masks(tmp_path)
    mask = np.zeros((40, 60, 3), np.uint8)
    mask[::4, ::5], mask[20:, 30:] = (255, 0, 0), (0, 0, 255)
    for number in range(48):
        row, column = 4 * (number // 12), 5 * (number % 12)
        mask[row : row + 4, column : column + 5] = (5 * number, 90, 10)
    Image.fromarray(mask).save(tmp_path / "masks" / "0.png")
    with pytest.raises(UserError, match=r"colours .* as smoothed edges give; .*ignore such pixels: --data\.smoothed"):
        open_dataset(DataConfig(dataset="folder", root=str(tmp_path)), "all")


def test_few_colours_that_were_blended_are_no_classes(tmp_path: Path) -> None:
    """Two colours and forty steps between them, below the most that could be classes."""
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for number in range(4):
        shade = cv2.circle(np.zeros((40, 60), np.uint8), (20 + number, 20), 11, 248, -1, cv2.LINE_AA) // 8 * 8
        for kind in ("images", "masks"):
            Image.fromarray(np.stack([shade, 0 * shade, 0 * shade], -1)).save(tmp_path / kind / f"{number}.png")
    config = DataConfig(dataset="folder", root=str(tmp_path))
    with pytest.raises(UserError, match=r"found \d\d colours \(\(0, 0, 0\) .*\(248, 0, 0\) .*smoothed edges give"):
        open_dataset(config, "all")
    named = open_dataset(DataConfig(dataset="folder", root=str(tmp_path), values=("0,0,0=no", "248,0,0=disc")), "all")
    assert set(np.unique(named[0].label)) == {0, 1}


def drawn(kind: str) -> np.ndarray:
    """Two hundred by three hundred pixels of lines, or of discs: 1 on 0."""
    truth = np.zeros((200, 300), np.uint8)
    for at in range(20, 300, 40):
        if kind == "lines":
            cv2.line(truth, (at, 0), (300 - at, 199), 1, 5)
        else:
            cv2.circle(truth, (at, 30 + at % 140), 18, 1, -1)
    return truth


def written(root: Path, masks: list[np.ndarray], classes: list[dict[str, Any]] | None = None) -> Path:
    for number, mask in enumerate(masks):
        for folder in ("images", "masks"):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(root / folder / f"{number}.png")
    if classes is not None:
        (root / "classes.json").write_text(json.dumps(classes))
    return root


@pytest.mark.parametrize(
    ("kind", "low", "names"),
    [
        ("lines", 255, ("background", "foreground")),
        ("lines", 0, ("foreground", "background")),
        ("discs", 255, ("background", "foreground")),
        ("discs", 0, ("background", "foreground")),
    ],
)
@pytest.mark.parametrize("lossy", [False, True])
def test_lines_of_the_lower_value_are_the_foreground(
    tmp_path: Path, kind: str, low: int, names: tuple[str, ...], lossy: bool
) -> None:
    truth = drawn(kind)
    mask = np.where(truth == 1, low, 255 - low).astype(np.uint8)
    masks = [np.abs(mask.astype(int) - shift % 3).clip(0, 255).astype(np.uint8) for shift in range(1, 5)]
    layout = open_layout(DataConfig(dataset="folder", root=str(written(tmp_path, masks if lossy else [mask] * 3))))
    assert layout.rules.classes.names == names
    for rules in (
        layout.rules,
        open_layout(DataConfig(dataset="folder", root=str(tmp_path)), layout.rules.classes).rules,
    ):
        assert ("the lower value is lines in the other" in rules.notes[0]) == (names[0] == "foreground")
    np.testing.assert_array_equal(layout.open("all")[0].label, (mask > 127).astype(np.uint8))


@pytest.mark.parametrize("classes", [None, TWO])
@pytest.mark.parametrize("low", [0, 255])
def test_edges_that_were_drawn_smoothly_are_parted_in_the_middle(tmp_path: Path, classes: Any, low: int) -> None:
    mask = np.where(drawn("lines") == 1, 255 - low, low).astype(np.uint8)
    masks = [
        cv2.GaussianBlur(mask, (3, 3), 0),
        cv2.GaussianBlur(mask, (0, 0), 1.3),
        cv2.resize(mask, (270, 180), interpolation=cv2.INTER_AREA),
        *(cv2.resize(mask, (270 + wider, 181), interpolation=cv2.INTER_CUBIC) for wider in range(4)),
    ]
    assert len(np.unique(masks[-1])) > 250
    dataset = open_layout(DataConfig(dataset="folder", root=str(written(tmp_path, masks, classes))))
    assert "0-127 -> " in dataset.rules.notes[0] and "(smoothed edges, parted at 128)" in dataset.rules.notes[0]
    for sample, shown in zip(dataset.open("all"), masks):
        np.testing.assert_array_equal(sample.label, (shown > 127).astype(np.uint8))


def test_shades_that_are_classes_are_not_parted(tmp_path: Path) -> None:
    mask = drawn("lines") * 255
    for number in range(1, 5):
        mask[10:30, 50 * number : 50 * number + 20] = 51 * number
    assert len(open_layout(DataConfig(dataset="folder", root=str(written(tmp_path, [mask] * 2)))).rules.classes) == 6


def test_numbers_of_objects_are_told_from_smoothed_edges(tmp_path: Path) -> None:
    numbers = np.kron(np.arange(100, dtype=np.uint16).reshape(10, 10), np.ones((6, 6), np.uint16))
    with pytest.raises(UserError, match=r"100 values in flat regions, .*ducseg data convert stack DIR --out OUT"):
        labels(written(tmp_path, [numbers] * 2))
    assert all(label.max() == 1 for label in labels(tmp_path, values=("0=background", "1-65535=object")))


@pytest.mark.parametrize(
    "found",
    [(0, 1, 9), (0, 1, 2), (1, 2, 3), (0, 3, 4), (0, 5), (7, 9), (3, 7, 200), (0, 100, 255), (0, 1, 2, 255),
     (0, 10, 20, 30, 40), (0, 1, 2, 3, 4, 250), (2, 4, 5, 6)],
)  # fmt: skip
def test_what_was_made_of_masks_reads_them_as_before(tmp_path: Path, found: tuple[int, ...]) -> None:
    """A run opens its training pictures by the classes that the first look at all masks has made, a resumed one too."""
    for number in range(6):
        truth = np.random.default_rng(number).choice(np.array(found, np.uint8), SIZE)
        for folder, pixels in (("images", np.dstack([truth] * 3)), ("masks", truth)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    data = DataConfig(dataset="folder", root=str(tmp_path))
    first = open_dataset(data, "train")
    again = open_training_set(data, (0, 0, 0), first.classes)
    assert open_layout(data, first.classes).lines == open_layout(data).lines
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.label, other.label)
    others = next((value for value in found[1:-1]), None)
    if others is None:
        return
    for mask in (tmp_path / "masks").iterdir():  # another folder to score on, without one of the values
        pixels = np.array(Image.open(mask))
        Image.fromarray(np.where(pixels == others, found[0], pixels)).save(mask)
    for one, other in zip(first, open_dataset(data, "train", first.classes), strict=True):
        assert set(np.unique(other.label)) <= {*range(len(first.classes)), 255}
        assert (one.label == other.label).all()


@pytest.mark.parametrize(("counts", "refused"), [((3, 9, 5, 12), True), ((9, 9, 9, 9), False), ((2, 3, 4, 5), False)])
def test_objects_that_are_numbered_are_no_classes(tmp_path: Path, counts: tuple[int, ...], refused: bool) -> None:
    for number, most in enumerate(counts):
        mask = np.zeros(SIZE, np.uint8)
        for one in range(1, most + 1):
            mask[one : one + 2, 2 * one : 2 * one + 2] = one
        for folder, pixels in (("images", np.dstack([mask] * 3)), ("masks", mask)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    data = DataConfig(dataset="folder", root=str(tmp_path))
    if not refused:
        assert len(open_dataset(data, "train").classes) == max(counts) + 1
        asked = "(or numbers of objects, as none is left out and each is one region? --data.values 0=background "
        for classes in (None, open_layout(data).rules.classes):
            assert (asked in str(open_layout(data, classes).lines)) is (len(set(counts)) > 2)
        mask[0, -1] = 1  # in two places
        Image.fromarray(mask).save(tmp_path / "masks" / "0.png")
        assert asked not in str(open_layout(data).lines)
        return
    with pytest.raises(UserError, match=r"as numbers of objects are; .*--data.values 0=background 1-65535=object"):
        open_dataset(data, "train")
    both = DataConfig(dataset="folder", root=str(tmp_path), values=("0=background", "1-65535=object"))
    assert set(np.unique(open_dataset(both, "train")[0].label)) == {0, 1}
    names = [{"name": f"class {one}", "color": [one, 0, 0]} for one in range(max(counts) + 1)]
    (tmp_path / "classes.json").write_text(json.dumps(names))
    assert len(open_dataset(data, "train").classes) == max(counts) + 1
