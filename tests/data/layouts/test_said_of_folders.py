"""What is said of folders that people have before a run: where pictures are, which belong together, what is amiss."""

import hashlib
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio.shutil
from numpy.typing import NDArray
from PIL import Image

from ducseg.classes import ClassSet
from ducseg.data.check.doctor import check_dataset
from ducseg.data.check.report import check_and_print
from ducseg.data.config import DataConfig
from ducseg.data.counting import check_classes_seen
from ducseg.data.files.channels import Pixels, check_pixels, stored_pixels
from ducseg.data.layouts.grouping import are_numbered, group_function
from ducseg.data.layouts.opening import data_notes, grouped_by_names, open_dataset, open_training_set
from ducseg.data.paired import PairedFiles
from ducseg.errors import UserError

SIZE = (6, 8)


def add(root: Path, image: str, mask: str, number: int, *, value: int = 255, kind: type = np.uint8) -> None:
    pixels: NDArray[Any] = np.full((*SIZE, 3) if kind is np.uint8 else SIZE, number, kind)
    label = np.zeros(SIZE, np.uint8)
    label[:2] = value
    for place, array in ((image, pixels), (mask, label)):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(root / place)


def config(root: Path, **options: Any) -> DataConfig:
    return DataConfig(dataset="folder", root=str(root), **options)


def notes(data: DataConfig) -> str:
    return "\n".join(data_notes(data, open_training_set(data, (0, 0, 0)), open_dataset(data, data.val_split)))


@pytest.mark.parametrize(
    ("image", "mask"), [("{}/images/{}.png", "{}/masks/{}.png"), ("img/{}/{}.png", "gt/{}/{}.png")]
)
@pytest.mark.parametrize("pattern", ["^(patient[0-9]+)", "^([^/]+)/"])
def test_a_folder_a_patient_is_kept_together(tmp_path: Path, image: str, mask: str, pattern: str) -> None:
    for patient in range(4):
        for number in range(3):
            folder = f"patient{patient}"
            add(tmp_path, image.format(folder, number), mask.format(folder, number), 10 * patient + number)
    said = notes(config(tmp_path))
    assert re.search(r"of 4 folders with training and validation pictures.* --data\.group-by '\^\(\[\^/\]\+\)/'", said)
    data = config(tmp_path, group_by=pattern)
    held = open_dataset(data, "val")
    assert isinstance(held, PairedFiles)
    assert len(held) == 3
    assert len({path.parent for path in held.image_paths}) == 1
    assert "group" not in notes(data)
    assert check_dataset(data).ok  # 0 of every patient is no drive of all


def test_numbered_folders_stay_together_where_nothing_else_is_said(tmp_path: Path) -> None:
    for patient in range(8):
        for number in range(3):
            name = f"TCGA_49{patient:02}_1997/{number}.png"
            add(tmp_path, f"images/{name}", f"masks/{name}", 10 * patient + number)
    grouped, said = grouped_by_names(config(tmp_path, folds=4, fold=0))
    held, learned = open_dataset(grouped, "val").ids, open_dataset(grouped, "train").ids
    assert len(held) == 6 and not {one[:9] for one in held} & {one[:9] for one in learned}
    assert len(said) == 1 and said[0].startswith("groups: the pictures of each of 8 numbered folders stay together")
    assert said[0] in check_dataset(config(tmp_path)).notes
    for other in ({"folds": 9}, {"val_split": "TCGA_4900_1997"}, {"group_by": "(.+)"}):
        assert grouped_by_names(config(tmp_path, **other))[1] == ()
    held = open_dataset(config(tmp_path, group_by="(.+)"), "val").ids
    assert all(re.fullmatch(r"TCGA_49\d\d_1997/\d", one) for one in held)  # whose they are, with one of a name too


@pytest.mark.parametrize(
    ("folders", "numbered"),
    [
        ([f"P{one}" for one in range(5)], True),
        ([str(one) for one in range(12)], True),
        ([f"P{one}" for one in range(4)], False),
        (["good", "crack", "scratch", "hole", "spot"], False),
        (["a1", "b2", "c3", "d4", "e5"], False),
    ],
)
def test_which_folders_differ_in_numbers_alone(folders: list[str], numbered: bool) -> None:
    assert are_numbered(folders) is numbered


