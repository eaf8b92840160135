"""Patches cover their frames, come in the paper's numbers, and are the same on the fly and cut to disk."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ducseg.classes import CITYSCAPES, ClassSet
from ducseg.data.config import DataConfig
from ducseg.data.cut import CutPatches, cut_patches
from ducseg.data.layouts.cityscapes import Cityscapes
from ducseg.data.layouts.opening import open_dataset
from ducseg.data.loading import AugmentedDataset
from ducseg.data.paired import PairedFiles, SegmentationDataset
from ducseg.data.patches import SCHEMES, Patches, even_grid, grid_origins
from ducseg.data.sample import Sample
from ducseg.data.synthetic.cityscapes import SyntheticStreets
from ducseg.data.transforms import Compose, RandomCrop, RandomMirror, RandomScaleCrop
from ducseg.errors import UserError


@dataclass
class Frames:
    """Frames whose pixels say where they are: red = row, green = column, label = frame."""

    sizes: list[tuple[int, int]]
    classes: ClassSet = CITYSCAPES

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(f"frame{number}" for number in range(len(self.sizes)))

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int, /) -> Sample:
        rows, columns = np.indices(self.sizes[index])
        image = np.stack([rows % 251, columns % 241, rows // 251 + 16 * (columns // 241)], 2).astype(np.uint8)
        label = np.full(self.sizes[index], index, np.uint8)
        return Sample(image=image, label=label, id=self.ids[index], original_size=self.sizes[index])


def _covered(size: tuple[int, int], patch: tuple[int, int], origins: tuple[tuple[int, int], ...]) -> np.ndarray:
    times = np.zeros(size, int)
    for top, left in origins:
        times[max(0, top) : max(0, top + patch[0]), max(0, left) : max(0, left + patch[1])] += 1
    return times


sides = st.integers(1, 90)


# -- where patches lie -------------------------------------------------------------------------------------------------


@given(size=st.tuples(sides, sides), patch=st.tuples(sides, sides), stride=st.integers(1, 60))
def test_a_grid_covers_every_pixel_and_ends_at_the_border(
    size: tuple[int, int], patch: tuple[int, int], stride: int
) -> None:
    stride = min(stride, *patch)
    origins = grid_origins(size, patch, stride)
    assert _covered(size, patch, origins).min() >= 1
    assert len(set(origins)) == len(origins)
    assert list(origins) == sorted(origins)
    for axis in range(2):
        starts = sorted({origin[axis] for origin in origins})
        assert starts[0] == 0
        assert starts[-1] == max(0, size[axis] - patch[axis])
        assert (np.diff(starts)[:-1] == stride).all()
        assert (np.diff(starts) <= stride).all()


@given(
    size=st.tuples(sides, sides), patch=st.tuples(sides, sides), counts=st.tuples(st.integers(1, 9), st.integers(1, 9))
)
def test_an_even_grid_covers_every_pixel_or_is_refused(
    size: tuple[int, int], patch: tuple[int, int], counts: tuple[int, int]
) -> None:
    if any(count * side < full for full, side, count in zip(size, patch, counts)):
        with pytest.raises(UserError, match="enough to cover every pixel"):
            even_grid(size, patch, counts)
        return
    origins = even_grid(size, patch, counts)
    assert len(origins) == counts[0] * counts[1]
    assert _covered(size, patch, origins).min() >= 1
    assert origins[0] == (0, 0)
    assert origins[-1] == tuple(max(0, full - side) if n > 1 else 0 for full, side, n in zip(size, patch, counts))
    for axis in range(2):
        gaps = np.diff(sorted({origin[axis] for origin in origins}))
        assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def test_the_papers_grids() -> None:
    (patch, origins) = SCHEMES["12-fold"].place((1024, 2048))
    assert patch == (800, 800)
    assert origins == tuple((top, left) for top in (0, 224) for left in (0, 250, 499, 749, 998, 1248))
    assert _covered((1024, 2048), patch, origins).min() >= 1
    (patch, origins) = SCHEMES["7-fold"].place((1024, 2048))
    assert patch == (1040, 1040)
    assert [(top + 520, left + 520) for top, left in origins] == [(512, 256 * n) for n in range(1, 8)]
    (patch, origins) = SCHEMES["320-at-100"].place((375, 1242))
    assert patch == (320, 320)
    assert origins == tuple((top, left) for top in (0, 55) for left in (*range(0, 922, 100), 922))


def test_2975_frames_give_35700_patches() -> None:
    patches = Patches(_Many(2975), "12-fold")
    assert len(patches) == len(set(patches.ids)) == 35_700
    assert patches.ids[-1] == "frame2974_11"
    assert len(Patches(_Many(2975), "7-fold")) == 20_825


@dataclass
class _Many:
    """So many frames, none of which may be read."""

    count: int
    classes: ClassSet = CITYSCAPES

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(f"frame{number}" for number in range(self.count))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> Sample:
        raise AssertionError(index)


@pytest.mark.parametrize("scheme", ["12-fold", "7-fold"])
@pytest.mark.parametrize("size", [(256, 512), (96, 192), (1024, 2048)])
def test_smaller_frames_have_smaller_patches(scheme: str, size: tuple[int, int]) -> None:
    patch, origins = SCHEMES[scheme].place(size)
    full, places = SCHEMES[scheme].place((1024, 2048))
    assert abs(patch[0] - full[0] * size[0] / 1024) <= 0.5
    unit = size[0] / 1024
    assert all(abs(a - b * unit) <= 1 for one, other in zip(origins, places) for a, b in zip(one, other))
    assert _covered(size, patch, origins).min() >= 1


def test_frames_that_the_grid_does_not_cover_are_refused() -> None:
    with pytest.raises(UserError, match=r"2x6 of them on 100x900 pixels; needed enough .* use 320-at-100"):
        Patches(Frames([(100, 900)]), "12-fold")[0]


# -- what is in them ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_patches_are_cut_from_their_places_and_padded(scheme: str) -> None:
    frames = Frames([(96, 192), (96, 192)])
    patches = Patches(frames, scheme, mean_colour=(1, 2, 3))
    for index in range(len(patches)):
        sample = patches[index]
        number = int(sample.id[-2:])
        frame = frames[int(sample.id[5])]
        size, origins = SCHEMES[scheme].place((96, 192))
        top, left = origins[number]
        rows, columns = np.arange(top, top + size[0]), np.arange(left, left + size[1])
        inside = ((rows >= 0) & (rows < 96))[:, None] & ((columns >= 0) & (columns < 192))
        assert sample.label is not None
        assert sample.image.shape == (*size, 3)
        assert sample.original_size == size
        assert (sample.label == np.where(inside, int(sample.id[5]), 255)).all()
        expected = frame.image[rows.clip(0, 95)][:, columns.clip(0, 191)]
        np.testing.assert_array_equal(sample.image, np.where(inside[..., None], expected, [1, 2, 3]))


def test_frames_of_several_sizes_have_their_own_numbers() -> None:
    patches = Patches(Frames([(320, 500), (375, 320), (320, 320)]), "320-at-100")
    counts = [3, 2, 1]
    assert patches.ids == tuple(f"frame{frame}_{n:02d}" for frame, count in enumerate(counts) for n in range(count))
    labels = [patches[index].label for index in range(6)]
    assert [int(label[0, 0]) for label in labels if label is not None] == [0, 0, 0, 1, 1, 2]
    with pytest.raises(IndexError):
        patches[6]


@pytest.mark.slow
def test_7_fold_moves_its_centre_inside_160_pixels() -> None:
    """The crop of 880 from the patch with its margin is the paper's moved patch: red and green tell the place."""
    data = AugmentedDataset(Patches(Frames([(1024, 2048)]), "7-fold"), RandomCrop((880, 880)), seed=0)
    rows, columns = [], []
    for epoch in range(6):
        for index in (2, 4):  # centre columns 768 and 1280: inside the frame
            image = data[(epoch, index)].image
            first_row, first_column, high = image[440, 440].astype(int)
            rows.append(first_row + 251 * (high % 16) - 512)
            columns.append(first_column + 241 * (high // 16) - 256 * (index + 1))
    assert min(rows + columns) >= -80
    assert max(rows + columns) <= 80
    assert max(rows) - min(rows) > 80
    assert max(columns) - min(columns) > 80
    again = data[(3, 4)].image
    np.testing.assert_array_equal(again, data[(3, 4)].image)


# -- cut to disk -------------------------------------------------------------------------------------------------------


@pytest.fixture
def scenes() -> SyntheticStreets:
    return SyntheticStreets(3, height=96, width=192)


@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_cut_patches_are_the_views(tmp_path: Path, scenes: SyntheticStreets, scheme: str) -> None:
    seen: list[tuple[int, int]] = []
    number = cut_patches(
        scenes, tmp_path / "out", scheme, mean_colour=(9, 8, 7), progress=lambda *now: seen.append(now)
    )
    views, cut = Patches(scenes, scheme, mean_colour=(9, 8, 7)), CutPatches(tmp_path / "out", "train", scheme)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert number == len(cut) == len(views)
    assert cut.ids == views.ids
    assert cut.classes == CITYSCAPES
    for index in range(len(views)):
        one, other = views[index], cut[index]
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.label, other.label)
        assert (one.id, one.original_size) == (other.id, other.original_size)
    assert len(open_dataset(DataConfig(dataset="split-folders", root=str(tmp_path / "out")), "train")) == number


def test_training_from_cut_patches_is_training_from_views(tmp_path: Path, scenes: SyntheticStreets) -> None:
    cut_patches(scenes, tmp_path, "12-fold")
    transform = Compose((RandomScaleCrop((51, 51), (0.5, 1.5)), RandomMirror()))
    views = AugmentedDataset(Patches(scenes, "12-fold"), transform, 5)
    cut = AugmentedDataset(CutPatches(tmp_path, "train"), transform, 5)
    for index in range(0, 36, 5):
        np.testing.assert_array_equal(views[(2, index)].image, cut[(2, index)].image)


def test_several_processes_write_the_same_files(tmp_path: Path, scenes: SyntheticStreets) -> None:
    for workers in (1, 2):
        cut_patches(scenes, tmp_path / str(workers), "12-fold", num_workers=workers)
    one, two = (
        {f.relative_to(tmp_path / n): f.read_bytes() for f in (tmp_path / n).rglob("*") if f.is_file()} for n in "12"
    )
    assert one == two
    assert len(one) == 2 * 36 + 2


@dataclass
class _Stops:
    """Frames of which the last does not read the first time."""

    scenes: SyntheticStreets
    read: list[int] = field(default_factory=list)
    fails: bool = True

    @property
    def classes(self) -> ClassSet:
        return self.scenes.classes

    @property
    def ids(self) -> tuple[str, ...]:
        return self.scenes.ids

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int, /) -> Sample:
        self.read.append(index)
        if self.fails and index == 2:
            raise UserError("file x: found damage; needed none. Copy it again.")
        return self.scenes[index]


