"""Reading KITTI road: frames, ground truth, folds, patches; and data that is not as it should be."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ducseg.classes import KITTI_ROAD
from ducseg.data.layouts.kitti_road import CATEGORIES, KittiRoad, folds_of, result_name
from ducseg.data.patches import Patches
from ducseg.errors import UserError


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten frames a category of slightly different sizes, lanes for um, two test frames."""
    rng = np.random.default_rng(0)
    for category in CATEGORIES:
        for number in range(10):
            size = (30 + number % 2, 50 - number % 2)
            write(
                tmp_path / "training" / "image_2" / f"{category}_{number:06d}.png",
                rng.integers(0, 256, (*size, 3), dtype=np.uint8),
            )
            truth = 255 * rng.integers(0, 2, (*size, 3), dtype=np.uint8)
            write(tmp_path / "training" / "gt_image_2" / f"{category}_road_{number:06d}.png", truth)
            if category == "um":
                write(tmp_path / "training" / "gt_image_2" / f"um_lane_{number:06d}.png", 255 - truth)
    for name in ("um_000000", "uu_000001"):
        write(tmp_path / "testing" / "image_2" / f"{name}.png", rng.integers(0, 256, (30, 50, 3), dtype=np.uint8))
    return tmp_path


@pytest.mark.shared
def test_real_frames(shared: Path) -> None:
    dataset = KittiRoad(shared / "data" / "kitti_road", "trainval")
    assert dataset.ids == ("um_000000", "umm_000000", "uu_000000", "uu_000093")
    assert dataset.classes == KITTI_ROAD
    sample = dataset[0]
    assert (sample.image.shape, sample.original_size, dataset[3].image.shape[:2]) == (
        (375, 1242, 3),
        (375, 1242),
        (376, 1241),
    )
    assert sample.label is not None
    values, counts = np.unique(sample.label, return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist())) == {0: 398964, 1: 61316, 255: 5470}
    assert dataset.calibration_paths[0].is_file()


def test_red_is_valid_and_blue_is_road(root: Path) -> None:
    dataset = KittiRoad(root, "trainval")
    assert len(dataset) == 30
    truth = cv2.imread(str(root / "training" / "gt_image_2" / "umm_road_000003.png"))  # OpenCV reads BGR
    assert truth is not None
    sample = dataset[dataset.ids.index("umm_000003")]
    expected = np.where(truth[..., 2] > 0, truth[..., 0] > 0, 255)
    np.testing.assert_array_equal(sample.label, expected)
    assert set(np.unique(expected)) == {0, 1, 255}
    assert sample.image.shape[:2] == expected.shape == (31, 49)


def test_lanes_are_of_um_alone(root: Path) -> None:
    lanes, roads = (KittiRoad(root, "val", fold=1, ground_truth=kind) for kind in ("lane", "road"))
    assert lanes.ids == ("um_000002", "um_000003")
    assert lanes.ids == roads.ids[:2]  # the same folds
    assert (lanes[0].label != roads[0].label).all()
    assert (result_name("um_000002", "lane"), result_name("uu_000002", "road")) == ("um_lane_000002", "uu_road_000002")


def test_test_frames_have_no_label(root: Path) -> None:
    dataset = KittiRoad(root, "test")
    assert dataset.ids == ("um_000000", "uu_000001")
    assert dataset[1].label is None
    assert dataset[1].original_size == (30, 50)
    assert dataset.calibration_paths[1] == root / "testing" / "calib" / "uu_000001.txt"