def test_many_folders_are_one_column_and_few_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for site in "abcdefghij":
        add(tmp_path, f"images/{site}/0.png", f"masks/{site}/0.png", ord(site))
    assert check_and_print(config(tmp_path)) == 0
    printed = capsys.readouterr().out
    assert "all 10 folders" in printed and "33.33 % in 10" in printed
    assert "pictures in images/a, images/b, images/c and 7 more; masks in masks/a, masks/b, masks/c and 7 more\n" in (
        printed
    )


def test_frames_of_clips_in_one_folder_are_asked_about(tmp_path: Path) -> None:
    def make(name: str, names: list[str]) -> Path:
        for number, one in enumerate(names):
            add(tmp_path / name, f"images/{one}.png", f"masks/{one}.png", number)
        return tmp_path / name

    clips = make("clips", [f"clip{clip}_{frame:04}" for clip in range(3) for frame in range(8)])
    said = notes(config(clips, val_fraction=0.3))
    (pattern,) = re.findall(r"series of names, with training and .* --data\.group-by '(.*)'", said)
    grouped = config(clips, val_fraction=0.3, group_by=pattern)
    assert len({name[:5] for name in open_dataset(grouped, "val").ids}) == 1
    assert "group" not in notes(grouped)
    for name, names in {
        "numbers": [f"{number:03}" for number in range(12)],
        "one": [f"clip_{number}" for number in range(12)],
        "kinds": [f"{kind}_{number}" for kind in ("crack", "none") for number in range(6)],
        "words": [f"road {'abcdefghijkl'[number]}" for number in range(12)],
    }.items():
        assert "series" not in notes(config(make(name, names), val_fraction=0.3))


