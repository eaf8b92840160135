"""Several masks a picture become one: by folders, by endings, or an object each; what is amiss is one clear error."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from ducseg.classes import ClassSet
from ducseg.cli import main
from ducseg.data.check.doctor import check_dataset
from ducseg.data.config import DataConfig
from ducseg.data.convert import masks
from ducseg.data.convert.writing import Report, write_folder
from ducseg.data.files.reading import read_label
from ducseg.data.layouts.opening import open_dataset
from ducseg.data.layouts.several_masks import find_masks
from ducseg.errors import UserError

SIZE = (12, 16)
CRACK, SPALL = (slice(0, 6), slice(0, 6)), (slice(4, 6), slice(2, 16))  # 36 and 28 pixels, 8 of them in both


def write(path: Path, pixels: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def mask(*areas: tuple[slice, slice], value: int = 255) -> NDArray[np.uint8]:
    pixels = np.zeros(SIZE, np.uint8)
    for area in areas:
        pixels[area] = value
    return pixels


def picture(path: Path) -> None:
    write(path, np.zeros((*SIZE, 3), np.uint8))


def convert(source: Path, **options: Any) -> tuple[Path, Report]:
    out = source.with_name(f"{source.name}-out")
    return out, write_folder(out, masks.read(source, **options))


def said(report: Report) -> str:
    return "\n".join(report.lines())


SHAPES = [
    ("images/{0}.jpg", "masks/{1}/{0}.png"),
    ("images/{0}.jpg", "masks/{1}/{0}_mask.png"),
    ("images/{0}.jpg", "masks/{0}_{1}.png"),
    ("images/{0}.jpg", "Labels/{0}-{1}.gif"),
    ("{0}.jpg", "{0}_{1}.png"),
    ("{0}/images/{0}.jpg", "{0}/masks/{1}/0.png"),
    ("{0}/image/{0}.jpg", "{0}/masks/{0}_{1}.png"),
    ("{0}.jpg", "masks/{1}/{0}.png"),
    ("photos/images/{0}.jpg", "photos/masks/{1}/{0}.png"),
    ("annotation/images/{0}.jpg", "annotation/masks/{1}/{0}.png"),
]


@pytest.mark.parametrize(("image", "label"), SHAPES)
@pytest.mark.parametrize("split", ["{}", "train/{}", "below"])
def test_masks_of_classes_become_one(tmp_path: Path, image: str, label: str, split: str) -> None:
    source = tmp_path / "in"
    if split == "below":  # images/train/x.png, masks/train/CLASS/x.png
        image, label = (one.replace("/", "/train/", 1) if "/" in image else f"train/{one}" for one in (image, label))
    else:
        image, label = split.format(image), split.format(label)
    for name in ("a", "b", "b_2"):
        picture(source / image.format(name))
        write(source / label.format(name, "crack"), mask(CRACK))
        if name != "b":
            write(source / label.format(name, "spall"), mask(SPALL, value=1))
    out, report = convert(source)
    expected = mask(CRACK, value=1)
    where = "train/" if "train" in image else ""
    np.testing.assert_array_equal(read_label(out / f"masks/{where}b.png"), expected)
    expected[SPALL] = 2  # smaller, and so on top
    for name in ("a", "b_2"):
        np.testing.assert_array_equal(read_label(out / f"masks/{where}{name}.png"), expected)
    assert ClassSet.read(out / "classes.json").names == ("background", "crack", "spall")
    assert report.overlaps == 2 * 8
    assert "show none of it: 1 of spall" in said(report)
    assert "in masks of spall: values 0, 1 -> background, object" in said(report)
    assert len(open_dataset(DataConfig(dataset="folder", root=str(out)), "all")) == 3


def test_a_class_above_its_splits(tmp_path: Path) -> None:
    for split, name in (("train", "a"), ("val", "b"), ("test", "c")):
        picture(tmp_path / "in" / "images" / split / f"{name}.png")
        if split != "test":
            write(tmp_path / "in" / "masks" / "crack" / split / f"{name}.png", mask(CRACK))
    out, report = convert(tmp_path / "in")
    assert report.pictures == {"train": 1, "val": 1}
    assert "left out: 1 pictures in folders without masks (images/test/c.png)" in said(report)
    assert (out / "masks" / "val" / "b.png").is_file()


def dsb(root: Path, form: str = "{0}/masks/{0}{1}f.png") -> Path:
    for name in ("a", "b"):
        picture(root / ("images" if form.startswith("masks") else f"{name}/images") / f"{name}.png")
        for number, area in enumerate((CRACK, SPALL)):
            write(root / form.format(name, number), mask(area))
    return root


@pytest.mark.parametrize("form", ["{0}/masks/{0}{1}f.png", "{0}/masks/{1}.png", "masks/{0}_{1}.png"])
def test_a_mask_an_object(tmp_path: Path, form: str) -> None:
    picture(tmp_path / "in" / "c" / "images" / "c.png")
    out, report = convert(dsb(tmp_path / "in", form), class_name=None if "0}_" in form else "nucleus")
    np.testing.assert_array_equal(read_label(out / "masks" / "a.png"), mask(CRACK, SPALL, value=1))
    assert report.classes.names == ("background", "foreground" if "0}_" in form else "nucleus")
    assert (report.pictures, report.objects, report.overlaps) == ({"": 2}, 4, 0)
    assert "a mask an object" in said(report)
    assert "objects of one class that touch have become one" in said(report)
    assert "left out: 1 pictures" in said(report)


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), how=st.sampled_from(SHAPES[:3]))
def test_what_was_taken_apart_comes_together(tmp_path_factory: pytest.TempPathFactory, seed: int, how: Any) -> None:
    folder, rng = tmp_path_factory.mktemp("apart"), np.random.default_rng(seed)
    labels = rng.integers(0, 4, (2, *SIZE)).astype(np.uint8)
    for name, label in enumerate(labels):
        picture(folder / "in" / how[0].format(name))
        for index, kind in enumerate(("x", "y z", "ä"), 1):
            write(folder / "in" / how[1].format(name, kind), np.where(label == index, 255, 0).astype(np.uint8))
    out, report = convert(folder / "in")
    assert report.overlaps == 0
    for name, label in enumerate(labels):
        np.testing.assert_array_equal(read_label(out / "masks" / f"{name}.png"), label)


@given(
    names=st.lists(st.text("ab1_-", min_size=1, max_size=6), min_size=2, max_size=8, unique=True),
    classes=st.sets(st.sampled_from(["crack", "spall", "mask"]), min_size=1),
)
def test_masks_in_folders_find_the_picture_of_their_name(names: list[str], classes: set[str]) -> None:
    files = [Path(f"images/{name}.png") for name in names]
    files += [Path(f"masks/{kind}/{name}.png") for name in names for kind in classes]
    found = find_masks(files)
    assert not found.alone
    assert {
        path.stem: {(mask.file.stem, mask.name) for mask in several} for path, several in found.pictures.items()
    } == {name: {(name, kind) for kind in classes} for name in names}


def test_empty_masks_and_pictures_without_any(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        picture(tmp_path / "in" / "images" / f"{name}.png")
    write(tmp_path / "in" / "masks" / "crack" / "a.png", mask(CRACK))
    write(tmp_path / "in" / "masks" / "crack" / "b.png", mask())
    (tmp_path / "in" / "masks" / "crack" / "._a.png").write_bytes(b"a file manager's")
    out, report = convert(tmp_path / "in")
    assert (report.objects, report.empty, report.without_pixels) == (1, 2, 0)
    assert "1 pictures have no mask and are all background (images/c.png)" in said(report)
    assert not read_label(out / "masks" / "c.png").any()


def test_pictures_elsewhere(tmp_path: Path) -> None:
    picture(tmp_path / "photos" / "a.png")
    picture(tmp_path / "photos" / "b.png")
    for name in "ab":
        write(tmp_path / "in" / "crack" / f"{name}.png", mask(CRACK))
    out, _ = convert(tmp_path / "in", images=tmp_path / "photos")
    np.testing.assert_array_equal(read_label(out / "masks" / "a.png"), mask(CRACK, value=1))


def test_noise_is_parted_and_other_values_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / "in" / "images" / f"{name}.png")
        path = tmp_path / "in" / "masks" / "crack" / f"{name}.jpg"
        write(path, mask(CRACK))
        assert len(np.unique(np.asarray(Image.open(io.BytesIO(path.read_bytes()))))) > 2
        write(tmp_path / "in" / "masks" / "spall" / f"{name}.png", mask(SPALL))
    out, _ = convert(tmp_path / "in")
    assert (read_label(out / "masks" / "a.png") == 1).sum() == pytest.approx(28, abs=4)
    write(tmp_path / "in" / "masks" / "spall" / "b.png", mask(CRACK, value=1) + mask(SPALL, value=2))
    with pytest.raises(
        UserError, match=r"masks of spall, such as \S+b\.png: found 5 values \(0, .*needed two in all of them"
    ):
        masks.read(tmp_path / "in")
    write(tmp_path / "in" / "masks" / "spall" / "b.png", np.dstack([mask(CRACK), mask(SPALL), mask()]))
    with pytest.raises(UserError, match=r"masks of spall, such as .*needed two in all of them"):
        masks.read(tmp_path / "in")


def test_what_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in"
    with pytest.raises(UserError, match=r"masks export .*no such file or folder"):
        masks.read(source)
    source.mkdir()
    with pytest.raises(UserError, match=r"masks in \S+: found 0 pictures, no masks; needed images/x\.png"):
        masks.read(source)
    for name in ("a", "b"):
        picture(source / "images" / f"{name}.png")
        write(source / "masks" / f"{name}.png", mask(CRACK))
    with pytest.raises(UserError, match=r"one mask a picture .* Nothing is to be converted: ducseg train"):
        masks.read(source)
    write(source / "masks" / "a_crack.png", mask(CRACK))
    with pytest.raises(UserError, match=r"one mask a picture \(masks/a\.png\); an ending a class \(masks/a_crack"):
        masks.read(source)
    for name in ("a", "b"):
        (source / "masks" / f"{name}.png").rename(source / "masks" / f"{name}_spall.png")
    write(source / "masks" / "c_spall.png", mask(CRACK))
    with pytest.raises(UserError, match=r"2 pictures, 1 masks of none of them \(masks/c_spall\.png\)"):
        masks.read(source)
    (source / "masks" / "c_spall.png").unlink()
    with pytest.raises(UserError, match=r"--class-name x: found an ending a class .*Leave it out"):
        masks.read(source, class_name="x")
    for name in ("a", "b"):
        write(source / "masks" / f"{name}_spall.png", mask(CRACK)[:5])
    with pytest.raises(UserError, match=r"mask \S+a_spall\.png and 1 more: found 5 x 16 .*needed 12 x 16"):
        masks.read(source)
    (source / "masks" / "b_spall.png").write_bytes(b"no picture")
    (source / "masks" / "a_spall.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"a_spall\.png.* 1 more masks do not read"):
        masks.read(source)
    picture(source / "images" / "a.bmp")
    with pytest.raises(UserError, match="one picture a name"):
        masks.read(source)
    assert main(["data", "convert", "coco", str(source), "--out", str(tmp_path / "o"), "--class-name", "x"]) == 2
    assert "--class-name: found coco; needed masks" in capsys.readouterr().err


@pytest.mark.parametrize(("image", "label"), [*SHAPES[:4], SHAPES[5], ("{0}/images/{0}.jpg", "{0}/masks/{1}{0}.png")])
@pytest.mark.parametrize("split", ["", "train/"])
def test_where_one_mask_is_needed_the_way_is_named(tmp_path: Path, image: str, label: str, split: str) -> None:
    for name in ("a", "b"):
        picture(tmp_path / split / image.format(name))
        for kind in ("crack", "spall"):
            write(tmp_path / split / label.format(name, kind), mask(CRACK))
    for act in (lambda data: open_dataset(data, "all"), check_dataset):
        with pytest.raises(UserError, match=r"needed one mask a picture.*ducseg data convert masks"):
            act(DataConfig(dataset="folder", root=str(tmp_path)))
