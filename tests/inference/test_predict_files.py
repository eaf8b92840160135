import json
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ducseg.classes import CAMVID
from ducseg.cli import main
from ducseg.data.layouts.file_names import MASK_FOLDERS
from ducseg.errors import Said, UserError, explain
from ducseg.inference.many import predict_shard
from ducseg.inference.opening import mask_suffix_of
from ducseg.inference.places import Place
from ducseg.inference.predict_files import predict_files, write_each
from ducseg.inference.shards import Shard
from ducseg.inference.sources import find_pictures
from ducseg.inference.tars import list_members
from ducseg.inference.units import find_units
from ducseg.inference.writers import EXACT, Outlines


class Threshold:
    """Class 1 where the picture is bright."""

    classes = CAMVID

    def __call__(self, image: Any, /) -> Any:
        return (image.mean(2) > 128).astype(np.uint8)


def write_picture(path: Path, value: int = 200, size: tuple[int, int] = (9, 13)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((*size, 3), value, np.uint8))
    return path


def names(inputs: list[Any]) -> list[str]:
    return [str(name) for _, name in find_pictures(inputs)]


def test_folders_keep_their_tree_files_their_name(tmp_path: Path) -> None:
    for name in ("a/x.png", "a/b/y.jpg", "z.png"):
        write_picture(tmp_path / name)
    (tmp_path / "a" / "notes.txt").touch()
    assert names([tmp_path / "a", tmp_path / "z.png"]) == ["b/y", "x", "z"]
    assert names([str(tmp_path / "a" / "*.png")]) == ["x"]
    assert names([str(tmp_path / "**" / "*.jpg")]) == ["y"]
    assert names([tmp_path / "z.png", tmp_path / "z.png"]) == ["z"]


def test_names_that_meet_are_told_apart(tmp_path: Path) -> None:
    files = [write_picture(tmp_path / name) for name in ("a/x.png", "b/x.png", "c/x.jpg", "c/x.png", "d/w.png")]
    assert names(list(files)) == ["a/x", "b/x", "c/x.jpg", "c/x.png", "w"]


def test_names_that_meet_on_disks_without_capitals_are_told_apart(tmp_path: Path) -> None:
    """macOS and Windows would write the results of one over those of the other."""
    files = [write_picture(tmp_path / name) for name in ("a/X.png", "b/x.png", "c/caf\u00e9.png", "d/Cafe\u0301.png")]
    assert names(list(files)) == ["a/X", "b/x", "c/caf\u00e9", "d/Cafe\u0301"]
    beside = [write_picture(tmp_path / "one" / name) for name in ("x.jpg", "X.png")]
    assert names(list(beside)) == ["x.jpg", "X.png"]