@pytest.mark.parametrize("splits", [False, True])
@pytest.mark.parametrize("clip", [False, True])
def test_a_clip_s_frames_that_look_like_those_beside_them_are_asked_about(
    tmp_path: Path, splits: bool, clip: bool
) -> None:
    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.integers(0, 255, (40, 400, 3)).astype(np.uint8), (0, 0), 4) if clip else None
    for number in range(90):
        shown = rng.integers(0, 255, (40, 60, 3)) if scene is None else scene[:, 3 * number : 3 * number + 60]
        part = f"/{'val' if number % 9 == 4 else 'train'}" if splits else ""
        name = f"frame_{30 * number:04}_rgb"
        for place, array in (("images", shown), ("masks", np.arange(40)[:, None].repeat(60, 1) < 9)):
            (tmp_path / (place + part)).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array.astype(np.uint8)).save(tmp_path / f"{place}{part}/{name}.png")
    said = notes(config(tmp_path))
    assert ("neighbours: validation pictures beside training pictures that look alike, such as" in said) == clip
    if clip and not splits:
        (pattern,) = re.findall(r"--data\.group-by '(.*)'", said)
        grouped = config(tmp_path, group_by=pattern)
        numbers = [int(name[6:10]) // 30 for name in open_dataset(grouped, "val").ids]
        assert 3 <= len(numbers) <= 12 and "neighbours" not in notes(grouped)
        assert sum(number - 1 not in numbers for number in numbers) <= 3  # blocks


def test_a_pattern_of_file_names_matches_below_folders_too() -> None:
    group = group_function(r"^(a\d+)_")
    assert [group(name) for name in ("a1_7", "oslo/a1_7", "oslo/7")] == ["a1", "a1", "oslo/7"]


def test_kinds_of_pictures_as_inspection_sets_have_them(tmp_path: Path) -> None:
    for number in range(4):
        add(tmp_path, f"test/crack/{number}.png", f"ground_truth/crack/{number}_mask.png", number)
        add(tmp_path, f"test/good/{number}.png", f"train/good/{number}.png", number)
    with pytest.raises(
        UserError,
        match=r"found 16 files of pictures or masks, such as ground_truth/crack/0_mask\.png, .* "
        r"\(of ground_truth, test, train\).*--data\.images DIR --data\.masks DIR",
    ):
        open_dataset(config(tmp_path), "train")
    data = config(tmp_path, images="test", masks="ground_truth", skip_unpaired=True)
    assert len(open_dataset(data, "all")) == 4
    assert "left out, without a partner: good/0.png, good/1.png, good/2.png, good/3.png" in notes(data)
    data = config(tmp_path, images="test", masks="ground_truth", unmasked_as="background", val_fraction=0.3)
    assert "; without a mask, so all background: 4 pictures\n" in notes(data)
    everything = open_dataset(data, "all")
    assert isinstance(everything, PairedFiles) and len(everything) == 8
    for index, name in enumerate(everything.ids):
        label = everything[index].label
        assert label is not None and label.shape == SIZE
        assert label.any() == name.startswith("crack")
        assert np.array_equal(everything.histogram(index), np.bincount(label.ravel(), minlength=256))
    report = check_dataset(data)
    assert report.ok and not report.errors
    with pytest.raises(
        UserError, match=r"--data\.unmasked-as: found good; needed one of the classes: background, fore"
    ):
        open_dataset(config(tmp_path, images="test", masks="ground_truth", unmasked_as="good"), "all")[0]


def test_of_splits_one_without_any_mask_stays_one_to_predict(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for number in range(3):
            add(tmp_path, f"images/{split}/{split}{number}.png", f"masks/{split}/{split}{number}.png", number)
    for path in (*(tmp_path / "masks/test").iterdir(), tmp_path / "masks/val/val1.png"):
        path.unlink()
    data = config(tmp_path, unmasked_as="background")
    assert "so all background: 1 pictures" in notes(data)
    assert [label.any() for i in range(3) if (label := open_dataset(data, "val")[i].label) is not None] == [1, 0, 1]
    with pytest.raises(UserError, match="no mask"):
        open_dataset(data, "test")


def test_splits_of_another_spelling_in_each_tree(tmp_path: Path) -> None:
    for here, there, numbers in (("Train", "train", range(3)), ("VAL", "Val", range(3, 5))):
        for number in numbers:
            add(tmp_path, f"images/{here}/{number}.png", f"masks/{there}/{number}.png", number)
    assert [open_dataset(config(tmp_path), split).ids for split in ("train", "val")] == [("0", "1", "2"), ("3", "4")]


def test_a_training_folder_without_pictures(tmp_path: Path) -> None:
    add(tmp_path, "images/val/0.png", "masks/val/0.png", 0)
    (tmp_path / "images/train").mkdir()
    with pytest.raises(UserError, match=r"split 'train': found no pictures in train; needed some to train on"):
        open_dataset(config(tmp_path), "train")


@pytest.mark.parametrize("places", [("images/{}", "masks/{}"), ("{}/images", "{}/masks"), ("Img/{}", "gt/{}")])
def test_folders_inside_splits(tmp_path: Path, places: tuple[str, str]) -> None:
    for split, number in (("train", 0), ("train", 1), ("val", 2), ("val", 3)):
        for clip in ("seq1/left", "seq2"):
            image, mask = (f"{place.format(split)}/{clip}/{number % 2}" for place in places)
            add(tmp_path, f"{image}.png", f"{mask}_gt.png", 10 * number + len(clip))
    (tmp_path / places[0].format("train") / "seq2" / "circle").symlink_to(tmp_path, target_is_directory=True)
    for split in ("train", "val"):
        part = open_dataset(config(tmp_path), split)
        assert part.ids == ("seq1/left/0", "seq1/left/1", "seq2/0", "seq2/1")
        assert isinstance(part, PairedFiles)
        assert all(label.name == f"{image.stem}_gt.png" for image, label in zip(part.image_paths, part.label_paths))
    assert check_dataset(config(tmp_path)).ok


def test_pictures_that_lie_too_deep(tmp_path: Path) -> None:
    for number in range(3):
        add(tmp_path, f"images/a/b/c/d/e/{number}.png", f"masks/a/b/c/d/e/{number}.png", number)
    for look in (lambda: open_dataset(config(tmp_path), "train"), lambda: check_dataset(config(tmp_path))):
        with pytest.raises(UserError, match=r"found 6 files .* deeper folders alone, such as images/a/b/c/d/e/0\.png"):
            look()


def test_a_class_that_only_held_out_pictures_show(tmp_path: Path) -> None:
    for number in range(6):
        add(tmp_path, f"images/{number}.png", f"masks/{number}.png", number)
    (held,) = open_dataset(config(tmp_path), "val").ids
    add(tmp_path, f"images/{held}.png", f"masks/{held}.png", int(held), value=7)
    data = config(tmp_path, values=("0=a", "255=b", "7=c"), ignore_value=9)
    sets = open_training_set(data, (0, 0, 0)), open_dataset(data, "val")
    with pytest.raises(UserError, match=rf"no pixel of c, but in the validation pictures {held}; .*val\.txt"):
        check_classes_seen(data, *sets)
    others = [name for name in "012345" if name != held]
    (tmp_path / "val.txt").write_text(others[0])
    data = config(tmp_path, values=("0=a", "255=b", "7=c"), ignore_value=9, val_split="val.txt")
    check_classes_seen(data, open_training_set(data, (0, 0, 0)), open_dataset(data, "val.txt"))


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (Pixels(1, "float64"), "-ot Float32"),
        (Pixels(1, "int16"), "-ot Float32"),
        (Pixels(4, "uint32"), "-ot Float32"),
        (Pixels(20, "uint16"), "-b 1 -b 2 -b 3"),
        (Pixels(20, "float64"), "-b 1 -b 2 -b 3 -ot Float32"),
    ],
)
def test_a_conversion_that_keeps_values_and_takes_bands_that_are_there(pixels: Pixels, options: str) -> None:
    with pytest.raises(UserError, match=f": gdal_translate {options} IN OUT"):
        check_pixels(pixels, Path("a.tif"))