@given(st.lists(st.integers(0, 100), min_size=3, max_size=3), st.integers(2, 10))
def test_every_frame_is_in_one_fold(sizes: list[int], folds: int) -> None:
    frames = [f"{category}_{n:06d}" for category, size in zip(CATEGORIES, sizes) for n in range(size)]
    found = folds_of(frames, folds)
    assert found.keys() == set(frames)
    for category, size in zip(CATEGORIES, sizes):
        own = [found[f"{category}_{n:06d}"] for n in range(size)]
        assert own == sorted(own)  # runs
        counts = Counter(own)
        assert set(counts) <= set(range(folds))
        assert all(counts[fold] in (size // folds, -(-size // folds)) for fold in range(folds))


def test_the_289_frames_in_five_folds() -> None:
    frames = [f"{category}_{n:06d}" for category, size in zip(CATEGORIES, (95, 96, 98)) for n in range(size)]
    assert sorted(Counter(folds_of(frames, 5).values()).items()) == [(0, 59), (1, 58), (2, 57), (3, 58), (4, 57)]


def test_splits_are_folds(root: Path) -> None:
    seen: list[str] = []
    for fold in range(5):
        train, val = (set(KittiRoad(root, split, fold=fold).ids) for split in ("train", "val"))
        assert not train & val
        assert train | val == set(KittiRoad(root, "trainval").ids)
        assert {name.split("_")[0] for name in val} == set(CATEGORIES)
        seen += val
    assert len(seen) == len(set(seen)) == 30


@pytest.mark.shared
def test_patches_cover_frames_of_both_sizes(shared: Path) -> None:
    frames = KittiRoad(shared / "data" / "kitti_road", "trainval")
    patches = Patches(frames, "320-at-100")
    assert len(patches) == 4 * 2 * 11  # rows from 0 and 55 or 56; columns from 0, 100, ..., 900 and 922 or 921
    for number in (0, 3):
        frame = frames[number]
        assert frame.label is not None
        last = patches.of_frame(number)[-1]
        np.testing.assert_array_equal(last.image, frame.image[-320:, -320:])
        np.testing.assert_array_equal(last.label, frame.label[-320:, -320:])


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def grey(file: Path) -> None:
    write(file, np.zeros((30, 50), np.uint8))


def with_alpha(file: Path) -> None:
    write(file, np.zeros((30, 50, 4), np.uint8))


def deep(file: Path) -> None:
    write(file, np.zeros((30, 50, 3), np.uint16))


def resized(file: Path) -> None:
    write(file, np.zeros((31, 50, 3), np.uint8))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncated, r"um_road_000000\.png: found damaged"),
        (grey, r"um_road_000000\.png: found 8-bit grey pixels; needed an 8-bit RGB PNG"),
        (with_alpha, r"um_road_000000\.png: found 8-bit RGBA pixels"),
        (deep, r"um_road_000000\.png: found 16-bit RGB pixels"),
        (resized, r"um_road_000000\.png: found 31 x 50 pixels .*needed 30 x 50, the size of .*um_000000\.png"),
    ],
)
def test_bad_ground_truth_is_named(root: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(root / "training" / "gt_image_2" / "um_road_000000.png")
    with pytest.raises(UserError, match=message):
        KittiRoad(root, "trainval")[0]


def test_bad_folders(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"found 'training'; needed one of train, val, trainval, test"):
        KittiRoad(root, "training")
    with pytest.raises(UserError, match=r"fold of KITTI road: found 5 of 5"):
        KittiRoad(root, "val", fold=5)
    with pytest.raises(UserError, match=r"found no training/image_2/\*\.png; needed training/image_2/um_000000\.png"):
        KittiRoad(root / "training", "train")
    archive = Path(shutil.make_archive(str(tmp_path / "data_road"), "zip", root / "testing"))
    with pytest.raises(UserError, match=r"found the archive data_road\.zip itself.*Unpack it"):
        KittiRoad(archive, "train")
    (root / "training" / "gt_image_2" / "uu_road_000004.png").unlink()
    (root / "training" / "image_2" / "um_000009.png").unlink()
    with pytest.raises(UserError, match=r"1 without a label \(uu_000004\); 1 without an image \(um_000009\)"):
        KittiRoad(root, "train")


def test_a_fold_without_frames(root: Path) -> None:
    for kind in ("image_2", "gt_image_2"):
        for file in (root / "training" / kind).iterdir():
            if not file.stem.endswith("000000"):
                file.unlink()
    assert len(KittiRoad(root, "val")) == 3
    with pytest.raises(UserError, match=r"validation split of .*: found no frame in fold 4 of 5 \(3 frames in all\)"):
        KittiRoad(root, "val", fold=4)
    with pytest.raises(UserError, match=r"training split of .*: found no frame"):
        KittiRoad(root, "train")