def test_an_input_without_pictures_is_refused_with_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"no such file, folder or glob.*looked for at {tmp_path / 'nowhere'}"):
        find_pictures([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="folder without pictures"):
        find_pictures([tmp_path / "empty"])


BESIDE = ("a.jpg", "a_mask.png", "b.png", "b_mask.png", "lone_mask.png", "deep/a.jpg", "deep/a-groundTruth.tif")


@pytest.mark.parametrize(
    "lying",
    [
        ("images/{}.jpg", "masks/{}.png"),
        ("images/{}.jpg", "masks/lesion/{}.png"),
        ("img/train/{}.jpg", "gt/train/{}_gt.png"),
        ("train/images/{}.jpg", "train/labels/{}.png"),
        ("{}.jpg", "Masks/{}.png"),
    ],
)
def test_masks_in_a_folder_beside_the_pictures_are_left_out_and_said(tmp_path: Path, lying: tuple[str, str]) -> None:
    for name in "xy":
        for place in lying:
            write_picture(tmp_path / place.format(name))
    with pytest.warns(Said, match="left out: 2 masks beside their pictures"):
        found = find_pictures([tmp_path])
    assert sorted(file.suffix for file, _ in found) == [".jpg", ".jpg"]
    parts = Path(lying[1]).parts
    folder = tmp_path.joinpath(*parts[: next(at for at, part in enumerate(parts) if part.lower() in MASK_FOLDERS) + 1])
    assert len(find_pictures([folder])) == 2, "named itself"
    assert len(find_pictures([tmp_path / Path(lying[0]).parts[0], folder] if "/" in lying[0] else [folder])) in (2, 4)


def test_pictures_in_folders_called_like_masks_are_taken_where_nothing_is_beside(tmp_path: Path) -> None:
    for name in ("labels/a.jpg", "labels/b.jpg", "images/c.jpg", "site_gt/a.jpg", "site/a.jpg"):
        write_picture(tmp_path / name)
    assert len(find_pictures([tmp_path])) == 5


def test_masks_beside_their_pictures_are_left_out_and_said(tmp_path: Path) -> None:
    for name in BESIDE:
        write_picture(tmp_path / name)
    line = r"^left out: 3 masks beside their pictures \(a-groundTruth.tif, a_mask.png, b_mask.png\); what is named"
    with pytest.warns(Said, match=line):
        assert names([tmp_path]) == ["a", "b", "deep/a", "lone_mask"]
    with pytest.warns(Said, match="left out: 2 masks"):
        assert names([f"{tmp_path}/*.*"]) == ["a", "b", "lone_mask"]
    with pytest.warns(Said, match=r"left out: 2 masks .*\(a-groundTruth.tif, b_mask.png\)"):
        assert "a_mask" in names([tmp_path, tmp_path / "a_mask.png"])
    with pytest.warns(Said, match="left out: 3 masks"):
        report = predict_files(Threshold(), [tmp_path], tmp_path / "out", kinds=("labels",), progress=False)
    assert len(report.written) == 4


def test_of_a_bucket_they_are_left_out_too(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    for name in BESIDE:
        fsspec.filesystem("memory").pipe_file(f"/beside/{name}", b"x")
    with pytest.warns(Said, match="left out: 3 masks"):
        units = find_units(["memory://beside"], Place(tmp_path), ("labels",))
    assert [unit.name for unit in units] == ["a", "b", "deep/a", "lone_mask"]


@pytest.mark.parametrize(
    "files",
    [
        ("x_mask.png", "y_mask.png"),
        ("mask.png", "label_1.png", "gt.png"),
        ("a.jpg", "deep/a_mask.png"),
        ("a.jpg", "a_2.jpg", "b.jpg", "b_2.jpg"),
        ("arm.jpg", "armlength.jpg", "a.jpg"),
        ("x.jpg", "x_thin.png"),
    ],
)
def test_pictures_that_are_beside_none_are_taken_whatever_they_are_called(tmp_path: Path, files: Any) -> None:
    for name in files:
        write_picture(tmp_path / name)
    assert len(names([tmp_path])) == len(files)


def test_the_suffix_that_the_network_was_trained_with_counts_too(tmp_path: Path) -> None:
    for name in ("x.jpg", "x_thin.png", "y_thin.png"):
        write_picture(tmp_path / "in" / name)
    suffix = mask_suffix_of({"extra": {"config": {"data": {"mask_suffix": "_thin"}}}})
    options: Any = {"kinds": ("labels",), "mask_suffix": suffix, "progress": False}
    with pytest.warns(Said, match=r"left out: 1 masks beside their pictures \(x_thin.png\)"):
        predict_files(Threshold(), [tmp_path / "in"], tmp_path / "out", **options)
    with pytest.warns(Said, match="left out: 1 masks"):
        predict_shard(Threshold, [tmp_path / "in"], tmp_path / "part", shard=Shard(0, 1), settings="", **options)
    for out in ("out", "part"):
        assert sorted(file.name for file in (tmp_path / out).glob("*.png")) == ["x_labels.png", "y_thin_labels.png"]
    for strange in (
        {},
        {"extra": None},
        {"extra": {"config": []}},
        {"extra": {"config": {"data": {"mask_suffix": 3}}}},
    ):
        assert mask_suffix_of(strange) is None


def test_a_wrong_path_is_said_before_the_network_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, out = tmp_path / "nowhere", tmp_path / "out"
    for options in ((), ("--format", "cityscapes")):
        assert main(["predict", "no-such-run", str(place), "--out", str(out), *options]) == 2
        assert f"{place}: found no" in capsys.readouterr().err
    with pytest.raises(UserError, match=f"input {place}: found no such file"):
        predict_shard(lambda: pytest.fail("opened"), [place], out, kinds=("labels",), shard=Shard(0, 1), settings="")
    assert not out.exists()


def test_every_kind_is_written_at_the_pictures_size(tmp_path: Path) -> None:
    write_picture(tmp_path / "in" / "x.png")
    report = predict_files(Threshold(), [tmp_path / "in"], tmp_path / "out")
    assert [path.name for path in report.written] == ["x.png"]
    labels = cv2.imread(str(tmp_path / "out" / "x_labels.png"), cv2.IMREAD_UNCHANGED)
    assert labels.shape == (9, 13)
    assert (labels == 1).all()
    colour = cv2.imread(str(tmp_path / "out" / "x_color.png"))[..., ::-1]
    assert (colour == CAMVID.palette[1]).all()
    overlaid = cv2.imread(str(tmp_path / "out" / "x_overlay.png"))
    assert overlaid.shape[0] > 9


def test_a_broken_picture_is_reported_and_the_others_done(tmp_path: Path) -> None:
    write_picture(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_bytes(b"nothing")
    write_picture(tmp_path / "in" / "c.png")
    report = predict_files(Threshold(), [tmp_path / "in"], tmp_path / "out", kinds=("labels",))
    assert [path.name for path in report.written] == ["a.png", "c.png"]
    ((path, message),) = report.failed
    assert path.name == "b.png"
    assert "b.png" in message
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a_labels.png", "c_labels.png"]


def test_links_to_nothing_are_reported_and_the_others_done(tmp_path: Path) -> None:
    """As git-annex and DVC leave them; whatever the input is called."""
    folder = tmp_path / "in"
    write_picture(folder / "a.png")
    (tmp_path / "void").mkdir()
    for name, target in {"b.png": "gone/b.png", "c.JPG": "c.JPG", "d.txt": "gone", "e.png": "../void"}.items():
        (folder / name).symlink_to(target)
    every = [folder / "a.png", folder / "b.png", folder / "c.JPG"]
    for inputs in ([folder], [folder / "*.*"], [folder / "**" / "*.[pJ]*"], every, [f"file://{folder}"]):
        units = [unit.name.rpartition("/")[2] for unit in find_units(inputs, Place(tmp_path / "out"), ("labels",))]
        assert units == ["a", "b", "c"]
        if inputs[0] != f"file://{folder}":
            report = predict_files(Threshold(), inputs, tmp_path / "out", kinds=("labels",))
            assert [path.name for path in report.written] == ["a.png"]
            assert [path.name for path, _ in report.failed] == ["b.png", "c.JPG"]
            assert "found a link to gone/b.png (No such file" in report.failed[0][1]
        shard = predict_shard(Threshold, inputs, tmp_path / "shard", kinds=("labels",), shard=Shard(0, 1), settings="")
        assert [Path(path).name for path, _ in shard.report.failed] == ["b.png", "c.JPG"]


def test_two_links_to_one_picture_have_a_result_each(tmp_path: Path) -> None:
    write_picture(tmp_path / "store" / "x.png")
    for name in ("in/a.png", "in/b.png", "other/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(tmp_path / "store" / "x.png")
    assert names([tmp_path / "in"]) == ["a", "b"]
    assert names([tmp_path / "in" / "a.png", tmp_path / "other" / "a.png"]) == ["in/a", "other/a"]
    (tmp_path / "again").symlink_to(tmp_path / "in")
    assert names([tmp_path / "in", tmp_path / "again", tmp_path / "in" / ".." / "in" / "a.png"]) == ["a", "b"]


def test_unknown_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="some of labels, color, overlay"):
        predict_files(Threshold(), [write_picture(tmp_path / "a.png")], tmp_path, kinds=("colour",))  # type: ignore[list-item]


def test_globs_take_pictures_and_folders_but_nothing_hidden(tmp_path: Path) -> None:
    for name in ("in/a.png", "in/.a.png", "in/b/y.jpg", "in/c/y.JPG", "in/[1].png"):
        write_picture(tmp_path / name)
    (tmp_path / "in" / "notes.txt").touch()
    assert names([tmp_path / "in" / "*"]) == ["[1]", "a", "b/y", "c/y"]
    assert names([tmp_path / "in"]) == ["[1]", "a", "b/y", "c/y"]
    assert names([tmp_path / "in" / "[1].png"]) == ["[1]"], "a file of that name wins over the glob"
    assert names([tmp_path / "in" / ".a.png"]) == [".a"]
    with pytest.raises(UserError, match="glob of pictures"):
        find_pictures([tmp_path / "in" / "*.txt"])


@pytest.mark.parametrize("folder", [".ipynb_checkpoints", "@eaDir", "__MACOSX"])
def test_what_programs_keep_beside_the_pictures_is_taken_where_it_is_named(tmp_path: Path, folder: str) -> None:
    for name in ("a.png", f"{folder}/a-checkpoint.png"):
        write_picture(tmp_path / "in" / name)
    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        tar.add(tmp_path / "in", "in")
    assert names([tmp_path / "in"]) == names([tmp_path / "in" / "**"]) == ["a"]
    assert names([tmp_path / "in" / folder]) == ["a-checkpoint"]
    assert [member.name for member, *_ in list_members(tmp_path / "in.tar")] == ["in/a.png"]


def test_names_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    files = [write_picture(tmp_path / name) for name in ("a/x.png", "b/x.png")]
    write_picture(tmp_path / "other" / "a" / "x.png")
    with pytest.raises(UserError, match=r"a/x\.png.*both be written as a/x"):
        find_pictures([*files, tmp_path / "other"])
    with_it = names([tmp_path])
    assert with_it == ["a/x", "b/x", "other/a/x"]


def test_results_inside_the_folder_are_not_read_again(tmp_path: Path) -> None:
    write_picture(tmp_path / "in" / "x.png")
    for _ in range(2):
        report = predict_files(Threshold(), [tmp_path / "in"], tmp_path / "in" / "out")
        assert [path.name for path in report.written] == ["x.png"]
    again = predict_files(Threshold(), [tmp_path / "in" / "**" / "*.png"], tmp_path / "in" / "out")
    assert [path.name for path in again.written] == ["x.png"]
    below = predict_files(
        Threshold(), [tmp_path / "in" / "out" / "x_*.png"], tmp_path / "in" / "out", kinds=("labels",)
    )
    assert len(below.written) == 3, "asked for by name"


def test_no_result_replaces_an_input(tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "in" / "x.png")
    other = write_picture(tmp_path / "in" / "x_labels.png", 7)
    before = other.read_bytes()
    with pytest.raises(UserError, match="the folder that the pictures are read from"):
        predict_files(Threshold(), [tmp_path / "in"], tmp_path / "in")
    with pytest.raises(UserError, match=r"x_labels\.png, a picture to be read"):
        predict_files(Threshold(), [picture, other], tmp_path / "in")
    assert other.read_bytes() == before
    assert len(list((tmp_path / "in").iterdir())) == 2
    assert predict_files(Threshold(), [picture, other], tmp_path / "in", kinds=("overlay",)).failed == ()


def test_a_folder_that_cannot_take_results_is_said_first(tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "x.png")
    (tmp_path / "out").touch()

    class Asked(Threshold):
        def __call__(self, image: Any, /) -> Any:
            pytest.fail("too late")

    with pytest.raises(UserError, match="found File exists"):
        predict_files(Asked(), [picture], tmp_path / "out")


@pytest.mark.parametrize("which", [0, 5])
def test_a_refused_write_stops_the_run(tmp_path: Path, which: int) -> None:
    pictures = [write_picture(tmp_path / "in" / f"{index}.png") for index in range(6)]
    (tmp_path / "out" / f"{which}_labels.png").mkdir(parents=True)
    with pytest.raises(UserError, match=rf"{which}_labels\.png"):
        predict_files(Threshold(), pictures, tmp_path / "out", kinds=("labels",))


def test_many_sizes_are_written_in_full(tmp_path: Path) -> None:
    sizes = {f"{h}x{w}": (h, w) for h, w in ((1, 1), (1, 300), (300, 1), (64, 48), (17, 33), (200, 100), (5, 5))}
    for name, size in sizes.items():
        write_picture(tmp_path / "in" / f"{name}.png", size=size)
    report = predict_files(Threshold(), [tmp_path / "in"], tmp_path / "out")
    assert [path.stem for path in report.written] == sorted(sizes)
    for name, size in sizes.items():
        labels = cv2.imread(str(tmp_path / "out" / f"{name}_labels.png"), cv2.IMREAD_UNCHANGED)
        assert labels.shape == size
        assert (labels == 1).all()


def test_a_batch_that_does_not_fit_is_done_one_by_one(tmp_path: Path) -> None:
    for index in range(5):
        write_picture(tmp_path / "in" / f"{index}.png", size=(4, 4) if index < 4 else (5, 4))
    asked: list[list[str]] = []

    def answers(names: Any, images: Any) -> Any:
        asked.append([name.name for name in names])
        if len(names) > 1 or names[0].name == "1":
            raise explain("memory", found="little", needed="more", fix="-")
        return [image[..., 0] // 200 for image in images]

    done = write_each(answers, CAMVID, [tmp_path / "in"], tmp_path / "out", kinds=("labels",), batch_size=3)
    assert asked == [["0", "1", "2"], ["0"], ["1"], ["2"], ["3"], ["4"]]
    assert [path.stem for path in done.written] == ["0", "2", "3", "4"]
    assert [(path.stem, reason) for path, reason in done.failed] == [("1", "memory: found little; needed more. -")]


class Disc:
    """A disc of class 1, and far from it one pixel."""

    classes = CAMVID

    def __call__(self, image: Any, /) -> Any:
        labels = np.zeros(image.shape[:2], np.uint8)
        cv2.circle(labels, (30, 30), 20, 1, -1)
        labels[2, 2] = 1
        return labels

    def probabilities(self, image: Any, /) -> Any:
        return np.eye(len(CAMVID), dtype=np.float32)[self(image)].transpose(2, 0, 1)


@pytest.mark.parametrize("by", ["files", "shard", "raster"])
def test_polygons_are_simplified_and_small_ones_left_out(tmp_path: Path, by: str) -> None:
    file, corners = tmp_path / "x.png", {}
    if by == "raster":
        rasterio = pytest.importorskip("rasterio")
        file = tmp_path / "x.tif"
        how = {"driver": "GTiff", "width": 60, "height": 60, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
        with rasterio.open(file, "w", transform=rasterio.Affine(0.1, 0, 50, 0, -0.1, 60), **how) as target:
            target.write(np.full((3, 60, 60), 9, np.uint8))
    else:
        write_picture(file, size=(60, 60))
    for name, outlines in (("exact", EXACT), ("rough", Outlines(1.0, 2))):
        out = tmp_path / name
        given: Any = {"kinds": ("polygons",), "outlines": outlines, "progress": False}
        if by == "shard":
            predict_shard(Disc, [file], out, shard=Shard(0, 1), settings="", **given)
        else:
            predict_files(Disc(), [file], out, **given)
        found = json.loads((out / "x_polygons.geojson").read_text())["features"]
        discs = [one for one in found if one["properties"]["label"] == 1]
        corners[name] = [len(one["geometry"]["coordinates"][0]) for one in discs]
    assert len(corners["exact"]) == 2
    assert len(corners["rough"]) == 1
    assert corners["rough"][0] < max(corners["exact"]) / 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--simplify", "1"], "--simplify: found no polygons to write; needed some"),
        (["--least-area", "4", "--kinds", "labels"], "--least-area: found no polygons to write"),
        (["--simplify", "-1", "--kinds", "polygons"], "tolerance of polygons: found -1.0; needed a number not below 0"),
        (["--least-area", "-4", "--kinds", "polygons"], "least area of polygons: found -4"),
    ],
)
def test_options_of_polygons_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    write_picture(tmp_path / "x.png")
    assert main(["predict", "RUN", str(tmp_path / "x.png"), "--out", str(tmp_path / "out"), *options]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