def test_what_the_other_pictures_hold_is_said_as_it_is(tmp_path: Path) -> None:
    for number in range(5):
        add(tmp_path, f"images/{number}.png", f"masks/{number}.png", number)
        Image.new("L", SIZE[::-1], number).save(tmp_path / f"images/{number}.png")
    add(tmp_path, "images/1.png", "masks/1.png", 1, kind=np.uint16)
    with pytest.raises(UserError, match="found 1 channel of uint16; needed 1 channel of uint8, as the other"):
        open_dataset(config(tmp_path), "all")


def test_a_fourth_channel_marked_as_alpha_is_spoken_of(tmp_path: Path) -> None:
    for number in range(3):
        add(tmp_path, f"images/{number}.tif", f"masks/{number}.png", number)
    assert "alpha" not in notes(config(tmp_path))
    marked, plain = tmp_path / "images/1.tif", tmp_path / "plain.tif"
    for number in range(3):
        picture = Image.new("RGBA", SIZE[::-1], (number, 2, 3, 4))
        picture.save(tmp_path / f"images/{number}.tif")
    said = notes(config(tmp_path))
    assert re.search(r"alpha: \d\.tif .*gdal_translate -co ALPHA=NO -co PHOTOMETRIC=MINISBLACK IN OUT", said)
    rasterio.shutil.copy(marked, plain, driver="GTiff", ALPHA="NO", PHOTOMETRIC="MINISBLACK")  # as gdal_translate does
    assert stored_pixels(plain) == Pixels(4, "uint8")


def test_a_file_that_is_in_both_splits(tmp_path: Path) -> None:
    for split, numbers in (("train", range(3)), ("val", range(3, 5))):
        for number in numbers:
            add(tmp_path, f"images/{split}/{number}.png", f"masks/{split}/{number}.png", number)
    assert "copies" not in notes(config(tmp_path))
    (tmp_path / "images/val/4.png").write_bytes((tmp_path / "images/train/2.png").read_bytes())
    assert re.search(r"copies: .*byte by byte: 1, such as .*val.4\.png and .*train.2\.png", notes(config(tmp_path)))


@pytest.mark.parametrize("degrees", [0, 30])
def test_tiles_of_both_splits_that_show_the_same_ground(tmp_path: Path, degrees: float) -> None:
    turned, (height, width) = rasterio.Affine.rotation(degrees) @ rasterio.Affine.scale(0.5, -0.5), SIZE

    def tile(split: str, number: int, along: float, down: float = 0, crs: str = "EPSG:32633", by: float = 0) -> None:
        name = f"{split}/{number}.tif"
        add(tmp_path, f"images/{name}", f"masks/{split}/{number}.png", number)
        place = turned @ rasterio.Affine.translation(along, down) @ rasterio.Affine.rotation(by)
        how = {"driver": "GTiff", "count": 3, "height": height, "width": width, "dtype": "uint8", "photometric": "RGB"}
        with rasterio.open(tmp_path / "images" / name, "w", crs=crs, transform=place, **how) as target:
            target.write(np.full((3, *SIZE), number, np.uint8))

    tile("train", 0, 0)
    tile("train", 1, width)
    tile("train", 2, 10 * width, crs="EPSG:32632")
    tile("train", 3, 50, -6.5, by=45)  # its box meets a validation picture, it does not
    tile("val", 4, 2 * width)
    tile("val", 5, 10 * width)
    tile("val", 6, 47 - width, -4 - height)
    assert "places" not in notes(config(tmp_path))
    tile("val", 7, width / 2, height / 2)
    said = r"places: 1 of 4 validation pictures show .*, such as .*val.7\.tif, 25 % of it in .*train.[01]\.tif"
    assert re.search(said, notes(config(tmp_path)))