def test_a_stopped_run_goes_on_and_is_refused_until_then(tmp_path: Path, scenes: SyntheticStreets) -> None:
    frames = _Stops(scenes)
    with pytest.raises(UserError, match="found damage"):
        cut_patches(frames, tmp_path, "12-fold")
    with pytest.raises(UserError, match=r"cutting was not finished; .* Run ducseg data patches again"):
        CutPatches(tmp_path, "train")
    (tmp_path / "images" / "train" / ".x.png.1.tmp").write_bytes(b"half")
    (tmp_path / "labels" / "train" / f"{scenes.ids[0]}_03.png").unlink()
    frames.fails = False
    frames.read.clear()
    assert cut_patches(frames, tmp_path, "12-fold") == 36
    assert sorted(set(frames.read)) == [0, 2]
    assert len(CutPatches(tmp_path, "train")) == 36
    assert not list(tmp_path.rglob("*.tmp"))
    frames.read.clear()
    assert cut_patches(frames, tmp_path, "12-fold") == 36
    assert frames.read == []


def test_other_content_is_refused(tmp_path: Path, scenes: SyntheticStreets) -> None:
    cut_patches(scenes, tmp_path / "a", "12-fold")
    with pytest.raises(UserError, match=r"found patches of train: scheme 12-fold, 36 of 3 .*needed scheme 7-fold, 21"):
        cut_patches(scenes, tmp_path / "a", "7-fold")
    with pytest.raises(UserError, match="of other frames"):
        cut_patches(SyntheticStreets(3, height=96, width=192, split="val"), tmp_path / "a", "12-fold")
    with pytest.raises(UserError, match="found scheme 12-fold; needed scheme 7-fold"):
        CutPatches(tmp_path / "a", "train", "7-fold")
    assert len(CutPatches(tmp_path / "a", "train", "12-fold", frames=scenes.ids)) == 36
    with pytest.raises(UserError, match=r"patches of 3 frames, of which 2 are wanted .* those of the 2 frames"):
        CutPatches(tmp_path / "a", "train", frames=scenes.ids[1:])
    with pytest.raises(UserError, match=r"no patches-val\.json"):
        CutPatches(tmp_path / "a", "val")
    (tmp_path / "b" / "labels" / "train").mkdir(parents=True)
    (tmp_path / "b" / "labels" / "train" / "mine.png").write_bytes(b"")
    with pytest.raises(UserError, match="other files in labels/train; needed a new folder"):
        cut_patches(scenes, tmp_path / "b", "12-fold")
    (tmp_path / "a" / "patches-train.json").write_text(json.dumps({"scheme": "12-fold"}))
    with pytest.raises(UserError, match=r"patches-train\.json: found"):
        CutPatches(tmp_path / "a", "train")
    with pytest.raises(UserError, match="patch scheme: found 'twelve'; needed one of 12-fold, 7-fold, 320-at-100"):
        Patches(scenes, "twelve")


def test_a_full_disk_is_seen_before_anything_is_written(
    tmp_path: Path, scenes: SyntheticStreets, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"found 0\.0 GiB free; needed about .* GiB for the patches of 3 frames"):
        cut_patches(scenes, tmp_path / "out", "12-fold")
    assert not (tmp_path / "out").exists()


def test_a_moved_patch_of_a_real_frame(shared: Path) -> None:
    frames: SegmentationDataset = Cityscapes(shared / "data" / "cityscapes", "val")
    patches = Patches(frames, "7-fold")
    crop = AugmentedDataset(patches, RandomCrop((880, 880)), seed=1)[(0, 7)]
    whole = frames[1]
    padded = np.full((1024 + 1040, 2048 + 1040, 3), (124, 116, 104), np.uint8)
    padded[520:-520, 520:-520] = whole.image
    region = padded[512 : 512 + 1040, 256 : 256 + 1040]
    rng = np.random.default_rng([1, 0, 7])
    top, left = rng.integers(0, 160, endpoint=True), rng.integers(0, 160, endpoint=True)
    np.testing.assert_array_equal(crop.image, region[top : top + 880, left : left + 880])


def test_a_second_data_set_does_not_replace_the_classes(tmp_path: Path, scenes: SyntheticStreets) -> None:
    cut_patches(scenes, tmp_path, "12-fold")
    before = (tmp_path / "classes.json").read_bytes()
    other = Frames([(96, 192)], classes=ClassSet(("a", "b"), ((0, 0, 0), (1, 1, 1))))
    with pytest.raises(
        UserError, match=r"found patches with the classes road, .*; needed those of this data set \(a, b"
    ):
        cut_patches(other, tmp_path, "12-fold", split="val")
    assert (tmp_path / "classes.json").read_bytes() == before
    assert not (tmp_path / "patches-val.json").exists()