def test_copies_among_files_of_one_size_with_one_middle(tmp_path: Path) -> None:
    for split, numbers in (("train", range(3)), ("val", [5, 6, 2, 7, 8, 2])):
        for place, number in enumerate(numbers):
            add(tmp_path, f"images/{split}/{place}.bmp", f"masks/{split}/{place}.png", 0)
            pixels = np.full((200, 100, 3), 255, np.uint8)
            pixels[:5] = number
            Image.fromarray(pixels).save(tmp_path / f"images/{split}/{place}.bmp")
            Image.fromarray(pixels[..., 0] // 255).save(tmp_path / f"masks/{split}/{place}.png")
    assert re.search(r"copies: .*byte by byte: 2, such as .*val.2\.bmp and .*train.2\.bmp", notes(config(tmp_path)))


@pytest.mark.parametrize("text", ['["ground", "road"]', '[{"name": "ground"}, {"name": "road"}]'])
def test_names_alone_get_colours_and_the_list_is_found_with_the_pictures(tmp_path: Path, text: str) -> None:
    for number in range(3):
        add(tmp_path, f"images/{number}.png", f"masks/{number}.png", number)
    (tmp_path / "klassen.json").write_text(text)
    classes = open_dataset(config(tmp_path, classes="klassen.json"), "train").classes
    assert (classes.names, classes.palette) == (("ground", "road"), ((0, 0, 0), (128, 0, 0)))
    with pytest.raises(UserError, match=r"class list none\.json: found No such file or directory; needed a JSON list"):
        open_dataset(config(tmp_path, classes="none.json"), "train")


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ('["a", 7]', '{"name": 7, "color": [128, 0, 0]}'),
        ('{"0": "a"}', '{"0": "a"}'),
        ('[{"name": "a", "color": [0, 0, 0]}, {"name": "b"}]', '{"name": "b"}'),
        ('[{"name": "a", "color": "red"}]', '{"name": "a", "color": "red"}'),
    ],
)
def test_a_class_list_of_another_form(tmp_path: Path, text: str, entry: str) -> None:
    (tmp_path / "classes.json").write_text(text)
    with pytest.raises(UserError) as refused:
        ClassSet.read(tmp_path / "classes.json")
    assert f"classes.json: found an entry that does not read ({entry}); needed a name (one line of text)" in str(
        refused.value
    )
    assert "Error" not in str(refused.value)


@pytest.mark.parametrize(
    ("shown", "option"),
    [((1, 3), "--data.val-fraction 0.15"), ((6, 7), "--data.folds 5 --data.fold 1"), ((5,), None)],
)
def test_a_parting_that_shows_every_class_is_named(tmp_path: Path, shown: tuple[int, ...], option: str | None) -> None:
    names = sorted(map(str, range(10)), key=lambda name: hashlib.sha256(name.encode()).digest())  # first held out first
    for number, name in enumerate(names):
        add(tmp_path, f"images/{name}.png", f"masks/{name}.png", number, value=255 * (number in shown))
    (line,) = [line for line in notes(config(tmp_path)).splitlines() if "in validation" in line]
    end = "chooses other pictures" + f"; with {option} both sides show every class" * (option is not None)
    assert line.endswith(end)


def test_a_class_without_a_validation_pixel_is_named_at_the_start(tmp_path: Path) -> None:
    for number in range(4):
        split = "val" if number == 3 else "train"
        add(tmp_path, f"images/{split}/{number}.png", f"masks/{split}/{number}.png", number, value=255 * (number < 3))
    (line,) = [line for line in notes(config(tmp_path)).splitlines() if "in validation" in line]
    assert line.startswith("no pixel of foreground in validation (val): their IoU there is 0 where one is predicted")
    assert "in validation" not in notes(config(tmp_path, val_split="train"))