@pytest.mark.parametrize("size", [(96, 96), (96, 120), (192, 96), (96, 300)])
def test_7_fold_takes_frames_twice_as_wide_as_high(size: tuple[int, int]) -> None:
    with pytest.raises(UserError, match=r"patches of 7-fold: found a frame of \d+x\d+ pixels .*320-at-100"):
        Patches(Frames([size]), "7-fold")[0]
    assert len(Patches(Frames([(96, 192), (96, 200)]), "7-fold")) == 14


def test_7_fold_is_refused_before_a_run_where_files_say_their_size(tmp_path: Path) -> None:
    for name, width in (("a", 192), ("b", 120)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((96, width, 3), np.uint8))
    files = {name: (tmp_path / f"{name}.png", tmp_path / "none.png") for name in "ab"}
    with pytest.raises(UserError, match=r"found a frame of 96x120 pixels"):
        Patches(PairedFiles(CITYSCAPES, files), "7-fold")


def test_the_recorded_mean_colour_is_compared(tmp_path: Path, scenes: SyntheticStreets) -> None:
    """What lies outside a frame must be the network's zero: 12-fold has nothing outside."""
    for scheme in ("7-fold", "12-fold"):
        cut_patches(scenes, tmp_path / scheme, scheme, mean_colour=(9, 8, 7))
        assert len(CutPatches(tmp_path / scheme, "train", scheme, mean_colour=(9, 8, 7)))
    with pytest.raises(UserError, match=r"found filled with \(9, 8, 7\).*needed \(124, 116, 104\).*--mean-colour"):
        CutPatches(tmp_path / "7-fold", "train", mean_colour=(124, 116, 104))
    assert len(CutPatches(tmp_path / "12-fold", "train", mean_colour=(124, 116, 104))) == 36
